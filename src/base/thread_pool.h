/* thread_pool.h - persistent workers for work measured in microseconds.
 *
 * A layer of a network is some hundred small tasks, and a network some hundred layers, so starting a layer must cost
 * microseconds: workers spin for a short while after a job before they sleep. Every thread has its range of the tasks, the
 * same part of each job, and helps others when it is done, so a thread that was held up takes fewer. The calling thread works too.
 */
#ifndef DLA_BASE_THREAD_POOL_H
#define DLA_BASE_THREAD_POOL_H

#include <dla/dla.h>

struct thread_pool;

/* `worker` is in 0 .. thread_count-1 and distinguishes threads that run at the same time (scratch memory). */
typedef void thread_task(void *context, int task, int worker);

/* threads counts the caller; 1 starts no thread at all. */
dla_status thread_pool_create(int threads, struct thread_pool **pool);
void thread_pool_destroy(struct thread_pool *pool);
int thread_pool_size(const struct thread_pool *pool);

/* Whether part `index` of `count` equal parts of a job's tasks is the first in the range of some thread. */
static inline bool thread_pool_range_begins(int64_t index, int64_t count, int threads)
{
    return index == 0 || index * threads / count != (index - 1) * threads / count;
}

/* Runs task 0 .. task_count-1, each once, in any order; returns when all are done. One caller at a time. */
void thread_pool_run(struct thread_pool *pool, thread_task *function, void *context, int task_count);

#endif
