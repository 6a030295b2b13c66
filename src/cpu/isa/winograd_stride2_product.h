/* winograd_stride2_product.h - weights and products of 3x3 and stride 2 in Winograd's domain, forward and for the data gradient.
 *
 * As in winograd4x4_small.c, weights are transformed when they are packed, and a set of tiles is small, so that V and M of one
 * vector of outputs are not far above L1's size. The points of one weight are neighbours in both, as rows of a plain matrix product; sums of
 * ROWS of them stay in registers over all input channels, with 16 registers those of two vectors of outputs: 12 FMAs to 8 loads instead of
 * 13. Channels lie in chunks of 16, which makes all distances constants.
 */
#ifndef DLA_CPU_ISA_WINOGRAD_STRIDE2_PRODUCT_H
#define DLA_CPU_ISA_WINOGRAD_STRIDE2_PRODUCT_H

#include "cpu/isa/winograd_stride2_tile.h"

enum {
    CHUNK = 16, /* input channels */
    TILES = MANY_REGISTERS ? 7 : 6,
    ROWS = MANY_REGISTERS ? 2 * TILES : TILES,
    BLOCK_VECTORS = MANY_REGISTERS ? 1 : 2,                  /* of outputs */
    VECTOR_PRODUCTS = POINTS * TILES * VEC_WIDTH,            /* M of a set and a vector of outputs */
    MAX_WEIGHT_BYTES = (MANY_REGISTERS ? 1300 : 2304) * 1024 /* of 64 > 128, 128 > 128 channels; a set reads all of them, from L2 or L3 */
};

/* G of the even inputs: p^k / product_{q != p} (p - q) for tap k, the last tap alone at infinity; of the odd ones the middle tap. */
ALWAYS_INLINE void weight_line(const vec w0, const vec w1, const vec w2, vec u[SIDE_WEIGHTS])
{
    const vec of_a = vec_all(1.0f / (2.0f * A * (A * A - B * B))), of_b = vec_all(1.0f / (2.0f * B * (B * B - A * A)));

    u[0] = vec_fma(vec_all(A), w2, w0) * of_a;
    u[1] = vec_fnma(vec_all(A), w2, w0) * -of_a;
    u[2] = vec_fma(vec_all(B), w2, w0) * of_b;
    u[3] = vec_fnma(vec_all(B), w2, w0) * -of_b;
    u[EVEN - 1] = w2;
    u[EVEN] = w1;
}

/* One channel's weights for a vector of the others: taps (TAPS, lanes), out (WEIGHTS, lanes), weights `weight_floats` apart. */
static void put_weights(const float *taps, float *out, int64_t weight_floats)
{
    vec half[3][SIDE_WEIGHTS], u[SIDE_WEIGHTS];

    UNROLL(3)
    for (int y = 0; y < 3; y++) {
        const float *row = taps + 3 * y * VEC_WIDTH;
        weight_line(vec_load(row), vec_load(row + VEC_WIDTH), vec_load(row + 2 * VEC_WIDTH), half[y]);
    }
    UNROLL(6)
    for (int x = 0; x < SIDE_WEIGHTS; x++) {
        weight_line(half[0][x], half[1][x], half[2][x], u);
        UNROLL(6)
        for (int y = 0; y < SIDE_WEIGHTS; y++)
            vec_store(out + (y * SIDE_WEIGHTS + x) * weight_floats, u[y]);
    }
}

/* M (vectors)(rows, lanes) = V (chunks)(rows, CHUNK) U (vectors)(in_channels, lanes). `chunk` floats lie between chunks of V,
 * `weight_step` between the weights of one vector and the next. */
ALWAYS_INLINE void multiply_rows(const float *in, int64_t chunk, int chunk_count, const float *weight, int64_t weight_step, float *out,
                                 const int rows, const int vectors)
{
    vec sum[ROWS][BLOCK_VECTORS];

    UNROLL(14)
    for (int r = 0; r < rows; r++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vec_zero();
    }
    for (int c = 0; c < chunk_count; c++, in += chunk)
        for (int i = 0; i < CHUNK; i += TERMS_AT_ONCE, weight += TERMS_AT_ONCE * VEC_WIDTH) {
            UNROLL(2)
            for (int at = 0; at < TERMS_AT_ONCE; at++) {
                vec w[BLOCK_VECTORS];
                UNROLL(2)
                for (int v = 0; v < vectors; v++)
                    w[v] = vec_load(weight + v * weight_step + at * VEC_WIDTH);
                UNROLL(14)
                for (int r = 0; r < rows; r++) {
                    vec x = vec_all(in[r * CHUNK + i + at]);
                    UNROLL(2)
                    for (int v = 0; v < vectors; v++)
                        sum[r][v] = vec_fma(x, w[v], sum[r][v]);
                }
            }
        }
    UNROLL(14)
    for (int r = 0; r < rows; r++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            vec_store(out + v * VECTOR_PRODUCTS + r * VEC_WIDTH, sum[r][v]);
    }
}

/* All points for some vectors of outputs. */
ALWAYS_INLINE void multiply_vectors(const float *in, int chunk_count, const float *weight, float *out, const int vectors)
{
    const int64_t chunk = (int64_t)POINTS * TILES * CHUNK, weight_floats = (int64_t)chunk_count * CHUNK * VEC_WIDTH;

    for (int index = 0; index < WEIGHTS; index++, weight += weight_floats) {
        int rows = points_of(index) * TILES;
        if (rows < ROWS)
            multiply_rows(in, chunk, chunk_count, weight, WEIGHTS * weight_floats, out, TILES, vectors);
        for (int row = 0; row + ROWS <= rows; row += ROWS)
            multiply_rows(in + row * CHUNK, chunk, chunk_count, weight, WEIGHTS * weight_floats, out + row * VEC_WIDTH, ROWS, vectors);
        in += rows * CHUNK;
        out += rows * VEC_WIDTH;
    }
}

/* The same for at most `left` vectors; how many it were. */
static int multiply(const float *in, int chunk_count, const float *weight, float *out, int left)
{
    if (left < BLOCK_VECTORS) {
        multiply_vectors(in, chunk_count, weight, out, 1);
        return 1;
    }
    multiply_vectors(in, chunk_count, weight, out, BLOCK_VECTORS);
    return BLOCK_VECTORS;
}

#endif
