/* groups_isa.h - convolutions of many narrow groups: a vector's lanes are channels of several groups.
 *
 * Lane c of such a vector belongs to group c / g. What a convolution or its gradient needs of the other map is, for each of
 * the g channels j of a group, a vector whose lane c holds channel j of lane c's own group: spread_groups lays these g
 * vectors out for every pixel.
 */
#ifndef DLA_CPU_ISA_GROUPS_ISA_H
#define DLA_CPU_ISA_GROUPS_ISA_H

#include "cpu/conv.h"
#include "cpu/isa/vector.h"

/* Groups of 1, 2, 4 or 8 channels on both sides that fill vectors without a group across two of them. */
static inline bool narrow_groups(const struct conv_shape *s)
{
    int width = s->in_channels / s->groups;
    return s->groups > 1 && width == s->out_channels / s->groups && width <= 8 && VEC_WIDTH % width == 0;
}

/* Lane c of the result: channel c / width * width + j of v. */
ALWAYS_INLINE vec vec_spread(vec v, int width, int j)
{
#if KERNEL_ISA_AVX512
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    lane = _mm512_or_si512(_mm512_and_si512(lane, _mm512_set1_epi32(-width)), _mm512_set1_epi32(j));
    return _mm512_permutexvar_ps(lane, v);
#elif KERNEL_ISA_AVX2
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    lane = _mm256_or_si256(_mm256_and_si256(lane, _mm256_set1_epi32(-width)), _mm256_set1_epi32(j));
    return width <= 4 ? _mm256_permutevar_ps(v, lane)
                      : _mm256_permutevar8x32_ps(v, lane); /* the first stays within each half: one operation less */
#else
    vec result;
    for (int lane = 0; lane < VEC_WIDTH; lane++)
        result[lane] = v[(lane & -width) | j];
    return result;
#endif
}

/* panel [rows][columns][width][VEC_WIDTH]: channels channel .. channel + lanes - 1 of the map from (first_y, first_x) on, zero outside it. */
static inline void spread_groups(struct map_view map, int height, int map_width, int image, int first_y, int first_x, int rows, int columns,
                                 int channel, int lanes, int width, float *panel)
{
    for (int y = first_y; y < first_y + rows; y++)
        for (int x = first_x; x < first_x + columns; x++, panel += (int64_t)width * VEC_WIDTH) {
            vec v = vec_zero();
            if (y >= 0 && y < height && x >= 0 && x < map_width)
                v = vec_load_first(map.data + (((int64_t)image * height + y) * map_width + x) * map.pixel_stride + channel, lanes);
            for (int j = 0; j < width; j++)
                vec_store(panel + (int64_t)j * VEC_WIDTH, vec_spread(v, width, j));
        }
}

#endif
