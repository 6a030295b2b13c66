/* resample.c - the two passes of a resize: plain loops, and AVX2.
 *
 * Exact sums need 8-bit pixels times 23-bit coefficients. The processor's cheapest product is 16 x 16 bits, two of them added
 * into 32 (one instruction, twice the rate of 32 x 32), so a coefficient is split:
 *
 *     k = high * 2^12 + low,   0 <= low < 2^12,   |high| < 2^11      sum of p * k = 2^12 * (sum of p * high) + (sum of p * low)
 *
 * Sums are exact modulo 2^32, and the true sum fits, so nothing is lost. Two source samples sit side by side in 16-bit lanes and
 * meet two coefficients.
 */
#include "image/resample.h"

#include "base/cpu_features.h"

enum { ROUND = 1 << (FRACTION_BITS - 1) };

static uint8_t clamp_pixel(int32_t sum)
{
    int32_t value = sum >> FRACTION_BITS; /* arithmetic: rounds down, as Pillow's */

    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static void rows_plain(const struct resample_axis *axis, int channels, const uint8_t *in, size_t in_row_bytes, int rows, uint8_t *out)
{
    for (int y = 0; y < rows; y++, in += in_row_bytes) {
        for (int i = 0; i < axis->count; i++) {
            const int32_t *coefficients = axis->coefficients + (size_t)i * (size_t)axis->stride;
            const uint8_t *from = in + (size_t)axis->spans[i].first * (size_t)channels;

            for (int c = 0; c < channels; c++) {
                int32_t sum = ROUND;

                for (int t = 0; t < axis->spans[i].taps; t++) {
                    sum += from[t * channels + c] * coefficients[t];
                }
                *out++ = clamp_pixel(sum);
            }
        }
    }
}

static void columns_plain(const int32_t *coefficients, int taps, const uint8_t *in, size_t in_row_bytes, uint8_t *out, size_t bytes)
{
    for (size_t x = 0; x < bytes; x++) {
        int32_t sum = ROUND;

        for (int t = 0; t < taps; t++) {
            sum += in[(size_t)t * in_row_bytes + x] * coefficients[t];
        }
        out[x] = clamp_pixel(sum);
    }
}

const struct resample_kernels *resample_kernels_reference(void)
{
    static const struct resample_kernels plain = {rows_plain, columns_plain};

    return &plain;
}

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))

enum { SPLIT_BITS = 12 };

/* 8 sums of products, from those with the high and those with the low parts. */
AVX2 static inline __m256i join(__m256i high, __m256i low)
{
    return _mm256_add_epi32(_mm256_slli_epi32(high, SPLIT_BITS), low);
}

/* To integers, not yet clamped. */
AVX2 static inline __m256i round_sum(__m256i sum)
{
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(ROUND)), FRACTION_BITS);
}

enum { ROWS = 4 }; /* source rows done together: they share the work on coefficients */

/* One output pixel of three channels in each of ROWS rows. Four source pixels a step: 12 bytes of 16 loaded, spread to
 * r0 r1 g0 g1 b0 b1 0 0 | r2 r3 g2 g3 b2 b3 0 0  in 16-bit lanes. The result's byte 4r .. 4r + 3 is row r's pixel and a zero. */
AVX2 static inline __m128i pixel_avx2(const int32_t *coefficients, int taps, const uint8_t *const in[ROWS], size_t offset)
{
    const __m256i spread = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1, 8, -1,
                                            11, -1, -1, -1, -1, -1);
    const __m256i high_places = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), low_places = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
    const __m256i zero = _mm256_setzero_si256();
    __m256i high[ROWS] = {zero, zero, zero, zero}, low[ROWS] = {zero, zero, zero, zero}, sum[ROWS];

    for (int t = 0; t < taps; t += TAP_BLOCK, offset += TAP_BLOCK * 3) {
        __m128i k = _mm_loadu_si128((const __m128i *)(coefficients + t));
        __m128i parts = _mm_packs_epi32(_mm_srai_epi32(k, SPLIT_BITS), _mm_and_si128(k, _mm_set1_epi32((1 << SPLIT_BITS) - 1)));
        __m256i both = _mm256_castsi128_si256(parts);
        __m256i k_high = _mm256_permutevar8x32_epi32(both, high_places), k_low = _mm256_permutevar8x32_epi32(both, low_places);

        for (int r = 0; r < ROWS; r++) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(in[r] + offset));
            __m256i pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);

            high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(pairs, k_high));
            low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(pairs, k_low));
        }
    }
    for (int r = 0; r < ROWS; r++) {
        sum[r] = join(high[r], low[r]);
    }
    /* The two halves of each sum belong together; rows 0 and 1, 2 and 3 share a register from here on. */
    __m256i first = _mm256_add_epi32(_mm256_permute2x128_si256(sum[0], sum[1], 0x20), _mm256_permute2x128_si256(sum[0], sum[1], 0x31));
    __m256i second = _mm256_add_epi32(_mm256_permute2x128_si256(sum[2], sum[3], 0x20), _mm256_permute2x128_si256(sum[2], sum[3], 0x31));
    __m256i words = _mm256_packs_epi32(round_sum(first), round_sum(second));
    __m256i bytes = _mm256_packus_epi16(words, words); /* rows 0 2 0 2 | 1 3 1 3 */
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}

