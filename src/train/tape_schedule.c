/* tape_schedule.c - who writes and who adds to each gradient, and when every map lives.
 *
 * The walk goes through backward as it will run and keeps, for every channel of every gradient, whether it has been written.
 * A contribution to channels that all are unwritten overwrites, to channels that all are written adds; where both occur, or a
 * gradient is read that nobody contributed to, the unwritten ones are zeroed first.
 */
#include "train/tape_steps.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

struct schedule {
    struct tape *tape;
    bool *needs;    /* per value: its gradient is wanted */
    bool **written; /* per buffer: per channel */
    bool failed;
};

static void touch(struct tape *tape, struct place place, int time)
{
    if (place.buffer == NO_BUFFER)
        return;
    struct buffer *b = &tape->buffers[place.buffer];
    struct lifetime *life = &b->lives[b->segment != KEPT && time >= tape->step_count];
    if (life->last < life->first)
        life->first = life->last = time;
    life->first = time < life->first ? time : life->first;
    life->last = time > life->last ? time : life->last;
}

static bool has_trained_parameters(const struct tape *tape, const struct step *step)
{
    switch (step->kind) {
    case STEP_CONV:
    case STEP_TRANSPOSED_CONV:
        return tape_trains(tape, step->node->as.conv.weight) || tape_trains(tape, step->node->as.conv.bias);
    case STEP_NORM:
        return tape_trains(tape, step->norm.params->weight) || tape_trains(tape, step->norm.params->bias);
    default:
        return false;
    }
}

static void add_zeroing(struct schedule *s, int step, struct place place, int channel, int channels)
{
    struct tape *tape = s->tape;
    if (tape->zeroing_count == tape->zeroing_capacity) {
        int capacity = tape->zeroing_capacity ? 2 * tape->zeroing_capacity : 16;
        struct zeroing *larger = memory_resize(tape->zeroings, (size_t)capacity * sizeof(*larger));
        if (larger == NULL) {
            s->failed = true;
            return;
        }
        tape->zeroings = larger;
        tape->zeroing_capacity = capacity;
    }
    tape->zeroings[tape->zeroing_count++] = (struct zeroing){step, place.buffer, channel, channels};
}

/* Zeroes what is unwritten of channels that `step` is about to read or add to. */
static void complete(struct schedule *s, int step, value v)
{
    struct place place = s->tape->backward[v];
    bool *written = s->written[place.buffer];
    int end = place.channel + s->tape->graph->nodes[v].channels;
    for (int c = place.channel; c < end;) {
        int run = c;
        while (run < end && !written[run])
            written[run++] = true;
        if (run > c)
            add_zeroing(s, step, place, c, run - c);
        c = run > c ? run : c + 1;
    }
}

static enum contribution contribute(struct schedule *s, int step, value v, bool can_write)
{
    struct tape *tape = s->tape;
    if (!s->needs[v])
        return CONTRIBUTE_NOTHING;
    struct place place = tape->backward[v];
    int channels = tape->graph->nodes[v].channels, count = 0;
    touch(tape, place, backward_time(tape, step));
    for (int c = 0; c < channels; c++)
        count += s->written[place.buffer][place.channel + c];
    if (count == 0 && can_write) {
        memset(s->written[place.buffer] + place.channel, true, (size_t)channels * sizeof(bool));
        return CONTRIBUTE_WRITE;
    }
    complete(s, step, v);
    return CONTRIBUTE_ADD;
}

/* What a convolution that runs image by image reads and writes beside its own maps. */
static void touch_norms(struct tape *tape, const struct step *step, int time)
{
    const struct step *behind = step->conv.norm_behind;
    touch(tape, tape->forward[step->out], time);
    if (behind->other != NO_VALUE) {
        touch(tape, tape->forward[behind->out], time);
        if (behind->to_other != CONTRIBUTE_NOTHING)
            touch(tape, tape->backward[behind->other], time);
    }
    if (step->conv.norm_before)
        touch(tape, tape->forward[step->in], time);
}

