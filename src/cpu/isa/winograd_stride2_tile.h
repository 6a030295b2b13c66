/* winograd_stride2_tile.h - what convolutions of 3x3 and stride 2 in Winograd's F(4x4, 2x2) share: points, tiles, the inputs' transform.
 *
 * Along one side, an output of stride 2 is two taps on even inputs and one on an odd input:
 *
 *     y[k] = (w0 x[2k] + w2 x[2k + 2]) + w1 x[2k + 1]        a filter of two taps, F(4, 2), and plain products
 *
 * Four outputs take five products at the points +-a, +-b and infinity and four plain ones, nine instead of twelve; 81 instead of 144
 * in two dimensions. Of these nine "points" of a side the last four have the same weight, so there are 6 x 6 different weights, each
 * for 1, 4 or 16 points:
 *
 *     y \ x            even, 5 points     odd, 4 outputs
 *     even, 5 points    25 x 1             5 x 4
 *     odd, 4 outputs     5 x 4             1 x 16
 *
 * For the three maps see winograd_transform.h. a = 3/8 and b = 5/4 were found by search; the error is two thirds of F(4x4, 3x3)'s.
 */
#ifndef DLA_CPU_ISA_WINOGRAD_STRIDE2_TILE_H
#define DLA_CPU_ISA_WINOGRAD_STRIDE2_TILE_H

#include "cpu/conv.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/vector.h"

enum {
    OUT = 4, /* outputs a side of a tile */
    IN = 9,  /* inputs a side, and points: EVEN of the even inputs, then the odd inputs themselves */
    EVEN = 5,
    POINTS = IN * IN,
    SIDE_WEIGHTS = EVEN + 1, /* of a side: the odd ones share theirs */
    WEIGHTS = SIDE_WEIGHTS * SIDE_WEIGHTS,
    TAPS = 9
};

#define A 0.375f
#define B 1.25f

static bool has_stride2_tiles(const struct conv_shape *s)
{
    return s->kernel == 3 && s->stride == 2 && s->dilation == 1 && s->groups == 1;
}

/* Of weight `index`: how many points share it. */
static inline int points_of(int index)
{
    return (index / SIDE_WEIGHTS < EVEN ? 1 : OUT) * (index % SIDE_WEIGHTS < EVEN ? 1 : OUT);
}

/* Where point (y, x) stands in V and M, so that those of one weight are neighbours and the weights follow one another. */
ALWAYS_INLINE int slot(int y, int x)
{
    if (y < EVEN)
        return y * IN + x;
    return EVEN * IN + (x < EVEN ? x * OUT + y - EVEN : EVEN * OUT + (y - EVEN) * OUT + x - EVEN);
}

/* Where a tile's outputs begin. */
struct tile {
    int image, y, x;
};

static struct tile tile_at(int tile_rows, int tile_columns, int index)
{
    int in_image = index % (tile_rows * tile_columns);
    return (struct tile){
        .image = index / (tile_rows * tile_columns),
        .y = in_image / tile_columns * OUT,
        .x = in_image % tile_columns * OUT,
    };
}

/* The even inputs of a side: c(+-a) = (x +- a) (x^2 - b^2), c(infinity) = (x^2 - a^2) (x^2 - b^2). */
ALWAYS_INLINE void even_line(const vec d[EVEN], vec v[EVEN])
{
    vec even_a = vec_fnma(vec_all(B * B), d[0], d[2]), odd_a = vec_fnma(vec_all(B * B), d[1], d[3]);
    vec even_b = vec_fnma(vec_all(A * A), d[0], d[2]), odd_b = vec_fnma(vec_all(A * A), d[1], d[3]);

    v[0] = vec_fma(vec_all(A), even_a, odd_a);
    v[1] = vec_fnma(vec_all(A), even_a, odd_a);
    v[2] = vec_fma(vec_all(B), even_b, odd_b);
    v[3] = vec_fnma(vec_all(B), even_b, odd_b);
    v[4] = vec_fma(vec_all(A * A * B * B), d[0], vec_fnma(vec_all(A * A + B * B), d[2], d[4]));
}

/* Rows [top, bottom) and columns [left, right) of a tile's inputs that lie inside the map, and how many lanes of a vector are channels. */
struct window {
    int top, bottom, left, right, lanes;
};

ALWAYS_INLINE vec load_input(const float *in, int64_t row_stride, int64_t pixel_stride, const struct window *inside, int y, int x,
                             const bool whole)
{
    const float *pixel = in + y * row_stride + x * pixel_stride;

    if (whole)
        return vec_load(pixel);
    if (x >= inside->left && x < inside->right && y >= inside->top && y < inside->bottom)
        return vec_load_first(pixel, inside->lanes);
    return vec_zero();
}

/* V of one tile for one vector of channels: point p at out + slot(p) * slot_floats. `in` is the tile's first input, which need not exist;
 * `whole`: all of them do. */
ALWAYS_INLINE void transform_input(const float *in, int64_t row_stride, int64_t pixel_stride, const struct window *inside, float *out,
                                   const int64_t slot_floats, const bool whole)
{
    vec half[EVEN][IN];

    UNROLL(9)
    for (int x = 0; x < IN; x++) {
        vec d[EVEN], v[EVEN];
        UNROLL(5)
        for (int y = 0; y < EVEN; y++)
            d[y] = load_input(in, row_stride, pixel_stride, inside, 2 * y, x, whole);
        even_line(d, v);
        UNROLL(5)
        for (int y = 0; y < EVEN; y++)
            half[y][x] = v[y];
    }
    UNROLL(9)
    for (int y = 0; y < IN; y++) {
        vec even[EVEN], v[IN];
        UNROLL(9)
        for (int x = 0; x < IN; x++) {
            vec value = y < EVEN ? half[y][x] : load_input(in, row_stride, pixel_stride, inside, 2 * (y - EVEN) + 1, x, whole);
            if (x % 2 == 0)
                even[x / 2] = value;
            else
                v[EVEN + x / 2] = value;
        }
        even_line(even, v);
        UNROLL(9)
        for (int x = 0; x < IN; x++)
            vec_store(out + slot(y, x) * slot_floats, v[x]);
    }
}

/* A tile's inputs in a map. */
struct tile_inputs {
    const float *first;
    int64_t row_stride, pixel_stride;
    struct window inside;
    bool whole; /* all of them exist */
};

static inline struct tile_inputs inputs_of(const struct conv_shape *s, struct map_view map, const struct tile *tile)
{
    int y = 2 * tile->y - s->padding, x = 2 * tile->x - s->padding;
    return (struct tile_inputs){
        .first = map.data + (((int64_t)tile->image * s->in_height + y) * s->in_width + x) * map.pixel_stride,
        .row_stride = s->in_width * map.pixel_stride,
        .pixel_stride = map.pixel_stride,
        .inside = {.top = y < 0 ? -y : 0, .bottom = s->in_height - y, .left = x < 0 ? -x : 0, .right = s->in_width - x},
        .whole = y >= 0 && x >= 0 && s->in_height - y >= IN && s->in_width - x >= IN,
    };
}

/* Lanes of the vector from `channel` on that are channels. */
static inline int lanes_from(int channels, int channel)
{
    int left = channels - channel;
    return left < 0 ? 0 : smaller(left, VEC_WIDTH);
}

#endif
