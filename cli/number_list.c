/* number_list.c - see number_list.h. */
#include "number_list.h"

#include <stdlib.h>

bool number_list_parse(const char *text, double *numbers, size_t most, size_t *count)
{
    *count = 0;
    for (;;) {
        char *end;
        if (*count == most)
            return false;
        numbers[*count] = strtod(text, &end);
        if (end == text || (*end != ',' && *end != '\0'))
            return false;
        ++*count;
        if (*end == '\0')
            return true;
        text = end + 1;
    }
}
