/* picture_folder.h - where commands that make pictures of photographs put them: OUTPUT/KIND/NAME.png. */
#ifndef DLA_CLI_PICTURE_FOLDER_H
#define DLA_CLI_PICTURE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* The folder `output` and in it one for every kind; kinds ends with NULL. */
struct picture_folders {
    const char *output;
    const char *const *kinds;
    bool made_output;    /* they were not there before */
    unsigned made_kinds; /* a bit for each */
};

/* Makes those that are not there; false after a line on stderr. Both strings must outlive it. */
bool picture_folders_make(struct picture_folders *folders, const char *output, const char *const *kinds);

/* Takes those that were made and have remained empty away again. */
void picture_folders_tidy(const struct picture_folders *folders);

/* "OUTPUT/KIND/NAME.png" for a photograph's path, its own folder and suffix taken off; "stdin" for "-". free(); NULL: no memory. */
char *picture_path(const char *output, const char *kind, const char *photograph);

/* The first of two photographs of a list whose pictures would have one name, or NULL. */
const char *picture_name_clash(const char *const *photographs, size_t count);

#endif
