/* session.c - a model made ready for one input size: a plan, and the borders where the maps of others are NCHW.
 *
 *     caller's (batch, channels, height, width) ──▶ plan's NHWC input ──▶ plan_run ──▶ outputs, turned back
 *
 * A batch goes through the plan some images at a time, as few as keep the threads busy: what one step writes is then still in cache
 * when the next one reads it, which is worth more than reading the weights once for all, unless they outweigh the maps
 * (docs/performance.md, "Batches"). A GPU gets the whole batch at once.
 */
#include "tasks/session.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "plan/plan.h"
#include "tasks/model.h"

#include <string.h>

/* A map at the border. */
struct session_map {
    char *name;
    int channels;
    struct map_size size;
};

struct dla_session {
    struct plan *plan;
    int batch, height, width;
    int pass; /* images that go through the plan at a time; divides batch */
    struct session_map inputs[GRAPH_MAX_INPUTS];
    size_t input_count;
    struct session_map *outputs;
    size_t output_count;
    struct arena arena; /* owns outputs and names */
};

/* The options that every caller's version of the structure has, with defaults for the rest. */
static dla_status read_options(const dla_model *model, const dla_session_options *given, dla_session_options *options)
{
    *options = (dla_session_options)DLA_SESSION_OPTIONS_INIT;
    dla_status status = options_take(options, sizeof *options, given, "DLA_SESSION_OPTIONS_INIT");
    if (status != DLA_OK)
        return status;
    if (options->batch < 1 || options->batch > PLAN_MAX_BATCH)
        return status_set(DLA_ERROR_ARGUMENT, "a batch of %d images; 1 to %d are possible", options->batch, PLAN_MAX_BATCH);
    if (options->threads < 0)
        return status_set(DLA_ERROR_ARGUMENT, "%d threads; 0 stands for one per core", options->threads);
    if (options->threads == 0)
        options->threads = cpu_core_count();
    if (options->height == 0)
        options->height = model->preprocessing.size;
    if (options->width == 0)
        options->width = model->preprocessing.size;
    return DLA_OK;
}

static dla_status describe_map(dla_session *session, const struct graph *graph, const struct map_size *sizes, value v, const char *name,
                               struct session_map *map)
{
    *map = (struct session_map){.name = arena_copy_string(&session->arena, name), .channels = graph->nodes[v].channels, .size = sizes[v]};
    return map->name ? DLA_OK : status_out_of_memory(strlen(name) + 1, "the name of a feature map");
}

/* Names and shapes of inputs and outputs, and the outputs' values. sizes: of all maps. */
static dla_status choose_maps(dla_session *session, const struct graph *graph, const dla_session_options *options,
                              const struct map_size *sizes, value *values)
{
    dla_status status = DLA_OK;

    for (size_t i = 0; i < session->input_count && status == DLA_OK; i++)
        status = describe_map(session, graph, sizes, graph->inputs[i], graph->nodes[graph->inputs[i]].name, &session->inputs[i]);
    for (size_t i = 0; i < session->output_count && status == DLA_OK; i++) {
        const char *name = options->feature_count > 0 ? options->features[i] : "output";
        values[i] = graph_find_value(graph, name);
        if (values[i] == NO_VALUE)
            return status_set(DLA_ERROR_NOT_FOUND,
                              "the network has no feature map '%s'; there are level0 to level%d, output, and every "
                              "node that `dla info` draws, such as level2.root",
                              name, DLA_LEVEL_COUNT - 1);
        status = describe_map(session, graph, sizes, values[i], name, &session->outputs[i]);
    }
    return status;
}

/* Whether the convolutions' weights are so many more bytes than an image's maps, written and read once, that they should be read once
 * for the whole batch. The factor lies between dla102 (1.17), which does not mind, and dla34 (1.57). */
static bool weights_outweigh_maps(const struct graph *graph, const struct map_size *sizes)
{
    const double enough = 1.25;
    double weights = 0.0, maps = 0.0;

    for (int i = 0; i < graph->node_count; i++) {
        const struct node *node = &graph->nodes[i];
        if (node->op != OP_CONV2D)
            continue;
        const struct conv_params *p = &node->as.conv;
        weights += (double)node->channels * graph->nodes[node->inputs[0]].channels / p->groups * p->kernel * p->kernel;
        maps += 2.0 * node->channels * sizes[i].height * sizes[i].width;
    }
    return weights > enough * maps;
}

/* The most images that divide the batch and do not have more pixels than the threads want: half of 224 x 224 each. A GPU wants them all:
 * its caches are small beside its many cores, which idle where there is little to do. */
