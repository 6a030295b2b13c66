/* gemm_cuda.h - a convolution of a tape by the kernels that plans run on a GPU (cuda/cuda_conv.h): forward, or, with turned weights, the
 * gradient of its input where the stride is 1. cuDNN does the rest: shapes that those kernels do not take, and the weights' gradients.
 *
 * Which variant runs is estimated, never measured: the same options must give the same weights again, bit for bit. */
#ifndef DLA_TRAIN_GEMM_CUDA_H
#define DLA_TRAIN_GEMM_CUDA_H

#include "cuda/cuda_conv.h"

struct gemm_pass {
    bool used;
    bool turned;
    struct conv_shape shape;
    struct cuda_conv_call call;
    size_t packed_offset, packed_bytes;
};

/* Whether the kernels take it: a pass of the convolution `shape` from `in` to `out`, added to what is there or not. bias: device, (outputs).
 * The pass must stay where it is. */
bool gemm_pass_prepare(struct gemm_pass *pass, const struct conv_shape *shape, enum cuda_arithmetic arithmetic, bool turned,
                       struct cuda_view in, struct cuda_view out, bool add, const float *bias, const struct cuda_device *device);

/* weight: device, the convolution's (out_channels, kernel, kernel, in_channels / groups) in the arithmetic's format. */
cudaError_t gemm_pass_pack(struct gemm_pass *pass, const void *weight, char *packed, cudaStream_t stream);

cudaError_t gemm_pass_run(const struct gemm_pass *pass, const struct cuda_device *device, cudaStream_t stream);

#endif
