/* gemm_exact.cuh - float32 on units that multiply TF32, 11 bits of the 24.
 *
 * A float is the sum of its upper part, which the unit takes as it is, and of a remainder, and of the four products of parts the three
 * largest are summed:
 *
 *     a * b = a_high * b_high + a_high * b_low + a_low * b_high        (a_low * b_low is below 2^-22 of the product)
 *
 * Tensor cores cut sums off where adders round them, always towards zero, and what every layer of a network loses in the same direction
 * adds up: thousands of products would lose 2^-15 of their sum. So what they have summed over DEPTHS_A_SUM products of depth 8 is added to
 * a total outside.
 */
#ifndef DLA_CUDA_GEMM_EXACT_CUH
#define DLA_CUDA_GEMM_EXACT_CUH

#include <stdint.h>

enum { DEPTHS_A_SUM = 4 }; /* those of one step of gemm_params.h */

/* x = high + low, exactly. high may be x itself. */
static __device__ __forceinline__ void split_float(uint32_t x, uint32_t &high, uint32_t &low)
{
    uint32_t upper = x & 0xffffe000u;

    low = __float_as_uint(__uint_as_float(x) - __uint_as_float(upper));
    high = upper;
}

/* sums, total: (COUNT). */
template <int COUNT> static __device__ __forceinline__ void move_sums(float *sums, float *total)
{
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        total[i] += sums[i];
        sums[i] = 0.0f;
    }
}

#endif
