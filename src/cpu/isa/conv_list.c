/* conv_list.c - the convolution kernels of one instruction set, best first, the reference last. AVX-512's begins with those that need AMX,
 * too (conv_table.c). */
#include "cpu/conv.h"
#include "cpu/isa/vector.h"

extern const struct conv_kernel ISA_NAME(winograd4x4);
#ifndef VEC_NO_HALF
extern const struct conv_kernel ISA_NAME(winograd4x4_half);
#endif
extern const struct conv_kernel ISA_NAME(winograd4x4_small);
extern const struct conv_kernel ISA_NAME(winograd_stride2);
extern const struct conv_kernel ISA_NAME(winograd7x7);
extern const struct conv_kernel ISA_NAME(conv_stem);
extern const struct conv_kernel ISA_NAME(grouped3x3);
extern const struct conv_kernel ISA_NAME(conv_pointwise);
#if KERNEL_ISA_AVX512
extern const struct conv_kernel ISA_NAME(conv_amx);
extern const struct conv_kernel ISA_NAME(conv_paired);
#endif
#if KERNEL_ISA_AVX2 || KERNEL_ISA_AVX512
extern const struct conv_kernel ISA_NAME(conv_paired_once);
#endif
extern const struct conv_kernel ISA_NAME(conv_direct);
extern const struct conv_kernel *const ISA_NAME(conv_list)[];

const struct conv_kernel *const ISA_NAME(conv_list)[] = {
#if KERNEL_ISA_AVX512 && DLA_HAVE_AMX
    &ISA_NAME(conv_amx),
#endif
#ifndef VEC_NO_HALF
    &ISA_NAME(winograd4x4_half),
#endif
    &ISA_NAME(winograd4x4),
    &ISA_NAME(winograd4x4_small),
    &ISA_NAME(winograd_stride2),
    &ISA_NAME(winograd7x7),
    &ISA_NAME(conv_stem),
    &ISA_NAME(grouped3x3),
    &ISA_NAME(conv_pointwise),
#if KERNEL_ISA_AVX512
    &ISA_NAME(conv_paired),
#endif
#if KERNEL_ISA_AVX2 || KERNEL_ISA_AVX512
    &ISA_NAME(conv_paired_once),
#endif
    &ISA_NAME(conv_direct),
    &conv_reference,
    NULL,
};
