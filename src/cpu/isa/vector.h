/* vector.h - a thin vector layer, so that a kernel is written once and compiled once per instruction set.
 *
 * `vec` holds VEC_WIDTH floats. It is a vector type of the compiler (GCC and Clang), so a + b, a - b and a * b work lane by
 * lane, and so does 4.0f * a; what the operators cannot say is a function here. Loads and stores need no alignment (on all
 * our targets an unaligned access that happens to be aligned costs nothing, so packed data should be).
 *
 *                 VEC_WIDTH  VEC_REGISTERS   how
 *     avx512         16          32          AVX-512 F, VL, BW, DQ
 *     avx2            8          16          AVX2, FMA, F16C
 *     neon            4          32          Armv8 Advanced SIMD
 *     generic         4          16          the compiler's own lowering (SSE2 on x86-64), no fused multiply-add
 *
 * The build compiles every file of this folder per instruction set with KERNEL_ISA=avx2 and KERNEL_ISA_AVX2=1 (and so on);
 * a public name of a kernel file is written ISA_NAME(winograd4x4) and becomes winograd4x4_avx2.
 */
#ifndef DLA_CPU_ISA_VECTOR_H
#define DLA_CPU_ISA_VECTOR_H

#include <stdint.h>
#include <string.h>

#define ISA_PASTE_(name, isa) name##_##isa
#define ISA_PASTE(name, isa) ISA_PASTE_(name, isa)
#define ISA_NAME(name) ISA_PASTE(name, KERNEL_ISA)
#define ISA_STRING_(isa) #isa
#define ISA_STRING(isa) ISA_STRING_(isa)
#define KERNEL_NAME(name) name "_" ISA_STRING(KERNEL_ISA) /* "winograd4x4" to "winograd4x4_avx2" */

/* Kernels count on this where a function's loops must unroll against the constants of its one caller. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Before a loop over an array of vectors that is to live in registers: unrolls it, n (at least its iterations) being a number.
 * Clang unrolls by GCC's pragma too, but so late that the array has become memory by then.
 * With AddressSanitizer a file would take minutes to compile, and speed is of no matter there. */
#ifdef __clang__
#if __has_feature(address_sanitizer)
#define UNROLL(n)
#else
#define UNROLL(n) _Pragma("clang loop unroll(full)")
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define UNROLL(n)
#else
#define UNROLL_PRAGMA(text) _Pragma(#text)
#define UNROLL(n) UNROLL_PRAGMA(GCC unroll n)
#endif

#if KERNEL_ISA_AVX512
#include <immintrin.h>

typedef __m512 vec;
enum { VEC_WIDTH = 16, VEC_REGISTERS = 32 };

ALWAYS_INLINE vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

ALWAYS_INLINE vec vec_all(float x)
{
    return _mm512_set1_ps(x);
}

ALWAYS_INLINE vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

ALWAYS_INLINE void vec_store(float *p, vec v)
{
    _mm512_storeu_ps(p, v);
}

ALWAYS_INLINE __mmask16 vec_first_lanes(int n)
{
    return (__mmask16)((1U << n) - 1U);
}

ALWAYS_INLINE vec vec_load_first(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(vec_first_lanes(n), p);
}

ALWAYS_INLINE void vec_store_first(float *p, vec v, int n)
{
    _mm512_mask_storeu_ps(p, vec_first_lanes(n), v);
}

ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

ALWAYS_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

ALWAYS_INLINE vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

#if !AVX512_IS_EMULATED /* by tests/emulated */
/* GCC loads a broadcast into a register where it is used twice, and on a Zen 4 that takes a slot of an adder; an operand in memory
 * takes none. */
ALWAYS_INLINE vec vec_add_all(vec a, const float *x)
{
    vec sum;
    __asm__("vaddps %2%{1to16%}, %1, %0" : "=v"(sum) : "v"(a), "m"(*x));
    return sum;
}

ALWAYS_INLINE vec vec_sub_all(vec a, const float *x)
{
    vec difference;
    __asm__("vsubps %2%{1to16%}, %1, %0" : "=v"(difference) : "v"(a), "m"(*x));
    return difference;
}

ALWAYS_INLINE vec vec_fma_all(const float *x, vec b, vec c)
{
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*x));
    return c;
}
#define VEC_MEMORY_OPERANDS 1
#endif

typedef __m512i vec_lanes;

ALWAYS_INLINE vec_lanes vec_group_lanes(int group)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_and_si512(lane, _mm512_set1_epi32(-group));
}

