/* run_cuda.c - one training step on a GPU: batch, forward, loss, backward, gradients of all ranks, optimiser, averaged weights.
 *
 * The GPU works on batch n while the host waits for the loader and brings batch n + 1 into its memory; the host waits for the GPU once a
 * pass, for the loss. Weights, momentum and averages stay there until somebody here wants to read them.
 *
 * Several ranks agree before every call that they make together, so that all stop where one failed: a rank's GPU is known to have done its
 * pass before gradients are added up.
 */
#include "train/run_cuda.h"

#include "cuda/cuda_device.h"
#include "net/network.h"
#include "train/dense_loss.h"
#include "train/reducer_cuda.h"
#include "train/tape_cuda.h"

void run_cuda_choose_device(const struct run *run)
{
    cuda_device_choose(run->comm->local_rank);
}

dla_status run_cuda_fetch_state(struct run *run)
{
    struct run_state *s = &run->state;
    return run->gpu ? cuda_tape_read_state(run->gpu, s->parameters.values, s->velocity, s->average) : DLA_OK;
}

void run_cuda_destroy(struct run *run)
{
    cuda_tape_destroy(run->gpu);
    run->gpu = NULL;
    cuda_reducer_destroy(run->gpus);
    run->gpus = NULL;
    cuda_device_choose(0);
}

dla_status run_cuda_prepare_tape(struct run *run, const struct tape_options *options)
{
    struct run_state *s = &run->state;
    struct tape_options with_ranks = *options;
    dla_status status = DLA_OK;
    if (run->comm->size > 1 && run->gpus == NULL)
        status = cuda_reducer_create(run->comm, s->parameters.floats, &run->gpus);
    if (status == DLA_OK)
        status = run_cuda_fetch_state(run);
    cuda_tape_destroy(run->gpu);
    run->gpu = NULL;
    with_ranks.ranks = run->gpus;
    with_ranks.partners = run_loaded_images(run) > run->batch;
    if (status == DLA_OK)
        status = cuda_tape_create(&run->network->graph, &s->parameters, &with_ranks, s->average != NULL, &run->gpu);
    return status == DLA_OK ? cuda_tape_write_state(run->gpu, s->parameters.values, s->velocity, s->average) : status;
}

struct tape_memory run_cuda_tape_memory(const struct run *run)
{
    return cuda_tape_memory(run->gpu);
}

const char *run_cuda_reduction(const struct run *run)
{
    return cuda_reducer_name(run->gpus);
}

/* The next batch on its way to the GPU. */
static dla_status load(struct run *run, int64_t number)
{
    const struct loaded_batch *batch = NULL;
    dla_status status = loader_next(run->loader, &batch);
    if (status != DLA_OK)
        return status;
    if (is_dense(run)) {
        int64_t pixels = (int64_t)run->batch * run->tape_size * run->tape_size;
        run->pixel_weights[number % 2] = pixel_weight(pixels, batch->maps, run->dense.class_weights);
        run->pixel_counts[number % 2] = pixel_weight(pixels, batch->maps, NULL);
        status = cuda_tape_load(run->gpu, batch->inputs, NULL, batch->maps);
    } else {
        status = cuda_tape_load(run->gpu, batch->inputs, batch->labels, NULL);
    }
    run_request(run, number + RUN_AHEAD);
    return status;
}

/* Whether batch `number` is wanted, and of the size that the tape has now. */
static bool can_load(const struct run *run, int64_t number)
{
    int64_t step = number / run->options->accumulate;
    return step < run->identity.steps && run_step_size(run, step) == run->tape_size;
}

/* A labelled pixel counts alike on all ranks, however many each has. */
static void add_pixel_weights(struct run *run, int64_t number)
{
    double all[2] = {run->pixel_weights[number % 2], run->pixel_counts[number % 2]};
    run->comm->backend->sum(run->comm, all, 2);
    run->pixel_weights[number % 2] = all[0];
    run->pixel_counts[number % 2] = all[1];
}

/* Forward, of a batch that has been loaded, and the loss. */
static dla_status begin_pass(struct run *run, int64_t number)
{
    const dla_train_options *o = run->options;
    /* The labelled pixels of all ranks make a mean already, images' losses a mean of each rank's. */
    float scale = 1.0f / (float)(o->accumulate * (is_dense(run) ? 1 : run->comm->size));
    float share = run_blend_share(run, number);
    struct cuda_tape_loss loss = {.share = share, .smoothing = (float)o->label_smoothing, .scale = scale};
    if (is_dense(run))
        add_pixel_weights(run, number);
    dla_status status = cuda_tape_forward(run->gpu, stream_key(run, STREAM_DROPOUT, (uint64_t)number), share);
    if (status == DLA_OK)
        status = is_dense(run) ? cuda_tape_pixel_loss(run->gpu, run->dense.class_weights, run->pixel_weights[number % 2], scale)
                               : cuda_tape_class_loss(run->gpu, &loss);
    return status;
}

/* Waits for the pass: what it adds to the loss, and to the share of what is right, of all ranks. */
static dla_status finish_pass(struct run *run, int64_t number, double *loss, double *top1)
{
    struct cuda_tape_result result;
    int ranks = run->comm->size;
    dla_status status = cuda_tape_result(run->gpu, &result);
    double count = is_dense(run) ? run->pixel_counts[number % 2] : (double)run->batch * ranks;
    *loss = is_dense(run) ? result.loss : result.loss / ranks;
    *top1 = count > 0.0 ? (double)result.correct / count : 0.0;
    return status;
}

/* One of the passes whose gradients make a step. All ranks get the same status. */
static dla_status run_pass(struct run *run, int64_t number, double *loss, double *top1)
{
    double sums[2] = {0.0, 0.0};
    dla_status status = begin_pass(run, number);
    if (run->options->sync_norms) { /* the way back is made together, too */
        status = comm_agree(run->comm, status);
        if (status != DLA_OK)
            return status;
    }
    if (status == DLA_OK)
        status = cuda_tape_backward(run->gpu);
    if (status == DLA_OK && can_load(run, number + 1))
        status = load(run, number + 1);
    if (status == DLA_OK)
        status = finish_pass(run, number, &sums[0], &sums[1]);
    status = comm_agree(run->comm, status);
    if (status != DLA_OK)
        return status;
    run->comm->backend->sum(run->comm, sums, 2);
    *loss += sums[0] / run->options->accumulate;
    *top1 += sums[1] / run->options->accumulate;
    return comm_agree(run->comm, run_check_loss(run, sums[0]));
}

dla_status run_cuda_step(struct run *run, double *loss, double *top1)
{
    const dla_train_options *o = run->options;
    dla_status status = run_prepare_tape(run);
    if (status == DLA_OK)
        status = cuda_tape_clear_gradients(run->gpu);
    for (int pass = 0; pass < o->accumulate; pass++) {
        int64_t number = run->state.step * o->accumulate + pass;
        if (status == DLA_OK && cuda_tape_waiting(run->gpu) == 0)
            status = load(run, number);
        status = comm_agree(run->comm, status);
        if (status == DLA_OK)
            status = run_pass(run, number, loss, top1);
        if (status != DLA_OK)
            return status;
    }
    struct run_update update = run_next_update(run);
    run->state.step++;
    status = cuda_tape_reduce(run->gpu);
    if (status == DLA_OK)
        status = cuda_tape_update(run->gpu, &update.sgd, update.rate, o->clip, update.average_decay);
    return comm_agree(run->comm, status);
}
