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
#include "base/folder.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "net/network.h"
#include "train/checkpoint.h"
#include "train/counter_random.h"
#include "train/dense_loss.h"
#include "train/dense_task.h"
#include "train/loader.h"
#include "train/loss.h"
#include "train/optimiser.h"
#include "train/recipe.h"
#include "train/run_log.h"
#include "train/starting_weights.h"
#include "train/tape.h"
#include "train/validate_dense.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_SIZE = 4096, AHEAD = LOADER_DEPTH - 1, VALIDATION_BATCH = 32 };

/* Streams of random numbers; what each is keyed with beside the seed. */
enum stream { STREAM_ORDER = 1, STREAM_AUGMENT, STREAM_MIXUP, STREAM_DROPOUT, STREAM_WEIGHTS };

struct run {
    const dla_train_options *options;
    dla_train_callback *callback;
    void *context;
    enum isa isa;
    int threads;
    struct dataset data;
    dla_architecture architecture;
    dla_preprocessing preprocessing;
    dla_network *network;
    struct thread_pool *pool;
    struct tape *tape;
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
    size_t *indices;     /* (batch) of a request */
    uint64_t *keys;
    int *mixed_labels;       /* (batch) */
    struct dense_task dense; /* where every pixel has a class */
    double images_per_second;
    bool stopped;
};

static uint64_t stream_key(const struct run *run, enum stream stream, uint64_t part)
{
    return counter_key(counter_key(run->options->seed, (uint64_t)stream), part);
}

static bool is_dense(const struct run *run)
{
    return run->options->task != DLA_TASK_CLASSIFY;
}

/* ---- making a run ---- */

static dla_status check_options(const char *data, const dla_train_options *o)
{
    const struct {
        const char *name;
        double number, low, high;
    } ranges[] = {
        {"size", o->size, 32, 4096},
        {"first epochs' size", o->first_size, o->first_epochs > 0 ? 32 : 0, 4096},
        {"number of first epochs", o->first_epochs, 0, o->epochs},
        {"validation size", o->validation_size, o->validation_size ? 32 : 0, 4096},
        {"batch", o->batch, 2, 65536},
        {"epochs", o->epochs, 1, 100000},
        {"accumulate", o->accumulate, 1, 65536},
        {"learning rate", o->rate, 0, 1000},
        {"momentum", o->momentum, 0, 0.99999},
        {"weight decay", o->weight_decay, 0, 1},
        {"label smoothing", o->label_smoothing, 0, 0.99},
        {"mixup", o->mixup, 0, 100},
        {"dropout", o->dropout, 0, 0.99},
        {"clip", o->clip, 0, 1e12},
        {"average decay", o->ema, 0, 0.9999999},
        {"warm-up", o->warmup_epochs, 0, o->epochs},
        {"crop share", o->crop_pct, 0.1, 1},
        {"backbone's rate factor", o->backbone_rate, 0, 1000},
        {"smallest area", o->augmentation.min_area, 1e-4, o->augmentation.max_area},
        {"largest area", o->augmentation.max_area, 1e-4, 1},
        {"smallest aspect ratio", o->augmentation.min_aspect, 1e-2, o->augmentation.max_aspect},
        {"largest aspect ratio", o->augmentation.max_aspect, 1e-2, 100},
        {"flip", o->augmentation.flip, 0, 1},
        {"checkpoint interval", o->checkpoint_steps, 0, 1e9},
        {"step epochs", o->step_epochs, 1e-6, 1e6},
        {"validation interval", o->validation_epochs, 1, 1e6},
    };
    if (data == NULL || o->architecture == NULL || o->output == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "training needs data, an architecture and an output folder");
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (!(ranges[i].number >= ranges[i].low && ranges[i].number <= ranges[i].high))
            return status_set(DLA_ERROR_ARGUMENT, "%s is %g, legal are %g to %g", ranges[i].name, ranges[i].number, ranges[i].low,
                              ranges[i].high);
    if (o->task < DLA_TASK_CLASSIFY || o->task > DLA_TASK_EDGES)
        return status_set(DLA_ERROR_ARGUMENT, "task %d is none: 0 classify, 1 segment, 2 edges", (int)o->task);
    if (o->task == DLA_TASK_CLASSIFY && (o->architecture->down_ratio > 0 || o->base_weights))
        return status_set(DLA_ERROR_ARGUMENT, "%s predict%s a class for every pixel; that is trained by the tasks segment and edges",
                          o->architecture->down_ratio > 0 ? o->architecture->name : "networks with base weights",
                          o->architecture->down_ratio > 0 ? "s" : "");
    if (o->weights && o->base_weights)
        return status_set(DLA_ERROR_ARGUMENT, "weights to start from are given twice: the whole network's (%s) and its base's (%s)",
                          o->weights, o->base_weights);
    return DLA_OK;
}

