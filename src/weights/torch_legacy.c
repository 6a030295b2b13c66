/* torch_legacy.c - PyTorch checkpoints before 1.6, as the authors' published ones are: pickles one after the other.
 *
 *     pickle    the magic number 0x1950a86a20f9469cfc6c
 *     pickle    the version, 1001
 *     pickle    {"little_endian": True, ...}
 *     pickle    the state dict, its tensors referring to storages by key
 *     pickle    the list of the keys, in the order in which the storages follow
 *     storages  number of elements (8 bytes, little-endian), then the elements
 */
#include "base/status.h"
#include "weights/readers.h"
#include "weights/torch_tensors.h"

#include <stdlib.h>
#include <string.h>

/* Protocol 2, LONG1 of 10 bytes: every such file starts with the pickle of the magic number. */
static const uint8_t start[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
enum { VERSION = 1001, COUNT_BYTES = 8 };

bool torch_legacy_is(const uint8_t *bytes, size_t size)
{
    return size >= sizeof(start) && memcmp(bytes, start, sizeof(start)) == 0;
}

struct reader {
    const uint8_t *bytes;
    size_t size, position;
    struct arena *arena;
    struct torch_storage *storages; /* sorted by key */
    size_t storage_count;
};

static dla_status next_pickle(struct reader *reader, const struct pickle_global *globals, struct pickle *pickle)
{
    size_t offset = reader->position;
    dla_status status = pickle_load(reader->bytes + offset, reader->size - offset, globals, reader->arena, pickle);

    if (status != DLA_OK)
        return status_prefix(status, "at byte %zu: ", offset);
    reader->position += pickle->used;
    return DLA_OK;
}

static dla_status read_head(struct reader *reader)
{
    static const struct pickle_global nothing[] = {{NULL, NULL, 0}};
    struct pickle version, system;
    dla_status status;

    reader->position = sizeof(start);
    if ((status = next_pickle(reader, nothing, &version)) != DLA_OK || (status = next_pickle(reader, nothing, &system)) != DLA_OK)
        return status;
    if (version.root->kind != PICKLE_INTEGER || version.root->as.integer != VERSION)
        return status_set(DLA_ERROR_UNSUPPORTED, "a PyTorch checkpoint of another version than %d", VERSION);
    const struct pickle_value *little = system.root->kind == PICKLE_DICT ? pickle_find(system.root, "little_endian") : NULL;
    if (little == NULL || little->kind != PICKLE_BOOL || !little->as.truth)
        return status_set(DLA_ERROR_UNSUPPORTED, "the checkpoint was written by a big-endian machine");
    return DLA_OK;
}

static int compare_keys(const void *left, const void *right)
{
    const struct torch_storage *a = left, *b = right;
    return strcmp(a->key, b->key);
}

static struct torch_storage *find_storage(const struct reader *reader, const char *key)
{
    const struct torch_storage wanted = {.key = key};
    return bsearch(&wanted, reader->storages, reader->storage_count, sizeof(wanted), compare_keys);
}

/* All storages that the state dict refers to: only these references tell the element types. */
static dla_status list_storages(struct reader *reader, const struct pickle_value *last_reference)
{
    const struct pickle_value *view;
    size_t count = 0, unique = 0;
    dla_status status;

    for (const struct pickle_value *r = last_reference; r != NULL; r = r->as.reference.previous)
        count++;
    reader->storages = arena_allocate_array(reader->arena, count + 1, sizeof(*reader->storages));
    if (reader->storages == NULL)
        return status_out_of_memory(count * sizeof(*reader->storages), "the list of storages");
    for (const struct pickle_value *r = last_reference; r != NULL; r = r->as.reference.previous) {
        status = torch_read_reference(r->as.reference.identity, reader->arena, &reader->storages[reader->storage_count++], &view);
        if (status != DLA_OK)
            return status;
    }
    qsort(reader->storages, count, sizeof(*reader->storages), compare_keys);
    for (size_t i = 0; i < count; i++) {
        const struct torch_storage *storage = &reader->storages[i], *before = unique > 0 ? &reader->storages[unique - 1] : NULL;
        if (before == NULL || strcmp(before->key, storage->key) != 0)
            reader->storages[unique++] = *storage;
        else if (before->dtype != storage->dtype || before->elements != storage->elements)
            return status_set(DLA_ERROR_FORMAT, "storage '%.100s' is described in two ways", storage->key);
    }
    reader->storage_count = unique;
    return DLA_OK;
}

/* Walks over the storages as the list of keys orders them, and notes where each lies. */
static dla_status place_storages(struct reader *reader, const struct pickle_value *keys)
{
    if (keys->kind != PICKLE_LIST)
        return status_set(DLA_ERROR_FORMAT, "the list of storages is no list");
    for (size_t i = 0; i < keys->item_count; i++) {
        const char *key = pickle_copy_text(keys->items[i], reader->arena);
        struct torch_storage *storage = key != NULL ? find_storage(reader, key) : NULL;
        if (storage == NULL || storage->bytes != NULL)
            return status_set(DLA_ERROR_FORMAT, "storage number %zu is one that no tensor refers to, or comes twice", i);
        if (reader->size - reader->position < COUNT_BYTES)
            return status_set(DLA_ERROR_FORMAT, "truncated: the file ends before storage '%.100s'", storage->key);
        uint64_t elements = 0;
        for (int k = COUNT_BYTES; k-- > 0;)
            elements = elements << 8 | reader->bytes[reader->position + (size_t)k];
        if (elements != (uint64_t)storage->elements)
            return status_set(DLA_ERROR_FORMAT, "storage '%.100s' should have %lld elements and has %llu", storage->key,
                              (long long)storage->elements, (unsigned long long)elements);
        reader->position += COUNT_BYTES;
        size_t bytes = (size_t)storage->elements * dtype_size(storage->dtype);
        if (bytes > reader->size - reader->position)
            return status_set(DLA_ERROR_FORMAT, "truncated: the file ends within storage '%.100s' of %zu bytes", storage->key, bytes);
        storage->bytes = reader->bytes + reader->position;
        reader->position += bytes;
    }
    return DLA_OK;
}

static dla_status find_bytes(void *context, struct torch_storage *storage)
{
    const struct torch_storage *found = find_storage(context, storage->key);

    if (found == NULL || found->bytes == NULL)
        return status_set(DLA_ERROR_FORMAT, "its storage '%.100s' is not in the file", storage->key);
    *storage = *found;
    return DLA_OK;
}

dla_status torch_legacy_read(struct tensor_file *file)
{
    struct reader reader = {.bytes = file->mapping.bytes, .size = file->mapping.size, .arena = &file->arena};
    const struct torch_storage_source source = {find_bytes, &reader};
    struct pickle state, keys;
    dla_status status;

    file->format = "PyTorch (before 1.6)";
    if ((status = read_head(&reader)) != DLA_OK || (status = next_pickle(&reader, torch_globals, &state)) != DLA_OK
        || (status = next_pickle(&reader, torch_globals, &keys)) != DLA_OK
        || (status = list_storages(&reader, state.last_reference)) != DLA_OK || (status = place_storages(&reader, keys.root)) != DLA_OK)
        return status;
    return torch_read_state_dict(state.root, &source, file);
}
