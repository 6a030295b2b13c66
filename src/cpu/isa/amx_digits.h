/* amx_digits.h - float32 on a matrix unit for bytes (Intel's AMX): numbers as digits, and products of digits.
 *
 * Numbers are rounded to integers of 24 bits, so that the largest of those that share a factor is nearly 2^23. Such an integer has three
 * digits of base 256, from -128 to 127,
 *
 *     x = sx (x0 2^16 + x1 2^8 + x2),   w = sw (w0 2^16 + w1 2^8 + w2)
 *
 * and of the nine products of digits six are summed, in levels of one weight each, which 32 bits hold exactly:
 *
 *     sum x w = sx sw 2^16 (2^16 sum x0 w0 + 2^8 sum (x0 w1 + x1 w0) + sum (x0 w2 + x1 w1 + x2 w0))
 *
 * What is left out is below 2^-24 of the largest x times the largest w, and has no sign, since the digits have none. So the error is that
 * of rounding to 24 bits of the largest value, and sums add none. The unit does 1024 products of bytes a cycle where AVX-512 does 32
 * multiply-adds: with six for one 5.3 times as many.
 *
 * The unit has eight tiles of up to 16 rows of 64 bytes. A product takes as many cycles as the left tile has rows, even if it adds
 * to the tile that the one before has added to. Terms come 64 at a time (a block): a row of a left tile has a digit of 64 terms, a right tile
 * has a digit of 64 terms of 16 columns, four terms a row.
 *
 * Six tiles are used, three of them for the sums of 16 x 16 results. With all eight, 16 x 32 results share the left tiles: with one
 * thread a core is as fast, and 4 to 13 % faster where more than 384 channels do not stay in L1. But while the core's other hardware thread is
 * busy, it seems to have hardly more registers for tiles than names for them: loads and products wait for each other, and a product takes 34 ns
 * with eight tiles and 17 with six, where it takes 6 alone (bench/bench_tiles.c). With five tiles more must be loaded, and it takes as
 * long as with six.
 */
#ifndef DLA_CPU_ISA_AMX_DIGITS_H
#define DLA_CPU_ISA_AMX_DIGITS_H

#include "cpu/isa/vector.h"

#include "base/cpu_features.h"

#if KERNEL_ISA_AVX512 && DLA_HAVE_AMX

#include "cpu/isa/tile_configuration.h"

#define TILES_INLINE static inline __attribute__((always_inline, target("amx-tile,amx-int8")))

enum {
    DIGITS = 3,
    LEVELS = 3,
    PRODUCTS = 6,       /* of digits */
    TERMS = 64,         /* of a block */
    MOST_TERMS = 40000, /* of a sum: 3 * 2^14 times as much is below 2^31 */
    TILE_ROWS = 16,     /* at most */
    TILE_COLUMNS = 16,
    ROW_BYTES = TILE_ROW_BYTES,
    TILE_BYTES = TILE_ROWS * ROW_BYTES,
    RIGHT_BYTES = DIGITS * TILE_BYTES, /* of a block: (DIGITS, 16 rows, 16 columns, 4 terms) */
    HALVES = 2,
    COLUMNS = HALVES * TILE_COLUMNS, /* that are written out together */
    SUM_INTS = LEVELS * COLUMNS,     /* of a row */
    TILE_SUMS = TILE_ROWS * SUM_INTS,
    LINE = 64
};

/* To what the largest value is scaled: a little below the largest integer of three digits. */
#define LARGEST 8355000.0f
/* What is smaller is scaled as if it were this. */
#define SMALLEST 0x1p-100f

/* ---- digits ------------------------------------------------------------------------------------------------------------ */

/* The larger of `largest` and |x|, lane by lane, as integers of the same bits: those of NaN are the largest. */
ALWAYS_INLINE __m512i larger(__m512i largest, vec x)
{
    const __m512i not_sign = _mm512_set1_epi32(0x7fffffff);
    return _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(x), not_sign));
}

ALWAYS_INLINE __m512i largest_of(const float *x /* (count) */, int count, __m512i largest)
{
    int i = 0;

    for (; i + VEC_WIDTH <= count; i += VEC_WIDTH)
        largest = larger(largest, vec_load(x + i));
    return i < count ? larger(largest, vec_load_first(x + i, count - i)) : largest;
}

