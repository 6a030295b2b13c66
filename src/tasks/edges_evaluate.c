/* edges_evaluate.c - a folder of boundary maps scored against a folder of annotations. */
#include "base/memory.h"
#include "base/status.h"
#include "tasks/edge_score.h"
#include "tasks/paired_files.h"

struct edge_evaluation {
    const struct file_pairs *files;
    int thresholds;
    struct edge_counts *counts;      /* (files->count, thresholds) */
};

/* Grey as it is stored; of a colour picture the red channel, which equals the others where it shows probabilities. */
static uint8_t *first_channel(const dla_image *image)
{
    size_t pixels = (size_t)dla_image_height(image) * (size_t)dla_image_width(image);
    const uint8_t *rgb = dla_image_pixels(image);
    uint8_t *channel = memory_allocate(pixels);

    for (size_t i = 0; channel && i < pixels; i++)
        channel[i] = rgb[3 * i];
    return channel;
}

static dla_status count_pair(void *context, size_t index)
{
    struct edge_evaluation *evaluation = context;
    const struct file_pair *pair = &evaluation->files->pairs[index];
    struct boundary_annotations annotations = { 0 };
    dla_image *image = NULL;
    uint8_t *probability = NULL;
    dla_status status = dla_image_read(pair->prediction, NULL, &image);

    if (status != DLA_OK)
        return status;
    status = boundary_annotations_read(pair->truth, &annotations);
    if (status != DLA_OK)
        goto out;
    if (dla_image_height(image) != annotations.height || dla_image_width(image) != annotations.width) {
        status = status_set(DLA_ERROR_MISMATCH, "%s: is %dx%d (height x width), its annotations %s are %dx%d", pair->prediction,
                            dla_image_height(image), dla_image_width(image), pair->truth, annotations.height, annotations.width);
        goto out;
    }
    probability = first_channel(image);
    if (!probability) {
        status = status_out_of_memory((size_t)annotations.height * (size_t)annotations.width, "a boundary map");
        goto out;
    }
    status = edge_counts_of_image(probability, &annotations, edge_max_distance_fraction, evaluation->thresholds,
                                  evaluation->counts + index * (size_t)evaluation->thresholds);
out:
    memory_free(probability);
    boundary_annotations_free(&annotations);
    dla_image_destroy(image);
    return status;
}

dla_status dla_edges_score(const char *predictions, const char *ground_truth, int thresholds, const dla_score_options *options,
                           dla_edge_scores *scores)
{
    struct file_pairs files;
    struct edge_evaluation evaluation = { .files = &files, .thresholds = thresholds };
    dla_status status;

    if (thresholds < 1 || thresholds > 255)
        return status_set(DLA_ERROR_ARGUMENT, "%d thresholds: must be 1 to 255 (the benchmark uses 99)", thresholds);
    status = file_pairs_read(predictions, ".png", ground_truth, ".mat", &files);
    if (status != DLA_OK)
        return status;
    evaluation.counts = memory_allocate_zeroed(files.count * (size_t)thresholds, sizeof *evaluation.counts);
    if (!evaluation.counts)
        status = status_out_of_memory(files.count * (size_t)thresholds * sizeof *evaluation.counts, "boundary counts");
    else
        status = file_pairs_score(files.count, count_pair, &evaluation, options);
    if (status == DLA_OK)
        status = edge_scores_of_set(evaluation.counts, files.count, thresholds, scores);
    memory_free(evaluation.counts);
    file_pairs_free(&files);
    return status;
}
