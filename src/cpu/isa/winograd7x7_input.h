/* winograd7x7_input.h - the inputs of a 7x7 convolution of stride 1 over the few channels of an image, for Winograd's F(4x4, 4x4).
 *
 * Along one side, seven taps are two filters of four taps, the second of which begins four inputs later and ends in a zero. Its
 * inputs for the outputs of tile t are then the first one's for tile t + 1:
 *
 *     inputs     .  .  .  [0  1  2  3  4  5  6]            seven inputs, beginning every four, are evaluated at seven points once:
 *                             [4  5  6  7  8  9 10]        v[t], v[t + 1]
 *     outputs of tile t = A^T (u[0] v[t] + u[1] v[t + 1])
 *
 * The three maps (see winograd_transform.h for what they are) use the points +-a, +-b, +-c and infinity, which make all of them sums and
 * differences of an even and an odd part. With a = 1/4, b = 7/8, c = 2 all constants are exact, and the error is twice that of F(4x4,
 * 3x3).
 *
 * For each row of tiles, four more rows of the image are copied to planes of one channel, split by column modulo 4, so that neighbouring
 * tiles are neighbours in memory (planes); then columns are transformed (columns), then rows, to
 *
 *     V[parity of the row of tiles][block of TILES tiles][point][channel][16 tiles]
 *
 * where a block's row of 16 holds the block and the tile after it.
 */
#ifndef DLA_CPU_ISA_WINOGRAD7X7_INPUT_H
#define DLA_CPU_ISA_WINOGRAD7X7_INPUT_H

#include "cpu/conv.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/vector.h"

enum {
    KERNEL = 7,
    OUT = 4, /* outputs a side of a tile, and inputs from tile to tile */
    IN = 7,  /* inputs a side, and points */
    POINTS = IN * IN,
    PARTS = 2,      /* filters of OUT taps along a side */
    MAX_INPUTS = 4, /* channels */
    TILES = MANY_REGISTERS ? 14 : 8,
    LINE = 16,    /* floats: a block of tiles and the one after it */
    ROW_SLOTS = 8 /* rows of the image that are kept: IN, a power of two */
};

#define A 0.25f
#define B 0.875f
#define C 2.0f

/* Sizes that follow from the shape, in tiles and floats. */
struct tile_grid {
    int tile_rows, tile_columns, block_count; /* blocks of a row of tiles */
    int side;                                 /* of a plane: tiles of a row, with what the last block reads beyond */
    int64_t row_floats;                       /* of the image: (channels, OUT, side) */
    int64_t input_floats;                     /* of V: a row of tiles */
    int64_t scratch_floats;                   /* of planes, columns and V */
};

static struct tile_grid grid_of(const struct conv_shape *s)
{
    struct tile_grid g = {.tile_rows = divide_up(s->out_height, OUT), .tile_columns = divide_up(s->out_width, OUT)};

    g.block_count = divide_up(g.tile_columns, TILES);
    g.side = divide_up((g.block_count - 1) * TILES + LINE + 1, LINE) * LINE;
    g.row_floats = (int64_t)s->in_channels * OUT * g.side;
    g.input_floats = (int64_t)g.block_count * POINTS * s->in_channels * LINE;
    g.scratch_floats = (ROW_SLOTS + IN) * g.row_floats + PARTS * g.input_floats;
    return g;
}

static bool has_7x7_tiles(const struct conv_shape *s)
{
    return s->kernel == KERNEL && s->stride == 1 && s->dilation == 1 && s->groups == 1 && s->in_channels <= MAX_INPUTS;
}

/* Points in the order a, -a, b, -b, c, -c, infinity. c(+-a) = (x +- a) (x^4 - (b^2 + c^2) x^2 + b^2 c^2), and so on. */
ALWAYS_INLINE void input_pair(const vec d[IN], const float p, const float sum, const float product, vec *plus, vec *minus)
{
    vec even = vec_fma(vec_all(product), d[0], vec_fnma(vec_all(sum), d[2], d[4]));
    vec odd = vec_fma(vec_all(product), d[1], vec_fnma(vec_all(sum), d[3], d[5]));
    *plus = vec_fma(vec_all(p), even, odd);
    *minus = vec_fnma(vec_all(p), even, odd);
}

ALWAYS_INLINE void input_line(const vec d[IN], vec v[IN])
{
    input_pair(d, A, B * B + C * C, B * B * C * C, &v[0], &v[1]);
    input_pair(d, B, A * A + C * C, A * A * C * C, &v[2], &v[3]);
    input_pair(d, C, A * A + B * B, A * A * B * B, &v[4], &v[5]);
    v[6] = vec_fnma(
        vec_all(A * A * B * B * C * C), d[0],
        vec_fma(vec_all(A * A * B * B + A * A * C * C + B * B * C * C), d[2], vec_fnma(vec_all(A * A + B * B + C * C), d[4], d[6])));
}

/* Column `column` of a row of an image, counted with its padding, lies at [channel][column % OUT][column / OUT] of its planes. */
ALWAYS_INLINE void split_pixels(const float *in, int64_t pixel_stride, int first, int last, float *restrict row, int side,
                                const int channels)
{
    for (int group = first; group < last; group++, in += OUT * pixel_stride)
        for (int x = 0; x < OUT; x++)
            for (int i = 0; i < channels; i++)
                row[(i * OUT + x) * side + group] = in[x * pixel_stride + i];
}

