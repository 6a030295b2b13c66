/* picture_folder.h - where commands that make pictures of photographs put them: OUTPUT/KIND/NAME.png. */
#ifndef DLA_CLI_PICTURE_FOLDER_H
#define DLA_CLI_PICTURE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* Makes the folder `output` and in it one for every kind; false after a line on stderr. kinds ends with NULL. */
bool picture_folders_make(const char *output, const char *const *kinds);

/* "OUTPUT/KIND/NAME.png" for a photograph's path, its own folder and suffix taken off; "stdin" for "-". free(); NULL: no memory. */
char *picture_path(const char *output, const char *kind, const char *photograph);

/* The first of two photographs of a list whose pictures would have one name, or NULL. */
const char *picture_name_clash(const char *const *photographs, size_t count);

#endif