ALWAYS_INLINE float largest_lane(__m512i largest)
{
    int32_t bits = _mm512_reduce_max_epi32(largest);
    float value;

    memcpy(&value, &bits, sizeof value);
    return value < SMALLEST ? SMALLEST : value;
}

/* The digits of 64 numbers times their factors, 64 bytes each, `step` bytes apart, the highest first. Number 16 j + i is byte 4 i + j: in
 * left and right tiles alike, so for sums it is as good as any order. */
ALWAYS_INLINE void write_digits(const vec x[TERMS / VEC_WIDTH], vec factor, char *to, int64_t step)
{
    const __m512i middle = _mm512_set1_epi32(0x00808080);
    const __mmask64 odd_bytes = 0xaaaaaaaaaaaaaaaaU;
    const __mmask32 odd_pairs = 0xaaaaaaaaU;
    __m512i n[TERMS / VEC_WIDTH]; /* bytes: the last digit, the middle one, the first */

    for (int i = 0; i < TERMS / VEC_WIDTH; i++)
        n[i] = _mm512_xor_si512(_mm512_add_epi32(_mm512_cvtps_epi32(x[i] * factor), middle), middle);
    __m512i outer01 = _mm512_mask_blend_epi8(odd_bytes, n[0], _mm512_slli_epi32(n[1], 8));
    __m512i outer23 = _mm512_mask_blend_epi8(odd_bytes, n[2], _mm512_slli_epi32(n[3], 8));
    __m512i middle01 = _mm512_mask_blend_epi8(odd_bytes, _mm512_srli_epi32(n[0], 8), n[1]);
    __m512i middle23 = _mm512_mask_blend_epi8(odd_bytes, _mm512_srli_epi32(n[2], 8), n[3]);
    _mm512_storeu_si512(to, _mm512_mask_blend_epi16(odd_pairs, _mm512_srli_epi32(outer01, 16), outer23));
    _mm512_storeu_si512(to + step, _mm512_mask_blend_epi16(odd_pairs, middle01, _mm512_slli_epi32(middle23, 16)));
    _mm512_storeu_si512(to + 2 * step, _mm512_mask_blend_epi16(odd_pairs, outer01, _mm512_slli_epi32(outer23, 16)));
}

/* 16 rows of 16 numbers of 32 bits, in place: rows of a left tile become those of a right tile. */
static inline void turn_over(char *tile)
{
    __m512i pair[16], row[16];

    UNROLL(8)
    for (int i = 0; i < 16; i += 2) {
        __m512i a = _mm512_loadu_si512(tile + i * ROW_BYTES), b = _mm512_loadu_si512(tile + (i + 1) * ROW_BYTES);
        pair[i] = _mm512_unpacklo_epi32(a, b);
        pair[i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    UNROLL(4)
    for (int i = 0; i < 16; i += 4) {
        UNROLL(2)
        for (int high = 0; high < 2; high++) {
            row[i + 2 * high] = _mm512_unpacklo_epi64(pair[i + high], pair[i + 2 + high]);
            row[i + 2 * high + 1] = _mm512_unpackhi_epi64(pair[i + high], pair[i + 2 + high]);
        }
    }
    /* row[4 r + c]: lanes 4 l of columns 4 l + c and rows 4 r to 4 r + 3 */
    UNROLL(4)
    for (int column = 0; column < 4; column++) {
        __m512i low01 = _mm512_shuffle_i32x4(row[column], row[4 + column], 0x88);
        __m512i high01 = _mm512_shuffle_i32x4(row[column], row[4 + column], 0xdd);
        __m512i low23 = _mm512_shuffle_i32x4(row[8 + column], row[12 + column], 0x88);
        __m512i high23 = _mm512_shuffle_i32x4(row[8 + column], row[12 + column], 0xdd);
        _mm512_storeu_si512(tile + column * ROW_BYTES, _mm512_shuffle_i32x4(low01, low23, 0x88));
        _mm512_storeu_si512(tile + (4 + column) * ROW_BYTES, _mm512_shuffle_i32x4(high01, high23, 0x88));
        _mm512_storeu_si512(tile + (8 + column) * ROW_BYTES, _mm512_shuffle_i32x4(low01, low23, 0xdd));
        _mm512_storeu_si512(tile + (12 + column) * ROW_BYTES, _mm512_shuffle_i32x4(high01, high23, 0xdd));
    }
}

/* ---- sums -------------------------------------------------------------------------------------------------------------- */

/* 16 columns of a row of TILE_SUMS: what their factors are still to multiply. */
ALWAYS_INLINE vec sums_of_levels(const int32_t *sums)
{
    vec level[LEVELS];

    for (int i = 0; i < LEVELS; i++)
        level[i] = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + i * COLUMNS));
    return vec_fma(level[0], vec_all(0x1p16f), vec_fma(level[1], vec_all(0x1p8f), level[2]));
}

