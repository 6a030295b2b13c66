/* gemm_cuda.c - see gemm_cuda.h. */
#include "train/gemm_cuda.h"

#include "cpu/conv_backward.h"

bool gemm_pass_prepare(struct gemm_pass *pass, const struct conv_shape *shape, enum cuda_arithmetic arithmetic, bool turned,
                       struct cuda_view in, struct cuda_view out, bool add, const float *bias, const struct cuda_device *device)
{
    *pass = (struct gemm_pass){.turned = turned, .shape = turned ? conv_turned_shape(shape) : *shape};
    pass->call = (struct cuda_conv_call){.shape = &pass->shape, .arithmetic = arithmetic, .bias = bias, .out = out};
    pass->call.sources[0] = in;
    if (add)
        pass->call.residual = out;
    pass->used = (!turned || (shape->stride == 1 && pass->shape.padding >= 0)) && cuda_conv_gemm.supports(&pass->call, device);
    if (pass->used)
        pass->packed_bytes = cuda_conv_gemm.packed_bytes(&pass->call);
    return pass->used;
}

cudaError_t gemm_pass_pack(struct gemm_pass *pass, const void *weight, char *packed, cudaStream_t stream)
{
    pass->call.packed = packed + pass->packed_offset;
    return cuda_conv_gemm_pack(&pass->call, weight, pass->turned, packed + pass->packed_offset, stream);
}

cudaError_t gemm_pass_run(const struct gemm_pass *pass, const struct cuda_device *device, cudaStream_t stream)
{
    return cuda_conv_gemm.run(&pass->call, device, 0, stream);
}
