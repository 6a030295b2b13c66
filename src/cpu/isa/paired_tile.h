/* paired_tile.h - the register tile of conv_paired.c: pixels by outputs, summed over units of channels.
 *
 * With AVX-512 a tile is 8 to 12 pixels x 2 vectors of outputs: 24 sums, 4 weights, 2 sums of x and w of 32 registers; with AVX2 4 x 2: 8
 * sums, 4 weights, x, x' and their 2 sums of 16.
 *
 * Two ways to an x. As an operand in memory of every instruction that needs it, 26 loads for 32 operations, it costs a Zen 4 nothing (1.6 loads a
 * cycle). A core that does twice the lanes with as many loads may be better served by loading it once, for all outputs of the tile.
 */
#ifndef DLA_CPU_ISA_PAIRED_TILE_H
#define DLA_CPU_ISA_PAIRED_TILE_H

#include "cpu/conv.h"
#include "cpu/isa/vector.h"

#include <math.h>

enum {
    UNIT = 2 * VEC_WIDTH, /* channels: the terms c and c + VEC_WIDTH of a unit are a pair for c < PAIRS */
    PAIRS = VEC_WIDTH == 16 ? 10 : 5,
    BLOCK_VECTORS = 2,
    BLOCK = BLOCK_VECTORS * VEC_WIDTH, /* outputs */
    LEAST_TILE = VEC_WIDTH == 16 ? 8 : 4,
    MAX_TILE = VEC_WIDTH == 16 ? 12 : 4,
    LINE_FLOATS = 16
};

/* x: (tile, row), weight: (channels, BLOCK); adds the plain product of channel c. `tile` is a constant at every call, and so is
 * `once`: whether x is loaded once, by an instruction of its own, or as an operand in memory by each that needs it. */
ALWAYS_INLINE void add_single(vec (*sum)[BLOCK_VECTORS], const int tile, const bool once, const float *x, const int row,
                              const float *weight, const int c)
{
    vec w[BLOCK_VECTORS];
    UNROLL(2)
    for (int v = 0; v < BLOCK_VECTORS; v++)
        w[v] = vec_load(weight + c * BLOCK + v * VEC_WIDTH);
    UNROLL(12)
    for (int p = 0; p < tile; p++) {
        const float *pixel = x + p * row + c;
        UNROLL(2)
        for (int v = 0; v < BLOCK_VECTORS; v++)
            sum[p][v] = once ? vec_fma(vec_all(*pixel), w[v], sum[p][v]) : vec_fma_all(pixel, w[v], sum[p][v]);
    }
}

ALWAYS_INLINE vec add_x(vec w, const float *x, const bool once)
{
    if (once)
        return w + vec_all(*x);
    return vec_add_all(w, x);
}

/* Channels c and c + VEC_WIDTH of a unit as one product. */
ALWAYS_INLINE void add_pair(vec (*sum)[BLOCK_VECTORS], const int tile, const bool once, const float *x, const float *weight, const int c)
{
    vec first[BLOCK_VECTORS], second[BLOCK_VECTORS];
    UNROLL(2)
    for (int v = 0; v < BLOCK_VECTORS; v++) {
        first[v] = vec_load(weight + c * BLOCK + v * VEC_WIDTH);
        second[v] = vec_load(weight + (c + VEC_WIDTH) * BLOCK + v * VEC_WIDTH);
    }
    UNROLL(12)
    for (int p = 0; p < tile; p++) {
        const float *pixel = x + p * UNIT + c, *partner = pixel + VEC_WIDTH;
        UNROLL(2)
        for (int v = 0; v < BLOCK_VECTORS; v++) {
            vec left = add_x(second[v], pixel, once), right = add_x(first[v], partner, once);
            sum[p][v] = vec_fma(left, right, sum[p][v]);
        }
    }
}

/* A unit's channels in an order that keeps adders and FMA units busy side by side. */
ALWAYS_INLINE void add_unit(vec (*sum)[BLOCK_VECTORS], const int tile, const bool once, const float *x, const float *weight)
{
#define PAIR(c) add_pair(sum, tile, once, x, weight, c);
#define ONE(c) add_single(sum, tile, once, x, UNIT, weight, c);
#if KERNEL_ISA_AVX512
    /* clang-format off */
    PAIR(0) ONE(10) PAIR(1) ONE(11) PAIR(2) ONE(12) PAIR(3) ONE(13) PAIR(4) ONE(14) ONE(15)
    PAIR(5) ONE(26) PAIR(6) ONE(27) PAIR(7) ONE(28) PAIR(8) ONE(29) PAIR(9) ONE(30) ONE(31)
    /* clang-format on */
#else
    PAIR(0) ONE(5) PAIR(1) ONE(6) PAIR(2) ONE(7) PAIR(3) ONE(13) ONE(14) PAIR(4) ONE(15)
#endif
#undef PAIR
#undef ONE
}

struct tile {
    const struct conv_call *call;
    const float *x, *weight;               /* of this part of the block's weights */
    int units, rest;                       /* likewise */
    bool first, last;                      /* this part */
    const float *mixed, *undo;             /* of the block's outputs: (BLOCK) */
    const float *pixel_mixed, *pixel_undo; /* (tile) */
    float *sums;                           /* (tile, BLOCK) */
    int64_t pixel;                         /* the first */
    int pixels;                            /* that exist */
    int first_channel, channels;           /* of the block, as far as they exist */
    const float *prefetch;                 /* the weights that come next */
    int prefetch_lines;                    /* of them, with each unit */
};

