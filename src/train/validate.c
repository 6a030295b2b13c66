/* validate.c - photographs in order through the inference plan of the current weights. */
#include "train/validate.h"

#include "base/memory.h"
#include "base/status.h"
#include "tasks/photo_stream.h"
#include "train/loss.h"

#include <math.h>
#include <string.h>

/* Sums the loss and the hits of the first `filled` images of the plan's input. */
static dla_status score(struct plan *plan, int classes, int filled, const int *labels, float *logits, float *gradient, double *loss,
                        size_t *correct)
{
    int64_t stride;
    int hits;
    dla_status status = plan_run(plan);
    if (status != DLA_OK)
        return status;
    const float *out = plan_output(plan, 0, &stride);
    for (int i = 0; i < filled; i++)
        memcpy(logits + (int64_t)i * classes, out + i * stride, (size_t)classes * sizeof(float));
    *loss += filled * cross_entropy(filled, classes, logits, &(struct loss_targets){.a = labels}, 1.0f, gradient, &hits);
    *correct += (size_t)hits;
    return DLA_OK;
}

dla_status validate(const struct parameter_block *parameters, const float *values, const struct sample_list *samples,
                    const dla_preprocessing *preprocessing, const struct plan_options *plan_options, struct validation *result)
{
    const struct graph *graph = parameters->graph;
    int classes = graph->nodes[graph->output].channels, batch = plan_options->batch, filled = 0;
    size_t correct = 0, count = 0, floats = (size_t)preprocessing->size * (size_t)preprocessing->size * 3;
    double loss = 0.0;
    struct plan *plan = NULL;
    struct photo_stream *stream = NULL;
    struct plan_options options = *plan_options;
    options.height = options.width = preprocessing->size;
    struct bound_weights weights = {.parameter_count = graph->parameter_count};
    const char **paths = memory_allocate_zeroed(samples->count + 1, sizeof(*paths));
    int *labels = memory_allocate_zeroed((size_t)batch, sizeof(*labels));
    float *logits = allocate_floats((int64_t)batch * classes), *gradient = allocate_floats((int64_t)batch * classes);
    dla_status status = DLA_OK;
    *result = (struct validation){NAN, NAN, 0};
    weights.values = memory_allocate_zeroed((size_t)graph->parameter_count, sizeof(*weights.values));
    if (!paths || !labels || !logits || !gradient || !weights.values) {
        status = status_out_of_memory(samples->count * sizeof(*paths), "validation");
        goto out;
    }
    parameter_block_pointers(parameters, values, weights.values);
    for (size_t i = 0; i < samples->count; i++)
        paths[i] = samples->samples[i].path;
    status = plan_create(graph, &weights, &options, &graph->output, 1, &plan);
    if (status != DLA_OK)
        goto out;
    struct photo_stream_options photos = {
        .paths = paths, .path_count = samples->count, .preprocessing = preprocessing, .decoders = options.threads, .slots = 2 * batch};
    status = photo_stream_open(&photos, &stream);
    if (status != DLA_OK)
        goto out;
    for (const struct photo *photo; status == DLA_OK && (photo = photo_stream_next(stream)) != NULL;) {
        if (photo->status != DLA_OK)
            continue;
        memcpy(plan_input(plan) + (size_t)filled * floats, photo->input, floats * sizeof(float));
        labels[filled++] = samples->samples[photo->index].label;
        count++;
        if (filled == batch) {
            status = score(plan, classes, filled, labels, logits, gradient, &loss, &correct);
            filled = 0;
        }
    }
    if (filled && status == DLA_OK)
        status = score(plan, classes, filled, labels, logits, gradient, &loss, &correct);
    if (count && status == DLA_OK)
        *result = (struct validation){loss / (double)count, (double)correct / (double)count, count};
out:
    photo_stream_close(stream);
    plan_destroy(plan);
    memory_free(weights.values);
    memory_free(paths);
    memory_free(labels);
    memory_free(logits);
    memory_free(gradient);
    return status;
}
