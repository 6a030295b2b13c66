/* locate.c - where every value lives.
 *
 * A value usually gets a block of memory of its own. Four cases share one:
 *
 *     slice           a range of channels of the block that it is cut from
 *     concatenation   one block; parts that a step computes are written there, others are copied
 *     parts that die  neighbouring sources of one convolution that nobody reads later lie side by side, so that the
 *                     convolution reads them as one source (a Res2Net chain, the last two maps of an aggregation node)
 *     residual        a result overwrites its residual where that is read for the last time
 *
 * The reference plan shares nothing.
 */
#include "base/status.h"
#include "plan/device.h"
#include "plan/plan_cuda.h"
#include "plan/steps.h"

enum {
    READ_BY_CALLER = 1 << 30,      /* later than any step */
    BLOCK_ALIGNMENT = 128          /* bytes: a GPU's cache line */
};

struct reads {
    int *producer;  /* per value: the step that computes it, or -1 */
    int *last;      /* per value: the last step that reads it */
    int *last_of_block;
};

/* A slice's block is that of the value that it is cut from. */
static value root_value(const struct plan *plan, value v)
{
    while (plan->graph->nodes[v].op == OP_SLICE && !plan->options.reference)
        v = plan->graph->nodes[v].inputs[0];
    return v;
}

static struct place place_of(const struct plan *plan, value v)
{
    int channel = 0;

    for (; plan->graph->nodes[v].op == OP_SLICE && !plan->options.reference; v = plan->graph->nodes[v].inputs[0])
        channel += plan->graph->nodes[v].as.slice.first_channel;
    struct place place = plan->places[v];
    place.channel += channel;
    return place;
}

static void note_read(const struct plan *plan, struct reads *reads, value v, int step)
{
    value root = root_value(plan, v);
    if (reads->last[root] < step)
        reads->last[root] = step;
}

static bool collect_reads(struct plan *plan, struct reads *reads)
{
    size_t nodes = (size_t)plan->graph->node_count;

    reads->producer = arena_allocate_array(&plan->arena, nodes, sizeof *reads->producer);
    reads->last = arena_allocate_array(&plan->arena, nodes, sizeof *reads->last);
    reads->last_of_block = arena_allocate_array(&plan->arena, nodes, sizeof *reads->last_of_block);
    if (!reads->producer || !reads->last || !reads->last_of_block)
        return false;
    for (size_t v = 0; v < nodes; v++) {
        reads->producer[v] = -1;
        reads->last[v] = -1;
    }
    for (int i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (step->op != OP_CONCAT)
            reads->producer[step->out] = i;
        for (int k = 0; k < step->input_count; k++)
            note_read(plan, reads, step->inputs[k].value, i);
        if (step->residual != NO_VALUE)
            note_read(plan, reads, step->residual, i);
    }
    for (int i = 0; i < plan->output_count; i++)
        note_read(plan, reads, plan->outputs[i], READ_BY_CALLER);
    return true;
}

/* Floats or halves from pixel to pixel. A photograph's three channels get zeros behind them on a GPU. */
static int pixel_stride(const struct plan *plan, value like, int channels)
{
    bool is_input = plan->graph->nodes[like].op == OP_INPUT;

    if (plan_is_on_cuda(plan)) {
        int unit = CUDA_PIXEL_BYTES / (int)precision_bytes(plan->options.precision);
        return is_input ? (channels + unit - 1) / unit * unit : channels;
    }
    return is_input || plan->options.reference ? channels : map_stride(channels);
}

static int new_block(struct plan *plan, value like, int channels)
{
    plan->blocks[plan->block_count] = (struct block){
        .height = plan->sizes[like].height,
        .width = plan->sizes[like].width,
        .channels = channels,
        .pixel_stride = pixel_stride(plan, like, channels),
    };
    return plan->block_count++;
}

static void put(struct plan *plan, struct reads *reads, value v, struct place place)
{
    plan->places[v] = place;
    if (reads->last_of_block[place.block] < reads->last[v])
        reads->last_of_block[place.block] = reads->last[v];
}

