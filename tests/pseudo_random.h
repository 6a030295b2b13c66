/* pseudo_random.h - numbers around zero for tests; the same on every machine. */
#ifndef DLA_TESTS_PSEUDO_RANDOM_H
#define DLA_TESTS_PSEUDO_RANDOM_H

#include <stdint.h>

/* -1 .. 1; *state is the seed at first. */
static float pseudo_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)(*state >> 8) / (float)(1 << 23) - 1.0f;
}

#endif
