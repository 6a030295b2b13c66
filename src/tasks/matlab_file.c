/* matlab_file.c - a reader for the part of the MATLAB 5 format that boundary annotations use.
 *
 *     file     = 128 bytes of header, elements
 *     element  = type (4 bytes), size (4 bytes), data, padded to 8 bytes; or, for up to 4 bytes of data, packed into 8 bytes:
 *                size in the upper half of the first word, type in the lower, then the data
 *     type 15  = a zlib stream that holds one element
 *     type 14  = a matrix: elements for flags (class), dimensions, name, then by class
 *                cell:    one matrix a cell
 *                struct:  length of a field name, all names, then for each struct of the array one matrix a field
 *                numbers: one element, whose type may be narrower than the class
 *
 * The walk follows sizes that foreign bytes claim, so every read goes through a cursor that knows where its element ends,
 * nesting is as deep as the calls below and no deeper, and decompression stops at a limit.
 */
#include "tasks/matlab_file.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"

#include <string.h>
#include <zlib.h>

enum { HEADER_BYTES = 128, MAX_ANNOTATORS = 256, MAX_SIDE = 1 << 15, MAX_NAME = 64 };
enum { MAX_INFLATED_BYTES = 1 << 28 }; /* 256 MiB: a hundred times the largest file of the benchmark */

enum element_type {
    TYPE_INT8 = 1,
    TYPE_UINT8 = 2,
    TYPE_INT16 = 3,
    TYPE_UINT16 = 4,
    TYPE_INT32 = 5,
    TYPE_UINT32 = 6,
    TYPE_SINGLE = 7,
    TYPE_DOUBLE = 9,
    TYPE_INT64 = 12,
    TYPE_UINT64 = 13,
    TYPE_MATRIX = 14,
    TYPE_COMPRESSED = 15
};
enum matrix_class { CLASS_CELL = 1, CLASS_STRUCT = 2, CLASS_FIRST_NUMERIC = 6, CLASS_LAST_NUMERIC = 15 };

struct cursor {
    const uint8_t *at, *end;
    const uint8_t *start; /* of the whole buffer, for offsets in messages */
    const char *origin;
};

struct element {
    uint32_t type;
    struct cursor data;
};

struct matrix {
    unsigned class;
    int64_t rows, columns;
    char name[MAX_NAME];
    struct cursor rest; /* what follows the name */
};

