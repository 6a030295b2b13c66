/* immintrin.h - AVX-512 on a processor with AVX2: the intrinsics that the kernels use, each by its definition.
 *
 * Stands before the compiler's own header when the kernels' AVX-512 variant is built without -mavx512f. A vector is the compiler's type of 64
 * bytes, which it keeps in two registers of 32; what has an instruction with AVX2 is two of them, rounding as the one would, the rest goes
 * lane by lane. An intrinsic that a kernel begins to use and that is missing here ends the build.
 */
#ifndef DLA_TESTS_EMULATED_AVX512_IMMINTRIN_H
#define DLA_TESTS_EMULATED_AVX512_IMMINTRIN_H

#include_next <immintrin.h>

#include <string.h>

#define EMULATED static inline __attribute__((always_inline))

enum { EMULATED_LANES = 16 };

typedef int emulated_integers __attribute__((vector_size(64)));

EMULATED __m256 emulated_half(__m512 v, int which)
{
    __m256 half;
    memcpy(&half, (const char *)&v + which * (int)sizeof(half), sizeof(half));
    return half;
}

EMULATED __m512 emulated_whole(__m256 low, __m256 high)
{
    __m512 v;
    memcpy(&v, &low, sizeof(low));
    memcpy((char *)&v + sizeof(low), &high, sizeof(high));
    return v;
}

EMULATED __m512 emulated_loadu_ps(const void *p)
{
    __m512 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

EMULATED void emulated_storeu_ps(void *p, __m512 v)
{
    memcpy(p, &v, sizeof(v));
}

EMULATED __m512 emulated_set1_ps(float x)
{
    return emulated_whole(_mm256_set1_ps(x), _mm256_set1_ps(x));
}

EMULATED __m512 emulated_maskz_loadu_ps(__mmask16 mask, const float *p)
{
    __m512 v = {0};
    for (int lane = 0; lane < EMULATED_LANES; lane++)
        if (mask >> lane & 1)
            v[lane] = p[lane];
    return v;
}

EMULATED void emulated_mask_storeu_ps(float *p, __mmask16 mask, __m512 v)
{
    for (int lane = 0; lane < EMULATED_LANES; lane++)
        if (mask >> lane & 1)
            p[lane] = v[lane];
}

EMULATED __m512 emulated_fmadd_ps(__m512 a, __m512 b, __m512 c)
{
    return emulated_whole(_mm256_fmadd_ps(emulated_half(a, 0), emulated_half(b, 0), emulated_half(c, 0)),
                          _mm256_fmadd_ps(emulated_half(a, 1), emulated_half(b, 1), emulated_half(c, 1)));
}

EMULATED __m512 emulated_max_ps(__m512 a, __m512 b)
{
    return emulated_whole(_mm256_max_ps(emulated_half(a, 0), emulated_half(b, 0)), _mm256_max_ps(emulated_half(a, 1), emulated_half(b, 1)));
}

/* Of all comparisons _CMP_GT_OQ alone. */
EMULATED __mmask16 emulated_cmp_ps_mask(__m512 a, __m512 b, const int how)
{
    unsigned mask = 0;
    if (how != _CMP_GT_OQ)
        __builtin_trap();
    for (int lane = 0; lane < EMULATED_LANES; lane++)
        mask |= (unsigned)(a[lane] > b[lane]) << lane;
    return (__mmask16)mask;
}

EMULATED __m512 emulated_maskz_mov_ps(__mmask16 mask, __m512 v)
{
    for (int lane = 0; lane < EMULATED_LANES; lane++)
        if (!(mask >> lane & 1))
            v[lane] = 0.0f;
    return v;
}

EMULATED __m512 emulated_permutexvar_ps(__m512i lanes, __m512 v)
{
    emulated_integers from = (emulated_integers)lanes;
    __m512 result = v;
    for (int lane = 0; lane < EMULATED_LANES; lane++)
        result[lane] = v[from[lane] & (EMULATED_LANES - 1)];
    return result;
}

EMULATED float emulated_reduce_add_ps(__m512 v)
{
    float sum = 0.0f;
    for (int lane = 0; lane < EMULATED_LANES; lane++)
        sum += v[lane];
    return sum;
}

EMULATED float emulated_reduce_max_ps(__m512 v)
{
    float largest = v[0];
    for (int lane = 1; lane < EMULATED_LANES; lane++)
        largest = v[lane] > largest ? v[lane] : largest;
    return largest;
}

EMULATED __m512 emulated_cvtph_ps(__m256i v)
{
    return emulated_whole(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}

EMULATED __m512i emulated_add_epi32(__m512i a, __m512i b)
{
    return (__m512i)((emulated_integers)a + (emulated_integers)b);
}

EMULATED __m512i emulated_set1_epi32(int x)
{
    return (__m512i)(emulated_integers){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

#define _mm512_setzero_ps() emulated_set1_ps(0.0f)
#define _mm512_set1_ps emulated_set1_ps
#define _mm512_loadu_ps emulated_loadu_ps
#define _mm512_storeu_ps emulated_storeu_ps
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_fmadd_ps emulated_fmadd_ps
#define _mm512_fnmadd_ps(a, b, c) emulated_fmadd_ps(-(a), b, c)
#define _mm512_max_ps emulated_max_ps
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask emulated_cmp_ps_mask
#define _mm512_maskz_mov_ps emulated_maskz_mov_ps
#define _mm512_permutexvar_ps emulated_permutexvar_ps
#define _mm512_reduce_add_ps emulated_reduce_add_ps
#define _mm512_reduce_max_ps emulated_reduce_max_ps
#define _mm512_cvtph_ps emulated_cvtph_ps
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(v, how) _mm256_set_m128i(_mm256_cvtps_ph(emulated_half(v, 1), how), _mm256_cvtps_ph(emulated_half(v, 0), how))
#define _mm512_set1_epi32 emulated_set1_epi32
#undef _mm512_setr_epi32
#define _mm512_setr_epi32(...) (__m512i)(emulated_integers){__VA_ARGS__}
#define _mm512_add_epi32 emulated_add_epi32
#define _mm512_and_si512(a, b) ((a) & (b))
#define _mm512_or_si512(a, b) ((a) | (b))

#endif
