/* training_table.c - which training kernels serve which instruction set. */
#include "cpu/training.h"

extern const struct training_kernels training_table_generic;
#if defined(__x86_64__)
extern const struct training_kernels training_table_avx2, training_table_avx512;
#if DLA_HAVE_AMX
extern const struct training_kernels training_table_amx;
#endif
#elif defined(__aarch64__)
extern const struct training_kernels training_table_neon;
#endif

const struct training_kernels *training_kernels(enum isa isa)
{
    switch (isa) {
#if defined(__x86_64__)
    case ISA_AVX2:
        return &training_table_avx2;
    case ISA_AVX512:
        return &training_table_avx512;
#if DLA_HAVE_AMX
    case ISA_AMX:
        return &training_table_amx;
#endif
#elif defined(__aarch64__)
    case ISA_NEON:
        return &training_table_neon;
#endif
    default:
        return &training_table_generic;
    }
}
