/* winograd_kernels.h - the inner loops of winograd4x4.c: what runs on registers and L1, over pointers and strides alone.
 *
 *     transform_input    V = B^T d B of one tile, one vector of channels
 *     transform_weights  one row (six points) of U = G g G^T for a chunk of input channels
 *     multiply           M += V U at one point, for up to ROWS tiles
 *     multiply_few       both at once for exactly four tiles (a 7x7 map), for which U never leaves the registers
 *     transform_output   A^T M A of one tile, one vector of channels, then bias, residual and relu
 */
#ifndef DLA_CPU_ISA_WINOGRAD_KERNELS_H
#define DLA_CPU_ISA_WINOGRAD_KERNELS_H

#include "cpu/isa/winograd_store.h"
#include "cpu/isa/winograd_transform.h"

enum {
    CHUNK = MANY_REGISTERS ? 32 : 64, /* input channels: short tiles read and write more sums for each */
    BLOCK_VECTORS = 2,
    BLOCK = BLOCK_VECTORS * VEC_WIDTH, /* output channels */
    ROWS = MANY_REGISTERS ? 14 : 6,
    FEW = 4, /* tiles of multiply_few */
    TAPS = 9,
    LINE_FLOATS = 16,
    POINT_FLOATS = CHUNK * BLOCK + 2 * CHUNK,  /* of U: a point of a step, and a gap so that points do not lie 2 KB apart */
    WEIGHT_FLOATS = WINOGRAD_IN * POINT_FLOATS /* U of a step */
};

/* Weights are float, or float16 where `half`; `at` counts elements. */
ALWAYS_INLINE vec load_weight(const void *weight, int64_t at, bool half)
{
#ifndef VEC_NO_HALF
    if (half)
        return vec_load_half((const uint16_t *)weight + at);
#endif
    (void)half;
    return vec_load((const float *)weight + at);
}

ALWAYS_INLINE void store_weight(void *weight, int64_t at, vec v, bool half)
{
#ifndef VEC_NO_HALF
    if (half) {
        vec_store_half((uint16_t *)weight + at, v);
        return;
    }
#endif
    (void)half;
    vec_store((float *)weight + at, v);
}

/* Rows [top, bottom) and columns [left, right) of a tile's inputs that lie inside the map. */
struct window {
    int top, bottom, left, right;
};

/* Which sides of a tile have at most NARROW_OUT outputs, see winograd_transform.h: its height (a last row of tiles), its width. */
struct narrow {
    bool y, x;
};

enum { NARROW_OUT = 2 };

/* Whether point index i of a side, 0 .. 5, is one of those that a narrow side does without. */
ALWAYS_INLINE bool wide_point(int i)
{
    return i == 3 || i == 4;
}

/* B^T d B for one vector of channels. `in` is the tile's first pixel, which need not exist; `out` point 0 of the tile in V. `whole`:
 * all of the 6 x 6 inputs and of the vector's lanes exist. */
ALWAYS_INLINE void transform_input(const float *in, int64_t row_stride, int64_t pixel_stride, const struct window *inside, int lanes,
                                   float *out, int64_t row_points, int64_t point_stride, const struct narrow narrow, const bool whole)
{
    const int rows = WINOGRAD_IN - (narrow.y ? NARROW_OUT : 0), columns = WINOGRAD_IN - (narrow.x ? NARROW_OUT : 0);
    vec half[WINOGRAD_IN][WINOGRAD_IN];

    UNROLL(6)
    for (int x = 0; x < columns; x++) {
        vec d[WINOGRAD_IN], v[WINOGRAD_IN];
        bool column = whole || (x >= inside->left && x < inside->right);
        UNROLL(6)
        for (int y = 0; y < rows; y++) {
            const float *pixel = in + y * row_stride + x * pixel_stride;
            if (whole)
                d[y] = vec_load(pixel);
            else if (column && y >= inside->top && y < inside->bottom)
                d[y] = lanes == VEC_WIDTH ? vec_load(pixel) : vec_load_first(pixel, lanes);
            else
                d[y] = vec_zero();
        }
        if (narrow.y)
            winograd_narrow_input_line(d, v);
        else
            winograd_input_line(d, v);
        UNROLL(6)
        for (int y = 0; y < WINOGRAD_IN; y++)
            if (!narrow.y || !wide_point(y))
                half[y][x] = v[y];
    }
    UNROLL(6)
    for (int y = 0; y < WINOGRAD_IN; y++) {
        vec v[WINOGRAD_IN];
        if (narrow.y && wide_point(y))
            continue;
        if (narrow.x)
            winograd_narrow_input_line(half[y], v);
        else
            winograd_input_line(half[y], v);
        UNROLL(6)
        for (int x = 0; x < WINOGRAD_IN; x++)
            if (!narrow.x || !wide_point(x))
                vec_store(out + y * row_points + x * point_stride, v[x]);
    }
}

