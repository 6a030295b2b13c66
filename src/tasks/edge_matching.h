/* edge_matching.h - pixels of two boundary maps put in one-to-one correspondence. */
#ifndef DLA_TASKS_EDGE_MATCHING_H
#define DLA_TASKS_EDGE_MATCHING_H

#include <dla/dla.h>

/* Scratch memory for maps of one size, reused from match to match; one thread at a time. */
struct edge_matcher;

/* max_distance: largest distance of a pair in pixels, 0.0075 of the diagonal in the BSDS benchmark. */
dla_status edge_matcher_create(int height, int width, double max_distance, struct edge_matcher **matcher);
void edge_matcher_destroy(struct edge_matcher *matcher);

struct edge_matching {
    int pairs;
    int64_t distance;       /* of all pairs together, in hundredths of a pixel */
};

/* Finds the pairs (p in first, q in second) that minimise
 *
 *     sum over pairs of |p - q|  +  outlier cost * number of pixels without a partner
 *
 * exactly, with the benchmark's rounding: distances in hundredths of a pixel, outlier cost 100 * max_distance.
 * first, second: (height, width), non-zero on boundaries. matched_first, matched_second: (height, width), set to 1 where the
 * pixel has a partner, else 0. matching: what was found. Any of the three may be NULL. */
dla_status edge_maps_match(struct edge_matcher *matcher, const uint8_t *first, const uint8_t *second, uint8_t *matched_first,
                           uint8_t *matched_second, struct edge_matching *matching);

#endif
