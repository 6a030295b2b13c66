/* tape.h - a graph made ready for training at one size: forward, then the same steps backward.
 *
 * Making a tape turns the graph into steps. Batch norm takes the add and the relu that follow it into its own passes; a
 * concatenation has no memory of its own, its inputs are written where it would have put them; a slice is a view. Every map
 * that backward still needs, and every gradient, gets its place in one block by its first and last use.
 *
 * Gradients flow in reverse order of the steps. A value with several consumers collects their contributions: which of them
 * overwrites and which adds is settled when the tape is made, channel by channel, because a concatenation's gradient holds
 * those of its inputs.
 */
#ifndef DLA_TRAIN_TAPE_H
#define DLA_TRAIN_TAPE_H

#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "train/comm.h"
#include "train/parameter_block.h"

/* Which convolutions run image by image, together with the batch norms around them (tape_images.c). */
enum tape_by_image { BY_IMAGE_LARGE, BY_IMAGE_ALL, BY_IMAGE_NONE };

struct tape_options {
    int batch, height, width;
    enum isa isa;
    bool exact;         /* no Winograd */
    bool reference;     /* reference convolutions, forward and backward: the twin to compare with */
    const bool *frozen; /* per parameter: not trained; a batch norm whose weight is frozen uses its running statistics. NULL: none */
    double dropout;     /* probability of dropping an input of the classifier; 0: none */
    int first_image;    /* of the whole step's: where this rank's images begin; for the dropout mask */
    struct comm *norms; /* batch norms take their statistics over all ranks' images; NULL: over this one's */
    enum tape_by_image by_image; /* those with large maps, if the batch is large enough; the others for tests. The CPU's alone */
    bool recompute;              /* keep only some maps for backward and compute the others again: less memory, more time, same gradients */
    dla_device device;           /* CUDA: tape_cuda.h runs the steps; this tape has their order and places, and no memory */
    dla_precision precision;     /* of maps and products on the GPU */
    /* On the GPU alone: */
    struct cuda_reducer *ranks; /* reducer_cuda.h: what adds up over the ranks, and with `norms` inside batch norms, too; NULL: one rank */
    bool partners; /* with every image comes the one that it is blended with, another rank's; false: the mirrored one of the batch */
};

struct tape;

/* parameters and pool must outlive the tape. */
dla_status tape_create(const struct graph *graph, struct parameter_block *parameters, struct thread_pool *pool,
                       const struct tape_options *options, struct tape **tape);
void tape_destroy(struct tape *tape);

/* (batch, height, width, in_channels): to be filled before each forward pass. */
float *tape_input(struct tape *tape);

/* Reads the parameters and updates the running statistics among them. `key` chooses the dropout mask. */
void tape_forward(struct tape *tape, uint64_t key);

/* (batch, out_height, out_width, channels), contiguous: the graph's output after forward, and where its gradient goes before backward. */
const float *tape_output(const struct tape *tape, struct map_size *size);
float *tape_output_gradient(struct tape *tape);

/* gradients: a block as the parameters'; added to. */
void tape_backward(struct tape *tape, float *gradients);

/* Calls `ready` during backward: all floats of the gradients' block from `from` on are final. NULL: nobody wants to know. */
typedef void gradients_ready(void *context, int64_t from);
void tape_on_gradients(struct tape *tape, gradients_ready *ready, void *context);

/* Where the last pass spent its time. */
struct tape_step_report {
    const char *name, *kind; /* of the node; "conv2d" and the kernel */
    /* The last is part of backward, and 0 where a convolution runs image by image. */
    double forward_ms, backward_ms, weight_gradient_ms;
};
int tape_step_count(const struct tape *tape);
struct tape_step_report tape_step_report(const struct tape *tape, int index);
double tape_pack_milliseconds(const struct tape *tape);

/* Bytes of activations and gradients, what they would be without sharing, and without recomputing. */
struct tape_memory {
    int64_t bytes, unshared, kept;
};
struct tape_memory tape_memory(const struct tape *tape);

#endif
