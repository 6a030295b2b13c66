/* photo_list.h - the photographs that the arguments PHOTO... mean: files, folders, "-" for standard input. */
#ifndef DLA_CLI_PHOTO_LIST_H
#define DLA_CLI_PHOTO_LIST_H

#include "command.h"

struct photo_list {
    const char **paths; /* in the order of the arguments; folders replaced by the photographs below them */
    size_t count;
    void *folders; /* keeps the paths alive */
    size_t folder_count;
    bool complete; /* false: an argument gave no photograph, a line on stderr said why */
};

/* EXIT_SUCCESS, or EXIT_WORK_FAILED when memory ran out. */
int photo_list_read(const struct arguments *arguments, struct photo_list *list);
void photo_list_free(struct photo_list *list);

bool is_standard_input(const char *path);

#endif