/* By shape of the tile: [0] full, [1] narrow in x, [2] in y, [3] in both; [4] full, and all of it exists. */
enum { WHOLE_TILE = 4, TILE_SHAPES = 5 };

typedef void input_function(const float *in, int64_t row_stride, int64_t pixel_stride, const struct window *inside, int lanes, float *out,
                            int64_t row_points, int64_t point_stride);

#define INPUT_FUNCTION(shape)                                                                                                              \
    static void input_##shape(const float *in, int64_t row_stride, int64_t pixel_stride, const struct window *inside, int lanes,           \
                              float *out, int64_t row_points, int64_t point_stride)                                                        \
    {                                                                                                                                      \
        const struct narrow narrow = {.y = ((shape)&2) != 0, .x = ((shape)&1) != 0};                                                       \
        transform_input(in, row_stride, pixel_stride, inside, lanes, out, row_points, point_stride, narrow, (shape) == WHOLE_TILE);        \
    }
INPUT_FUNCTION(0)
INPUT_FUNCTION(1)
INPUT_FUNCTION(2)
INPUT_FUNCTION(3)
INPUT_FUNCTION(4)

static input_function *const input_functions[TILE_SHAPES] = {input_0, input_1, input_2, input_3, input_4};

/* Row `row` of G g G^T for one input channel and one vector of outputs; taps lie `width` elements apart. The points of a row need
 * one combination of the three weights above each other, then the points along it. */
ALWAYS_INLINE void weight_row(const void *weight, int64_t at, int width, vec u[WINOGRAD_IN], const int row, const bool half)
{
    vec column[3];

    UNROLL(3)
    for (int x = 0; x < 3; x++) {
        vec all[WINOGRAD_IN];
        winograd_weight_line(load_weight(weight, at + x * width, half), load_weight(weight, at + (3 + x) * width, half),
                             load_weight(weight, at + (6 + x) * width, half), all);
        column[x] = all[row]; /* the compiler drops the others, and loads that only they need */
    }
    winograd_weight_line(column[0], column[1], column[2], u);
}

/* weight (count, 9, width) from element `at` on to U[point of the row][channel][width]. */
ALWAYS_INLINE void transform_weights(const void *weight, int64_t at, int count, float *out, const int row, const int vectors,
                                     const bool half)
{
    const int width = vectors * VEC_WIDTH;

    for (int i = 0; i < count; i++, at += TAPS * width, out += width) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++) {
            vec u[WINOGRAD_IN];
            weight_row(weight, at + v * VEC_WIDTH, width, u, row, half);
            UNROLL(6)
            for (int x = 0; x < WINOGRAD_IN; x++)
                vec_store(out + x * POINT_FLOATS + v * VEC_WIDTH, u[x]);
        }
    }
}

typedef void weights_function(const void *weight, int64_t at, int count, float *out);

#define WEIGHTS(row, vectors)                                                                                                              \
    static void weights_##row##x##vectors(const void *weight, int64_t at, int count, float *out)                                           \
    {                                                                                                                                      \
        transform_weights(weight, at, count, out, row, vectors, false);                                                                    \
    }                                                                                                                                      \
    static void weights_half_##row##x##vectors(const void *weight, int64_t at, int count, float *out)                                      \
    {                                                                                                                                      \
        transform_weights(weight, at, count, out, row, vectors, true);                                                                     \
    }
