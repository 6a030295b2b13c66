/* cuda_conv_table.c - the convolutions of the GPU, best first. */
#include "cuda/cuda_conv.h"

const struct cuda_conv_kernel *const *cuda_conv_kernels(int *count)
{
    static const struct cuda_conv_kernel *const kernels[] = {&cuda_conv_thin, &cuda_conv_gemm, &cuda_conv_reference};

    *count = sizeof kernels / sizeof kernels[0];
    return kernels;
}
