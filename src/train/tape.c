/* tape.c - making a tape: kernels, packed weights' places, memory. */
#include "base/memory.h"
#include "base/pages.h"
#include "base/status.h"
#include "plan/device.h"
#include "train/tape_steps.h"

#include <string.h>

enum { NORM_ARRAYS = 6 };

int64_t value_pixels(const struct tape *tape, value v)
{
    return (int64_t)tape->options.batch * tape->sizes[v].height * tape->sizes[v].width;
}

static struct map_view view(const struct tape *tape, struct place place)
{
    const struct buffer *b = &tape->buffers[place.buffer];
    return (struct map_view){tape->block + b->offset + place.channel, b->pixel_stride};
}

struct map_view value_map(const struct tape *tape, value v)
{
    return view(tape, tape->forward[v]);
}

struct map_view value_gradient(const struct tape *tape, value v)
{
    return view(tape, tape->backward[v]);
}

struct map_call tape_map_call(const struct tape *tape, const struct step *step)
{
    struct map_call call = {.batch = tape->options.batch, .channels = tape->graph->nodes[step->out].channels};
    call.in_height = tape->sizes[step->in].height;
    call.in_width = tape->sizes[step->in].width;
    call.in_channels = tape->graph->nodes[step->in].channels;
    call.out_height = tape->sizes[step->out].height;
    call.out_width = tape->sizes[step->out].width;
    if (step->kind == STEP_MAX_POOL || step->kind == STEP_AVERAGE_POOL) {
        call.kernel = step->node->as.pool.kernel;
        call.stride = step->node->as.pool.stride;
        call.padding = step->node->as.pool.padding;
        call.dilation = step->node->as.pool.dilation;
    } else if (step->kind == STEP_TRANSPOSED_CONV) {
        call.kernel = step->node->as.conv.kernel;
        call.stride = step->node->as.conv.stride;
        call.padding = step->node->as.conv.padding;
        call.groups = step->node->as.conv.groups;
    }
    return call;
}

bool tape_trains(const struct tape *tape, int parameter)
{
    return parameter != NO_PARAMETER && tape->graph->parameters[parameter].trainable
           && !(tape->options.frozen && tape->options.frozen[parameter]);
}

/* The cheapest kernel that takes the shape; the reference takes every one. */
static const struct conv_kernel *choose_kernel(const struct tape *tape, const struct conv_shape *shape)
{
    enum { THREADS = 1 }; /* the choice, and so the sums, must not depend on how many there are */
    int count;
    const struct conv_kernel *const *kernels = conv_kernels(tape->options.isa, &count), *best = NULL;
    if (tape->options.reference)
        return &conv_reference;
    for (int i = 0; i < count; i++)
        if (!(kernels[i]->winograd && tape->options.exact) && !kernels[i]->half && kernels[i]->supports(shape)
            && (best == NULL || kernels[i]->cost(shape, THREADS) < best->cost(shape, THREADS)))
            best = kernels[i];
    return best;
}

static void need_scratch(struct tape *tape, size_t bytes)
{
    int64_t rounded = (int64_t)(bytes + 63) / 64 * 64;
    tape->scratch_bytes = rounded > tape->scratch_bytes ? rounded : tape->scratch_bytes;
}

/* Places so many bytes of packed weights; returns where, in floats from their start. */
static int64_t place_packed(struct tape *tape, size_t bytes)
{
    int64_t place = tape->packed_floats;
    tape->packed_floats += whole_lines((int64_t)(bytes + sizeof(float) - 1) / (int64_t)sizeof(float));
    return place;
}

