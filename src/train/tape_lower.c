/* tape_lower.c - from a graph to steps, and where each step's map lies. */
#include "train/tape_steps.h"

#include "base/memory.h"
#include "base/status.h"

#include <string.h>

struct lowering {
    struct tape *tape;
    int *consumers;       /* per value; the graph's output counts as one */
    bool *absorbed;       /* per value: it became part of a later step */
    struct step *norm_of; /* per value: for the last value of a fused batch norm, what was fused */
};

/* A buffer for a value, or for its gradient. What callers read and write themselves has no gaps. */
static int new_buffer(struct tape *tape, value v)
{
    int channels = tape->graph->nodes[v].channels;
    bool gaps = v != tape->graph->input && v != tape->graph->output && !tape->options.reference && tape->options.device == DLA_DEVICE_CPU;

    tape->buffers[tape->buffer_count] =
        (struct buffer){.channels = channels, .pixel_stride = gaps ? map_stride(channels) : channels, .pixels = value_pixels(tape, v)};
    return tape->buffer_count++;
}

static bool is_only_for(const struct lowering *l, value v, enum op op)
{
    return l->consumers[v] == 1 && l->tape->graph->nodes[v].op == op;
}

/* A batch norm absorbs the add and the relu behind it where nobody else sees what lies between. */
static void fuse_norms(struct lowering *l)
{
    const struct graph *graph = l->tape->graph;
    for (value v = 0; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        value norm = NO_VALUE, other = NO_VALUE, sum = v;
        bool relu = node->op == OP_RELU;
        if (relu)
            sum = node->inputs[0];
        if (relu && l->consumers[sum] != 1)
            continue;
        if (graph->nodes[sum].op == OP_ADD) {
            /* The later of two batch norms: the earlier one's result is then there to be added. */
            const value *inputs = graph->nodes[sum].inputs;
            for (int i = 0; i < 2; i++)
                if (inputs[0] != inputs[1] && is_only_for(l, inputs[i], OP_BATCH_NORM) && !l->absorbed[inputs[i]] && inputs[i] > norm) {
                    norm = inputs[i];
                    other = inputs[1 - i];
                }
            if (norm == NO_VALUE || l->norm_of[sum].out != NO_VALUE)
                continue;
        } else if (relu && graph->nodes[sum].op == OP_BATCH_NORM) {
            norm = sum;
        } else {
            continue;
        }
        if (!relu && l->consumers[sum] == 1) { /* a relu behind it takes the sum along */
            bool taken = false;
            for (value r = sum + 1; r < graph->node_count; r++)
                taken = taken || (graph->nodes[r].op == OP_RELU && graph->nodes[r].inputs[0] == sum);
            if (taken)
                continue;
        }
        l->absorbed[norm] = true;
        if (sum != v)
            l->absorbed[sum] = true;
        l->norm_of[v] =
            (struct step){.kind = STEP_NORM, .node = &graph->nodes[norm], .in = graph->nodes[norm].inputs[0], .other = other, .out = v};
        l->norm_of[v].norm.relu = relu;
    }
}

static const enum step_kind kinds[OP_COUNT] = {
    [OP_CONV2D] = STEP_CONV,
    [OP_BATCH_NORM] = STEP_NORM,
    [OP_RELU] = STEP_RELU,
    [OP_ADD] = STEP_ADD,
    [OP_CONCAT] = STEP_CONCAT,
    [OP_MAX_POOL] = STEP_MAX_POOL,
    [OP_AVERAGE_POOL] = STEP_AVERAGE_POOL,
    [OP_GLOBAL_AVERAGE_POOL] = STEP_GLOBAL_AVERAGE_POOL,
    [OP_TRANSPOSED_CONV2D] = STEP_TRANSPOSED_CONV,
    [OP_CROP] = STEP_CROP,
    [OP_LOG_SOFTMAX] = STEP_LOG_SOFTMAX,
};

