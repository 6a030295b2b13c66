/* samples.h - times of something that is run again and again, until they say what they can say.
 *
 * A machine that others use, or whose clock changes, gives figures that wander. So samples end early where they have settled, go
 * on to the limit where they have not, and tell the difference.
 */
#ifndef DLA_MEASURE_SAMPLES_H
#define DLA_MEASURE_SAMPLES_H

#include <dla/dla.h>

enum { MAX_SAMPLES = 4096 };

struct samples {
    double *ms; /* in the order of the runs; room for MAX_SAMPLES */
    int count;
    /* of all of them: */
    double median, minimum;
    double spread; /* of the middle half, as a share of the median */
    double drift;  /* of the second half's median against the first half's, as a share */
};

/* Runs `work` twice for nothing, then until its times have settled or `seconds` are over, 3 times at least. */
dla_status samples_take(struct samples *samples, void (*work)(void *context), void *context, double seconds);
void samples_free(struct samples *samples);

/* Whether something disturbed the runs so much that their median means little. */
bool samples_are_noisy(const struct samples *samples);

/* The median of values, which are reordered. */
double median_of(double *values, int count);

#endif
