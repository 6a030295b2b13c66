/* npy.c - NumPy's .npy files, read and written, and .npz archives, written.
 *
 *     bytes 0-5   "\x93NUMPY"
 *     bytes 6, 7  version 1.0, 2.0 or 3.0
 *     then        length of the header, little-endian: 2 bytes in version 1, 4 in the others
 *     then        {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 224, 224), } and spaces up to a newline
 *     then        the elements
 *
 * The header is a Python literal. Exactly these three keys are read, each once, in any order: anything else that Python
 * could write there (structured types, pickled objects) is refused.
 */
#include "weights/npy.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "weights/tensor_file.h"

#include <dla/dla.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

_Static_assert((int)DLA_MAX_RANK == (int)TENSOR_MAX_RANK, "the public limit is the inner one");

static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

static const struct {
    const char *descr;
    enum dtype dtype;
} descriptions[] = {
    {"<f4", DTYPE_F32}, {"<f8", DTYPE_F64}, {"<f2", DTYPE_F16}, {"<i8", DTYPE_I64},  {"<i4", DTYPE_I32},
    {"<i2", DTYPE_I16}, {"|i1", DTYPE_I8},  {"|u1", DTYPE_U8},  {"|b1", DTYPE_BOOL},
};
enum { DESCRIPTION_COUNT = sizeof(descriptions) / sizeof(descriptions[0]) };

/* ---- reading ---- */

struct scanner {
    const char *at, *end;
};

static void skip_spaces(struct scanner *scanner)
{
    while (scanner->at < scanner->end && (*scanner->at == ' ' || *scanner->at == '\n'))
        scanner->at++;
}

static bool take(struct scanner *scanner, char wanted)
{
    skip_spaces(scanner);
    if (scanner->at < scanner->end && *scanner->at == wanted) {
        scanner->at++;
        return true;
    }
    return false;
}

static bool take_word(struct scanner *scanner, const char *word)
{
    size_t length = strlen(word);
    skip_spaces(scanner);
    if ((size_t)(scanner->end - scanner->at) >= length && memcmp(scanner->at, word, length) == 0) {
        scanner->at += length;
        return true;
    }
    return false;
}

/* A quoted string without escapes, cut to fit text. */
static bool take_string(struct scanner *scanner, char *text, size_t size)
{
    size_t length = 0;
    char quote;

    skip_spaces(scanner);
    if (scanner->at == scanner->end || (*scanner->at != '\'' && *scanner->at != '"'))
        return false;
    quote = *scanner->at++;
    while (scanner->at < scanner->end && *scanner->at != quote) {
        if (*scanner->at == '\\' || length + 1 >= size)
            return false;
        text[length++] = *scanner->at++;
    }
    text[length] = '\0';
    return take(scanner, quote);
}

static bool take_whole_number(struct scanner *scanner, int64_t *number)
{
    bool any = false;
    *number = 0;
    skip_spaces(scanner);
    while (scanner->at < scanner->end && *scanner->at >= '0' && *scanner->at <= '9') {
        if (__builtin_mul_overflow(*number, 10, number) || __builtin_add_overflow(*number, *scanner->at - '0', number))
            return false;
        scanner->at++;
        any = true;
    }
    return any;
}

static dla_status read_descr(struct scanner *scanner, enum dtype *dtype)
{
    char descr[32];
    if (!take_string(scanner, descr, sizeof(descr)))
        return status_set(DLA_ERROR_UNSUPPORTED, "npy header: descr is not a plain type");
    for (int i = 0; i < DESCRIPTION_COUNT; i++) {
        if (strcmp(descr, descriptions[i].descr) == 0) {
            *dtype = descriptions[i].dtype;
            return DLA_OK;
        }
    }
    return status_set(DLA_ERROR_UNSUPPORTED, "npy elements are '%s'; <f4, <f8, <f2, <i8, <i4, <i2, |i1, |u1 and |b1 are read", descr);
}

