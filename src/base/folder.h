/* folder.h - what a folder holds, in an order that does not depend on the file system. */
#ifndef DLA_BASE_FOLDER_H
#define DLA_BASE_FOLDER_H

#include "base/arena.h"

#include <dla/dla.h>

struct folder_entry {
    const char *name;
    const char *path;          /* the folder's path, a slash, the name */
    bool is_folder;            /* links are followed */
};

struct folder {
    struct arena arena;        /* owns the entries */
    struct folder_entry *entries;
    size_t count;
};

/* Lists regular files and folders, sorted by name in byte order; names that start with a dot are left out. */
dla_status folder_read(const char *path, struct folder *folder);
void folder_free(struct folder *folder);

/* Makes a folder, and those above it that are not there. One that exists is no failure. */
dla_status folder_make(const char *path);

/* Whether a name ends in the suffix (".png"), upper or lower case. */
bool name_has_suffix(const char *name, const char *suffix);

#endif