static dla_status make_folder(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return status_from_errno(path, "create the folder");
    return DLA_OK;
}

/* A new run must not bury the checkpoints of an old one. */
static dla_status make_folders(const char *output, bool resume)
{
    char path[PATH_SIZE];
    struct stat information;
    struct folder folder = {0};
    dla_status status = make_folder(output);
    if (status == DLA_OK && stat(output, &information) == 0 && !S_ISDIR(information.st_mode))
        return status_set(DLA_ERROR_ARGUMENT, "%s: is not a folder, a run's output is one", output);
    snprintf(path, sizeof(path), "%s/checkpoints", output);
    if (status == DLA_OK)
        status = make_folder(path);
    if (status == DLA_OK && !resume) {
        status = folder_read(path, &folder);
        if (status == DLA_OK && folder.count > 0)
            status = status_set(DLA_ERROR_ARGUMENT, "%s: holds a run already; --resume goes on with it, another --output starts a new one",
                                output);
        folder_free(&folder);
    }
    return status;
}

static dla_status prepare_parameters(struct run *run)
{
    const dla_train_options *o = run->options;
    const struct graph *graph = &run->network->graph;
    struct parameter_block *parameters = &run->state.parameters;
    dla_status status = parameter_block_create(graph, parameters);
    if (status != DLA_OK)
        return status;
    run->frozen = memory_allocate_zeroed((size_t)graph->parameter_count, sizeof(*run->frozen));
    run->rate_scale = memory_allocate_zeroed((size_t)graph->parameter_count, sizeof(*run->rate_scale));
    run->gradients = allocate_floats(parameters->floats);
    run->state.velocity = allocate_floats(parameters->floats);
    if (o->ema > 0.0)
        run->state.average = allocate_floats(parameters->floats);
    if (!run->frozen || !run->rate_scale || !run->gradients || !run->state.velocity || (o->ema > 0.0 && !run->state.average))
        return status_out_of_memory((size_t)parameters->floats * sizeof(float), "gradients");
    initialise_parameters(parameters, o->initialisation, stream_key(run, STREAM_WEIGHTS, 0));
    if (o->weights)
        status = starting_weights_read(o->weights, &run->architecture, o->reset_head, parameters);
    if (o->base_weights)
        status = base_weights_read(o->base_weights, &run->architecture, parameters);
    if (status == DLA_OK)
        status = freeze_parameters(graph, o->freeze, run->frozen);
    for (int i = 0; i < graph->parameter_count && status == DLA_OK; i++)
        run->rate_scale[i] = run->frozen[i] ? 0.0f : is_classifier_parameter(&graph->parameters[i]) ? 1.0f : (float)o->backbone_rate;
    if (run->state.average)
        memcpy(run->state.average, parameters->values, (size_t)parameters->floats * sizeof(float));
    return status;
}