static int images_a_pass(const dla_session_options *options, const struct graph *graph, const struct map_size *sizes)
{
    const int64_t pixels_a_thread = 224 * 224 / 2;
    int64_t image = (int64_t)options->height * options->width, wanted = options->threads * pixels_a_thread;
    int pass = options->batch;

    if (options->device != DLA_DEVICE_CPU || weights_outweigh_maps(graph, sizes))
        return pass;
    while (pass > 1 && (options->batch % pass != 0 || pass * image > wanted))
        pass--;
    return pass;
}

static dla_status build(dla_session *session, const dla_model *model, const dla_session_options *options)
{
    const struct graph *graph = &model->network->graph;
    struct plan_options plan_options = {
        .height = options->height,
        .width = options->width,
        .threads = options->threads,
        .exact = options->exact,
        .half_weights = options->half_weights,
        .tune = options->tune,
        .device = options->device,
        .precision = options->precision,
    };

    session->batch = options->batch;
    session->height = options->height;
    session->width = options->width;
    session->input_count = (size_t)graph->input_count;
    session->output_count = options->feature_count > 0 ? options->feature_count : 1;
    session->outputs = arena_allocate_array(&session->arena, session->output_count, sizeof *session->outputs);
    value *values = arena_allocate_array(&session->arena, session->output_count, sizeof *values);
    struct map_size *sizes = arena_allocate_array(&session->arena, (size_t)graph->node_count, sizeof *sizes);
    if (!session->outputs || !values || !sizes)
        return status_out_of_memory((size_t)graph->node_count * sizeof *sizes, "the maps of a network");
    dla_status status = graph_infer_sizes(graph, session->height, session->width, sizes);
    if (status != DLA_OK || (status = choose_maps(session, graph, options, sizes, values)) != DLA_OK
        || (status = isa_choose(&plan_options.isa)) != DLA_OK)
        return status;
    session->pass = plan_options.batch = images_a_pass(options, graph, sizes);
    return plan_create(graph, &model->weights, &plan_options, values, (int)session->output_count, &session->plan);
}

dla_status dla_session_create(const dla_model *model, const dla_session_options *options, dla_session **session)
{
    dla_session_options chosen;

    dla_status status = read_options(model, options, &chosen);
    if (status != DLA_OK)
        return status;
    dla_session *made = memory_allocate_zeroed(1, sizeof *made);
    if (!made)
        return status_out_of_memory(sizeof *made, "a session");
    status = build(made, model, &chosen);
    if (status != DLA_OK) {
        dla_session_destroy(made);
        return status;
    }
    *session = made;
    return DLA_OK;
}

void dla_session_destroy(dla_session *session)
{
    if (!session)
        return;
    plan_destroy(session->plan);
    arena_free(&session->arena);
    memory_free(session);
}

size_t dla_session_output_count(const dla_session *session)
{
    return session->output_count;
}

const char *dla_session_output_name(const dla_session *session, size_t index)
{
    return index < session->output_count ? session->outputs[index].name : NULL;
}

static void tell_shape(const dla_session *session, const struct session_map *map, int shape[4])
{
    shape[0] = session->batch;
    shape[1] = map->channels;
    shape[2] = map->size.height;
    shape[3] = map->size.width;
}

void dla_session_output_shape(const dla_session *session, size_t index, int shape[4])
{
    if (index < session->output_count)
        tell_shape(session, &session->outputs[index], shape);
}

size_t dla_session_input_count(const dla_session *session)
{
    return session->input_count;
}

const char *dla_session_input_name(const dla_session *session, size_t index)
{
    return index < session->input_count ? session->inputs[index].name : NULL;
}

void dla_session_input_shape(const dla_session *session, size_t index, int shape[4])
{
    if (index < session->input_count)
        tell_shape(session, &session->inputs[index], shape);
}

/* ---- the caller's layout ----------------------------------------------------------------------------------------------- */

/* A row of an image, (channels, width) with rows `plane` floats apart, to (width, channels). */
static void interleave_row(const float *in, int64_t plane, int channels, int width, float *restrict out)
{
    if (channels == 3) { /* what it nearly always is: three streams in, one out, which compilers know how to shuffle */
        const float *red = in, *green = in + plane, *blue = in + 2 * plane;
        for (int x = 0; x < width; x++) {
            out[3 * x] = red[x];
            out[3 * x + 1] = green[x];
            out[3 * x + 2] = blue[x];
        }
        return;
    }
    for (int x = 0; x < width; x++)
        for (int channel = 0; channel < channels; channel++)
            out[(int64_t)x * channels + channel] = in[channel * plane + x];
}

