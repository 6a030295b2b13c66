/* immintrin.h - AVX-512 and AMX on a processor with AVX2: the intrinsics that the kernels use, each by its definition.
 *
 * Stands before the compiler's own header when the kernels' AVX-512 variant is built without -mavx512f. A vector is the compiler's type of 64
 * bytes, which it keeps in two registers of 32; what has an instruction with AVX2 is two of them, rounding as the one would, the rest goes
 * lane by lane. An intrinsic that a kernel begins to use and that is missing here ends the build.
 */
#ifndef DLA_TESTS_EMULATED_AVX512_IMMINTRIN_H
#define DLA_TESTS_EMULATED_AVX512_IMMINTRIN_H

#include_next <immintrin.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define AVX512_IS_EMULATED 1 /* what is assembly, the kernels leave out */
#define EMULATED static inline __attribute__((always_inline))

enum { EMULATED_LANES = 16 };

typedef int emulated_integers __attribute__((vector_size(64)));
typedef unsigned emulated_unsigned __attribute__((vector_size(64)));

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

EMULATED __m512i emulated_loadu_si512(const void *p)
{
    __m512i v;
    memcpy(&v, p, sizeof(v));
    return v;
}

EMULATED void emulated_storeu_si512(void *p, __m512i v)
{
    memcpy(p, &v, sizeof(v));
}

