/* gemm_params.h - what the matrix product kernels are told, and which of them there are. Shared by host and device.
 *
 * A convolution is the product of two matrices that nobody builds:
 *
 *     out (rows, outputs) = A (rows, K) * B (K, outputs),      rows: pixels of the result, all images one after the other
 *
 * A's row of a pixel holds the window's input channels, cut into chunks of 16 bytes; a chunk is a few channels of one tap. Eight
 * chunks, 128 bytes of every row, are one step of the sum. The order of steps is: sources; of a source blocks of eight chunks of
 * channels; of a block all taps, so that a step reads nearly the pixels that the step before read, out of L1. A source of fewer
 * than eight chunks puts several taps into a step:
 *
 *     chunks of a tap      taps of a step
 *     8 (or a multiple)    1
 *     4, 2, 1              2, 4, 8
 *
 * B is packed as (set, step, output, 128 bytes). A set is a group of a grouped convolution, or several neighbouring groups
 * together, whose weights then are a block-diagonal matrix: tensor cores multiply zeros faster than others can avoid it.
 */
#ifndef DLA_CUDA_GEMM_PARAMS_H
#define DLA_CUDA_GEMM_PARAMS_H

#include "cuda/cuda_weight.h"

enum { CHUNK_BYTES = CUDA_CHUNK_BYTES, PIECE_BYTES = 8, STEP_CHUNKS = 8, STEP_BYTES = CHUNK_BYTES * STEP_CHUNKS };

struct gemm_source {
    const char *data;          /* (pixels, stride bytes) */
    int stride;                /* bytes from pixel to pixel */
    int chunks, pieces;        /* of a set's channels: of 16 and of 8 bytes, the last chunk may be half empty */
};

struct gemm_params {
    struct gemm_source sources[CONV_MAX_SOURCES];
    int in_height, in_width;
    int rows, image_rows, out_width;     /* image_rows: pixels of one image of the result */
    int kernel, taps, stride, padding, dilation;
    int inverse;               /* 2^16 / kernel, rounded up: tap / kernel is tap * inverse >> 16 */
    int chunk_shift;           /* 2^chunk_shift chunks of a tap in a step */
    int taps_a_step, steps_a_block, steps;
    int set_bytes;             /* of a pixel's channels, from set to set */
    int set_outputs, tiles_a_set;
    int split;                 /* blocks of a cluster that share the steps of one tile */
    const char *packed;        /* (sets, steps, set_outputs, 128 bytes) */
    const float *bias;         /* (sets * set_outputs) */
    const void *residual;      /* NULL, or elements as of out */
    void *out;
    int64_t residual_stride, out_stride;   /* elements */
    bool relu;
    int access;                /* bytes in which out and residual may be accessed: 16, 8, or 0: single elements */
};

/* One compiled kernel. */
struct gemm_tile {
    const void *function;      /* __global__ void (struct gemm_params) */
    const char *name;          /* "128x64" */
    int rows, columns, threads;
    int shared_bytes;
    int blocks;                /* that fit a multiprocessor, as far as shared memory goes */
    bool hopper;               /* only for compute capability 9.0: warpgroup products */
    bool pieces;               /* for sources that lie at multiples of 8 bytes, not all of 16: a Res2Net's slices of 28 halves */
    double speed;              /* multiply-adds a nanosecond and multiprocessor, on an H200 with many steps: for estimates */
};

#ifdef __cplusplus
extern "C" {
#endif

/* The kernels of an arithmetic, largest tile first. */
const struct gemm_tile *gemm_exact_tiles(int *count);
const struct gemm_tile *gemm_tf32_tiles(int *count);
const struct gemm_tile *gemm_half_tiles(int *count);
const struct gemm_tile *gemm_brain_tiles(int *count);

#ifdef __cplusplus
}
#endif
#endif
