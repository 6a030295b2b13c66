/* standard_input.c - all bytes of standard input in memory. */
#include "standard_input.h"

#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t first_bytes = (size_t)1 << 20, most_bytes = (size_t)1 << 30;

unsigned char *read_standard_input(size_t *size)
{
    unsigned char *bytes = NULL;
    size_t used = 0, capacity = 0;

    while (!feof(stdin) && !ferror(stdin)) {
        if (used == capacity) {
            capacity = capacity == 0 ? first_bytes : 2 * capacity;
            unsigned char *larger = capacity <= most_bytes ? realloc(bytes, capacity) : NULL;
            if (larger == NULL) {
                warn("standard input: %zu bytes and more, no photograph is as large", used);
                free(bytes);
                return NULL;
            }
            bytes = larger;
        }
        used += fread(bytes + used, 1, capacity - used, stdin);
    }
    if (ferror(stdin)) {
        warn("standard input: cannot read: %s", strerror(errno));
        free(bytes);
        return NULL;
    }
    *size = used;
    return bytes;
}
