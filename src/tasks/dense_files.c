/* dense_files.c - reading lists of pairs, and pairing folders by the names of their files. */
#include "tasks/dense_files.h"

#include "base/file.h"
#include "base/folder.h"
#include "base/list_line.h"
#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_SIZE = 4096, MAX_LIST_BYTES = 1 << 30, MOST_NAMES = 3 };

/* What folders of targets are called, the first being the one to recommend. */
static const char *const target_folders[][MOST_NAMES] = {
    [DLA_TASK_SEGMENT] = {"labels", "masks", "annotations"},
    [DLA_TASK_EDGES] = {"groundTruth", "labels", NULL},
};
static const char *const photograph_suffixes[] = {".jpg", ".jpeg", ".png", ".webp"};

static const char *target_suffix(dla_task task)
{
    return task == DLA_TASK_EDGES ? ".mat" : ".png";
}

static bool is_folder(const char *path)
{
    struct stat information;
    return stat(path, &information) == 0 && S_ISDIR(information.st_mode);
}

static bool is_file(const char *path)
{
    struct stat information;
    return stat(path, &information) == 0 && S_ISREG(information.st_mode);
}

/* data/images[/split] and data/labels[/split]; false where one of them is missing. */
static bool find_folders(const char *data, dla_task task, const char *split, char *photographs, char *targets)
{
    const char *slash = split ? "/" : "", *part = split ? split : "";
    snprintf(photographs, PATH_SIZE, "%s/images%s%s", data, slash, part);
    if (!is_folder(photographs))
        return false;
    for (int i = 0; i < MOST_NAMES && target_folders[task][i]; i++) {
        snprintf(targets, PATH_SIZE, "%s/%s%s%s", data, target_folders[task][i], slash, part);
        if (is_folder(targets))
            return true;
    }
    return false;
}

bool dense_files_have_split(const char *data, dla_task task, const char *split)
{
    char path[PATH_SIZE], targets[PATH_SIZE];
    snprintf(path, sizeof(path), "%s/%s.txt", data, split);
    return is_file(path) || find_folders(data, task, split, path, targets);
}

/* ---- lists ---- */

static const char *beside_list(struct arena *arena, const char *list, const char *path)
{
    const char *slash = strrchr(list, '/');
    return path[0] == '/' || slash == NULL ? arena_copy_string(arena, path)
                                           : arena_format(arena, "%.*s%s", (int)(slash - list) + 1, list, path);
}

static dla_status read_list(const char *path, struct dense_files *files)
{
    char *text;
    size_t length, lines = 1;
    dla_status status = file_read_text(path, MAX_LIST_BYTES, &text, &length);
    if (status != DLA_OK)
        return status;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    files->files = arena_allocate_array(&files->arena, lines, sizeof(*files->files));
    if (files->files == NULL)
        status = status_out_of_memory(lines * sizeof(*files->files), "a list of photographs");
    int number = 0;
    for (char *line = text, *next; line && status == DLA_OK; line = next) {
        char *target;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        if (!list_line_cut(line, &target))
            continue;
        if (*line == '\0' || *target == '\0') {
            status =
                status_set(DLA_ERROR_FORMAT, "%s: line %d is not a photograph, a blank and a file of its pixels' labels", path, number);
            break;
        }
        struct dense_file *file = &files->files[files->count++];
        file->photograph = beside_list(&files->arena, path, line);
        file->target = beside_list(&files->arena, path, target);
        if (!file->photograph || !file->target)
            status = status_out_of_memory(strlen(line), "a path");
    }
    memory_free(text);
    if (status == DLA_OK && files->count == 0)
        status = status_set(DLA_ERROR_NOT_FOUND, "%s: lists no photograph", path);
    return status;
}

/* ---- folders ---- */

static const char *photograph_suffix(const char *name)
{
    for (size_t i = 0; i < sizeof(photograph_suffixes) / sizeof(photograph_suffixes[0]); i++)
        if (name_has_suffix(name, photograph_suffixes[i]))
            return photograph_suffixes[i];
    return NULL;
}

/* The name without its suffix, ordered as the listing of another folder may not be: "a.jpg" < "a-b.jpg" but "a" < "a-b". */
struct stem {
    const char *text;
    size_t length;
    const struct folder_entry *entry;
};