static dla_status make_steps(struct lowering *l)
{
    struct tape *tape = l->tape;
    const struct graph *graph = tape->graph;
    for (value v = 0; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        if (node->op == OP_INPUT || node->op == OP_SLICE || l->absorbed[v])
            continue;
        struct step *step = &tape->steps[tape->step_count++];
        if (l->norm_of[v].out != NO_VALUE)
            *step = l->norm_of[v];
        else
            *step = (struct step){.kind = kinds[node->op], .node = node, .in = node->inputs[0], .out = v, .other = NO_VALUE};
        if (node->op == OP_ADD && step->kind == STEP_ADD)
            step->other = node->inputs[1];
        if (step->kind == STEP_NORM)
            step->norm.params = &step->node->as.batch_norm;
        if (step->kind == STEP_CONCAT) {
            step->copied_parts = arena_allocate_array(&tape->arena, (size_t)node->input_count, sizeof(bool));
            step->to_parts = arena_allocate_array(&tape->arena, (size_t)node->input_count, sizeof(enum contribution));
            if (!step->copied_parts || !step->to_parts)
                return status_out_of_memory((size_t)node->input_count, "a training step");
        }
        if (node->op == OP_TRANSPOSED_CONV2D
            && (node->as.conv.groups != node->channels || graph->nodes[node->inputs[0]].channels != node->channels))
            return status_set(DLA_ERROR_UNSUPPORTED,
                              "'%s' is a transposed convolution with %d groups for %d channels; training supports depthwise ones",
                              node->name, node->as.conv.groups, node->channels);
    }
    return DLA_OK;
}

/* Inputs of a concatenation are written straight into it where they have a map of their own and no other concatenation took them. */
static void place_concatenations(struct lowering *l)
{
    struct tape *tape = l->tape;
    for (int s = 0; s < tape->step_count; s++) {
        struct step *step = &tape->steps[s];
        if (step->kind != STEP_CONCAT)
            continue;
        const struct node *node = step->node;
        int channel = 0, whole = new_buffer(tape, step->out), gradient = new_buffer(tape, step->out);
        tape->forward[step->out] = (struct place){whole, 0};
        tape->backward[step->out] = (struct place){gradient, 0};
        for (int i = 0; i < node->input_count; i++) {
            value part = node->inputs[i];
            enum op op = tape->graph->nodes[part].op;
            step->copied_parts[i] = tape->forward[part].buffer != NO_BUFFER || op == OP_INPUT || op == OP_SLICE || op == OP_CONCAT
                                    || part == tape->graph->output;
            if (!step->copied_parts[i]) {
                tape->forward[part] = (struct place){whole, channel};
                tape->backward[part] = (struct place){gradient, channel};
            }
            channel += tape->graph->nodes[part].channels;
        }
    }
}

/* The step that makes a value; NULL for the input and for slices. */
static struct step *step_of(const struct tape *tape, value v)
{
    for (int s = 0; s < tape->step_count; s++)
        if (tape->steps[s].out == v)
            return &tape->steps[s];
    return NULL;
}

/* The batch norm that makes a value, if nothing is added to its result and only one convolution reads that. */
static struct step *deferrable_norm(const struct lowering *l, value v)
{
    struct step *step = step_of(l->tape, v);
    bool can =
        step && step->kind == STEP_NORM && step->other == NO_VALUE && l->consumers[v] == 1 && l->tape->forward[v].buffer == NO_BUFFER;
    return can ? step : NULL;
}

static int64_t image_floats(const struct tape *tape, value v)
{
    return value_pixels(tape, v) / tape->options.batch * tape->graph->nodes[v].channels;
}

/* Convolutions that run image by image have a batch norm behind them. It is worth it where maps are so large that a step finds in memory
 * what the step before has left, and weights so few that an image can have sums of their gradients for itself. */