/* outputs = sums * undo + bias [+ residual], of the pixels and channels that exist: for the last tile and block. */
static void finish_some(const struct tile *t)
{
    const struct map_view *residual = &t->call->residual, *out = &t->call->out;

    for (int p = 0; p < t->pixels; p++)
        for (int c = 0; c < t->channels; c++) {
            float value = fmaf(t->sums[p * BLOCK + c] * t->pixel_undo[p], t->undo[c], t->call->bias[t->first_channel + c]);
            if (residual->data)
                value += residual->data[(t->pixel + p) * residual->pixel_stride + t->first_channel + c];
            out->data[(t->pixel + p) * out->pixel_stride + t->first_channel + c] = t->call->relu && value < 0.0f ? 0.0f : value;
        }
}

/* The same, bit for bit, for a whole tile. */
ALWAYS_INLINE void finish(const struct tile *t, vec (*sum)[BLOCK_VECTORS], const int tile)
{
    int64_t residual_stride = t->call->residual.pixel_stride, out_stride = t->call->out.pixel_stride;
    const float *residual = t->call->residual.data ? t->call->residual.data + t->pixel * residual_stride + t->first_channel : NULL;
    float *out = t->call->out.data + t->pixel * out_stride + t->first_channel;
    vec floor = vec_all(t->call->relu ? 0.0f : -INFINITY), undo[BLOCK_VECTORS], bias[BLOCK_VECTORS];

    UNROLL(2)
    for (int v = 0; v < BLOCK_VECTORS; v++) {
        undo[v] = vec_load(t->undo + v * VEC_WIDTH);
        bias[v] = vec_load(t->call->bias + t->first_channel + v * VEC_WIDTH);
    }
    UNROLL(12)
    for (int p = 0; p < tile; p++) {
        UNROLL(2)
        for (int v = 0; v < BLOCK_VECTORS; v++)
            sum[p][v] = vec_fma(sum[p][v] * vec_all(t->pixel_undo[p]), undo[v], bias[v]);
    }
    if (residual) {
        UNROLL(12)
        for (int p = 0; p < tile; p++) {
            UNROLL(2)
            for (int v = 0; v < BLOCK_VECTORS; v++)
                sum[p][v] += vec_load(residual + p * residual_stride + v * VEC_WIDTH);
        }
    }
    UNROLL(12)
    for (int p = 0; p < tile; p++) {
        UNROLL(2)
        for (int v = 0; v < BLOCK_VECTORS; v++)
            vec_store(out + p * out_stride + v * VEC_WIDTH, vec_max(floor, sum[p][v]));
    }
}

/* `tile` is a constant at every call, so that `sum` lives in registers. */
ALWAYS_INLINE void tile_run(const struct tile *t, const int tile, const bool once)
{
    vec sum[MAX_TILE][BLOCK_VECTORS];
    const float *x = t->x, *weight = t->weight;

    UNROLL(12)
    for (int p = 0; p < tile; p++) {
        UNROLL(2)
        for (int v = 0; v < BLOCK_VECTORS; v++)
            if (t->first)
                sum[p][v] = vec_all(-t->pixel_mixed[p]) - vec_load(t->mixed + v * VEC_WIDTH);
            else
                sum[p][v] = vec_load(t->sums + p * BLOCK + v * VEC_WIDTH);
    }
    const float *prefetch = t->prefetch;
    for (int unit = 0; unit < t->units; unit++, x += tile * UNIT, weight += UNIT * BLOCK) {
        for (int line = 0; line < t->prefetch_lines; line++, prefetch += LINE_FLOATS)
            __builtin_prefetch(prefetch, 0, 2);
        add_unit(sum, tile, once, x, weight);
    }
    if (t->rest > 0)
        for (int c = 0; c < VEC_WIDTH; c++)
            add_single(sum, tile, once, x, VEC_WIDTH, weight, c);
    if (t->last && t->pixels == tile && t->channels == BLOCK) {
        finish(t, sum, tile);
        return;
    }
    UNROLL(12)
    for (int p = 0; p < tile; p++) {
        UNROLL(2)
        for (int v = 0; v < BLOCK_VECTORS; v++)
            vec_store(t->sums + p * BLOCK + v * VEC_WIDTH, sum[p][v]);
    }
    if (t->last)
        finish_some(t);
}

typedef void tile_function(const struct tile *t);

#define TILE(pixels)                                                                                                                       \
    static void tile_##pixels(const struct tile *t)                                                                                        \
    {                                                                                                                                      \
        tile_run(t, pixels, false);                                                                                                        \
    }                                                                                                                                      \
    static void tile_once_##pixels(const struct tile *t)                                                                                   \
    {                                                                                                                                      \
        tile_run(t, pixels, true);                                                                                                         \
    }

#if KERNEL_ISA_AVX512
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
static tile_function *const tile_functions[2][MAX_TILE + 1] = {
    {[8] = tile_8, [9] = tile_9, [10] = tile_10, [11] = tile_11, [12] = tile_12},
    {[8] = tile_once_8, [9] = tile_once_9, [10] = tile_once_10, [11] = tile_once_11, [12] = tile_once_12},
};
#else
static void tile_once_4(const struct tile *t)
{
    tile_run(t, 4, true);
}
static tile_function *const tile_functions[2][MAX_TILE + 1] = {{NULL}, {[4] = tile_once_4}};
#endif

#endif
