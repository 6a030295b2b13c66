/* log_softmax.c - logarithms of probabilities over the channels of each pixel, and their gradient.
 *
 *     out[c] = in[c] - m - log( sum over channels of exp(in[k] - m) ),  m = the largest in[k]
 *     in'[c] = g[c] - exp(out[c]) * sum over channels of g[k]
 *
 * VEC_WIDTH pixels are a run: their sums are collected, so that the logarithm is a vector's work. With few channels (2 for
 * boundaries) a pixel would leave most lanes empty: the run is turned into columns, and nothing goes across lanes. With more (19
 * for streets) turning would cost more than it saves: vectors lie along a pixel's channels, and its maximum and sum are reduced,
 * some 60 operations a pixel of 19 channels.
 */
#include "cpu/isa/training_isa.h"

#include <math.h>

enum { MOST_COLUMNS = VEC_WIDTH / 2 }; /* channels up to which a run is turned */

typedef int32_t vec_bits __attribute__((vector_size(sizeof(vec))));

/* exp(x) for x <= 0, relative error 2e-7; below 2^-126 it is 2^-126, NaN stays NaN.
 * exp(x) = 2^n * 2^f with n the integer next to x / log 2; 2^f by its Taylor polynomial, |f| <= 1/2: 0.35^7 / 7! = 1.2e-7. */
