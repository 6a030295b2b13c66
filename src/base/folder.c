/* folder.c - reading a folder into a sorted array. */
#include "base/folder.h"

#include "base/memory.h"
#include "base/status.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct folder_entry *)a)->name, ((const struct folder_entry *)b)->name);
}

/* Makes room for one more entry; the arena keeps the outgrown array until the end, which at most doubles it. */
static bool reserve_entry(struct folder *folder, size_t *capacity)
{
    struct folder_entry *larger;

    if (folder->count < *capacity)
        return true;
    larger = arena_allocate_array(&folder->arena, *capacity ? 2 * *capacity : 64, sizeof *larger);
    if (!larger)
        return false;
    if (folder->count > 0)
        memcpy(larger, folder->entries, folder->count * sizeof *larger);
    folder->entries = larger;
    *capacity = *capacity ? 2 * *capacity : 64;
    return true;
}

static dla_status add_entry(struct folder *folder, size_t *capacity, const char *path, const char *name)
{
    const char *separator = path[0] && path[strlen(path) - 1] == '/' ? "" : "/";
    struct folder_entry entry = { .name = arena_copy_string(&folder->arena, name),
                                  .path = arena_format(&folder->arena, "%s%s%s", path, separator, name) };
    struct stat info;

    if (!entry.name || !entry.path || !reserve_entry(folder, capacity))
        return status_out_of_memory(sizeof entry, "listing a folder");
    if (stat(entry.path, &info) != 0 || !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)))
        return DLA_OK; /* a dangling link, a socket: nothing to read */
    entry.is_folder = S_ISDIR(info.st_mode);
    folder->entries[folder->count++] = entry;
    return DLA_OK;
}

dla_status folder_read(const char *path, struct folder *folder)
{
    struct folder listed = { 0 };
    size_t capacity = 0;
    DIR *directory = opendir(path);
    dla_status status = DLA_OK;

    if (!directory)
        return status_from_errno(path, "open the folder");
    for (const struct dirent *item; status == DLA_OK && (item = readdir(directory));)
        if (item->d_name[0] != '.')
            status = add_entry(&listed, &capacity, path, item->d_name);
    closedir(directory);
    if (status != DLA_OK) {
        arena_free(&listed.arena);
        return status;
    }
    if (listed.count > 0)
        qsort(listed.entries, listed.count, sizeof *listed.entries, compare_entries);
    *folder = listed;
    return DLA_OK;
}

void folder_free(struct folder *folder)
{
    arena_free(&folder->arena);
    memset(folder, 0, sizeof *folder);
}

bool name_has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);
    return length >= suffix_length && strcasecmp(name + length - suffix_length, suffix) == 0;
}

dla_status folder_make(const char *path)
{
    char *part = memory_copy_string(path);
    dla_status status = DLA_OK;

    if (part == NULL)
        return status_out_of_memory(strlen(path), "a path");
    for (char *slash = strchr(part + 1, '/'); status == DLA_OK; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            status = status_from_errno(part, "make the folder");
        if (slash == NULL)
            break;
        *slash = '/';
    }
    memory_free(part);
    return status;
}
