/* fma_loop.c - multiply-adds and nothing else, to measure what a core can do at most.
 *
 * Two units with a latency of 4 or 5 cycles need 8 to 10 independent sums in flight; 12 are enough and fit every register file.
 */
#include "cpu/isa/vector.h"

enum { SUMS = 12 };

double ISA_NAME(fma_loop)(int64_t iterations);

double ISA_NAME(fma_loop)(int64_t iterations)
{
    vec sum[SUMS];

    UNROLL(12)
    for (int i = 0; i < SUMS; i++)
        sum[i] = vec_all((float)i);
    for (int64_t iteration = 0; iteration < iterations; iteration++) {
        UNROLL(12)
        for (int i = 0; i < SUMS; i++) {
            sum[i] = vec_fma(sum[i], vec_all(0.999f), vec_all(0.001f));
#if defined(__x86_64__) && !AVX512_IS_EMULATED
            __asm__ volatile("" : "+x"(sum[i])); /* or the compiler would take several rounds together */
#elif defined(__aarch64__)
            __asm__ volatile("" : "+w"(sum[i]));
#endif
        }
    }
    vec total = sum[0];
    UNROLL(12)
    for (int i = 1; i < SUMS; i++)
        total = total + sum[i];
    static volatile float sink;
    float first[VEC_WIDTH];
    vec_store(first, total);
    sink = first[0];
    (void)sink;
    return 2.0 * SUMS * VEC_WIDTH * (double)iterations;
}
