/* norm_training.c - batch normalisation of a training step: sums over pixels, and the passes that use them.
 *
 * All four are bound by memory, so each touches every map once: relu, residual and the residual's gradient ride along. Sums
 * are taken in registers over SUM_PIXELS pixels and then added in double, so that a million pixels cost no accuracy.
 */
#include "cpu/isa/training_isa.h"

enum { SUM_PIXELS = 128 };

/* Adds the lanes of v to sums[0 .. lanes-1]. */
static void add_lanes(double *sums, vec v, int lanes)
{
    float lane[VEC_WIDTH];
    vec_store(lane, v);
    for (int i = 0; i < lanes; i++)
        sums[i] += (double)lane[i];
}

/* `vectors` is a constant at every call: the accumulators stay in registers. `lanes` counts those of the last vector. */
ALWAYS_INLINE void sums_block(const struct norm_run *run, const float *shift, double *sums, int64_t first, int count, int channel,
                              int vectors, int lanes)
{
    vec sum[4], square[4], origin[4];
    for (int v = 0; v < vectors; v++) {
        sum[v] = square[v] = vec_zero();
        origin[v] = vec_load_first(shift + channel + v * VEC_WIDTH, v == vectors - 1 ? lanes : VEC_WIDTH);
    }
    const float *in = run->in.data + first * run->in.stride + channel;
    for (int p = 0; p < count; p++, in += run->in.stride)
        for (int v = 0; v < vectors; v++) {
            vec x = (v == vectors - 1 && lanes < VEC_WIDTH ? vec_load_first(in + v * VEC_WIDTH, lanes) : vec_load(in + v * VEC_WIDTH))
                    - origin[v];
            sum[v] += x;
            square[v] = vec_fma(x, x, square[v]);
        }
    for (int v = 0; v < vectors; v++) {
        int n = v == vectors - 1 ? lanes : VEC_WIDTH;
        add_lanes(sums + channel + v * VEC_WIDTH, sum[v], n);
        add_lanes(sums + run->channels + channel + v * VEC_WIDTH, square[v], n);
    }
}

void ISA_NAME(norm_sums)(const struct norm_run *run, const float *shift, double *sums)
{
    for (int64_t first = 0; first < run->pixels; first += SUM_PIXELS) {
        int count = run->pixels - first < SUM_PIXELS ? (int)(run->pixels - first) : SUM_PIXELS;
        int channel = 0;
        for (; channel + 4 * VEC_WIDTH <= run->channels; channel += 4 * VEC_WIDTH)
            sums_block(run, shift, sums, first, count, channel, 4, VEC_WIDTH);
        for (; channel + 2 * VEC_WIDTH <= run->channels; channel += 2 * VEC_WIDTH)
            sums_block(run, shift, sums, first, count, channel, 2, VEC_WIDTH);
        for (; channel + VEC_WIDTH <= run->channels; channel += VEC_WIDTH)
            sums_block(run, shift, sums, first, count, channel, 1, VEC_WIDTH);
        if (channel < run->channels)
            sums_block(run, shift, sums, first, count, channel, 1, run->channels - channel);
    }
}

ALWAYS_INLINE vec load(const float *p, int lanes)
{
    return lanes == VEC_WIDTH ? vec_load(p) : vec_load_first(p, lanes);
}

ALWAYS_INLINE void store(float *p, vec v, int lanes)
{
    if (lanes == VEC_WIDTH)
        vec_store(p, v);
    else
        vec_store_first(p, v, lanes);
}

/* One pixel's channels, vector by vector; relu and has_residual are constants at every call. max(0, z), in this order, lets a
 * NaN through on every instruction set, so that a run that diverged is noticed. */
ALWAYS_INLINE void apply(const struct norm_run *run, bool relu, bool has_residual)
{
    for (int64_t p = 0; p < run->pixels; p++) {
        const float *in = run->in.data + p * run->in.stride;
        const float *residual = has_residual ? run->residual.data + p * run->residual.stride : NULL;
        float *out = run->out.data + p * run->out.pixel_stride;
        for (int c = 0; c < run->channels; c += VEC_WIDTH) {
            int lanes = run->channels - c < VEC_WIDTH ? run->channels - c : VEC_WIDTH;
            vec z = vec_fma(load(run->scale + c, lanes), load(in + c, lanes), load(run->shift + c, lanes));
            if (has_residual)
                z += load(residual + c, lanes);
            store(out + c, relu ? vec_max(vec_zero(), z) : z, lanes);
        }
    }
}