static dla_status read_shape(struct scanner *scanner, struct tensor_view *tensor)
{
    tensor->rank = 0;
    if (!take(scanner, '('))
        return status_set(DLA_ERROR_FORMAT, "npy header: shape is not a tuple");
    while (!take(scanner, ')')) {
        if (tensor->rank == TENSOR_MAX_RANK)
            return status_set(DLA_ERROR_UNSUPPORTED, "npy array of more than %d dimensions", TENSOR_MAX_RANK);
        if (!take_whole_number(scanner, &tensor->shape[tensor->rank]))
            return status_set(DLA_ERROR_FORMAT, "npy header: the shape holds something that is not a whole number");
        tensor->rank++;
        if (!take(scanner, ',') && (scanner->at == scanner->end || *scanner->at != ')'))
            return status_set(DLA_ERROR_FORMAT, "npy header: the shape does not end");
    }
    return DLA_OK;
}

static dla_status read_header(const char *text, size_t length, struct tensor_view *tensor, bool *fortran_order)
{
    struct scanner scanner = {text, text + length};
    bool has_descr = false, has_order = false, has_shape = false;
    dla_status status = DLA_OK;

    if (!take(&scanner, '{'))
        return status_set(DLA_ERROR_FORMAT, "npy header is not a dictionary");
    while (!take(&scanner, '}')) {
        char key[32];
        if (!take_string(&scanner, key, sizeof(key)) || !take(&scanner, ':'))
            return status_set(DLA_ERROR_FORMAT, "npy header: a key is missing or malformed");
        if (strcmp(key, "descr") == 0 && !has_descr) {
            has_descr = true;
            status = read_descr(&scanner, &tensor->dtype);
        } else if (strcmp(key, "fortran_order") == 0 && !has_order) {
            has_order = true;
            *fortran_order = take_word(&scanner, "True");
            if (!*fortran_order && !take_word(&scanner, "False"))
                status = status_set(DLA_ERROR_FORMAT, "npy header: fortran_order is neither True nor False");
        } else if (strcmp(key, "shape") == 0 && !has_shape) {
            has_shape = true;
            status = read_shape(&scanner, tensor);
        } else {
            status = status_set(DLA_ERROR_FORMAT, "npy header: unexpected or repeated key '%s'", key);
        }
        if (status != DLA_OK)
            return status;
        if (!take(&scanner, ',') && (scanner.at == scanner.end || *scanner.at != '}'))
            return status_set(DLA_ERROR_FORMAT, "npy header does not end");
    }
    skip_spaces(&scanner);
    if (scanner.at != scanner.end || !has_descr || !has_order || !has_shape)
        return status_set(DLA_ERROR_FORMAT, "npy header must hold descr, fortran_order and shape, and nothing else");
    return DLA_OK;
}

dla_status npy_parse(const uint8_t *bytes, size_t size, struct tensor_view *tensor)
{
    bool fortran_order = false;
    int64_t elements;
    dla_status status;

    if (size < 10 || memcmp(bytes, magic, sizeof(magic)) != 0)
        return status_set(DLA_ERROR_FORMAT, "not a .npy file (it does not start with \\x93NUMPY)");
    int version = bytes[6];
    if (version < 1 || version > 3 || bytes[7] != 0)
        return status_set(DLA_ERROR_UNSUPPORTED, "npy version %d.%d; 1.0, 2.0 and 3.0 are read", version, bytes[7]);
    size_t start = version == 1 ? 10 : 12;
    size_t header_bytes = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (version > 1 && size >= start)
        header_bytes |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (size < start || header_bytes > size - start)
        return status_set(DLA_ERROR_FORMAT, "truncated: npy header of %zu bytes in a file of %zu", header_bytes, size);
    *tensor = (struct tensor_view){.name = "npy"};
    if ((status = read_header((const char *)bytes + start, header_bytes, tensor, &fortran_order)) != DLA_OK)
        return status;
    size_t data_bytes = size - start - header_bytes, element_bytes = dtype_size(tensor->dtype);
    if (!shape_elements(tensor->shape, tensor->rank, &elements) || (uint64_t)elements > data_bytes / element_bytes
        || (uint64_t)elements * element_bytes != data_bytes) {
        char shape[128];
        return status_set(DLA_ERROR_FORMAT, "npy array %s of %s does not fill the file's %zu bytes of data",
                          shape_to_text(tensor->shape, tensor->rank, shape, sizeof(shape)), dtype_name(tensor->dtype), data_bytes);
    }
    if (fortran_order)
        tensor_set_column_major(tensor);
    else
        tensor_set_row_major(tensor);
    tensor->data = bytes + start + header_bytes;
    return DLA_OK;
}

