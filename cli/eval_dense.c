/* eval_dense.c - class maps scored against labels, boundary maps against annotators. */
#include "eval_dense.h"

#include "json_output.h"
#include "progress.h"

#include <dla/dla.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool show_progress(void *context, size_t done, size_t total)
{
    (void)context;
    progress_update((int64_t)done, (int64_t)total);
    return true;
}

static dla_score_options chosen_options(const struct arguments *arguments)
{
    dla_score_options options = DLA_SCORE_OPTIONS_INIT;

    options.threads = (int)argument_integer(arguments, "--threads", 0);
    options.progress = show_progress;
    return options;
}

/* ---- segmentation ------------------------------------------------------------------------------------------------------ */

static json_t *number_or_null(double number)
{
    return isnan(number) ? json_null() : json_real(number);
}

static int print_segmentation_json(const dla_segmentation_scores *scores)
{
    json_t *object = json_object(), *per_class = json_array(), *confusion = json_array();

    json_put(object, "mean_iou", json_real(scores->mean_iou));
    json_put(object, "pixel_accuracy", json_real(scores->pixel_accuracy));
    json_put(object, "class_accuracy", json_real(scores->class_accuracy));
    json_put(object, "count", json_integer((json_int_t)scores->images));
    for (int c = 0; c < scores->classes; c++) {
        json_t *row = json_array();
        for (int p = 0; p < scores->classes; p++)
            json_add(row, json_integer(scores->confusion[c * scores->classes + p]));
        json_add(confusion, row);
        json_add(per_class, number_or_null(dla_segmentation_iou(scores, c)));
    }
    json_put(object, "iou", per_class);
    json_put(object, "confusion", confusion);
    return json_print(object);
}

static int print_segmentation_text(const dla_segmentation_scores *scores)
{
    printf("mean IoU        %6.2f %%   (%zu pictures)\n", 100 * scores->mean_iou, scores->images);
    printf("pixel accuracy  %6.2f %%\n", 100 * scores->pixel_accuracy);
    printf("class accuracy  %6.2f %%\n\n", 100 * scores->class_accuracy);
    printf("class      IoU\n");
    for (int c = 0; c < scores->classes; c++) {
        double iou = dla_segmentation_iou(scores, c);
        if (isnan(iou))
            printf("%5d        -   (does not occur)\n", c);
        else
            printf("%5d  %6.2f %%\n", c, 100 * iou);
    }
    return EXIT_SUCCESS;
}

int eval_segmentation(const struct arguments *arguments)
{
    const char *predictions = argument_text(arguments, "--predictions", NULL), *labels = argument_text(arguments, "--labels", NULL);
    int classes = (int)argument_integer(arguments, "--classes", 0);
    dla_score_options options = chosen_options(arguments);
    dla_segmentation_scores scores;

    if (predictions == NULL || labels == NULL || classes == 0)
        return fail_with_usage("eval --task segment needs --predictions DIR, --labels DIR and --classes N");
    progress_start("pictures");
    dla_status status = dla_segmentation_score(predictions, labels, classes, (int)argument_integer(arguments, "--ignore", 255), &options, &scores);
    progress_finish();
    if (status != DLA_OK)
        return fail_with_library_error();
    int exit_status = argument_flag(arguments, "--json") ? print_segmentation_json(&scores) : print_segmentation_text(&scores);
    dla_free(scores.confusion);
    return exit_status;
}

/* ---- boundaries --------------------------------------------------------------------------------------------------------- */

/* threshold: of the whole set; NAN where every photograph has its own. */
static json_t *score_to_json(const dla_edge_score *score, double threshold)
{
    json_t *object = json_object();

    json_put(object, "f", json_real(score->f));
    json_put(object, "precision", json_real(score->precision));
    json_put(object, "recall", json_real(score->recall));
    json_put(object, "threshold", number_or_null(threshold));
    return object;
}

int eval_edges(const struct arguments *arguments)
{
    const char *predictions = argument_text(arguments, "--predictions", NULL), *truth = argument_text(arguments, "--ground-truth", NULL);
    dla_score_options options = chosen_options(arguments);
    dla_edge_scores scores;

    if (predictions == NULL || truth == NULL)
        return fail_with_usage("eval --task edges needs --predictions DIR and --ground-truth DIR");
    progress_start("photographs");
    dla_status status = dla_edges_score(predictions, truth, (int)argument_integer(arguments, "--thresholds", 99), &options, &scores);
    progress_finish();
    if (status != DLA_OK)
        return fail_with_library_error();
    if (argument_flag(arguments, "--json")) {
        json_t *object = json_object();
        json_put(object, "ods", score_to_json(&scores.ods, scores.ods.threshold));
        json_put(object, "ois", score_to_json(&scores.ois, NAN));
        json_put(object, "ap", json_real(scores.ap));
        json_put(object, "count", json_integer((json_int_t)scores.images));
        json_put(object, "thresholds", json_integer(scores.thresholds));
        return json_print(object);
    }
    printf("ODS  %.3f   precision %.3f, recall %.3f at threshold %.2f\n", scores.ods.f, scores.ods.precision, scores.ods.recall,
           scores.ods.threshold);
    printf("OIS  %.3f   precision %.3f, recall %.3f, each photograph at its best\n", scores.ois.f, scores.ois.precision, scores.ois.recall);
    printf("AP   %.3f   (%zu photographs, %d thresholds)\n", scores.ap, scores.images, scores.thresholds);
    return EXIT_SUCCESS;
}
