/* run_cuda.c - one training step on a GPU: batch, forward, loss, backward, optimiser, averaged weights.
 *
 * The GPU works on batch n while the host waits for the loader and brings batch n + 1 into its memory; the host waits for the GPU once a
 * pass, for the loss. Weights, momentum and averages stay there until somebody here wants to read them.
 */
#include "train/run_cuda.h"

#include "net/network.h"
#include "train/dense_loss.h"
#include "train/tape_cuda.h"

dla_status run_cuda_fetch_state(struct run *run)
{
    struct run_state *s = &run->state;
    return run->gpu ? cuda_tape_read_state(run->gpu, s->parameters.values, s->velocity, s->average) : DLA_OK;
}

void run_cuda_destroy(struct run *run)
{
    cuda_tape_destroy(run->gpu);
    run->gpu = NULL;
}

dla_status run_cuda_prepare_tape(struct run *run, const struct tape_options *options)
{
    struct run_state *s = &run->state;
    dla_status status = run_cuda_fetch_state(run);
    run_cuda_destroy(run);
    if (status == DLA_OK)
        status = cuda_tape_create(&run->network->graph, &s->parameters, options, s->average != NULL, &run->gpu);
    return status == DLA_OK ? cuda_tape_write_state(run->gpu, s->parameters.values, s->velocity, s->average) : status;
}

struct tape_memory run_cuda_tape_memory(const struct run *run)
{
    return cuda_tape_memory(run->gpu);
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

/* Everything of a pass that the GPU does without us. */
static dla_status begin_pass(struct run *run, int64_t number)
{
    const dla_train_options *o = run->options;
    float scale = 1.0f / (float)o->accumulate;
    float share = run_blend_share(run, number);
    struct cuda_tape_loss loss = {.share = share, .smoothing = (float)o->label_smoothing, .scale = scale};
    dla_status status = cuda_tape_waiting(run->gpu) == 0 ? load(run, number) : DLA_OK;
    if (status == DLA_OK)
        status = cuda_tape_forward(run->gpu, stream_key(run, STREAM_DROPOUT, (uint64_t)number), share);
    if (status == DLA_OK)
        status = is_dense(run) ? cuda_tape_pixel_loss(run->gpu, run->dense.class_weights, run->pixel_weights[number % 2], scale)
                               : cuda_tape_class_loss(run->gpu, &loss);
    return status == DLA_OK ? cuda_tape_backward(run->gpu) : status;
}

static dla_status finish_pass(struct run *run, int64_t number, double *loss, double *top1)
{
    struct cuda_tape_result result;
    dla_status status = cuda_tape_result(run->gpu, &result);
    double count = is_dense(run) ? run->pixel_counts[number % 2] : run->batch;
    *loss += result.loss / run->options->accumulate;
    *top1 += count > 0.0 ? (double)result.correct / count / run->options->accumulate : 0.0;
    return status == DLA_OK ? run_check_loss(run, result.loss) : status;
}

dla_status run_cuda_step(struct run *run, double *loss, double *top1)
{
    const dla_train_options *o = run->options;
    dla_status status = run_prepare_tape(run);
    if (status == DLA_OK)
        status = cuda_tape_clear_gradients(run->gpu);
    for (int pass = 0; pass < o->accumulate && status == DLA_OK; pass++) {
        int64_t number = run->state.step * o->accumulate + pass;
        status = begin_pass(run, number);
        if (status == DLA_OK && can_load(run, number + 1))
            status = load(run, number + 1);
        if (status == DLA_OK)
            status = finish_pass(run, number, loss, top1);
    }
    if (status != DLA_OK)
        return status;
    struct run_update update = run_next_update(run);
    run->state.step++;
    return cuda_tape_update(run->gpu, &update.sgd, update.rate, o->clip, update.average_decay);
}
