/* find_photographs.c - the photographs below a folder. */
#include "base/folder.h"
#include "base/memory.h"
#include "base/status.h"

#include <string.h>
#include <sys/stat.h>

struct path_list {
    dla_path_list list; /* what the caller sees; its first member, so that the two addresses are one */
    struct arena arena; /* owns everything */
    const char **paths;
    size_t capacity;
};

/* A folder that is being listed, and the one that holds it. A link may lead back to one of these. */
struct open_folder {
    const struct open_folder *outer;
    dev_t device;
    ino_t inode;
};

static bool is_photograph(const char *name)
{
    static const char *const suffixes[] = {".jpg", ".jpeg", ".png", ".webp"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
        if (name_has_suffix(name, suffixes[i]))
            return true;
    return false;
}

static dla_status add_path(struct path_list *list, const char *path)
{
    if (list->list.count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 256 : 2 * list->capacity;
        const char **larger = arena_allocate_array(&list->arena, capacity, sizeof(*larger));
        if (larger == NULL)
            return status_out_of_memory(capacity * sizeof(*larger), "a list of photographs");
        if (list->list.count > 0)
            memcpy(larger, list->paths, list->list.count * sizeof(*larger));
        list->paths = larger;
        list->capacity = capacity;
    }
    list->paths[list->list.count] = arena_copy_string(&list->arena, path);
    if (list->paths[list->list.count] == NULL)
        return status_out_of_memory(strlen(path) + 1, "a list of photographs");
    list->list.count++;
    return DLA_OK;
}

static dla_status add_folder(struct path_list *list, const char *path, const struct open_folder *outer)
{
    struct open_folder here = {.outer = outer};
    struct folder folder = {0};
    struct stat information;

    if (stat(path, &information) != 0)
        return status_from_errno(path, "open the folder");
    here.device = information.st_dev;
    here.inode = information.st_ino;
    for (const struct open_folder *other = outer; other != NULL; other = other->outer)
        if (other->device == here.device && other->inode == here.inode)
            return DLA_OK; /* a link in a circle */
    dla_status status = folder_read(path, &folder);
    for (size_t i = 0; status == DLA_OK && i < folder.count; i++) {
        const struct folder_entry *entry = &folder.entries[i];
        if (entry->is_folder)
            status = add_folder(list, entry->path, &here);
        else if (is_photograph(entry->name))
            status = add_path(list, entry->path);
    }
    folder_free(&folder);
    return status;
}

dla_status dla_photographs_find(const char *folder, dla_path_list **result)
{
    if (folder == NULL || result == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_photographs_find: folder and list must not be NULL");
    struct path_list *list = memory_allocate_zeroed(1, sizeof(*list));
    if (list == NULL)
        return status_out_of_memory(sizeof(*list), "a list of photographs");
    dla_status status = add_folder(list, folder, NULL);
    list->list.paths = list->paths;
    if (status != DLA_OK) {
        dla_path_list_destroy(&list->list);
        return status;
    }
    *result = &list->list;
    return DLA_OK;
}

void dla_path_list_destroy(dla_path_list *public_list)
{
    struct path_list *list = (struct path_list *)public_list;

    if (list == NULL)
        return;
    arena_free(&list->arena);
    memory_free(list);
}
