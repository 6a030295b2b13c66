/* zip_directory.c - the table at the end of a zip archive.
 *
 *     [local header, name, extra, bytes] ...  [central directory: one record per entry]  [zip64 end]  [zip64 locator]  [end]
 *
 * The end record is searched from the back, as it may be followed by a comment of at most 65,535 bytes. Sizes and offsets of
 * 0xffffffff stand for a 64-bit value in the record's extra field. The local header repeats name and sizes; only the lengths
 * of its name and extra field count, because they say where the bytes start.
 *
 * Checksums of stored entries are not compared: PyTorch does not either, and lets its users write archives without them.
 */
#include "weights/zip_directory.h"

#include "base/status.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { END_SIGNATURE = 0x06054b50, END_BYTES = 22, MOST_COMMENT_BYTES = 65535 };
enum { ZIP64_LOCATOR_SIGNATURE = 0x07064b50, ZIP64_LOCATOR_BYTES = 20 };
enum { ZIP64_END_SIGNATURE = 0x06064b50, ZIP64_END_BYTES = 56 };
enum { CENTRAL_SIGNATURE = 0x02014b50, CENTRAL_BYTES = 46 };
enum { LOCAL_SIGNATURE = 0x04034b50, LOCAL_BYTES = 30 };
enum { ZIP64_EXTRA = 1, METHOD_STORED = 0, METHOD_DEFLATED = 8, FLAG_ENCRYPTED = 1 };
enum { MOST_ENTRIES = 1 << 20 };
static const size_t most_inflated = (size_t)1 << 31; /* dla169 as float64 has 0.43 GB */

static uint64_t number_at(const uint8_t *bytes, int width)
{
    uint64_t number = 0;
    for (int i = width; i-- > 0;)
        number = number << 8 | bytes[i];
    return number;
}

