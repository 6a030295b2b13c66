/* cpu_features.h - which instruction sets this machine runs, and which one to use. */
#ifndef DLA_BASE_CPU_FEATURES_H
#define DLA_BASE_CPU_FEATURES_H

#include <dla/dla.h>

/* Whether the compiler knows Intel's matrix unit. */
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define DLA_HAVE_AMX 1
#else
#define DLA_HAVE_AMX 0
#endif

/* ISA_AVX2 includes FMA and F16C; ISA_AMX is AVX-512 with Intel's matrix unit for bytes. */
enum isa { ISA_GENERIC, ISA_AVX2, ISA_AVX512, ISA_AMX, ISA_NEON, ISA_COUNT };

/* The instruction set whose vectors it has: what has kernels for vectors alone asks for this one's. */
static inline enum isa isa_vectors(enum isa isa)
{
    return isa == ISA_AMX ? ISA_AVX512 : isa;
}

const char *isa_name(enum isa isa);  /* "generic", "avx2", "avx512", "amx", "neon" */
bool isa_is_available(enum isa isa); /* compiled in, and the processor and system support it */

/* The best available one, or what the environment variable DLA_ISA names; an unknown or unavailable name is
 * DLA_ERROR_ARGUMENT and lists the available ones. */
dla_status isa_choose(enum isa *isa);

/* What the processor calls itself, with family, model and stepping where there are such: one line, the same whenever the same kind
 * of processor is asked. */
void cpu_describe(char *text, size_t size);

/* Whether a core is known to add floats beside its multiply-adds, from operands in memory that cost nothing: AMD's family 19h: measured on a
 * Zen 4 and, with AVX2, on a Zen 3. A Zen 5 has such adders, too, but twice the lanes for as many loads; it was not measured. */
bool cpu_adds_beside_products(void);

int cpu_core_count(void); /* physical cores that this process may run on, at least 1 */

#endif
