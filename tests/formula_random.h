/* formula_random.h - numbers that C and Python make alike from a name (tools/make_timm_fixture.py: formula). */
#ifndef DLA_TESTS_FORMULA_RANDOM_H
#define DLA_TESTS_FORMULA_RANDOM_H

#include <stdint.h>

static uint32_t formula_seed(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return hash;
}

static float formula_random(uint32_t seed, int64_t element)
{
    uint32_t x = seed + (uint32_t)element;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return (float)(int32_t)(x >> 8) / 8388608.0f - 1.0f;
}

#endif
