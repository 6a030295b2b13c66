/* train.c - a training run: photographs in, checkpoints and a network out.
 *
 *     loader threads:  decode, augment                      the next batches
 *     this thread:     batch -> tape forward -> loss -> tape backward -> optimiser -> averaged weights -> callback
 *     every epoch:     validation, log, checkpoint, last.safetensors, best.safetensors
 *
 * A run is a function of its options: what a step does follows from the seed and the step's number, never from a generator's
 * state, so a checkpoint is weights and a number, and a resumed run cannot differ from one that was never interrupted.
 */
#include "base/clock.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "train/run.h"
#include "train/run_cuda.h"
#include "train/validate_dense.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { VALIDATION_BATCH = 32 };

/* ---- telling ---- */

static dla_train_event event_of(const struct run *run, dla_train_event_kind kind)
{
    int64_t epoch_steps = run->identity.epoch_steps, done = run->state.step;
    dla_train_event e = {
        .kind = kind, .epochs = run->options->epochs, .step = done, .steps = run->identity.steps, .val_loss = NAN, .val_top1 = NAN};
    e.epoch = (int)(done > 0 ? (done - 1) / epoch_steps + 1 : 1);
    e.score_name = is_dense(run) ? "pixels right" : "top-1";
    e.val_score_name = run->options->task == DLA_TASK_SEGMENT ? "mean IoU" : is_dense(run) ? "pixel F" : "top-1";
    e.rank = run->comm->rank;
    e.ranks = run->comm->size;
    e.train_count = run->data.train.count;
    e.val_count = run->data.val.count;
    e.class_count = run->data.class_count;
    e.skipped_count = run->loader ? loader_problem_count(run->loader) : 0;
    e.images_per_second = run->images_per_second;
    if (run->images_per_second > 0.0)
        e.seconds_left = (double)(e.steps - done) * run->options->batch * run->options->accumulate / run->images_per_second;
    return e;
}

static void tell(struct run *run, const dla_train_event *event)
{
    if (run->callback && !run->callback(run->context, event))
        run->stopped = true;
}

static void tell_problems(struct run *run)
{
    for (char *message; (message = loader_take_problem(run->loader)) != NULL; memory_free(message)) {
        dla_train_event e = event_of(run, DLA_TRAIN_SKIPPED);
        e.message = message;
        tell(run, &e);
    }
}

/* ---- epochs ---- */

static dla_status save_model(struct run *run, const char *name)
{
    char path[RUN_PATH_SIZE];
    snprintf(path, sizeof(path), "%s/%s", run->options->output, name);
    return checkpoint_write_model(path, &run->identity, &run->state);
}

static dla_status save_checkpoint(struct run *run)
{
    dla_status status = run_fetch_state(run);
    if (status == DLA_OK)
        status = run_log_flush(run->log);
    return status == DLA_OK ? checkpoint_write(run->options->output, &run->identity, &run->state, run->options->keep) : status;
}

/* The ranks' shares together. */
static void add_validations(struct comm *comm, struct validation *v)
{
    double sums[3] = {v->count ? v->loss * (double)v->count : 0.0, v->count ? v->top1 * (double)v->count : 0.0, (double)v->count};
    if (comm->size == 1)
        return;
    comm->backend->sum(comm, sums, 3);
    *v = (struct validation){sums[0] / sums[2], sums[1] / sums[2], (size_t)sums[2]};
}

static dla_status validate_weights(struct run *run, struct validation *validation)
{
    const struct run_state *s = &run->state;
    const float *values = s->average ? s->average : s->parameters.values;
    struct dense_validation_options dense = {
        .target = &run->dense.target, .class_weights = run->dense.class_weights, .preprocessing = &run->preprocessing};
    dense.threads = run->threads;
    dense.isa = run->isa;
    dense.exact = run->options->exact;
    dense.device = run->options->device;
    dense.precision = run->options->precision;
    if (is_dense(run)) /* scores of whole sets: every rank takes all photographs */
        return comm_agree(run->comm, validate_dense(&s->parameters, values, &run->data.val, &dense, validation));
    dla_status status = DLA_OK;
    struct plan_options plan = {.batch = VALIDATION_BATCH, .threads = run->threads, .isa = run->isa, .exact = run->options->exact};
    plan.device = run->options->device;
    plan.precision = run->options->precision;
    if (run->val.count)
        status = validate(&s->parameters, values, &run->val, &run->preprocessing, &plan, validation);
    status = comm_agree(run->comm, status);
    if (status == DLA_OK)
        add_validations(run->comm, validation);
    return status;
}

/* Files are rank 0's. */
static dla_status write_epoch(struct run *run, const dla_train_event *e)
{
    dla_status status = e->best ? save_model(run, "best.safetensors") : DLA_OK;
    if (status == DLA_OK)
        status = save_model(run, "last.safetensors");
    if (status == DLA_OK)
        status = run_log_event(run->log, e);
    if (status == DLA_OK)
        status = save_checkpoint(run);
    if (status == DLA_OK)
        status = dla_train_plot(run->options->output);
    return status;
}

