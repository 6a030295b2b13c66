/* torch_zip.c - PyTorch checkpoints since 1.6: a zip archive.
 *
 *     NAME/data.pkl     the state dict, its tensors referring to storages by key
 *     NAME/data/KEY     one storage each, little-endian, stored
 *     NAME/byteorder    "little" or "big" (since 2.0)
 */
#include "base/status.h"
#include "weights/readers.h"
#include "weights/torch_tensors.h"
#include "weights/zip_directory.h"

#include <string.h>

enum { MOST_PICKLE_BYTES = 256 << 20 };

bool torch_zip_is(const uint8_t *bytes, size_t size)
{
    return size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0;
}

struct archive {
    struct zip_directory directory;
    struct arena *arena;
    int folder_length; /* of "NAME/" */
    const char *folder;
};

/* data.pkl lies in the archive's one folder, whose name is free. */
static struct zip_entry *find_pickle(struct archive *archive)
{
    static const char name[] = "data.pkl";

    for (size_t i = 0; i < archive->directory.entry_count; i++) {
        struct zip_entry *entry = &archive->directory.entries[i];
        const char *slash = strchr(entry->name, '/');
        const char *last = slash != NULL ? slash + 1 : entry->name;
        if (strcmp(last, name) == 0) {
            archive->folder = entry->name;
            archive->folder_length = (int)(last - entry->name);
            return entry;
        }
    }
    return NULL;
}

static struct zip_entry *find_in_folder(const struct archive *archive, const char *subfolder, const char *name)
{
    const char *path = arena_format(archive->arena, "%.*s%s%s", archive->folder_length, archive->folder, subfolder, name);
    return path != NULL ? zip_directory_find(&archive->directory, path) : NULL;
}

static dla_status find_bytes(void *context, struct torch_storage *storage)
{
    struct archive *archive = context;
    struct zip_entry *entry = find_in_folder(archive, "data/", storage->key);
    int64_t needed = storage->elements * (int64_t)dtype_size(storage->dtype);

    if (entry == NULL)
        return status_set(DLA_ERROR_FORMAT, "its storage '%.100s' is not in the archive", storage->key);
    if ((uint64_t)needed != entry->size)
        return status_set(DLA_ERROR_FORMAT, "its storage '%.100s' should have %lld bytes and has %zu", storage->key, (long long)needed,
                          entry->size);
    return zip_entry_content(&archive->directory, entry, archive->arena, &storage->bytes);
}

static dla_status check_kind(const struct archive *archive, const struct zip_entry *pickle)
{
    if (pickle == NULL)
        return status_set(DLA_ERROR_FORMAT, "a zip archive, but not a PyTorch checkpoint (it has no data.pkl)");
    if (find_in_folder(archive, "", "constants.pkl") != NULL)
        return status_set(DLA_ERROR_UNSUPPORTED, "a TorchScript program, not weights; save model.state_dict() instead");
    if (pickle->size > MOST_PICKLE_BYTES)
        return status_set(DLA_ERROR_LIMIT, "data.pkl has %zu bytes; at most %d are read", pickle->size, MOST_PICKLE_BYTES);
    return DLA_OK;
}

static dla_status check_byte_order(struct archive *archive)
{
    struct zip_entry *entry = find_in_folder(archive, "", "byteorder");
    const uint8_t *order;
    dla_status status;

    if (entry == NULL)
        return DLA_OK;
    if ((status = zip_entry_content(&archive->directory, entry, archive->arena, &order)) != DLA_OK)
        return status;
    if (entry->size != 6 || memcmp(order, "little", 6) != 0)
        return status_set(DLA_ERROR_UNSUPPORTED, "the checkpoint was written by a big-endian machine");
    return DLA_OK;
}

dla_status torch_zip_read(struct tensor_file *file)
{
    struct archive archive = {.arena = &file->arena};
    const struct torch_storage_source source = {find_bytes, &archive};
    struct pickle pickle;
    const uint8_t *bytes;
    dla_status status;

    file->format = "PyTorch";
    if ((status = zip_directory_read(file->mapping.bytes, file->mapping.size, &file->arena, &archive.directory)) != DLA_OK)
        return status;
    struct zip_entry *entry = find_pickle(&archive);
    if ((status = check_kind(&archive, entry)) != DLA_OK || (status = check_byte_order(&archive)) != DLA_OK
        || (status = zip_entry_content(&archive.directory, entry, &file->arena, &bytes)) != DLA_OK
        || (status = pickle_load(bytes, entry->size, torch_globals, &file->arena, &pickle)) != DLA_OK)
        return status;
    return torch_read_state_dict(pickle.root, &source, file);
}
