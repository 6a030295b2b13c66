/* run_step.c - one training step: batch, forward, loss, backward, gradients of all ranks, optimiser, averaged weights. */
#include "train/run.h"

#include "base/status.h"
#include "train/dense_loss.h"
#include "train/loss.h"
#include "train/run_cuda.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void run_request(struct run *run, int64_t number)
{
    const dla_train_options *o = run->options;
    int64_t epoch_batches = run->identity.epoch_steps * o->accumulate, epoch = number / epoch_batches,
            first = number % epoch_batches * o->batch;
    if (number >= run->identity.steps * o->accumulate)
        return;
    if (epoch != run->order_epoch) {
        shuffle(run->order, run->data.train.count, stream_key(run, STREAM_ORDER, (uint64_t)epoch));
        run->order_epoch = epoch;
    }
    for (int i = 0; i < run_loaded_images(run); i++) {
        int image = run->first_image + i;
        if (i >= run->batch) /* the one that mixup blends with image i - batch */
            image = o->batch - 1 - (image - run->batch);
        run->indices[i] = run->order[first + image];
        run->keys[i] = counter_key(stream_key(run, STREAM_AUGMENT, (uint64_t)epoch), run->indices[i]);
    }
    loader_request(run->loader, run->indices, run->keys, run_step_size(run, number / o->accumulate));
}

float run_blend_share(const struct run *run, int64_t number)
{
    double mixup = run->options->mixup;
    return mixup > 0.0 ? (float)beta_draw(mixup, stream_key(run, STREAM_MIXUP, (uint64_t)number)) : 1.0f;
}

struct run_update run_next_update(const struct run *run)
{
    const dla_train_options *o = run->options;
    double steps = (double)run->state.step + 1.0;
    struct run_update update = {.rate = (float)learning_rate(o, run->state.step, run->identity.steps, run->identity.epoch_steps)};
    update.average_decay = (float)fmin(o->ema, steps / (steps + 50.0));
    update.sgd =
        (struct optimiser_options){.momentum = (float)o->momentum, .nesterov = o->nesterov, .weight_decay = (float)o->weight_decay};
    update.sgd.decay_norm_and_bias = o->decay_norm_and_bias;
    update.sgd.rate_scale = run->rate_scale;
    return update;
}

dla_status run_check_loss(const struct run *run, double loss)
{
    if (isfinite(loss))
        return DLA_OK;
    return status_set(DLA_ERROR_ARGUMENT,
                      "the loss is not a number any more at step %" PRId64 "; the checkpoints in %s are from before: a smaller --lr helps",
                      run->state.step + 1, run->options->output);
}

/* Fills the tape's input; with mixup every image is blended with the one at the mirrored place of the batch. */
static void fill_input(struct run *run, const struct loaded_batch *batch, int64_t number, struct loss_targets *targets)
{
    const dla_train_options *o = run->options;
    int64_t floats = (int64_t)run->tape_size * run->tape_size * 3;
    float *input = tape_input(run->tape);
    *targets = (struct loss_targets){.a = batch->labels, .share = 1.0f, .smoothing = (float)o->label_smoothing};
    if (o->mixup <= 0.0) {
        memcpy(input, batch->inputs, (size_t)(floats * run->batch) * sizeof(float));
        return;
    }
    float share = run_blend_share(run, number);
    for (int i = 0; i < run->batch; i++) {
        int other = run->comm->size > 1 ? run->batch + i : run->batch - 1 - i;
        const float *a = batch->inputs + i * floats, *b = batch->inputs + other * floats;
        for (int64_t k = 0; k < floats; k++)
            input[i * floats + k] = share * a[k] + (1.0f - share) * b[k];
        run->mixed_labels[i] = batch->labels[other];
    }
    targets->b = run->mixed_labels;
    targets->share = share;
}

/* Of a batch that all ranks have a part of. */
struct hits {
    double loss;
    double top1;   /* share of photographs, or of labelled pixels, that are right */
};

