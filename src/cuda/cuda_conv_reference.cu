/* cuda_conv_reference.cu - convolution on the GPU as its definition says: every shape, every format, no speed.
 *
 * A thread per element of the result, neighbouring channels in neighbouring threads; it walks over the window and the input
 * channels of its group, source by source, and keeps the sum in double precision, so that a difference to a fast kernel is
 * the fast kernel's. Weights are packed as those of the processor's reference.
 */
#include "cuda/cuda_conv.h"

#include "cuda/cuda_element.cuh"

#include <stdio.h>

enum { BLOCK = 256 };

/* The window's pixel (in the input maps) that a tap of an output pixel falls on; false where it falls outside. */
static __device__ bool pixel_of_tap(const struct conv_shape &s, int64_t out_pixel, int ky, int kx, int64_t *pixel)
{
    int x = (int)(out_pixel % s.out_width), y = (int)(out_pixel / s.out_width % s.out_height);
    int64_t image = out_pixel / s.out_width / s.out_height;
    int in_y = y * s.stride - s.padding + ky * s.dilation, in_x = x * s.stride - s.padding + kx * s.dilation;

    *pixel = (image * s.in_height + in_y) * s.in_width + in_x;
    return in_y >= 0 && in_y < s.in_height && in_x >= 0 && in_x < s.in_width;
}

/* Sum over the group's input channels [first, first + count) of one pixel, the channels of all sources following one another. */
template <typename T>
static __device__ double sum_of_tap(const struct conv_shape &s, const struct cuda_conv_call &call, int64_t pixel, int first, int count,
                                    const float *weight /* (count, out_channels), at the output channel */)
{
    double sum = 0.0;
    int source_first = 0;

    for (int source = 0; source < s.source_count; source++) {
        const T *in = (const T *)call.sources[source].data + pixel * call.sources[source].pixel_stride; /* (source_channels) */
        for (int i = 0; i < s.source_channels[source]; i++) {
            int channel = source_first + i - first; /* in the group */
            if (channel >= 0 && channel < count)
                sum += (double)element_to_float(in[i]) * (double)weight[(int64_t)channel * s.out_channels];
        }
        source_first += s.source_channels[source];
    }
    return sum;
}

/* The shape is an argument of its own: call.shape points into the host's memory. */
template <typename T>
static __global__ void __launch_bounds__(BLOCK)
    reference_kernel(const __grid_constant__ struct conv_shape s, const __grid_constant__ struct cuda_conv_call call)
{
    int64_t element = (int64_t)blockIdx.x * BLOCK + threadIdx.x, out_pixel = element / s.out_channels;
    int o = (int)(element % s.out_channels);
    int group_inputs = s.in_channels / s.groups, group_outputs = s.out_channels / s.groups;

    if (out_pixel >= (int64_t)s.batch * s.out_height * s.out_width)
        return;
    double sum = (double)call.bias[o];
    for (int ky = 0; ky < s.kernel; ky++)
        for (int kx = 0; kx < s.kernel; kx++) {
            int64_t pixel;
            const float *tap = (const float *)call.packed + (int64_t)(ky * s.kernel + kx) * group_inputs * s.out_channels;
            if (pixel_of_tap(s, out_pixel, ky, kx, &pixel))
                sum += sum_of_tap<T>(s, call, pixel, o / group_outputs * group_inputs, group_inputs, tap + o);
        }
    if (call.residual.data)
        sum += (double)element_to_float(((const T *)call.residual.data)[out_pixel * call.residual.pixel_stride + o]);
    element_from_float(call.relu && sum < 0.0 ? 0.0f : (float)sum, (T *)call.out.data + out_pixel * call.out.pixel_stride + o);
}

static bool supports(const struct cuda_conv_call *call, const struct cuda_device *device)
{
    (void)call;
    (void)device;
    return true;
}

static int variants(const struct cuda_conv_call *call, const struct cuda_device *device)
{
    (void)call;
    (void)device;
    return 1;
}

static void name_variant(const struct cuda_conv_call *call, const struct cuda_device *device, int variant, char *name, size_t size)
{
    (void)call;
    (void)device;
    (void)variant;
    (void)snprintf(name, size, "reference");
}

static size_t packed_bytes(const struct cuda_conv_call *call)
{
    return conv_reference.packed_bytes(call->shape);
}

static void pack(const struct cuda_conv_call *call,
                 const float *weight, /* (out_channels, in_channels / groups, kernel, kernel) */
                 const float *scale,  /* (out_channels) */
                 void *packed)        /* (kernel, kernel, in_channels / groups, out_channels), float32 */
{
    conv_reference.pack(call->shape, weight, scale, packed);
}

static cudaError_t run(const struct cuda_conv_call *call, const struct cuda_device *device, int variant, cudaStream_t stream)
{
    const struct conv_shape *s = call->shape;
    int64_t elements = (int64_t)s->batch * s->out_height * s->out_width * s->out_channels;
    unsigned blocks = (unsigned)((elements + BLOCK - 1) / BLOCK);

    (void)device;
    (void)variant;
    FOR_ELEMENT(cuda_arithmetic_format(call->arithmetic), (reference_kernel<T><<<blocks, BLOCK, 0, stream>>>(*s, *call)));
    return cudaGetLastError();
}

extern "C" const struct cuda_conv_kernel cuda_conv_reference = {
    "reference", supports, variants, name_variant, NULL, packed_bytes, pack, run,
};
