/* norm_training.c - batch normalisation of a training step: sums over pixels, and the passes that use them.
 *
 * All four are bound by memory, so each touches every map once, and in order: relu, residual and the residual's gradient ride along. Sums
 * are taken in float over SUM_PIXELS pixels and then added in double, so that a million pixels cost no accuracy. Meanwhile those of few
 * channels are in registers, those of many in L1: to go through the pixels again for every few of their channels is to wait for memory at
 * each.
 */
#include "cpu/isa/sizes.h"
#include "cpu/isa/training_isa.h"

enum {
    SUM_PIXELS = 128,
    FEW_VECTORS = 4,     /* of channels, whose sums fit in registers */
    MANY_CHANNELS = 1024 /* whose sums are taken together: 8 KB of L1 */
};

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

/* m: the gradient where z > 0. Without a residual z follows from x, by the same operation as forward, and is not read. */
ALWAYS_INLINE vec masked_gradient(const struct norm_run *run, int64_t p, int c, int lanes, vec x, bool relu, bool has_residual)
{
    const float *out_gradient = run->out_gradient.data + p * run->out_gradient.stride + c;
    vec_fetch_ahead(out_gradient);
    vec gradient = load(out_gradient, lanes);
    if (!relu)
        return gradient;
    vec z = has_residual ? load(run->out.data + p * run->out.pixel_stride + c, lanes)
                         : vec_fma(load(run->scale + c, lanes), x, load(run->shift + c, lanes));
    return vec_where_positive(z, gradient);
}

/* Which sums: of x - center and its square, or of m and m * (x - center). Constants at every call. */
struct sum_kind {
    bool backward, relu, has_residual;
};

/* What channels c .. c + lanes-1 of pixel p add: `first`, and first * factor. */
ALWAYS_INLINE void terms_of(const struct norm_run *run, const struct sum_kind kind, int64_t p, int c, int lanes, vec center, vec *first,
                            vec *factor)
{
    const float *in = run->in.data + p * run->in.stride + c;
    vec_fetch_ahead(in);
    vec x = load(in, lanes);

    *factor = x - center;
    *first = kind.backward ? masked_gradient(run, p, c, lanes, x, kind.relu, kind.has_residual) : *factor;
}

/* Adds the lanes of v to sums[0 .. lanes-1]. */
static void add_lanes(double *sums, vec v, int lanes)
{
    float lane[VEC_WIDTH];
    vec_store(lane, v);
    for (int i = 0; i < lanes; i++)
        sums[i] += (double)lane[i];
}

/* Channels from c on, `lanes` of them in the last vector. `vectors` is a constant at every call: the sums stay in registers. */
ALWAYS_INLINE void sum_few(const struct norm_run *run, const struct sum_kind kind, const float *center, double *sums, int64_t begin,
                           int64_t end, int c, const int vectors, int lanes)
{
    vec sum[FEW_VECTORS], product[FEW_VECTORS], centers[FEW_VECTORS], first, factor;

    for (int v = 0; v < vectors; v++) {
        sum[v] = product[v] = vec_zero();
        centers[v] = load(center + c + v * VEC_WIDTH, v == vectors - 1 ? lanes : VEC_WIDTH);
    }
    for (int64_t p = begin; p < end; p++)
        for (int v = 0; v < vectors; v++) {
            terms_of(run, kind, p, c + v * VEC_WIDTH, v == vectors - 1 ? lanes : VEC_WIDTH, centers[v], &first, &factor);
            sum[v] += first;
            product[v] = vec_fma(first, factor, product[v]);
        }
    for (int v = 0; v < vectors; v++) {
        add_lanes(sums + c + v * VEC_WIDTH, sum[v], v == vectors - 1 ? lanes : VEC_WIDTH);
        add_lanes(sums + run->channels + c + v * VEC_WIDTH, product[v], v == vectors - 1 ? lanes : VEC_WIDTH);
    }
}

