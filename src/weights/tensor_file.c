/* tensor_file.c - opens a weights file of any format that is known, told by its first bytes and not by its name. */
#include "weights/tensor_file.h"

#include "base/memory.h"
#include "base/status.h"
#include "weights/readers.h"
#include "weights/source.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    bool (*is)(const uint8_t *bytes, size_t size);
    dla_status (*read)(struct tensor_file *file);
} formats[] = {
    {safetensors_is, safetensors_read},
    {torch_zip_is, torch_zip_read},
    {torch_legacy_is, torch_legacy_read},
    {paddle_is, paddle_read}, /* any other pickle: the last */
};
enum { FORMAT_COUNT = sizeof(formats) / sizeof(formats[0]) };

/* What people give instead of weights, and what to do about it. */
static const struct {
    const char *start, *what;
} look_alikes[] = {
    {"version https://git-lfs", "a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`"},
    {"<!DOCTYPE", "a web page; download the file itself"},
    {"<html", "a web page; download the file itself"},
    {"\x89HDF\r\n", "an HDF5 file, which is not read"},
    {"\x1f\x8b", "compressed with gzip; unpack it first"},
    {"\x93NUMPY", "one NumPy array, not named weights"},
};
enum { LOOK_ALIKE_COUNT = sizeof(look_alikes) / sizeof(look_alikes[0]) };

static dla_status unknown_format(const uint8_t *bytes, size_t size)
{
    char start[17];
    size_t length = 0;

    if (size == 0)
        return status_set(DLA_ERROR_FORMAT, "the file is empty");
    for (int i = 0; i < LOOK_ALIKE_COUNT; i++) {
        size_t start_length = strlen(look_alikes[i].start);
        if (size >= start_length && memcmp(bytes, look_alikes[i].start, start_length) == 0)
            return status_set(DLA_ERROR_FORMAT, "this is %s", look_alikes[i].what);
    }
    while (length < sizeof(start) - 1 && length < size) {
        start[length] = isprint(bytes[length]) ? (char)bytes[length] : '.';
        length++;
    }
    start[length] = '\0';
    return status_set(DLA_ERROR_FORMAT,
                      "not a weights file of a known format (starts with \"%s\"); safetensors, PyTorch's and PaddlePaddle's are read",
                      start);
}

/* Beside a side of 0 the product of the others may overflow; no element is ever addressed then. */
static void set_strides(struct tensor_view *tensor, bool last_is_fastest)
{
    uint64_t stride = 1;
    for (int i = 0; i < tensor->rank; i++) {
        int side = last_is_fastest ? tensor->rank - 1 - i : i;
        tensor->strides[side] = (int64_t)stride;
        stride *= (uint64_t)tensor->shape[side];
    }
}

void tensor_set_row_major(struct tensor_view *tensor)
{
    set_strides(tensor, true);
}

void tensor_set_column_major(struct tensor_view *tensor)
{
    set_strides(tensor, false);
}

/* Two tensors of one name: JSON refuses them, a pickle's dict does not. */
static int compare_names(const void *left, const void *right)
{
    const char *const *a = left, *const *b = right;
    return strcmp(*a, *b);
}

static dla_status check_names(const struct tensor_file *file)
{
    size_t count = (size_t)file->tensor_count;
    const char **names = memory_allocate_zeroed(count + 1, sizeof(*names));
    dla_status status = DLA_OK;

    if (names == NULL)
        return status_out_of_memory(count * sizeof(*names), "the list of tensors");
    for (size_t i = 0; i < count; i++)
        names[i] = file->tensors[i].name;
    qsort(names, count, sizeof(*names), compare_names);
    for (size_t i = 1; i < count && status == DLA_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = status_set(DLA_ERROR_FORMAT, "two tensors are called '%.200s'", names[i]);
    memory_free(names);
    return status;
}

static dla_status read_tensors(struct tensor_file *file)
{
    for (int i = 0; i < FORMAT_COUNT; i++)
        if (formats[i].is(file->mapping.bytes, file->mapping.size)) {
            dla_status status = formats[i].read(file);
            return status == DLA_OK ? check_names(file) : status;
        }
    return unknown_format(file->mapping.bytes, file->mapping.size);
}

static dla_status open_bytes(struct mapped_file mapping, bool owns_mapping, const char *origin, struct tensor_file **file)
{
    struct tensor_file *opened = memory_allocate_zeroed(1, sizeof(*opened));
    dla_status status;

    if (opened == NULL) {
        status = status_out_of_memory(sizeof(*opened), "a weights file");
        goto out;
    }
    opened->mapping = mapping;
    opened->owns_mapping = owns_mapping;
    owns_mapping = false; /* tensor_file_close sees to it from here */
    if ((opened->path = arena_copy_string(&opened->arena, origin)) == NULL) {
        status = status_out_of_memory(strlen(origin), "a path");
        goto out;
    }
    if ((status = read_tensors(opened)) != DLA_OK) {
        status_prefix(status, "%s: ", origin);
        goto out;
    }
    *file = opened;
    opened = NULL;
out:
    tensor_file_close(opened);
    if (owns_mapping)
        file_unmap(&mapping);
    return status;
}

dla_status tensor_file_open(const char *source, struct tensor_file **file)
{
    struct mapped_file mapping;
    char *path;
    dla_status status = weights_source_resolve(source, &path);

    if (status != DLA_OK)
        return status;
    if ((status = file_map(path, &mapping)) == DLA_OK)
        status = open_bytes(mapping, true, path, file);
    memory_free(path);
    return status;
}

dla_status tensor_file_open_memory(const uint8_t *bytes, size_t size, const char *origin, struct tensor_file **file)
{
    return open_bytes((struct mapped_file){bytes, size}, false, origin, file);
}

void tensor_file_close(struct tensor_file *file)
{
    if (file == NULL)
        return;
    if (file->owns_mapping)
        file_unmap(&file->mapping);
    arena_free(&file->arena);
    memory_free(file);
}

const struct tensor_view *tensor_file_find(const struct tensor_file *file, const char *name)
{
    for (int i = 0; i < file->tensor_count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

const char *tensor_file_metadata(const struct tensor_file *file, const char *key)
{
    for (int i = 0; i < file->metadata_count; i++)
        if (strcmp(file->metadata[i].key, key) == 0)
            return file->metadata[i].text;
    return NULL;
}
