/* safetensors.c - the safetensors format, read and written.
 *
 *     bytes 0-7     n, the length of the header, little-endian
 *     bytes 8-8+n   JSON: {"name": {"dtype": "F32", "shape": [16, 3, 7, 7], "data_offsets": [begin, end]}, ...,
 *                          "__metadata__": {"key": "text", ...}}
 *     then          the tensors, row-major, at their offsets counted from here
 *
 * The tensors must fill the rest of the file exactly: no overlap, no hole, nothing behind. This is the format's own rule;
 * it leaves no place for anything that is not a tensor, and makes two readers see the same file.
 */
#include "weights/safetensors.h"

#include "base/memory.h"
#include "base/status.h"
#include "weights/readers.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8 };
enum { MAX_HEADER_BYTES = 100000000 }; /* the limit of the format's own library */
enum { MAX_TENSORS = 1000000 };

static const struct {
    const char *name;
    enum dtype dtype;
} dtype_codes[] = {
    {"F32", DTYPE_F32}, {"F16", DTYPE_F16}, {"BF16", DTYPE_BF16}, {"F64", DTYPE_F64}, {"I64", DTYPE_I64},
    {"I32", DTYPE_I32}, {"I16", DTYPE_I16}, {"I8", DTYPE_I8},     {"U8", DTYPE_U8},   {"BOOL", DTYPE_BOOL},
};
enum { DTYPE_CODE_COUNT = sizeof(dtype_codes) / sizeof(dtype_codes[0]) };

static uint64_t read_length(const uint8_t *bytes)
{
    uint64_t length = 0;
    for (int i = LENGTH_BYTES; i-- > 0;)
        length = length << 8 | bytes[i];
    return length;
}

/* ---- reading ---- */

/* Told by the brace that must open the header. A length larger than the file counts too, where it could be one at all, so
 * that a truncated file is called truncated and not unknown. */
bool safetensors_is(const uint8_t *bytes, size_t size)
{
    return size > LENGTH_BYTES && bytes[LENGTH_BYTES] == '{' && bytes[LENGTH_BYTES - 1] == 0;
}

struct extent {
    int64_t begin, end;
    const char *name;
};

static int compare_extents(const void *left, const void *right)
{
    const struct extent *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

static dla_status read_metadata(struct tensor_file *file, json_t *object)
{
    const char *key;
    json_t *text;

    if (!json_is_object(object))
        return status_set(DLA_ERROR_FORMAT, "__metadata__ is not a JSON object");
    size_t count = json_object_size(object);
    file->metadata = arena_allocate_array(&file->arena, count, sizeof(*file->metadata));
    if (file->metadata == NULL)
        return status_out_of_memory(count * sizeof(*file->metadata), "metadata");
    json_object_foreach(object, key, text)
    {
        if (!json_is_string(text))
            return status_set(DLA_ERROR_FORMAT, "metadata '%.100s' is not a string", key);
        struct metadata_entry *entry = &file->metadata[file->metadata_count];
        entry->key = arena_copy_string(&file->arena, key);
        entry->text = arena_copy_string(&file->arena, json_string_value(text));
        if (entry->key == NULL || entry->text == NULL)
            return status_out_of_memory(json_string_length(text), "metadata");
        file->metadata_count++;
    }
    return DLA_OK;
}

static dla_status read_dtype(const char *name, const json_t *entry, enum dtype *dtype)
{
    const char *code = json_string_value(json_object_get(entry, "dtype"));
    if (code == NULL)
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' has no dtype", name);
    for (int i = 0; i < DTYPE_CODE_COUNT; i++) {
        if (strcmp(code, dtype_codes[i].name) == 0) {
            *dtype = dtype_codes[i].dtype;
            return DLA_OK;
        }
    }
    return status_set(DLA_ERROR_UNSUPPORTED,
                      "tensor '%.200s' has dtype '%.20s'; F32, F16, BF16, F64, I64, I32, I16, I8, U8 and BOOL are supported", name, code);
}

static dla_status read_shape(const char *name, const json_t *entry, struct tensor_view *tensor)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' has no shape", name);
    size_t rank = json_array_size(shape);
    if (rank > TENSOR_MAX_RANK) {
        return status_set(DLA_ERROR_UNSUPPORTED, "tensor '%.200s' has %zu dimensions, at most %d are supported", name, rank,
                          TENSOR_MAX_RANK);
    }
    tensor->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *side = json_array_get(shape, i);
        if (!json_is_integer(side) || json_integer_value(side) < 0)
            return status_set(DLA_ERROR_FORMAT, "tensor '%.200s': side %zu of the shape is not a whole number >= 0", name, i);
        tensor->shape[i] = json_integer_value(side);
    }
    return DLA_OK;
}

