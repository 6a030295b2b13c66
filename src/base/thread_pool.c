/* thread_pool.c - one job at a time, its tasks shared out in ranges, the rest of a range free to steal.
 *
 * Of n tasks and T threads, thread i owns tasks n*i/T .. n*(i+1)/T - 1 and takes them in order; when it has none left it takes
 * the last ones of the others. Neighbouring tasks are neighbouring pixels in nearly all jobs, so a thread mostly reads what it
 * wrote in the job before, and that lies in its own L2 cache: with tasks dealt from one counter every other line came from the
 * other core, and a grouped 3x3 convolution on two threads took twice as long.
 *
 * A job is published by writing function, context and `unfinished`, then every range. Whoever moves an end of a range by one owns
 * the task that lay there. A claim keeps the job alive, because the caller waits until `unfinished` is 0; so a worker that
 * arrives late needs no registration: either it claims a task of the job that is current, or nothing. Nobody waits for a worker
 * that has taken no task, however long the system has held it up.
 *
 * Waiting. The gaps between two layers of a network are a few microseconds, those between two photographs may be anything. A
 * sleeping thread costs its caller some 5 us to wake and starts some 50 us later, longer than a small layer takes. So a worker
 * spins first, and for how long it learns: a gap that ended soon teaches it to spin twice as long as that gap, a long one takes a
 * quarter off (spinning was for nothing). Where the pool has more threads than there are cores, spinning would keep the core
 * from the thread that has the work, so workers sleep at once. Another program may take a core as well: after a few
 * microseconds a spinning thread offers its core between two looks, lest it keep it from the thread that it waits for.
 */
#include "base/thread_pool.h"

#include "base/clock.h"
#include "base/cpu_features.h"
#include "base/memory.h"
#include "base/status.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CACHE_LINE = 64,
    SHORTEST_SPIN_NS = 50 * 1000,
    LONGEST_SPIN_NS = 1000 * 1000,
    POLITE_NS = 20 * 1000,     /* from here on a spinning thread yields */
    PAUSES_PER_CLOCK_READ = 16 /* a pause takes 10-50 ns, a clock read as long */
};

/* Tasks [first, end) that nobody has taken, first in the lower half: one word, so that both ends change in one step. */
struct range {
    _Alignas(CACHE_LINE) atomic_ullong tasks;
};

struct thread_pool {
    int thread_count;
    bool may_spin;      /* there is a core for every thread */
    pthread_t *threads; /* thread_count - 1; index i is worker i + 1 */
    struct worker *workers;
    struct range *ranges; /* thread_count */

    /* The job. Written before the ranges are stored, read after a claim. */
    thread_task *function;
    void *context;

    _Alignas(CACHE_LINE) atomic_int unfinished;  /* tasks that are not done */
    _Alignas(CACHE_LINE) atomic_uint job_number; /* grows with each job and with the stop; sleepers wait for it to change */
    atomic_int sleepers;                         /* workers that sleep or are about to */
    atomic_bool caller_sleeps;
    atomic_bool stop;
    pthread_mutex_t mutex; /* only to sleep and to wake */
    pthread_cond_t new_job, job_done;
};

struct worker {
    struct thread_pool *pool;
    int index;
};

