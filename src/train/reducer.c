/* reducer.c - the buckets, and the running statistics among them. */
#include "train/reducer.h"

#include <string.h>

enum { BUCKET_FLOATS = 256 * 1024 }; /* 1 MB: long against a network's latency, short against a backward pass */

static bool carries_statistics(const struct reducer *r, int i)
{
    enum parameter_kind kind = r->parameters->graph->parameters[i].kind;
    return (kind == PARAMETER_RUNNING_MEAN || kind == PARAMETER_RUNNING_VAR) && !r->frozen[i];
}

void reducer_begin(struct reducer *r)
{
    r->started = r->parameters->floats;
    if (r->comm->size == 1)
        return;
    for (int i = 0; i < r->parameters->graph->parameter_count; i++)
        if (carries_statistics(r, i))
            for (int64_t e = r->parameters->offsets[i]; e < r->parameters->offsets[i] + r->parameters->graph->parameters[i].elements; e++)
                r->gradients[e] = r->parameters->values[e] / (float)r->comm->size;
}

void reducer_ready(void *reducer, int64_t from)
{
    struct reducer *r = reducer;
    while (r->started - from >= BUCKET_FLOATS) {
        r->started -= BUCKET_FLOATS;
        r->comm->backend->start_sum(r->comm, r->gradients + r->started, BUCKET_FLOATS);
    }
    r->comm->backend->progress(r->comm);
}

void reducer_end(struct reducer *r)
{
    if (r->comm->size == 1)
        return;
    r->comm->backend->start_sum(r->comm, r->gradients, r->started);
    r->comm->backend->finish(r->comm);
    for (int i = 0; i < r->parameters->graph->parameter_count; i++)
        if (carries_statistics(r, i)) {
            size_t bytes = (size_t)r->parameters->graph->parameters[i].elements * sizeof(float);
            memcpy(r->parameters->values + r->parameters->offsets[i], r->gradients + r->parameters->offsets[i], bytes);
            memset(r->gradients + r->parameters->offsets[i], 0, bytes);
        }
}