static dla_status read_extent(const char *name, const json_t *entry, int64_t data_bytes, struct extent *extent)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' needs data_offsets of two whole numbers", name);
    extent->begin = json_integer_value(begin);
    extent->end = json_integer_value(end);
    extent->name = name;
    if (extent->begin < 0 || extent->end < extent->begin || extent->end > data_bytes) {
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' lies at %lld to %lld, but the file has %lld bytes of data", name,
                          (long long)extent->begin, (long long)extent->end, (long long)data_bytes);
    }
    return DLA_OK;
}

static dla_status read_tensor(struct tensor_file *file, const char *name, const json_t *entry, const uint8_t *data, int64_t data_bytes,
                              struct extent *extent)
{
    struct tensor_view *tensor = &file->tensors[file->tensor_count];
    int64_t elements;
    dla_status status;

    if (!json_is_object(entry))
        return status_set(DLA_ERROR_FORMAT, "the header's entry for '%.200s' is not a JSON object", name);
    if ((status = read_dtype(name, entry, &tensor->dtype)) != DLA_OK || (status = read_shape(name, entry, tensor)) != DLA_OK
        || (status = read_extent(name, entry, data_bytes, extent)) != DLA_OK)
        return status;
    int64_t element_bytes = (int64_t)dtype_size(tensor->dtype);
    int64_t bytes = extent->end - extent->begin;
    if (!shape_elements(tensor->shape, tensor->rank, &elements) || elements > INT64_MAX / element_bytes
        || elements * element_bytes != bytes) {
        char shape[128];
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' of shape %s and %s cannot have %lld bytes", name,
                          shape_to_text(tensor->shape, tensor->rank, shape, sizeof(shape)), dtype_name(tensor->dtype), (long long)bytes);
    }
    tensor_set_row_major(tensor);
    tensor->data = data + extent->begin;
    tensor->name = arena_copy_string(&file->arena, name);
    if (tensor->name == NULL)
        return status_out_of_memory(strlen(name), "a tensor's name");
    file->tensor_count++;
    return DLA_OK;
}

/* The extents, sorted, must follow each other from the first data byte to the last. */
static dla_status check_extents(struct extent *extents, int count, int64_t data_bytes)
{
    int64_t position = 0;

    qsort(extents, (size_t)count, sizeof(*extents), compare_extents);
    for (int i = 0; i < count; i++) {
        if (extents[i].begin < position)
            return status_set(DLA_ERROR_FORMAT, "tensors '%.200s' and '%.200s' overlap", i > 0 ? extents[i - 1].name : "", extents[i].name);
        if (extents[i].begin > position) {
            return status_set(DLA_ERROR_FORMAT, "%lld unused bytes before tensor '%.200s'", (long long)(extents[i].begin - position),
                              extents[i].name);
        }
        position = extents[i].end;
    }
    if (position != data_bytes)
        return status_set(DLA_ERROR_FORMAT, "%lld unused bytes after the last tensor", (long long)(data_bytes - position));
    return DLA_OK;
}

