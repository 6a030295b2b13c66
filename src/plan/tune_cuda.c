/* tune_cuda.c - which variant of its kernel each convolution runs on the GPU.
 *
 * Estimates put a first guess first. Where measuring is asked for, all variants of a shape are timed alone, and the best few within the
 * pass; what was chosen is remembered (kernel_times.h).
 */
#include "plan/cuda_steps.h"

#include "base/status.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST_RUNS = 10,   /* of one step */
    TIMED_PASSES = 12 /* of the network */
};
static const double longest_pass = 3e-3; /* seconds: longer passes are the sum of their steps */
static const double certain = 0.995;     /* share of a pass's time that tells two variants apart */
static const double hopeless = 4.0;      /* times the cheapest estimate: estimates are rough, but not so rough */

/* Seconds of one launch of a graph: of `launches` after one that warms up. Queued one behind the other, their starts cost nothing. */
static cudaError_t time_graph(struct cuda_plan *cuda, cudaGraphExec_t graph, int launches, double *seconds)
{
    float milliseconds = 0.0f;
    cudaError_t error = cudaGraphLaunch(graph, cuda->streams[0]);

    (void)cudaEventRecord(cuda->begin, cuda->streams[0]);
    for (int i = 0; i < launches && error == cudaSuccess; i++)
        error = cudaGraphLaunch(graph, cuda->streams[0]);
    (void)cudaEventRecord(cuda->end, cuda->streams[0]);
    if (error == cudaSuccess)
        error = cudaEventSynchronize(cuda->end);
    if (error == cudaSuccess)
        error = cudaEventElapsedTime(&milliseconds, cuda->begin, cuda->end);
    *seconds = 1e-3 * (double)milliseconds / launches;
    return error;
}

/* So many runs that their time is well above the clock's resolution, as far as that is not true of one. */
static int runs_of(const struct cuda_step *step)
{
    const double enough = 2e9; /* multiply-adds: some tens of microseconds */
    const struct conv_shape *s = step->conv.shape;

    if (!step->kernel)
        return MOST_RUNS;
    double runs =
        enough / ((double)s->batch * s->out_height * s->out_width * s->out_channels * s->in_channels / s->groups * s->kernel * s->kernel);
    return runs < 1.0 ? 1 : runs > MOST_RUNS ? MOST_RUNS : (int)runs;
}

cudaError_t cuda_plan_time_launches(struct cuda_plan *cuda, const struct cuda_step *step, double *seconds)
{
    int runs = runs_of(step);
    double together = 0.0;
    cudaGraphExec_t graph = NULL;
    cudaError_t error = cuda_plan_record(cuda, step, runs, &graph);

    if (error == cudaSuccess)
        error = time_graph(cuda, graph, 1, &together);
    if (graph)
        (void)cudaGraphExecDestroy(graph);
    *seconds = together / runs;
    return error;
}

static cudaError_t time_pass(struct cuda_plan *cuda, double *seconds)
{
    cudaGraphExec_t graph = NULL;
    cudaError_t error = cuda_plan_record(cuda, NULL, 1, &graph);

    if (error == cudaSuccess)
        error = time_graph(cuda, graph, 1, seconds);
    if (error == cudaSuccess && *seconds < longest_pass)
        error = time_graph(cuda, graph, TIMED_PASSES, seconds);
    if (graph)
        (void)cudaGraphExecDestroy(graph);
    return error;
}

/* "gemm_64x32_4_float32@NVIDIA_H200": what a variant's time is remembered by. */
static void remembered_name(const struct cuda_plan *cuda, const struct cuda_step *step, int variant, char *name /* (KERNEL_NAME_SIZE) */)
{
    step->kernel->name_variant(&step->conv, &cuda->device, variant, name, KERNEL_NAME_SIZE);
    size_t length = strlen(name);
    (void)snprintf(name + length, KERNEL_NAME_SIZE - length, "@%s", cuda->device.name);
    for (; name[length] != '\0'; length++)
        if (isspace((unsigned char)name[length]))
            name[length] = '_';
}

/* The variant of the shortest remembered time; -1 where there is none. */
static int remembered_variant(const struct cuda_plan *cuda, const struct cuda_step *step, const struct kernel_times *times)
{
    double best = 0.0;
    int chosen = -1, count = step->kernel->variants(&step->conv, &cuda->device);

    for (int i = 0; i < count; i++) {
        char name[KERNEL_NAME_SIZE];
        remembered_name(cuda, step, i, name);
        double microseconds = kernel_times_find(times, name, 1, step->conv.shape);
        if (microseconds > 0.0 && (chosen < 0 || microseconds < best)) {
            best = microseconds;
            chosen = i;
        }
    }
    return chosen;
}

/* Remembers the variant of a step that was measured, and that any other which was remembered before it is slower. */
static dla_status remember_variant(const struct cuda_plan *cuda, const struct cuda_step *step, struct kernel_times *times)
{
    dla_status status = DLA_OK;
    int count = step->kernel->variants(&step->conv, &cuda->device);

    for (int i = 0; i < count && status == DLA_OK; i++) {
        char name[KERNEL_NAME_SIZE];
        remembered_name(cuda, step, i, name);
        if (i == step->variant)
            status = kernel_times_set(times, name, 1, step->conv.shape, 1e6 * step->best_seconds);
        else if (kernel_times_find(times, name, 1, step->conv.shape) > 0.0)
            status = kernel_times_set(times, name, 1, step->conv.shape, 2e6 * step->best_seconds);
    }
    return status;
}