ALWAYS_INLINE vec_lanes vec_next_lanes(vec_lanes lanes)
{
    return _mm512_add_epi32(lanes, _mm512_set1_epi32(1));
}

ALWAYS_INLINE vec vec_permute(vec v, vec_lanes lanes)
{
    return _mm512_permutexvar_ps(lanes, v);
}

ALWAYS_INLINE vec vec_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

ALWAYS_INLINE void vec_store_half(uint16_t *p, vec v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

#elif KERNEL_ISA_AVX2
#include <immintrin.h>

typedef __m256 vec;
enum { VEC_WIDTH = 8, VEC_REGISTERS = 16 };

ALWAYS_INLINE vec vec_zero(void)
{
    return _mm256_setzero_ps();
}

ALWAYS_INLINE vec vec_all(float x)
{
    return _mm256_set1_ps(x);
}

ALWAYS_INLINE vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

ALWAYS_INLINE void vec_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}

ALWAYS_INLINE __m256i vec_first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Most vectors are whole, and a test costs less than a mask: on AMD's processors a store with one takes a dozen cycles. */
ALWAYS_INLINE vec vec_load_first(const float *p, int n)
{
    if (n == VEC_WIDTH)
        return _mm256_loadu_ps(p);
    return _mm256_maskload_ps(p, vec_first_lanes(n));
}

ALWAYS_INLINE void vec_store_first(float *p, vec v, int n)
{
    if (n == VEC_WIDTH)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, vec_first_lanes(n), v);
}

ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

ALWAYS_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

/* GCC, where a loop takes two of them for each sum, lets a product's register become the sum's and copies registers: a tenth more
 * instructions in conv_pointwise.c. */
ALWAYS_INLINE vec vec_accumulate(vec a, vec b, vec sum)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}

ALWAYS_INLINE vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

typedef __m256i vec_lanes;

ALWAYS_INLINE vec_lanes vec_group_lanes(int group)
{
    return _mm256_and_si256(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(-group));
}

ALWAYS_INLINE vec_lanes vec_next_lanes(vec_lanes lanes)
{
    return _mm256_add_epi32(lanes, _mm256_set1_epi32(1));
}

ALWAYS_INLINE vec vec_permute(vec v, vec_lanes lanes)
{
    return _mm256_permutevar_ps(v, lanes); /* within each half, by the index modulo 4: groups of 2 and 4 */
}

ALWAYS_INLINE vec vec_load_half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

ALWAYS_INLINE void vec_store_half(uint16_t *p, vec v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

#else /* NEON and generic: four lanes; without a masked access a tail goes through memory */

#if KERNEL_ISA_NEON
#include <arm_neon.h>

typedef float32x4_t vec;
enum { VEC_WIDTH = 4, VEC_REGISTERS = 32 };

ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}

ALWAYS_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return vfmsq_f32(c, a, b);
}

ALWAYS_INLINE vec vec_max(vec a, vec b)
{
    return vmaxq_f32(a, b);
}

typedef uint8x16_t vec_lanes; /* indices of bytes */

ALWAYS_INLINE vec_lanes vec_group_lanes(int group)
{
    const uint32x4_t lane = {0, 1, 2, 3};
    uint32x4_t first = vandq_u32(lane, vdupq_n_u32((uint32_t)-group));
    return vreinterpretq_u8_u32(vaddq_u32(vmulq_n_u32(first, 0x04040404), vdupq_n_u32(0x03020100)));
}

ALWAYS_INLINE vec_lanes vec_next_lanes(vec_lanes lanes)
{
    return vaddq_u8(lanes, vdupq_n_u8(4));
}

ALWAYS_INLINE vec vec_permute(vec v, vec_lanes lanes)
{
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), lanes));
}

ALWAYS_INLINE vec vec_load_half(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

ALWAYS_INLINE void vec_store_half(uint16_t *p, vec v)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}

#else
#define VEC_NO_HALF 1 /* no conversion in hardware: kernels store half precision only where it is one instruction */

typedef float vec __attribute__((vector_size(16)));
enum { VEC_WIDTH = 4, VEC_REGISTERS = 16 };

ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

ALWAYS_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return c - a * b;
}

ALWAYS_INLINE vec vec_max(vec a, vec b)
{
    vec larger;
    for (int lane = 0; lane < VEC_WIDTH; lane++)
        larger[lane] = a[lane] > b[lane] ? a[lane] : b[lane];
    return larger;
}

typedef int vec_lanes __attribute__((vector_size(16)));

ALWAYS_INLINE vec_lanes vec_group_lanes(int group)
{
    return (vec_lanes){0, 1, 2, 3} & -group;
}