/* May still be put wherever its reader likes. */
static bool is_free(const struct plan *plan, const struct reads *reads, value v)
{
    return !plan->options.reference && reads->producer[v] >= 0 && plan->places[v].block < 0;
}

/* Copies to a concatenation of which each step fills one part; neighbours in the array belong together. */
static void locate_concat(struct plan *plan, struct reads *reads, struct step *step)
{
    const struct graph *graph = plan->graph;
    value concat = step->out, part = step->inputs[0].value;

    if (plan->places[concat].block < 0)
        put(plan, reads, concat, (struct place){new_block(plan, concat, graph->nodes[concat].channels), 0});
    int filled = 0;
    for (const struct step *earlier = step - 1; earlier >= plan->steps && earlier->out == concat && earlier->op == OP_CONCAT; earlier--)
        filled += earlier->channels;
    struct place place = {plan->places[concat].block, filled};
    if (is_free(plan, reads, part))
        put(plan, reads, part, place);
    else
        step->out_place = place;
}

/* Runs of neighbouring sources that end with this step. */
static void locate_sources(struct plan *plan, struct reads *reads, int index)
{
    const struct step *step = &plan->steps[index];

    for (int begin = 0, end; begin < step->input_count; begin = end + 1) {
        int channels = 0;
        for (end = begin; end < step->input_count; end++) {
            value v = step->inputs[end].value;
            bool repeated = false;
            for (int i = begin; i < end; i++)
                repeated = repeated || step->inputs[i].value == v;
            if (repeated || !is_free(plan, reads, v) || reads->last[v] > index)
                break;
            channels += step->inputs[end].channels;
        }
        if (end - begin < 2)
            continue;
        int block = new_block(plan, step->inputs[begin].value, channels);
        for (int i = begin, channel = 0; i < end; i++) {
            put(plan, reads, step->inputs[i].value, (struct place){block, channel});
            channel += step->inputs[i].channels;
        }
    }
}

/* The result may overwrite v: same pixels and channels, nobody reads v's block later, no other source lies in it. */
static bool can_overwrite(const struct plan *plan, const struct reads *reads, int index, value v)
{
    const struct step *step = &plan->steps[index];
    struct place place = place_of(plan, v);
    int occurrences = 0;

    if (plan->options.reference || place.block < 0 || place.channel != 0 || plan->blocks[place.block].channels != step->channels)
        return false;
    if (plan->graph->nodes[root_value(plan, v)].op == OP_INPUT || reads->last_of_block[place.block] > index)
        return false;
    for (int i = 0; i < step->input_count; i++)
        occurrences += place_of(plan, step->inputs[i].value).block == place.block;
    if (step->residual != NO_VALUE)
        occurrences += place_of(plan, step->residual).block == place.block;
    return occurrences == 1;
}

static void locate_result(struct plan *plan, struct reads *reads, int index)
{
    struct step *step = &plan->steps[index];
    bool elementwise = step->op == OP_ADD || step->op == OP_RELU || step->op == OP_BATCH_NORM || step->op == OP_LOG_SOFTMAX;
    int candidates = elementwise ? step->input_count : 0;

    if (plan->places[step->out].block >= 0)
        return;
    if (step->residual != NO_VALUE && can_overwrite(plan, reads, index, step->residual)) {
        put(plan, reads, step->out, place_of(plan, step->residual));
        return;
    }
    for (int i = 0; i < candidates; i++)
        if (can_overwrite(plan, reads, index, step->inputs[i].value)) {
            put(plan, reads, step->out, place_of(plan, step->inputs[i].value));
            return;
        }
    put(plan, reads, step->out, (struct place){new_block(plan, step->out, step->channels), 0});
}

/* Drops copies that turned out to be needless. */
static void drop_written_parts(struct plan *plan)
{
    int kept = 0;

    for (int i = 0; i < plan->step_count; i++)
        if (plan->steps[i].op != OP_CONCAT || plan->steps[i].out_place.block >= 0)
            plan->steps[kept++] = plan->steps[i];
    plan->step_count = kept;
}

