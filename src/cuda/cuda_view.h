/* cuda_view.h - maps in the GPU's memory: NHWC as on the processor, in one of three formats. */
#ifndef DLA_CUDA_CUDA_VIEW_H
#define DLA_CUDA_CUDA_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cuda_format { CUDA_FLOAT32, CUDA_FLOAT16, CUDA_BFLOAT16 };

static inline size_t cuda_format_bytes(enum cuda_format format)
{
    return format == CUDA_FLOAT32 ? 4 : 2;
}

struct cuda_view {
    void *data;             /* (batch, height, width, channels): element (n, y, x, c) at [((n*height + y)*width + x)*pixel_stride + c] */
    int64_t pixel_stride;   /* elements from one pixel to the next, >= channels */
};

#endif
