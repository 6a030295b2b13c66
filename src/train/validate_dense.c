/* validate_dense.c - photographs in order through inference plans of their sizes. */
#include "train/validate_dense.h"

#include "base/memory.h"
#include "base/status.h"
#include "image/preprocess.h"
#include "plan/plan.h"
#include "tasks/segmentation_score.h"
#include "train/dense_loss.h"

#include <math.h>
#include <string.h>

enum { SIZES_KEPT = 2, BINS = 256, SMALLEST_SIDE = 32 }; /* landscape and portrait */

struct sized_plan {
    struct plan *plan;
    int height, width;
};

struct tally {
    double loss;
    size_t photographs;
    int64_t *confusion;                  /* segmentation: (classes, classes) */
    int64_t boundary[BINS], other[BINS]; /* boundaries: pixels of each kind by their probability */
};

struct validator {
    const struct dense_validation_options *options;
    const struct graph *graph;
    struct bound_weights weights;
    struct sized_plan plans[SIZES_KEPT]; /* the one used last comes first */
    float normalisation[3][256];
    int classes;
    float *log_probabilities; /* (height, width, classes) of the largest photograph so far */
    size_t capacity;
    struct tally tally;
};

static dla_status plan_for(struct validator *v, int height, int width)
{
    int found = 0;
    while (found < SIZES_KEPT && !(v->plans[found].plan && v->plans[found].height == height && v->plans[found].width == width))
        found++;
    struct sized_plan chosen = {.height = height, .width = width};
    if (found < SIZES_KEPT) {
        chosen = v->plans[found];
    } else {
        struct plan_options options = {.batch = 1, .height = height, .width = width, .threads = v->options->threads};
        options.isa = v->options->isa;
        options.exact = v->options->exact;
        options.device = v->options->device;
        options.precision = v->options->precision;
        dla_status status = plan_create(v->graph, &v->weights, &options, &v->graph->output, 1, &chosen.plan);
        if (status != DLA_OK)
            return status;
        found = SIZES_KEPT - 1;
        plan_destroy(v->plans[found].plan);
    }
    for (; found > 0; found--)
        v->plans[found] = v->plans[found - 1];
    v->plans[0] = chosen;
    return DLA_OK;
}

static void count_boundaries(struct tally *tally, const float *log_probabilities, const uint8_t *labels, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        int bin = (int)(expf(log_probabilities[2 * i + 1]) * (BINS - 1) + 0.5f);
        if (labels[i] == 1)
            tally->boundary[bin]++;
        else if (labels[i] == 0)
            tally->other[bin]++;
    }
}

/* Of the photograph in the plan's input. */
static dla_status score(struct validator *v, const struct label_map *target)
{
    size_t pixels = (size_t)target->height * (size_t)target->width, floats = pixels * (size_t)v->classes;
    if (floats > v->capacity) {
        memory_free(v->log_probabilities);
        v->capacity = 0;
        if ((v->log_probabilities = allocate_floats((int64_t)floats)) == NULL)
            return status_out_of_memory(floats * sizeof(float), "validation");
        v->capacity = floats;
    }
    int64_t stride;
    dla_status status = plan_run(v->plans[0].plan);
    if (status != DLA_OK)
        return status;
    const float *out = plan_output(v->plans[0].plan, 0, &stride);
    for (size_t i = 0; i < pixels; i++)
        memcpy(v->log_probabilities + i * (size_t)v->classes, out + (int64_t)i * stride, (size_t)v->classes * sizeof(float));
    double weight = pixel_weight((int64_t)pixels, target->labels, v->options->class_weights);
    v->tally.loss += pixel_cross_entropy((int64_t)pixels, v->classes, v->log_probabilities, target->labels, v->options->class_weights, weight,
                                         1.0f, NULL)
                         .loss;
    v->tally.photographs++;
    if (v->options->target->task == DLA_TASK_EDGES) {
        count_boundaries(&v->tally, v->log_probabilities, target->labels, pixels);
        return DLA_OK;
    }
    for (size_t i = 0; i < pixels; i++) {
        const float *row = v->log_probabilities + i * (size_t)v->classes;
        int best = 0;
        if (target->labels[i] == TARGET_IGNORED)
            continue;
        for (int c = 1; c < v->classes; c++)
            best = row[c] > row[best] ? c : best;
        v->tally.confusion[target->labels[i] * v->classes + best]++;
    }
    return DLA_OK;
}

