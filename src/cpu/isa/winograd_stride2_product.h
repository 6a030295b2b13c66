/* winograd_stride2_product.h - weights and products of 3x3 and stride 2 in Winograd's domain, forward and for the data gradient.
 *
 * As in winograd4x4_small.c, weights are transformed when they are packed, and a set of tiles is small, so that V and M of one
 * vector of outputs are not far above L1's size. The points of one weight are neighbours in both, as rows of a plain matrix product; sums of
 * ROWS of them stay in registers over all input channels. Channels lie in chunks of 16, which makes all distances constants.
 */
#ifndef DLA_CPU_ISA_WINOGRAD_STRIDE2_PRODUCT_H
#define DLA_CPU_ISA_WINOGRAD_STRIDE2_PRODUCT_H

#include "cpu/isa/winograd_stride2_tile.h"

enum {
    CHUNK = 16, /* input channels */
    TILES = VEC_REGISTERS == 32 ? 7 : 6,
    ROWS = 2 * TILES,
    MAX_WEIGHT_BYTES = 1300 * 1024 /* of 64 > 128 channels; a set reads all of them, from L2 or, just fast enough, from L3 */
};

/* G of the even inputs: p^k / product_{q != p} (p - q) for tap k, the last tap alone at infinity; of the odd ones the middle tap. */
static void weight_line(const double w[3], double u[SIDE_WEIGHTS])
{
    const double a = (double)A, b = (double)B, of_a = 1.0 / (2.0 * a * (a * a - b * b)), of_b = 1.0 / (2.0 * b * (b * b - a * a));

    u[0] = (w[0] + w[2] * a) * of_a;
    u[1] = (w[2] * a - w[0]) * of_a;
    u[2] = (w[0] + w[2] * b) * of_b;
    u[3] = (w[2] * b - w[0]) * of_b;
    u[EVEN - 1] = w[2];
    u[EVEN] = w[1];
}

/* One input and output channel's weights, `weight_floats` apart. */
static void put_weights(const float taps[TAPS], double scale, float *out, int64_t weight_floats)
{
    double half[3][SIDE_WEIGHTS], u[SIDE_WEIGHTS];

    for (int y = 0; y < 3; y++) {
        const double line[3] = {(double)taps[3 * y], (double)taps[3 * y + 1], (double)taps[3 * y + 2]};
        weight_line(line, half[y]);
    }
    for (int x = 0; x < SIDE_WEIGHTS; x++) {
        const double line[3] = {half[0][x], half[1][x], half[2][x]};
        weight_line(line, u);
        for (int y = 0; y < SIDE_WEIGHTS; y++)
            out[(y * SIDE_WEIGHTS + x) * weight_floats] = (float)(u[y] * scale);
    }
}

/* M (rows, lanes) = V (chunks)(rows, CHUNK) U (in_channels, lanes). `chunk` floats lie between chunks of V. */
ALWAYS_INLINE void multiply_rows(const float *in, int64_t chunk, int chunk_count, const float *weight, float *out, const int rows)
{
    vec sum[ROWS];

    UNROLL(14)
    for (int r = 0; r < rows; r++)
        sum[r] = vec_zero();
    for (int c = 0; c < chunk_count; c++, in += chunk)
        for (int i = 0; i < CHUNK; i++, weight += VEC_WIDTH) {
            vec w = vec_load(weight);
            UNROLL(14)
            for (int r = 0; r < rows; r++)
                sum[r] = vec_fma(vec_all(in[r * CHUNK + i]), w, sum[r]);
        }
    UNROLL(14)
    for (int r = 0; r < rows; r++)
        vec_store(out + r * VEC_WIDTH, sum[r]);
}

/* All points for one vector of outputs. */
static void multiply(const float *in, int chunk_count, const float *weight, float *out)
{
    const int64_t chunk = (int64_t)POINTS * TILES * CHUNK, weight_floats = (int64_t)chunk_count * CHUNK * VEC_WIDTH;

    for (int index = 0; index < WEIGHTS; index++, weight += weight_floats) {
        int rows = points_of(index) * TILES;
        if (rows == TILES)
            multiply_rows(in, chunk, chunk_count, weight, out, TILES);
        for (int row = 0; rows > TILES && row < rows; row += ROWS)
            multiply_rows(in + row * CHUNK, chunk, chunk_count, weight, out + row * VEC_WIDTH, ROWS);
        in += rows * CHUNK;
        out += rows * VEC_WIDTH;
    }
}

#endif
