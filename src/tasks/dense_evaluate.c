/* dense_evaluate.c - a network's own predictions for a labelled data set, scored as pictures of predictions are.
 *
 * Predicting has all threads for one photograph after the other; matching boundaries is slower than that and has a thread for
 * each photograph. So boundaries go in runs of RUN photographs: predicted one by one, matched side by side. What is matched is
 * the 8-bit map that `dla edges` would write, so both ways give the same scores.
 */
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "tasks/dense_files.h"
#include "tasks/dense_target.h"
#include "tasks/edge_score.h"
#include "tasks/paired_files.h"
#include "tasks/segmentation_score.h"

#include <math.h>
#include <string.h>

enum { RUN = 16, BOUNDARY = 1, BOUNDARY_CLASSES = 2 };

/* ---- both ---------------------------------------------------------------------------------------------------------------- */

static dla_status find_files(const char *data, dla_task task, const char *split, struct dense_files *files)
{
    if (split == NULL && dense_files_have_split(data, task, "test"))
        split = "test";
    else if (split == NULL && dense_files_have_split(data, task, "val"))
        split = "val";
    return dense_files_read(data, task, split, files);
}

static dla_status report(const dla_score_options *options, size_t done, size_t total)
{
    if (options->progress && !options->progress(options->progress_context, done, total))
        return status_set(DLA_ERROR_INTERRUPTED, "scoring was stopped after %zu of %zu photographs", done, total);
    return DLA_OK;
}

/* A failure to predict, with the photograph that it is about. */
static dla_status name_photograph(dla_status status, const char *path)
{
    return status == DLA_OK ? DLA_OK : status_prefix(status, "%s: ", path);
}

/* ---- segmentation -------------------------------------------------------------------------------------------------------- */

/* confusion: (classes, classes), added to. */
static dla_status count_photograph(dla_dense *dense, const struct dense_file *file, const struct dense_target_options *target_options,
                                   int64_t *confusion)
{
    struct label_map target = {0};
    dla_image *image = NULL;
    uint8_t *labels = NULL;
    dla_status status = dla_image_read(file->photograph, NULL, &image);
    if (status != DLA_OK)
        return status;
    int height = dla_image_height(image), width = dla_image_width(image);
    size_t pixels = (size_t)height * (size_t)width;
    status = dense_target_read(target_options, file->target, file->photograph, height, width, &target);
    if (status == DLA_OK && (labels = memory_allocate(pixels)) == NULL)
        status = status_out_of_memory(pixels, "a class map");
    if (status == DLA_OK)
        status = name_photograph(dla_dense_classes(dense, image, labels), file->photograph);
    for (size_t i = 0; i < pixels && status == DLA_OK; i++)
        if (target.labels[i] != TARGET_IGNORED)
            confusion[target.labels[i] * target_options->classes + labels[i]]++;
    memory_free(labels);
    label_map_free(&target);
    dla_image_destroy(image);
    return status;
}

dla_status dla_dense_evaluate_segmentation(dla_dense *dense, const char *data, const char *split, int ignore,
                                           const dla_score_options *given, dla_segmentation_scores *scores)
{
    dla_score_options options = DLA_SCORE_OPTIONS_INIT;
    struct dense_target_options target = {.task = DLA_TASK_SEGMENT, .classes = dla_dense_class_count(dense), .ignore = ignore};
    struct dense_files files = {0};
    int64_t *confusion = NULL;
    dla_status status = options_take(&options, sizeof(options), given, "DLA_SCORE_OPTIONS_INIT");
    if (status == DLA_OK && target.classes > TARGET_MOST_CLASSES)
        status = status_set(DLA_ERROR_ARGUMENT, "the network has %d classes, label files hold %d", target.classes, TARGET_MOST_CLASSES);
    if (status == DLA_OK)
        status = find_files(data, DLA_TASK_SEGMENT, split, &files);
    if (status != DLA_OK)
        return status;
    size_t cells = (size_t)target.classes * (size_t)target.classes;
    if ((confusion = memory_allocate_zeroed(cells, sizeof(*confusion))) == NULL)
        status = status_out_of_memory(cells * sizeof(*confusion), "a confusion matrix");
    for (size_t i = 0; i < files.count && status == DLA_OK; i++) {
        status = count_photograph(dense, &files.files[i], &target, confusion);
        if (status == DLA_OK)
            status = report(&options, i + 1, files.count);
    }
    if (status == DLA_OK) {
        *scores = (dla_segmentation_scores){.images = files.count, .classes = target.classes, .confusion = confusion};
        segmentation_summarise(scores);
        confusion = NULL;
    }
    memory_free(confusion);
    dense_files_free(&files);
    return status;
}

/* ---- boundaries ---------------------------------------------------------------------------------------------------------- */

/* One photograph of a run. */
struct predicted {
    uint8_t *thin; /* (height, width), 0 to 255 for 0 to 1 */
    int height, width;
};