static void pause_core(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` does nothing on most cores; this takes about as long as x86's pause */
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static unsigned long long pack_range(int first, int end)
{
    return (unsigned long long)(unsigned)end << 32 | (unsigned)first;
}

/* Takes the first task of a range, or the last one; -1 if there is none. */
static int claim(struct range *range, bool last)
{
    unsigned long long tasks = atomic_load_explicit(&range->tasks, memory_order_relaxed);

    while (true) {
        int first = (int)(tasks & UINT32_MAX), end = (int)(tasks >> 32);
        if (first == end)
            return -1;
        unsigned long long rest = last ? pack_range(first, end - 1) : pack_range(first + 1, end);
        if (atomic_compare_exchange_weak_explicit(&range->tasks, &tasks, rest, memory_order_acquire, memory_order_relaxed))
            return last ? end - 1 : first;
    }
}

/* Runs tasks as long as there are any to claim: this thread's, then others'. */
static void work(struct thread_pool *pool, int worker)
{
    int done = 0;

    for (int i = 0; i < pool->thread_count; i++)
        for (int task; (task = claim(&pool->ranges[(worker + i) % pool->thread_count], i > 0)) >= 0; done++)
            pool->function(pool->context, task, worker);
    /* Tasks done here are reported together: until then the job cannot end, so they all belong to one. */
    if (done > 0 && atomic_fetch_sub(&pool->unfinished, done) == done && atomic_load(&pool->caller_sleeps)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->job_done);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* Called between two looks at what a thread spins for, `start` being when it began; returns whether to go on. */
static bool spin_on(int64_t start, int64_t budget_ns)
{
    int64_t spun = clock_nanoseconds() - start;

    if (spun > POLITE_NS)
        sched_yield();
    return spun < budget_ns;
}

/* Spins until the job number differs from `seen`, for at most budget_ns; returns whether it does. */
static bool spin_for_job(struct thread_pool *pool, unsigned seen, int64_t start, int64_t budget_ns)
{
    do {
        for (int i = 0; i < PAUSES_PER_CLOCK_READ; i++) {
            if (atomic_load_explicit(&pool->job_number, memory_order_acquire) != seen)
                return true;
            pause_core();
        }
    } while (spin_on(start, budget_ns));
    return false;
}

static void sleep_for_job(struct thread_pool *pool, unsigned seen)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1); /* before the job number is read: the publisher does it the other way round */
    while (atomic_load(&pool->job_number) == seen)
        pthread_cond_wait(&pool->new_job, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *argument)
{
    const struct worker *worker = argument;
    struct thread_pool *pool = worker->pool;
    int64_t budget_ns = pool->may_spin ? SHORTEST_SPIN_NS : 0;
    unsigned seen = 0;

    while (true) {
        int64_t start = clock_nanoseconds();
        if (!spin_for_job(pool, seen, start, budget_ns))
            sleep_for_job(pool, seen);
        seen = atomic_load(&pool->job_number);
        if (atomic_load(&pool->stop))
            break;
        if (pool->may_spin) {
            int64_t waited = clock_nanoseconds() - start;
            if (waited > LONGEST_SPIN_NS)
                budget_ns -= budget_ns / 4;
            else if (budget_ns < 2 * waited)
                budget_ns = 2 * waited;
            budget_ns = budget_ns < SHORTEST_SPIN_NS ? SHORTEST_SPIN_NS : budget_ns > LONGEST_SPIN_NS ? LONGEST_SPIN_NS : budget_ns;
        }
        work(pool, worker->index);
    }
    return NULL;
}

static void announce(struct thread_pool *pool)
{
    atomic_fetch_add(&pool->job_number, 1);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->new_job);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* The caller has nothing left to claim: spins for the others, then sleeps (one of them may have lost its core). */
static void wait_for_tasks(struct thread_pool *pool)
{
    int64_t start = clock_nanoseconds();
    int64_t budget_ns = pool->may_spin ? LONGEST_SPIN_NS : 0;

    do {
        for (int i = 0; i < PAUSES_PER_CLOCK_READ; i++) {
            if (atomic_load_explicit(&pool->unfinished, memory_order_acquire) == 0)
                return;
            pause_core();
        }
    } while (spin_on(start, budget_ns));
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_sleeps, true); /* before `unfinished` is read: the last worker does it the other way round */
    while (atomic_load(&pool->unfinished) != 0)
        pthread_cond_wait(&pool->job_done, &pool->mutex);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->mutex);
}

void thread_pool_run(struct thread_pool *pool, thread_task *function, void *context, int task_count)
{
    if (pool->thread_count == 1 || task_count <= 1) {
        for (int task = 0; task < task_count; task++)
            function(context, task, 0);
        return;
    }
    pool->function = function;
    pool->context = context;
    atomic_store_explicit(&pool->unfinished, task_count, memory_order_relaxed);
    for (int i = 0; i < pool->thread_count; i++) {
        int first = (int)((int64_t)task_count * i / pool->thread_count), end = (int)((int64_t)task_count * (i + 1) / pool->thread_count);
        atomic_store_explicit(&pool->ranges[i].tasks, pack_range(first, end), memory_order_release);
    }
    announce(pool);
    work(pool, 0);
    wait_for_tasks(pool);
}

int thread_pool_size(const struct thread_pool *pool)
{
    return pool->thread_count;
}

dla_status thread_pool_create(int threads, struct thread_pool **result)
{
    dla_status status = DLA_OK;
    struct thread_pool *pool = NULL;
    sigset_t all_signals, caller_signals;
    int started = 0;

    if (threads < 1)
        return status_set(DLA_ERROR_ARGUMENT, "%d threads; at least 1 is needed", threads);
    pool = memory_allocate_aligned(CACHE_LINE, sizeof(*pool)); /* its size is a multiple of its alignment */
    if (pool == NULL)
        return status_out_of_memory(sizeof(*pool), "a thread pool");
    memset(pool, 0, sizeof(*pool));
    pool->thread_count = threads;
    pool->may_spin = threads <= cpu_core_count();
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->new_job, NULL);
    pthread_cond_init(&pool->job_done, NULL);
    pool->threads = memory_allocate_zeroed((size_t)threads, sizeof(*pool->threads));
    pool->workers = memory_allocate_zeroed((size_t)threads, sizeof(*pool->workers));
    pool->ranges = memory_allocate_aligned(CACHE_LINE, (size_t)threads * sizeof(*pool->ranges));
    if (pool->threads == NULL || pool->workers == NULL || pool->ranges == NULL) {
        status = status_out_of_memory((size_t)threads * sizeof(*pool->workers), "the threads of a pool");
        goto out;
    }
    for (int i = 0; i < threads; i++)
        atomic_init(&pool->ranges[i].tasks, pack_range(0, 0));

    sigfillset(&all_signals); /* signals belong to the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all_signals, &caller_signals);
    for (; started < threads - 1; started++) {
        pool->workers[started] = (struct worker){.pool = pool, .index = started + 1};
        int error = pthread_create(&pool->threads[started], NULL, worker_main, &pool->workers[started]);
        if (error != 0) {
            status = status_set(DLA_ERROR_LIMIT, "cannot start thread %d of %d: %s; ask for fewer threads", started + 2, threads,
                                strerror(error));
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &caller_signals, NULL);

out:
    if (status != DLA_OK) {
        pool->thread_count = started + 1; /* only those are joined */
        thread_pool_destroy(pool);
        return status;
    }
    *result = pool;
    return DLA_OK;
}

void thread_pool_destroy(struct thread_pool *pool)
{
    if (pool == NULL)
        return;
    atomic_store(&pool->stop, true);
    announce(pool);
    for (int i = 0; i < pool->thread_count - 1; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->job_done);
    pthread_cond_destroy(&pool->new_job);
    pthread_mutex_destroy(&pool->mutex);
    memory_free(pool->ranges);
    memory_free(pool->workers);
    memory_free(pool->threads);
    memory_free(pool);
}