static dla_status damaged(const struct cursor *cursor, const char *what)
{
    return status_set(DLA_ERROR_FORMAT, "%s: not a sound MATLAB 5 file: %s at byte %zu", cursor->origin, what,
                      (size_t)(cursor->at - cursor->start));
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static dla_status next_element(struct cursor *cursor, struct element *element)
{
    size_t left = (size_t)(cursor->end - cursor->at);
    uint32_t first, size;

    if (left < 8)
        return damaged(cursor, "an element is cut short");
    first = read_u32(cursor->at);
    element->data = *cursor;
    if (first >> 16) {
        size = first >> 16;
        if (size > 4)
            return damaged(cursor, "a packed element claims more than 4 bytes");
        element->type = first & 0xffff;
        element->data.at = cursor->at + 4;
        cursor->at += 8;
    } else {
        size_t padded;
        size = read_u32(cursor->at + 4);
        if (size > left - 8)
            return damaged(cursor, "an element is larger than what holds it");
        element->type = first;
        element->data.at = cursor->at + 8;
        /* Compressed elements are not padded; a last element may lack its padding. */
        padded = first == TYPE_COMPRESSED ? size : ((size_t)size + 7) / 8 * 8;
        cursor->at += 8 + (padded < left - 8 ? padded : left - 8);
    }
    element->data.end = element->data.at + size;
    return DLA_OK;
}

static size_t data_size(const struct element *element)
{
    return (size_t)(element->data.end - element->data.at);
}

/* Reads flags, dimensions and name of a matrix element. A matrix without any data gives class 0. */
static dla_status open_matrix(const struct element *element, struct matrix *matrix)
{
    struct cursor cursor = element->data;
    struct element part;
    dla_status status;

    memset(matrix, 0, sizeof *matrix);
    matrix->rest = cursor;
    if (element->type != TYPE_MATRIX)
        return damaged(&element->data, "a matrix is missing");
    if (data_size(element) == 0)
        return DLA_OK;
    if ((status = next_element(&cursor, &part)) != DLA_OK)
        return status;
    if (part.type != TYPE_UINT32 || data_size(&part) != 8)
        return damaged(&part.data, "a matrix has no flags");
    matrix->class = read_u32(part.data.at) & 0xff;

    if ((status = next_element(&cursor, &part)) != DLA_OK)
        return status;
    if (part.type != TYPE_INT32 || data_size(&part) != 8)
        return damaged(&part.data, "a matrix has not two dimensions");
    matrix->rows = (int32_t)read_u32(part.data.at);
    matrix->columns = (int32_t)read_u32(part.data.at + 4);
    if (matrix->rows < 0 || matrix->columns < 0 || matrix->rows > MAX_SIDE || matrix->columns > MAX_SIDE)
        return damaged(&part.data, "a matrix is negative or larger than 32768 on a side");

    if ((status = next_element(&cursor, &part)) != DLA_OK)
        return status;
    if (part.type != TYPE_INT8 || data_size(&part) >= MAX_NAME)
        return damaged(&part.data, "a matrix has no name or too long a one");
    memcpy(matrix->name, part.data.at, data_size(&part));
    matrix->rest = cursor;
    return DLA_OK;
}

static size_t number_size(uint32_t type)
{
    switch (type) {
    case TYPE_INT8:
    case TYPE_UINT8:
        return 1;
    case TYPE_INT16:
    case TYPE_UINT16:
        return 2;
    case TYPE_INT32:
    case TYPE_UINT32:
    case TYPE_SINGLE:
        return 4;
    case TYPE_DOUBLE:
    case TYPE_INT64:
    case TYPE_UINT64:
        return 8;
    default:
        return 0;
    }
}

/* Any set bit is non-zero, but for the sign of a floating-point zero, which no boundary map has. */
static bool is_nonzero(const uint8_t *number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (number[i])
            return true;
    return false;
}

/* MATLAB stores columns one after the other; maps have rows. */
static dla_status read_boundaries(const struct matrix *matrix, struct boundary_annotations *annotations)
{
    struct cursor cursor = matrix->rest;
    struct element numbers;
    size_t size, rows = (size_t)matrix->rows, columns = (size_t)matrix->columns;
    uint8_t *map;
    dla_status status;

    if (matrix->class < CLASS_FIRST_NUMERIC || matrix->class > CLASS_LAST_NUMERIC)
        return damaged(&cursor, "'Boundaries' is not a full numeric matrix");
    if (rows == 0 || columns == 0)
        return damaged(&cursor, "'Boundaries' is empty");
    if (annotations->annotator_count > 0 && (matrix->rows != annotations->height || matrix->columns != annotations->width))
        return damaged(&cursor, "annotators' maps differ in size");
    if ((status = next_element(&cursor, &numbers)) != DLA_OK)
        return status;
    size = number_size(numbers.type);
    if (size == 0 || data_size(&numbers) != rows * columns * size)
        return damaged(&numbers.data, "'Boundaries' has not as many numbers as its dimensions say");
    map = arena_allocate_array(&annotations->arena, rows, columns);
    if (!map)
        return status_out_of_memory(rows * columns, "a boundary map");
    for (size_t x = 0; x < columns; x++)
        for (size_t y = 0; y < rows; y++)
            map[y * columns + x] = is_nonzero(numbers.data.at + (x * rows + y) * size, size);
    annotations->height = (int)rows;
    annotations->width = (int)columns;
    annotations->maps[annotations->annotator_count++] = map;
    return DLA_OK;
}

static dla_status read_annotator(const struct matrix *record, struct boundary_annotations *annotations)
{
    static const char wanted[] = "Boundaries";
    struct cursor cursor = record->rest;
    struct element part, names;
    size_t name_length, field_count;
    dla_status status;

    if (record->class != CLASS_STRUCT || record->rows != 1 || record->columns != 1)
        return damaged(&cursor, "a cell of 'groundTruth' is not one struct");
    if ((status = next_element(&cursor, &part)) != DLA_OK || (status = next_element(&cursor, &names)) != DLA_OK)
        return status;
    if (part.type != TYPE_INT32 || data_size(&part) != 4 || names.type != TYPE_INT8)
        return damaged(&part.data, "a struct has no field names");
    name_length = read_u32(part.data.at);
    if (name_length == 0 || name_length > MAX_NAME || data_size(&names) % name_length)
        return damaged(&part.data, "a struct's field names are damaged");
    field_count = data_size(&names) / name_length;
    for (size_t i = 0; i < field_count; i++) {
        const char *name = (const char *)names.data.at + i * name_length;
        struct element field;
        struct matrix matrix;
        if ((status = next_element(&cursor, &field)) != DLA_OK)
            return status;
        if (strnlen(name, name_length) != strlen(wanted) || memcmp(name, wanted, strlen(wanted)) != 0)
            continue;
        if ((status = open_matrix(&field, &matrix)) != DLA_OK)
            return status;
        return read_boundaries(&matrix, annotations);
    }
    return damaged(&cursor, "a struct of 'groundTruth' has no field 'Boundaries'");
}

static dla_status read_ground_truth(const struct matrix *cells, struct boundary_annotations *annotations)
{
    struct cursor cursor = cells->rest;
    int64_t count = cells->rows * cells->columns;

    if (cells->class != CLASS_CELL)
        return damaged(&cursor, "'groundTruth' is not a cell array");
    if (count < 1 || count > MAX_ANNOTATORS)
        return damaged(&cursor, "'groundTruth' has no annotator, or more than 256");
    annotations->maps = arena_allocate_array(&annotations->arena, (size_t)count, sizeof *annotations->maps);
    if (!annotations->maps)
        return status_out_of_memory((size_t)count * sizeof *annotations->maps, "boundary maps");
    for (int64_t i = 0; i < count; i++) {
        struct element element;
        struct matrix record;
        dla_status status = next_element(&cursor, &element);
        if (status != DLA_OK || (status = open_matrix(&element, &record)) != DLA_OK || (status = read_annotator(&record, annotations)) != DLA_OK)
            return status;
    }
    return DLA_OK;
}

/* Inflates a compressed element into *bytes (memory_free). The stream does not say how large it becomes, so the buffer doubles. */
static dla_status inflate_element(const struct element *element, uint8_t **bytes, size_t *size)
{
    z_stream stream = { 0 };
    size_t capacity = 1 << 15, used = 0;
    uint8_t *buffer = NULL;
    int result = Z_OK;
    dla_status status = DLA_OK;

    if (inflateInit(&stream) != Z_OK)
        return status_out_of_memory(1 << 15, "inflating a MATLAB file");
    stream.next_in = (z_const Bytef *)element->data.at;
    stream.avail_in = (uInt)data_size(element);
    while (result == Z_OK && used < MAX_INFLATED_BYTES) {
        uint8_t *larger;
        capacity *= 2;
        larger = memory_resize(buffer, capacity);
        if (!larger) {
            status = status_out_of_memory(capacity, "an inflated MATLAB file");
            goto out;
        }
        buffer = larger;
        stream.next_out = buffer + used;
        stream.avail_out = (uInt)(capacity - used);
        result = inflate(&stream, Z_NO_FLUSH);
        used = capacity - stream.avail_out;
        if (stream.avail_out > 0)
            break; /* the end, or the input is used up before it */
    }
    if (used >= MAX_INFLATED_BYTES)
        status = status_set(DLA_ERROR_LIMIT, "%s: inflates to more than 256 MiB", element->data.origin);
    else if (result != Z_STREAM_END)
        status = damaged(&element->data, "a compressed element is damaged or cut short");
out:
    inflateEnd(&stream);
    if (status != DLA_OK) {
        memory_free(buffer);
        return status;
    }
    *bytes = buffer;
    *size = used;
    return DLA_OK;
}

/* Looks at one variable; sets *found where it is groundTruth. */
static dla_status read_variable(const struct element *element, struct boundary_annotations *annotations, bool *found)
{
    struct matrix matrix;
    dla_status status = open_matrix(element, &matrix);

    if (status != DLA_OK || strcmp(matrix.name, "groundTruth") != 0)
        return status;
    *found = true;
    return read_ground_truth(&matrix, annotations);
}

static dla_status read_compressed_variable(const struct element *element, struct boundary_annotations *annotations, bool *found)
{
    uint8_t *inflated;
    size_t size;
    struct cursor cursor;
    struct element inner;
    dla_status status = inflate_element(element, &inflated, &size);

    if (status != DLA_OK)
        return status;
    cursor = (struct cursor){ inflated, inflated + size, inflated, element->data.origin };
    status = next_element(&cursor, &inner);
    if (status == DLA_OK)
        status = read_variable(&inner, annotations, found);
    memory_free(inflated);
    return status;
}

dla_status boundary_annotations_parse(const uint8_t *bytes, size_t size, const char *origin, struct boundary_annotations *annotations)
{
    static const char magic[] = "MATLAB 5.0 MAT-file";
    struct boundary_annotations parsed = { 0 };
    struct cursor cursor;
    bool found = false;
    dla_status status = DLA_OK;

    if (size < HEADER_BYTES || memcmp(bytes, magic, strlen(magic)) != 0)
        return status_set(DLA_ERROR_FORMAT, "%s: not a MATLAB 5 file (does not start with '%s')", origin, magic);
    if (memcmp(bytes + HEADER_BYTES - 2, "IM", 2) != 0)
        return status_set(DLA_ERROR_UNSUPPORTED, "%s: a big-endian MATLAB file; save it again on a little-endian machine", origin);
    cursor = (struct cursor){ bytes + HEADER_BYTES, bytes + size, bytes, origin };
    while (status == DLA_OK && !found && cursor.at < cursor.end) {
        struct element element;
        status = next_element(&cursor, &element);
        if (status == DLA_OK && element.type == TYPE_COMPRESSED)
            status = read_compressed_variable(&element, &parsed, &found);
        else if (status == DLA_OK && element.type == TYPE_MATRIX)
            status = read_variable(&element, &parsed, &found);
    }
    if (status == DLA_OK && !found)
        status = status_set(DLA_ERROR_FORMAT, "%s: has no variable 'groundTruth', so no boundary annotations", origin);
    if (status != DLA_OK) {
        arena_free(&parsed.arena);
        return status;
    }
    *annotations = parsed;
    return DLA_OK;
}

dla_status boundary_annotations_read(const char *path, struct boundary_annotations *annotations)
{
    struct mapped_file file;
    dla_status status = file_map(path, &file);

    if (status != DLA_OK)
        return status;
    status = boundary_annotations_parse(file.bytes, file.size, path, annotations);
    file_unmap(&file);
    return status;
}

void boundary_annotations_free(struct boundary_annotations *annotations)
{
    arena_free(&annotations->arena);
    memset(annotations, 0, sizeof *annotations);
}