ALWAYS_INLINE vec exp_not_above_one(vec x)
{
    const vec magic = vec_all(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits */
    vec t = vec_max(vec_all(-126.0f), x * vec_all(1.44269504f));
    vec shifted = t + magic, f = (t - (shifted - magic)) * vec_all(0.693147181f);
    vec_bits n = (vec_bits)shifted - (vec_bits)magic;
    vec power = (vec)((n + 127) << 23);
    vec p = vec_fma(f, vec_all(1.0f / 720.0f), vec_all(1.0f / 120.0f));
    p = vec_fma(f, p, vec_all(1.0f / 24.0f));
    p = vec_fma(f, p, vec_all(1.0f / 6.0f));
    p = vec_fma(f, p, vec_all(0.5f));
    p = vec_fma(f, p, vec_all(1.0f));
    p = vec_fma(f, p, vec_all(1.0f));
    return p * power;
}

/* log(x) for finite x >= 1, absolute error 1e-7 of the result's last places; NaN stays NaN.
 * x = 2^n * r with r next to 1, log(r) = 2 atanh(z) with z = (r - 1) / (r + 1), |z| <= 0.172: its series to z^9, 2 z^11 / 11 = 7e-10. */
ALWAYS_INLINE vec log_from_one_on(vec x)
{
    const vec_bits half_root = (vec_bits)vec_all(0.707106781f);
    vec_bits n = ((vec_bits)x - half_root) >> 23;
    vec r = (vec)((vec_bits)x - (n << 23));
    vec z = (r - vec_all(1.0f)) / (r + vec_all(1.0f)), square = z * z;
    vec p = vec_fma(square, vec_all(2.0f / 9.0f), vec_all(2.0f / 7.0f));
    p = vec_fma(square, p, vec_all(2.0f / 5.0f));
    p = vec_fma(square, p, vec_all(2.0f / 3.0f));
    p = vec_fma(square, p, vec_all(2.0f));
    return vec_fma(z, p, vec_fma(__builtin_convertvector(n, vec), vec_all(0.693147181f), vec_zero() * x));
}

/* One run of at most VEC_WIDTH pixels, with at most MOST_COLUMNS channels. Lanes behind the last pixel are zero. */
static void run_columns(int pixels, int channels, const float *in, int64_t in_stride, float *out, int64_t out_stride)
{
    float columns[MOST_COLUMNS * VEC_WIDTH]; /* (channels, VEC_WIDTH) */
    vec largest = vec_all(-INFINITY), sum = vec_zero();

    if (pixels < VEC_WIDTH)
        memset(columns, 0, sizeof columns);
    for (int p = 0; p < pixels; p++)
        for (int c = 0; c < channels; c++)
            columns[c * VEC_WIDTH + p] = in[p * in_stride + c];
    for (int c = 0; c < channels; c++)
        largest = vec_max(largest, vec_load(columns + c * VEC_WIDTH));
    for (int c = 0; c < channels; c++)
        sum = sum + exp_not_above_one(vec_load(columns + c * VEC_WIDTH) - largest);
    vec shift = log_from_one_on(sum);
    for (int c = 0; c < channels; c++)
        vec_store(columns + c * VEC_WIDTH, vec_load(columns + c * VEC_WIDTH) - largest - shift);
    for (int p = 0; p < pixels; p++)
        for (int c = 0; c < channels; c++)
            out[p * out_stride + c] = columns[c * VEC_WIDTH + p];
}

/* The same with vectors along the channels. */
static void run_pixels(int pixels, int channels, const float *in, int64_t in_stride, float *out, int64_t out_stride)
{
    float largest[VEC_WIDTH], sums[VEC_WIDTH], nowhere[VEC_WIDTH]; /* nowhere: -infinity behind the last channel, else 0 */
    int whole = channels / VEC_WIDTH * VEC_WIDTH, rest = channels - whole;

    for (int lane = 0; lane < VEC_WIDTH; lane++) {
        nowhere[lane] = lane < rest ? 0.0f : -INFINITY;
        sums[lane] = 1.0f;
    }
    for (int p = 0; p < pixels; p++) {
        const float *pixel = in + p * in_stride;
        vec tail = vec_load_first(pixel + whole, rest) + vec_load(nowhere), most = tail;
        for (int c = 0; c < whole; c += VEC_WIDTH)
            most = vec_max(most, vec_load(pixel + c));
        largest[p] = vec_largest_lane(most);
        vec offset = vec_all(largest[p]), sum = exp_not_above_one(tail - offset); /* 2^-126 from empty lanes */
        for (int c = 0; c < whole; c += VEC_WIDTH)
            sum = sum + exp_not_above_one(vec_load(pixel + c) - offset);
        sums[p] = vec_sum_of_lanes(sum);
    }
    vec_store(sums, log_from_one_on(vec_load(sums)));
    for (int p = 0; p < pixels; p++) {
        vec offset = vec_all(largest[p]), shift = vec_all(sums[p]);
        for (int c = 0; c < whole; c += VEC_WIDTH)
            vec_store(out + p * out_stride + c, vec_load(in + p * in_stride + c) - offset - shift);
        vec_store_first(out + p * out_stride + whole, vec_load_first(in + p * in_stride + whole, rest) - offset - shift, rest);
    }
}

void ISA_NAME(log_softmax_run)(int64_t pixels, int channels, struct const_view in, struct map_view out)
{
    for (int64_t p = 0; p < pixels; p += VEC_WIDTH) {
        int run = pixels - p < VEC_WIDTH ? (int)(pixels - p) : VEC_WIDTH;
        (channels <= MOST_COLUMNS ? run_columns : run_pixels)(run, channels, in.data + p * in.stride, in.stride,
                                                              out.data + p * out.pixel_stride, out.pixel_stride);
    }
}

void ISA_NAME(log_softmax_backward)(int64_t pixels, int channels, struct const_view out, struct const_view gradient, struct map_view to,
                                    bool accumulate)
{
    for (int64_t p = 0; p < pixels; p++) {
        const float *y = out.data + p * out.stride, *g = gradient.data + p * gradient.stride;
        float *x = to.data + p * to.pixel_stride, sum = 0.0f;
        for (int c = 0; c < channels; c++)
            sum += g[c];
        for (int c = 0; c < channels; c += VEC_WIDTH) {
            int lanes = channels - c < VEC_WIDTH ? channels - c : VEC_WIDTH;
            vec share = vec_fnma(exp_not_above_one(vec_load_first(y + c, lanes)), vec_all(sum), vec_load_first(g + c, lanes));
            if (accumulate)
                share = share + vec_load_first(x + c, lanes);
            vec_store_first(x + c, share, lanes);
        }
    }
}