static bool lies_within(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

struct directory_place {
    uint64_t offset, size, entry_count;
};

/* ---- the end records --------------------------------------------------------------------------------------------------- */

static dla_status find_end(const uint8_t *bytes, size_t size, size_t *offset)
{
    size_t most = size < END_BYTES + MOST_COMMENT_BYTES ? size : END_BYTES + MOST_COMMENT_BYTES;

    for (size_t back = END_BYTES; back <= most; back++) {
        const uint8_t *end = bytes + size - back;
        if (number_at(end, 4) == END_SIGNATURE && number_at(end + 20, 2) == back - END_BYTES) {
            *offset = size - back;
            return DLA_OK;
        }
    }
    return status_set(DLA_ERROR_FORMAT, "truncated: the zip archive has no directory at its end");
}

static dla_status find_directory(const uint8_t *bytes, size_t size, struct directory_place *place)
{
    size_t end_offset;
    dla_status status = find_end(bytes, size, &end_offset);

    if (status != DLA_OK)
        return status;
    const uint8_t *end = bytes + end_offset;
    if (number_at(end + 4, 2) != number_at(end + 6, 2))
        return status_set(DLA_ERROR_UNSUPPORTED, "a zip archive of several parts");
    *place = (struct directory_place){number_at(end + 16, 4), number_at(end + 12, 4), number_at(end + 10, 2)};

    if (end_offset >= ZIP64_LOCATOR_BYTES && number_at(end - ZIP64_LOCATOR_BYTES, 4) == ZIP64_LOCATOR_SIGNATURE) {
        uint64_t record_offset = number_at(end - ZIP64_LOCATOR_BYTES + 8, 8);
        if (!lies_within(record_offset, ZIP64_END_BYTES, end_offset) || number_at(bytes + record_offset, 4) != ZIP64_END_SIGNATURE)
            return status_set(DLA_ERROR_FORMAT, "the zip archive's 64-bit directory is not where it should be");
        const uint8_t *record = bytes + record_offset;
        *place = (struct directory_place){number_at(record + 48, 8), number_at(record + 40, 8), number_at(record + 32, 8)};
    }
    if (!lies_within(place->offset, place->size, end_offset))
        return status_set(DLA_ERROR_FORMAT, "the zip archive's directory lies outside of the file");
    if (place->entry_count > MOST_ENTRIES || place->entry_count > place->size / CENTRAL_BYTES)
        return status_set(DLA_ERROR_FORMAT, "the zip archive claims %llu entries", (unsigned long long)place->entry_count);
    return DLA_OK;
}

/* ---- entries ----------------------------------------------------------------------------------------------------------- */

/* Replaces the sizes and offset that are all ones by those of the zip64 extra field, which holds just these, in this order. */
static dla_status read_zip64(const uint8_t *extra, size_t extra_bytes, uint64_t *numbers[3])
{
    for (size_t at = 0; extra_bytes - at >= 4;) {
        size_t kind = (size_t)number_at(extra + at, 2), length = (size_t)number_at(extra + at + 2, 2);
        at += 4;
        if (length > extra_bytes - at)
            break;
        if (kind == ZIP64_EXTRA) {
            size_t used = 0;
            for (int i = 0; i < 3; i++)
                if (*numbers[i] == UINT32_MAX) {
                    if (length - used < 8)
                        return status_set(DLA_ERROR_FORMAT, "a zip entry lacks its 64-bit sizes");
                    *numbers[i] = number_at(extra + at + used, 8);
                    used += 8;
                }
            return DLA_OK;
        }
        at += length;
    }
    return DLA_OK;
}

/* The record at `record`, of which `available` bytes are the directory's; *consumed is its length. */
static dla_status read_entry(const uint8_t *bytes, size_t size, const uint8_t *record, size_t available, struct arena *arena,
                             struct zip_entry *entry, size_t *consumed)
{
    if (available < CENTRAL_BYTES || number_at(record, 4) != CENTRAL_SIGNATURE)
        return status_set(DLA_ERROR_FORMAT, "the zip archive's directory is damaged");
    size_t name_bytes = (size_t)number_at(record + 28, 2), extra_bytes = (size_t)number_at(record + 30, 2);
    size_t comment_bytes = (size_t)number_at(record + 32, 2);
    if (available - CENTRAL_BYTES < name_bytes + extra_bytes + comment_bytes)
        return status_set(DLA_ERROR_FORMAT, "the zip archive's directory is damaged");
    *consumed = CENTRAL_BYTES + name_bytes + extra_bytes + comment_bytes;

    char *name = arena_allocate(arena, name_bytes + 1);
    if (name == NULL)
        return status_out_of_memory(name_bytes, "a zip entry's name");
    memcpy(name, record + CENTRAL_BYTES, name_bytes);
    uint64_t method = number_at(record + 10, 2), stored_size = number_at(record + 20, 4), full_size = number_at(record + 24, 4);
    uint64_t header = number_at(record + 42, 4);
    dla_status status = read_zip64(record + CENTRAL_BYTES + name_bytes, extra_bytes, (uint64_t *[]){&full_size, &stored_size, &header});
    if (status != DLA_OK)
        return status;
    if ((number_at(record + 8, 2) & FLAG_ENCRYPTED) != 0)
        return status_set(DLA_ERROR_UNSUPPORTED, "zip entry '%.200s' is encrypted", name);
    if (method != METHOD_STORED && method != METHOD_DEFLATED)
        return status_set(DLA_ERROR_UNSUPPORTED, "zip entry '%.200s' is compressed by method %d; only deflate is read", name, (int)method);
    if (method == METHOD_STORED && stored_size != full_size)
        return status_set(DLA_ERROR_FORMAT, "zip entry '%.200s' is stored, but has two sizes", name);

    if (!lies_within(header, LOCAL_BYTES, size) || number_at(bytes + header, 4) != LOCAL_SIGNATURE)
        return status_set(DLA_ERROR_FORMAT, "zip entry '%.200s' does not start where the directory says", name);
    uint64_t start = header + LOCAL_BYTES + number_at(bytes + header + 26, 2) + number_at(bytes + header + 28, 2);
    if (!lies_within(start, stored_size, size))
        return status_set(DLA_ERROR_FORMAT, "zip entry '%.200s' of %llu bytes at %llu lies outside of the file", name,
                          (unsigned long long)stored_size, (unsigned long long)start);
    *entry = (struct zip_entry){
        .name = name,
        .bytes = bytes + start,
        .stored_size = (size_t)stored_size,
        .size = (size_t)full_size,
        .crc = (uint32_t)number_at(record + 16, 4),
        .deflated = method == METHOD_DEFLATED,
    };
    return DLA_OK;
}

static int compare_places(const void *left, const void *right)
{
    const struct zip_entry *a = left, *b = right;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return a->stored_size < b->stored_size ? -1 : a->stored_size > b->stored_size;
}

static int compare_names(const void *left, const void *right)
{
    const struct zip_entry *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* Overlapping entries let a small archive unpack into a huge one; repeated names let two readers see two archives. Leaves the
 * entries sorted by name. */
static dla_status check_entries(struct zip_entry *entries, size_t count)
{
    qsort(entries, count, sizeof(*entries), compare_places);
    for (size_t i = 1; i < count; i++)
        if (entries[i].bytes < entries[i - 1].bytes + entries[i - 1].stored_size)
            return status_set(DLA_ERROR_FORMAT, "zip entries '%.200s' and '%.200s' overlap", entries[i - 1].name, entries[i].name);
    qsort(entries, count, sizeof(*entries), compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(entries[i - 1].name, entries[i].name) == 0)
            return status_set(DLA_ERROR_FORMAT, "the zip archive has two entries '%.200s'", entries[i].name);
    return DLA_OK;
}

dla_status zip_directory_read(const uint8_t *bytes, size_t size, struct arena *arena, struct zip_directory *directory)
{
    struct directory_place place;
    dla_status status;

    *directory = (struct zip_directory){0};
    if ((status = find_directory(bytes, size, &place)) != DLA_OK)
        return status;
    directory->entries = arena_allocate_array(arena, (size_t)place.entry_count + 1, sizeof(*directory->entries));
    if (directory->entries == NULL)
        return status_out_of_memory((size_t)place.entry_count * sizeof(*directory->entries), "a zip archive");
    size_t at = (size_t)place.offset, end = at + (size_t)place.size;
    while (directory->entry_count < place.entry_count) {
        size_t consumed;
        status = read_entry(bytes, size, bytes + at, end - at, arena, &directory->entries[directory->entry_count], &consumed);
        if (status != DLA_OK)
            return status;
        at += consumed;
        directory->entry_count++;
    }
    return check_entries(directory->entries, directory->entry_count);
}

struct zip_entry *zip_directory_find(const struct zip_directory *directory, const char *name)
{
    const struct zip_entry wanted = {.name = name};
    return bsearch(&wanted, directory->entries, directory->entry_count, sizeof(wanted), compare_names);
}

/* ---- content ----------------------------------------------------------------------------------------------------------- */

/* Deflated bytes into exactly `size`; more, or less, is an error. */
static bool inflate_exactly(const struct zip_entry *entry, uint8_t *content)
{
    z_stream stream = {0};
    size_t taken = 0, given = 0;
    int result = Z_OK;

    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return false;
    while (result == Z_OK) { /* zlib counts in 32 bits */
        size_t in = entry->stored_size - taken, out = entry->size - given;
        stream.next_in = (Bytef *)(uintptr_t)(entry->bytes + taken);
        stream.avail_in = in < UINT32_MAX ? (uInt)in : UINT32_MAX;
        stream.next_out = content + given;
        stream.avail_out = out < UINT32_MAX ? (uInt)out : UINT32_MAX;
        uInt in_before = stream.avail_in, out_before = stream.avail_out;
        result = inflate(&stream, Z_NO_FLUSH);
        taken += in_before - stream.avail_in;
        given += out_before - stream.avail_out;
    }
    inflateEnd(&stream);
    return result == Z_STREAM_END && taken == entry->stored_size && given == entry->size;
}

dla_status zip_entry_content(struct zip_directory *directory, struct zip_entry *entry, struct arena *arena, const uint8_t **content)
{
    if (!entry->deflated) {
        *content = entry->bytes;
        return DLA_OK;
    }
    if (entry->unpacked != NULL) {
        *content = entry->unpacked;
        return DLA_OK;
    }
    /* Deflate packs at most 1032 to 1: what claims more lies, before any memory is spent on it. */
    if (entry->size / 1032 > entry->stored_size)
        return status_set(DLA_ERROR_FORMAT, "zip entry '%.200s' cannot unpack from %zu to %zu bytes", entry->name, entry->stored_size,
                          entry->size);
    if (entry->size > most_inflated - directory->inflated)
        return status_set(DLA_ERROR_LIMIT, "zip entry '%.200s' unpacks to %zu bytes; at most %zu are unpacked from one archive",
                          entry->name, entry->size, most_inflated);
    directory->inflated += entry->size;
    uint8_t *unpacked = arena_allocate(arena, entry->size + 1);
    if (unpacked == NULL)
        return status_out_of_memory(entry->size, entry->name);
    if (!inflate_exactly(entry, unpacked) || crc32_z(crc32_z(0, NULL, 0), unpacked, entry->size) != entry->crc)
        return status_set(DLA_ERROR_FORMAT, "zip entry '%.200s' is damaged (it does not unpack to its size and checksum)", entry->name);
    *content = entry->unpacked = unpacked;
    return DLA_OK;
}
