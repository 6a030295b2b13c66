/* training.h - what the trainer needs beside conv.h and map.h: batch normalisation that learns, and gradients.
 *
 * Maps are NHWC; "pixels" counts the pixels of all images together, and a pixel's channels lie together, `stride` floats
 * after those of the pixel before. Every function here works on a run of pixels or on one image with the calling thread
 * alone; the trainer divides the batch. A table per instruction set names them.
 *
 * Batch normalisation over the n pixels of a batch, per channel, as PyTorch does it:
 *
 *     mean = sum(x) / n,  variance = sum((x - mean)^2) / n,  d = 1 / sqrt(variance + epsilon)
 *     z = [relu]( weight * (x - mean) * d + bias [+ residual] )
 *
 * and backward, with m = d loss / d z where z > 0 (everywhere, without relu), else 0:
 *
 *     residual's gradient = m,   bias' = sum(m),   weight' = sum(m * (x - mean)) * d
 *     x's gradient        = weight * d * ( m - bias' / n - (x - mean) * d * weight' / n )
 */
#ifndef DLA_CPU_TRAINING_H
#define DLA_CPU_TRAINING_H

#include "base/cpu_features.h"
#include "cpu/conv_backward.h"

struct const_view {
    const float *data; /* NULL: there is none */
    int64_t stride;    /* floats from one pixel to the next */
};

/* One batch normalisation with what was fused into it, over a run of pixels. */
struct norm_run {
    int64_t pixels;
    int channels;
    bool relu;
    struct const_view in;       /* x */
    struct const_view residual; /* added before the relu */
    struct map_view out;        /* z; read by backward where a residual is there */
    struct const_view out_gradient;
    struct map_view in_gradient;                    /* may be out_gradient's memory */
    struct map_view residual_gradient;              /* data NULL: not wanted */
    bool accumulate_residual;                       /* added to residual_gradient; else it is overwritten */
    bool accumulate_in;                             /* the same for in_gradient (only where it is not out_gradient's memory) */
    const float *scale, *shift;                     /* (channels) z = scale * x + shift: weight * d, bias - mean * scale */
    const float *mean;                              /* (channels) */
    const float *gradient_of_x, *gradient_constant; /* (channels) x' = scale * m + gradient_of_x * (x - mean) + gradient_constant */
};

struct window_shape {
    int channels;
    int in_height, in_width, out_height, out_width;
    int kernel, stride, padding;
    int dilation; /* pools: distance between the pixels of a window, 1 or more */
};

struct training_kernels {
    /* sums: (2, channels), sum of (x - shift) and of its square are added. */
    void (*norm_sums)(const struct norm_run *run, const float *shift, double *sums);
    void (*norm_apply)(const struct norm_run *run);
    /* sums: (2, channels), sum of m and of m * (x - mean) are added. */
    void (*norm_backward_sums)(const struct norm_run *run, double *sums);
    void (*norm_backward_apply)(const struct norm_run *run);

    /* out = [out +] in, channel by channel, over a run of pixels. */
    void (*map_copy)(int64_t pixels, int channels, struct const_view in, struct map_view out, bool accumulate);
    /* in_gradient = [in_gradient +] out_gradient where out > 0. */
    void (*map_relu_backward)(int64_t pixels, int channels, struct const_view out, struct const_view out_gradient,
                              struct map_view in_gradient, bool accumulate);

    /* One image, added to in_gradient. Of equal maxima the first in reading order had the say. */
    void (*max_pool_backward)(const struct window_shape *shape, struct const_view in, struct const_view out_gradient,
                              struct map_view in_gradient);
    void (*average_pool_backward)(const struct window_shape *shape, struct const_view out_gradient, struct map_view in_gradient);
    /* Depthwise; shape.in is the small map. weight, weight_gradient: (kernel, kernel, channels). One image, both added to;
     * in_gradient.data or weight_gradient NULL: not wanted. */
    void (*transposed_conv_backward)(const struct window_shape *shape, const float *weight, struct const_view in,
                                     struct const_view out_gradient, struct map_view in_gradient, float *weight_gradient);

    /* in_gradient = [in_gradient +] gradient - exp(out) * sum over channels of gradient: out are logarithms of probabilities. */
    void (*log_softmax_backward)(int64_t pixels, int channels, struct const_view out, struct const_view out_gradient,
                                 struct map_view in_gradient, bool accumulate);

    size_t (*conv_data_gradient_packed_bytes)(const struct conv_shape *shape, bool exact);
    void (*conv_data_gradient_pack)(const struct conv_shape *shape, bool exact, const float *weight, void *packed);
    size_t (*conv_data_gradient_scratch_bytes)(const struct conv_shape *shape, int threads); /* enough for both */
    void (*conv_data_gradient)(const struct conv_data_gradient_call *call);
    size_t (*conv_weight_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
    void (*conv_weight_gradient)(const struct conv_weight_gradient_call *call);
};

/* Never NULL: the generic table where the instruction set has none of its own. */
const struct training_kernels *training_kernels(enum isa isa);

#endif
