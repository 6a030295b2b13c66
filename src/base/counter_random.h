/* counter_random.h - random numbers without a state: the n-th number of a stream is a function of the stream's key and n.
 *
 * So what a sample's augmentation draws depends on (seed, epoch, sample) and on nothing else: not on threads, not on which
 * machine takes the sample, not on whether the run was interrupted. The function is SplitMix64's finaliser over key and
 * counter (Steele, Lea, Flood 2014), which passes the usual batteries. The GPU draws the same numbers.
 */
#ifndef DLA_BASE_COUNTER_RANDOM_H
#define DLA_BASE_COUNTER_RANDOM_H

#include <stdint.h>

#ifdef __CUDACC__
#define COUNTER_FUNCTION static __host__ __device__ inline
#else
#define COUNTER_FUNCTION static inline
#endif

COUNTER_FUNCTION uint64_t counter_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The key of a stream inside a stream: counter_key(counter_key(seed, epoch), sample). */
COUNTER_FUNCTION uint64_t counter_key(uint64_t key, uint64_t part)
{
    return counter_mix(counter_mix(key + UINT64_C(0x9e3779b97f4a7c15))
                       ^ (part * UINT64_C(0xd1342543de82ef95) + UINT64_C(0x632be59bd9b4e019)));
}

COUNTER_FUNCTION uint64_t counter_bits(uint64_t key, uint64_t counter)
{
    return counter_mix(key + (counter + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

/* In [0, 1), a multiple of 2^-53. */
COUNTER_FUNCTION double counter_uniform(uint64_t key, uint64_t counter)
{
    return (double)(counter_bits(key, counter) >> 11) * 0x1p-53;
}

#endif