static void touch(struct block *block, int step)
{
    if (block->first_step > step)
        block->first_step = step;
    if (block->last_step < step)
        block->last_step = step;
}

static void find_lifetimes(struct plan *plan)
{
    for (int i = 0; i < plan->block_count; i++) {
        struct block *block = &plan->blocks[i];
        block->first_step = READ_BY_CALLER;
        block->last_step = -1;
        block->bytes = (size_t)plan->options.batch * (size_t)block->height * (size_t)block->width * (size_t)block->pixel_stride
                       * precision_bytes(plan->options.precision);
        block->bytes = (block->bytes + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
    }
    for (int i = 0; i < plan->graph->input_count; i++)
        touch(&plan->blocks[plan->places[plan->graph->inputs[i]].block], -1);
    for (int i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        touch(&plan->blocks[step->out_place.block], i);
        for (int k = 0; k < step->input_count; k++)
            touch(&plan->blocks[place_of(plan, step->inputs[k].value).block], i);
        if (step->residual != NO_VALUE)
            touch(&plan->blocks[place_of(plan, step->residual).block], i);
    }
    for (int i = 0; i < plan->output_count; i++)
        touch(&plan->blocks[place_of(plan, plan->outputs[i]).block], plan->step_count);
    for (int i = 0; plan_is_on_cuda(plan) && i < plan->block_count; i++) /* steps side by side: pass_cuda.c */
        plan->blocks[i].last_step += CUDA_LONGER_LIFE;
}

/* Neighbouring sources that lie side by side are one. */
static void merge_sources(struct plan *plan, struct step *step)
{
    int kept = 0;

    for (int i = 0; i < step->input_count; i++) {
        struct place place = place_of(plan, step->inputs[i].value);
        struct place last = kept > 0 ? place_of(plan, step->inputs[kept - 1].value) : (struct place){-1, 0};
        if (kept > 0 && last.block == place.block && last.channel + step->inputs[kept - 1].channels == place.channel)
            step->inputs[kept - 1].channels += step->inputs[i].channels;
        else
            step->inputs[kept++] = step->inputs[i];
    }
    step->input_count = kept;
}

dla_status plan_locate(struct plan *plan)
{
    const struct graph *graph = plan->graph;
    size_t nodes = (size_t)graph->node_count;
    struct reads reads;

    plan->places = arena_allocate_array(&plan->arena, nodes, sizeof *plan->places);
    plan->blocks = arena_allocate_array(&plan->arena, nodes, sizeof *plan->blocks);
    if (!plan->places || !plan->blocks || !collect_reads(plan, &reads))
        return status_out_of_memory(nodes * sizeof *plan->blocks, "the places of a plan");
    for (size_t v = 0; v < nodes; v++)
        plan->places[v] = (struct place){-1, 0};

    for (int i = 0; i < graph->input_count; i++) {
        value input = graph->inputs[i];
        put(plan, &reads, input, (struct place){new_block(plan, input, graph->nodes[input].channels), 0});
    }
    for (int i = 0; i < plan->step_count; i++)
        if (plan->steps[i].op == OP_CONCAT)
            locate_concat(plan, &reads, &plan->steps[i]);
    for (int i = 0; i < plan->step_count; i++)
        if (plan->steps[i].op == OP_CONV2D && plan->steps[i].input_count > 1)
            locate_sources(plan, &reads, i);
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].op == OP_CONCAT)
            continue;
        locate_result(plan, &reads, i);
        plan->steps[i].out_place = plan->places[plan->steps[i].out];
    }
    drop_written_parts(plan);
    for (int i = 0; i < plan->output_count; i++) /* an output that is a slice gets a place to look up */
        plan->places[plan->outputs[i]] = place_of(plan, plan->outputs[i]);
    for (int i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if (step->op == OP_CONV2D)
            merge_sources(plan, step);
        for (int k = 0; k < step->input_count; k++)
            step->inputs[k].place = place_of(plan, step->inputs[k].value);
        if (step->residual != NO_VALUE)
            step->residual_place = place_of(plan, step->residual);
    }
    find_lifetimes(plan);
    return DLA_OK;
}