dla_status safetensors_read(struct tensor_file *file)
{
    const uint8_t *bytes = file->mapping.bytes;
    uint64_t size = file->mapping.size;
    json_t *header = NULL, *entry;
    struct extent *extents = NULL;
    const char *name;
    json_error_t error;
    dla_status status;

    file->format = "safetensors";
    if (size <= LENGTH_BYTES)
        return status_set(DLA_ERROR_FORMAT, "too short for a safetensors file (%llu bytes)", (unsigned long long)size);
    uint64_t header_bytes = read_length(bytes);
    if (header_bytes > MAX_HEADER_BYTES) {
        return status_set(DLA_ERROR_LIMIT, "safetensors header of %llu bytes; the format allows %d", (unsigned long long)header_bytes,
                          MAX_HEADER_BYTES);
    }
    if (header_bytes > size - LENGTH_BYTES) {
        return status_set(DLA_ERROR_FORMAT, "truncated: the safetensors header has %llu bytes, the whole file %llu",
                          (unsigned long long)header_bytes, (unsigned long long)size);
    }
    /* jansson bounds nesting (2048) and numbers (64 bits), and refuses invalid UTF-8 and NUL in names. */
    header = json_loadb((const char *)bytes + LENGTH_BYTES, (size_t)header_bytes, JSON_REJECT_DUPLICATES, &error);
    if (header == NULL)
        return status_set(DLA_ERROR_FORMAT, "safetensors header, byte %d: %s", error.position, error.text);
    if (!json_is_object(header)) {
        status = status_set(DLA_ERROR_FORMAT, "the safetensors header is not a JSON object");
        goto out;
    }
    size_t count = json_object_size(header);
    if (count > MAX_TENSORS) {
        status = status_set(DLA_ERROR_LIMIT, "%zu tensors; at most %d are read", count, MAX_TENSORS);
        goto out;
    }
    file->tensors = arena_allocate_array(&file->arena, count + 1, sizeof(*file->tensors));
    extents = memory_allocate_zeroed(count + 1, sizeof(*extents));
    if (file->tensors == NULL || extents == NULL) {
        status = status_out_of_memory(count * sizeof(*file->tensors), "the list of tensors");
        goto out;
    }
    const uint8_t *data = bytes + LENGTH_BYTES + header_bytes;
    int64_t data_bytes = (int64_t)(size - LENGTH_BYTES - header_bytes);
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            status = read_metadata(file, entry);
        else
            status = read_tensor(file, name, entry, data, data_bytes, &extents[file->tensor_count]);
        if (status != DLA_OK)
            goto out;
    }
    status = check_extents(extents, file->tensor_count, data_bytes);
out:
    memory_free(extents);
    json_decref(header);
    return status;
}

/* ---- writing ---- */

static bool is_floating(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16 || dtype == DTYPE_F64;
}

/* Vectors, that is biases and batch norms, stay float32: they are 1.5 % of dla46_c's values, and rounding its running statistics and
 * scales to float16 was what cost three photographs of 2,000; rounding the convolutions alone costs none. */
static enum dtype stored_dtype(const struct tensor_view *tensor, enum dtype floats)
{
    return !is_floating(tensor->dtype) ? tensor->dtype : tensor->rank > 1 ? floats : DTYPE_F32;
}

struct entry {
    const struct tensor_view *tensor;
    enum dtype dtype; /* as stored */
    int64_t elements;
};

/* Widest elements first, as the format recommends, so that every tensor is aligned; then by name. */
static int compare_entries(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    size_t a_size = dtype_size(a->dtype), b_size = dtype_size(b->dtype);
    if (a_size != b_size)
        return a_size > b_size ? -1 : 1;
    return strcmp(a->tensor->name, b->tensor->name);
}

static const char *dtype_code(enum dtype dtype)
{
    for (int i = 0; i < DTYPE_CODE_COUNT; i++)
        if (dtype_codes[i].dtype == dtype)
            return dtype_codes[i].name;
    return NULL;
}

/* The header's text without padding, or NULL when memory is exhausted or a name is not UTF-8; memory_free(). */
static char *make_header(const struct entry *entries, int entry_count, const struct metadata_entry *metadata, int metadata_count)
{
    json_t *header = json_object(), *texts = NULL;
    char *text = NULL;
    int64_t offset = 0;

    if (metadata_count > 0) {
        texts = json_object();
        for (int i = 0; i < metadata_count; i++)
            if (json_object_set_new(texts, metadata[i].key, json_string(metadata[i].text)) != 0)
                goto out;
        if (json_object_set(header, "__metadata__", texts) != 0)
            goto out;
    }
    for (int i = 0; i < entry_count; i++) {
        const struct tensor_view *tensor = entries[i].tensor;
        int64_t end = offset + entries[i].elements * (int64_t)dtype_size(entries[i].dtype);
        json_t *shape = json_array();
        for (int k = 0; k < tensor->rank; k++)
            json_array_append_new(shape, json_integer(tensor->shape[k]));
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_code(entries[i].dtype), "shape", shape, "data_offsets",
                                  (json_int_t)offset, (json_int_t)end);
        if (entry == NULL || json_array_size(shape) != (size_t)tensor->rank || json_object_set_new(header, tensor->name, entry) != 0)
            goto out;
        offset = end;
    }
    size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT);
    if (length > 0 && (text = memory_allocate(length + 1)) != NULL)
        text[json_dumpb(header, text, length, JSON_COMPACT)] = '\0';
out:
    json_decref(texts);
    json_decref(header);
    return text;
}

