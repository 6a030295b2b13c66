/* benchmark.h - what measuring inference and measuring training share. */
#ifndef DLA_MEASURE_BENCHMARK_H
#define DLA_MEASURE_BENCHMARK_H

#include "base/arena.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"

/* The benchmark and what it owns. */
struct benchmark {
    dla_benchmark public; /* first: the caller's pointer is ours */
    struct arena arena;
};

/* The caller's options over the defaults, checked; threads, height and width 0 become numbers, `size` those of the last two. */
dla_status benchmark_take_options(const dla_benchmark_options *given, int size, dla_benchmark_options *options);

/* An empty benchmark of a network of that name. */
dla_status benchmark_create(const char *model, enum isa isa, const dla_benchmark_options *options, struct benchmark **made);

/* What computes, to say what it does at most. */
struct benchmark_machine {
    enum isa isa;
    struct thread_pool *pool;   /* NULL: a GPU, */
    double peak_gflops;         /* which does so many; 0: not known */
    int repeats;                /* times that one call of `work` does it; 0: once */
};

/* Runs `work`, which does `gflop` 10^9 FLOPs on a batch, until its times have settled; on the CPU between two measurements of the peak. */
dla_status benchmark_time(struct benchmark *made, const struct benchmark_machine *machine, void (*work)(void *context), void *context,
                          double gflop, double seconds);

#endif
