/* pass_cuda.c - one pass over a network's steps on the GPU, in two streams.
 *
 * A tree's projection and its first block read the same map and not each other's results; of kernels that take a few microseconds and
 * fill a part of the device, two at once cost hardly more than one. Steps go to two streams in the plan's order:
 *
 *     a step that needs what a stream did last     goes on there
 *     any other                                    goes to the other stream than the step before
 *
 * and waits for the last step of the other stream that touches its memory: results that it reads, maps whose place it overwrites. So
 * nothing rests on the lifetimes that places were given by, and streams cannot disturb each other. (A longer life, locate.c, keeps a
 * place from being used again at once, which would make steps wait.) Large batches fill the device with one step; they stay in one
 * stream.
 */
#include "plan/cuda_steps.h"

#include "base/status.h"

static const int64_t most_pixels = 16 * 224 * 224; /* of the input, in two streams */

/* ---- the order --------------------------------------------------------------------------------------------------------- */

static bool share_block(const struct plan *plan, struct place a, struct place b)
{
    if (a.block < 0 || b.block < 0)
        return false;
    const struct block *x = &plan->blocks[a.block], *y = &plan->blocks[b.block];
    return x->offset < y->offset + y->bytes && y->offset < x->offset + x->bytes;
}

/* Whether `step` reads or writes memory of that place. */
static bool touches(const struct plan *plan, const struct step *step, struct place place)
{
    bool found = share_block(plan, step->out_place, place);

    for (int i = 0; i < step->input_count; i++)
        found = found || share_block(plan, step->inputs[i].place, place);
    return found || (step->residual != NO_VALUE && share_block(plan, step->residual_place, place));
}

/* One of them writes what the other reads or writes. */
static bool conflict(const struct plan *plan, int a, int b)
{
    const struct step *x = &plan->steps[a], *y = &plan->steps[b];
    return touches(plan, x, y->out_place) || touches(plan, y, x->out_place);
}

/* The last step before `step` in that stream that it must not overtake. */
static int last_conflict(const struct cuda_plan *cuda, int step, int stream)
{
    for (int i = step - 1; i >= 0; i--)
        if (cuda->steps[i].stream == stream && conflict(cuda->plan, i, step))
            return i;
    return NO_STEP;
}

void cuda_plan_order(struct cuda_plan *cuda)
{
    const struct plan *plan = cuda->plan;
    bool two = (int64_t)plan->options.batch * plan->options.height * plan->options.width <= most_pixels;
    int tail[STREAMS] = {NO_STEP, NO_STEP}, waited[STREAMS] = {NO_STEP, NO_STEP}, stream = 0;

    for (int i = 0; i < plan->step_count; i++) {
        struct cuda_step *step = &cuda->steps[i];
        step->waits_for = NO_STEP;
        if (!two)
            continue;
        int last[STREAMS] = {last_conflict(cuda, i, 0), last_conflict(cuda, i, 1)};
        bool follows[STREAMS] = {last[0] != NO_STEP && last[0] == tail[0], last[1] != NO_STEP && last[1] == tail[1]};
        if (follows[0] && follows[1])
            stream = tail[1] > tail[0];
        else if (follows[0] || follows[1])
            stream = follows[1];
        else if (i > 0)
            stream = 1 - stream;
        step->stream = stream;
        tail[stream] = i;
        int other = last[1 - stream];
        if (other > waited[stream])
            step->waits_for = waited[stream] = other;
    }
}

dla_status cuda_plan_make_events(struct cuda_plan *cuda)
{
    cudaError_t error = cudaSuccess;

    for (int i = 0; i < cuda->plan->step_count && error == cudaSuccess; i++) {
        int before = cuda->steps[i].waits_for;
        if (before != NO_STEP && !cuda->steps[before].ended)
            error = cudaEventCreateWithFlags(&cuda->steps[before].ended, cudaEventDisableTiming);
    }
    return cuda_status(error, "make an event");
}

/* ---- the pass ---------------------------------------------------------------------------------------------------------- */

static cudaError_t launch_step(struct cuda_plan *cuda, const struct cuda_step *step, cudaStream_t stream)
{
    if (step->kernel)
        return step->kernel->run(&step->conv, &cuda->device, step->variant, stream);
    step->function(&step->map, stream);
    return cudaPeekAtLastError();
}

static cudaError_t launch_in_turn(struct cuda_plan *cuda, const struct cuda_step *step)
{
    cudaStream_t stream = cuda->streams[step->stream];
    cudaError_t error = cudaSuccess;

    if (step->waits_for != NO_STEP)
        error = cudaStreamWaitEvent(stream, cuda->steps[step->waits_for].ended, 0);
    if (error == cudaSuccess)
        error = launch_step(cuda, step, stream);
    if (error == cudaSuccess && step->ended)
        error = cudaEventRecord(step->ended, stream);
    return error;
}

/* `after` waits until all that is in `before` has ended. */
static cudaError_t link_streams(cudaStream_t before, cudaStream_t after, cudaEvent_t event)
{
    cudaError_t error = cudaEventRecord(event, before);
    return error == cudaSuccess ? cudaStreamWaitEvent(after, event, 0) : error;
}

static cudaError_t launch_pass(struct cuda_plan *cuda)
{
    cudaError_t error = cudaSuccess;

    for (int i = 0; i < cuda->input_count; i++) {
        const struct border *b = &cuda->inputs[i];
        cuda_pad_channels(b->device, b->pixels, b->channels, cuda->format, b->view, b->padded, cuda->streams[0]);
    }
    error = link_streams(cuda->streams[0], cuda->streams[1], cuda->forked);
    for (int i = 0; i < cuda->plan->step_count && error == cudaSuccess; i++)
        error = launch_in_turn(cuda, &cuda->steps[i]);
    if (error == cudaSuccess)
        error = link_streams(cuda->streams[1], cuda->streams[0], cuda->joined);
    for (int i = 0; i < cuda->output_count; i++) {
        const struct border *b = &cuda->outputs[i];
        cuda_to_float(cuda->format, b->view, b->pixels, b->channels, b->device, cuda->streams[0]);
    }
    return error != cudaSuccess ? error : cudaPeekAtLastError();
}

cudaError_t cuda_plan_record(struct cuda_plan *cuda, const struct cuda_step *step, int count, cudaGraphExec_t *recorded)
{
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamBeginCapture(cuda->streams[0], cudaStreamCaptureModeThreadLocal), ended;

    if (error != cudaSuccess)
        return error;
    for (int i = 0; i < count && error == cudaSuccess; i++)
        error = step ? launch_step(cuda, step, cuda->streams[0]) : launch_pass(cuda);
    ended = cudaStreamEndCapture(cuda->streams[0], &graph);
    error = error != cudaSuccess ? error : ended;
    if (error == cudaSuccess)
        error = cudaGraphInstantiate(recorded, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    return error;
}
