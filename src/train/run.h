/* run.h - a training run from the inside: what it holds, and its parts in the order in which they are called.
 *
 *     run_prepare.c   options checked, data found, network made, weights begun or read, memory taken
 *     run_step.c      one step: batch -> tape forward -> loss -> tape backward -> optimiser -> averaged weights
 *     run_cuda.c      the same on a GPU, or several, where weights, momentum and averages then are (run_cuda.h)
 *     train.c         the loop over steps and epochs, validation, files
 */
#ifndef DLA_TRAIN_RUN_H
#define DLA_TRAIN_RUN_H

#include "base/counter_random.h"
#include "train/checkpoint.h"
#include "train/dense_task.h"
#include "train/loader.h"
#include "train/optimiser.h"
#include "train/recipe.h"
#include "train/reducer.h"
#include "train/run_log.h"
#include "train/tape.h"

enum { RUN_PATH_SIZE = 4096 };

/* Streams of random numbers; what each is keyed with beside the seed. */
enum stream { STREAM_ORDER = 1, STREAM_AUGMENT, STREAM_MIXUP, STREAM_DROPOUT, STREAM_WEIGHTS };

struct run {
    const dla_train_options *options;
    dla_train_callback *callback;
    void *context;
    enum isa isa;
    int threads;
    struct comm *comm;      /* the ranks that train together */
    int batch, first_image; /* of this rank: its share of a pass, and where it begins */
    struct sample_list val; /* this rank's share of the photographs to validate on */
    struct dataset data;
    dla_architecture architecture;
    dla_preprocessing preprocessing;
    dla_network *network;
    struct thread_pool *pool;
    struct tape *tape;
    struct cuda_tape *gpu;    /* instead of tape, where a GPU trains: the state's blocks are as old as the last run_fetch_state */
    struct cuda_reducer *gpus; /* what adds up over the ranks' GPUs; NULL: one rank */
    double pixel_weights[2], pixel_counts[2]; /* of the labels that the GPU has, by the batch's number modulo 2 */
    int tape_size;            /* side of its images */
    struct photo_cache *disk; /* or NULL */
    struct loader *loader;
    struct run_log *log;
    struct run_state state;
    struct run_identity identity;
    float *gradients;
    bool *frozen;
    float *rate_scale;
    size_t *order;       /* of the epoch that is being requested */
    int64_t order_epoch; /* -1: none yet */
    size_t *indices;     /* (batch, or twice that with mixup's partners) of a request */
    uint64_t *keys;
    int *mixed_labels;       /* (batch) */
    struct dense_task dense; /* where every pixel has a class */
    double images_per_second;
    bool stopped;
};

static inline uint64_t stream_key(const struct run *run, enum stream stream, uint64_t part)
{
    return counter_key(counter_key(run->options->seed, (uint64_t)stream), part);
}

static inline bool is_dense(const struct run *run)
{
    return run->options->task != DLA_TASK_CLASSIFY;
}

/* Everything up to the first step. Rank 0 alone makes folders, reads the checkpoint and opens the log. */
dla_status run_prepare(struct run *run, const char *data);
void run_destroy(struct run *run);
/* Rank 0's weights and position become everybody's. */
void run_share_state(struct run *run);

static inline bool is_on_gpu(const struct run *run)
{
    return run->options->device == DLA_DEVICE_CUDA;
}

/* The side of the training images of a step, counted from 0, and a tape for the step that comes next. */
int run_step_size(const struct run *run, int64_t step);
dla_status run_prepare_tape(struct run *run);
struct tape_memory run_tape_memory(const struct run *run);
/* Images that this rank loads for a pass: its own and, with mixup, those of other ranks that they are blended with. */
int run_loaded_images(const struct run *run);

/* Asks the loader for batch `number` of the run, counted from 0. */
void run_request(struct run *run, int64_t number);
/* Batches that are asked for ahead. */
enum { RUN_AHEAD = LOADER_DEPTH - 1 };
/* Loss and share of what is right, over all ranks. */
dla_status run_step(struct run *run, double *loss, double *top1);
/* What a step takes from the options, wherever it is computed: the share of an image in its blend by mixup (1: no blend); how the coming
 * update changes the weights; and whether a loss is a number, an error where not. */
struct run_update {
    struct optimiser_options sgd;
    float rate, average_decay;
};
float run_blend_share(const struct run *run, int64_t number);
struct run_update run_next_update(const struct run *run);
dla_status run_check_loss(const struct run *run, double loss);
/* Brings the state's blocks up to date, before they are read. */
dla_status run_fetch_state(struct run *run);

#endif
