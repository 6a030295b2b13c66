/* reducer.h - gradients of all ranks added up, bucket by bucket, while the backward pass goes on.
 *
 * Backward finishes parameters from the last to the first, so the finished part of the gradients' block is its end, and grows
 * downwards. Whenever a bucket's worth of it is there its sum over the ranks is started.
 *
 * The slots of running means and variances in the block, which no gradient uses, carry the ranks' statistics along: every step
 * they are averaged, and all ranks stay equal.
 */
#ifndef DLA_TRAIN_REDUCER_H
#define DLA_TRAIN_REDUCER_H

#include "train/comm.h"
#include "train/parameter_block.h"

struct reducer {
    struct comm *comm;
    struct parameter_block *parameters;
    float *gradients;
    const bool *frozen; /* per parameter: its statistics do not change */
    int64_t started;    /* floats from here on are under way */
};

/* Before the backward pass that completes the gradients; after the forward pass, whose statistics it takes. */
void reducer_begin(struct reducer *reducer);
/* A tape's gradients_ready: all floats from `from` on are final. */
void reducer_ready(void *reducer, int64_t from);
/* Waits; the gradients are sums over all ranks, the running statistics means. */
void reducer_end(struct reducer *reducer);

#endif
