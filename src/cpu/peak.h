/* peak.h - the floating-point limit of this machine, measured: what percentages of peak refer to. */
#ifndef DLA_CPU_PEAK_H
#define DLA_CPU_PEAK_H

#include "base/cpu_features.h"
#include "base/thread_pool.h"

/* GFLOP/s (a fused multiply-add counts two) of all threads of the pool together, with the vectors of `isa`. Takes about
 * 20 ms: the best of a few short runs, so that a disturbance in one does not matter. */
double peak_gflops(enum isa isa, struct thread_pool *pool);

#endif
