/* peak.c - measures how many multiply-adds a second the cores do when nothing else holds them up. */
#include "cpu/peak.h"

#include <time.h>

/* Each instruction set's loop (src/cpu/isa/fma_loop.c): does `iterations` rounds of independent multiply-adds, returns FLOPs done. */
typedef double fma_loop_function(int64_t iterations);
extern fma_loop_function fma_loop_generic;
#if defined(__x86_64__)
extern fma_loop_function fma_loop_avx2, fma_loop_avx512;
#elif defined(__aarch64__)
extern fma_loop_function fma_loop_neon;
#endif

enum { RUNS = 8, TASK_ITERATIONS = 20000, TASKS_PER_THREAD = 8 };

static fma_loop_function *loop_for(enum isa isa)
{
    isa = isa_vectors(isa);
#if defined(__x86_64__)
    if (isa == ISA_AVX2)
        return fma_loop_avx2;
    if (isa == ISA_AVX512)
        return fma_loop_avx512;
#elif defined(__aarch64__)
    if (isa == ISA_NEON)
        return fma_loop_neon;
#endif
    (void)isa;
    return fma_loop_generic;
}

static void loop_task(void *context, int task, int worker)
{
    fma_loop_function *loop = *(fma_loop_function *const *)context;
    (void)task;
    (void)worker;
    loop(TASK_ITERATIONS);
}

double peak_gflops(enum isa isa, struct thread_pool *pool)
{
    fma_loop_function *loop = loop_for(isa);
    int tasks = TASKS_PER_THREAD * thread_pool_size(pool);
    double flops = loop(TASK_ITERATIONS) * tasks, best = 0.0;

    for (int run = 0; run < RUNS; run++) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        thread_pool_run(pool, loop_task, (void *)&loop, tasks);
        clock_gettime(CLOCK_MONOTONIC, &end);
        double nanoseconds = (double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec);
        if (flops / nanoseconds > best)
            best = flops / nanoseconds;
    }
    return best;
}
