/* cuda_conv.h - convolutions on the GPU: the contract between the planner and the kernels.
 *
 * As on the processor (cpu/conv.h), a kernel computes
 *
 *     out = [relu]( sum over the window and input channels of in * weight + bias [+ residual] )
 *
 * from one or several NHWC maps whose channels follow one another. What the planner chooses from is a variant: a kernel
 * with its tile and the number of blocks that share one tile's sum. The reference variant takes every shape and is what all
 * others are tested against.
 */
#ifndef DLA_CUDA_CUDA_CONV_H
#define DLA_CUDA_CUDA_CONV_H

#include "cpu/conv.h"
#include "cuda/cuda_device.h"
#include "cuda/cuda_view.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How products are formed. Sums are float32 always. */
enum cuda_arithmetic {
    CUDA_EXACT,      /* float32 */
    CUDA_TF32,       /* float32 maps and weights, rounded to 11 bits before they are multiplied */
    CUDA_HALF,       /* float16 maps and weights */
    CUDA_BRAIN       /* bfloat16 maps and weights */
};

static inline enum cuda_arithmetic cuda_arithmetic_of(dla_precision precision)
{
    switch (precision) {
    case DLA_PRECISION_TF32:
        return CUDA_TF32;
    case DLA_PRECISION_FLOAT16:
        return CUDA_HALF;
    case DLA_PRECISION_BFLOAT16:
        return CUDA_BRAIN;
    case DLA_PRECISION_FLOAT32:
    default:
        return CUDA_EXACT;
    }
}

static inline enum cuda_format cuda_arithmetic_format(enum cuda_arithmetic arithmetic)
{
    return arithmetic == CUDA_HALF ? CUDA_FLOAT16 : arithmetic == CUDA_BRAIN ? CUDA_BFLOAT16 : CUDA_FLOAT32;
}

struct cuda_conv_call {
    const struct conv_shape *shape;
    enum cuda_arithmetic arithmetic;
    struct cuda_view sources[CONV_MAX_SOURCES];
    const void *packed;            /* device: what the kernel's pack wrote */
    const float *bias;             /* device: (out_channels) */
    struct cuda_view residual;     /* data NULL: none. May be `out` itself */
    struct cuda_view out;
    bool relu;
    bool padded;                   /* the sources' channels are followed by zeros up to a multiple of 16 bytes */
};

struct cuda_conv_kernel {
    const char *name;              /* "gemm" */
    bool (*supports)(const struct cuda_conv_call *call, const struct cuda_device *device);   /* looks at views, too: alignment */
    int (*variants)(const struct cuda_conv_call *call, const struct cuda_device *device);    /* how many; 0 is the best guess */
    void (*name_variant)(const struct cuda_conv_call *call, const struct cuda_device *device, int variant, char *name, size_t size);
    /* Estimated nanoseconds; NULL: all variants are alike. */
    double (*cost)(const struct cuda_conv_call *call, const struct cuda_device *device, int variant);
    size_t (*packed_bytes)(const struct cuda_conv_call *call);
    /* On the host. weight: (out_channels, in_channels / groups, kernel, kernel); batch norm's scale is scale[out_channel]. */
    void (*pack)(const struct cuda_conv_call *call, const float *weight, const float *scale, void *packed);
    cudaError_t (*run)(const struct cuda_conv_call *call, const struct cuda_device *device, int variant, cudaStream_t stream);
};

/* All kernels, the reference last. */
const struct cuda_conv_kernel *const *cuda_conv_kernels(int *count);

extern const struct cuda_conv_kernel cuda_conv_thin, cuda_conv_gemm;

/* Packs for cuda_conv_gemm on the device, weights that training changes: weight is device memory, elements of the arithmetic's format,
 * (out_channels, kernel, kernel, in_channels / groups). With `turned` the call is a data gradient (stride 1) and the weights are those of
 * the convolution that it is the gradient of, (in_channels, kernel, kernel, out_channels / groups) in the call's terms. One source. */
cudaError_t cuda_conv_gemm_pack(const struct cuda_conv_call *call, const void *weight, bool turned, void *packed, cudaStream_t stream);

/* Weights packed as (kernel, kernel, in_channels / groups, out_channels), float32. */
extern const struct cuda_conv_kernel cuda_conv_reference;

#ifdef __cplusplus
}
#endif
#endif
