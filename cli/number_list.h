/* number_list.h - "0.5,1,1.5" as an option's value. */
#ifndef DLA_CLI_NUMBER_LIST_H
#define DLA_CLI_NUMBER_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* False where text is not one to `most` numbers with commas between them. */
bool number_list_parse(const char *text, double *numbers, size_t most, size_t *count);

#endif