static dla_status prepare(struct run *run, const char *data)
{
    const dla_train_options *o = run->options;
    dla_status status = check_options(data, o);
    if (status == DLA_OK)
        status = isa_choose(&run->isa);
    if (status == DLA_OK)
        status = is_dense(run) ? dense_task_open(data, o, &run->dense, &run->data) : dataset_open(data, o->validation, &run->data);
    if (status != DLA_OK)
        return status;
    size_t step_images = (size_t)o->batch * (size_t)o->accumulate;
    if (step_images > run->data.train.count)
        return status_set(DLA_ERROR_ARGUMENT,
                          "%s: %zu photographs to train on are fewer than the %zu of one step; choose a smaller --batch", data,
                          run->data.train.count, step_images);
    run->threads = o->threads > 0 ? o->threads : cpu_core_count();
    run->architecture = *o->architecture;
    run->architecture.num_classes = run->data.class_count;
    run->preprocessing = (dla_preprocessing)DLA_PREPROCESSING_IMAGENET;
    run->preprocessing.size = o->validation_size ? o->validation_size : o->size;
    run->preprocessing.crop_pct = o->crop_pct;
    run->preprocessing.interpolation = o->augmentation.interpolation;
    run->identity =
        (struct run_identity){.architecture = &run->architecture, .preprocessing = &run->preprocessing, .classes = run->data.classes};
    run->identity.class_count = run->data.class_count;
    run->identity.seed = o->seed;
    run->identity.epoch_steps = (int64_t)(run->data.train.count / step_images);
    run->identity.steps = run->identity.epoch_steps * o->epochs;
    run->identity.size = o->size;
    run->identity.batch = o->batch;
    run->state.best = NO_SCORE;
    run->order_epoch = -1;
    run->order = memory_allocate_zeroed(run->data.train.count, sizeof(*run->order));
    run->indices = memory_allocate_zeroed((size_t)o->batch, sizeof(*run->indices));
    run->keys = memory_allocate_zeroed((size_t)o->batch, sizeof(*run->keys));
    run->mixed_labels = memory_allocate_zeroed((size_t)o->batch, sizeof(*run->mixed_labels));
    if (!run->order || !run->indices || !run->keys || !run->mixed_labels)
        return status_out_of_memory(run->data.train.count * sizeof(*run->order), "the order of photographs");
    status = dla_network_create(&run->architecture, &run->network);
    if (status == DLA_OK)
        status = make_folders(o->output, o->resume);
    if (status == DLA_OK)
        status = prepare_parameters(run);
    if (status == DLA_OK)
        status = thread_pool_create(run->threads, &run->pool);
    return status;
}

/* The side of the training images of a step, counted from 0. */
static int step_size(const struct run *run, int64_t step)
{
    return step / run->identity.epoch_steps < run->options->first_epochs ? run->options->first_size : run->options->size;
}

/* A tape for the step that comes next, unless the one there is has its size. */
static dla_status prepare_tape(struct run *run)
{
    const dla_train_options *o = run->options;
    int size = step_size(run, run->state.step);
    struct tape_options tape = {
        .batch = o->batch, .height = size, .width = size, .isa = run->isa, .exact = o->exact, .frozen = run->frozen, .dropout = o->dropout};
    tape.recompute = o->checkpoint_activations;
    if (run->tape && run->tape_size == size)
        return DLA_OK;
    tape_destroy(run->tape);
    run->tape = NULL;
    run->tape_size = size;
    return tape_create(&run->network->graph, &run->state.parameters, run->pool, &tape, &run->tape);
}

static dla_status prepare_loader(struct run *run)
{
    const dla_train_options *o = run->options;
    struct loader_options loader = {
        .samples = &run->data.train, .augmentation = &o->augmentation, .batch = o->batch, .size = o->size, .threads = run->threads};
    if (o->first_epochs > 0 && o->first_size > o->size)
        loader.size = o->first_size;
    memcpy(loader.mean, run->preprocessing.mean, sizeof(loader.mean));
    memcpy(loader.std, run->preprocessing.std, sizeof(loader.std));
    loader.cache = o->cache;
    if (is_dense(run)) {
        loader.dense = &run->dense.augmentation;
        loader.target = &run->dense.target;
    }
    loader.reduced = o->fast_decode;
    dla_status status = o->cache_file ? photo_cache_open(o->cache_file, &run->data.train, &run->disk) : DLA_OK;
    loader.disk = run->disk;
    return status == DLA_OK ? loader_create(&loader, &run->loader) : status;
}

static void destroy(struct run *run)
{
    run_log_close(run->log);
    loader_destroy(run->loader);
    photo_cache_close(run->disk);
    tape_destroy(run->tape);
    thread_pool_destroy(run->pool);
    parameter_block_free(&run->state.parameters);
    memory_free(run->state.velocity);
    memory_free(run->state.average);
    memory_free(run->gradients);
    memory_free(run->frozen);
    memory_free(run->rate_scale);
    memory_free(run->order);
    memory_free(run->indices);
    memory_free(run->keys);
    memory_free(run->mixed_labels);
    dense_task_close(&run->dense);
    dla_network_destroy(run->network);
    dataset_close(&run->data);
}

/* ---- telling ---- */

