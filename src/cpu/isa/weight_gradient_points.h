/* weight_gradient_points.h - gradients of 3x3 weights that are summed in Winograd's domain: what their ways have in common.
 *
 * For input channel i and output channel o the sum at each point p is a matrix product over tiles,
 *
 *     dU[p] (in_channels x out_channels)  =  V[p]^T (in_channels x tiles) * W[p] (tiles x out_channels)
 *
 * and at the end all points of an i and an o are transformed to nine taps. dU lies as (points, column tiles, row tiles, rows, lanes), a
 * register tile together (weight_gradient_tile.h).
 */
#ifndef DLA_CPU_ISA_WEIGHT_GRADIENT_POINTS_H
#define DLA_CPU_ISA_WEIGHT_GRADIENT_POINTS_H

#include "cpu/isa/weight_gradient_isa.h"
#include "cpu/isa/weight_gradient_tile.h"

enum {
    GRADIENT_TAPS = 9,
    LEAST_FILLED = 70 /* of a hundred lanes: 28 and 56 channels fill 76 of those of both maps */
};

struct point_sums {
    int in_channels, out_channels;
    int in_lanes, out_lanes;            /* the same, rounded up to whole vectors and register tiles */
    int vectors, rows;                  /* of a register tile */
    int row_tiles, column_tiles;        /* register tiles of a point */
    int64_t tile_floats, column_floats; /* of a register tile, of a column of them */
    int64_t point_floats;
};

static struct point_sums point_sums_of(const struct conv_shape *s)
{
    struct point_sums p = {.in_channels = s->in_channels, .out_channels = s->out_channels};

    p.out_lanes = divide_up(s->out_channels, VEC_WIDTH) * VEC_WIDTH;
    p.vectors = p.out_lanes % (2 * VEC_WIDTH) == 0 ? 2 : 1;
    p.rows = p.vectors == 2 ? MR_WIDE : MR_NARROW;
    int whole = p.rows > VEC_WIDTH ? p.rows : VEC_WIDTH; /* both are powers of two */
    p.in_lanes = divide_up(s->in_channels, whole) * whole;
    p.row_tiles = p.in_lanes / p.rows;
    p.column_tiles = p.out_lanes / (p.vectors * VEC_WIDTH);
    p.tile_floats = (int64_t)p.rows * p.vectors * VEC_WIDTH;
    p.column_floats = p.row_tiles * p.tile_floats;
    p.point_floats = (int64_t)p.in_lanes * p.out_lanes;
    return p;
}

/* Whether both maps' channels fill vectors and register tiles well enough. */
static bool fills_point_sums(const struct conv_shape *s)
{
    return (int64_t)s->in_channels * s->out_channels * 100 >= LEAST_FILLED * point_sums_of(s).point_floats;
}

/* A column tile of the sums that begin at the point: `count` rows of V and W, in_row and out_row floats apart, are added. */
static void add_products(const struct point_sums *p, int column_tile, int count, const float *in, int64_t in_row, const float *out,
                         int64_t out_row, float *sums)
{
    struct walk walk = {.images = 1, .rows = 1, .columns = count, .in_column = in_row, .out_column = out_row};

    walk.out = out + column_tile * p->vectors * VEC_WIDTH;
    sums += column_tile * p->column_floats;
    for (int row_tile = 0; row_tile < p->row_tiles; row_tile++, sums += p->tile_floats) {
        walk.in = in + row_tile * p->rows;
        if (p->vectors == 2)
            multiply_tile(&walk, sums, MR_WIDE, 2);
        else
            multiply_tile(&walk, sums, MR_NARROW, 1);
    }
}

/* The taps (GRADIENT_TAPS, lanes) of one input channel and a vector of output channels, from their sums at the first point on. */
typedef void tap_transform(const float *sums, int64_t point_floats, float *taps);

/* A column tile of all points: the sums of all chunks are added in order to the first one's, transformed to taps, and added to the
 * gradient (out_channels, in_channels, taps). */
static void finish_column(const struct point_sums *p, int points, int column_tile, int chunks, float *sums, tap_transform *transform,
                          float *gradient)
{
    int width = p->vectors * VEC_WIDTH;

    sums += column_tile * p->column_floats;
    for (int chunk = 1; chunk < chunks; chunk++)
        for (int point = 0; point < points; point++)
            for (int64_t at = point * p->point_floats; at < point * p->point_floats + p->column_floats; at += VEC_WIDTH)
                vec_store(sums + at, vec_load(sums + at) + vec_load(sums + chunk * points * p->point_floats + at));
    for (int i = 0; i < p->in_channels; i++)
        for (int v = 0; v < p->vectors; v++) {
            float taps[GRADIENT_TAPS * VEC_WIDTH];
            int first = column_tile * width + v * VEC_WIDTH, lanes = smaller(p->out_channels - first, VEC_WIDTH);
            transform(sums + (int64_t)i * width + v * VEC_WIDTH, p->point_floats, taps);
            for (int lane = 0; lane < lanes; lane++) {
                int64_t o = first + lane;
                float *to = gradient + (o * p->in_channels + i) * GRADIENT_TAPS;
                for (int tap = 0; tap < GRADIENT_TAPS; tap++)
                    to[tap] += taps[tap * VEC_WIDTH + lane];
            }
        }
}

#endif
