/* config.c - a user's own network as a JSON object; docs/config.md describes it.
 *
 * Strict: every key must be known and mean something for the block, every value must have its type and lie in its range.
 * Keys of whole numbers come from the table in architecture.c; name, block and residual_root are handled here.
 */
#include "net/architecture.h"
#include "net/network.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text_stream.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const other_keys[] = {"name", "block", "residual_root"};
enum { OTHER_KEY_COUNT = sizeof(other_keys) / sizeof(other_keys[0]) };

static const char *type_text(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "text";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_NULL:
        return "null";
    default:
        return "true or false";
    }
}

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

static dla_status reject_unknown_keys(json_t *object)
{
    const char *names[OTHER_KEY_COUNT + FIELD_COUNT], *key;
    json_t *unused_value;

    for (int i = 0; i < OTHER_KEY_COUNT; i++)
        names[i] = other_keys[i];
    for (int f = 0; f < FIELD_COUNT; f++)
        names[OTHER_KEY_COUNT + f] = architecture_fields[f].key;

    json_object_foreach (object, key, unused_value) {
        bool known = false;
        for (int i = 0; i < OTHER_KEY_COUNT + FIELD_COUNT && !known; i++)
            known = strcmp(names[i], key) == 0;
        if (known)
            continue;
        const char *nearest = dla_nearest_name(key, names, OTHER_KEY_COUNT + FIELD_COUNT);
        if (nearest != NULL)
            return status_set(DLA_ERROR_FORMAT, "unknown key '%.80s'; did you mean '%s'?", key, nearest);
        return status_set(DLA_ERROR_FORMAT, "unknown key '%.80s'; `dla info MODEL --print-config` shows the known ones", key);
    }
    return DLA_OK;
}

static dla_status read_name(const json_t *object, dla_architecture *architecture)
{
    const json_t *json = json_object_get(object, "name");

    if (json == NULL) {
        strcpy(architecture->name, "custom");
        return DLA_OK;
    }
    if (!json_is_string(json))
        return status_set(DLA_ERROR_FORMAT, "name is %s, must be text", type_text(json));
    dla_status status = architecture_check_name(json_string_value(json), json_string_length(json));
    if (status == DLA_OK)
        strcpy(architecture->name, json_string_value(json));
    return status;
}

static dla_status read_block(const json_t *object, dla_architecture *architecture)
{
    static const char legal[] = "\"basic\", \"bottleneck\" or \"bottle2neck\"";
    const json_t *json = json_object_get(object, "block");

    if (json == NULL)
        return status_set(DLA_ERROR_FORMAT, "key 'block' is missing: it must be %s", legal);
    if (!json_is_string(json))
        return status_set(DLA_ERROR_FORMAT, "block is %s, must be text: %s", type_text(json), legal);
    for (int b = 0; b < BLOCK_COUNT; b++) {
        if (strcmp(json_string_value(json), dla_block_name((dla_block)b)) == 0) {
            architecture->block = (dla_block)b;
            return DLA_OK;
        }
    }
    return status_set(DLA_ERROR_ARGUMENT, "block is \"%.80s\", legal is %s", json_string_value(json), legal);
}

static dla_status read_residual_root(const json_t *object, dla_architecture *architecture)
{
    const json_t *json = json_object_get(object, "residual_root");

    if (json != NULL && !json_is_boolean(json))
        return status_set(DLA_ERROR_FORMAT, "residual_root is %s, must be true or false", type_text(json));
    architecture->residual_root = json_is_true(json);
    return DLA_OK;
}

static dla_status read_number(const struct field_range *field, int index, const json_t *json, int *number)
{
    if (!json_is_integer(json)) {
        if (field->count > 1)
            return status_set(DLA_ERROR_FORMAT, "%s[%d] is %s, must be a whole number", field->key, index, type_text(json));
        return status_set(DLA_ERROR_FORMAT, "%s is %s, must be a whole number", field->key, type_text(json));
    }
    dla_status status = field_check(field, index, json_integer_value(json));
    if (status == DLA_OK)
        *number = (int)json_integer_value(json);
    return status;
}

