/* map_training.c - gradients of copies, relu, pools and the upsampling of dense networks (map.h has their forward side).
 *
 * Plain loops over channels, which the compiler turns into vectors for each instruction set. A map's pixel is worked off
 * CHANNEL_BLOCK channels at a time so that the choice of a window's maximum fits in the first-level cache.
 */
#include "cpu/isa/training_isa.h"

enum { CHANNEL_BLOCK = 128 };

void ISA_NAME(map_copy)(int64_t pixels, int channels, struct const_view in, struct map_view out, bool accumulate)
{
    for (int64_t p = 0; p < pixels; p++) {
        const float *from = in.data + p * in.stride;
        float *restrict to = out.data + p * out.pixel_stride;
        if (accumulate)
            for (int c = 0; c < channels; c++)
                to[c] += from[c];
        else
            memcpy(to, from, (size_t)channels * sizeof(float));
    }
}

void ISA_NAME(map_relu_backward)(int64_t pixels, int channels, struct const_view out, struct const_view out_gradient,
                                 struct map_view in_gradient, bool accumulate)
{
    for (int64_t p = 0; p < pixels; p++) {
        const float *z = out.data + p * out.stride, *gradient = out_gradient.data + p * out_gradient.stride;
        float *to = in_gradient.data + p * in_gradient.pixel_stride;
        for (int c = 0; c < channels; c++) {
            float masked = z[c] > 0.0f ? gradient[c] : 0.0f;
            to[c] = accumulate ? to[c] + masked : masked;
        }
    }
}

/* The part of a window that lies in the map: taps first .. end-1 of coordinate out * stride - padding + tap * dilation. */
static void window_range(const struct window_shape *s, int out, int size, int *first, int *end)
{
    int start = out * s->stride - s->padding, inside = (size - start + s->dilation - 1) / s->dilation;
    *first = start < 0 ? (-start + s->dilation - 1) / s->dilation : 0;
    *end = inside < s->kernel ? inside : s->kernel;
}

/* The pixel of the input under a tap of the window of pixel (oy, ox). */
static int64_t window_pixel(const struct window_shape *s, int oy, int ox, int ky, int kx)
{
    int y = oy * s->stride - s->padding + ky * s->dilation, x = ox * s->stride - s->padding + kx * s->dilation;
    return (int64_t)y * s->in_width + x;
}

/* The window's maximum of each of `count` channels, and the tap that gave it. */
static void window_maximum(const struct window_shape *s, struct const_view in, int oy, int ox, int channel, int count, float *best,
                           int *best_tap)
{
    int y0, y1, x0, x1;
    window_range(s, oy, s->in_height, &y0, &y1);
    window_range(s, ox, s->in_width, &x0, &x1);
    bool started = false;
    for (int ky = y0; ky < y1; ky++)
        for (int kx = x0; kx < x1; kx++) {
            int64_t pixel = window_pixel(s, oy, ox, ky, kx);
            const float *restrict from = in.data + pixel * in.stride + channel;
            int tap = ky * s->kernel + kx;
            if (!started)
                for (int c = 0; c < count; c++) {
                    best[c] = from[c];
                    best_tap[c] = tap;
                }
            else
                for (int c = 0; c < count; c++) {
                    best_tap[c] = from[c] > best[c] ? tap : best_tap[c];
                    best[c] = from[c] > best[c] ? from[c] : best[c];
                }
            started = true;
        }
}

void ISA_NAME(max_pool_backward)(const struct window_shape *s, struct const_view in, struct const_view out_gradient,
                                 struct map_view in_gradient)
{
    float best[CHANNEL_BLOCK];
    int best_tap[CHANNEL_BLOCK];
    for (int oy = 0; oy < s->out_height; oy++)
        for (int ox = 0; ox < s->out_width; ox++) {
            int y0, y1, x0, x1;
            window_range(s, oy, s->in_height, &y0, &y1);
            window_range(s, ox, s->in_width, &x0, &x1);
            for (int channel = 0; channel < s->channels; channel += CHANNEL_BLOCK) {
                int count = s->channels - channel < CHANNEL_BLOCK ? s->channels - channel : CHANNEL_BLOCK;
                const float *gradient = out_gradient.data + ((int64_t)oy * s->out_width + ox) * out_gradient.stride + channel;
                window_maximum(s, in, oy, ox, channel, count, best, best_tap);
                for (int ky = y0; ky < y1; ky++)
                    for (int kx = x0; kx < x1; kx++) {
                        int64_t pixel = window_pixel(s, oy, ox, ky, kx);
                        float *restrict to = in_gradient.data + pixel * in_gradient.pixel_stride + channel;
                        int tap = ky * s->kernel + kx;
                        for (int c = 0; c < count; c++)
                            to[c] += best_tap[c] == tap ? gradient[c] : 0.0f;
                    }
            }
        }
}

void ISA_NAME(average_pool_backward)(const struct window_shape *s, struct const_view out_gradient, struct map_view in_gradient)
{
    float share = 1.0f / (float)(s->kernel * s->kernel);
    for (int oy = 0; oy < s->out_height; oy++)
        for (int ox = 0; ox < s->out_width; ox++) {
            int y0, y1, x0, x1;
            window_range(s, oy, s->in_height, &y0, &y1);
            window_range(s, ox, s->in_width, &x0, &x1);
            const float *gradient = out_gradient.data + ((int64_t)oy * s->out_width + ox) * out_gradient.stride;
            for (int ky = y0; ky < y1; ky++)
                for (int kx = x0; kx < x1; kx++) {
                    int64_t pixel = window_pixel(s, oy, ox, ky, kx);
                    float *restrict to = in_gradient.data + pixel * in_gradient.pixel_stride;
                    for (int c = 0; c < s->channels; c++)
                        to[c] += gradient[c] * share;
                }
        }
}

void ISA_NAME(transposed_conv_backward)(const struct window_shape *s, const float *weight, struct const_view in,
                                        struct const_view out_gradient, struct map_view in_gradient, float *weight_gradient)
{
    for (int y = 0; y < s->in_height; y++)
        for (int x = 0; x < s->in_width; x++)
            for (int tap = 0; tap < s->kernel * s->kernel; tap++) {
                int oy = y * s->stride - s->padding + tap / s->kernel, ox = x * s->stride - s->padding + tap % s->kernel;
                if (oy < 0 || ox < 0 || oy >= s->out_height || ox >= s->out_width)
                    continue;
                const float *gradient = out_gradient.data + ((int64_t)oy * s->out_width + ox) * out_gradient.stride;
                const float *from = in.data + ((int64_t)y * s->in_width + x) * in.stride;
                if (in_gradient.data) {
                    const float *w = weight + (int64_t)tap * s->channels;
                    float *restrict to = in_gradient.data + ((int64_t)y * s->in_width + x) * in_gradient.pixel_stride;
                    for (int c = 0; c < s->channels; c++)
                        to[c] += gradient[c] * w[c];
                }
                if (weight_gradient) {
                    float *restrict to = weight_gradient + (int64_t)tap * s->channels;
                    for (int c = 0; c < s->channels; c++)
                        to[c] += gradient[c] * from[c];
                }
            }
}
