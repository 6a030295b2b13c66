/* sizes.h - arithmetic of sizes that the kernels share. */
#ifndef DLA_CPU_ISA_SIZES_H
#define DLA_CPU_ISA_SIZES_H

#include <stdint.h>

static inline int divide_up(int a, int b)
{
    return (a + b - 1) / b;
}

static inline int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Floats, rounded up to whole cache lines. */
static inline int64_t aligned(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

#endif