void ISA_NAME(norm_apply)(const struct norm_run *run)
{
    if (run->relu && run->residual.data)
        apply(run, true, true);
    else if (run->relu)
        apply(run, true, false);
    else if (run->residual.data)
        apply(run, false, true);
    else
        apply(run, false, false);
}

/* m: the gradient where z > 0. Without a residual z follows from x, by the same operation as forward, and is not read. */
ALWAYS_INLINE vec masked_gradient(const struct norm_run *run, int64_t p, int c, int lanes, vec x, bool relu, bool has_residual)
{
    vec gradient = load(run->out_gradient.data + p * run->out_gradient.stride + c, lanes);
    if (!relu)
        return gradient;
    vec z = has_residual ? load(run->out.data + p * run->out.pixel_stride + c, lanes)
                         : vec_fma(load(run->scale + c, lanes), x, load(run->shift + c, lanes));
    return vec_where_positive(z, gradient);
}

ALWAYS_INLINE void backward_sums_block(const struct norm_run *run, double *sums, int64_t first, int count, int channel, int lanes,
                                       bool relu, bool has_residual)
{
    vec sum = vec_zero(), product = vec_zero(), mean = load(run->mean + channel, lanes);
    for (int64_t p = first; p < first + count; p++) {
        vec x = load(run->in.data + p * run->in.stride + channel, lanes);
        vec m = masked_gradient(run, p, channel, lanes, x, relu, has_residual);
        sum += m;
        product = vec_fma(m, x - mean, product);
    }
    add_lanes(sums + channel, sum, lanes);
    add_lanes(sums + run->channels + channel, product, lanes);
}

ALWAYS_INLINE void backward_sums(const struct norm_run *run, double *sums, bool relu, bool has_residual)
{
    for (int64_t first = 0; first < run->pixels; first += SUM_PIXELS) {
        int count = run->pixels - first < SUM_PIXELS ? (int)(run->pixels - first) : SUM_PIXELS;
        int channel = 0;
        for (; channel + VEC_WIDTH <= run->channels; channel += VEC_WIDTH)
            backward_sums_block(run, sums, first, count, channel, VEC_WIDTH, relu, has_residual);
        if (channel < run->channels)
            backward_sums_block(run, sums, first, count, channel, run->channels - channel, relu, has_residual);
    }
}

void ISA_NAME(norm_backward_sums)(const struct norm_run *run, double *sums)
{
    if (run->relu && run->residual.data)
        backward_sums(run, sums, true, true);
    else if (run->relu)
        backward_sums(run, sums, true, false);
    else
        backward_sums(run, sums, false, false);
}

ALWAYS_INLINE void backward_apply(const struct norm_run *run, bool relu, bool has_residual)
{
    for (int64_t p = 0; p < run->pixels; p++) {
        const float *in = run->in.data + p * run->in.stride;
        float *in_gradient = run->in_gradient.data + p * run->in_gradient.pixel_stride;
        float *residual_gradient =
            run->residual_gradient.data ? run->residual_gradient.data + p * run->residual_gradient.pixel_stride : NULL;
        for (int c = 0; c < run->channels; c += VEC_WIDTH) {
            int lanes = run->channels - c < VEC_WIDTH ? run->channels - c : VEC_WIDTH;
            vec x = load(in + c, lanes);
            vec m = masked_gradient(run, p, c, lanes, x, relu, has_residual);
            if (residual_gradient) {
                vec before = run->accumulate_residual ? load(residual_gradient + c, lanes) : vec_zero();
                store(residual_gradient + c, before + m, lanes);
            }
            vec gradient =
                vec_fma(load(run->gradient_of_x + c, lanes), x - load(run->mean + c, lanes), load(run->gradient_constant + c, lanes));
            gradient = vec_fma(load(run->scale + c, lanes), m, gradient);
            if (run->accumulate_in)
                gradient += load(in_gradient + c, lanes);
            store(in_gradient + c, gradient, lanes);
        }
    }
}

void ISA_NAME(norm_backward_apply)(const struct norm_run *run)
{
    if (run->relu && run->residual.data)
        backward_apply(run, true, true);
    else if (run->relu)
        backward_apply(run, true, false);
    else
        backward_apply(run, false, false);
}