/* One step of the backward walk: what it reads and where it contributes. */
static void schedule_backward(struct schedule *s, int index)
{
    struct tape *tape = s->tape;
    struct step *step = &tape->steps[index];
    int time = backward_time(tape, index);
    touch(tape, tape->backward[step->out], time);
    complete(s, index, step->out);
    switch (step->kind) {
    case STEP_CONV:
    case STEP_TRANSPOSED_CONV:
        if (tape_trains(tape, step->node->as.conv.weight))
            touch(tape, tape->forward[step->in], time);
        step->to_in = contribute(s, index, step->in, step->kind == STEP_CONV);
        if (step->kind == STEP_CONV && step->conv.norm_behind)
            touch_norms(tape, step, time);
        break;
    case STEP_NORM:
        touch(tape, tape->forward[step->in], time);
        if (step->norm.relu && step->other != NO_VALUE)
            touch(tape, tape->forward[step->out], time);
        if (step->other != NO_VALUE)
            step->to_other = contribute(s, index, step->other, true);
        if (tape->backward[step->in].buffer == tape->backward[step->out].buffer) {
            step->to_in = CONTRIBUTE_WRITE; /* over its own gradient */
            touch(tape, tape->backward[step->in], time);
        } else {
            step->to_in = contribute(s, index, step->in, true);
        }
        break;
    case STEP_RELU:
        touch(tape, tape->forward[step->out], time);
        step->to_in = contribute(s, index, step->in, true);
        break;
    case STEP_ADD:
        step->to_in = contribute(s, index, step->in, true);
        step->to_other = contribute(s, index, step->other, true);
        break;
    case STEP_CONCAT:
        for (int i = 0; i < step->node->input_count; i++)
            if (step->copied_parts[i])
                step->to_parts[i] = contribute(s, index, step->node->inputs[i], true);
        break;
    case STEP_MAX_POOL:
        touch(tape, tape->forward[step->in], time);
        step->to_in = contribute(s, index, step->in, false);
        break;
    case STEP_AVERAGE_POOL:
    case STEP_CROP:
        step->to_in = contribute(s, index, step->in, false);
        break;
    case STEP_GLOBAL_AVERAGE_POOL:
        step->to_in = contribute(s, index, step->in, true);
        break;
    case STEP_LOG_SOFTMAX:
        touch(tape, tape->forward[step->out], time);
        step->to_in = contribute(s, index, step->in, true);
        break;
    }
}

static void schedule_forward(struct tape *tape, int index, int time)
{
    struct step *step = &tape->steps[index];
    touch(tape, tape->forward[step->out], time);
    touch(tape, tape->forward[step->in], time);
    if (step->other != NO_VALUE)
        touch(tape, tape->forward[step->other], time);
    if (step->kind == STEP_CONCAT)
        for (int i = 0; i < step->node->input_count; i++)
            touch(tape, tape->forward[step->node->inputs[i]], time);
}

static int64_t buffer_floats(const struct buffer *b)
{
    return b->lives[0].last < b->lives[0].first && b->lives[1].last < b->lives[1].first ? 0 : (b->pixels * b->pixel_stride + 15) / 16 * 16;
}

static int by_size(const void *a, const void *b)
{
    const struct buffer *const *x = a, *const *y = b;
    int64_t difference = buffer_floats(*y) - buffer_floats(*x);
    return difference > 0 ? 1 : difference < 0 ? -1 : *x < *y ? -1 : 1;
}

static bool overlap(struct lifetime a, struct lifetime b)
{
    return a.first <= b.last && b.first <= a.last && a.first <= a.last && b.first <= b.last;
}

static bool meet(const struct buffer *a, const struct buffer *b)
{
    return overlap(a->lives[0], b->lives[0]) || overlap(a->lives[0], b->lives[1]) || overlap(a->lives[1], b->lives[0])
           || overlap(a->lives[1], b->lives[1]);
}

/* Largest first, each at the lowest offset where it meets no buffer of an overlapping lifetime. */
static dla_status place_buffers(struct tape *tape)
{
    int count = tape->buffer_count;
    struct buffer **order = memory_allocate((size_t)count * sizeof(*order));
    if (order == NULL)
        return status_out_of_memory((size_t)count * sizeof(*order), "placing activations");
    for (int i = 0; i < count; i++) {
        order[i] = &tape->buffers[i];
        order[i]->offset = 0;
    }
    tape->block_floats = 0;
    qsort(order, (size_t)count, sizeof(*order), by_size);
    for (int i = 0; i < count && buffer_floats(order[i]); i++) {
        struct buffer *b = order[i];
        bool moved = true;
        while (moved) {
            moved = false;
            for (int j = 0; j < i; j++) {
                const struct buffer *other = order[j];
                if (meet(other, b) && other->offset < b->offset + buffer_floats(b) && b->offset < other->offset + buffer_floats(other)) {
                    b->offset = other->offset + buffer_floats(other);
                    moved = true;
                }
            }
        }
        int64_t end = b->offset + buffer_floats(b);
        tape->block_floats = end > tape->block_floats ? end : tape->block_floats;
    }
    memory_free(order);
    return DLA_OK;
}