static dla_train_event event_of(const struct run *run, dla_train_event_kind kind)
{
    int64_t epoch_steps = run->identity.epoch_steps, done = run->state.step;
    dla_train_event e = {
        .kind = kind, .epochs = run->options->epochs, .step = done, .steps = run->identity.steps, .val_loss = NAN, .val_top1 = NAN};
    e.epoch = (int)(done > 0 ? (done - 1) / epoch_steps + 1 : 1);
    e.score_name = is_dense(run) ? "pixels right" : "top-1";
    e.val_score_name = run->options->task == DLA_TASK_SEGMENT ? "mean IoU" : is_dense(run) ? "pixel F" : "top-1";
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

/* ---- steps ---- */

/* Asks the loader for batch `number` of the run, counted from 0. */
static void request(struct run *run, int64_t number)
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
    for (int i = 0; i < o->batch; i++) {
        run->indices[i] = run->order[first + i];
        run->keys[i] = counter_key(stream_key(run, STREAM_AUGMENT, (uint64_t)epoch), run->indices[i]);
    }
    loader_request(run->loader, run->indices, run->keys, step_size(run, number / o->accumulate));
}

/* Fills the tape's input; with mixup every image is blended with the one at the mirrored place of the batch. */
static void fill_input(struct run *run, const struct loaded_batch *batch, int64_t number, struct loss_targets *targets)
{
    const dla_train_options *o = run->options;
    int64_t floats = (int64_t)run->tape_size * run->tape_size * 3;
    float *input = tape_input(run->tape);
    *targets = (struct loss_targets){.a = batch->labels, .share = 1.0f, .smoothing = (float)o->label_smoothing};
    if (o->mixup <= 0.0) {
        memcpy(input, batch->inputs, (size_t)(floats * o->batch) * sizeof(float));
        return;
    }
    float share = (float)beta_draw(o->mixup, stream_key(run, STREAM_MIXUP, (uint64_t)number));
    for (int i = 0; i < o->batch; i++) {
        const float *a = batch->inputs + i * floats, *b = batch->inputs + (o->batch - 1 - i) * floats;
        for (int64_t k = 0; k < floats; k++)
            input[i * floats + k] = share * a[k] + (1.0f - share) * b[k];
        run->mixed_labels[i] = batch->labels[o->batch - 1 - i];
    }
    targets->b = run->mixed_labels;
    targets->share = share;
}

/* Loss of the tape's output, whose gradient it fills in; *top1: share of photographs, or of labelled pixels, that are right. */
static double take_loss(struct run *run, const struct loaded_batch *batch, const struct loss_targets *targets, double *top1)
{
    const dla_train_options *o = run->options;
    float scale = 1.0f / (float)o->accumulate;
    const float *output = tape_output(run->tape, NULL);
    float *gradient = tape_output_gradient(run->tape);
    if (is_dense(run)) {
        int64_t pixels = (int64_t)o->batch * run->tape_size * run->tape_size;
        struct dense_loss loss =
            pixel_cross_entropy(pixels, run->data.class_count, output, batch->maps, run->dense.class_weights, scale, gradient);
        *top1 = loss.labelled ? (double)loss.correct / (double)loss.labelled : 0.0;
        return loss.loss;
    }
    int correct;
    double loss = cross_entropy(o->batch, run->data.class_count, output, targets, scale, gradient, &correct);
    *top1 = (double)correct / o->batch;
    return loss;
}

