/* limits.h - what this machine does at most: the roofs that a network's layers are held against. */
#ifndef DLA_MEASURE_LIMITS_H
#define DLA_MEASURE_LIMITS_H

#include "base/cpu_features.h"
#include "base/thread_pool.h"

/* Reading bandwidth of both caches and of memory, and what the last cache holds; takes some 100 ms and 128 MB. Where the system
 * does not tell the size of the second cache, the caches stay 0. */
dla_status measure_bandwidths(enum isa isa, struct thread_pool *pool, dla_machine_limits *limits);

#endif
