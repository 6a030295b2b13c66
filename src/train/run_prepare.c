/* run_prepare.c - making a run: its options checked, its data found, its network and memory made. */
#include "train/run.h"

#include "base/folder.h"
#include "base/memory.h"
#include "base/status.h"
#include "net/network.h"
#include "plan/device.h"
#include "train/run_cuda.h"
#include "train/starting_weights.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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
    return device_check(o->device, o->precision);
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
    char path[RUN_PATH_SIZE];
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

/* What of a batch, and of the photographs to validate on, is this rank's. */
static dla_status prepare_share(struct run *run)
{
    const dla_train_options *o = run->options;
    int rank = run->comm->rank, ranks = run->comm->size;
    size_t count = 0;
    if (o->batch % ranks != 0 || o->batch / ranks < (o->sync_norms ? 1 : 2))
        return status_set(DLA_ERROR_ARGUMENT, "a batch of %d cannot be shared by %d ranks: it must be a multiple of that, %d images a rank",
                          o->batch, ranks, o->sync_norms ? 1 : 2);
    run->batch = o->batch / ranks;
    run->first_image = rank * run->batch;
    run->val.samples = memory_allocate((run->data.val.count + 1) * sizeof(*run->val.samples));
    if (run->val.samples == NULL)
        return status_out_of_memory(run->data.val.count * sizeof(*run->val.samples), "the validation set");
    for (size_t i = (size_t)rank; i < run->data.val.count; i += (size_t)ranks)
        run->val.samples[count++] = run->data.val.samples[i];
    run->val.count = count;
    return DLA_OK;
}

static dla_status prepare(struct run *run, const char *data)
{
    const dla_train_options *o = run->options;
    if (is_on_gpu(run))
        run_cuda_choose_device(run);
    dla_status status = check_options(data, o);
    if (status == DLA_OK)
        status = isa_choose(&run->isa);
    if (status == DLA_OK)
        status = is_dense(run) ? dense_task_open(data, o, &run->dense, &run->data) : dataset_open(data, o->validation, &run->data);
    if (status == DLA_OK)
        status = prepare_share(run);
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
    run->indices = memory_allocate_zeroed(2 * (size_t)run->batch, sizeof(*run->indices));
    run->keys = memory_allocate_zeroed(2 * (size_t)run->batch, sizeof(*run->keys));
    run->mixed_labels = memory_allocate_zeroed((size_t)run->batch, sizeof(*run->mixed_labels));
    if (!run->order || !run->indices || !run->keys || !run->mixed_labels)
        return status_out_of_memory(run->data.train.count * sizeof(*run->order), "the order of photographs");
    status = dla_network_create(&run->architecture, &run->network);
    if (status == DLA_OK && run->comm->rank == 0)
        status = make_folders(o->output, o->resume);
    if (status == DLA_OK)
        status = prepare_parameters(run);
    if (status == DLA_OK)
        status = thread_pool_create(run->threads, &run->pool);
    return status;
}

int run_step_size(const struct run *run, int64_t step)
{
    return step / run->identity.epoch_steps < run->options->first_epochs ? run->options->first_size : run->options->size;
}

/* A tape for the step that comes next, unless the one there is has its size. */
dla_status run_prepare_tape(struct run *run)
{
    const dla_train_options *o = run->options;
    int size = run_step_size(run, run->state.step);
    struct tape_options tape = {.batch = run->batch,
                                .height = size,
                                .width = size,
                                .isa = run->isa,
                                .exact = o->exact,
                                .frozen = run->frozen,
                                .dropout = o->dropout};
    tape.recompute = o->checkpoint_activations;
    tape.first_image = run->first_image;
    if (o->sync_norms && run->comm->size > 1)
        tape.norms = run->comm;
    tape.device = o->device;
    tape.precision = o->precision;
    if ((run->tape || run->gpu) && run->tape_size == size)
        return DLA_OK;
    run->tape_size = size;
    if (is_on_gpu(run))
        return run_cuda_prepare_tape(run, &tape);
    tape_destroy(run->tape);
    run->tape = NULL;
    return tape_create(&run->network->graph, &run->state.parameters, run->pool, &tape, &run->tape);
}

struct tape_memory run_tape_memory(const struct run *run)
{
    return is_on_gpu(run) ? run_cuda_tape_memory(run) : tape_memory(run->tape);
}

int run_loaded_images(const struct run *run)
{
    return run->options->mixup > 0.0 && run->comm->size > 1 ? 2 * run->batch : run->batch;
}

static dla_status prepare_loader(struct run *run)
{
    const dla_train_options *o = run->options;
    struct loader_options loader = {.samples = &run->data.train,
                                    .augmentation = &o->augmentation,
                                    .batch = run_loaded_images(run),
                                    .size = o->size,
                                    .threads = run->threads};
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
    char cache_file[RUN_PATH_SIZE]; /* every rank has its own */
    snprintf(cache_file, sizeof(cache_file), run->comm->size > 1 ? "%s.%d" : "%s", o->cache_file ? o->cache_file : "", run->comm->rank);
    dla_status status = o->cache_file ? photo_cache_open(cache_file, &run->data.train, &run->disk) : DLA_OK;
    loader.disk = run->disk;
    return status == DLA_OK ? loader_create(&loader, &run->loader) : status;
}

void run_destroy(struct run *run)
{
    run_log_close(run->log);
    loader_destroy(run->loader);
    photo_cache_close(run->disk);
    run_cuda_destroy(run);
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
    memory_free(run->val.samples);
    dla_network_destroy(run->network);
    dataset_close(&run->data);
    comm_close(run->comm);
}

dla_status run_prepare(struct run *run, const char *data)
{
    bool found, first = run->comm->rank == 0;
    dla_status status = prepare(run, data);
    if (status == DLA_OK && run->options->resume && first)
        status = checkpoint_read_newest(run->options->output, &run->identity, &run->state, &found);
    if (status == DLA_OK)
        status = prepare_loader(run);
    if (status == DLA_OK && first)
        status = run_log_open(run->options->output, run->state.step, &run->log);
    return status;
}

/* The checkpoint need not be where the others run. */
void run_share_state(struct run *run)
{
    struct run_state *s = &run->state;
    struct {
        int64_t step;
        double best, epoch_loss, epoch_top1;
    } position = {s->step, s->best, s->epoch_loss, s->epoch_top1};
    size_t bytes = (size_t)s->parameters.floats * sizeof(float);
    float *const blocks[] = {s->parameters.values, s->velocity, s->average};
    run->comm->backend->broadcast(run->comm, &position, sizeof(position));
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
        if (blocks[i])
            run->comm->backend->broadcast(run->comm, blocks[i], bytes);
    s->step = position.step;
    s->best = position.best;
    s->epoch_loss = position.epoch_loss;
    s->epoch_top1 = position.epoch_top1;
}
