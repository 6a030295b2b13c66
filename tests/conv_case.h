/* conv_case.h - convolutions that kernels are tested with: a row of a table, and the shape that it stands for. */
#ifndef DLA_TESTS_CONV_CASE_H
#define DLA_TESTS_CONV_CASE_H

#include "cpu/conv.h"

struct conv_case {
    int batch, height, width, in, out, kernel, stride, dilation, groups; /* 0: 1 */
    int sources[CONV_MAX_SOURCES];   /* channels of each; none: a single source */
    float magnitude;                 /* of the maps, on the processor; what they are multiplied with makes up for it. 0: all about 1 */
    unsigned in_layout, out_layout;  /* on the GPU: enum layout of cuda_maps.h */
    bool residual, in_place, no_relu;
    const char *why;
};

/* The map keeps its size, but for the stride; windows of even size have no padding. */
static struct conv_shape conv_case_shape(const struct conv_case *c)
{
    struct conv_shape s = {
        .batch = c->batch ? c->batch : 1,
        .in_height = c->height,
        .in_width = c->width,
        .in_channels = c->in,
        .out_channels = c->out,
        .kernel = c->kernel,
        .stride = c->stride ? c->stride : 1,
        .dilation = c->dilation ? c->dilation : 1,
        .groups = c->groups ? c->groups : 1,
        .source_count = 1,
        .source_channels = {c->in},
    };
    s.padding = s.kernel % 2 == 0 ? 0 : s.dilation * (s.kernel - 1) / 2;
    s.out_height = (s.in_height + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
    s.out_width = (s.in_width + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
    if (c->sources[0]) {
        s.source_count = 0;
        for (int i = 0; i < CONV_MAX_SOURCES && c->sources[i]; i++)
            s.source_channels[s.source_count++] = c->sources[i];
    }
    return s;
}

#endif
