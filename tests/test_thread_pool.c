/* Every task of every job runs exactly once, whatever the number of threads, the size of the job and the gap before it. */
#include "base/thread_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MOST_TASKS = 300, MOST_THREADS = 9 };

struct job {
    int runs[MOST_TASKS]; /* plain: what workers wrote must be visible to the caller afterwards */
    atomic_bool busy[MOST_THREADS];
    atomic_int misuse; /* a worker number out of range, or used by two threads at a time */
    int thread_count;
};

static void count_run(void *context, int task, int worker)
{
    struct job *job = context;

    if (worker < 0 || worker >= job->thread_count || atomic_exchange(&job->busy[worker], true)) {
        atomic_fetch_add(&job->misuse, 1);
        return;
    }
    job->runs[task]++;
    atomic_store(&job->busy[worker], false);
}

static void run_and_check(struct thread_pool *pool, int task_count)
{
    struct job job = {.thread_count = thread_pool_size(pool)};

    thread_pool_run(pool, count_run, &job, task_count);
    assert_int_equal(atomic_load(&job.misuse), 0);
    for (int task = 0; task < MOST_TASKS; task++)
        assert_int_equal(job.runs[task], task < task_count ? 1 : 0);
}

static void pause_us(long us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

static void each_task_runs_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        struct thread_pool *pool = NULL;
        assert_int_equal(thread_pool_create(threads, &pool), DLA_OK);
        assert_int_equal(thread_pool_size(pool), threads);
        for (int tasks = 0; tasks < 40; tasks++)
            run_and_check(pool, tasks);
        for (int repetition = 0; repetition < 500; repetition++)
            run_and_check(pool, 2 + repetition * 37 % (MOST_TASKS - 2));
        thread_pool_destroy(pool);
    }
}

/* Gaps of every length between spinning and sleeping. */
static void gaps_lose_no_job(void **state)
{
    (void)state;
    static const long gaps_us[] = {0, 1, 20, 50, 55, 100, 200, 900, 1100, 3000};

    for (int threads = 2; threads <= 4; threads += 2) {
        struct thread_pool *pool = NULL;
        assert_int_equal(thread_pool_create(threads, &pool), DLA_OK);
        for (int repetition = 0; repetition < 200; repetition++) {
            long gap = gaps_us[repetition * 7 % (int)(sizeof(gaps_us) / sizeof(gaps_us[0]))];
            if (gap > 0)
                pause_us(gap);
            run_and_check(pool, 2 + repetition % 7);
        }
        thread_pool_destroy(pool);
    }
}

static void sleep_long(void *context, int task, int worker)
{
    (void)context, (void)task, (void)worker;
    pause_us(5000);
}

/* Longer than anybody spins: the caller sleeps, and is woken. */
static void caller_sleeps_through_long_tasks(void **state)
{
    (void)state;
    struct thread_pool *pool = NULL;

    assert_int_equal(thread_pool_create(3, &pool), DLA_OK);
    for (int repetition = 0; repetition < 10; repetition++) {
        thread_pool_run(pool, sleep_long, NULL, 4);
        run_and_check(pool, 5);
    }
    thread_pool_destroy(pool);
}

static void pools_come_and_go(void **state)
{
    (void)state;
    for (int repetition = 0; repetition < 200; repetition++) {
        struct thread_pool *pool = NULL;
        assert_int_equal(thread_pool_create(1 + repetition % 5, &pool), DLA_OK);
        if (repetition % 3 != 0)
            run_and_check(pool, repetition % 11);
        thread_pool_destroy(pool);
    }
    thread_pool_destroy(NULL);
}

static void no_thread_is_refused(void **state)
{
    (void)state;
    struct thread_pool *pool = NULL;

    assert_int_equal(thread_pool_create(0, &pool), DLA_ERROR_ARGUMENT);
    assert_int_equal(thread_pool_create(-3, &pool), DLA_ERROR_ARGUMENT);
    assert_null(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_task_runs_once), cmocka_unit_test(gaps_lose_no_job),     cmocka_unit_test(caller_sleeps_through_long_tasks),
        cmocka_unit_test(pools_come_and_go),   cmocka_unit_test(no_thread_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
