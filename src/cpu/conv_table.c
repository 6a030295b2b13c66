/* conv_table.c - which convolution kernels an instruction set has.
 *
 * Each instruction set's list is a NULL-terminated array in src/cpu/isa/conv_list.c, compiled once per instruction set.
 */
#include "cpu/conv.h"

extern const struct conv_kernel *const conv_list_generic[];
#if defined(__x86_64__)
extern const struct conv_kernel *const conv_list_avx2[];
extern const struct conv_kernel *const conv_list_avx512[];
enum { AMX_KERNELS = DLA_HAVE_AMX }; /* at its begin */
#elif defined(__aarch64__)
extern const struct conv_kernel *const conv_list_neon[];
#endif

const struct conv_kernel *const *conv_kernels(enum isa isa, int *count)
{
    const struct conv_kernel *const *list = conv_list_generic;

#if defined(__x86_64__)
    if (isa == ISA_AVX2)
        list = conv_list_avx2;
    else if (isa == ISA_AMX)
        list = conv_list_avx512;
    else if (isa == ISA_AVX512)
        list = conv_list_avx512 + AMX_KERNELS;
#elif defined(__aarch64__)
    if (isa == ISA_NEON)
        list = conv_list_neon;
#endif
    *count = 0;
    while (list[*count])
        (*count)++;
    return list;
}
