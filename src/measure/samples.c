/* samples.c - see samples.h. */
#include "measure/samples.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_SAMPLES = 3, MIN_SETTLED = 16, CHECK_EVERY = 8 };

static const double settled_after_ms = 300.0; /* not before: processors change their clock within a tenth of a second */
static const double settled_spread = 0.03, settled_drift = 0.01;
static const double noisy_spread = 0.10, noisy_drift = 0.05;

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median_of(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

/* sorted: room for MAX_SAMPLES. */
static void summarise(struct samples *samples, double *sorted)
{
    int count = samples->count, half = count / 2;

    memcpy(sorted, samples->ms, (size_t)half * sizeof *sorted);
    double first = median_of(sorted, half);
    memcpy(sorted, samples->ms + half, (size_t)(count - half) * sizeof *sorted);
    double second = median_of(sorted, count - half);
    memcpy(sorted, samples->ms, (size_t)count * sizeof *sorted);
    samples->median = median_of(sorted, count);
    samples->minimum = sorted[0];
    samples->spread = (sorted[count * 3 / 4] - sorted[count / 4]) / samples->median;
    samples->drift = fabs(second - first) / samples->median;
}

static bool have_settled(const struct samples *samples)
{
    return samples->spread < settled_spread && samples->drift < settled_drift;
}

dla_status samples_take(struct samples *samples, void (*work)(void *context), void *context, double seconds)
{
    *samples = (struct samples){.ms = memory_allocate(2 * MAX_SAMPLES * sizeof(double))};
    if (samples->ms == NULL)
        return status_out_of_memory(2 * MAX_SAMPLES * sizeof(double), "measurements");
    double *sorted = samples->ms + MAX_SAMPLES;
    work(context);
    work(context);
    double begin = clock_milliseconds();
    for (double now = begin; samples->count < MAX_SAMPLES;) {
        work(context);
        double end = clock_milliseconds();
        samples->ms[samples->count++] = end - now;
        now = end;
        if (samples->count < MIN_SAMPLES)
            continue;
        if (now - begin >= 1e3 * seconds)
            break;
        if (now - begin >= settled_after_ms && samples->count >= MIN_SETTLED && samples->count % CHECK_EVERY == 0) {
            summarise(samples, sorted);
            if (have_settled(samples))
                break;
            now = clock_milliseconds(); /* sorting is not part of the next run */
        }
    }
    summarise(samples, sorted);
    return DLA_OK;
}

void samples_free(struct samples *samples)
{
    memory_free(samples->ms);
    *samples = (struct samples){0};
}

bool samples_are_noisy(const struct samples *samples)
{
    return samples->spread > noisy_spread || samples->drift > noisy_drift;
}
