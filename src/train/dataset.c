/* dataset.c - walking folders and lists into samples. */
#include "train/dataset.h"

#include "base/counter_random.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/list_line.h"
#include "base/memory.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LIST_BYTES = 1 << 30, MAX_CLASSES = 100000 };

struct builder {
    struct dataset *dataset;
    struct sample *samples;
    size_t count, capacity;
};

static dla_status add_sample(struct builder *b, const char *path, int label)
{
    if (b->count == b->capacity) {
        size_t capacity = b->capacity ? 2 * b->capacity : 1024;
        struct sample *larger = memory_resize(b->samples, capacity * sizeof(*larger));
        if (larger == NULL)
            return status_out_of_memory(capacity * sizeof(*larger), "a list of photographs");
        b->samples = larger;
        b->capacity = capacity;
    }
    const char *copy = arena_copy_string(&b->dataset->arena, path);
    if (copy == NULL)
        return status_out_of_memory(strlen(path), "a list of photographs");
    b->samples[b->count++] = (struct sample){.path = copy, .label = label};
    return DLA_OK;
}

static dla_status to_list(struct builder *b, struct sample_list *list)
{
    list->samples = arena_allocate_array(&b->dataset->arena, b->count ? b->count : 1, sizeof(*list->samples));
    if (list->samples == NULL)
        return status_out_of_memory(b->count * sizeof(*list->samples), "a list of photographs");
    if (b->count)
        memcpy(list->samples, b->samples, b->count * sizeof(*list->samples));
    list->count = b->count;
    b->count = 0;
    return DLA_OK;
}

static dla_status check_class_count(const char *path, int count)
{
    if (count < 2)
        return status_set(DLA_ERROR_ARGUMENT, "%s: has %d class%s, training needs at least two: one folder of photographs a class", path,
                          count, count == 1 ? "" : "es");
    return DLA_OK;
}

/* ---- folders ---- */

static dla_status read_class_names(const char *path, struct dataset *dataset)
{
    struct folder folder = {0};
    dla_status status = folder_read(path, &folder);
    if (status != DLA_OK)
        return status;
    dataset->classes = arena_allocate_array(&dataset->arena, folder.count ? folder.count : 1, sizeof(*dataset->classes));
    for (size_t i = 0; i < folder.count && status == DLA_OK; i++)
        if (folder.entries[i].is_folder) {
            const char *name = dataset->classes ? arena_copy_string(&dataset->arena, folder.entries[i].name) : NULL;
            if (name == NULL)
                status = status_out_of_memory(folder.count * sizeof(char *), "class names");
            else
                dataset->classes[dataset->class_count++] = name;
        }
    folder_free(&folder);
    return status == DLA_OK ? check_class_count(path, dataset->class_count) : status;
}

static int find_class(const struct dataset *dataset, const char *name)
{
    for (int c = 0; c < dataset->class_count; c++)
        if (strcmp(dataset->classes[c], name) == 0)
            return c;
    return -1;
}

/* The photographs below root/<class> for every class; each must have one. */
static dla_status read_tree(struct builder *b, const char *root, struct sample_list *list)
{
    struct dataset *dataset = b->dataset;
    struct folder folder = {0};
    dla_status status = folder_read(root, &folder);
    for (size_t i = 0; i < folder.count && status == DLA_OK; i++)
        if (folder.entries[i].is_folder && find_class(dataset, folder.entries[i].name) < 0)
            status = status_set(DLA_ERROR_MISMATCH, "%s: is a class that the training photographs do not have", folder.entries[i].path);
    folder_free(&folder);
    for (int c = 0; c < dataset->class_count && status == DLA_OK; c++) {
        dla_path_list *paths = NULL;
        const char *path = arena_format(&dataset->arena, "%s/%s", root, dataset->classes[c]);
        status = path ? dla_photographs_find(path, &paths) : status_out_of_memory(strlen(root), "a path");
        if (status == DLA_OK && paths->count == 0)
            status = status_set(DLA_ERROR_ARGUMENT,
                                "%s: the class has no photograph (.jpg, .jpeg, .png, .webp); remove the folder or fill it", path);
        for (size_t i = 0; status == DLA_OK && i < paths->count; i++)
            status = add_sample(b, paths->paths[i], c);
        dla_path_list_destroy(paths);
    }
    return status == DLA_OK ? to_list(b, list) : status;
}

