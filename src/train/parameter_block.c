/* parameter_block.c - laying out a graph's parameters in one block. */
#include "train/parameter_block.h"

#include "base/memory.h"
#include "base/status.h"

#include <string.h>

enum { LINE_FLOATS = 16 }; /* 64 bytes */

float *allocate_floats(int64_t floats)
{
    size_t bytes = (size_t)(floats + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS * sizeof(float);
    float *memory = memory_allocate_aligned(LINE_FLOATS * sizeof(float), bytes ? bytes : LINE_FLOATS * sizeof(float));
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

dla_status parameter_block_create(const struct graph *graph, struct parameter_block *block)
{
    struct parameter_block made = {.graph = graph};
    made.offsets = memory_allocate((size_t)graph->parameter_count * sizeof(*made.offsets));
    if (made.offsets == NULL)
        return status_out_of_memory((size_t)graph->parameter_count * sizeof(*made.offsets), "parameter offsets");
    for (int i = 0; i < graph->parameter_count; i++) {
        made.offsets[i] = made.floats;
        made.floats += (graph->parameters[i].elements + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
    }
    made.values = allocate_floats(made.floats);
    if (made.values == NULL) {
        parameter_block_free(&made);
        return status_out_of_memory((size_t)made.floats * sizeof(float), "parameters");
    }
    *block = made;
    return DLA_OK;
}

void parameter_block_free(struct parameter_block *block)
{
    memory_free(block->offsets);
    memory_free(block->values);
    *block = (struct parameter_block){0};
}

void parameter_block_pointers(const struct parameter_block *block, const float *values, const float **pointers)
{
    for (int i = 0; i < block->graph->parameter_count; i++)
        pointers[i] = values + block->offsets[i];
}
