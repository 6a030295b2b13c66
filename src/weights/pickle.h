/* pickle.h - Python's pickles as data: nothing is ever called.
 *
 * A pickle is a program for a small stack machine, and the program may say "call this function with these arguments". Python
 * does so; that is why loading a stranger's checkpoint with Python can do anything. Here a call is only written down: it
 * becomes a PICKLE_OBJECT with the function's name and its arguments, and the reader of the format decides what it means.
 * Functions and classes that the reader does not list are refused as soon as they are named.
 */
#ifndef DLA_WEIGHTS_PICKLE_H
#define DLA_WEIGHTS_PICKLE_H

#include "base/arena.h"

#include <dla/dla.h>

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INTEGER,
    PICKLE_BIG_INTEGER, /* does not fit into 64 bits: its bytes, little-endian, two's complement */
    PICKLE_REAL,
    PICKLE_TEXT,
    PICKLE_BYTES,
    PICKLE_LIST, /* sets, too */
    PICKLE_TUPLE,
    PICKLE_DICT,
    PICKLE_GLOBAL,    /* a function or class by name */
    PICKLE_OBJECT,    /* what calling one would have given */
    PICKLE_PERSISTENT /* a reference to something outside the pickle */
};

struct pickle_value {
    enum pickle_kind kind;
    int global; /* GLOBAL, OBJECT: which of the listed ones */
    union {
        bool truth;
        int64_t integer;
        double real;
        struct {
            const uint8_t *bytes; /* inside the pickle, not terminated */
            size_t length;
        } text; /* TEXT, BYTES, BIG_INTEGER */
        struct {
            struct pickle_value *identity;
            struct pickle_value *previous; /* the reference read before this one */
        } reference;                       /* PERSISTENT */
    } as;
    /* LIST, TUPLE: the items. DICT and OBJECT: keys and values in turn; an OBJECT has them where items were set on it. */
    struct pickle_value **items;
    size_t item_count, item_capacity;
    struct pickle_value *arguments; /* OBJECT: a TUPLE */
    struct pickle_value *state;     /* OBJECT: what was given to __setstate__, or NULL */
};

/* A function or class that the reader of a format understands. The list ends with module NULL. */
struct pickle_global {
    const char *module, *name;
    int id;
};

struct pickle {
    const struct pickle_value *root;           /* may share parts of itself and may contain itself: walk it with a bound */
    const struct pickle_value *last_reference; /* all PERSISTENT values, chained; NULL without any */
    size_t used;                               /* bytes of the pickle */
};

/* Runs the pickle at the start of bytes. The values live in the arena and point into bytes. */
dla_status pickle_load(const uint8_t *bytes, size_t size, const struct pickle_global *globals, struct arena *arena, struct pickle *pickle);

/* ---- looking at values; all accept any kind, and NULL ---- */

bool pickle_text_is(const struct pickle_value *value, const char *text);
bool pickle_is_object(const struct pickle_value *value, int global);
bool pickle_is_dict(const struct pickle_value *value, int ordered_dict_global); /* a dict, or an OBJECT of that class */

/* Number of pairs, and pair `index`, of a dict in the sense of pickle_is_dict; Python 2 gave an OrderedDict its pairs as the
 * call's argument, a list of lists. */
size_t pickle_pair_count(const struct pickle_value *dict);
bool pickle_pair(const struct pickle_value *dict, size_t index, const struct pickle_value **key, const struct pickle_value **value);

/* The value under a text key (linear search), the last one where there are several, or NULL. */
const struct pickle_value *pickle_find(const struct pickle_value *dict, const char *key);

/* Item of a TUPLE or LIST, or NULL. */
const struct pickle_value *pickle_item(const struct pickle_value *sequence, size_t index);

/* A copy that ends in NUL, cut at an embedded one; NULL when memory is exhausted or the value is no text. */
char *pickle_copy_text(const struct pickle_value *value, struct arena *arena);

/* A tuple or list of whole numbers >= 0; false for anything else, or more than `most`. */
bool pickle_whole_numbers(const struct pickle_value *sequence, int64_t *numbers, int most, int *count);

/* The dict that holds tensors, in the sense of is_tensor: `root`, or one below it under the names that training programs
 * use (state_dict, model, model_state ...). NULL without one. *count is the number of its tensors. */
const struct pickle_value *pickle_find_state_dict(const struct pickle_value *root, int ordered_dict_global,
                                                  bool (*is_tensor)(const struct pickle_value *value), size_t *count);

#endif
