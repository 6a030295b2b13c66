/* conv.h - the contract between the planner and convolution kernels.
 *
 * A kernel computes, for every pixel and output channel,
 *
 *     out = [relu]( sum over the window and input channels of in * weight + bias [+ residual] )
 *
 * on NHWC maps. The input may be several maps whose channels follow one another (an aggregation node: no concatenation in
 * memory), each with its own distance between pixels, so a slice or part of a wider map is as good as a map of its own.
 * Kernels know nothing of networks. A table per instruction set lists them, best first, the reference last; the planner asks
 * each whether it supports a shape and what it would cost.
 */
#ifndef DLA_CPU_CONV_H
#define DLA_CPU_CONV_H

#include "base/cpu_features.h"
#include "base/thread_pool.h"

enum { CONV_MAX_SOURCES = 12 };    /* the deepest published aggregation node has seven */

struct conv_shape {
    int batch;
    int in_height, in_width, in_channels;      /* in_channels: of all sources together */
    int out_height, out_width, out_channels;
    int kernel, stride, padding, dilation, groups;
    int source_count;
    int source_channels[CONV_MAX_SOURCES];
};

struct map_view {
    float *data;          /* (batch, height, width, channels): element (n, y, x, c) at data[((n*height + y)*width + x)*pixel_stride + c] */
    int64_t pixel_stride; /* floats from one pixel to the next, >= channels */
};

/* The pixel_stride for a new map: of pixels a multiple of 2 KB apart all would fall on two of L1's 64 sets, and a tile's would evict each other;
 * with a line more they spread over all. */
static inline int map_stride(int channels)
{
    enum { ALIAS_FLOATS = 512, PAD_FLOATS = 16 };
    return channels % ALIAS_FLOATS == 0 ? channels + PAD_FLOATS : channels;
}

struct conv_call {
    const struct conv_shape *shape;
    struct map_view sources[CONV_MAX_SOURCES];
    const void *packed;        /* what the kernel's pack wrote */
    const float *bias;         /* (out_channels), never NULL */
    struct map_view residual;  /* (batch, out_height, out_width, out_channels); data NULL: none. May be `out` itself: a kernel
                                * reads an element's residual before it writes the element, and reads it once */
    struct map_view out;
    bool relu;
    void *scratch;             /* scratch_bytes, 64-byte aligned, contents arbitrary */
    struct thread_pool *pool;
};

struct conv_kernel {
    const char *name;          /* "winograd4x4_avx512" */
    bool winograd;             /* its sums are not those of a direct convolution in plain float32 */
    bool half;                 /* it rounds weights to float16, for fewer bytes: used only where that is asked for */
    bool (*supports)(const struct conv_shape *shape);
    size_t (*packed_bytes)(const struct conv_shape *shape);
    /* weight: (out_channels, in_channels / groups, kernel, kernel), batch norm's scale is scale[out_channel], applied here. */
    void (*pack)(const struct conv_shape *shape, const float *weight, const float *scale, void *packed);
    size_t (*scratch_bytes)(const struct conv_shape *shape, int threads);
    /* Multiply-adds of the vector units between maps and weights, or what takes as long, transforms not counted; NULL: those of the
     * definition. */
    double (*products)(const struct conv_shape *shape);
    /* Estimated microseconds on one core of a typical machine: only the ranking matters. */
    double (*cost)(const struct conv_shape *shape, int threads);
    void (*run)(const struct conv_call *call);
};

/* The kernels of one instruction set, best first; *count how many. The reference is in every list, last. */
const struct conv_kernel *const *conv_kernels(enum isa isa, int *count);

extern const struct conv_kernel conv_reference;

#endif