static dla_status take_sample(struct validator *v, const struct sample *sample)
{
    dla_image *image;
    struct label_map target;
    if (dla_image_read(sample->path, NULL, &image) != DLA_OK)
        return DLA_OK;
    int height = dla_image_height(image), width = dla_image_width(image);
    dla_status status =
        dla_image_height(image) < SMALLEST_SIDE || dla_image_width(image) < SMALLEST_SIDE
            ? status_set(DLA_ERROR_ARGUMENT, "%s: is %dx%d (height x width), the network's stride of 32 needs at least 32x32", sample->path,
                         height, width)
            : dense_target_read(v->options->target, sample->target, sample->path, height, width, &target);
    if (status == DLA_OK) {
        status = plan_for(v, height, width);
        if (status == DLA_OK) {
            const uint8_t *pixels = dla_image_pixels(image);
            float *input = plan_input(v->plans[0].plan);
            for (size_t i = 0; i < (size_t)height * (size_t)width * 3; i++)
                input[i] = v->normalisation[i % 3][pixels[i]];
            status = score(v, &target);
        }
        label_map_free(&target);
    }
    dla_image_destroy(image);
    return status;
}

/* Largest F = 2 TP / (2 TP + FP + FN) over the thresholds between the bins. */
static double best_f(const struct tally *tally)
{
    double all = 0.0, found = 0.0, wrong = 0.0, best = 0.0;
    for (int b = 0; b < BINS; b++)
        all += (double)tally->boundary[b];
    for (int b = BINS - 1; b > 0; b--) {
        found += (double)tally->boundary[b];
        wrong += (double)tally->other[b];
        if (found > 0.0)
            best = fmax(best, 2.0 * found / (found + wrong + all));
    }
    return best;
}

dla_status validate_dense(const struct parameter_block *parameters, const float *values, const struct sample_list *samples,
                          const struct dense_validation_options *options, struct validation *result)
{
    struct validator v = {.options = options, .graph = parameters->graph};
    dla_status status = DLA_OK;
    v.classes = v.graph->nodes[v.graph->output].channels;
    v.weights.parameter_count = v.graph->parameter_count;
    v.weights.values = memory_allocate_zeroed((size_t)v.graph->parameter_count, sizeof(*v.weights.values));
    v.tally.confusion = memory_allocate_zeroed((size_t)v.classes * (size_t)v.classes, sizeof(*v.tally.confusion));
    if (!v.weights.values || !v.tally.confusion)
        status = status_out_of_memory((size_t)v.classes * (size_t)v.classes * sizeof(*v.tally.confusion), "validation");
    else
        parameter_block_pointers(parameters, values, v.weights.values);
    normalisation_table(options->preprocessing->mean, options->preprocessing->std, v.normalisation);
    for (size_t i = 0; i < samples->count && status == DLA_OK; i++)
        status = take_sample(&v, &samples->samples[i]);
    *result = (struct validation){NAN, NAN, 0};
    if (status == DLA_OK && v.tally.photographs) {
        result->loss = v.tally.loss / (double)v.tally.photographs;
        dla_segmentation_scores scores = {.classes = v.classes, .confusion = v.tally.confusion};
        segmentation_summarise(&scores);
        result->top1 = options->target->task == DLA_TASK_EDGES ? best_f(&v.tally) : scores.mean_iou;
        result->count = v.tally.photographs;
    }
    for (int i = 0; i < SIZES_KEPT; i++)
        plan_destroy(v.plans[i].plan);
    memory_free(v.weights.values);
    memory_free(v.tally.confusion);
    memory_free(v.log_probabilities);
    return status;
}
