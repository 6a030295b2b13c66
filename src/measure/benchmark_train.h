/* benchmark_train.h - a network in training, to be measured: benchmark_train.c on the CPU, benchmark_train_cuda.c on a GPU. */
#ifndef DLA_MEASURE_BENCHMARK_TRAIN_H
#define DLA_MEASURE_BENCHMARK_TRAIN_H

#include "measure/benchmark.h"
#include "train/optimiser.h"
#include "train/tape.h"

struct training {
    dla_network *network;
    struct thread_pool *pool;
    struct parameter_block parameters;
    struct tape *tape;
    struct cuda_tape *gpu;       /* instead of tape */
    dla_status failure;          /* of a step there; the message is the thread's last */
    struct optimiser_options optimiser;
    float rate;
    float *velocity, *gradients; /* blocks of the parameters' order */
    float *input;                /* (batch, height, width, channels) */
    int64_t input_floats;
    int *labels;                 /* (batch) */
    int batch, classes;
};

#if DLA_HAVE_CUDA

/* Makes t->gpu. */
dla_status training_cuda_prepare(struct training *t, const struct tape_options *options);
dla_status training_cuda_measure(struct training *t, const dla_benchmark_options *options, double gflop, struct benchmark *made);
void training_cuda_release(struct training *t);

#else /* such a build refuses the device among the options (plan/device.h) */

static inline dla_status training_cuda_prepare(struct training *t, const struct tape_options *options)
{
    (void)t;
    (void)options;
    return DLA_ERROR_UNSUPPORTED;
}

static inline dla_status training_cuda_measure(struct training *t, const dla_benchmark_options *options, double gflop,
                                               struct benchmark *made)
{
    (void)t;
    (void)options;
    (void)gflop;
    (void)made;
    return DLA_ERROR_UNSUPPORTED;
}

static inline void training_cuda_release(struct training *t)
{
    (void)t;
}

#endif
#endif