dla_status dla_npy_read(const char *path, dla_array *array)
{
    struct mapped_file file = {0};
    struct tensor_view tensor;
    int64_t elements;
    dla_status status;

    if ((status = file_map(path, &file)) != DLA_OK)
        return status;
    if ((status = npy_parse(file.bytes, file.size, &tensor)) != DLA_OK) {
        status_prefix(status, "%s: ", path);
        goto out;
    }
    shape_elements(tensor.shape, tensor.rank, &elements);
    float *values = memory_allocate_zeroed((size_t)elements + 1, sizeof(*values));
    if (values == NULL) {
        status = status_out_of_memory((size_t)elements * sizeof(*values), path);
        goto out;
    }
    tensor_to_float(&tensor, values);
    *array = (dla_array){.rank = tensor.rank, .values = values};
    memcpy(array->shape, tensor.shape, sizeof(array->shape));
out:
    file_unmap(&file);
    return status;
}

/* ---- writing ---- */

enum { HEADER_BYTES = 256 }; /* version 1; holds eight sides of 19 digits; a multiple of 64, as NumPy aligns the data */

static dla_status make_header(const dla_array *array, char header[HEADER_BYTES], size_t *data_bytes)
{
    int64_t elements;
    if (array->rank < 0 || array->rank > DLA_MAX_RANK || !shape_elements(array->shape, array->rank, &elements)
        || elements > INT64_MAX / (int64_t)sizeof(float))
        return status_set(DLA_ERROR_ARGUMENT, "an array of rank %d or of that size cannot be written", array->rank);
    *data_bytes = (size_t)elements * sizeof(float);
    memset(header, ' ', HEADER_BYTES);
    memcpy(header, magic, sizeof(magic));
    header[6] = 1;
    header[7] = 0;
    header[8] = (char)((HEADER_BYTES - 10) & 0xff);
    header[9] = (char)((HEADER_BYTES - 10) >> 8);
    int length = 10;
    length += snprintf(header + length, HEADER_BYTES - (size_t)length, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < array->rank; i++)
        length += snprintf(header + length, HEADER_BYTES - (size_t)length, "%s%lld", i > 0 ? ", " : "", (long long)array->shape[i]);
    length += snprintf(header + length, HEADER_BYTES - (size_t)length, "%s), }", array->rank == 1 ? "," : "");
    header[length] = ' ';
    header[HEADER_BYTES - 1] = '\n';
    return DLA_OK;
}

dla_status dla_npy_write(const char *path, const dla_array *array)
{
    struct atomic_file *file = NULL;
    char header[HEADER_BYTES];
    size_t data_bytes = 0;
    dla_status status;

    if ((status = make_header(array, header, &data_bytes)) != DLA_OK || (status = atomic_file_open(path, &file)) != DLA_OK)
        return status;
    if ((status = atomic_file_write(file, header, sizeof(header))) != DLA_OK
        || (data_bytes > 0 && (status = atomic_file_write(file, array->values, data_bytes)) != DLA_OK)) {
        atomic_file_discard(file);
        return status;
    }
    return atomic_file_commit(file);
}