#define WEIGHTS_ROW(row) WEIGHTS(row, 1) WEIGHTS(row, 2)
#define WEIGHTS_ENTRY(row)                                                                                                                 \
    {                                                                                                                                      \
        {weights_##row##x1, weights_##row##x2},                                                                                            \
        {                                                                                                                                  \
            weights_half_##row##x1, weights_half_##row##x2                                                                                 \
        }                                                                                                                                  \
    }
WEIGHTS_ROW(0)
WEIGHTS_ROW(1)
WEIGHTS_ROW(2)
WEIGHTS_ROW(3)
WEIGHTS_ROW(4)
WEIGHTS_ROW(5)

static weights_function *const weights_functions[WINOGRAD_IN][2][BLOCK_VECTORS] = {
    WEIGHTS_ENTRY(0), WEIGHTS_ENTRY(1), WEIGHTS_ENTRY(2), WEIGHTS_ENTRY(3), WEIGHTS_ENTRY(4), WEIGHTS_ENTRY(5),
};

/* Adds one input channel to the sums of some tiles: in (rows, CHUNK) from this channel on, weight (vectors). `rows` and `vectors` are
 * constants at every call, here and below, so that `sum` lives in registers. */
ALWAYS_INLINE void add_channel(vec (*sum)[BLOCK_VECTORS], const float *in, const float *weight, const int rows, const int vectors)
{
    vec w[BLOCK_VECTORS];

    UNROLL(2)
    for (int v = 0; v < vectors; v++)
        w[v] = vec_load(weight + v * VEC_WIDTH);
    UNROLL(14)
    for (int r = 0; r < rows; r++) {
        vec x = vec_all(in[r * CHUNK]);
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vec_fma(x, w[v], sum[r][v]);
    }
}

/* One step's sums at one point for some tiles: out (rows, width) += in (rows, CHUNK) * weight (count, width). */
ALWAYS_INLINE void multiply(const float *in, const float *weight, int count, float *out, bool first, const int rows, const int vectors)
{
    vec sum[ROWS][BLOCK_VECTORS];
    const int width = vectors * VEC_WIDTH;
    const float *end = in + count, *next = in + rows * CHUNK;

    UNROLL(14)
    for (int r = 0; r < rows; r++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vec_zero();
    }
    /* V is read in the order of its layout: a line with each turn fetches what the next call reads. */
    for (; in + TERMS_AT_ONCE <= end; in += TERMS_AT_ONCE, weight += TERMS_AT_ONCE * width, next += LINE_FLOATS) {
        UNROLL(2)
        for (int c = 0; c < TERMS_AT_ONCE; c++)
            add_channel(sum, in + c, weight + c * width, rows, vectors);
        __builtin_prefetch(next);
    }
    for (; TERMS_AT_ONCE > 1 && in < end; in++, weight += width)
        add_channel(sum, in, weight, rows, vectors);
    if (first) {
        UNROLL(14)
        for (int r = 0; r < rows; r++) {
            UNROLL(2)
            for (int v = 0; v < vectors; v++)
                vec_store(out + r * width + v * VEC_WIDTH, sum[r][v]);
        }
    } else {
        UNROLL(14)
        for (int r = 0; r < rows; r++) {
            UNROLL(2)
            for (int v = 0; v < vectors; v++)
                vec_store(out + r * width + v * VEC_WIDTH, sum[r][v] + vec_load(out + r * width + v * VEC_WIDTH));
        }
    }
}

typedef void product_function(const float *in, const float *weight, int count, float *out, bool first);

#define PRODUCT(rows, vectors)                                                                                                             \
    static void multiply_##rows##x##vectors(const float *in, const float *weight, int count, float *out, bool first)                       \
    {                                                                                                                                      \
        multiply(in, weight, count, out, first, rows, vectors);                                                                            \
    }
#define PRODUCTS(rows) PRODUCT(rows, 1) PRODUCT(rows, 2)
#define PRODUCT_ENTRY(rows)                                                                                                                \
    {                                                                                                                                      \
        multiply_##rows##x1, multiply_##rows##x2                                                                                           \
    }
PRODUCTS(1)
PRODUCTS(2)
PRODUCTS(3)
PRODUCTS(4)
PRODUCTS(5)
PRODUCTS(6)
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
PRODUCTS(7)
PRODUCTS(8)
PRODUCTS(9)
PRODUCTS(10)
PRODUCTS(11)
PRODUCTS(12)
PRODUCTS(13)
PRODUCTS(14)
#endif

static product_function *const product_functions[ROWS][BLOCK_VECTORS] = {
    PRODUCT_ENTRY(1),  PRODUCT_ENTRY(2),  PRODUCT_ENTRY(3), PRODUCT_ENTRY(4),  PRODUCT_ENTRY(5),  PRODUCT_ENTRY(6),
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
    PRODUCT_ENTRY(7),  PRODUCT_ENTRY(8),  PRODUCT_ENTRY(9), PRODUCT_ENTRY(10), PRODUCT_ENTRY(11), PRODUCT_ENTRY(12),
    PRODUCT_ENTRY(13), PRODUCT_ENTRY(14),
#endif
};

#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON

/* Sets of FEW tiles and whole blocks: a row of U is used where it is made, in registers. out[point of the row][tile][BLOCK] += V * U
 * for one vector of outputs: 6 x 4 sums + 6 points of U + 2 of the taps. Per input channel that is 24 FMAs, some 10 operations for
 * U and 24 + 9 loads, 18 cycles, where transform_weights and multiply together take 25 and bring U through L1. `weight` and `out`
 * begin at the vector. The sums are those of multiply, bit for bit.
 * Such maps take as long as their weights take from memory, so the next taps are fetched meanwhile, a line and a half with each
 * channel: faster than in bursts, of which the processor drops a part. */
ALWAYS_INLINE void multiply_few(const void *weight, int64_t at, int count, const float *in, float *out, bool first, const char *ahead,
                                const int row, const bool half)
{
    enum { LINE = 64, POINT = FEW * CHUNK };
    vec sum[WINOGRAD_IN][FEW];

    UNROLL(6)
    for (int x = 0; x < WINOGRAD_IN; x++) {
        UNROLL(4)
        for (int t = 0; t < FEW; t++)
            sum[x][t] = vec_zero();
    }
    for (int i = 0; i < count; i++, at += TAPS * BLOCK, in++) {
        vec u[WINOGRAD_IN];
        weight_row(weight, at, BLOCK, u, row, half);
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + LINE, 0, 2);
        ahead += LINE * 3 / 2;
        UNROLL(6)
        for (int x = 0; x < WINOGRAD_IN; x++) {
            UNROLL(4)
            for (int t = 0; t < FEW; t++)
                sum[x][t] = vec_fma(vec_all(in[x * POINT + t * CHUNK]), u[x], sum[x][t]);
        }
    }
    UNROLL(6)
    for (int x = 0; x < WINOGRAD_IN; x++) {
        UNROLL(4)
        for (int t = 0; t < FEW; t++) {
            float *to = out + (x * FEW + t) * BLOCK;
            if (!first)
                sum[x][t] = sum[x][t] + vec_load(to);
            vec_store(to, sum[x][t]);
        }
    }
}