ALWAYS_INLINE vec_lanes vec_next_lanes(vec_lanes lanes)
{
    return lanes + 1;
}

ALWAYS_INLINE vec vec_permute(vec v, vec_lanes lanes)
{
    vec spread;
    for (int lane = 0; lane < VEC_WIDTH; lane++)
        spread[lane] = v[lanes[lane]];
    return spread;
}

#endif

ALWAYS_INLINE vec vec_zero(void)
{
    return (vec){0.0f, 0.0f, 0.0f, 0.0f};
}

ALWAYS_INLINE vec vec_all(float x)
{
    return (vec){x, x, x, x};
}

ALWAYS_INLINE vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

ALWAYS_INLINE void vec_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

ALWAYS_INLINE vec vec_load_first(const float *p, int n)
{
    vec v = vec_zero();
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
}

ALWAYS_INLINE void vec_store_first(float *p, vec v, int n)
{
    memcpy(p, &v, (size_t)n * sizeof(float));
}

#endif

ALWAYS_INLINE float vec_sum_of_lanes(vec v)
{
#if KERNEL_ISA_AVX512
    return _mm512_reduce_add_ps(v);
#else
    float sum = 0.0f;
    for (int lane = 0; lane < VEC_WIDTH; lane++)
        sum += v[lane];
    return sum;
#endif
}

ALWAYS_INLINE float vec_largest_lane(vec v)
{
#if KERNEL_ISA_AVX512
    return _mm512_reduce_max_ps(v);
#else
    float largest = v[0];
    for (int lane = 1; lane < VEC_WIDTH; lane++)
        largest = v[lane] > largest ? v[lane] : largest;
    return largest;
#endif
}

/* What the functions above promise, for all instruction sets:
 *     vec_load_first(p, n)      lanes 0 .. n-1 from p, the others 0; 0 <= n <= VEC_WIDTH; reads nothing beyond p[n-1]
 *     vec_store_first(p, v, n)  writes lanes 0 .. n-1, touches nothing beyond
 *     vec_fma(a, b, c)          a * b + c;   vec_fnma(a, b, c)  c - a * b
 *     vec_accumulate(a, b, sum)  vec_fma(a, b, sum), in the register of `sum`
 *     vec_add_all(a, x), vec_sub_all(a, x), vec_fma_all(x, b, c)  a + *x, a - *x, *x * b + c in all lanes
 *     vec_permute(v, lanes)      lane l gets lane lanes[l]. vec_group_lanes(g) is the first lane of each lane's group of g (a power of
 *                               two below VEC_WIDTH), vec_next_lanes the next member of each group
 *     vec_load_half, _store_half  float16 in memory, rounded to nearest even */

/* With 16 registers a tile of sums has fewer multiply-adds for its other instructions, 12 beside 8 loads. A core alone starts all of them in
 * the six cycles of the multiply-adds, but one whose other hardware thread is busy starts half as many instructions: there the inner
 * loops take two terms of each sum at a time. */
enum { MANY_REGISTERS = VEC_REGISTERS == 32, TERMS_AT_ONCE = MANY_REGISTERS ? 1 : 2 };

/* Vectors needed for n floats. */
ALWAYS_INLINE int vec_count(int n)
{
    return (n + VEC_WIDTH - 1) / VEC_WIDTH;
}

/* For a walk through memory: asks for a line long before it is read. The processor's own prefetcher stops at the end of each 4 KB. */
ALWAYS_INLINE void vec_fetch_ahead(const float *p)
{
    enum { AHEAD = 8192 };
    __builtin_prefetch((const void *)((uintptr_t)p + AHEAD));
}

/* Fetches the line at p, which will be written soon, meanwhile. Stores leave a core in order: one whose line has to come from memory
 * keeps all that follow waiting. */
ALWAYS_INLINE void vec_fetch_to_store(const float *p)
{
    __builtin_prefetch(p, 1, 3);
}

#if !KERNEL_ISA_AVX2
ALWAYS_INLINE vec vec_accumulate(vec a, vec b, vec sum)
{
    return vec_fma(a, b, sum);
}
#endif

#if !VEC_MEMORY_OPERANDS
ALWAYS_INLINE vec vec_add_all(vec a, const float *x)
{
    return a + vec_all(*x);
}

ALWAYS_INLINE vec vec_sub_all(vec a, const float *x)
{
    return a - vec_all(*x);
}

ALWAYS_INLINE vec vec_fma_all(const float *x, vec b, vec c)
{
    return vec_fma(vec_all(*x), b, c);
}
#endif

#endif