static int by_stem(const void *a, const void *b)
{
    const struct stem *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* suffix NULL: photographs. Sorted; the caller's. */
static dla_status read_stems(const struct folder *folder, const char *suffix, struct stem **stems, size_t *count)
{
    *count = 0;
    *stems = memory_allocate((folder->count + 1) * sizeof(**stems));
    if (*stems == NULL)
        return status_out_of_memory(folder->count * sizeof(**stems), "a list of photographs");
    for (size_t i = 0; i < folder->count; i++) {
        const struct folder_entry *entry = &folder->entries[i];
        const char *ending = suffix == NULL ? photograph_suffix(entry->name) : name_has_suffix(entry->name, suffix) ? suffix : NULL;
        if (!entry->is_folder && ending)
            (*stems)[(*count)++] = (struct stem){entry->name, strlen(entry->name) - strlen(ending), entry};
    }
    qsort(*stems, *count, sizeof(**stems), by_stem);
    return DLA_OK;
}

static dla_status pair_stems(const struct stem *photographs, size_t photograph_count, const char *photograph_folder,
                             const struct stem *targets, size_t target_count, const char *target_folder, const char *suffix,
                             struct dense_files *files)
{
    files->files = arena_allocate_array(&files->arena, photograph_count + 1, sizeof(*files->files));
    if (files->files == NULL)
        return status_out_of_memory(photograph_count * sizeof(*files->files), "a list of photographs");
    for (size_t p = 0, t = 0; p < photograph_count || t < target_count;) {
        int order = p == photograph_count ? 1 : t == target_count ? -1 : by_stem(&photographs[p], &targets[t]);
        if (order < 0 || (p + 1 < photograph_count && by_stem(&photographs[p], &photographs[p + 1]) == 0))
            return order < 0 ? status_set(DLA_ERROR_MISMATCH, "%s: has no partner of the same name with %s in %s",
                                          photographs[p].entry->path, suffix, target_folder)
                             : status_set(DLA_ERROR_MISMATCH, "%s and %s: two photographs of one name", photographs[p].entry->path,
                                          photographs[p + 1].entry->name);
        if (order > 0)
            return status_set(DLA_ERROR_MISMATCH, "%s: has no photograph of the same name in %s", targets[t].entry->path,
                              photograph_folder);
        struct dense_file *file = &files->files[files->count++];
        file->photograph = arena_copy_string(&files->arena, photographs[p++].entry->path);
        file->target = arena_copy_string(&files->arena, targets[t++].entry->path);
        if (!file->photograph || !file->target)
            return status_out_of_memory(1, "a path");
    }
    if (files->count == 0)
        return status_set(DLA_ERROR_NOT_FOUND, "%s: holds no photograph (.jpg, .jpeg, .png, .webp)", photograph_folder);
    return DLA_OK;
}

static dla_status pair_folders(const char *photographs, const char *targets, const char *suffix, struct dense_files *files)
{
    struct folder photograph_folder = {0}, target_folder = {0};
    struct stem *photograph_stems = NULL, *target_stems = NULL;
    size_t photograph_count = 0, target_count = 0;
    dla_status status = folder_read(photographs, &photograph_folder);
    if (status == DLA_OK)
        status = folder_read(targets, &target_folder);
    if (status == DLA_OK)
        status = read_stems(&photograph_folder, NULL, &photograph_stems, &photograph_count);
    if (status == DLA_OK)
        status = read_stems(&target_folder, suffix, &target_stems, &target_count);
    if (status == DLA_OK)
        status = pair_stems(photograph_stems, photograph_count, photographs, target_stems, target_count, targets, suffix, files);
    memory_free(photograph_stems);
    memory_free(target_stems);
    folder_free(&photograph_folder);
    folder_free(&target_folder);
    return status;
}

/* ---- the door ---- */

dla_status dense_files_read(const char *data, dla_task task, const char *split, struct dense_files *files)
{
    struct dense_files found = {0};
    char path[PATH_SIZE], targets[PATH_SIZE];
    dla_status status;
    snprintf(path, sizeof(path), "%s/%s.txt", data, split ? split : "");
    if (split == NULL && name_has_suffix(data, ".txt"))
        status = read_list(data, &found);
    else if (split && is_file(path))
        status = read_list(path, &found);
    else if (find_folders(data, task, split, path, targets))
        status = pair_folders(path, targets, target_suffix(task), &found);
    else
        status = status_set(DLA_ERROR_NOT_FOUND, "%s: holds neither %s.txt nor images%s%s and %s%s%s", data, split ? split : "train",
                            split ? "/" : "", split ? split : "", target_folders[task][0], split ? "/" : "", split ? split : "");
    if (status != DLA_OK) {
        dense_files_free(&found);
        return status;
    }
    *files = found;
    return DLA_OK;
}

void dense_files_free(struct dense_files *files)
{
    arena_free(&files->arena);
    *files = (struct dense_files){0};
}
