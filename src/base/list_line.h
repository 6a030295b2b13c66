/* list_line.h - a line of a list file: a path, which may have blanks in it, and behind the last blank what belongs to it. */
#ifndef DLA_BASE_LIST_LINE_H
#define DLA_BASE_LIST_LINE_H

#include <stdbool.h>

/* Cuts `line` (changed) at its last blank: "a b.jpg  7" becomes "a b.jpg" and *last "7". *last is "" where there is one word
   only. False for an empty line. Blanks and a carriage return at the end do not count. */
bool list_line_cut(char *line, char **last);

#endif
