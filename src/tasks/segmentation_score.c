/* segmentation_score.c - class maps scored against labels through a confusion matrix.
 *
 * With n(l, p) the pixels labelled l and predicted p:
 *
 *     IoU(c)         = n(c, c) / (sum_p n(c, p) + sum_l n(l, c) - n(c, c))     mean over the classes with a denominator
 *     pixel accuracy = sum_c n(c, c) / sum n
 *     class accuracy = mean of n(c, c) / sum_p n(c, p) over the classes that are labelled
 *
 * Every image counts into a matrix of its own first: workers meet once an image, not once a pixel.
 */
#include "tasks/segmentation_score.h"

#include "base/memory.h"
#include "base/status.h"
#include "image/label_map.h"
#include "tasks/paired_files.h"

#include <math.h>
#include <pthread.h>

struct segmentation_evaluation {
    const struct file_pairs *files;
    int classes, ignore;
    pthread_mutex_t mutex;       /* guards confusion */
    int64_t *confusion;          /* (classes, classes) */
};

static dla_status check_sizes(const struct file_pair *pair, const struct label_map *predicted, const struct label_map *labelled)
{
    if (predicted->height == labelled->height && predicted->width == labelled->width)
        return DLA_OK;
    return status_set(DLA_ERROR_MISMATCH, "%s: is %dx%d (height x width), its labels %s are %dx%d", pair->prediction, predicted->height,
                      predicted->width, pair->truth, labelled->height, labelled->width);
}

/* confusion: (classes, classes), zeroed. */
static dla_status count_pixels(const struct file_pair *pair, const struct label_map *predicted, const struct label_map *labelled, int classes,
                               int ignore, int64_t *confusion)
{
    for (int y = 0; y < labelled->height; y++)
        for (int x = 0; x < labelled->width; x++) {
            size_t i = (size_t)y * (size_t)labelled->width + (size_t)x;
            int label = labelled->labels[i], prediction = predicted->labels[i];
            if (label == ignore)
                continue;
            if (label >= classes)
                return status_set(DLA_ERROR_MISMATCH, "%s: has label %d at row %d, column %d, but there are %d classes", pair->truth, label, y, x, classes);
            if (prediction >= classes)
                return status_set(DLA_ERROR_MISMATCH, "%s: has class %d at row %d, column %d, but there are %d classes", pair->prediction, prediction, y, x, classes);
            confusion[label * classes + prediction]++;
        }
    return DLA_OK;
}

static dla_status count_pair(void *context, size_t index)
{
    struct segmentation_evaluation *evaluation = context;
    const struct file_pair *pair = &evaluation->files->pairs[index];
    const size_t cells = (size_t)evaluation->classes * (size_t)evaluation->classes;
    struct label_map predicted = { 0 }, labelled = { 0 };
    int64_t *confusion = memory_allocate_zeroed(cells, sizeof *confusion);
    dla_status status = confusion ? label_map_read(pair->prediction, &predicted) : status_out_of_memory(cells * sizeof *confusion, "a confusion matrix");

    if (status == DLA_OK)
        status = label_map_read(pair->truth, &labelled);
    if (status == DLA_OK)
        status = check_sizes(pair, &predicted, &labelled);
    if (status == DLA_OK)
        status = count_pixels(pair, &predicted, &labelled, evaluation->classes, evaluation->ignore, confusion);
    if (status == DLA_OK) {
        pthread_mutex_lock(&evaluation->mutex);
        for (size_t i = 0; i < cells; i++)
            evaluation->confusion[i] += confusion[i];
        pthread_mutex_unlock(&evaluation->mutex);
    }
    label_map_free(&predicted);
    label_map_free(&labelled);
    memory_free(confusion);
    return status;
}

struct class_counts { int64_t correct, labelled, predicted; };

static struct class_counts counts_of_class(const dla_segmentation_scores *scores, int index)
{
    struct class_counts counts = { 0 };
    for (int other = 0; other < scores->classes; other++) {
        counts.labelled += scores->confusion[index * scores->classes + other];
        counts.predicted += scores->confusion[other * scores->classes + index];
    }
    counts.correct = scores->confusion[index * scores->classes + index];
    return counts;
}

double dla_segmentation_iou(const dla_segmentation_scores *scores, int index)
{
    struct class_counts counts = counts_of_class(scores, index);
    int64_t either = counts.labelled + counts.predicted - counts.correct;
    return either ? (double)counts.correct / (double)either : NAN;
}

void segmentation_summarise(dla_segmentation_scores *scores)
{
    int64_t correct = 0, pixels = 0;
    int occurring = 0, labelled = 0;

    scores->mean_iou = scores->class_accuracy = 0;
    for (int c = 0; c < scores->classes; c++) {
        struct class_counts counts = counts_of_class(scores, c);
        double iou = dla_segmentation_iou(scores, c);
        correct += counts.correct;
        pixels += counts.labelled;
        if (!isnan(iou)) {
            scores->mean_iou += iou;
            occurring++;
        }
        if (counts.labelled) {
            scores->class_accuracy += (double)counts.correct / (double)counts.labelled;
            labelled++;
        }
    }
    scores->mean_iou = occurring ? scores->mean_iou / occurring : 0;
    scores->class_accuracy = labelled ? scores->class_accuracy / labelled : 0;
    scores->pixel_accuracy = pixels ? (double)correct / (double)pixels : 0;
}

dla_status dla_segmentation_score(const char *predictions, const char *labels, int classes, int ignore, const dla_score_options *options,
                                  dla_segmentation_scores *scores)
{
    struct file_pairs files;
    struct segmentation_evaluation evaluation = { .files = &files, .classes = classes, .ignore = ignore, .mutex = PTHREAD_MUTEX_INITIALIZER };
    dla_status status;

    if (classes < 1 || classes > 256)
        return status_set(DLA_ERROR_ARGUMENT, "%d classes: must be 1 to 256", classes);
    if (ignore < -1 || ignore > 255)
        return status_set(DLA_ERROR_ARGUMENT, "ignored label %d: must be 0 to 255, or -1 for none", ignore);
    status = file_pairs_read(predictions, ".png", labels, ".png", &files);
    if (status != DLA_OK)
        return status;
    evaluation.confusion = memory_allocate_zeroed((size_t)classes * (size_t)classes, sizeof *evaluation.confusion);
    if (!evaluation.confusion)
        status = status_out_of_memory((size_t)classes * (size_t)classes * sizeof *evaluation.confusion, "a confusion matrix");
    else
        status = file_pairs_score(files.count, count_pair, &evaluation, options);
    if (status == DLA_OK) {
        *scores = (dla_segmentation_scores){ .images = files.count, .classes = classes, .confusion = evaluation.confusion };
        segmentation_summarise(scores);
    } else {
        memory_free(evaluation.confusion);
    }
    file_pairs_free(&files);
    return status;
}
