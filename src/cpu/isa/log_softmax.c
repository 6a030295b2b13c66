/* log_softmax.c - logarithms of probabilities over the channels of each pixel, and their gradient, a vector of pixels at a time.
 *
 *     out[c] = in[c] - m - log( sum over channels of exp(in[k] - m) ),  m = the largest in[k]
 *     in'[c] = g[c] - exp(out[c]) * sum over channels of g[k]
 *
 * Dense networks have few channels here (2 for boundaries, 19 for streets) and a pixel's lie together, so VEC_WIDTH pixels are
 * turned into columns first: then maxima, sums and exponentials have no work across lanes. Bound by that turning, some
 * 2 loads and 2 stores an element; the exponential itself is 12 operations a vector.
 */
#include "cpu/isa/training_isa.h"

#include <math.h>

enum { MOST_CHANNELS = 256 }; /* columns: 16 KB at most */

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

/* columns: (channels, VEC_WIDTH). Lanes behind the last pixel are zero. */
ALWAYS_INLINE void turn(const float *in, int64_t stride, int pixels, int channels, float *columns)
{
    if (pixels < VEC_WIDTH)
        memset(columns, 0, (size_t)channels * VEC_WIDTH * sizeof(float));
    for (int p = 0; p < pixels; p++)
        for (int c = 0; c < channels; c++)
            columns[c * VEC_WIDTH + p] = in[p * stride + c];
}

/* One run of at most VEC_WIDTH pixels. */
static void log_softmax_pixels(int pixels, int channels, const float *in, int64_t in_stride, float *out, int64_t out_stride)
{
    float columns[MOST_CHANNELS * VEC_WIDTH], logs[VEC_WIDTH];
    turn(in, in_stride, pixels, channels, columns);
    vec largest = vec_all(-INFINITY), sum = vec_zero();
    for (int c = 0; c < channels; c++)
        largest = vec_max(largest, vec_load(columns + c * VEC_WIDTH));
    for (int c = 0; c < channels; c++)
        sum = sum + exp_not_above_one(vec_load(columns + c * VEC_WIDTH) - largest);
    vec_store(logs, sum);
    for (int p = 0; p < pixels; p++)
        logs[p] = logf(logs[p]);
    vec shift = vec_load(logs);
    for (int c = 0; c < channels; c++)
        vec_store(columns + c * VEC_WIDTH, vec_load(columns + c * VEC_WIDTH) - largest - shift);
    for (int p = 0; p < pixels; p++)
        for (int c = 0; c < channels; c++)
            out[p * out_stride + c] = columns[c * VEC_WIDTH + p];
}

bool ISA_NAME(log_softmax_run)(int64_t pixels, int channels, struct const_view in, struct map_view out)
{
    if (channels > MOST_CHANNELS)
        return false;
    for (int64_t p = 0; p < pixels; p += VEC_WIDTH)
        log_softmax_pixels(pixels - p < VEC_WIDTH ? (int)(pixels - p) : VEC_WIDTH, channels, in.data + p * in.stride, in.stride,
                           out.data + p * out.pixel_stride, out.pixel_stride);
    return true;
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
