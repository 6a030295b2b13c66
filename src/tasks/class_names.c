/* class_names.c - which class of a model a name means. */
#include "tasks/class_names.h"

#include <ctype.h>
#include <string.h>

static char folded(char character)
{
    return character == '_' || character == '-' ? ' ' : (char)tolower((unsigned char)character);
}

static bool is_same_name(const char *a, size_t a_length, const char *b, size_t b_length)
{
    if (a_length != b_length)
        return false;
    for (size_t i = 0; i < a_length; i++)
        if (folded(a[i]) != folded(b[i]))
            return false;
    return true;
}

static bool is_wnid(const dla_model *model, int index, const char *name)
{
    const char *wnid = dla_model_wnid(model, index);
    return wnid != NULL && is_same_name(wnid, strlen(wnid), name, strlen(name));
}

static bool is_label(const dla_model *model, int index, const char *name)
{
    const char *label = dla_model_label(model, index);
    return label != NULL && is_same_name(label, strlen(label), name, strlen(name));
}

static bool is_one_of_label(const dla_model *model, int index, const char *name)
{
    const char *rest = dla_model_label(model, index);

    while (rest != NULL) {
        rest += strspn(rest, " ");
        size_t length = strcspn(rest, ",");
        if (is_same_name(rest, length, name, strlen(name)))
            return true;
        rest = rest[length] == ',' ? rest + length + 1 : NULL;
    }
    return false;
}

int class_by_name(const dla_model *model, const char *name)
{
    static bool (*const best_first[])(const dla_model *, int, const char *) = {is_wnid, is_label, is_one_of_label};
    int class_count = dla_model_class_count(model);

    for (size_t way = 0; way < sizeof(best_first) / sizeof(best_first[0]); way++) {
        int found = NO_CLASS;
        for (int index = 0; index < class_count; index++)
            if (best_first[way](model, index, name))
                found = found == NO_CLASS ? index : AMBIGUOUS_CLASS;
        if (found != NO_CLASS)
            return found;
    }
    return NO_CLASS;
}