static dla_status train_step(struct run *run, double *loss, double *top1)
{
    const dla_train_options *o = run->options;
    struct parameter_block *parameters = &run->state.parameters;
    *loss = *top1 = 0.0;
    dla_status status = prepare_tape(run);
    if (status != DLA_OK)
        return status;
    memset(run->gradients, 0, (size_t)parameters->floats * sizeof(float));
    for (int pass = 0; pass < o->accumulate; pass++) {
        int64_t number = run->state.step * o->accumulate + pass;
        const struct loaded_batch *batch;
        struct loss_targets targets;
        double right;
        status = loader_next(run->loader, &batch);
        if (status != DLA_OK)
            return status;
        fill_input(run, batch, number, &targets);
        request(run, number + AHEAD);
        tape_forward(run->tape, stream_key(run, STREAM_DROPOUT, (uint64_t)number));
        *loss += take_loss(run, batch, &targets, &right) / o->accumulate;
        *top1 += right / o->accumulate;
        if (!isfinite(*loss))
            return status_set(DLA_ERROR_ARGUMENT,
                              "the loss is not a number any more at step %" PRId64
                              "; the checkpoints in %s are from before: a smaller --lr helps",
                              run->state.step + 1, o->output);
        tape_backward(run->tape, run->gradients);
    }
    if (o->clip > 0.0)
        clip_gradients(parameters, run->gradients, o->clip);
    struct optimiser_options sgd = {.momentum = (float)o->momentum, .nesterov = o->nesterov, .weight_decay = (float)o->weight_decay};
    sgd.decay_norm_and_bias = o->decay_norm_and_bias;
    sgd.rate_scale = run->rate_scale;
    optimiser_step(&sgd, run->pool, parameters, run->state.velocity, run->gradients,
                   (float)learning_rate(o, run->state.step, run->identity.steps, run->identity.epoch_steps));
    run->state.step++;
    if (run->state.average)
        average_weights(parameters, run->state.average, (float)fmin(o->ema, (double)run->state.step / ((double)run->state.step + 50.0)));
    return DLA_OK;
}

/* ---- epochs ---- */

static dla_status save_model(struct run *run, const char *name)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof(path), "%s/%s", run->options->output, name);
    return checkpoint_write_model(path, &run->identity, &run->state);
}

static dla_status save_checkpoint(struct run *run)
{
    dla_status status = run_log_flush(run->log);
    return status == DLA_OK ? checkpoint_write(run->options->output, &run->identity, &run->state, run->options->keep) : status;
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
    return is_dense(run) ? validate_dense(&s->parameters, values, &run->data.val, &dense, validation)
                         : validate(&s->parameters, values, &run->data.val, &run->preprocessing, VALIDATION_BATCH, run->threads, run->isa,
                                    run->options->exact, validation);
}

static dla_status finish_epoch(struct run *run)
{
    const struct run_state *s = &run->state;
    dla_train_event e = event_of(run, DLA_TRAIN_EPOCH);
    struct validation validation = {NAN, NAN, 0};
    dla_status status = DLA_OK;
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
    if (e.best) {
        run->state.best = score;
        status = save_model(run, "best.safetensors");
    }
    run->state.epoch_loss = run->state.epoch_top1 = 0.0;
    if (status == DLA_OK)
        status = save_model(run, "last.safetensors");
    if (status == DLA_OK)
        status = run_log_event(run->log, &e);
    if (status == DLA_OK)
        status = save_checkpoint(run);
    if (status == DLA_OK)
        status = dla_train_plot(run->options->output);
    if (status == DLA_OK)
        tell(run, &e);
    return status;
}

static dla_status train(struct run *run)
{
    const dla_train_options *o = run->options;
    dla_train_event started = event_of(run, DLA_TRAIN_STARTED);
    dla_status status = prepare_tape(run);
    if (status != DLA_OK)
        return status;
    started.activation_bytes = tape_memory(run->tape).bytes;
    started.activation_bytes_kept = tape_memory(run->tape).kept;
    started.resumed_step = run->state.step;
    tell(run, &started);
    for (int k = 0; k < AHEAD; k++)
        request(run, run->state.step * o->accumulate + k);
    while (run->state.step < run->identity.steps && status == DLA_OK && !run->stopped) {
        double loss, top1, begin = clock_milliseconds();
        status = train_step(run, &loss, &top1);
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
        status = run_log_event(run->log, &e);
        if (status != DLA_OK)
            break;
        tell(run, &e);
        if (run->state.step % run->identity.epoch_steps == 0)
            status = finish_epoch(run);
        else if (run->stopped || (o->checkpoint_steps > 0 && run->state.step % o->checkpoint_steps == 0))
            status = save_checkpoint(run);
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
    bool found = false;
    if (run == NULL)
        return status_out_of_memory(sizeof(*run), "a training run");
    run->options = &settled;
    run->callback = callback;
    run->context = context;
    status = prepare(run, data);
    if (status == DLA_OK && settled.resume)
        status = checkpoint_read_newest(settled.output, &run->identity, &run->state, &found);
    if (status == DLA_OK)
        status = prepare_loader(run);
    if (status == DLA_OK)
        status = run_log_open(settled.output, run->state.step, &run->log);
    if (status == DLA_OK)
        status = train(run);
    destroy(run);
    memory_free(run);
    return status;
}
