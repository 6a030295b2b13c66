/* cuda_conv_thin.c - which convolutions conv_thin.cu takes, and how it wants their weights. */
#include "base/tensor.h"
#include "cuda/cuda_conv.h"
#include "cuda/cuda_launch.h"
#include "cuda/cuda_weight.h"
#include "cuda/thin_params.h"

#include <stdio.h>
#include <string.h>

enum {
    SET_CHANNELS = 16,
    SMALLEST_MAP = 14 /* side of the result: of a smaller one too much of a tile would be empty */
};

static int element_bytes(const struct cuda_conv_call *call)
{
    return (int)cuda_format_bytes(cuda_arithmetic_format(call->arithmetic));
}

/* Channels that a block works on: all, or so many groups' as make SET_CHANNELS. */
static int set_channels(const struct conv_shape *s)
{
    int group = s->in_channels / s->groups;

    if (s->groups == 1)
        return s->in_channels;
    return group < SET_CHANNELS ? SET_CHANNELS : group;
}

static int set_count(const struct conv_shape *s)
{
    return s->in_channels / set_channels(s);
}

static int tiles_of(const struct conv_shape *s, const struct thin_kernel *kernel)
{
    return s->batch * divide_up(s->out_height, kernel->tile_height) * divide_up(s->out_width, kernel->tile_width);
}

/* The kernels that compute the call's shape: the one with large tiles first where they fill the device. Returns how many. */
static int list_kernels(const struct cuda_conv_call *call, const struct cuda_device *device, const struct thin_kernel *list[2])
{
    const struct conv_shape *s = call->shape;
    int kernel_count, count = 0, chunks = divide_up(set_channels(s) * element_bytes(call), CUDA_CHUNK_BYTES);
    int outputs = s->groups == 1 ? s->out_channels : set_channels(s);
    const struct thin_kernel *kernels = thin_kernels(call->arithmetic, &kernel_count);

    for (int i = 0; i < kernel_count && count < 2; i++)
        if (kernels[i].kernel == s->kernel && kernels[i].stride == s->stride && kernels[i].chunks == chunks && kernels[i].outputs == outputs
            && (size_t)kernels[i].shared_bytes <= device->shared_bytes)
            list[count++] = &kernels[i];
    if (count == 2 && (tiles_of(s, list[0]) * set_count(s) < 2 * device->multiprocessors || s->out_width < list[0]->tile_width)) {
        const struct thin_kernel *large = list[0];
        list[0] = list[1];
        list[1] = large;
    }
    return count;
}

/* Groups as wide as they are deep that fill sets, on maps that fill tiles. */
static bool joins_groups(const struct conv_shape *s)
{
    return s->in_channels == s->out_channels && set_channels(s) % (s->in_channels / s->groups) == 0 && s->in_channels % set_channels(s) == 0
           && s->out_width >= SMALLEST_MAP && s->out_height >= SMALLEST_MAP;
}

static bool supports(const struct cuda_conv_call *call, const struct cuda_device *device)
{
    const struct conv_shape *s = call->shape;
    const struct thin_kernel *list[2];

    if (s->groups > 1 && !joins_groups(s))
        return false;
    return s->dilation == 1 && s->source_count == 1 && call->residual.data == NULL
           && cuda_view_lies_in_chunks(call->sources[0], element_bytes(call)) && cuda_view_lies_in_chunks(call->out, element_bytes(call))
           && (s->in_channels * element_bytes(call) % CUDA_CHUNK_BYTES == 0 || call->padded) && list_kernels(call, device, list) > 0;
}

static int variant_count(const struct cuda_conv_call *call, const struct cuda_device *device)
{
    const struct thin_kernel *list[2];
    return list_kernels(call, device, list);
}

static void name_variant(const struct cuda_conv_call *call, const struct cuda_device *device, int variant, char *name, size_t size)
{
    const struct thin_kernel *list[2];

    (void)list_kernels(call, device, list);
    (void)snprintf(name, size, "thin_%dx%d_%s", list[variant]->tile_height, list[variant]->tile_width,
                   cuda_arithmetic_name(call->arithmetic));
}