/* One row of an image to its planes (channels, OUT, side). Padding in them is zero already, but for whole rows outside the image. */
static void split_row(const struct conv_shape *s, struct map_view map, const struct tile_grid *g, int image, int y, float *row)
{
    int64_t stride = map.pixel_stride;
    const float *in = map.data + ((int64_t)image * s->in_height + y) * s->in_width * stride;
    int begin = s->padding, end = smaller(s->in_width + s->padding, g->side * OUT); /* columns */
    int first = divide_up(begin, OUT), last = end / OUT;                            /* whole groups of OUT columns */

    if (y < 0 || y >= s->in_height) {
        memset(row, 0, (size_t)g->row_floats * sizeof(float));
        return;
    }
    for (int column = begin; column < end; column++) {
        if (column == first * OUT && last > first)
            column = last * OUT;
        for (int i = 0; i < s->in_channels && column < end; i++)
            row[(i * OUT + column % OUT) * g->side + column / OUT] = in[(column - begin) * stride + i];
    }
    in += (first * OUT - begin) * stride;
    if (s->in_channels == 3) /* what it nearly always is */
        split_pixels(in, stride, first, last, row, g->side, 3);
    else
        split_pixels(in, stride, first, last, row, g->side, s->in_channels);
}

/* Columns of one row of tiles, of which `planes` holds the image's rows from slot `first` on: columns (IN, channels, OUT, side). */
static void transform_columns(const struct tile_grid *g, const float *planes, int first, float *columns)
{
    const float *rows[IN];

    for (int i = 0; i < IN; i++)
        rows[i] = planes + (first + i) % ROW_SLOTS * g->row_floats;
    for (int64_t at = 0; at < g->row_floats; at += VEC_WIDTH) {
        vec d[IN], v[IN];
        UNROLL(7)
        for (int i = 0; i < IN; i++)
            d[i] = vec_load(rows[i] + at);
        input_line(d, v);
        UNROLL(7)
        for (int i = 0; i < IN; i++)
            vec_store(columns + i * g->row_floats + at, v[i]);
    }
}

/* V of a row of tiles: (blocks, POINTS, channels, LINE). */
static void transform_rows(const struct tile_grid *g, int channels, const float *columns, float *input)
{
    for (int index = 0; index < g->block_count; index++)
        for (int y = 0; y < IN; y++)
            for (int i = 0; i < channels; i++)
                for (int lane = 0; lane < LINE; lane += VEC_WIDTH) {
                    const float *in = columns + y * g->row_floats + (int64_t)i * OUT * g->side + index * TILES + lane;
                    float *out = input + (((int64_t)index * POINTS + y * IN) * channels + i) * LINE + lane;
                    vec d[IN], v[IN];
                    UNROLL(7)
                    for (int x = 0; x < IN; x++)
                        d[x] = vec_load(in + (int64_t)(x % OUT) * g->side + x / OUT);
                    input_line(d, v);
                    UNROLL(7)
                    for (int x = 0; x < IN; x++)
                        vec_store(out + (int64_t)x * channels * LINE, v[x]);
                }
}

/* V of the rows of tiles of an image, one after the other. */
struct input_rows {
    const struct conv_shape *shape;
    struct map_view map;
    const struct tile_grid *grid;
    int image, y; /* the first row of the image that the first row of tiles reads; it may lie in the padding */
    int row;      /* of tiles, comes next, counted from the first */
    int filled;   /* rows of the image in `planes` */
    float *planes, *columns, *input;
};

/* scratch: scratch_floats. */
static struct input_rows start_rows(const struct conv_shape *s, struct map_view map, const struct tile_grid *g, int image, int first_row,
                                    float *scratch)
{
    memset(scratch, 0, (size_t)(ROW_SLOTS * g->row_floats) * sizeof(float));
    return (struct input_rows){.shape = s,
                               .map = map,
                               .grid = g,
                               .image = image,
                               .y = first_row * OUT - s->padding,
                               .planes = scratch,
                               .columns = scratch + ROW_SLOTS * g->row_floats,
                               .input = scratch + (ROW_SLOTS + IN) * g->row_floats};
}

/* V of row number `row` of tiles from the first, if it is the last or the last but one that was made. */
static float *row_input(const struct input_rows *r, int row)
{
    return r->input + row % PARTS * r->grid->input_floats;
}

static void next_row(struct input_rows *r)
{
    const struct tile_grid *g = r->grid;

    for (; r->filled < r->row * OUT + IN; r->filled++)
        split_row(r->shape, r->map, g, r->image, r->y + r->filled, r->planes + r->filled % ROW_SLOTS * g->row_floats);
    transform_columns(g, r->planes, r->row * OUT, r->columns);
    transform_rows(g, r->shape->in_channels, r->columns, row_input(r, r->row));
    r->row++;
}

/* G: tap k at finite point p counts p^k / product_{q != p} (p - q); at infinity there is the last tap alone. factors: (IN, OUT). */
static void tap_factors(double factors[IN][OUT])
{
    const double points[IN - 1] = {(double)A, (double)-A, (double)B, (double)-B, (double)C, (double)-C};

    for (int i = 0; i < IN - 1; i++) {
        double factor = 1.0, power = 1.0;
        for (int k = 0; k < IN - 1; k++)
            factor *= k == i ? 1.0 : points[i] - points[k];
        for (int k = 0; k < OUT; k++, power *= points[i])
            factors[i][k] = power / factor;
    }
    for (int k = 0; k < OUT; k++)
        factors[IN - 1][k] = k == OUT - 1 ? 1.0 : 0.0;
}

#endif
