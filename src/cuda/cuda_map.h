/* cuda_map.h - what is done to maps beside convolution, on the GPU: the functions of cpu/map.h, with the same meaning.
 *
 * Formats are those of cuda_view.h; arithmetic is float32 throughout. Each function puts its work into a stream and returns.
 */
#ifndef DLA_CUDA_CUDA_MAP_H
#define DLA_CUDA_CUDA_MAP_H

#include "cpu/map.h"
#include "cuda/cuda_view.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_map_call {
    enum cuda_format format;             /* of in, other and out */
    int batch, channels;                 /* of the result */
    int in_height, in_width;
    int out_height, out_width;
    int kernel, stride, padding;         /* pools and transposed convolution */
    int dilation;                        /* pools */
    struct cuda_view in, other;          /* other: second operand of add */
    int in_channels, groups;             /* transposed convolution */
    const float *weight;                 /* transposed convolution: (kernel, kernel, in_channels, channels / groups); device memory */
    const float *scale, *shift;          /* scale_shift: (channels); transposed convolution: shift is its bias, or NULL; device memory */
    struct cuda_view out;
    bool relu;                           /* add, scale_shift: afterwards */
};

/* The numbers of a call on the CPU; its memory is not looked at, and that of the result is none. */
struct cuda_map_call cuda_map_call_of(const struct map_call *call, enum cuda_format format);

typedef void cuda_map_function(const struct cuda_map_call *call, cudaStream_t stream);

cuda_map_function cuda_max_pool, cuda_average_pool, cuda_global_average_pool, cuda_add, cuda_scale_shift, cuda_relu, cuda_copy,
    cuda_transposed_conv, cuda_log_softmax;

/* float32 pixels (pixels, channels), contiguous, to a view of `format` whose pixels have `padded` >= channels elements: the rest
 * becomes 0. */
void cuda_pad_channels(const float *in, int64_t pixels, int channels, enum cuda_format format, struct cuda_view out, int padded,
                       cudaStream_t stream);

/* A view of `format` to float32 (pixels, channels), contiguous. */
void cuda_to_float(enum cuda_format format, struct cuda_view in, int64_t pixels, int channels, float *out, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