static void describe_conv(const struct tape *tape, const struct step *step, struct conv_shape *s)
{
    const struct conv_params *p = &step->node->as.conv;
    s->batch = step->conv.norm_behind ? 1 : tape->options.batch;
    s->in_height = tape->sizes[step->in].height;
    s->in_width = tape->sizes[step->in].width;
    s->in_channels = tape->graph->nodes[step->in].channels;
    s->out_height = tape->sizes[step->out].height;
    s->out_width = tape->sizes[step->out].width;
    s->out_channels = step->node->channels;
    s->kernel = p->kernel;
    s->stride = p->stride;
    s->padding = p->padding;
    s->dilation = p->dilation;
    s->groups = p->groups;
    s->source_count = 1;
    s->source_channels[0] = s->in_channels;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void prepare_conv(struct tape *tape, struct step *step)
{
    const struct conv_params *p = &step->node->as.conv;
    struct conv_step *conv = &step->conv;
    struct conv_shape *s = &conv->shape;
    describe_conv(tape, step, s);
    if (tape->options.device != DLA_DEVICE_CPU)
        return;
    int threads = conv->norm_behind ? 1 : thread_pool_size(tape->pool);
    conv->forward = choose_kernel(tape, s);
    conv->packed = place_packed(tape, conv->forward->packed_bytes(s));
    size_t scratch = conv->forward->scratch_bytes(s, threads);
    if (step->has_backward)
        scratch = larger(scratch, tape->kernels->conv_weight_gradient_scratch_bytes(s, threads));
    if (step->has_backward && step->to_in != CONTRIBUTE_NOTHING) {
        conv->turned = conv_turned_shape(s);
        if (s->stride == 1 && conv->turned.padding >= 0 && !tape->options.reference)
            conv->data = choose_kernel(tape, &conv->turned);
        if (conv->data) {
            int64_t floats = tape->graph->parameters[p->weight].elements;
            conv->packed_turned = place_packed(tape, conv->data->packed_bytes(&conv->turned));
            tape->turned_floats = floats > tape->turned_floats ? floats : tape->turned_floats;
            scratch = larger(scratch, conv->data->scratch_bytes(&conv->turned, threads));
        } else {
            conv->packed_turned = place_packed(tape, tape->kernels->conv_data_gradient_packed_bytes(s, tape->options.exact));
            conv->gathers = true;
            scratch = larger(scratch, tape->kernels->conv_data_gradient_scratch_bytes(s, threads));
        }
    }
    need_scratch(tape, conv->norm_behind ? tape_images_scratch_bytes(tape, step, scratch) : scratch);
}

static int64_t end_of(const struct tape *tape, int parameter, int64_t end)
{
    if (parameter == NO_PARAMETER)
        return end;
    int64_t own = tape->parameters->offsets[parameter] + tape->graph->parameters[parameter].elements;
    return own > end ? own : end;
}

/* Where a step's parameters end in the block, or `end` if that is later. */
static int64_t parameters_end(const struct tape *tape, const struct step *step, int64_t end)
{
    if (step->kind == STEP_CONV || step->kind == STEP_TRANSPOSED_CONV)
        return end_of(tape, step->node->as.conv.bias, end_of(tape, step->node->as.conv.weight, end));
    if (step->kind != STEP_NORM)
        return end;
    const struct batch_norm_params *p = step->norm.params;
    return end_of(tape, p->running_var, end_of(tape, p->running_mean, end_of(tape, p->bias, end_of(tape, p->weight, end))));
}

static dla_status prepare_steps(struct tape *tape)
{
    int largest_channels = 1;
    int64_t end = 0;
    for (int k = 0; k < tape->step_count; k++) {
        struct step *step = &tape->steps[k];
        int channels = tape->graph->nodes[step->out].channels;
        largest_channels = channels > largest_channels ? channels : largest_channels;
        step->earlier_end = end;
        end = parameters_end(tape, step, end);
        if (step->kind == STEP_CONV)
            prepare_conv(tape, step);
        if (step->kind == STEP_TRANSPOSED_CONV) /* weights with channels last, and their gradient per chunk of images */
            need_scratch(tape, (size_t)tape->graph->parameters[step->node->as.conv.weight].elements * (size_t)(1 + tape->options.batch)
                                   * sizeof(float));
        if (step->kind == STEP_NORM) {
            float *arrays = arena_allocate_array(&tape->arena, (size_t)channels * NORM_ARRAYS, sizeof(float));
            if (arrays == NULL)
                return status_out_of_memory((size_t)channels * NORM_ARRAYS * sizeof(float), "batch norm statistics");
            step->norm.sums = arena_allocate_array(&tape->arena, (size_t)channels * 2, sizeof(double));
            if (step->norm.sums == NULL)
                return status_out_of_memory((size_t)channels * 2 * sizeof(double), "batch norm statistics");
            step->norm.mean = arrays;
            step->norm.deviation_inverse = arrays + channels;
            step->norm.scale = arrays + 2 * channels;
            step->norm.shift = arrays + 3 * channels;
            step->norm.gradient_of_x = arrays + 4 * channels;
            step->norm.gradient_constant = arrays + 5 * channels;
        }
    }
    tape->sums_count = (int64_t)MOST_SUM_CHUNKS * 2 * largest_channels;
    tape->ones = allocate_floats(largest_channels);
    tape->zeros = allocate_floats(largest_channels);
    if (tape->ones)
        for (int c = 0; c < largest_channels; c++)
            tape->ones[c] = 1.0f;
    return DLA_OK;
}

static dla_status allocate_memory(struct tape *tape)
{
    tape->block = pages_map((size_t)tape->block_floats * sizeof(float));
    tape->packed = pages_map((size_t)tape->packed_floats * sizeof(float));
    tape->turned = allocate_floats(tape->turned_floats * thread_pool_size(tape->pool));
    tape->scratch = pages_map((size_t)tape->scratch_bytes);
    tape->sums = memory_allocate((size_t)tape->sums_count * sizeof(*tape->sums));
    if (!tape->block || !tape->packed || !tape->turned || !tape->scratch || !tape->sums || !tape->ones || !tape->zeros)
        return status_out_of_memory((size_t)(tape->block_floats + tape->packed_floats) * sizeof(float) + (size_t)tape->scratch_bytes,
                                    "a training step; a smaller --batch or --size needs less");
    return DLA_OK;
}

dla_status tape_create(const struct graph *graph, struct parameter_block *parameters, struct thread_pool *pool,
                       const struct tape_options *options, struct tape **tape)
{
    size_t nodes = (size_t)graph->node_count;
    struct tape *made = memory_allocate_zeroed(1, sizeof(*made));
    if (made == NULL)
        return status_out_of_memory(sizeof(*made), "a training step");
    made->graph = graph;
    made->parameters = parameters;
    made->pool = pool;
    made->options = *options;
    made->kernels = training_kernels(options->isa);
    made->maps = map_functions_for(options->isa);
    made->sizes = arena_allocate_array(&made->arena, nodes, sizeof(*made->sizes));
    made->forward = arena_allocate_array(&made->arena, nodes, sizeof(*made->forward));
    made->backward = arena_allocate_array(&made->arena, nodes, sizeof(*made->backward));
    made->buffers = arena_allocate_array(&made->arena, 2 * nodes, sizeof(*made->buffers));
    made->steps = arena_allocate_array(&made->arena, nodes, sizeof(*made->steps));
    dla_status status = thread_pool_create(1, &made->alone);
    if (!made->sizes || !made->forward || !made->backward || !made->buffers || !made->steps)
        status = status_out_of_memory(nodes * sizeof(*made->steps), "a training step");
    if (status == DLA_OK)
        status = graph_infer_sizes(graph, options->height, options->width, made->sizes);
    if (status == DLA_OK)
        status = tape_lower(made);
    if (status == DLA_OK)
        status = tape_schedule(made);
    if (status == DLA_OK)
        status = prepare_steps(made);
    if (status == DLA_OK && options->device == DLA_DEVICE_CPU)
        status = allocate_memory(made);
    if (status != DLA_OK) {
        tape_destroy(made);
        return status;
    }
    *tape = made;
    return DLA_OK;
}

void tape_destroy(struct tape *tape)
{
    if (tape == NULL)
        return;
    thread_pool_destroy(tape->alone);
    memory_free(tape->zeroings);
    pages_unmap(tape->block, (size_t)tape->block_floats * sizeof(float));
    pages_unmap(tape->packed, (size_t)tape->packed_floats * sizeof(float));
    memory_free(tape->turned);
    pages_unmap(tape->scratch, (size_t)tape->scratch_bytes);
    memory_free(tape->sums);
    memory_free(tape->ones);
    memory_free(tape->zeros);
    arena_free(&tape->arena);
    memory_free(tape);
}

float *tape_input(struct tape *tape)
{
    return value_map(tape, tape->graph->input).data;
}

const float *tape_output(const struct tape *tape, struct map_size *size)
{
    if (size)
        *size = tape->sizes[tape->graph->output];
    return value_map(tape, tape->graph->output).data;
}

float *tape_output_gradient(struct tape *tape)
{
    return value_gradient(tape, tape->graph->output).data;
}

void tape_on_gradients(struct tape *tape, gradients_ready *ready, void *context)
{
    tape->ready = ready;
    tape->ready_context = context;
}

struct tape_memory tape_memory(const struct tape *tape)
{
    int64_t element = (int64_t)precision_bytes(tape->options.precision);
    struct tape_memory memory = {.bytes = tape->block_floats * element, .kept = tape->kept_floats * element};
    for (int i = 0; i < tape->buffer_count; i++) {
        const struct buffer *b = &tape->buffers[i];
        if (b->lives[0].first <= b->lives[0].last || b->lives[1].first <= b->lives[1].last)
            memory.unshared += b->pixels * b->pixel_stride * element;
    }
    return memory;
}

int tape_step_count(const struct tape *tape)
{
    return tape->step_count;
}

struct tape_step_report tape_step_report(const struct tape *tape, int index)
{
    const struct step *step = &tape->steps[index];
    const char *kind = step->kind == STEP_CONV ? step->conv.forward->name : op_name(step->node->op);
    return (struct tape_step_report){step->node->name, kind, step->forward_ms, step->backward_ms, step->weight_gradient_ms};
}

double tape_pack_milliseconds(const struct tape *tape)
{
    return tape->pack_ms;
}
