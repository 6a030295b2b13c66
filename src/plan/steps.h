/* steps.h - what a plan consists of: steps that run one after the other on places in blocks of memory.
 *
 *     graph nodes ──lower.c──▶ steps on values ──locate.c──▶ places in blocks ──place.c──▶ offsets in one allocation
 *                                                                            └─pack.c───▶ kernels and packed weights
 *
 * A value of the graph is a place: some channels of every pixel of a block. Slices and concatenations are places in blocks
 * that others write, so they cost no step and no memory.
 */
#ifndef DLA_PLAN_STEPS_H
#define DLA_PLAN_STEPS_H

#include "cpu/map.h"
#include "plan/plan.h"

/* Memory of one lifetime: a map that one or several steps write. */
struct block {
    int height, width, channels;
    int pixel_stride;              /* floats from pixel to pixel, >= channels */
    int first_step, last_step;     /* first that writes, last that reads; -1: written before the run */
    size_t bytes, offset;
};

struct place {
    int block;                     /* -1: none, as for values that a step has swallowed */
    int channel;                   /* first channel within the block's pixels */
};

/* A source of a convolution or operand of a map function. */
struct operand {
    value value;
    int channels;
    struct place place;
};

struct step {
    enum op op;                    /* OP_CONV2D, OP_TRANSPOSED_CONV2D with all they have taken over, or any other */
    const char *name;              /* of the node that it started from; the graph's */
    value out;                     /* of the last node that it took over */
    struct place out_place;        /* of out, or the part of a concatenation that a copy fills */
    int channels;                  /* that it writes */
    struct operand inputs[CONV_MAX_SOURCES];
    int input_count;
    value residual;                /* or NO_VALUE */
    struct place residual_place;
    int conv_node;                 /* OP_CONV2D, OP_TRANSPOSED_CONV2D, else NO_VALUE */
    int batch_norm_node;           /* folded into the convolution or a step of its own; else NO_VALUE */
    bool relu;
    /* filled in by pack.c */
    struct conv_shape shape;
    const struct conv_kernel *kernel;
    size_t packed_offset, bias_offset;   /* in the plan's weights */
    /* filled in by plan.c: ready to run */
    struct conv_call conv;
    struct map_call map;
    map_function *function;
};

struct cuda_plan;

struct plan {
    struct arena arena;
    const struct graph *graph;     /* only while the plan is made */
    struct plan_options options;
    struct map_size *sizes;        /* per value of the graph */
    struct step *steps;
    int step_count;
    struct block *blocks;
    int block_count;
    struct place *places;          /* per value of the graph */
    struct place input_places[GRAPH_MAX_INPUTS];
    const value *outputs;
    int *output_channels;
    int output_count;
    struct thread_pool *pool;
    /* one allocation each */
    char *activations, *weights, *scratch;
    size_t activation_bytes, activation_bound, weight_bytes, scratch_bytes;
    struct cuda_plan *cuda;        /* what runs it on a GPU: plan_cuda.h; else NULL. Then it owns activations and weights */
};

static inline bool plan_is_on_cuda(const struct plan *plan)
{
    return plan->options.device == DLA_DEVICE_CUDA;
}

void plan_run_step(struct plan *plan, int index);

/* lower.c: fuses nodes to steps. */
dla_status plan_lower(struct plan *plan);

/* locate.c: gives every value a place and every block a lifetime. */
dla_status plan_locate(struct plan *plan);

/* place.c: gives every block an offset such that blocks alive at the same step never overlap. Returns the bytes needed in all;
 * *bound is the largest sum of bytes alive at one step, which no placement can be below. order: room for block_count. */
size_t place_blocks(struct block *blocks, int *order, int block_count, size_t *bound);

/* pack.c: chooses the kernels, sizes weights and scratch; then packs. */
dla_status plan_choose_kernels(struct plan *plan);
dla_status plan_pack_weights(struct plan *plan, const struct bound_weights *weights);

/* The same for whoever packs in another form. The shape of a convolution's step; scale and bias (channels each) of its convolution's
 * bias and batch norm; the weights of a transposed convolution, how many and as (kernel, kernel, in_channels, out_channels / groups). */
struct conv_shape plan_conv_shape(const struct plan *plan, const struct step *step);
void plan_fold(const struct plan *plan, const struct bound_weights *weights, const struct step *step, float *scale, float *bias);
size_t plan_transposed_weight_floats(const struct plan *plan, const struct step *step);
void plan_pack_transposed(const struct plan *plan, const struct step *step, const float *weight, float *packed);

#endif
