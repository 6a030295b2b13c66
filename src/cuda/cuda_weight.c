/* cuda_weight.c - see cuda_weight.h. */
#include "cuda/cuda_weight.h"

#include "base/tensor.h"

#include <string.h>

bool cuda_view_lies_in_chunks(struct cuda_view view, int element_bytes)
{
    return (uintptr_t)view.data % CUDA_CHUNK_BYTES == 0 && view.pixel_stride * element_bytes % CUDA_CHUNK_BYTES == 0;
}

/* TF32's nearest number: 10 bits behind the first, ties away from zero as the tensor cores' own conversion has them. */
static float round_to_tf32(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) != 0x7f800000u)
        bits = (bits + 0x1000u) & 0xffffe000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void cuda_store_weight(enum cuda_arithmetic arithmetic, float weight, char *to)
{
    uint16_t narrow = arithmetic == CUDA_HALF ? float_to_half(weight) : float_to_bfloat16(weight);

    if (arithmetic == CUDA_TF32)
        weight = round_to_tf32(weight);
    if (arithmetic == CUDA_EXACT || arithmetic == CUDA_TF32)
        memcpy(to, &weight, sizeof weight);
    else
        memcpy(to, &narrow, sizeof narrow);
}

const char *cuda_arithmetic_name(enum cuda_arithmetic arithmetic)
{
    static const char *const names[] = {[CUDA_EXACT] = "float32", [CUDA_TF32] = "tf32", [CUDA_HALF] = "float16", [CUDA_BRAIN] = "bfloat16"};
    return names[arithmetic];
}
