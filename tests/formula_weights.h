/* formula_weights.h - weights and inputs that C and Python make alike, from nothing but names (tools/make_timm_fixture.py).
 *
 *     seed  = FNV-1a hash of the tensor's name
 *     hash  = mix(seed + i),  random = (hash >> 8) / 2^23 - 1            element i, in -1 .. 1, exact in float32
 *
 *     convolution weight    random * sqrt(3 / fan_in)                    values stay of the order of one at any depth
 *     norm weight, variance 1 + random / 2
 *     biases, running mean  random / 4
 *     input                 random, of the tensor named "input", (batch, channels, height, width)
 */
#ifndef DLA_TESTS_FORMULA_WEIGHTS_H
#define DLA_TESTS_FORMULA_WEIGHTS_H

#include "formula_random.h"
#include "net/graph.h"
#include "weights/bind.h"

#include <math.h>
#include <stdlib.h>

static struct bound_weights formula_weights_create(const struct graph *graph)
{
    struct bound_weights weights = {.parameter_count = graph->parameter_count};

    weights.values = calloc((size_t)graph->parameter_count, sizeof *weights.values);
    if (!weights.values)
        abort();
    for (int i = 0; i < graph->parameter_count; i++) {
        const struct parameter *parameter = &graph->parameters[i];
        float *values = malloc((size_t)parameter->elements * sizeof *values), factor = 0.25f, offset = 0.0f;
        uint32_t seed = formula_seed(parameter->name);
        if (!values)
            abort();
        if (parameter->kind == PARAMETER_CONV_WEIGHT)
            factor = (float)sqrt(3.0 / (double)(parameter->shape[1] * parameter->shape[2] * parameter->shape[3]));
        if (parameter->kind == PARAMETER_NORM_WEIGHT || parameter->kind == PARAMETER_RUNNING_VAR) {
            factor = 0.5f;
            offset = 1.0f;
        }
        for (int64_t k = 0; k < parameter->elements; k++)
            values[k] = offset + factor * formula_random(seed, k);
        weights.values[i] = values;
    }
    return weights;
}

static void formula_weights_free(struct bound_weights *weights)
{
    for (int i = 0; i < weights->parameter_count; i++)
        free((void *)(uintptr_t)weights->values[i]);
    free(weights->values);
}

/* NHWC of the formula's NCHW input. */
static inline void formula_input(float *input, int batch, int channels, int height, int width)
{
    uint32_t seed = formula_seed("input");
    for (int image = 0; image < batch; image++)
        for (int channel = 0; channel < channels; channel++)
            for (int64_t pixel = 0; pixel < (int64_t)height * width; pixel++)
                input[((int64_t)image * height * width + pixel) * channels + channel] =
                    formula_random(seed, ((int64_t)image * channels + channel) * height * width + pixel);
}

#endif