struct matching {
    const struct dense_files *files;
    size_t first; /* of the run, among the files */
    struct predicted predicted[RUN];
    int thresholds;
    struct edge_counts *counts; /* (files->count, thresholds) */
    const dla_score_options *options;
};

static dla_status predict(dla_dense *dense, const char *path, struct predicted *predicted)
{
    dla_image *image;
    dla_status status = dla_image_read(path, NULL, &image);
    if (status != DLA_OK)
        return status;
    predicted->height = dla_image_height(image);
    predicted->width = dla_image_width(image);
    size_t pixels = (size_t)predicted->height * (size_t)predicted->width;
    float *probability = memory_allocate(pixels * sizeof(*probability)), *thin = memory_allocate(pixels * sizeof(*thin));
    predicted->thin = memory_allocate(pixels);
    if (!probability || !thin || !predicted->thin)
        status = status_out_of_memory(pixels * sizeof(*thin), "a boundary map");
    else
        status = name_photograph(dla_dense_probability(dense, image, BOUNDARY, probability), path);
    if (status == DLA_OK)
        status = dla_edges_thin(probability, predicted->height, predicted->width, thin);
    for (size_t i = 0; i < pixels && status == DLA_OK; i++)
        predicted->thin[i] = (uint8_t)lroundf(fminf(fmaxf(thin[i], 0.0f), 1.0f) * 255.0f);
    memory_free(probability);
    memory_free(thin);
    dla_image_destroy(image);
    return status;
}

static dla_status match_photograph(void *context, size_t index)
{
    struct matching *matching = context;
    const struct dense_file *file = &matching->files->files[matching->first + index];
    const struct predicted *predicted = &matching->predicted[index];
    struct boundary_annotations annotations;
    dla_status status = boundary_annotations_read(file->target, &annotations);
    if (status != DLA_OK)
        return status;
    if (predicted->height != annotations.height || predicted->width != annotations.width)
        status = status_set(DLA_ERROR_MISMATCH, "%s: is %dx%d (height x width), its annotations %s are %dx%d", file->photograph,
                            predicted->height, predicted->width, file->target, annotations.height, annotations.width);
    else
        status = edge_counts_of_image(predicted->thin, &annotations, edge_max_distance_fraction, matching->thresholds,
                                      matching->counts + (matching->first + index) * (size_t)matching->thresholds);
    boundary_annotations_free(&annotations);
    return status;
}

/* The run's progress within the whole. */
static bool report_run(void *context, size_t done, size_t total)
{
    const struct matching *matching = context;
    (void)total;
    return !matching->options->progress
           || matching->options->progress(matching->options->progress_context, matching->first + done, matching->files->count);
}

static dla_status score_run(dla_dense *dense, struct matching *matching)
{
    size_t left = matching->files->count - matching->first, count = left < RUN ? left : RUN;
    dla_score_options options = *matching->options;
    dla_status status = DLA_OK;
    options.progress = report_run;
    options.progress_context = matching;
    memset(matching->predicted, 0, sizeof(matching->predicted));
    for (size_t i = 0; i < count && status == DLA_OK; i++)
        status = predict(dense, matching->files->files[matching->first + i].photograph, &matching->predicted[i]);
    if (status == DLA_OK)
        status = file_pairs_score(count, match_photograph, matching, &options);
    for (size_t i = 0; i < count; i++)
        memory_free(matching->predicted[i].thin);
    return status;
}

dla_status dla_dense_evaluate_edges(dla_dense *dense, const char *data, const char *split, int thresholds, const dla_score_options *given,
                                    dla_edge_scores *scores)
{
    dla_score_options options = DLA_SCORE_OPTIONS_INIT;
    struct dense_files files = {0};
    struct matching matching = {.files = &files, .thresholds = thresholds, .options = &options};
    dla_status status = options_take(&options, sizeof(options), given, "DLA_SCORE_OPTIONS_INIT");
    if (status == DLA_OK && (thresholds < 1 || thresholds > 255))
        status = status_set(DLA_ERROR_ARGUMENT, "%d thresholds: must be 1 to 255 (the benchmark uses 99)", thresholds);
    if (status == DLA_OK && dla_dense_class_count(dense) != BOUNDARY_CLASSES)
        status = status_set(DLA_ERROR_ARGUMENT, "the network has %d classes, one for boundaries has 2; --task segment scores classes",
                            dla_dense_class_count(dense));
    if (status == DLA_OK)
        status = find_files(data, DLA_TASK_EDGES, split, &files);
    if (status != DLA_OK)
        return status;
    matching.counts = memory_allocate_zeroed(files.count * (size_t)thresholds, sizeof(*matching.counts));
    if (matching.counts == NULL)
        status = status_out_of_memory(files.count * (size_t)thresholds * sizeof(*matching.counts), "boundary counts");
    for (; matching.first < files.count && status == DLA_OK; matching.first += RUN)
        status = score_run(dense, &matching);
    if (status == DLA_OK)
        status = edge_scores_of_set(matching.counts, files.count, thresholds, scores);
    memory_free(matching.counts);
    dense_files_free(&files);
    return status;
}