struct input_job {
    const struct session_map *map;
    const float *in; /* (images, channels, height, width) */
    float *out;      /* (images, height, width, channels) */
};

/* A task is a row of an image. */
static void interleave_task(void *context, int task, int worker)
{
    const struct input_job *job = context;
    int height = job->map->size.height, width = job->map->size.width, channels = job->map->channels;
    int64_t plane = (int64_t)height * width, image = task / height, row = task % height;
    (void)worker;

    interleave_row(job->in + image * channels * plane + row * width, plane, channels, width,
                   job->out + (image * plane + row * width) * channels);
}

static size_t image_floats(const struct session_map *map)
{
    return (size_t)map->size.height * (size_t)map->size.width * (size_t)map->channels;
}

/* The images of a pass, from `first` on. */
static void read_input(dla_session *session, size_t index, dla_layout layout, int first, const float *input)
{
    const struct session_map *map = &session->inputs[index];
    struct input_job job = {map, input + (size_t)first * image_floats(map), plan_input_at(session->plan, (int)index)};

    if (layout == DLA_LAYOUT_NHWC)
        memcpy(job.out, job.in, (size_t)session->pass * image_floats(map) * sizeof *input);
    else
        thread_pool_run(plan_thread_pool(session->plan), interleave_task, &job, session->pass * map->size.height);
}

struct output_job {
    const struct session_map *output;
    dla_layout layout;
    const float *in; /* (images, height, width, channels), pixels in_stride floats apart */
    int64_t in_stride;
    float *out; /* in the layout */
};

/* A task is a row of an image: some pixels at a time, so that their channels are read from the first cache. */
static void output_task(void *context, int task, int worker)
{
    enum { PIXELS = 32 };
    const struct output_job *job = context;
    int height = job->output->size.height, width = job->output->size.width, channels = job->output->channels;
    int64_t plane = (int64_t)height * width, image = task / height, row = task % height;
    const float *in = job->in + (image * plane + row * width) * job->in_stride;
    (void)worker;

    if (job->layout == DLA_LAYOUT_NHWC) {
        float *out = job->out + (image * plane + row * width) * channels;
        for (int x = 0; x < width; x++)
            memcpy(out + (int64_t)x * channels, in + x * job->in_stride, (size_t)channels * sizeof *out);
        return;
    }
    float *out = job->out + image * plane * channels + row * width;
    for (int first = 0; first < width; first += PIXELS)
        for (int channel = 0; channel < channels; channel++)
            for (int x = first; x < first + PIXELS && x < width; x++)
                out[channel * plane + x] = in[x * job->in_stride + channel];
}

static void write_output(const dla_session *session, size_t index, dla_layout layout, int first, float *out)
{
    struct output_job job = {.output = &session->outputs[index], .layout = layout};

    job.out = out + (size_t)first * image_floats(job.output);
    job.in = plan_output(session->plan, (int)index, &job.in_stride);
    thread_pool_run(plan_thread_pool(session->plan), output_task, &job, session->pass * job.output->size.height);
}

dla_status dla_session_run_maps(dla_session *session, dla_layout layout, const float *const *inputs, float *const *outputs)
{
    if (layout != DLA_LAYOUT_NCHW && layout != DLA_LAYOUT_NHWC)
        return status_set(DLA_ERROR_ARGUMENT, "layout %d; it is DLA_LAYOUT_NCHW or DLA_LAYOUT_NHWC", (int)layout);
    for (int first = 0; first < session->batch; first += session->pass) {
        for (size_t i = 0; i < session->input_count; i++)
            read_input(session, i, layout, first, inputs[i]);
        dla_status status = plan_run(session->plan);
        if (status != DLA_OK)
            return status;
        for (size_t i = 0; i < session->output_count; i++)
            write_output(session, i, layout, first, outputs[i]);
    }
    return DLA_OK;
}

dla_status dla_session_run(dla_session *session, dla_layout layout, const float *input, float *const *outputs)
{
    if (session->input_count != 1)
        return status_set(DLA_ERROR_ARGUMENT, "the network has %zu inputs; dla_session_run_maps takes them all", session->input_count);
    return dla_session_run_maps(session, layout, &input, outputs);
}

struct thread_pool *session_thread_pool(const dla_session *session)
{
    return plan_thread_pool(session->plan);
}

struct plan *session_plan(const dla_session *session)
{
    return session->plan;
}

int session_passes(const dla_session *session)
{
    return session->batch / session->pass;
}