/* ---- list files ---- */

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static dla_status read_list(struct builder *b, const char *path, char *text)
{
    struct dataset *dataset = b->dataset;
    const char *slash = strrchr(path, '/');
    int folder_length = slash ? (int)(slash - path) + 1 : 0;
    size_t lines = 1, count = 0;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    char **labels = memory_allocate_zeroed(lines, sizeof(*labels)), **paths = memory_allocate_zeroed(lines, sizeof(*paths));
    const char **sorted = memory_allocate_zeroed(lines, sizeof(*sorted));
    dla_status status = labels && paths && sorted ? DLA_OK : status_out_of_memory(lines * sizeof(*labels), "a list of photographs");
    int number = 0;
    for (char *line = text, *next; line && status == DLA_OK; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        if (!list_line_cut(line, &labels[count]))
            continue;
        if (*line == '\0' || *labels[count] == '\0')
            status = status_set(DLA_ERROR_FORMAT, "%s: line %d is not a path, a blank and a class", path, number);
        paths[count] = line;
        sorted[count] = labels[count];
        count++;
    }
    if (status == DLA_OK) {
        size_t unique = 0;
        qsort(sorted, count, sizeof(*sorted), by_name);
        for (size_t i = 0; i < count; i++)
            if (unique == 0 || strcmp(sorted[unique - 1], sorted[i]) != 0)
                sorted[unique++] = sorted[i];
        if (unique > MAX_CLASSES)
            status = status_set(DLA_ERROR_LIMIT, "%s: names %zu classes, at most %d are trained", path, unique, MAX_CLASSES);
        else if ((dataset->classes = arena_allocate_array(&dataset->arena, unique + 1, sizeof(*dataset->classes))) == NULL)
            status = status_out_of_memory(unique * sizeof(char *), "class names");
        for (size_t i = 0; i < unique && status == DLA_OK; i++)
            if ((dataset->classes[dataset->class_count++] = arena_copy_string(&dataset->arena, sorted[i])) == NULL)
                status = status_out_of_memory(unique * sizeof(char *), "class names");
    }
    if (status == DLA_OK)
        status = check_class_count(path, dataset->class_count);
    for (size_t i = 0; i < count && status == DLA_OK; i++) {
        const char *const *found = bsearch(&labels[i], dataset->classes, (size_t)dataset->class_count, sizeof(*dataset->classes), by_name);
        const char *full = paths[i][0] == '/' ? paths[i] : arena_format(&dataset->arena, "%.*s%s", folder_length, path, paths[i]);
        status = full ? add_sample(b, full, (int)(found - dataset->classes)) : status_out_of_memory(strlen(paths[i]), "a path");
    }
    memory_free(labels);
    memory_free(paths);
    memory_free(sorted);
    return status == DLA_OK ? to_list(b, &dataset->train) : status;
}

/* ---- validation ---- */

struct ranked {
    uint64_t hash;
    size_t index;
};

static int by_hash(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : (x->index < y->index ? -1 : 1);
}

static uint64_t hash_path(const char *path, size_t root_length)
{
    uint64_t hash = 0;
    for (const char *c = path + root_length; *c; c++)
        hash = counter_key(hash, (uint64_t)(unsigned char)*c);
    return hash;
}

dla_status dataset_hold_out(struct dataset *dataset, double share, size_t root_length)
{
    size_t count = dataset->train.count, train = 0, val = 0;
    struct ranked *ranked = memory_allocate((count + 1) * sizeof(*ranked));
    bool *held = memory_allocate_zeroed(count + 1, sizeof(*held));
    dataset->val.samples = arena_allocate_array(&dataset->arena, count + 1, sizeof(*dataset->val.samples));
    dla_status status =
        ranked && held && dataset->val.samples ? DLA_OK : status_out_of_memory(count * sizeof(*ranked), "the validation set");
    for (int c = 0; c < dataset->class_count && status == DLA_OK; c++) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if (dataset->train.samples[i].label == c)
                ranked[n++] = (struct ranked){hash_path(dataset->train.samples[i].path, root_length), i};
        qsort(ranked, n, sizeof(*ranked), by_hash);
        for (size_t i = 0; i < (size_t)(share * (double)n); i++)
            held[ranked[i].index] = true;
    }
    for (size_t i = 0; i < count && status == DLA_OK; i++)
        if (held[i])
            dataset->val.samples[val++] = dataset->train.samples[i];
        else
            dataset->train.samples[train++] = dataset->train.samples[i];
    dataset->train.count = status == DLA_OK ? train : count;
    dataset->val.count = val;
    memory_free(ranked);
    memory_free(held);
    return status;
}

static bool has_folder(const struct folder *folder, const char *name)
{
    for (size_t i = 0; i < folder->count; i++)
        if (folder->entries[i].is_folder && strcmp(folder->entries[i].name, name) == 0)
            return true;
    return false;
}

static dla_status open_folder(const char *path, double validation, struct builder *b)
{
    struct dataset *dataset = b->dataset;
    struct folder folder = {0};
    dla_status status = folder_read(path, &folder);
    if (status != DLA_OK)
        return status;
    bool has_train = has_folder(&folder, "train"), has_val = has_folder(&folder, "val");
    folder_free(&folder);
    const char *train = has_train ? arena_format(&dataset->arena, "%s/train", path) : path;
    const char *val = has_train && has_val ? arena_format(&dataset->arena, "%s/val", path) : NULL;
    if (train == NULL || (has_train && has_val && val == NULL))
        return status_out_of_memory(strlen(path), "a path");
    status = read_class_names(train, dataset);
    if (status == DLA_OK)
        status = read_tree(b, train, &dataset->train);
    if (status != DLA_OK)
        return status;
    return val ? read_tree(b, val, &dataset->val) : dataset_hold_out(dataset, validation, strlen(train));
}

dla_status dataset_open(const char *path, double validation, struct dataset *dataset)
{
    struct dataset made = {0};
    struct builder b = {.dataset = &made};
    dla_status status;
    if (validation < 0.0 || !(validation < 1.0))
        return status_set(DLA_ERROR_ARGUMENT, "a validation share of %g is out of range: 0 to less than 1", validation);
    size_t length = strlen(path);
    if (length > 4 && name_has_suffix(path, ".txt")) {
        char *text;
        size_t text_length;
        status = file_read_text(path, MAX_LIST_BYTES, &text, &text_length);
        if (status == DLA_OK) {
            status = read_list(&b, path, text);
            memory_free(text);
            if (status == DLA_OK)
                status = dataset_hold_out(&made, validation, 0);
        }
    } else {
        status = open_folder(path, validation, &b);
    }
    memory_free(b.samples);
    if (status != DLA_OK) {
        arena_free(&made.arena);
        return status;
    }
    *dataset = made;
    return DLA_OK;
}

void dataset_close(struct dataset *dataset)
{
    arena_free(&dataset->arena);
    *dataset = (struct dataset){0};
}
