/* conv_backward_reference.c - the gradients of a convolution as the definition says them; what every fast one is tested against. */
#include "cpu/conv_backward.h"

#include <string.h>

/* Coordinate of the input pixel that tap `tap` of output coordinate `out` reads; may lie outside the map. */
static int input_coordinate(const struct conv_shape *s, int out, int tap)
{
    return out * s->stride + tap * s->dilation - s->padding;
}

static const float *pixel(struct map_view map, int height, int width, int image, int y, int x)
{
    return map.data + (((int64_t)image * height + y) * width + x) * map.pixel_stride;
}

void conv_data_gradient_reference(const struct conv_data_gradient_call *call)
{
    const struct conv_shape *s = call->shape;
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups;
    for (int image = 0; image < s->batch; image++)
        for (int y = 0; y < s->in_height; y++)
            for (int x = 0; x < s->in_width; x++) {
                float *in_gradient = (float *)pixel(call->in_gradient, s->in_height, s->in_width, image, y, x);
                for (int i = 0; i < s->in_channels; i++) {
                    int group = i / in_group;
                    double sum = 0.0;
                    for (int ky = 0; ky < s->kernel; ky++)
                        for (int kx = 0; kx < s->kernel; kx++) {
                            int oy = y + s->padding - ky * s->dilation, ox = x + s->padding - kx * s->dilation;
                            if (oy < 0 || ox < 0 || oy % s->stride || ox % s->stride)
                                continue;
                            oy /= s->stride;
                            ox /= s->stride;
                            if (oy >= s->out_height || ox >= s->out_width)
                                continue;
                            const float *out_gradient = pixel(call->out_gradient, s->out_height, s->out_width, image, oy, ox);
                            for (int o = group * out_group; o < (group + 1) * out_group; o++)
                                sum += (double)out_gradient[o]
                                       * (double)call->weight[(((int64_t)o * in_group + i % in_group) * s->kernel + ky) * s->kernel + kx];
                        }
                    in_gradient[i] = (float)(call->accumulate ? (double)in_gradient[i] + sum : sum);
                }
            }
}

void conv_weight_gradient_reference(const struct conv_weight_gradient_call *call)
{
    const struct conv_shape *s = call->shape;
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups;
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < in_group; i++)
            for (int ky = 0; ky < s->kernel; ky++)
                for (int kx = 0; kx < s->kernel; kx++) {
                    int in_channel = o / out_group * in_group + i;
                    double sum = 0.0;
                    for (int image = 0; image < s->batch; image++)
                        for (int oy = 0; oy < s->out_height; oy++)
                            for (int ox = 0; ox < s->out_width; ox++) {
                                int y = input_coordinate(s, oy, ky), x = input_coordinate(s, ox, kx);
                                if (y < 0 || x < 0 || y >= s->in_height || x >= s->in_width)
                                    continue;
                                sum += (double)pixel(call->in, s->in_height, s->in_width, image, y, x)[in_channel]
                                       * (double)pixel(call->out_gradient, s->out_height, s->out_width, image, oy, ox)[o];
                            }
                    call->weight_gradient[(((int64_t)o * in_group + i) * s->kernel + ky) * s->kernel + kx] += (float)sum;
                }
}

/* from: (rows, columns), to: (columns, rows). Squares go through memory of their own: rows are often powers of two apart, and evict each other
 * from L1. */
static void transpose(const float *from, int rows, int columns, float *to)
{
    enum { SIDE = 16 };
    float near[SIDE][SIDE];

    for (int row = 0; row < rows; row += SIDE)
        for (int column = 0; column < columns; column += SIDE) {
            int height = rows - row < SIDE ? rows - row : SIDE, width = columns - column < SIDE ? columns - column : SIDE;
            for (int y = 0; y < height; y++)
                memcpy(near[y], from + (int64_t)(row + y) * columns + column, (size_t)width * sizeof(float));
            for (int x = 0; x < width; x++)
                for (int y = 0; y < height; y++)
                    to[(int64_t)(column + x) * rows + row + y] = near[y][x];
        }
}

void conv_turn_weights(const struct conv_shape *s, const float *weight, float *turned)
{
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups, taps = s->kernel * s->kernel;
    int64_t group_floats = (int64_t)in_group * out_group * taps;
    for (int group = 0; group < s->groups; group++, weight += group_floats, turned += group_floats) {
        if (taps == 1) {
            transpose(weight, out_group, in_group, turned);
            continue;
        }
        for (int i = 0; i < in_group; i++)
            for (int o = 0; o < out_group; o++) {
                const float *from = weight + ((int64_t)o * in_group + i) * taps;
                float *to = turned + ((int64_t)i * out_group + o) * taps;
                for (int tap = 0; tap < taps; tap++)
                    to[tap] = from[taps - 1 - tap];
            }
    }
}

struct conv_shape conv_turned_shape(const struct conv_shape *s)
{
    struct conv_shape turned = *s;
    turned.in_height = s->out_height;
    turned.in_width = s->out_width;
    turned.in_channels = s->out_channels;
    turned.out_height = s->in_height;
    turned.out_width = s->in_width;
    turned.out_channels = s->in_channels;
    turned.padding = s->dilation * (s->kernel - 1) - s->padding;
    turned.source_count = 1;
    turned.source_channels[0] = s->out_channels;
    return turned;
}
