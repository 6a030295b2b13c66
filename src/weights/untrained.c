/* untrained.c - see untrained.h. */
#include "weights/untrained.h"

#include "base/memory.h"
#include "base/status.h"

#include <math.h>

/* FNV-1a: the parameter's own start of the sequence. */
static uint32_t hash(const char *text)
{
    uint32_t sum = 2166136261u;

    for (; *text != '\0'; text++)
        sum = (sum ^ (uint8_t)*text) * 16777619u;
    return sum;
}

static void fill(const struct parameter *p, float *values /* (elements) */)
{
    double fan_in = p->kind == PARAMETER_CONV_WEIGHT ? (double)(p->shape[1] * p->shape[2] * p->shape[3]) : 1.0;
    float scale = (float)(sqrt(6.0 / fan_in) * 0x1p-31); /* uniform in +- sqrt(6 / fan_in): variance 2 / fan_in, which relu halves */
    uint32_t state = hash(p->name);

    for (int64_t i = 0; i < p->elements; i++) {
        if (p->kind == PARAMETER_CONV_WEIGHT) {
            state = state * 1664525u + 1013904223u;
            values[i] = (float)(int32_t)state * scale;
        } else {
            values[i] = p->kind == PARAMETER_NORM_WEIGHT || p->kind == PARAMETER_RUNNING_VAR ? 1.0f : 0.0f;
        }
    }
}

dla_status weights_untrained(const struct graph *graph, struct bound_weights *weights)
{
    struct bound_weights made = {.parameter_count = graph->parameter_count};

    made.values = memory_allocate_zeroed((size_t)graph->parameter_count + 1, sizeof(*made.values));
    if (made.values == NULL)
        return status_out_of_memory((size_t)graph->parameter_count * sizeof(*made.values), "weights");
    for (int i = 0; i < graph->parameter_count; i++) {
        const struct parameter *p = &graph->parameters[i];
        float *values = arena_allocate_array(&made.converted, (size_t)p->elements, sizeof(*values));
        if (values == NULL) {
            bound_weights_free(&made);
            return status_out_of_memory((size_t)p->elements * sizeof(*values), "untrained weights");
        }
        fill(p, values);
        made.values[i] = values;
    }
    if ((made.report = arena_copy_string(&made.converted, "untrained: every parameter follows from its name")) == NULL) {
        bound_weights_free(&made);
        return status_out_of_memory(64, "the report on weights");
    }
    *weights = made;
    return DLA_OK;
}
