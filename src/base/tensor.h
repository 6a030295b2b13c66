/* tensor.h - element types, shapes and views of tensors in foreign files. Owns nothing. */
#ifndef DLA_BASE_TENSOR_H
#define DLA_BASE_TENSOR_H

#include <dla/dla.h>

enum { TENSOR_MAX_RANK = 8 };

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F64, DTYPE_I64, DTYPE_I32, DTYPE_I16, DTYPE_I8, DTYPE_U8, DTYPE_BOOL, DTYPE_COUNT };

size_t dtype_size(enum dtype dtype);
const char *dtype_name(enum dtype dtype);        /* "float32" */

/* A tensor that lives in somebody else's memory. Strides count elements, so that PyTorch's views can be described. */
struct tensor_view {
    const char *name;
    enum dtype dtype;
    int rank;
    int64_t shape[TENSOR_MAX_RANK];
    int64_t strides[TENSOR_MAX_RANK];
    const void *data;                             /* first element, not necessarily aligned */
};

/* Product of the sides (1 for a scalar); false where it overflows int64 or a side is negative. */
bool shape_elements(const int64_t *shape, int rank, int64_t *elements);

bool tensor_is_contiguous(const struct tensor_view *tensor);

/* Writes all elements in row-major order as float32. Integers are converted, too. */
void tensor_to_float(const struct tensor_view *tensor, float *out);

/* "(64, 3, 7, 7)" into text; returns text. */
char *shape_to_text(const int64_t *shape, int rank, char *text, size_t size);

/* IEEE half and bfloat16, round to nearest even. */
float half_to_float(uint16_t half);
uint16_t float_to_half(float value);
float bfloat16_to_float(uint16_t value);
uint16_t float_to_bfloat16(float value);

#endif
