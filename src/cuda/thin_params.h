/* thin_params.h - what the kernels for few channels are told, and which of them there are. Shared by host and device. */
#ifndef DLA_CUDA_THIN_PARAMS_H
#define DLA_CUDA_THIN_PARAMS_H

#include "cuda/cuda_conv.h"

struct thin_params {
    const char *in;            /* (batch, in_height, in_width, in_stride bytes) */
    int in_stride;
    int in_height, in_width, out_height, out_width;
    int padding;
    int tiles_x, tiles_y, tiles;   /* tiles: of all images */
    const char *packed;        /* (sets, outputs, pitch of a row) */
    const float *bias;         /* (sets, outputs) */
    void *out;                 /* elements */
    int64_t out_stride;        /* elements */
    bool relu;
};

/* One compiled kernel. */
struct thin_kernel {
    const void *function;      /* __global__ void (struct thin_params) */
    int kernel, stride, chunks, outputs;
    int tile_height, tile_width;
    int steps;                 /* of two chunks */
    int row_bytes;             /* of the packed weights of an output */
    int shared_bytes, threads;
};

#ifdef __cplusplus
extern "C" {
#endif

/* The kernels of an arithmetic. */
const struct thin_kernel *thin_kernels(enum cuda_arithmetic arithmetic, int *count);

#ifdef __cplusplus
}
#endif
#endif