/* For the cut that is made. */
static dla_status schedule(struct tape *tape)
{
    const struct graph *graph = tape->graph;
    struct schedule s = {.tape = tape};
    dla_status status = DLA_OK;
    s.needs = memory_allocate_zeroed((size_t)graph->node_count, sizeof(bool));
    s.written = memory_allocate_zeroed((size_t)tape->buffer_count, sizeof(*s.written));
    if (!s.needs || !s.written) {
        status = status_out_of_memory((size_t)graph->node_count, "scheduling gradients");
        goto out;
    }
    tape->zeroing_count = 0;
    for (int i = 0; i < tape->buffer_count; i++) {
        tape->buffers[i].lives[0] = tape->buffers[i].lives[1] = (struct lifetime){1, 0};
        if ((s.written[i] = memory_allocate_zeroed((size_t)tape->buffers[i].channels, sizeof(bool))) == NULL) {
            status = status_out_of_memory((size_t)tape->buffers[i].channels, "scheduling gradients");
            goto out;
        }
    }
    /* Steps are in topological order, and so are slices, which have none. */
    for (value v = 0, k = 0; v < graph->node_count; v++) {
        if (graph->nodes[v].op == OP_SLICE)
            s.needs[v] = s.needs[graph->nodes[v].inputs[0]];
        for (; k < tape->step_count && tape->steps[k].out == v; k++) {
            struct step *step = &tape->steps[k];
            step->has_backward =
                has_trained_parameters(tape, step) || s.needs[step->in] || (step->other != NO_VALUE && s.needs[step->other]);
            if (step->kind == STEP_CONCAT)
                for (int i = 0; i < step->node->input_count; i++)
                    step->has_backward = step->has_backward || s.needs[step->node->inputs[i]];
            if (step->kind == STEP_NORM)
                step->norm.fixed = !tape_trains(tape, step->norm.params->weight);
            if (step->kind == STEP_CONV && step->conv.norm_behind)
                step->conv.norm_behind->norm.applied = step->has_backward;
            s.needs[v] = step->has_backward;
            schedule_forward(tape, k, k);
            if (step->again) {
                const struct segment *segment = &tape->segments[step->segment];
                schedule_forward(tape, k, segment->again_time + k - segment->first);
            }
        }
    }
    touch(tape, tape->forward[graph->output], 3 * tape->step_count);
    touch(tape, tape->backward[graph->output], tape->step_count - 1);
    struct place output = tape->backward[graph->output];
    memset(s.written[output.buffer] + output.channel, true, (size_t)graph->nodes[graph->output].channels * sizeof(bool));
    for (int k = tape->step_count - 1; k >= 0; k--)
        if (tape->steps[k].has_backward)
            schedule_backward(&s, k);
    status = s.failed ? status_out_of_memory(sizeof(struct zeroing), "scheduling gradients") : place_buffers(tape);
out:
    for (int i = 0; s.written && i < tape->buffer_count; i++)
        memory_free(s.written[i]);
    memory_free(s.written);
    memory_free(s.needs);
    return status;
}

/* Where maps may be computed again, several ways of cutting are laid out and the one that needs the least memory is taken. */
dla_status tape_schedule(struct tape *tape)
{
    enum { MOST_CUTS = 24 };
    int64_t all = 0, best = 0;
    dla_status status = tape_cut(tape, 0);
    if (status == DLA_OK)
        status = schedule(tape);
    tape->kept_floats = tape->block_floats;
    for (int k = 0; k < tape->step_count; k++)
        all += value_pixels(tape, tape->steps[k].out) * tape->graph->nodes[tape->steps[k].out].channels;
    for (int cuts = 2; cuts <= MOST_CUTS && tape->options.recompute && status == DLA_OK; cuts++) {
        int64_t least = tape->block_floats;
        status = tape_cut(tape, all / cuts);
        if (status == DLA_OK)
            status = schedule(tape);
        if (status == DLA_OK && tape->block_floats < least)
            best = all / cuts;
        tape->block_floats = tape->block_floats < least ? tape->block_floats : least;
    }
    if (status == DLA_OK && tape->options.recompute)
        status = tape_cut(tape, best);
    return status == DLA_OK && tape->options.recompute ? schedule(tape) : status;
}