static dla_status read_field(const struct field_range *field, const json_t *object, dla_architecture *architecture)
{
    const json_t *json = json_object_get(object, field->key);
    int *numbers = field_values(field, architecture);

    if (json != NULL && !field_applies(field, architecture->block))
        return status_set(DLA_ERROR_FORMAT, "key '%s' means nothing for block \"%s\"; remove it", field->key, dla_block_name(architecture->block));
    if (json == NULL && field->fallback == REQUIRED)
        return status_set(DLA_ERROR_FORMAT, "key '%s' is missing: it must be an array of %d whole numbers, one a level", field->key, field->count);
    if (json == NULL) {
        *numbers = field->fallback;
        return DLA_OK;
    }
    if (field->count == 1)
        return read_number(field, 0, json, numbers);

    if (!json_is_array(json))
        return status_set(DLA_ERROR_FORMAT, "%s is %s, must be an array of %d whole numbers, one a level", field->key, type_text(json), field->count);
    if (json_array_size(json) != (size_t)field->count)
        return status_set(DLA_ERROR_FORMAT, "%s has %zu numbers, must have %d, one a level", field->key, json_array_size(json), field->count);
    for (int i = 0; i < field->count; i++) {
        dla_status status = read_number(field, i, json_array_get(json, (size_t)i), &numbers[i]);
        if (status != DLA_OK)
            return status;
    }
    return DLA_OK;
}

static dla_status read_object(json_t *object, dla_architecture *architecture)
{
    if (!json_is_object(object))
        return status_set(DLA_ERROR_FORMAT, "is %s, must be an object", type_text(object));
    dla_status status = reject_unknown_keys(object);
    if (status == DLA_OK)
        status = read_name(object, architecture);
    if (status == DLA_OK)
        status = read_block(object, architecture);
    if (status == DLA_OK)
        status = read_residual_root(object, architecture);
    for (int f = 0; f < FIELD_COUNT && status == DLA_OK; f++)
        status = read_field(&architecture_fields[f], object, architecture);
    if (status == DLA_OK)
        status = architecture_check(architecture);
    return status;
}

dla_status dla_architecture_parse_config(const char *json, size_t length, const char *origin, dla_architecture *architecture)
{
    json_error_t error;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &error);
    dla_architecture read = {0};

    if (root == NULL)
        return status_set(DLA_ERROR_FORMAT, "%s:%d:%d: not a JSON object: %s", origin, error.line, error.column, error.text);
    dla_status status = read_object(root, &read);
    json_decref(root);
    if (status != DLA_OK)
        return status_prefix(status, "%s: ", origin);
    *architecture = read;
    return DLA_OK;
}

dla_status dla_architecture_read_config(const char *path, dla_architecture *architecture)
{
    enum { MAX_CONFIG_BYTES = 64 * 1024 };   /* a config has about 300 */
    char *text = NULL;
    size_t length;

    dla_status status = file_read_text(path, MAX_CONFIG_BYTES, &text, &length);
    if (status == DLA_OK)
        status = dla_architecture_parse_config(text, length, path, architecture);
    memory_free(text);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------------------------- */

/* Name and block need no escapes: architecture_check has seen them. */
static void write_config(FILE *stream, dla_architecture architecture)
{
    fprintf(stream, "{\n  \"name\": \"%s\",\n  \"block\": \"%s\",\n  \"residual_root\": %s", architecture.name,
            dla_block_name(architecture.block), architecture.residual_root ? "true" : "false");
    for (int f = 0; f < FIELD_COUNT; f++) {
        const struct field_range *field = &architecture_fields[f];
        const int *numbers = field_values(field, &architecture);

        if (!field_applies(field, architecture.block))
            continue;
        fprintf(stream, ",\n  \"%s\": %s%d", field->key, field->count > 1 ? "[" : "", numbers[0]);
        for (int i = 1; i < field->count; i++)
            fprintf(stream, ", %d", numbers[i]);
        fputs(field->count > 1 ? "]" : "", stream);
    }
    fputs("\n}\n", stream);
}

dla_status dla_architecture_to_config(const dla_architecture *architecture, char **json)
{
    struct text_stream stream;

    dla_status status = architecture_check(architecture);
    if (status != DLA_OK)
        return status;
    text_stream_open(&stream);
    if (stream.file != NULL)
        write_config(stream.file, *architecture);
    char *text = text_stream_close(&stream);
    if (text == NULL)
        return status_out_of_memory(1024, "a config");
    *json = text;
    return DLA_OK;
}