/* Times the variants of a step alone, but for hopeless ones. */
static dla_status measure_variants(struct cuda_plan *cuda, struct cuda_step *step)
{
    double times[CANDIDATES] = {0.0};
    int count = step->kernel->variants(&step->conv, &cuda->device);

    for (int i = 0; i < count; i++) {
        double seconds = 0.0;
        if (step->kernel->cost
            && step->kernel->cost(&step->conv, &cuda->device, i) > hopeless * step->kernel->cost(&step->conv, &cuda->device, 0))
            continue;
        step->variant = i;
        cudaError_t error = cuda_plan_time_launches(cuda, step, &seconds);
        if (error != cudaSuccess) {
            char name[KERNEL_NAME_SIZE], what[KERNEL_NAME_SIZE + 16];
            step->kernel->name_variant(&step->conv, &cuda->device, i, name, sizeof name);
            (void)snprintf(what, sizeof what, "time %s", name);
            return cuda_status(error, what);
        }
        int at = step->candidate_count < CANDIDATES ? step->candidate_count++ : CANDIDATES;
        for (; at > 0 && seconds < times[at - 1]; at--)
            if (at < CANDIDATES) {
                times[at] = times[at - 1];
                step->candidates[at] = step->candidates[at - 1];
            }
        if (at < CANDIDATES) {
            times[at] = seconds;
            step->candidates[at] = i;
        }
    }
    step->variant = step->candidates[0];
    step->best_seconds = times[0];
    return DLA_OK;
}

static dla_status choose_variant(struct cuda_plan *cuda, struct cuda_step *step, const struct kernel_times *times)
{
    dla_tune tune = cuda->plan->options.tune;
    int remembered = tune == DLA_TUNE_NEVER ? -1 : remembered_variant(cuda, step, times);

    step->variant = remembered >= 0 ? remembered : 0;
    if (step->kernel->variants(&step->conv, &cuda->device) > 1 && (tune == DLA_TUNE_ALWAYS || (tune == DLA_TUNE_MISSING && remembered < 0)))
        return measure_variants(cuda, step);
    return DLA_OK;
}

/* Views that a kernel can access alike. */
static bool same_alignment(struct cuda_view a, struct cuda_view b)
{
    return (uintptr_t)a.data % CUDA_PIXEL_BYTES == (uintptr_t)b.data % CUDA_PIXEL_BYTES && a.pixel_stride == b.pixel_stride;
}

/* Networks repeat their shapes: each is measured once, and all its steps run the same variant. */
static bool same_choice(const struct cuda_step *a, const struct cuda_step *b)
{
    if (a->kernel != b->kernel || memcmp(a->conv.shape, b->conv.shape, sizeof *a->conv.shape) != 0 || a->conv.padded != b->conv.padded)
        return false;
    for (int i = 0; i < a->conv.shape->source_count; i++)
        if (!same_alignment(a->conv.sources[i], b->conv.sources[i]))
            return false;
    return true;
}

static void set_variant(struct cuda_plan *cuda, struct cuda_step *step, int variant)
{
    for (struct cuda_step *other = step; other < cuda->steps + cuda->plan->step_count; other++)
        if (other->kernel && same_choice(other, step))
            other->variant = variant;
}

/* Kernels of a few microseconds overlap with their neighbours, so the fastest alone need not be the fastest here: of every shape that
 * was measured the best few are tried in the whole pass. */
static dla_status refine_variants(struct cuda_plan *cuda)
{
    double best, seconds;
    cudaError_t error = time_pass(cuda, &best);

    for (int i = 0; i < cuda->plan->step_count && error == cudaSuccess && best < longest_pass; i++) {
        struct cuda_step *step = &cuda->steps[i];
        for (int k = 1; k < step->candidate_count && error == cudaSuccess; k++) {
            int before = step->variant;
            set_variant(cuda, step, step->candidates[k]);
            error = time_pass(cuda, &seconds);
            if (error == cudaSuccess && seconds < certain * best)
                best = seconds;
            else
                set_variant(cuda, step, before);
        }
    }
    return cuda_status(error, "time the network on the GPU");
}

dla_status cuda_plan_choose_variants(struct cuda_plan *cuda)
{
    struct kernel_times times = {0};
    dla_status status = DLA_OK;
    bool measured = false;

    if (cuda->plan->options.tune != DLA_TUNE_NEVER)
        kernel_times_load(&times);
    for (int i = 0; i < cuda->plan->step_count && status == DLA_OK; i++) {
        struct cuda_step *step = &cuda->steps[i];
        bool seen = false;
        for (int k = 0; step->kernel && k < i && !seen; k++)
            seen = cuda->steps[k].kernel && same_choice(&cuda->steps[k], step);
        if (step->kernel && !seen) {
            status = choose_variant(cuda, step, &times);
            set_variant(cuda, step, step->variant);
            measured = measured || step->candidate_count > 0;
        }
    }
    if (status == DLA_OK && measured)
        status = refine_variants(cuda);
    for (int i = 0; i < cuda->plan->step_count && status == DLA_OK; i++) {
        struct cuda_step *step = &cuda->steps[i];
        if (step->kernel)
            step->kernel->name_variant(&step->conv, &cuda->device, step->variant, step->name, sizeof step->name);
        if (step->kernel && step->candidate_count > 0)
            status = remember_variant(cuda, step, &times);
    }
    kernel_times_save(&times);
    kernel_times_free(&times);
    return status;
}
