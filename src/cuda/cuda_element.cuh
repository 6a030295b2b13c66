/* cuda_element.cuh - elements of maps in device code: float, __half or __nv_bfloat16 in memory, float in registers. */
#ifndef DLA_CUDA_CUDA_ELEMENT_CUH
#define DLA_CUDA_CUDA_ELEMENT_CUH

#include "cuda/cuda_view.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

static __device__ __forceinline__ float element_to_float(float x)
{
    return x;
}

static __device__ __forceinline__ float element_to_float(__half x)
{
    return __half2float(x);
}

static __device__ __forceinline__ float element_to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

/* Round to nearest even. */
static __device__ __forceinline__ void element_from_float(float x, float *to)
{
    *to = x;
}

static __device__ __forceinline__ void element_from_float(float x, __half *to)
{
    *to = __float2half_rn(x);
}

static __device__ __forceinline__ void element_from_float(float x, __nv_bfloat16 *to)
{
    *to = __float2bfloat16_rn(x);
}

/* Expands statement for each format; T is the element that it is compiled for. */
#define FOR_ELEMENT(format, statement)                                                                      \
    do {                                                                                                     \
        if ((format) == CUDA_FLOAT32) {                                                                      \
            typedef float T;                                                                                 \
            statement;                                                                                       \
        } else if ((format) == CUDA_FLOAT16) {                                                               \
            typedef __half T;                                                                                \
            statement;                                                                                       \
        } else {                                                                                             \
            typedef __nv_bfloat16 T;                                                                         \
            statement;                                                                                       \
        }                                                                                                    \
    } while (0)

#endif