/* Elements as they are stored, in pieces, so that a large tensor needs no second copy of itself. */
static dla_status write_elements(struct atomic_file *output, const struct entry *entry)
{
    enum { PIECE = 4096 };
    union {
        float wide[PIECE];
        uint16_t narrow[PIECE];
    } piece;
    const struct tensor_view *tensor = entry->tensor;
    float *values = NULL;
    dla_status status = DLA_OK;
    size_t elements = (size_t)entry->elements;

    if (tensor->dtype == entry->dtype && tensor_is_contiguous(tensor))
        return elements == 0 ? DLA_OK : atomic_file_write(output, tensor->data, elements * dtype_size(tensor->dtype));
    if (!is_floating(tensor->dtype)) {
        return status_set(DLA_ERROR_UNSUPPORTED, "tensor '%.200s' of %s is not contiguous; only floating-point tensors may be views",
                          tensor->name, dtype_name(tensor->dtype));
    }
    values = memory_allocate(elements > 0 ? elements * sizeof(*values) : 1);
    if (values == NULL)
        return status_out_of_memory(elements * sizeof(*values), tensor->name);
    tensor_to_float(tensor, values);
    for (size_t start = 0; start < elements && status == DLA_OK; start += PIECE) {
        size_t count = elements - start < PIECE ? elements - start : PIECE;
        for (size_t i = 0; i < count; i++) {
            float value = values[start + i];
            if (entry->dtype == DTYPE_F32) {
                piece.wide[i] = value;
            } else if (entry->dtype == DTYPE_BF16) {
                piece.narrow[i] = float_to_bfloat16(value);
            } else {
                piece.narrow[i] = float_to_half(value);
                if ((piece.narrow[i] & 0x7fff) == 0x7c00 && value - value == 0) { /* infinite only since rounded */
                    status = status_set(DLA_ERROR_UNSUPPORTED, "tensor '%.200s' holds %g, too large for float16; use bfloat16 or float32",
                                        tensor->name, (double)value);
                    goto out;
                }
            }
        }
        status = atomic_file_write(output, &piece, count * dtype_size(entry->dtype));
    }
out:
    memory_free(values);
    return status;
}

dla_status safetensors_write(const char *path, const struct tensor_view *tensors, int tensor_count, const struct metadata_entry *metadata,
                             int metadata_count, enum dtype floats)
{
    struct atomic_file *output = NULL;
    struct entry *entries = NULL;
    char *header = NULL;
    dla_status status;

    if (floats != DTYPE_F32 && floats != DTYPE_F16 && floats != DTYPE_BF16) {
        return status_set(DLA_ERROR_ARGUMENT, "safetensors: weights are stored as float32, float16 or bfloat16, not %s",
                          dtype_name(floats));
    }
    entries = memory_allocate_zeroed((size_t)tensor_count + 1, sizeof(*entries));
    if (entries == NULL)
        return status_out_of_memory((size_t)tensor_count * sizeof(*entries), "the list of tensors");
    for (int i = 0; i < tensor_count; i++) {
        entries[i].tensor = &tensors[i];
        entries[i].dtype = stored_dtype(&tensors[i], floats);
        if (!shape_elements(tensors[i].shape, tensors[i].rank, &entries[i].elements)) {
            status = status_set(DLA_ERROR_ARGUMENT, "tensor '%.200s' has an impossible shape", tensors[i].name);
            goto out;
        }
    }
    qsort(entries, (size_t)tensor_count, sizeof(*entries), compare_entries);
    header = make_header(entries, tensor_count, metadata, metadata_count);
    if (header == NULL) {
        status = status_set(DLA_ERROR_ARGUMENT, "%s: cannot make the header (a name that is not UTF-8, or no memory)", path);
        goto out;
    }
    if ((status = atomic_file_open(path, &output)) != DLA_OK)
        goto out;
    /* Padded with spaces so that the data starts at a multiple of 8. */
    uint8_t length[LENGTH_BYTES];
    size_t text_bytes = strlen(header), header_bytes = (text_bytes + 7) / 8 * 8;
    for (int i = 0; i < LENGTH_BYTES; i++)
        length[i] = (uint8_t)((uint64_t)header_bytes >> (8 * i));
    if ((status = atomic_file_write(output, length, sizeof(length))) != DLA_OK
        || (status = atomic_file_write(output, header, text_bytes)) != DLA_OK
        || (status = atomic_file_write(output, "        ", header_bytes - text_bytes)) != DLA_OK)
        goto out;
    for (int i = 0; i < tensor_count; i++)
        if ((status = write_elements(output, &entries[i])) != DLA_OK)
            goto out;
    status = atomic_file_commit(output);
    output = NULL;
out:
    atomic_file_discard(output);
    memory_free(header);
    memory_free(entries);
    return status;
}
