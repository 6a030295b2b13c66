/* map_table.c - which map functions an instruction set has: src/cpu/isa/map_fast.c, compiled once for each. */
#include "cpu/map.h"

extern const struct map_functions map_functions_generic;
#if defined(__x86_64__)
extern const struct map_functions map_functions_avx2;
extern const struct map_functions map_functions_avx512;
#elif defined(__aarch64__)
extern const struct map_functions map_functions_neon;
#endif

const struct map_functions *map_functions_for(enum isa isa)
{
    isa = isa_vectors(isa);
#if defined(__x86_64__)
    if (isa == ISA_AVX512)
        return &map_functions_avx512;
    if (isa == ISA_AVX2)
        return &map_functions_avx2;
#elif defined(__aarch64__)
    if (isa == ISA_NEON)
        return &map_functions_neon;
#endif
    (void)isa;
    return &map_functions_generic;
}
