/* run_cuda.h - the parts of a run that are different where a GPU trains.
 *
 * A build without CUDA refuses the device among the options (plan/device.h), so there these, but for the first and the last, are never
 * called.
 */
#ifndef DLA_TRAIN_RUN_CUDA_H
#define DLA_TRAIN_RUN_CUDA_H

#include "train/run.h"

#if DLA_HAVE_CUDA

/* Ranks of one machine take its GPUs in turn; what this thread does on a GPU from now on is done there. */
void run_cuda_choose_device(const struct run *run);
/* A tape for images of another size; the state moves to it. The first one is collective. */
dla_status run_cuda_prepare_tape(struct run *run, const struct tape_options *options);
struct tape_memory run_cuda_tape_memory(const struct run *run);
/* What adds up over the ranks, in words that the run keeps. */
const char *run_cuda_reduction(const struct run *run);
dla_status run_cuda_step(struct run *run, double *loss, double *top1);
dla_status run_cuda_fetch_state(struct run *run);
void run_cuda_destroy(struct run *run);

#else

static inline void run_cuda_choose_device(const struct run *run)
{
    (void)run;
}

static inline dla_status run_cuda_prepare_tape(struct run *run, const struct tape_options *options)
{
    (void)run;
    (void)options;
    return DLA_ERROR_UNSUPPORTED;
}

static inline struct tape_memory run_cuda_tape_memory(const struct run *run)
{
    (void)run;
    return (struct tape_memory){0};
}

static inline const char *run_cuda_reduction(const struct run *run)
{
    (void)run;
    return NULL;
}

static inline dla_status run_cuda_step(struct run *run, double *loss, double *top1)
{
    (void)run;
    (void)loss;
    (void)top1;
    return DLA_ERROR_UNSUPPORTED;
}

static inline dla_status run_cuda_fetch_state(struct run *run)
{
    (void)run;
    return DLA_ERROR_UNSUPPORTED;
}

static inline void run_cuda_destroy(struct run *run)
{
    (void)run;
}

#endif
#endif
