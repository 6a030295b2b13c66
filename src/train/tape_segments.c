/* tape_segments.c - which maps backward keeps and which it computes again (activation checkpointing).
 *
 * The steps are cut into segments. A map that is written and read within one segment alone is dropped when the segment's forward
 * is done; before the segment's backward its steps run again, in order, from the maps that were kept: those that cross a cut.
 * Batch norms keep their statistics, so the second time gives the same bits as the first, for one forward pass more at most.
 *
 *     time   0 .. n-1                forward
 *            n ..                    for every segment from the last to the first:  its steps again, then its backward
 *
 * The last segment's maps are still there when backward begins and never run again.
 */
#include "train/tape_steps.h"

#include "base/memory.h"
#include "base/status.h"

enum { UNSEEN = -2 };

/* A buffer stays as soon as two segments meet in it. */
static void meet(struct tape *tape, struct place place, int segment)
{
    if (place.buffer == NO_BUFFER)
        return;
    int *seen = &tape->buffers[place.buffer].segment;
    *seen = *seen == UNSEEN || *seen == segment ? segment : KEPT;
}

static void find_kept(struct tape *tape)
{
    const struct graph *graph = tape->graph;
    for (int i = 0; i < tape->buffer_count; i++)
        tape->buffers[i].segment = UNSEEN;
    for (int k = 0; k < tape->step_count; k++) {
        const struct step *step = &tape->steps[k];
        meet(tape, tape->forward[step->out], step->segment);
        meet(tape, tape->forward[step->in], step->segment);
        if (step->other != NO_VALUE)
            meet(tape, tape->forward[step->other], step->segment);
        if (step->kind == STEP_CONCAT)
            for (int i = 0; i < step->node->input_count; i++)
                meet(tape, tape->forward[step->node->inputs[i]], step->segment);
    }
    meet(tape, tape->forward[graph->input], KEPT);
    meet(tape, tape->forward[graph->output], KEPT);
    for (int i = 0; i < tape->buffer_count; i++)
        if (tape->buffers[i].segment < 0 || !tape->segments[tape->buffers[i].segment].again)
            tape->buffers[i].segment = KEPT;
    for (int k = 0; k < tape->step_count; k++)
        tape->steps[k].again = tape->buffers[tape->forward[tape->steps[k].out].buffer].segment != KEPT;
}

dla_status tape_cut(struct tape *tape, int64_t floats)
{
    int64_t together = 0;
    int time = tape->step_count;
    tape->segment_count = 0;
    if (tape->segments == NULL)
        tape->segments = arena_allocate_array(&tape->arena, (size_t)tape->step_count + 1, sizeof(*tape->segments));
    if (tape->segments == NULL)
        return status_out_of_memory((size_t)tape->step_count * sizeof(*tape->segments), "a training step");
    for (int k = 0; k < tape->step_count; k++) {
        if (k == 0 || (floats > 0 && together >= floats)) {
            tape->segments[tape->segment_count++] = (struct segment){.first = k, .again = true};
            together = 0;
        }
        tape->steps[k].segment = tape->segment_count - 1;
        tape->segments[tape->segment_count - 1].end = k + 1;
        together += value_pixels(tape, tape->steps[k].out) * tape->graph->nodes[tape->steps[k].out].channels;
    }
    tape->segments[tape->segment_count - 1].again = false;
    for (int s = tape->segment_count - 1; s >= 0; s--) {
        struct segment *segment = &tape->segments[s];
        int count = segment->end - segment->first;
        segment->again_time = time;
        segment->backward_time = segment->again ? time + count : time;
        time = segment->backward_time + count;
    }
    find_kept(tape);
    return DLA_OK;
}