/* The 2^16 that belongs to the factors. */
#define SUM_FACTOR 0x1p16f

/* ---- products ---------------------------------------------------------------------------------------------------------- */

/* Lines to be fetched meanwhile: in bursts they would keep tiles from being loaded. */
struct ahead {
    const char *next, *end;
    int bytes; /* each of the FETCHES times in a block */
};

enum { FETCHES = 3 };

ALWAYS_INLINE void fetch(struct ahead *ahead)
{
    const char *end = ahead->next + ahead->bytes;

    for (end = end < ahead->end ? end : ahead->end; ahead->next < end; ahead->next += LINE)
        __builtin_prefetch(ahead->next, 0, 2);
}

/* What the tiles are for: sums by level, the first digits on the left, the others, those on the right. (Intrinsics put their numbers into the
 * names of registers.) */
#define SUMS_0 0
#define SUMS_1 1
#define SUMS_2 2
#define LEFT_FIRST 3
#define LEFT_OTHER 4
#define RIGHT 5
#define TILES 6

/* The tiles on the left and those of sums have `rows` rows. */
USES_TILES static inline void begin_tiles(int rows)
{
    uint8_t tile_rows[TILES];

    for (int tile = 0; tile < TILES; tile++)
        tile_rows[tile] = (uint8_t)(tile == RIGHT ? TILE_ROWS : rows);
    configure_tiles(TILES, tile_rows);
}

USES_TILES static inline void end_tiles(void)
{
    _tile_release();
}

TILES_INLINE void begin_sums(void)
{
    __asm__ volatile("" ::: "memory"); /* GCC does not know that tiles are loaded from memory: digits must be there */
    _tile_zero(SUMS_0);
    _tile_zero(SUMS_1);
    _tile_zero(SUMS_2);
}

/* One half of the columns. */
TILES_INLINE void store_sums(int32_t *sums /* (rows, LEVELS, COLUMNS) */, int half)
{
    const int64_t row = SUM_INTS * sizeof(int32_t);

    sums += half * TILE_COLUMNS;
    _tile_stored(SUMS_0, sums, row);
    _tile_stored(SUMS_1, sums + COLUMNS, row);
    _tile_stored(SUMS_2, sums + 2 * COLUMNS, row);
}

/* The six products of one block, in an order that loads little twice.
 * left: rows `row_step` bytes apart, digits `digit_step`; right: RIGHT_BYTES */
TILES_INLINE void multiply_digits(const char *left, int64_t digit_step, int64_t row_step, const char *right, struct ahead *ahead)
{
    _tile_loadd(RIGHT, right, ROW_BYTES);
    _tile_loadd(LEFT_OTHER, left + 2 * digit_step, row_step);
    _tile_dpbssd(SUMS_2, LEFT_OTHER, RIGHT);
    fetch(ahead);
    _tile_loadd(LEFT_OTHER, left + digit_step, row_step);
    _tile_dpbssd(SUMS_1, LEFT_OTHER, RIGHT);
    _tile_loadd(LEFT_FIRST, left, row_step);
    _tile_dpbssd(SUMS_0, LEFT_FIRST, RIGHT);
    fetch(ahead);
    _tile_loadd(RIGHT, right + TILE_BYTES, ROW_BYTES);
    _tile_dpbssd(SUMS_2, LEFT_OTHER, RIGHT);
    _tile_dpbssd(SUMS_1, LEFT_FIRST, RIGHT);
    fetch(ahead);
    _tile_loadd(RIGHT, right + 2 * TILE_BYTES, ROW_BYTES);
    _tile_dpbssd(SUMS_2, LEFT_FIRST, RIGHT);
}

#endif
#endif
