/* channel_sums.h - the innermost loop of conv_pointwise.c and conv_direct.c: some input channels added to the sums of a tile, which stay in
 * registers.
 *
 *     sum[p][v] += Σ_i in[p][i] weight[i][v]        one broadcast and `vectors` FMAs for each pixel and channel
 *
 * With 32 registers the compiler writes it well. With 16 every register has a use (4 x 3 sums + 3 weights + 1 broadcast, 6 x 2 + 2 + 1), and
 * what GCC adds, copies of sums and addresses saved around the loop, costs layers of 32 to 128 channels 5 to 8 % of their time. So there the two
 * tiles that do nearly all of the work are written in assembly, two channels a turn: 42 and 45 instructions for 24 FMAs.
 */
#ifndef DLA_CPU_ISA_CHANNEL_SUMS_H
#define DLA_CPU_ISA_CHANNEL_SUMS_H

#include "cpu/isa/vector.h"

#include <stddef.h>

/* One channel: in (pixels, every `stride` floats), the second of two rows at in_second, weight (vectors). Here and below `pixels`, `rows` and
 * `vectors` are constants at every call, so that `sum` lives in registers. ahead: floats from the weights in use to those fetched into L1;
 * 0: none are. */
ALWAYS_INLINE void sum_channel(vec *sum /* (pixels, vectors) */, const float *in, const float *in_second, int64_t stride,
                               const float *weight, const int ahead, const int pixels, const int rows, const int vectors)
{
    enum { MOST_VECTORS = 3, LINE_FLOATS = 16 };
    const int row_pixels = pixels / rows;
    vec w[MOST_VECTORS];

    UNROLL(3)
    for (int v = 0; v < vectors; v++) {
        if (ahead > 0 && v * VEC_WIDTH % LINE_FLOATS == 0)
            __builtin_prefetch(weight + ahead + v * VEC_WIDTH, 0, 3);
        w[v] = vec_load(weight + v * VEC_WIDTH);
    }
    UNROLL(14)
    for (int p = 0; p < pixels; p++) {
        vec x = vec_all((p < row_pixels ? in : in_second)[p % row_pixels * stride]);
        UNROLL(3)
        for (int v = 0; v < vectors; v++)
            sum[p * vectors + v] = vec_accumulate(x, w[v], sum[p * vectors + v]);
    }
}

#if KERNEL_ISA_AVX2

/* clang-format off */

/* One pixel of channel c at `address`, times two or three vectors of weights. */
#define PIXEL_2(c, p, address)                                                                                                             \
    "vbroadcastss 4*" #c address ", %%ymm15\n\t"                                                                                           \
    "vfmadd231ps %%ymm12, %%ymm15, %[s" #p "0]\n\t"                                                                                        \
    "vfmadd231ps %%ymm13, %%ymm15, %[s" #p "1]\n\t"
#define PIXEL_3(c, p, address) PIXEL_2(c, p, address) "vfmadd231ps %%ymm14, %%ymm15, %[s" #p "2]\n\t"

/* One channel of a tile. r11 is three strides in 4 x 3, the fourth pixel in 6 x 2. */
#define CHANNEL_4X3(c)                                                                                                                     \
    "vmovups 96*" #c "(%[weight]), %%ymm12\n\t"                                                                                            \
    "vmovups 96*" #c "+32(%[weight]), %%ymm13\n\t"                                                                                         \
    "vmovups 96*" #c "+64(%[weight]), %%ymm14\n\t"                                                                                         \
    PIXEL_3(c, 0, "(%[in])") PIXEL_3(c, 1, "(%[in],%[stride])") PIXEL_3(c, 2, "(%[in],%[stride],2)") PIXEL_3(c, 3, "(%[in],%%r11)")
#define CHANNEL_6X2(c)                                                                                                                     \
    "vmovups 64*" #c "(%[weight]), %%ymm12\n\t"                                                                                            \
    "vmovups 64*" #c "+32(%[weight]), %%ymm13\n\t"                                                                                         \
    PIXEL_2(c, 0, "(%[in])") PIXEL_2(c, 1, "(%[in],%[stride])") PIXEL_2(c, 2, "(%[in],%[stride],2)")                                       \
    PIXEL_2(c, 3, "(%%r11)") PIXEL_2(c, 4, "(%%r11,%[stride])") PIXEL_2(c, 5, "(%%r11,%[stride],2)")