static dla_status finish_epoch(struct run *run)
{
    const struct run_state *s = &run->state;
    dla_train_event e = event_of(run, DLA_TRAIN_EPOCH);
    struct validation validation = {NAN, NAN, 0};
    dla_status status = comm_agree(run->comm, run_fetch_state(run));
    if (status != DLA_OK)
        return status;
    e.loss = s->epoch_loss / (double)run->identity.epoch_steps;
    e.top1 = s->epoch_top1 / (double)run->identity.epoch_steps;
    e.rate = learning_rate(run->options, s->step - 1, run->identity.steps, run->identity.epoch_steps);
    bool last = s->step == run->identity.steps;
    if (run->data.val.count && (last || s->step / run->identity.epoch_steps % run->options->validation_epochs == 0))
        status = validate_weights(run, &validation);
    if (status != DLA_OK)
        return status;
    e.val_loss = validation.loss;
    e.val_top1 = validation.top1;
    /* Without photographs to validate on, the training loss decides. */
    double score = run->data.val.count ? validation.top1 : -e.loss;
    bool judged = validation.count || last || run->data.val.count == 0, first = s->best == NO_SCORE;
    e.best = judged && (first || score > s->best);
    if (e.best)
        run->state.best = score;
    run->state.epoch_loss = run->state.epoch_top1 = 0.0;
    if (run->comm->rank == 0)
        status = write_epoch(run, &e);
    status = comm_agree(run->comm, status);
    if (status == DLA_OK)
        tell(run, &e);
    return status;
}

static dla_status train(struct run *run)
{
    const dla_train_options *o = run->options;
    dla_train_event started = event_of(run, DLA_TRAIN_STARTED);
    dla_status status = comm_agree(run->comm, run_prepare_tape(run));
    if (status != DLA_OK)
        return status;
    started.activation_bytes = run_tape_memory(run).bytes;
    started.activation_bytes_kept = run_tape_memory(run).kept;
    started.resumed_step = run->state.step;
    if (run->comm->size > 1)
        started.reduction = is_on_gpu(run) ? run_cuda_reduction(run) : run->comm->backend->name;
    tell(run, &started);
    for (int k = 0; k < RUN_AHEAD; k++)
        run_request(run, run->state.step * o->accumulate + k);
    while (run->state.step < run->identity.steps && status == DLA_OK && !run->stopped) {
        double loss, top1, begin = clock_milliseconds();
        status = run_step(run, &loss, &top1);
        tell_problems(run);
        if (status != DLA_OK)
            break;
        double speed = 1000.0 * o->batch * o->accumulate / (clock_milliseconds() - begin);
        run->images_per_second = run->images_per_second > 0.0 ? 0.9 * run->images_per_second + 0.1 * speed : speed;
        run->state.epoch_loss += loss;
        run->state.epoch_top1 += top1;
        dla_train_event e = event_of(run, DLA_TRAIN_STEP);
        e.loss = loss;
        e.top1 = top1;
        e.rate = learning_rate(o, run->state.step - 1, run->identity.steps, run->identity.epoch_steps);
        status = comm_agree(run->comm, run->log ? run_log_event(run->log, &e) : DLA_OK);
        if (status != DLA_OK)
            break;
        tell(run, &e);
        run->stopped = comm_any(run->comm, run->stopped);
        if (run->state.step % run->identity.epoch_steps == 0)
            status = finish_epoch(run);
        else if (run->stopped || (o->checkpoint_steps > 0 && run->state.step % o->checkpoint_steps == 0))
            status = comm_agree(run->comm, run->comm->rank == 0 ? save_checkpoint(run) : DLA_OK);
    }
    if (status == DLA_OK && run->stopped && run->state.step < run->identity.steps)
        return status_set(DLA_ERROR_INTERRUPTED, "stopped after step %" PRId64 " of %" PRId64 "; the same command with --resume goes on",
                          run->state.step, run->identity.steps);
    return status;
}

dla_status dla_train(const char *data, const dla_train_options *options, dla_train_callback *callback, void *context)
{
    dla_train_options settled = DLA_TRAIN_OPTIONS_INIT;
    dla_status status = options_take(&settled, sizeof(settled), options, "DLA_TRAIN_OPTIONS_INIT");
    if (status != DLA_OK)
        return status;
    struct run *run = memory_allocate_zeroed(1, sizeof(*run));
    if (run == NULL)
        return status_out_of_memory(sizeof(*run), "a training run");
    run->options = &settled;
    run->callback = callback;
    run->context = context;
    status = comm_open(&run->comm);
    if (status == DLA_OK)
        status = comm_agree(run->comm, run_prepare(run, data));
    if (status == DLA_OK) {
        run_share_state(run);
        status = train(run);
    }
    run_destroy(run);
    memory_free(run);
    return status;
}
