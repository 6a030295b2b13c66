/* nearest.h - "did you mean ...?" */
#ifndef DLA_BASE_NEAREST_H
#define DLA_BASE_NEAREST_H

#include <stddef.h>

/* The name among name_at(list, 0 .. count-1) that takes the fewest edits to become `word`; NULL where even that one takes more
 * than a third of the word's letters (two for short words), so that a suggestion is never absurd. */
const char *nearest_name(const char *word, const void *list, size_t count, const char *(*name_at)(const void *list, size_t index));

#endif
