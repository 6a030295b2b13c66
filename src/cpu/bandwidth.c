/* bandwidth.c - see bandwidth.h. */
#include "cpu/bandwidth.h"

#include "base/clock.h"

#include <unistd.h>

/* Each instruction set's loop (src/cpu/isa/read_loop.c): reads `floats` floats, a multiple of 256, `rounds` times. */
typedef void read_loop_function(const float *memory, int64_t floats, int64_t rounds);
extern read_loop_function read_loop_generic;
#if defined(__x86_64__)
extern read_loop_function read_loop_avx2, read_loop_avx512;
#elif defined(__aarch64__)
extern read_loop_function read_loop_neon;
#endif

enum { RUNS = 6, UNIT = 256 };

static const double bytes_per_run = 24e6; /* a thread: a millisecond at most where caches are read, a pass or so of memory */

static read_loop_function *loop_for(enum isa isa)
{
    isa = isa_vectors(isa);
#if defined(__x86_64__)
    if (isa == ISA_AVX2)
        return read_loop_avx2;
    if (isa == ISA_AVX512)
        return read_loop_avx512;
#elif defined(__aarch64__)
    if (isa == ISA_NEON)
        return read_loop_neon;
#endif
    (void)isa;
    return read_loop_generic;
}

size_t cache_bytes_l2(void)
{
    long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return bytes > 0 ? (size_t)bytes : 0;
}

struct reading {
    read_loop_function *loop;
    const float *memory;
    int64_t stride, floats, rounds;
};

static void read_task(void *context, int task, int worker)
{
    const struct reading *reading = context;
    (void)worker;
    reading->loop(reading->memory + task * reading->stride, reading->floats, reading->rounds);
}

double bandwidth_gbps(enum isa isa, struct thread_pool *pool, const float *memory, size_t capacity, size_t bytes)
{
    struct reading reading = {
        .loop = loop_for(isa),
        .memory = memory,
        .stride = (int64_t)(capacity / sizeof(float)),
        .floats = (int64_t)(bytes / sizeof(float) / UNIT * UNIT),
    };
    double best = 0.0;

    reading.rounds = (int64_t)(bytes_per_run / (double)bytes) + 1;
    double moved = 4.0 * (double)(reading.floats * reading.rounds) * thread_pool_size(pool);
    for (int run = 0; run < RUNS; run++) {
        int64_t begin = clock_nanoseconds();
        thread_pool_run(pool, read_task, &reading, thread_pool_size(pool));
        double gbps = moved / (double)(clock_nanoseconds() - begin);
        if (gbps > best)
            best = gbps;
    }
    return best;
}
