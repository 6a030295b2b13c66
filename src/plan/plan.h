/* plan.h - from a graph to something runnable.
 *
 * A plan is made for one (graph, weights, batch, height, width, threads, instruction set). Planning folds batch norms into
 * convolutions, fuses bias, residual and relu into their epilogue, gives concatenations and slices no memory of their own,
 * chooses a kernel per node, packs the weights for it, and places activations by lifetime in one block. Running allocates nothing.
 */
#ifndef DLA_PLAN_PLAN_H
#define DLA_PLAN_PLAN_H

#include "base/cpu_features.h"
#include "net/graph.h"
#include "weights/bind.h"

enum { PLAN_MAX_BATCH = 4096 };

struct plan_options {
    int batch, height, width, threads;
    enum isa isa;
    bool exact;                /* no Winograd */
    bool half_weights;         /* kernels may keep weights as float16, where their bytes bound the time */
    dla_tune tune;             /* whether measurements correct the choice of kernels */
    bool reference;            /* reference kernels only: the twin that every plan is compared with */
    dla_device device;         /* where it runs; `isa` and `threads` are the CPU's */
    dla_precision precision;   /* of maps, weights and products; only CUDA has others than float32 */
};

struct plan;
struct conv_shape;
struct thread_pool;

/* outputs: the values wanted, such as &graph->output. The weights are not needed any more once the plan is made. */
dla_status plan_create(const struct graph *graph, const struct bound_weights *weights, const struct plan_options *options,
                       const value *outputs, int output_count, struct plan **plan);
void plan_destroy(struct plan *plan);

/* The map to fill before a run: (batch, height, width, in_channels), contiguous. */
float *plan_input(struct plan *plan);
float *plan_input_at(struct plan *plan, int index);   /* of a graph with several inputs: in the order of graph->inputs */
dla_status plan_run(struct plan *plan);   /* fails only where a GPU does */
/* Output `index` after a run: (batch, height, width, channels) with *pixel_stride floats between pixels. */
const float *plan_output(const struct plan *plan, int index, int64_t *pixel_stride);

/* The threads that run it, for work between two runs. The plan's. */
struct thread_pool *plan_thread_pool(const struct plan *plan);

/* ---- what was decided ---- */
struct plan_memory {
    size_t activation_bytes;   /* of all maps, placed by lifetime */
    size_t activation_bound;   /* most bytes alive at one step: no placement can be below */
    size_t weight_bytes, scratch_bytes;
};
struct plan_memory plan_memory(const struct plan *plan);

struct plan_step_report {
    const char *name;          /* of the node that the step started from; the graph's, which must still exist */
    enum op op;
    const char *kernel;        /* "direct_avx512", or the operation */
    const struct conv_shape *shape;   /* of a convolution, else NULL; the plan's */
    int in_height, in_width, in_channels;
    int height, width, channels;      /* of the result */
    double multiply_adds;      /* of the definition, whatever the kernel saves */
    double products;           /* multiply-adds that the kernel does; its transforms do not count */
    double weight_bytes, map_bytes;   /* read and written at least once */
};
int plan_step_count(const struct plan *plan);
struct plan_step_report plan_step_report(const struct plan *plan, int index);

/* plan_run with a clock: seconds (plan_step_count). On a GPU every step is run for itself, a few times. */
dla_status plan_run_timed(struct plan *plan, double *seconds);

/* Runs so many passes on the inputs that the device holds already: starts them all and waits for the last, copies nothing. On the CPU
 * the same as plan_run. */
dla_status plan_run_resident(struct plan *plan, int passes);

/* The most GFLOP/s that the plan's device can do at its precision, a multiply-add as two, by its units and their clock; 0: not
 * known, or the CPU's, which is measured. */
double plan_peak_gflops(const struct plan *plan);

#endif
