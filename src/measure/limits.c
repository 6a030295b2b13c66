/* limits.c - see limits.h.
 *
 * How large the last cache is for us is measured, too: a machine that is divided among guests tells the size of the whole. It is
 * the largest block, twice as large from one to the next, that is read at a speed nearer to the cache's than to the memory's.
 */
#include "measure/limits.h"

#include "base/memory.h"
#include "base/status.h"
#include "cpu/bandwidth.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE_ALIGNMENT = 2 << 20, ALL_BYTES = 128 << 20 };

dla_status measure_bandwidths(enum isa isa, struct thread_pool *pool, dla_machine_limits *limits)
{
    size_t l2 = cache_bytes_l2(), threads = (size_t)thread_pool_size(pool);
    size_t each = (ALL_BYTES / threads + PAGE_ALIGNMENT - 1) / PAGE_ALIGNMENT * PAGE_ALIGNMENT;
    float *memory = memory_allocate_aligned(PAGE_ALIGNMENT, each * threads);

    if (memory == NULL)
        return status_out_of_memory(each * threads, "measuring the memory's bandwidth");
    (void)madvise(memory, each * threads, MADV_HUGEPAGE);
    memset(memory, 0, each * threads);
    limits->memory_gbps = bandwidth_gbps(isa, pool, memory, each, each);
    if (l2 > 0 && l2 / 2 <= each) {
        limits->l2_bytes = l2 * threads;
        limits->l2_gbps = bandwidth_gbps(isa, pool, memory, each, l2 / 2);
    }
    double slowest = 0.0;
    for (size_t bytes = 2 * l2; l2 > 0 && bytes < each; bytes *= 2) {
        double gbps = bandwidth_gbps(isa, pool, memory, each, bytes);
        if (slowest == 0.0) {
            limits->l3_gbps = gbps;
            slowest = sqrt(gbps * limits->memory_gbps);
        }
        if (gbps < slowest)
            break;
        limits->l3_bytes = bytes * threads;
    }
    memory_free(memory);
    return DLA_OK;
}
