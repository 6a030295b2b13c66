/* standard_input.h - for commands that take "-" as a file. */
#ifndef DLA_CLI_STANDARD_INPUT_H
#define DLA_CLI_STANDARD_INPUT_H

#include <stddef.h>

/* All of standard input, up to 1 GiB; free(). NULL after one line on stderr. */
unsigned char *read_standard_input(size_t *size);

#endif