AVX2 static void rows_avx2(const struct resample_axis *axis, int channels, const uint8_t *in, size_t in_row_bytes, int rows, uint8_t *out)
{
    size_t out_row_bytes = (size_t)axis->count * 3;

    if (channels != 3) {
        rows_plain(axis, channels, in, in_row_bytes, rows, out);
        return;
    }
    for (int y = 0; y < rows; y += ROWS) {
        const uint8_t *from[ROWS];
        uint8_t *to[ROWS];

        for (int r = 0; r < ROWS; r++) {
            size_t row = (size_t)(y + r < rows ? y + r : rows - 1); /* the last row more than once rather than a second kernel */

            from[r] = in + row * in_row_bytes;
            to[r] = out + row * out_row_bytes;
        }
        for (int i = 0; i < axis->count; i++) {
            __m128i pixels = pixel_avx2(axis->coefficients + (size_t)i * (size_t)axis->stride, axis->spans[i].taps, from,
                                        (size_t)axis->spans[i].first * 3);
            uint32_t bytes[ROWS];

            _mm_storeu_si128((__m128i *)bytes, pixels);
            for (int r = 0; r < ROWS; r++) {
                if (i + 1 < axis->count) {
                    memcpy(to[r] + (size_t)i * 3, &bytes[r], 4); /* one byte too many, which the next pixel covers */
                } else {
                    memcpy(to[r] + (size_t)i * 3, &bytes[r], 3);
                }
            }
        }
    }
}

/* 32 output bytes. Bytes of two source rows are interleaved and widened, 8 pairs to a register; within each half of a register
 * the order is kept by the packing at the end. A coefficient behind an odd number of taps is there, and zero. */
AVX2 static inline __m256i columns_32(const int32_t *coefficients, int taps, const uint8_t *in, size_t in_row_bytes)
{
    const __m256i zero = _mm256_setzero_si256(), low_bits = _mm256_set1_epi32((1 << SPLIT_BITS) - 1);
    __m256i high[4] = {zero, zero, zero, zero}, low[4] = {zero, zero, zero, zero};

    for (int t = 0; t < taps; t += 2, in += 2 * in_row_bytes) {
        long long pair;

        memcpy(&pair, coefficients + t, sizeof pair);
        __m256i k = _mm256_set1_epi64x(pair), parts_high = _mm256_srai_epi32(k, SPLIT_BITS), parts_low = _mm256_and_si256(k, low_bits);
        __m256i k_high = _mm256_packs_epi32(parts_high, parts_high), k_low = _mm256_packs_epi32(parts_low, parts_low);
        __m256i a = _mm256_loadu_si256((const __m256i *)in);
        __m256i b = _mm256_loadu_si256((const __m256i *)(t + 1 < taps ? in + in_row_bytes : in));
        __m256i front = _mm256_unpacklo_epi8(a, b), back = _mm256_unpackhi_epi8(a, b);
        __m256i pairs[4] = {_mm256_unpacklo_epi8(front, zero), _mm256_unpackhi_epi8(front, zero), _mm256_unpacklo_epi8(back, zero),
                            _mm256_unpackhi_epi8(back, zero)};

        for (int i = 0; i < 4; i++) {
            high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(pairs[i], k_high));
            low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(pairs[i], k_low));
        }
    }
    for (int i = 0; i < 4; i++) {
        high[i] = round_sum(join(high[i], low[i]));
    }
    return _mm256_packus_epi16(_mm256_packs_epi32(high[0], high[1]), _mm256_packs_epi32(high[2], high[3]));
}

AVX2 static void columns_avx2(const int32_t *coefficients, int taps, const uint8_t *in, size_t in_row_bytes, uint8_t *out, size_t bytes)
{
    enum { STEP = 32 };

    if (bytes < STEP) {
        columns_plain(coefficients, taps, in, in_row_bytes, out, bytes);
        return;
    }
    for (size_t x = 0; x < bytes; x += STEP) {
        size_t start = x + STEP <= bytes ? x : bytes - STEP; /* the last step does some bytes again */

        _mm256_storeu_si256((__m256i *)(out + start), columns_32(coefficients, taps, in + start, in_row_bytes));
    }
}

const struct resample_kernels *resample_kernels_fastest(void)
{
    static const struct resample_kernels avx2 = {rows_avx2, columns_avx2};

    return isa_is_available(ISA_AVX2) ? &avx2 : resample_kernels_reference();
}

#else

const struct resample_kernels *resample_kernels_fastest(void)
{
    return resample_kernels_reference();
}

#endif