/* All of a shape's kernels want the same weights. */
static const struct thin_kernel *any_kernel(const struct cuda_conv_call *call)
{
    const struct cuda_device boundless = {.shared_bytes = SIZE_MAX};
    const struct thin_kernel *list[2] = {NULL};

    (void)list_kernels(call, &boundless, list);
    return list[0];
}

static size_t packed_bytes(const struct cuda_conv_call *call)
{
    const struct thin_kernel *kernel = any_kernel(call);
    return (size_t)set_count(call->shape) * (size_t)kernel->outputs * (size_t)kernel->row_bytes;
}

/* Row 8j + 2t + i is output t * outputs / 4 + 2j + i: conv_thin.cu says why. */
static int output_of_row(int row, int outputs)
{
    return row % 8 / 2 * (outputs / 4) + 2 * (row / 8) + row % 2;
}

static void pack(const struct cuda_conv_call *call, const float *weight, const float *scale, void *packed)
{
    const struct conv_shape *s = call->shape;
    const struct thin_kernel *kernel = any_kernel(call);
    int taps = s->kernel * s->kernel, bytes = element_bytes(call), chunk_elements = CUDA_CHUNK_BYTES / bytes;

    int group_inputs = s->in_channels / s->groups, group_outputs = s->out_channels / s->groups;

    memset(packed, 0, packed_bytes(call));
    for (int row = 0; row < set_count(s) * kernel->outputs; row++) {
        int output_of_set = output_of_row(row % kernel->outputs, kernel->outputs);
        int output = row / kernel->outputs * kernel->outputs + output_of_set, first = output_of_set / group_outputs * group_inputs;
        char *to = (char *)packed + (size_t)row * (size_t)kernel->row_bytes;
        for (int tap = 0; tap < taps; tap++)
            for (int input = 0; input < group_inputs; input++) {
                int channel = first + input, chunk = tap * kernel->chunks + channel / chunk_elements; /* of the set */
                cuda_store_weight(call->arithmetic, weight[((int64_t)output * group_inputs + input) * taps + tap] * scale[output],
                                  to + chunk * CUDA_CHUNK_BYTES + channel % chunk_elements * bytes);
            }
    }
}

static cudaError_t run(const struct cuda_conv_call *call, const struct cuda_device *device, int variant, cudaStream_t stream)
{
    const struct conv_shape *s = call->shape;
    const struct thin_kernel *list[2];
    int blocks = 1;

    (void)list_kernels(call, device, list);
    const struct thin_kernel *kernel = list[variant];
    struct thin_params params = {
        .in = call->sources[0].data,
        .in_stride = (int)call->sources[0].pixel_stride * element_bytes(call),
        .in_height = s->in_height,
        .in_width = s->in_width,
        .out_height = s->out_height,
        .out_width = s->out_width,
        .padding = s->padding,
        .tiles_x = divide_up(s->out_width, kernel->tile_width),
        .tiles_y = divide_up(s->out_height, kernel->tile_height),
        .tiles = tiles_of(s, kernel),
        .packed = call->packed,
        .bias = call->bias,
        .out = call->out.data,
        .out_stride = call->out.pixel_stride,
        .relu = call->relu,
    };
    void *arguments[] = {&params};
    cudaError_t error = cudaFuncSetAttribute(kernel->function, cudaFuncAttributeMaxDynamicSharedMemorySize, kernel->shared_bytes);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel->function, kernel->threads, (size_t)kernel->shared_bytes);
    int sets = set_count(s), resident = divide_up(blocks * device->multiprocessors, sets);
    struct cuda_grid grid = {(unsigned)(params.tiles < resident ? params.tiles : resident),
                             (unsigned)sets,
                             1,
                             (unsigned)kernel->threads,
                             kernel->shared_bytes,
                             1};
    return error != cudaSuccess ? error : cuda_launch(kernel->function, &grid, arguments, stream);
}

const struct cuda_conv_kernel cuda_conv_thin = {
    .name = "thin",
    .supports = supports,
    .variants = variant_count,
    .name_variant = name_variant,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .run = run,
};
