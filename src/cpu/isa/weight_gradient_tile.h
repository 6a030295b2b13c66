/* weight_gradient_tile.h - a register tile of a weight gradient: MR input by one or two vectors of output channels, summed over pixels.
 *
 * Per pixel: MR broadcasts, a load for each vector, and their multiply-adds. 8 x 2 of 32 registers (4 x 2 of 16): 16 multiply-adds, 8
 * cycles at two a cycle, for 10 loads, 5 cycles.
 */
#ifndef DLA_CPU_ISA_WEIGHT_GRADIENT_TILE_H
#define DLA_CPU_ISA_WEIGHT_GRADIENT_TILE_H

#include "cpu/isa/vector.h"

enum {
    MR_WIDE = VEC_REGISTERS / 4,   /* with two vectors of output channels */
    MR_NARROW = VEC_REGISTERS / 2, /* with one */
    MR_TALL = VEC_REGISTERS * 3 / 4
};

/* What a register tile walks over. */
struct walk {
    int images, rows, columns;
    int64_t in_image, in_row, in_column, out_column; /* steps in floats */
    const float *in, *out;
};

/* Adds one pixel to the sums of a tile: in (mr), out (vectors). */
ALWAYS_INLINE void add_pixel(vec (*sum)[2], const float *in, const float *out, const int mr, const int vectors)
{
    vec o[2];

    UNROLL(2)
    for (int v = 0; v < vectors; v++)
        o[v] = vec_load(out + v * VEC_WIDTH);
    UNROLL(24)
    for (int m = 0; m < mr; m++) {
        vec x = vec_all(in[m]);
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            sum[m][v] = vec_accumulate(x, o[v], sum[m][v]);
    }
}

/* sums (mr, nr) += in^T * out_gradient. mr and vectors are constants at every call; without the pragmas GCC keeps the sums of the
 * tile of 24 in memory. */
ALWAYS_INLINE void multiply_tile(const struct walk *w, float *sums, int mr, int vectors)
{
    vec sum[MR_TALL][2];
    UNROLL(24)
    for (int m = 0; m < mr; m++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            sum[m][v] = vec_load(sums + (m * vectors + v) * VEC_WIDTH);
    }
    const float *out = w->out;
    for (int image = 0; image < w->images; image++)
        for (int row = 0; row < w->rows; row++) {
            const float *in = w->in + image * w->in_image + row * w->in_row;
            int column = 0;
            for (; column + TERMS_AT_ONCE <= w->columns; column += TERMS_AT_ONCE) {
                UNROLL(2)
                for (int pixel = 0; pixel < TERMS_AT_ONCE; pixel++, in += w->in_column, out += w->out_column)
                    add_pixel(sum, in, out, mr, vectors);
            }
            for (; TERMS_AT_ONCE > 1 && column < w->columns; column++, in += w->in_column, out += w->out_column)
                add_pixel(sum, in, out, mr, vectors);
        }
    UNROLL(24)
    for (int m = 0; m < mr; m++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            vec_store(sums + (m * vectors + v) * VEC_WIDTH, sum[m][v]);
    }
}

#endif