EMULATED __m512i emulated_set1_epi32(int x)
{
    return (__m512i)(emulated_integers){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

EMULATED __m512i emulated_add_epi32(__m512i a, __m512i b)
{
    return (__m512i)((emulated_integers)a + (emulated_integers)b);
}

EMULATED __m512i emulated_mullo_epi32(__m512i a, __m512i b)
{
    return (__m512i)((emulated_integers)a * (emulated_integers)b);
}

EMULATED __m512i emulated_max_epi32(__m512i a, __m512i b)
{
    emulated_integers x = (emulated_integers)a, y = (emulated_integers)b, larger = x > y;
    return (__m512i)((x & larger) | (y & ~larger));
}

EMULATED int emulated_reduce_max_epi32(__m512i v)
{
    emulated_integers x = (emulated_integers)v;
    int largest = x[0];
    for (int lane = 1; lane < EMULATED_LANES; lane++)
        largest = x[lane] > largest ? x[lane] : largest;
    return largest;
}

EMULATED __m512i emulated_slli_epi32(__m512i v, int count)
{
    return (__m512i)((emulated_unsigned)v << (unsigned)count);
}

EMULATED __m512i emulated_srli_epi32(__m512i v, int count)
{
    return (__m512i)((emulated_unsigned)v >> (unsigned)count);
}

EMULATED __m512 emulated_cvtepi32_ps(__m512i v)
{
    return __builtin_convertvector((emulated_integers)v, __m512);
}

/* Rounded to nearest even, which a conversion in C is not. */
EMULATED __m512i emulated_cvtps_epi32(__m512 v)
{
    __m256i halves[] = {_mm256_cvtps_epi32(emulated_half(v, 0)), _mm256_cvtps_epi32(emulated_half(v, 1))};
    return emulated_loadu_si512(halves);
}

/* Element i of b where bit i of the mask is set, of a elsewhere; elements of so many bytes. */
EMULATED __m512i emulated_blend(uint64_t mask, __m512i a, __m512i b, const int bytes)
{
    char *to = (char *)&a;
    for (int i = 0; i < (int)sizeof(a); i++)
        if (mask >> i / bytes & 1)
            to[i] = ((const char *)&b)[i];
    return a;
}

/* Of each 16 bytes the lower or upper half, elements of so many bytes of a and of b in turns. */
EMULATED __m512i emulated_unpack(__m512i a, __m512i b, const int bytes, const bool upper)
{
    enum { PART = 16 };
    char from[2][sizeof(a)], to[sizeof(a)];
    memcpy(from[0], &a, sizeof(a));
    memcpy(from[1], &b, sizeof(b));
    for (int i = 0; i < (int)sizeof(to); i++) {
        int in_part = i % PART;
        to[i] = from[in_part / bytes % 2][i - in_part + (upper ? PART / 2 : 0) + in_part / (2 * bytes) * bytes + in_part % bytes];
    }
    return emulated_loadu_si512(to);
}

/* Two parts of 16 bytes of a, then two of b, two bits of `which` for each. */
EMULATED __m512i emulated_shuffle_i32x4(__m512i a, __m512i b, const int which)
{
    enum { PART = 16 };
    char to[sizeof(a)];
    for (int part = 0; part < 4; part++)
        memcpy(to + part * PART, (const char *)(part < 2 ? &a : &b) + (which >> 2 * part & 3) * PART, PART);
    return emulated_loadu_si512(to);
}

EMULATED __m512 emulated_mask_i32gather_ps(__m512 v, __mmask16 mask, __m512i at, const void *from, int scale)
{
    emulated_integers steps = (emulated_integers)at;
    for (int lane = 0; lane < EMULATED_LANES; lane++)
        if (mask >> lane & 1)
            memcpy((float *)&v + lane, (const char *)from + (int64_t)steps[lane] * scale, sizeof(float));
    return v;
}

/* ---- AMX: a thread's tiles ---------------------------------------------------------------------------------------------- */

enum { EMULATED_TILES = 8, EMULATED_TILE_ROWS = 16, EMULATED_TILE_BYTES = 64 };

static _Thread_local struct {
    int rows[EMULATED_TILES], row_bytes[EMULATED_TILES];
    signed char data[EMULATED_TILES][EMULATED_TILE_ROWS][EMULATED_TILE_BYTES];
} emulated_tiles;

EMULATED void emulated_tile_loadconfig(const void *configuration)
{
    const unsigned char *bytes = configuration;
    for (int tile = 0; tile < EMULATED_TILES; tile++) {
        emulated_tiles.row_bytes[tile] = bytes[16 + 2 * tile];
        emulated_tiles.rows[tile] = bytes[48 + tile];
    }
}

EMULATED void emulated_tile_release(void)
{
    memset(&emulated_tiles, 0, sizeof(emulated_tiles));
}

EMULATED void emulated_tile_loadd(int tile, const void *from, int64_t step)
{
    for (int row = 0; row < emulated_tiles.rows[tile]; row++)
        memcpy(emulated_tiles.data[tile][row], (const char *)from + row * step, (size_t)emulated_tiles.row_bytes[tile]);
}

EMULATED void emulated_tile_stored(int tile, void *to, int64_t step)
{
    for (int row = 0; row < emulated_tiles.rows[tile]; row++)
        memcpy((char *)to + row * step, emulated_tiles.data[tile][row], (size_t)emulated_tiles.row_bytes[tile]);
}

/* sums[m][n] += sum over k and four bytes b of left[m][4 k + b] right[k][4 n + b] */
static inline void emulated_tile_dpbssd(int sums, int left, int right)
{
    for (int m = 0; m < emulated_tiles.rows[sums]; m++)
        for (int n = 0; n < emulated_tiles.row_bytes[sums] / 4; n++) {
            int sum;
            memcpy(&sum, &emulated_tiles.data[sums][m][4 * n], sizeof(sum));
            for (int k = 0; k < emulated_tiles.row_bytes[left]; k++)
                sum += emulated_tiles.data[left][m][k] * emulated_tiles.data[right][k / 4][4 * n + k % 4];
            memcpy(&emulated_tiles.data[sums][m][4 * n], &sum, sizeof(sum));
        }
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
#define _mm512_cmp_ps_mask emulated_cmp_ps_mask
#define _mm512_maskz_mov_ps emulated_maskz_mov_ps
#define _mm512_permutexvar_ps emulated_permutexvar_ps
#define _mm512_reduce_add_ps emulated_reduce_add_ps
#define _mm512_reduce_max_ps emulated_reduce_max_ps
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtps_ph(v, how) _mm256_set_m128i(_mm256_cvtps_ph(emulated_half(v, 1), how), _mm256_cvtps_ph(emulated_half(v, 0), how))
#define _mm512_castps_si512(v) ((__m512i)(v))
#define _mm512_castsi512_ps(v) ((__m512)(v))
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_mask_i32gather_ps emulated_mask_i32gather_ps

#define _mm512_setzero_si512() emulated_set1_epi32(0)
#define _mm512_set1_epi32 emulated_set1_epi32
#define _mm512_setr_epi32(...)                                                                                                             \
    (__m512i)(emulated_integers)                                                                                                           \
    {                                                                                                                                      \
        __VA_ARGS__                                                                                                                        \
    }
#define _mm512_loadu_si512 emulated_loadu_si512
#define _mm512_storeu_si512 emulated_storeu_si512
#define _mm512_add_epi32 emulated_add_epi32
#define _mm512_mullo_epi32 emulated_mullo_epi32
#define _mm512_max_epi32 emulated_max_epi32
#define _mm512_reduce_max_epi32 emulated_reduce_max_epi32
#define _mm512_and_si512(a, b) ((a) & (b))
#define _mm512_or_si512(a, b) ((a) | (b))
#define _mm512_xor_si512(a, b) ((a) ^ (b))
#define _mm512_slli_epi32 emulated_slli_epi32
#define _mm512_srli_epi32 emulated_srli_epi32
#define _mm512_mask_blend_epi8(mask, a, b) emulated_blend(mask, a, b, 1)
#define _mm512_mask_blend_epi16(mask, a, b) emulated_blend(mask, a, b, 2)
#define _mm512_unpacklo_epi32(a, b) emulated_unpack(a, b, 4, false)
#define _mm512_unpackhi_epi32(a, b) emulated_unpack(a, b, 4, true)
#define _mm512_unpacklo_epi64(a, b) emulated_unpack(a, b, 8, false)
#define _mm512_unpackhi_epi64(a, b) emulated_unpack(a, b, 8, true)
#define _mm512_shuffle_i32x4 emulated_shuffle_i32x4

#define _tile_loadconfig emulated_tile_loadconfig
#define _tile_release emulated_tile_release
#define _tile_zero(tile) memset(emulated_tiles.data[tile], 0, sizeof(emulated_tiles.data[tile]))
#define _tile_loadd emulated_tile_loadd
#define _tile_stored emulated_tile_stored
#define _tile_dpbssd emulated_tile_dpbssd

#endif