/* Channels c .. c + channels-1, at most MANY_CHANNELS. */
ALWAYS_INLINE void sum_many(const struct norm_run *run, const struct sum_kind kind, const float *center, double *sums, int64_t begin,
                            int64_t end, int c, int channels)
{
    vec sum[MANY_CHANNELS / VEC_WIDTH], product[MANY_CHANNELS / VEC_WIDTH], first, factor;
    int vectors = divide_up(channels, VEC_WIDTH);

    for (int v = 0; v < vectors; v++)
        sum[v] = product[v] = vec_zero();
    for (int64_t p = begin; p < end; p++)
        for (int v = 0, left = channels; left > 0; v++, left -= VEC_WIDTH) {
            int lanes = smaller(left, VEC_WIDTH), at = c + v * VEC_WIDTH;
            terms_of(run, kind, p, at, lanes, load(center + at, lanes), &first, &factor);
            sum[v] += first;
            product[v] = vec_fma(first, factor, product[v]);
        }
    for (int v = 0; v < vectors; v++) {
        int lanes = smaller(channels - v * VEC_WIDTH, VEC_WIDTH);
        add_lanes(sums + c + v * VEC_WIDTH, sum[v], lanes);
        add_lanes(sums + run->channels + c + v * VEC_WIDTH, product[v], lanes);
    }
}

/* center: (channels), sums: (2, channels). */
ALWAYS_INLINE void sum_all(const struct norm_run *run, const struct sum_kind kind, const float *center, double *sums)
{
    for (int64_t begin = 0; begin < run->pixels; begin += SUM_PIXELS) {
        int64_t end = run->pixels - begin < SUM_PIXELS ? run->pixels : begin + SUM_PIXELS;
        int c = 0;
        while (run->channels - c > FEW_VECTORS * VEC_WIDTH) {
            int channels = smaller(run->channels - c, MANY_CHANNELS);
            sum_many(run, kind, center, sums, begin, end, c, channels);
            c += channels;
        }
        int vectors = divide_up(run->channels - c, VEC_WIDTH), lanes = run->channels - c - (vectors - 1) * VEC_WIDTH;
        if (vectors == 4)
            sum_few(run, kind, center, sums, begin, end, c, 4, lanes);
        else if (vectors == 3)
            sum_few(run, kind, center, sums, begin, end, c, 3, lanes);
        else if (vectors == 2)
            sum_few(run, kind, center, sums, begin, end, c, 2, lanes);
        else if (vectors == 1)
            sum_few(run, kind, center, sums, begin, end, c, 1, lanes);
    }
}

void ISA_NAME(norm_sums)(const struct norm_run *run, const float *shift, double *sums)
{
    sum_all(run, (struct sum_kind){false, false, false}, shift, sums);
}

void ISA_NAME(norm_backward_sums)(const struct norm_run *run, double *sums)
{
    if (run->relu && run->residual.data)
        sum_all(run, (struct sum_kind){true, true, true}, run->mean, sums);
    else if (run->relu)
        sum_all(run, (struct sum_kind){true, true, false}, run->mean, sums);
    else
        sum_all(run, (struct sum_kind){true, false, false}, run->mean, sums);
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
            vec_fetch_ahead(in + c);
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

ALWAYS_INLINE void backward_apply(const struct norm_run *run, bool relu, bool has_residual)
{
    for (int64_t p = 0; p < run->pixels; p++) {
        const float *in = run->in.data + p * run->in.stride;
        float *in_gradient = run->in_gradient.data + p * run->in_gradient.pixel_stride;
        float *residual_gradient =
            run->residual_gradient.data ? run->residual_gradient.data + p * run->residual_gradient.pixel_stride : NULL;
        for (int c = 0; c < run->channels; c += VEC_WIDTH) {
            int lanes = run->channels - c < VEC_WIDTH ? run->channels - c : VEC_WIDTH;
            vec_fetch_ahead(in + c);
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
