/* kernel_times.h - how long kernels took on this machine, remembered between runs.
 *
 * One small text file for each kind of processor and version of the library: XDG_CACHE_HOME/dla/ or ~/.cache/dla/, called
 * kernels-VERSION-PROCESSOR.txt, a hash for the processor. Its first line names both in full; then a line for each measurement:
 *
 *     winograd4x4_avx512 2 218300 1 28 28 128 28 28 128 3 1 1 1 1 1 128
 *     kernel, threads, nanoseconds, the convolution's shape (batch ... groups, number of sources, their channels)
 *
 * The last line counts them. A file that is anything else in any place, is of another processor or of another version is not used,
 * and a line in the log says so; the next measurement replaces it. Losing the file costs the measurements, nothing else.
 */
#ifndef DLA_PLAN_KERNEL_TIMES_H
#define DLA_PLAN_KERNEL_TIMES_H

#include "cpu/conv.h"

enum { KERNEL_NAME_SIZE = 48 };

struct kernel_time {
    char kernel[KERNEL_NAME_SIZE];
    int threads;
    double microseconds;
    struct conv_shape shape;
};

struct kernel_times {
    struct kernel_time *entries;
    size_t count, capacity;
    bool changed;      /* since they were loaded */
};

/* What the file holds; nothing where there is none, or none that can be used. */
void kernel_times_load(struct kernel_times *times);

/* Writes the file where something has changed, whole or not at all, with what others have added meanwhile. A folder that cannot
 * be written is no failure: a line in the log. */
void kernel_times_save(struct kernel_times *times);
void kernel_times_free(struct kernel_times *times);

/* Microseconds of a kernel on a shape; 0 where nobody has measured it. */
double kernel_times_find(const struct kernel_times *times, const char *kernel, int threads, const struct conv_shape *shape);

/* Adds a measurement, or replaces what there is. */
dla_status kernel_times_set(struct kernel_times *times, const char *kernel, int threads, const struct conv_shape *shape, double microseconds);

#endif
