/* upsample.c - the enlargement of iterative deep aggregation: depthwise transposed convolution with a window of twice its stride.
 *
 * With stride s and padding p, pixel x of a result's row hears exactly two columns of the input, and likewise two rows:
 *
 *     i = (x + p) / s, k = (x + p) mod s:   out[x] = in[i] * weight[k] + in[i - 1] * weight[k + s]
 *
 * So a pixel takes four products a channel. The pixels with one k (a phase) share their weights: they stay in registers for a
 * whole row, and an input column is loaded once for two neighbouring results. Two loads, one store and four FMAs a vector,
 * two cycles; what bounds it is writing the map, s^2 times as large as what is read.
 */
#include "cpu/isa/training_isa.h"
#include "cpu/map.h"

/* What one phase of a row needs. A result at an edge hears one row of the input, or one column, as the others lie outside. */
struct phase {
    int row_count;          /* 1 or 2, the lower first */
    const float *in[2];     /* pixel 0 of the row, the vector's channels */
    const float *weight[2]; /* tap (row, k), the vector's channels; tap k + stride is `far` floats on */
    int64_t far, in_stride, out_step;
    int in_width, first_column, count; /* results hear columns first_column - 1 and first_column, and so on */
    vec bias;
    float *out;
};

ALWAYS_INLINE vec load_lanes(const float *p, int lanes)
{
    return lanes == VEC_WIDTH ? vec_load(p) : vec_load_first(p, lanes);
}

ALWAYS_INLINE void run_phase(const struct phase *p, const int rows, const int lanes)
{
    vec near[2], far[2], before[2];
    float *out = p->out;
    int column = p->first_column, last = column + p->count;

    UNROLL(2)
    for (int r = 0; r < rows; r++) {
        near[r] = load_lanes(p->weight[r], lanes);
        far[r] = load_lanes(p->weight[r] + p->far, lanes);
        before[r] = column > 0 ? load_lanes(p->in[r] + (column - 1) * p->in_stride, lanes) : vec_zero();
    }
    for (; column < last; column++, out += p->out_step) {
        vec sum = p->bias;
        UNROLL(2)
        for (int r = 0; r < rows; r++) {
            vec here = column < p->in_width ? load_lanes(p->in[r] + column * p->in_stride, lanes) : vec_zero();
            sum = vec_fma(before[r], far[r], vec_fma(here, near[r], sum));
            before[r] = here;
        }
        if (lanes == VEC_WIDTH)
            vec_store(out, sum);
        else
            vec_store_first(out, sum, lanes);
    }
}

static void run_whole(const struct phase *p)
{
    if (p->row_count == 2)
        run_phase(p, 2, VEC_WIDTH);
    else
        run_phase(p, 1, VEC_WIDTH);
}

static void run_tail(const struct phase *p, int lanes)
{
    if (p->row_count == 2)
        run_phase(p, 2, lanes);
    else
        run_phase(p, 1, lanes);
}

void ISA_NAME(upsample_row)(const struct map_call *c, int image, int y)
{
    int below = (y + c->padding) / c->stride, tap_row = (y + c->padding) % c->stride;
    int64_t tap = c->channels; /* floats from tap to tap */
    struct phase p = {
        .far = c->stride * tap, .in_stride = c->in.pixel_stride, .out_step = c->stride * c->out.pixel_stride, .in_width = c->in_width};
    const float *in[2], *weight[2];

    for (int r = 0; r < 2; r++)
        if (below - r >= 0 && below - r < c->in_height) {
            in[p.row_count] = map_pixel(&c->in, c->in_height, c->in_width, image, below - r, 0);
            weight[p.row_count++] = c->weight + (tap_row + r * c->stride) * c->kernel * tap;
        }
    for (int channel = 0; channel < c->channels; channel += VEC_WIDTH) {
        int lanes = c->channels - channel < VEC_WIDTH ? c->channels - channel : VEC_WIDTH;
        p.bias = c->shift ? vec_load_first(c->shift + channel, lanes) : vec_zero();
        for (int x = 0; x < c->stride && x < c->out_width; x++) {
            int k = (x + c->padding) % c->stride;
            for (int r = 0; r < p.row_count; r++) {
                p.in[r] = in[r] + channel;
                p.weight[r] = weight[r] + k * tap + channel;
            }
            p.first_column = (x + c->padding) / c->stride;
            p.count = (c->out_width - x + c->stride - 1) / c->stride;
            p.out = map_pixel(&c->out, c->out_height, c->out_width, image, y, x) + channel;
            if (lanes == VEC_WIDTH)
                run_whole(&p);
            else
                run_tail(&p, lanes);
        }
    }
}
