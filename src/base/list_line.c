/* list_line.c - see list_line.h. */
#include "base/list_line.h"

#include <stddef.h>
#include <string.h>

bool list_line_cut(char *line, char **last)
{
    size_t length = strlen(line);
    while (length && strchr(" \t\r", line[length - 1]))
        line[--length] = '\0';
    char *blank = line + length;
    while (blank > line && !strchr(" \t", blank[-1]))
        blank--;
    *last = blank > line ? blank : line + length;
    while (blank > line && strchr(" \t", blank[-1]))
        *--blank = '\0';
    return length > 0;
}
