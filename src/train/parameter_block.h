/* parameter_block.h - all parameters of a network in one flat block.
 *
 * Each parameter lies row-major in its checkpoint's shape and starts on a 64-byte boundary; the gaps stay zero. Gradients,
 * momentum and averaged weights are blocks of the same order and length, so that the optimiser is a loop over one range and
 * a reduction between machines one call.
 */
#ifndef DLA_TRAIN_PARAMETER_BLOCK_H
#define DLA_TRAIN_PARAMETER_BLOCK_H

#include "net/graph.h"

struct parameter_block {
    const struct graph *graph;
    int64_t *offsets; /* per parameter of the graph, floats from the block's start */
    int64_t floats;   /* length of the block, gaps included */
    float *values;    /* (floats) */
};

dla_status parameter_block_create(const struct graph *graph, struct parameter_block *block);
void parameter_block_free(struct parameter_block *block);

/* `floats` zeroed floats on a 64-byte boundary, for memory_free; NULL when memory is exhausted. */
float *allocate_floats(int64_t floats);

/* Pointers to the parameters inside `values`, a block of this order; pointers has parameter_count elements. */
void parameter_block_pointers(const struct parameter_block *block, const float *values, const float **pointers);

#endif
