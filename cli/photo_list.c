/* photo_list.c - the photographs that the arguments PHOTO... mean. */
#include "photo_list.h"

#include <dla/dla.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool is_standard_input(const char *path)
{
    return strcmp(path, "-") == 0;
}

static bool is_folder(const char *path)
{
    struct stat information;
    return !is_standard_input(path) && stat(path, &information) == 0 && S_ISDIR(information.st_mode);
}

static bool append(struct photo_list *list, const char *const *paths, size_t count)
{
    const char **larger = realloc(list->paths, (list->count + count + 1) * sizeof(*larger));

    if (larger == NULL)
        return false;
    list->paths = larger;
    for (size_t i = 0; i < count; i++)
        list->paths[list->count++] = paths[i];
    return true;
}

static bool append_folder(struct photo_list *list, const char *path)
{
    dla_path_list **found = (dla_path_list **)list->folders + list->folder_count;

    if (dla_photographs_find(path, found) != DLA_OK) {
        warn("%s", dla_error_message());
        list->complete = false;
        return true;
    }
    list->folder_count++;
    if ((*found)->count == 0) {
        warn("%s: no photographs (.jpg, .jpeg, .png, .webp) in this folder", path);
        list->complete = false;
    }
    return append(list, (*found)->paths, (*found)->count);
}

int photo_list_read(const struct arguments *arguments, struct photo_list *list)
{
    size_t count = argument_count(arguments);
    bool memory_left = true;

    *list = (struct photo_list){.complete = true};
    list->folders = calloc(count + 1, sizeof(dla_path_list *));
    memory_left = list->folders != NULL;
    for (size_t i = 0; memory_left && i < count; i++) {
        const char *path = argument_at(arguments, i);
        memory_left = is_folder(path) ? append_folder(list, path) : append(list, &path, 1);
    }
    if (!memory_left) {
        warn("out of memory");
        photo_list_free(list);
        return EXIT_WORK_FAILED;
    }
    return EXIT_SUCCESS;
}

void photo_list_free(struct photo_list *list)
{
    for (size_t i = 0; list->folders != NULL && i < list->folder_count; i++)
        dla_path_list_destroy(((dla_path_list **)list->folders)[i]);
    free(list->folders);
    free(list->paths);
    *list = (struct photo_list){0};
}
