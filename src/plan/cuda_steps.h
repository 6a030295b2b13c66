/* cuda_steps.h - what a plan on the GPU consists of.
 *
 *     plan_cuda.c   calls, weights, borders; making and running
 *     tune_cuda.c   which variant of its kernel each convolution runs
 *     pass_cuda.c   the order of a pass: two streams, recorded as a graph
 */
#ifndef DLA_PLAN_CUDA_STEPS_H
#define DLA_PLAN_CUDA_STEPS_H

#include "cuda/cuda_conv.h"
#include "cuda/cuda_map.h"
#include "plan/kernel_times.h"
#include "plan/plan_cuda.h"

enum {
    CANDIDATES = 4,            /* variants that are tried within the network */
    STREAMS = 2,
    NO_STEP = -1
};

struct cuda_step {
    const struct cuda_conv_kernel *kernel;   /* of a convolution, else NULL */
    int variant;
    int candidates[CANDIDATES], candidate_count;   /* the fastest alone, best first; none: not measured */
    double best_seconds;
    char name[KERNEL_NAME_SIZE];
    struct cuda_conv_call conv;
    struct cuda_map_call map;
    cuda_map_function *function;
    size_t packed_offset, packed_bytes, bias_offset;   /* in the weights */
    int stream;
    int waits_for;             /* the step of the other stream that must have ended, or NO_STEP */
    cudaEvent_t ended;         /* where another step waits for this one, else NULL */
};

/* A map at the border. */
struct border {
    float *host, *device;      /* (pixels, channels) */
    struct cuda_view view;     /* the map's place */
    int64_t pixels;
    int channels, padded;      /* padded: elements of a pixel that the input's place has */
};

struct cuda_plan {
    struct cuda_device device;
    struct plan *plan;
    enum cuda_arithmetic arithmetic;
    enum cuda_format format;
    cudaStream_t streams[STREAMS];
    cudaEvent_t forked, joined;
    cudaGraphExec_t graph;
    cudaEvent_t begin, end;
    struct cuda_step *steps;   /* (plan's step_count) */
    struct border inputs[GRAPH_MAX_INPUTS], *outputs;
    int input_count, output_count;
    char *activations, *weights;   /* device */
    size_t weight_bytes;
};

/* ---- pass_cuda.c ---- */

/* Which stream every step runs in, and which steps wait for which; then the events that they wait for. */
void cuda_plan_order(struct cuda_plan *cuda);
dla_status cuda_plan_make_events(struct cuda_plan *cuda);

/* Records `count` runs of one step, or, with NULL, of the pass from the inputs' float32 on the device to the outputs'. */
cudaError_t cuda_plan_record(struct cuda_plan *cuda, const struct cuda_step *step, int count, cudaGraphExec_t *graph);

/* ---- tune_cuda.c ---- */

/* The variant of every convolution, and the names of all. Needs everything else in place. */
dla_status cuda_plan_choose_variants(struct cuda_plan *cuda);

/* Seconds of one run of a step alone. */
cudaError_t cuda_plan_time_launches(struct cuda_plan *cuda, const struct cuda_step *step, double *seconds);

#endif
