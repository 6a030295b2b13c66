/* pickle_value.c - looking at what a pickle built. */
#include "weights/pickle.h"

#include <string.h>

bool pickle_text_is(const struct pickle_value *value, const char *text)
{
    return value != NULL && value->kind == PICKLE_TEXT && strlen(text) == value->as.text.length
           && memcmp(value->as.text.bytes, text, value->as.text.length) == 0;
}

bool pickle_is_object(const struct pickle_value *value, int global)
{
    return value != NULL && value->kind == PICKLE_OBJECT && value->global == global;
}

bool pickle_is_dict(const struct pickle_value *value, int ordered_dict_global)
{
    return value != NULL && (value->kind == PICKLE_DICT || pickle_is_object(value, ordered_dict_global));
}

/* Python 2's form of an OrderedDict's pairs, or NULL. */
static const struct pickle_value *pairs_in_arguments(const struct pickle_value *dict)
{
    const struct pickle_value *list = dict->kind == PICKLE_OBJECT ? pickle_item(dict->arguments, 0) : NULL;
    return list != NULL && list->kind == PICKLE_LIST ? list : NULL;
}

size_t pickle_pair_count(const struct pickle_value *dict)
{
    const struct pickle_value *list = pairs_in_arguments(dict);
    return list != NULL ? list->item_count : dict->item_count / 2;
}

bool pickle_pair(const struct pickle_value *dict, size_t index, const struct pickle_value **key, const struct pickle_value **value)
{
    const struct pickle_value *list = pairs_in_arguments(dict);

    if (list != NULL) {
        const struct pickle_value *pair = pickle_item(list, index);
        *key = pickle_item(pair, 0);
        *value = pickle_item(pair, 1);
    } else {
        *key = dict->items[2 * index];
        *value = dict->items[2 * index + 1];
    }
    return *key != NULL && *value != NULL;
}

const struct pickle_value *pickle_find(const struct pickle_value *dict, const char *key)
{
    const struct pickle_value *name, *value;

    for (size_t i = pickle_pair_count(dict); i-- > 0;)
        if (pickle_pair(dict, i, &name, &value) && pickle_text_is(name, key))
            return value;
    return NULL;
}

const struct pickle_value *pickle_item(const struct pickle_value *sequence, size_t index)
{
    if (sequence == NULL || (sequence->kind != PICKLE_TUPLE && sequence->kind != PICKLE_LIST) || index >= sequence->item_count)
        return NULL;
    return sequence->items[index];
}

char *pickle_copy_text(const struct pickle_value *value, struct arena *arena)
{
    if (value == NULL || value->kind != PICKLE_TEXT || value->as.text.length == SIZE_MAX)
        return NULL;
    char *copy = arena_allocate(arena, value->as.text.length + 1);
    if (copy != NULL && value->as.text.length > 0)
        memcpy(copy, value->as.text.bytes, value->as.text.length);
    return copy;
}

bool pickle_whole_numbers(const struct pickle_value *sequence, int64_t *numbers, int most, int *count)
{
    if (sequence == NULL || (sequence->kind != PICKLE_TUPLE && sequence->kind != PICKLE_LIST) || sequence->item_count > (size_t)most)
        return false;
    for (size_t i = 0; i < sequence->item_count; i++) {
        const struct pickle_value *item = sequence->items[i];
        if (item->kind != PICKLE_INTEGER || item->as.integer < 0)
            return false;
        numbers[i] = item->as.integer;
    }
    *count = (int)sequence->item_count;
    return true;
}

static size_t count_tensors(const struct pickle_value *dict, bool (*is_tensor)(const struct pickle_value *value))
{
    const struct pickle_value *key, *value;
    size_t count = 0;

    for (size_t i = 0; i < pickle_pair_count(dict); i++)
        count += pickle_pair(dict, i, &key, &value) && key->kind == PICKLE_TEXT && is_tensor(value);
    return count;
}

const struct pickle_value *pickle_find_state_dict(const struct pickle_value *root, int ordered_dict_global,
                                                  bool (*is_tensor)(const struct pickle_value *value), size_t *count)
{
    static const char *const keys[] = {"state_dict", "model", "model_state", "model_state_dict", "net", "network"};
    enum { DEEPEST = 4 };

    for (int depth = 0; depth < DEEPEST; depth++) {
        const struct pickle_value *below = NULL;
        if (!pickle_is_dict(root, ordered_dict_global))
            return NULL;
        if ((*count = count_tensors(root, is_tensor)) > 0)
            return root;
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && below == NULL; i++)
            below = pickle_find(root, keys[i]);
        root = below;
    }
    return NULL;
}