#define SUM(name, at) [name] "+x"(at)

/* in to end, an even number of channels, at least two. */
ALWAYS_INLINE void sum_pairs_4x3(vec *sum, const float *in, int64_t stride, const float *weight, const float *end)
{
    __asm__ volatile("lea (%[stride],%[stride],2), %%r11\n\t"
                     ".p2align 6\n"
                     "1:\n\t" CHANNEL_4X3(0) CHANNEL_4X3(1) "add $8, %[in]\n\t"
                     "add $192, %[weight]\n\t"
                     "cmp %[end], %[in]\n\t"
                     "jb 1b"
                     : SUM(s00, sum[0]), SUM(s01, sum[1]), SUM(s02, sum[2]), SUM(s10, sum[3]), SUM(s11, sum[4]), SUM(s12, sum[5]),
                       SUM(s20, sum[6]), SUM(s21, sum[7]), SUM(s22, sum[8]), SUM(s30, sum[9]), SUM(s31, sum[10]), SUM(s32, sum[11]),
                       [in] "+r"(in), [weight] "+r"(weight)
                     : [stride] "r"(stride * (int64_t)sizeof(float)), [end] "r"(end)
                     : "memory", "cc", "r11", "xmm12", "xmm13", "xmm14", "xmm15");
}

ALWAYS_INLINE void sum_pairs_6x2(vec *sum, const float *in, int64_t stride, const float *weight, const float *end)
{
    __asm__ volatile("lea (%[stride],%[stride],2), %%r11\n\t"
                     "add %[in], %%r11\n\t"
                     ".p2align 6\n"
                     "1:\n\t" CHANNEL_6X2(0) CHANNEL_6X2(1) "add $8, %[in]\n\t"
                     "add $8, %%r11\n\t"
                     "add $128, %[weight]\n\t"
                     "cmp %[end], %[in]\n\t"
                     "jb 1b"
                     : SUM(s00, sum[0]), SUM(s01, sum[1]), SUM(s10, sum[2]), SUM(s11, sum[3]), SUM(s20, sum[4]), SUM(s21, sum[5]),
                       SUM(s30, sum[6]), SUM(s31, sum[7]), SUM(s40, sum[8]), SUM(s41, sum[9]), SUM(s50, sum[10]), SUM(s51, sum[11]),
                       [in] "+r"(in), [weight] "+r"(weight)
                     : [stride] "r"(stride * (int64_t)sizeof(float)), [end] "r"(end)
                     : "memory", "cc", "r11", "xmm12", "xmm13", "xmm15");
}

#undef SUM
#undef CHANNEL_6X2
#undef CHANNEL_4X3
#undef PIXEL_3
#undef PIXEL_2
/* clang-format on */

#endif

/* `count` channels of one row: in (pixels, count), pixels `stride` floats apart, weight (count, vectors). */
ALWAYS_INLINE void sum_channels(vec *sum /* (pixels, vectors) */, const float *in, int64_t stride, const float *weight, int count,
                                const int ahead, const int pixels, const int vectors)
{
    const float *end = in + count;
#if KERNEL_ISA_AVX2
    if ((pixels == 4 && vectors == 3) || (pixels == 6 && vectors == 2)) {
        const float *even_end = in + count / 2 * 2;
        if (even_end > in && vectors == 3)
            sum_pairs_4x3(sum, in, stride, weight, even_end);
        else if (even_end > in)
            sum_pairs_6x2(sum, in, stride, weight, even_end);
        if (even_end < end)
            sum_channel(sum, even_end, NULL, stride, weight + (end - 1 - in) * vectors * VEC_WIDTH, ahead, pixels, 1, vectors);
        return;
    }
#endif
    for (; in + TERMS_AT_ONCE <= end; in += TERMS_AT_ONCE, weight += TERMS_AT_ONCE * vectors * VEC_WIDTH) {
        UNROLL(2)
        for (int c = 0; c < TERMS_AT_ONCE; c++)
            sum_channel(sum, in + c, NULL, stride, weight + c * vectors * VEC_WIDTH, ahead, pixels, 1, vectors);
    }
    if (TERMS_AT_ONCE > 1 && in < end)
        sum_channel(sum, in, NULL, stride, weight, ahead, pixels, 1, vectors);
}

#endif