typedef void few_function(const void *weight, int64_t at, int count, const float *in, float *out, bool first, const char *ahead);

#define FEW_ROW(row)                                                                                                                       \
    static void few_##row(const void *weight, int64_t at, int count, const float *in, float *out, bool first, const char *ahead)           \
    {                                                                                                                                      \
        multiply_few(weight, at, count, in, out, first, ahead, row, false);                                                                \
    }                                                                                                                                      \
    static void few_half_##row(const void *weight, int64_t at, int count, const float *in, float *out, bool first, const char *ahead)      \
    {                                                                                                                                      \
        multiply_few(weight, at, count, in, out, first, ahead, row, true);                                                                 \
    }
#define FEW_ENTRY(row)                                                                                                                     \
    {                                                                                                                                      \
        few_##row, few_half_##row                                                                                                          \
    }
FEW_ROW(0)
FEW_ROW(1)
FEW_ROW(2)
FEW_ROW(3)
FEW_ROW(4)
FEW_ROW(5)

static few_function *const few_functions[WINOGRAD_IN][2] = {
    FEW_ENTRY(0), FEW_ENTRY(1), FEW_ENTRY(2), FEW_ENTRY(3), FEW_ENTRY(4), FEW_ENTRY(5),
};

#endif

/* A^T m A for one vector of channels, then bias, residual and relu. `m` is the tile's point 0 in M. `whole`: all of the 4 x 4 outputs
 * and of the vector's lanes exist. */
ALWAYS_INLINE void transform_output(const float *m, int64_t point_stride, const struct tile_output *place, const struct narrow narrow,
                                    const bool whole)
{
    const int high = narrow.y ? NARROW_OUT : WINOGRAD_OUT, wide = narrow.x ? NARROW_OUT : WINOGRAD_OUT;
    const struct tile_output to = *place;
    vec half[WINOGRAD_OUT][WINOGRAD_IN];

    UNROLL(6)
    for (int x = 0; x < WINOGRAD_IN; x++) {
        vec in[WINOGRAD_IN], y[WINOGRAD_OUT];
        if (narrow.x && wide_point(x))
            continue;
        UNROLL(6)
        for (int i = 0; i < WINOGRAD_IN; i++)
            if (!narrow.y || !wide_point(i))
                in[i] = vec_load(m + (i * WINOGRAD_IN + x) * point_stride);
        if (narrow.y)
            winograd_narrow_output_line(in, y);
        else
            winograd_output_line(in, y);
        UNROLL(4)
        for (int i = 0; i < high; i++)
            half[i][x] = y[i];
    }
    UNROLL(4)
    for (int y = 0; y < high; y++) {
        vec line[WINOGRAD_OUT];
        if (!whole && y >= to.rows)
            break;
        if (narrow.x)
            winograd_narrow_output_line(half[y], line);
        else
            winograd_output_line(half[y], line);
        store_line(&to, y, line, wide, whole);
    }
}

typedef void output_function(const float *m, int64_t point_stride, const struct tile_output *to);

#define OUTPUT_FUNCTION(shape)                                                                                                             \
    static void output_##shape(const float *m, int64_t point_stride, const struct tile_output *to)                                         \
    {                                                                                                                                      \
        const struct narrow narrow = {.y = ((shape)&2) != 0, .x = ((shape)&1) != 0};                                                       \
        transform_output(m, point_stride, to, narrow, (shape) == WHOLE_TILE);                                                              \
    }
OUTPUT_FUNCTION(0)
OUTPUT_FUNCTION(1)
OUTPUT_FUNCTION(2)
OUTPUT_FUNCTION(3)
OUTPUT_FUNCTION(4)

static output_function *const output_functions[TILE_SHAPES] = {output_0, output_1, output_2, output_3, output_4};

#endif