static struct hits sum_over_ranks(const struct run *run, double loss, double top1)
{
    double sums[2] = {loss, top1};
    run->comm->backend->sum(run->comm, sums, 2);
    return (struct hits){sums[0], sums[1]};
}

/* Loss of the tape's output, whose gradient it fills in. A labelled pixel counts alike on all ranks, however many each has. */
static struct hits take_pixel_loss(struct run *run, const struct loaded_batch *batch)
{
    int64_t pixels = (int64_t)run->batch * run->tape_size * run->tape_size;
    const float *weights = run->dense.class_weights;
    double all[2] = {pixel_weight(pixels, batch->maps, weights), pixel_weight(pixels, batch->maps, NULL)};
    run->comm->backend->sum(run->comm, all, 2);
    struct dense_loss loss = pixel_cross_entropy(pixels, run->data.class_count, tape_output(run->tape, NULL), batch->maps, weights, all[0],
                                                 1.0f / (float)run->options->accumulate, tape_output_gradient(run->tape));
    return sum_over_ranks(run, loss.loss, all[1] > 0.0 ? (double)loss.correct / all[1] : 0.0);
}

/* The same for classes of photographs, of which every rank has as many. */
static struct hits take_class_loss(struct run *run, const struct loss_targets *targets)
{
    double share = 1.0 / run->comm->size;
    float scale = 1.0f / (float)(run->options->accumulate * run->comm->size);
    int correct;
    double loss = cross_entropy(run->batch, run->data.class_count, tape_output(run->tape, NULL), targets, scale,
                                tape_output_gradient(run->tape), &correct);
    return sum_over_ranks(run, loss * share, share * correct / run->batch);
}

dla_status run_fetch_state(struct run *run)
{
    return is_on_gpu(run) ? run_cuda_fetch_state(run) : DLA_OK;
}

dla_status run_step(struct run *run, double *loss, double *top1)
{
    const dla_train_options *o = run->options;
    struct parameter_block *parameters = &run->state.parameters;
    *loss = *top1 = 0.0;
    if (is_on_gpu(run))
        return run_cuda_step(run, loss, top1);
    dla_status status = run_prepare_tape(run);
    struct reducer reducer = {.comm = run->comm, .parameters = parameters, .gradients = run->gradients, .frozen = run->frozen};
    memset(run->gradients, 0, (size_t)parameters->floats * sizeof(float));
    for (int pass = 0; pass < o->accumulate; pass++) {
        int64_t number = run->state.step * o->accumulate + pass;
        const struct loaded_batch *batch = NULL;
        struct loss_targets targets;
        if (status == DLA_OK)
            status = loader_next(run->loader, &batch);
        status = comm_agree(run->comm, status);
        if (status != DLA_OK || batch == NULL)
            return status;
        fill_input(run, batch, number, &targets);
        run_request(run, number + RUN_AHEAD);
        tape_forward(run->tape, stream_key(run, STREAM_DROPOUT, (uint64_t)number));
        struct hits hits = is_dense(run) ? take_pixel_loss(run, batch) : take_class_loss(run, &targets);
        *loss += hits.loss / o->accumulate;
        *top1 += hits.top1 / o->accumulate;
        if ((status = run_check_loss(run, *loss)) != DLA_OK)
            return comm_agree(run->comm, status);
        if (pass == o->accumulate - 1) {
            reducer_begin(&reducer);
            tape_on_gradients(run->tape, run->comm->size > 1 ? reducer_ready : NULL, &reducer);
        }
        tape_backward(run->tape, run->gradients);
        tape_on_gradients(run->tape, NULL, NULL);
    }
    reducer_end(&reducer);
    if (o->clip > 0.0)
        clip_gradients(parameters, run->gradients, o->clip);
    struct run_update update = run_next_update(run);
    optimiser_step(&update.sgd, run->pool, parameters, run->state.velocity, run->gradients, update.rate);
    if (run->state.average)
        average_weights(parameters, run->state.average, update.average_decay);
    run->state.step++;
    return DLA_OK;
}
