/* fuzz_pickle.c - the pickle machine by itself, with more globals than any format lists, and every look at its values. */
#include "weights/pickle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The result may contain itself, so the walk is bounded by its number of steps, not by depth. */
static void walk(const struct pickle_value *value, int depth, int *steps)
{
    const struct pickle_value *key, *item;
    int64_t numbers[8];
    int count;

    if (value == NULL || depth > 64 || --*steps < 0)
        return;
    if (pickle_is_dict(value, 0))
        for (size_t i = 0; i < pickle_pair_count(value) && *steps > 0; i++)
            if (pickle_pair(value, i, &key, &item)) {
                walk(key, depth + 1, steps);
                walk(item, depth + 1, steps);
            }
    for (size_t i = 0; *steps > 0 && (item = pickle_item(value, i)) != NULL; i++)
        walk(item, depth + 1, steps);
    (void)pickle_whole_numbers(value, numbers, 8, &count);
    (void)pickle_text_is(value, "storage");
    walk(value->arguments, depth + 1, steps);
    walk(value->state, depth + 1, steps);
    if (value->kind == PICKLE_PERSISTENT)
        walk(value->as.reference.identity, depth + 1, steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pickle_global globals[] = {
        {"collections", "OrderedDict", 0},
        {"builtins", "bytearray", 1},
        {"__builtin__", "bytearray", 1},
        {"builtins", "set", 2},
        {"__builtin__", "set", 2},
        {"builtins", "frozenset", 3},
        {"__builtin__", "frozenset", 3},
        {"_codecs", "encode", 4},
        {"a", "b", 5},
        {NULL, NULL, 0},
    };
    struct arena arena = {0};
    struct pickle pickle;
    int steps = 100000;

    if (pickle_load(data, size, globals, &arena, &pickle) == DLA_OK) {
        if (pickle.used > size)
            abort();
        walk(pickle.root, 0, &steps);
        for (const struct pickle_value *r = pickle.last_reference; r != NULL; r = r->as.reference.previous)
            if (r->kind != PICKLE_PERSISTENT)
                abort();
    }
    arena_free(&arena);
    return 0;
}
