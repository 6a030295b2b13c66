/* conv_backward.h - the gradients of a convolution.
 *
 * With  out[q][o] = sum over taps t and input channels i of  in[q * stride + t * dilation - padding][i] * weight[o][i][t]
 * and g = d loss / d out,
 *
 *     d loss / d in[p][i]        = sum over (q, t) that reach p, and o, of  g[q][o] * weight[o][i][t]
 *     d loss / d weight[o][i][t] = sum over q of                            g[q][o] * in[q * stride + t * dilation - padding][i]
 *
 * Where the stride is 1, the first is itself a convolution of g with the weights turned by half a turn and their channels
 * exchanged (conv_turn_weights), so the kernels of conv.h serve it; the second is a matrix product over pixels.
 *
 * Sums over the batch are taken in an order that depends on the shape alone: the result is the same for any number of threads.
 */
#ifndef DLA_CPU_CONV_BACKWARD_H
#define DLA_CPU_CONV_BACKWARD_H

#include "cpu/conv.h"

struct conv_data_gradient_call {
    const struct conv_shape *shape; /* of the forward convolution; source_count is not looked at */
    const float *weight;            /* (out_channels, in_channels / groups, kernel, kernel): the reference's */
    const void *packed;             /* the same by conv_data_gradient_pack, 64-byte aligned: the others' */
    bool exact;                     /* no Winograd; as when they were packed */
    struct map_view out_gradient;   /* (batch, out_height, out_width, out_channels) */
    struct map_view in_gradient;    /* (batch, in_height, in_width, in_channels): written */
    bool accumulate;                /* added to in_gradient instead */
    void *scratch;                  /* conv_data_gradient_scratch_bytes, 64-byte aligned */
    struct thread_pool *pool;
};

struct conv_weight_gradient_call {
    const struct conv_shape *shape;
    struct map_view in;           /* (batch, in_height, in_width, in_channels) */
    struct map_view out_gradient; /* (batch, out_height, out_width, out_channels) */
    float *weight_gradient;       /* (out_channels, in_channels / groups, kernel, kernel): added to */
    bool exact;                   /* no Winograd, no pairs of pixels, no digits (AMX) */
    bool pairs;                   /* pairs of pixels on every processor, for tests; else where they are faster */
    void *scratch;                /* conv_weight_gradient_scratch_bytes, 64-byte aligned */
    struct thread_pool *pool;
};

/* The definitions: obvious loops, sums in double, one thread, no scratch. */
void conv_data_gradient_reference(const struct conv_data_gradient_call *call);
void conv_weight_gradient_reference(const struct conv_weight_gradient_call *call);

/* turned: (in_channels, out_channels / groups, kernel, kernel), the weights of the convolution that takes out_gradient to
 * in_gradient where the stride is 1; conv_turned_shape is that convolution. */
void conv_turn_weights(const struct conv_shape *shape, const float *weight, float *turned);
struct conv_shape conv_turned_shape(const struct conv_shape *shape);

#endif
