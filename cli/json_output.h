/* json_output.h - building and printing JSON.
 *
 * Over jansson, whose set and append functions report failure (memory, text that is not UTF-8) by a return value: a failure
 * anywhere leaves NULL or a missing entry, so these helpers keep count and json_print fails once, at the end.
 */
#ifndef DLA_CLI_JSON_OUTPUT_H
#define DLA_CLI_JSON_OUTPUT_H

#include <jansson.h>

/* Text from outside, such as a file name: bytes that are not UTF-8 become U+FFFD. NULL becomes null. */
json_t *json_text(const char *text);

/* Takes over `value`, which may be NULL after a failure. */
void json_put(json_t *object, const char *key, json_t *value);
void json_add(json_t *array, json_t *value);

/* Prints `value` and a newline on stdout and releases it: what holds only numbers, texts and the like on one line, what holds
 * containers indented. Reals have nine digits: what a float32 needs to come back equal.
 * Returns the exit status. */
int json_print(json_t *value);

#endif
