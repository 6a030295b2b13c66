/* map.h - everything that is done to feature maps beside convolution: pooling, sums, copies, upsampling.
 *
 * All of it is bound by memory, not arithmetic. There is one call structure and one table of functions per instruction set;
 * the reference table is the definition that the others are tested against. Maps are NHWC views as in conv.h.
 */
#ifndef DLA_CPU_MAP_H
#define DLA_CPU_MAP_H

#include "cpu/conv.h"

struct map_call {
    int batch, channels;                 /* of the result */
    int in_height, in_width;
    int out_height, out_width;
    int kernel, stride, padding;         /* pools and transposed convolution */
    int dilation;                        /* pools: distance between the pixels of a window, 1 or more */
    struct map_view in, other;           /* other: second operand of add */
    int in_channels, groups;             /* transposed convolution */
    const float *weight;                 /* transposed convolution: (kernel, kernel, in_channels, channels / groups) */
    const float *scale, *shift;          /* scale_shift: (channels); transposed convolution: shift is its bias, or NULL */
    struct map_view out;
    bool relu;                           /* add, scale_shift: afterwards */
    struct thread_pool *pool;
};

typedef void map_function(const struct map_call *call);

struct map_functions {
    map_function *max_pool;              /* ceil mode: the maximum of what lies inside the map */
    map_function *average_pool;          /* sum over the window / kernel^2: padding counts as zeros */
    map_function *global_average_pool;
    map_function *add;                   /* out = in + other */
    map_function *scale_shift;           /* out = in * scale + shift: a batch norm that no convolution took over */
    map_function *relu;
    map_function *copy;                  /* the top left out_height x out_width of the input: crop, slice, concatenation */
    map_function *transposed_conv;       /* out[y*stride - padding + ky][...] += in[y][x] * weight[ky][kx] */
    map_function *log_softmax;           /* over channels */
};

extern const struct map_functions map_reference;

/* The functions of an instruction set. */
const struct map_functions *map_functions_for(enum isa isa);

/* Pixel (image, y, x) of a map of that height and width. */
static inline float *map_pixel(const struct map_view *map, int height, int width, int image, int y, int x)
{
    return map->data + (((int64_t)image * height + y) * width + x) * map->pixel_stride;
}

#endif
