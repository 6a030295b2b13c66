/* read_loop.c - loads and nothing else, to measure how fast memory, near or far, is read at most.
 *
 * Eight independent sums: an addition a load, which costs nothing beside it, and no chain that would hold loads up.
 */
#include "cpu/isa/vector.h"

enum { SUMS = 8 };

void ISA_NAME(read_loop)(const float *memory, int64_t floats, int64_t rounds);

void ISA_NAME(read_loop)(const float *memory /* (floats) */, int64_t floats, int64_t rounds)
{
    vec sum[SUMS];

    UNROLL(8)
    for (int i = 0; i < SUMS; i++)
        sum[i] = vec_zero();
    for (int64_t round = 0; round < rounds; round++)
        for (const float *p = memory, *end = memory + floats; p < end; p += SUMS * VEC_WIDTH) {
            UNROLL(8)
            for (int i = 0; i < SUMS; i++)
                sum[i] = sum[i] + vec_load(p + i * VEC_WIDTH);
        }
    vec total = sum[0];
    UNROLL(8)
    for (int i = 1; i < SUMS; i++)
        total = total + sum[i];
    static volatile float sink;
    float first[VEC_WIDTH];
    vec_store(first, total);
    sink = first[0];
    (void)sink;
}
