/* cuda_weight.h - what packing for all kernels shares: chunks, and weights in the format of an arithmetic. */
#ifndef DLA_CUDA_CUDA_WEIGHT_H
#define DLA_CUDA_CUDA_WEIGHT_H

#include "cuda/cuda_conv.h"

enum { CUDA_CHUNK_BYTES = 16 };   /* that kernels move at a time */

static inline int divide_up(int a, int b)
{
    return (a + b - 1) / b;
}

/* Its pixels begin and follow one another at multiples of a chunk. */
bool cuda_view_lies_in_chunks(struct cuda_view view, int element_bytes);

/* Rounds a weight to what the arithmetic multiplies and stores it: 4 or 2 bytes. */
void cuda_store_weight(enum cuda_arithmetic arithmetic, float weight, char *to);

/* "float32", "tf32", "float16", "bfloat16". */
const char *cuda_arithmetic_name(enum cuda_arithmetic arithmetic);

#endif
