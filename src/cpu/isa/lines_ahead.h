/* lines_ahead.h - the lines of some pixels of a map, as they follow one another in memory, fetched a few at a time while something else
 * is done. */
#ifndef DLA_CPU_ISA_LINES_AHEAD_H
#define DLA_CPU_ISA_LINES_AHEAD_H

#include "cpu/isa/sizes.h"
#include "cpu/isa/vector.h"

enum { AHEAD_LINE_FLOATS = 16 };

struct lines_ahead {
    const float *pixel; /* the next line's */
    int64_t stride;
    int pixel_lines, line; /* of a pixel, and the next one */
    int left, at_once;
};

/* at: the first of `pixels` pixels, `stride` floats apart, of which `channels` floats are wanted after `times` calls of fetch_lines. */
static inline struct lines_ahead lines_ahead_of(const float *at, int64_t stride, int channels, int pixels, int times)
{
    int lines = divide_up(channels, AHEAD_LINE_FLOATS), left = lines * pixels;
    return (struct lines_ahead){.pixel = at, .stride = stride, .pixel_lines = lines, .left = left, .at_once = divide_up(left, times)};
}

/* Fetches some lines into L2. */
ALWAYS_INLINE void fetch_lines(struct lines_ahead *ahead)
{
    for (int count = smaller(ahead->at_once, ahead->left); count > 0; count--, ahead->left--) {
        __builtin_prefetch(ahead->pixel + ahead->line * AHEAD_LINE_FLOATS, 0, 2);
        if (++ahead->line == ahead->pixel_lines) {
            ahead->line = 0;
            ahead->pixel += ahead->stride;
        }
    }
}

#endif
