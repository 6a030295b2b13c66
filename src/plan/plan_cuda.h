/* plan_cuda.h - a plan's other executor: the same steps on the same places, in the memory of a GPU.
 *
 * Made after steps are lowered, located and placed. It chooses a kernel for every step (by estimate, by remembered times, or by
 * measuring), packs and uploads the weights, and records the whole pass as a CUDA graph, so that a run is one launch. A build
 * without CUDA makes no plan for a GPU (device.h), so there these are never called.
 */
#ifndef DLA_PLAN_PLAN_CUDA_H
#define DLA_PLAN_PLAN_CUDA_H

#include "plan/steps.h"

/* Bytes that the pixels of a map on the device are a multiple of: kernels move 16 bytes at a time. */
enum { CUDA_PIXEL_BYTES = 16 };

/* Steps for which a map's place is not used again, so that neighbouring steps need not wait for one another. */
enum { CUDA_LONGER_LIFE = 4 };

#if DLA_HAVE_CUDA

dla_status cuda_plan_create(struct plan *plan, const struct bound_weights *weights);
void cuda_plan_destroy(struct cuda_plan *cuda);

/* Host memory at the borders, float32 and contiguous: see plan_input_at and plan_output. */
float *cuda_plan_input(struct cuda_plan *cuda, int index);
const float *cuda_plan_output(const struct cuda_plan *cuda, int index);

/* Copies inputs to the device, runs, copies outputs back. */
dla_status cuda_plan_run(struct cuda_plan *cuda);
/* The pass alone, so many times, on what lies in the device's memory. */
dla_status cuda_plan_run_resident(struct cuda_plan *cuda, int passes);

const char *cuda_plan_kernel(const struct cuda_plan *cuda, int step);
size_t cuda_plan_weight_bytes(const struct cuda_plan *cuda, int step);   /* packed, of one step */
/* Seconds that a step takes, averaged over a few runs of it alone. */
dla_status cuda_plan_time_step(struct cuda_plan *cuda, int step, double *seconds);
double cuda_plan_peak_gflops(const struct cuda_plan *cuda);

#else

static inline dla_status cuda_plan_create(struct plan *plan, const struct bound_weights *weights)
{
    (void)plan;
    (void)weights;
    return DLA_ERROR_UNSUPPORTED;
}

static inline void cuda_plan_destroy(struct cuda_plan *cuda)
{
    (void)cuda;
}

static inline float *cuda_plan_input(struct cuda_plan *cuda, int index)
{
    (void)cuda;
    (void)index;
    return NULL;
}

static inline const float *cuda_plan_output(const struct cuda_plan *cuda, int index)
{
    (void)cuda;
    (void)index;
    return NULL;
}

static inline dla_status cuda_plan_run(struct cuda_plan *cuda)
{
    (void)cuda;
    return DLA_ERROR_UNSUPPORTED;
}

static inline dla_status cuda_plan_run_resident(struct cuda_plan *cuda, int passes)
{
    (void)cuda;
    (void)passes;
    return DLA_ERROR_UNSUPPORTED;
}

static inline const char *cuda_plan_kernel(const struct cuda_plan *cuda, int step)
{
    (void)cuda;
    (void)step;
    return "";
}

static inline size_t cuda_plan_weight_bytes(const struct cuda_plan *cuda, int step)
{
    (void)cuda;
    (void)step;
    return 0;
}

static inline dla_status cuda_plan_time_step(struct cuda_plan *cuda, int step, double *seconds)
{
    (void)cuda;
    (void)step;
    (void)seconds;
    return DLA_ERROR_UNSUPPORTED;
}

static inline double cuda_plan_peak_gflops(const struct cuda_plan *cuda)
{
    (void)cuda;
    return 0.0;
}

#endif
#endif
