/* json_output.c - building and printing JSON. */
#include "json_output.h"

#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLOAT32_DIGITS = 9, INDENT = 2 };

static bool failed;

/* Length of the UTF-8 sequence at `text`, 0 where there is none: overlong forms, surrogates and values past U+10FFFF are none. */
static size_t utf8_sequence(const unsigned char *text)
{
    if (text[0] < 0x80)
        return 1;
    size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) || (text[0] == 0xf0 && text[1] < 0x90)
        || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

json_t *json_text(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

    if (text == NULL)
        return json_null();
    char *sound = malloc(3 * strlen(text) + 1);
    if (sound == NULL)
        return NULL;
    char *out = sound;
    while (*text != '\0') {
        size_t length = utf8_sequence((const unsigned char *)text);
        memcpy(out, length > 0 ? text : replacement, length > 0 ? length : 3);
        out += length > 0 ? length : 3;
        text += length > 0 ? length : 1;
    }
    *out = '\0';
    json_t *value = json_string(sound);
    free(sound);
    return value;
}

void json_put(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        failed = true;
}

void json_add(json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) != 0)
        failed = true;
}

static bool holds_containers(const json_t *value)
{
    const char *key;
    json_t *item;
    size_t index;

    json_array_foreach(value, index, item) if (json_is_array(item) || json_is_object(item)) return true;
    json_object_foreach((json_t *)(uintptr_t)value, key, item) if (json_is_array(item) || json_is_object(item)) return true;
    return false;
}

static void print_flat(const json_t *value)
{
    if (json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_REAL_PRECISION(FLOAT32_DIGITS)) != 0)
        failed = true;
}

static void print_value(const json_t *value, int depth)
{
    bool is_object = json_is_object(value);
    const char *key, *separator = "";
    json_t *item;
    size_t index;

    if (!holds_containers(value)) {
        print_flat(value);
        return;
    }
    putchar(is_object ? '{' : '[');
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        json_t *name = json_string(key);
        printf("%s\n%*s", separator, INDENT * (depth + 1), "");
        print_flat(name);
        fputs(": ", stdout);
        print_value(item, depth + 1);
        json_decref(name);
        separator = ",";
    }
    json_array_foreach(value, index, item)
    {
        printf("%s\n%*s", separator, INDENT * (depth + 1), "");
        print_value(item, depth + 1);
        separator = ",";
    }
    printf("\n%*s%c", INDENT * depth, "", is_object ? '}' : ']');
}

int json_print(json_t *value)
{
    if (value == NULL || failed) {
        json_decref(value);
        warn("out of memory while writing JSON");
        return EXIT_WORK_FAILED;
    }
    print_value(value, 0);
    putchar('\n');
    json_decref(value);
    if (failed && !ferror(stdout)) /* a full disk is reported once, by main */
        warn("out of memory while writing JSON");
    return failed || ferror(stdout) ? EXIT_WORK_FAILED : EXIT_SUCCESS;
}