/* Adds one array as "<name>.npy". The archive reads the bytes when it is closed and frees them then. */
static dla_status add_to_archive(zip_t *archive, const char *path, const char *name, const dla_array *array)
{
    char header[HEADER_BYTES], entry[256];
    size_t data_bytes = 0;
    dla_status status;

    if ((status = make_header(array, header, &data_bytes)) != DLA_OK)
        return status;
    uint8_t *bytes = malloc(HEADER_BYTES + data_bytes); /* libzip frees it, so it must be malloc's */
    if (bytes == NULL)
        return status_out_of_memory(HEADER_BYTES + data_bytes, path);
    memcpy(bytes, header, HEADER_BYTES);
    if (data_bytes > 0)
        memcpy(bytes + HEADER_BYTES, array->values, data_bytes);
    zip_source_t *source = zip_source_buffer(archive, bytes, HEADER_BYTES + data_bytes, 1);
    if (source == NULL) {
        free(bytes);
        return status_out_of_memory(data_bytes, path);
    }
    snprintf(entry, sizeof(entry), "%s.npy", name); /* NOLINT(clang-analyzer-unix.Malloc): the source owns the bytes now */
    zip_int64_t index = zip_file_add(archive, entry, source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
        zip_source_free(source);
        return status_set(DLA_ERROR_ARGUMENT, "%s: cannot add '%s': %s", path, entry, zip_strerror(archive));
    }
    /* Stored, as NumPy does, and undated, so that equal arrays give equal bytes. */
    zip_set_file_compression(archive, (zip_uint64_t)index, ZIP_CM_STORE, 0);
    zip_file_set_dostime(archive, (zip_uint64_t)index, 0, (1 << 5) | 1, 0);
    return DLA_OK;
}

dla_status dla_npz_write(const char *path, const char *const *names, const dla_array *arrays, size_t count)
{
    zip_t *archive = NULL;
    zip_error_t error;
    zip_source_t *memory;
    zip_stat_t stat;
    uint8_t *bytes = NULL;
    dla_status status;

    if (count == 0)
        return status_set(DLA_ERROR_ARGUMENT, "%s: an archive of no arrays cannot be written", path);
    /* The archive is made in memory, so that it reaches the disk like every other file: whole or not at all. */
    zip_error_init(&error);
    memory = zip_source_buffer_create(NULL, 0, 0, &error);
    if (memory == NULL || (archive = zip_open_from_source(memory, ZIP_CREATE | ZIP_TRUNCATE, &error)) == NULL) {
        status = status_set(DLA_ERROR_IO, "%s: cannot make an archive: %s", path, zip_error_strerror(&error));
        zip_source_free(memory);
        memory = NULL;
        goto out;
    }
    zip_source_keep(memory);
    for (size_t i = 0; i < count; i++)
        if ((status = add_to_archive(archive, path, names[i], &arrays[i])) != DLA_OK)
            goto out;
    if (zip_close(archive) != 0) {
        status = status_set(DLA_ERROR_IO, "%s: cannot make the archive: %s", path, zip_strerror(archive));
        goto out;
    }
    archive = NULL;
    zip_stat_init(&stat);
    if (zip_source_stat(memory, &stat) != 0 || (bytes = memory_allocate(stat.size + 1)) == NULL || zip_source_open(memory) != 0
        || zip_source_read(memory, bytes, stat.size) != (zip_int64_t)stat.size) {
        status = status_set(DLA_ERROR_IO, "%s: cannot make the archive: %s", path, zip_error_strerror(zip_source_error(memory)));
        goto out;
    }
    zip_source_close(memory);
    status = file_write(path, bytes, stat.size);
out:
    memory_free(bytes);
    if (archive != NULL)
        zip_discard(archive);
    zip_source_free(memory);
    zip_error_fini(&error);
    return status;
}
