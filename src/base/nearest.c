/* nearest.c - which of the possible names a misspelt one was meant to be.
 *
 * The distance is Damerau's (restricted): to insert, drop or change a character or to swap two neighbours counts one. Upper and
 * lower case, and '-' and '_', count as equal.
 */
#include "base/nearest.h"

#include <dla/dla.h>

#include <ctype.h>
#include <string.h>

enum { LONGEST_NAME = 63 };

static int folded(char character)
{
    return character == '_' ? '-' : tolower((unsigned char)character);
}

/* D[i][j]: distance between the first i characters of a and the first j of b. Three rows of it are alive at a time. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][LONGEST_NAME + 1];
    size_t *before = rows[0], *previous = rows[1], *current = rows[2];

    for (size_t j = 0; j <= b_length; j++)
        previous[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        current[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t distance = previous[j - 1] + (folded(a[i - 1]) != folded(b[j - 1]));
            if (distance > previous[j] + 1)
                distance = previous[j] + 1;
            if (distance > current[j - 1] + 1)
                distance = current[j - 1] + 1;
            bool swapped = i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) && folded(a[i - 2]) == folded(b[j - 1]);
            if (swapped && distance > before[j - 2] + 1)
                distance = before[j - 2] + 1;
            current[j] = distance;
        }
        size_t *recycled = before;
        before = previous;
        previous = current;
        current = recycled;
    }
    return previous[b_length];
}

const char *nearest_name(const char *word, const void *list, size_t count, const char *(*name_at)(const void *list, size_t index))
{
    const char *nearest = NULL;
    size_t length = strlen(word);
    size_t tolerated = length / 3 < 2 ? length > 2 ? 2 : 1 : length / 3;
    size_t smallest = tolerated + 1;

    if (length == 0 || length > LONGEST_NAME)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        const char *name = name_at(list, i);
        size_t name_length = strlen(name);
        if (name_length == 0 || name_length > LONGEST_NAME)
            continue;
        size_t distance = edit_distance(word, length, name, name_length);
        if (distance < smallest) {
            nearest = name;
            smallest = distance;
        }
    }
    return nearest;
}

static const char *name_in_array(const void *list, size_t index)
{
    return ((const char *const *)list)[index];
}

const char *dla_nearest_name(const char *misspelt, const char *const *names, size_t count)
{
    return nearest_name(misspelt, names, count, name_in_array);
}
