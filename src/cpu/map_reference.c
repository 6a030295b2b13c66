/* map_reference.c - pooling, sums, upsampling as their definitions say: loops over pixels and channels, one thread. */
#include "cpu/map.h"

#include <math.h>

static const float *in_pixel(const struct map_call *c, int image, int y, int x)
{
    return map_pixel(&c->in, c->in_height, c->in_width, image, y, x);
}

static float *out_pixel(const struct map_call *c, int image, int y, int x)
{
    return map_pixel(&c->out, c->out_height, c->out_width, image, y, x);
}

/* Calls function for every element of the result. */
static void for_each(const struct map_call *c, float (*function)(const struct map_call *c, int image, int y, int x, int channel))
{
    for (int image = 0; image < c->batch; image++)
        for (int y = 0; y < c->out_height; y++)
            for (int x = 0; x < c->out_width; x++)
                for (int channel = 0; channel < c->channels; channel++)
                    out_pixel(c, image, y, x)[channel] = function(c, image, y, x, channel);
}

static float relu_if(bool relu, float x)
{
    return relu && x < 0.0f ? 0.0f : x;
}

static float max_pool_element(const struct map_call *c, int image, int y, int x, int channel)
{
    float largest = -INFINITY;

    for (int ky = 0; ky < c->kernel; ky++)
        for (int kx = 0; kx < c->kernel; kx++) {
            int in_y = y * c->stride - c->padding + ky * c->dilation, in_x = x * c->stride - c->padding + kx * c->dilation;
            if (in_y < 0 || in_y >= c->in_height || in_x < 0 || in_x >= c->in_width)
                continue;
            float value = in_pixel(c, image, in_y, in_x)[channel];
            if (value > largest || isnan(value))
                largest = value;
        }
    return largest;
}

static float average_pool_element(const struct map_call *c, int image, int y, int x, int channel)
{
    double sum = 0.0;

    for (int ky = 0; ky < c->kernel; ky++)
        for (int kx = 0; kx < c->kernel; kx++) {
            int in_y = y * c->stride - c->padding + ky * c->dilation, in_x = x * c->stride - c->padding + kx * c->dilation;
            if (in_y >= 0 && in_y < c->in_height && in_x >= 0 && in_x < c->in_width)
                sum += (double)in_pixel(c, image, in_y, in_x)[channel];
        }
    return (float)(sum / (c->kernel * c->kernel));
}

static float global_average_element(const struct map_call *c, int image, int y, int x, int channel)
{
    double sum = 0.0;

    (void)y;
    (void)x;
    for (int in_y = 0; in_y < c->in_height; in_y++)
        for (int in_x = 0; in_x < c->in_width; in_x++)
            sum += (double)in_pixel(c, image, in_y, in_x)[channel];
    return (float)(sum / ((double)c->in_height * c->in_width));
}

static float add_element(const struct map_call *c, int image, int y, int x, int channel)
{
    float other = map_pixel(&c->other, c->in_height, c->in_width, image, y, x)[channel];
    return relu_if(c->relu, in_pixel(c, image, y, x)[channel] + other);
}

static float scale_shift_element(const struct map_call *c, int image, int y, int x, int channel)
{
    return relu_if(c->relu, in_pixel(c, image, y, x)[channel] * c->scale[channel] + c->shift[channel]);
}

static float relu_element(const struct map_call *c, int image, int y, int x, int channel)
{
    return relu_if(true, in_pixel(c, image, y, x)[channel]);
}

static float copy_element(const struct map_call *c, int image, int y, int x, int channel)
{
    return in_pixel(c, image, y, x)[channel];
}

/* Gathered: output (y, x) receives input (in_y, in_x) through tap y + padding - in_y * stride. */
static float transposed_conv_element(const struct map_call *c, int image, int y, int x, int channel)
{
    int group_inputs = c->in_channels / c->groups, group_outputs = c->channels / c->groups;
    int first = channel / group_outputs * group_inputs;
    double sum = c->shift ? (double)c->shift[channel] : 0.0;

    for (int ky = 0; ky < c->kernel; ky++)
        for (int kx = 0; kx < c->kernel; kx++) {
            int down = y + c->padding - ky, right = x + c->padding - kx;
            if (down < 0 || right < 0 || down % c->stride != 0 || right % c->stride != 0)
                continue;
            int in_y = down / c->stride, in_x = right / c->stride;
            if (in_y >= c->in_height || in_x >= c->in_width)
                continue;
            const float *in = in_pixel(c, image, in_y, in_x);
            const float *weight = c->weight + (int64_t)(ky * c->kernel + kx) * c->in_channels * group_outputs;
            for (int i = first; i < first + group_inputs; i++)
                sum += (double)in[i] * (double)weight[(int64_t)i * group_outputs + channel % group_outputs];
        }
    return (float)sum;
}

static void log_softmax(const struct map_call *c)
{
    for (int image = 0; image < c->batch; image++)
        for (int y = 0; y < c->out_height; y++)
            for (int x = 0; x < c->out_width; x++) {
                const float *in = in_pixel(c, image, y, x);
                float *out = out_pixel(c, image, y, x);
                double largest = -INFINITY, sum = 0.0;
                for (int i = 0; i < c->channels; i++)
                    largest = fmax(largest, (double)in[i]);
                for (int i = 0; i < c->channels; i++)
                    sum += exp((double)in[i] - largest);
                for (int i = 0; i < c->channels; i++)
                    out[i] = (float)((double)in[i] - largest - log(sum));
            }
}

static void max_pool(const struct map_call *c)
{
    for_each(c, max_pool_element);
}

static void average_pool(const struct map_call *c)
{
    for_each(c, average_pool_element);
}

static void global_average_pool(const struct map_call *c)
{
    for_each(c, global_average_element);
}

static void add(const struct map_call *c)
{
    for_each(c, add_element);
}

static void scale_shift(const struct map_call *c)
{
    for_each(c, scale_shift_element);
}

static void relu(const struct map_call *c)
{
    for_each(c, relu_element);
}

static void copy(const struct map_call *c)
{
    for_each(c, copy_element);
}

static void transposed_conv(const struct map_call *c)
{
    for_each(c, transposed_conv_element);
}

const struct map_functions map_reference = {
    .max_pool = max_pool,
    .average_pool = average_pool,
    .global_average_pool = global_average_pool,
    .add = add,
    .scale_shift = scale_shift,
    .relu = relu,
    .copy = copy,
    .transposed_conv = transposed_conv,
    .log_softmax = log_softmax,
};
