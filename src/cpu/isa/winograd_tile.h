/* winograd_tile.h - one tile of a map: from its inputs to V, and from M to its outputs (see winograd4x4.c). */
#ifndef DLA_CPU_ISA_WINOGRAD_TILE_H
#define DLA_CPU_ISA_WINOGRAD_TILE_H

#include "cpu/conv.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/winograd_kernels.h"

/* Where a tile lies. */
struct tile {
    int image, y, x; /* of its first output */
    struct narrow narrow;
};

/* Tile `index` of all images, row by row, none of them narrow. */
static inline struct tile tile_in_order(int tile_rows, int tile_columns, int index)
{
    int in_image = index % (tile_rows * tile_columns);
    return (struct tile){
        .image = index / (tile_rows * tile_columns),
        .y = in_image / tile_columns * WINOGRAD_OUT,
        .x = in_image % tile_columns * WINOGRAD_OUT,
    };
}

/* Channels [first, first + count) of a source's tile to V, of which `out` is point 0. Rows of points and the points of a row are so many
 * floats apart. */
static inline void transform_tile(const struct conv_call *call, const struct tile *tile, int source, int first, int count, float *out,
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
    /* Chosen here: `whole`, kept on the stack, is written as one byte and read as four, which waits for all stores before it. */
    input_function *of_whole_vectors = input_functions[whole ? WHOLE_TILE : shape];
    int64_t pixel = ((int64_t)tile->image * s->in_height + y) * s->in_width + x;
    const float *in = map->data + pixel * map->pixel_stride + first;

    for (int lane = 0; lane < count; lane += VEC_WIDTH) {
        int lanes = count - lane < VEC_WIDTH ? count - lane : VEC_WIDTH;
        (lanes == VEC_WIDTH ? of_whole_vectors : input_functions[shape])(in + lane, s->in_width * map->pixel_stride, map->pixel_stride,
                                                                         &inside, lanes, out + lane, row_points, point_stride);
    }
}

/* The tile's results for `channels` outputs from first_out on; `m` is its point 0 in M. */
static inline void finish_tile(const struct conv_call *call, const struct tile *tile, int first_out, int channels, const float *m,
                               int64_t point_stride)
{
    const struct conv_shape *s = call->shape;
    int shape = 2 * tile->narrow.y + tile->narrow.x;
    int rows = smaller(s->out_height - tile->y, WINOGRAD_OUT), columns = smaller(s->out_width - tile->x, WINOGRAD_OUT);
    bool whole = rows == WINOGRAD_OUT && columns == WINOGRAD_OUT; /* read back from `to`, both at once, they would wait for all stores */
    int64_t pixel = ((int64_t)tile->image * s->out_height + tile->y) * s->out_width + tile->x;

    for (int lane = 0; lane < channels; lane += VEC_WIDTH) {
        int lanes = smaller(channels - lane, VEC_WIDTH);
        struct tile_output to = output_of(call, first_out + lane, rows, lanes);
        place_output(&to, call, pixel, first_out + lane, columns);
        output_functions[whole && lanes == VEC_WIDTH ? WHOLE_TILE : shape](m + lane, point_stride, &to);
    }
}

#endif