static void choose_images(struct lowering *l)
{
    enum { LARGE_FLOATS = 64 * 1024, FLOATS_PER_WEIGHT = 4, LEAST_BATCH = 32 /* they are what threads share */ };
    struct tape *tape = l->tape;
    const struct tape_options *options = &tape->options;
    bool all = options->by_image == BY_IMAGE_ALL;
    if (options->by_image == BY_IMAGE_NONE || options->device != DLA_DEVICE_CPU || options->reference
        || (!all && options->batch < LEAST_BATCH))
        return;
    for (int s = 0; s + 1 < tape->step_count; s++) {
        struct step *step = &tape->steps[s], *next = step + 1;
        if (step->kind != STEP_CONV || next->kind != STEP_NORM || next->in != step->out || l->consumers[step->out] != 1
            || step->node->as.conv.bias != NO_PARAMETER)
            continue;
        int64_t maps = image_floats(tape, step->in) + image_floats(tape, step->out);
        if (!all && (maps < LARGE_FLOATS || maps < FLOATS_PER_WEIGHT * tape->graph->parameters[step->node->as.conv.weight].elements))
            continue;
        step->conv.norm_behind = next;
        step->conv.norm_before = deferrable_norm(l, step->in);
        next->norm.summed = true;
        if (step->conv.norm_before)
            step->conv.norm_before->norm.deferred = true;
    }
}

/* Everything else, in order: slices are views, and so are results that a convolution will make for itself; the rest gets buffers. */
static void place_values(struct lowering *l)
{
    struct tape *tape = l->tape;
    const struct graph *graph = tape->graph;
    for (value v = 0; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        if (l->absorbed[v] || tape->forward[v].buffer != NO_BUFFER)
            continue;
        if (node->op == OP_SLICE) {
            struct place in = tape->forward[node->inputs[0]], gradient = tape->backward[node->inputs[0]];
            tape->forward[v] = (struct place){in.buffer, in.channel + node->as.slice.first_channel};
            tape->backward[v] = (struct place){gradient.buffer, gradient.channel + node->as.slice.first_channel};
            continue;
        }
        const struct step *step = step_of(tape, v);
        if (step && step->norm.deferred)
            tape->forward[v] = tape->forward[step->in];
        else
            tape->forward[v] = (struct place){new_buffer(tape, v), 0};
        tape->backward[v] = (struct place){new_buffer(tape, v), 0};
    }
    /* A batch norm's input that only it reads takes its gradient where the batch norm's own gradient lies. */
    for (int s = tape->step_count - 1; s >= 0; s--) {
        struct step *step = &tape->steps[s];
        if (step->kind == STEP_NORM && l->consumers[step->in] == 1 && graph->nodes[step->in].op == OP_CONV2D)
            tape->backward[step->in] = tape->backward[step->out];
    }
}

dla_status tape_lower(struct tape *tape)
{
    const struct graph *graph = tape->graph;
    size_t n = (size_t)graph->node_count;
    struct lowering l = {.tape = tape};
    dla_status status = DLA_OK;
    l.consumers = memory_allocate_zeroed(n, sizeof(*l.consumers));
    l.absorbed = memory_allocate_zeroed(n, sizeof(*l.absorbed));
    l.norm_of = memory_allocate_zeroed(n, sizeof(*l.norm_of));
    if (!l.consumers || !l.absorbed || !l.norm_of) {
        status = status_out_of_memory(n * sizeof(*l.norm_of), "training steps");
        goto out;
    }
    for (value v = 0; v < graph->node_count; v++) {
        l.norm_of[v].out = NO_VALUE;
        tape->forward[v].buffer = tape->backward[v].buffer = NO_BUFFER;
        for (int i = 0; i < graph->nodes[v].input_count; i++)
            if (graph->nodes[v].op != OP_CROP || i == 0) /* a crop's second input only gives a size */
                l.consumers[graph->nodes[v].inputs[i]]++;
    }
    l.consumers[graph->output]++;
    fuse_norms(&l);
    status = make_steps(&l);
    if (status != DLA_OK)
        goto out;
    place_concatenations(&l);
    choose_images(&l);
    place_values(&l);
out:
    memory_free(l.consumers);
    memory_free(l.absorbed);
    memory_free(l.norm_of);
    return status;
}
