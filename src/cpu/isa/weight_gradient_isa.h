/* weight_gradient_isa.h - what the ways to a convolution's weight gradient share, and how conv_weight_gradient.c reaches them. */
#ifndef DLA_CPU_ISA_WEIGHT_GRADIENT_ISA_H
#define DLA_CPU_ISA_WEIGHT_GRADIENT_ISA_H

#include "cpu/isa/groups_isa.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/training_isa.h"

enum {
    MAX_CHUNKS = 16,   /* private sums: more than cores on most machines, and few enough to add up */
    BLOCK_PIXELS = 192 /* least output pixels between two visits to a tile's sums: 24 KB of a column tile, in L1 */
};

/* weight_gradient_groups.c: narrow_groups(shape). */
size_t ISA_NAME(groups_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(groups_gradient)(const struct conv_weight_gradient_call *call);

/* weight_gradient_rows.c: the wide, shallow first layers. */
bool ISA_NAME(rows_gradient_supports)(const struct conv_shape *shape);
size_t ISA_NAME(rows_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(rows_gradient)(const struct conv_weight_gradient_call *call);

/* weight_gradient_winograd.c: dense 3x3 of stride 1. */
bool ISA_NAME(winograd_gradient_supports)(const struct conv_shape *shape);
size_t ISA_NAME(winograd_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(winograd_gradient)(const struct conv_weight_gradient_call *call);

/* weight_gradient_stride2.c: dense 3x3 of stride 2 with few channels. */
bool ISA_NAME(stride2_gradient_supports)(const struct conv_shape *shape);
size_t ISA_NAME(stride2_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(stride2_gradient)(const struct conv_weight_gradient_call *call);

/* weight_gradient_winograd7x7.c: 7x7 of stride 1 over an image. */
bool ISA_NAME(stem_gradient_supports)(const struct conv_shape *shape);
size_t ISA_NAME(stem_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(stem_gradient)(const struct conv_weight_gradient_call *call);

/* weight_gradient_pointwise.c: 1x1 of stride 1 with many channels. */
bool ISA_NAME(pointwise_gradient_supports)(const struct conv_shape *shape);
size_t ISA_NAME(pointwise_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(pointwise_gradient)(const struct conv_weight_gradient_call *call);

/* Rows of the padded input that `rows` output rows read. */
static inline int input_rows(const struct conv_shape *s, int rows)
{
    return (rows - 1) * s->stride + (s->kernel - 1) * s->dilation + 1;
}

/* The first image of a chunk that private sums are taken over; chunks depend on the batch alone. */
static inline int first_image(const struct conv_shape *s, int chunk, int chunks)
{
    return (int)((int64_t)s->batch * chunk / chunks);
}

#endif
