/* conv_reference.c - convolution as its definition says.
 *
 *     out[y][x][o] = relu( Σ_ky Σ_kx Σ_i in[y*stride - padding + ky*dilation][x*stride - padding + kx*dilation][i] * weight[ky][kx][i][o]
 *                          + bias[o] + residual[y][x][o] )
 *
 * Terms outside the map are zero; output channel o sees the input channels of its group alone. Sums are kept in double
 * precision, so that a difference to a fast kernel is the fast kernel's. Every fast kernel is tested against this one.
 */
#include "cpu/conv.h"

static bool supports(const struct conv_shape *shape)
{
    (void)shape;
    return true;
}

static size_t weight_count(const struct conv_shape *s)
{
    return (size_t)s->kernel * (size_t)s->kernel * (size_t)(s->in_channels / s->groups) * (size_t)s->out_channels;
}

static size_t packed_bytes(const struct conv_shape *shape)
{
    return weight_count(shape) * sizeof(float);
}

static void pack(const struct conv_shape *s,
                 const float *weight, /* (out_channels, in_channels / groups, kernel, kernel) */
                 const float *scale,  /* (out_channels) */
                 void *packed)        /* (kernel, kernel, in_channels / groups, out_channels) */
{
    float *out = packed;
    int group_inputs = s->in_channels / s->groups, taps = s->kernel * s->kernel;

    for (int tap = 0; tap < taps; tap++)
        for (int i = 0; i < group_inputs; i++)
            for (int o = 0; o < s->out_channels; o++)
                *out++ = weight[((int64_t)o * group_inputs + i) * taps + tap] * scale[o];
}

static size_t scratch_bytes(const struct conv_shape *shape, int threads)
{
    return (size_t)threads * (size_t)shape->out_channels * sizeof(double);
}

static double cost(const struct conv_shape *s, int threads)
{
    double multiply_adds = (double)s->batch * s->out_height * s->out_width * (double)weight_count(s);
    return multiply_adds / 1e3 / threads;
}

static void output_pixel(const struct conv_call *call, int image, int y, int x, double *sums /* (out_channels) */)
{
    const struct conv_shape *s = call->shape;
    int group_inputs = s->in_channels / s->groups, group_outputs = s->out_channels / s->groups;

    for (int o = 0; o < s->out_channels; o++)
        sums[o] = (double)call->bias[o];
    for (int ky = 0; ky < s->kernel; ky++) {
        for (int kx = 0; kx < s->kernel; kx++) {
            int in_y = y * s->stride - s->padding + ky * s->dilation;
            int in_x = x * s->stride - s->padding + kx * s->dilation;
            if (in_y < 0 || in_y >= s->in_height || in_x < 0 || in_x >= s->in_width)
                continue;
            int64_t pixel = ((int64_t)image * s->in_height + in_y) * s->in_width + in_x;
            const float *tap = (const float *)call->packed + (int64_t)(ky * s->kernel + kx) * group_inputs * s->out_channels;
            int channel = 0; /* over all sources */
            for (int source = 0; source < s->source_count; source++) {
                const float *in = call->sources[source].data + pixel * call->sources[source].pixel_stride;
                for (int i = 0; i < s->source_channels[source]; i++, channel++) {
                    const float *weight = tap + (int64_t)(channel % group_inputs) * s->out_channels;
                    int first = channel / group_inputs * group_outputs;
                    for (int o = first; o < first + group_outputs; o++)
                        sums[o] += (double)in[i] * (double)weight[o];
                }
            }
        }
    }
    int64_t pixel = ((int64_t)image * s->out_height + y) * s->out_width + x;
    float *out = call->out.data + pixel * call->out.pixel_stride;
    const float *residual = call->residual.data ? call->residual.data + pixel * call->residual.pixel_stride : NULL;
    for (int o = 0; o < s->out_channels; o++) {
        double sum = residual ? sums[o] + (double)residual[o] : sums[o];
        out[o] = call->relu && sum < 0.0 ? 0.0f : (float)sum;
    }
}

static void output_row(void *context, int task, int worker)
{
    const struct conv_call *call = context;
    double *sums = (double *)call->scratch + (int64_t)worker * call->shape->out_channels;

    for (int x = 0; x < call->shape->out_width; x++)
        output_pixel(call, task / call->shape->out_height, task % call->shape->out_height, x, sums);
}

static void run(const struct conv_call *call)
{
    struct conv_call copy = *call;
    thread_pool_run(call->pool, output_row, &copy, call->shape->batch * call->shape->out_height);
}

const struct conv_kernel conv_reference = {
    .name = "reference",
    .winograd = false,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
