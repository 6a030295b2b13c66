/* bandwidth.h - how fast this machine reads memory that lies near or far, measured. */
#ifndef DLA_CPU_BANDWIDTH_H
#define DLA_CPU_BANDWIDTH_H

#include "base/cpu_features.h"
#include "base/thread_pool.h"

/* Bytes of a core's second cache as the system tells them; 0 where it does not. */
size_t cache_bytes_l2(void);

/* GB/s of all threads of the pool together, each reading `bytes` of its own again and again with the vectors of `isa`: the best
 * of a few short runs. bytes <= capacity; memory: (threads, capacity bytes), 64-byte aligned and written before. */
double bandwidth_gbps(enum isa isa, struct thread_pool *pool, const float *memory, size_t capacity, size_t bytes);

#endif
