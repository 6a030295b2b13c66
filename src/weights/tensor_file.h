/* tensor_file.h - named tensors in a weights file, whatever its format.
 *
 * Every reader (safetensors, and PyTorch's and Paddle's formats) yields the same thing: views into the mapped file, and text
 * metadata. Nothing is converted or copied before somebody asks for it.
 */
#ifndef DLA_WEIGHTS_TENSOR_FILE_H
#define DLA_WEIGHTS_TENSOR_FILE_H

#include "base/arena.h"
#include "base/file.h"
#include "base/tensor.h"

struct metadata_entry {
    const char *key, *text;
};

struct tensor_file {
    struct arena arena; /* owns names, views and metadata */
    struct mapped_file mapping;
    bool owns_mapping;           /* false: the bytes are the caller's */
    const char *path;            /* for messages; the arena's */
    const char *format;          /* "safetensors" */
    struct tensor_view *tensors; /* in the file's order; names are unique */
    int tensor_count;
    struct metadata_entry *metadata;
    int metadata_count;
};

/* Strides of a tensor whose last side varies fastest, from its rank and shape (whose product is known to fit). */
void tensor_set_row_major(struct tensor_view *tensor);
void tensor_set_column_major(struct tensor_view *tensor); /* Fortran's order */

/* Opens a file, its format told by content. `source` is a path, or what weights/source.h makes one of. */
dla_status tensor_file_open(const char *source, struct tensor_file **file);
/* The same for bytes that stay the caller's (the built-in network, fuzzers). */
dla_status tensor_file_open_memory(const uint8_t *bytes, size_t size, const char *origin, struct tensor_file **file);
void tensor_file_close(struct tensor_file *file);

const struct tensor_view *tensor_file_find(const struct tensor_file *file, const char *name); /* or NULL */
const char *tensor_file_metadata(const struct tensor_file *file, const char *key);            /* or NULL */

#endif
