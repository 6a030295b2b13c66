/* winograd_tile.h - one tile of a map: from its inputs to V, and from M to its outputs (see winograd4x4.c). */
#ifndef DLA_CPU_ISA_WINOGRAD_TILE_H
#define DLA_CPU_ISA_WINOGRAD_TILE_H

#include "cpu/conv.h"
#include "cpu/isa/winograd_kernels.h"

/* Where a tile lies. */
struct tile {
    int image, y, x; /* of its first output */
    struct narrow narrow;
};

/* Channels [first, first + count) of a source's tile to V, of which `out` is point 0. Rows of points and the points of a row are so many
 * floats apart. */
static void transform_tile(const struct conv_call *call, const struct tile *tile, int source, int first, int count, float *out,
                           int64_t row_points, int64_t point_stride)
{
    const struct conv_shape *s = call->shape;
    const struct map_view *map = &call->sources[source];
    int y = tile->y - s->padding, x = tile->x - s->padding;
    struct window inside = {
        .top = y < 0 ? -y : 0,
        .bottom = s->in_height - y,
        .left = x < 0 ? -x : 0,
        .right = s->in_width - x,
    };
    int shape = 2 * tile->narrow.y + tile->narrow.x;
    bool whole = shape == 0 && inside.top == 0 && inside.left == 0 && inside.bottom >= WINOGRAD_IN && inside.right >= WINOGRAD_IN;
    int64_t pixel = ((int64_t)tile->image * s->in_height + y) * s->in_width + x;
    const float *in = map->data + pixel * map->pixel_stride + first;

    for (int lane = 0; lane < count; lane += VEC_WIDTH) {
        int lanes = count - lane < VEC_WIDTH ? count - lane : VEC_WIDTH;
        input_functions[whole && lanes == VEC_WIDTH ? WHOLE_TILE : shape](in + lane, s->in_width * map->pixel_stride, map->pixel_stride,
                                                                          &inside, lanes, out + lane, row_points, point_stride);
    }
}

/* The tile's results for `channels` outputs from first_out on; `m` is its point 0 in M. */
static void finish_tile(const struct conv_call *call, const struct tile *tile, int first_out, int channels, const float *m,
                        int64_t point_stride)
{
    const struct conv_shape *s = call->shape;
    int shape = 2 * tile->narrow.y + tile->narrow.x;
    int rows = s->out_height - tile->y < WINOGRAD_OUT ? s->out_height - tile->y : WINOGRAD_OUT;
    int columns = s->out_width - tile->x < WINOGRAD_OUT ? s->out_width - tile->x : WINOGRAD_OUT;
    bool whole = rows == WINOGRAD_OUT && columns == WINOGRAD_OUT; /* read back from `to`, both at once, they would wait for all stores */
    int64_t pixel = ((int64_t)tile->image * s->out_height + tile->y) * s->out_width + tile->x;
    struct tile_output to = {
        .out_row = s->out_width * call->out.pixel_stride,
        .out_pixel = call->out.pixel_stride,
        .residual_row = s->out_width * call->residual.pixel_stride,
        .residual_pixel = call->residual.pixel_stride,
        .rows = rows,
        .columns = columns,
        .relu = call->relu,
    };

    for (int lane = 0; lane < channels; lane += VEC_WIDTH) {
        to.lanes = channels - lane < VEC_WIDTH ? channels - lane : VEC_WIDTH;
        to.out = call->out.data + pixel * to.out_pixel + first_out + lane;
        to.residual = call->residual.data ? call->residual.data + pixel * to.residual_pixel + first_out + lane : NULL;
        output_functions[whole && to.lanes == VEC_WIDTH ? WHOLE_TILE : shape](m + lane, point_stride, vec_load_first(call->bias + first_out + lane, to.lanes), &to);
    }
}

#endif
