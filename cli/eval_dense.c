/* eval_dense.c - class maps scored against labels, boundary maps against annotators. */
#include "eval_dense.h"

#include "common_options.h"
#include "dense_run.h"
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

/* model: whose labels name the classes; NULL for predictions of others. */
static int print_segmentation_text(const dla_segmentation_scores *scores, const dla_model *model)
{
    printf("mean IoU        %6.2f %%   (%zu pictures)\n", 100 * scores->mean_iou, scores->images);
    printf("pixel accuracy  %6.2f %%\n", 100 * scores->pixel_accuracy);
    printf("class accuracy  %6.2f %%\n\n", 100 * scores->class_accuracy);
    printf("class      IoU\n");
    for (int c = 0; c < scores->classes; c++) {
        double iou = dla_segmentation_iou(scores, c);
        const char *label = model != NULL ? dla_model_label(model, c) : NULL;
        if (isnan(iou))
            printf("%5d        -   (does not occur)", c);
        else
            printf("%5d  %6.2f %%", c, 100 * iou);
        printf("%s%s\n", label != NULL ? "  " : "", label != NULL ? label : "");
    }
    return EXIT_SUCCESS;
}

static dla_status segmentation_of_predictions(const struct arguments *arguments, dla_segmentation_scores *scores)
{
    dla_score_options options = chosen_options(arguments);
    return dla_segmentation_score(argument_text(arguments, "--predictions", NULL), argument_text(arguments, "--labels", NULL),
                                  (int)argument_integer(arguments, "--classes", 0), (int)argument_integer(arguments, "--ignore", 255),
                                  &options, scores);
}

int eval_segmentation(const struct arguments *arguments)
{
    bool pictures = argument_text(arguments, "--predictions", NULL) != NULL;
    dla_segmentation_scores scores;
    struct chosen_dense chosen = {0};

    if (pictures && (argument_text(arguments, "--labels", NULL) == NULL || argument_integer(arguments, "--classes", 0) == 0))
        return fail_with_usage("eval --task segment with --predictions needs --labels DIR and --classes N");
    int exit_status = pictures ? EXIT_SUCCESS : open_dense(arguments, DLA_TASK_SEGMENT, &chosen);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    progress_start(pictures ? "pictures" : "photographs");
    dla_score_options options = chosen_options(arguments);
    dla_status status = pictures ? segmentation_of_predictions(arguments, &scores)
                                 : dla_dense_evaluate_segmentation(chosen.dense, argument_at(arguments, 0), argument_text(arguments, "--split", NULL),
                                                                   (int)argument_integer(arguments, "--ignore", 255), &options, &scores);
    progress_finish();
    if (status != DLA_OK) {
        exit_status = fail_with_library_error();
    } else {
        exit_status = argument_flag(arguments, "--json") ? print_segmentation_json(&scores) : print_segmentation_text(&scores, chosen.model);
        dla_free(scores.confusion);
    }
    close_dense(&chosen);
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

static int print_edge_scores(const dla_edge_scores *scores, bool json)
{
    if (json) {
        json_t *object = json_object();
        json_put(object, "ods", score_to_json(&scores->ods, scores->ods.threshold));
        json_put(object, "ois", score_to_json(&scores->ois, NAN));
        json_put(object, "ap", json_real(scores->ap));
        json_put(object, "count", json_integer((json_int_t)scores->images));
        json_put(object, "thresholds", json_integer(scores->thresholds));
        return json_print(object);
    }
    printf("ODS  %.3f   precision %.3f, recall %.3f at threshold %.2f\n", scores->ods.f, scores->ods.precision, scores->ods.recall,
           scores->ods.threshold);
    printf("OIS  %.3f   precision %.3f, recall %.3f, each photograph at its best\n", scores->ois.f, scores->ois.precision, scores->ois.recall);
    printf("AP   %.3f   (%zu photographs, %d thresholds)\n", scores->ap, scores->images, scores->thresholds);
    return EXIT_SUCCESS;
}

int eval_edges(const struct arguments *arguments)
{
    const char *predictions = argument_text(arguments, "--predictions", NULL), *truth = argument_text(arguments, "--ground-truth", NULL);
    int thresholds = (int)argument_integer(arguments, "--thresholds", 99);
    struct chosen_dense chosen = {0};
    dla_edge_scores scores;

    if (predictions != NULL && truth == NULL)
        return fail_with_usage("eval --task edges with --predictions needs --ground-truth DIR");
    int exit_status = predictions != NULL ? EXIT_SUCCESS : open_dense(arguments, DLA_TASK_EDGES, &chosen);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    dla_score_options options = chosen_options(arguments);
    progress_start("photographs");
    dla_status status = predictions != NULL ? dla_edges_score(predictions, truth, thresholds, &options, &scores)
                                            : dla_dense_evaluate_edges(chosen.dense, argument_at(arguments, 0),
                                                                       argument_text(arguments, "--split", NULL), thresholds, &options, &scores);
    progress_finish();
    close_dense(&chosen);
    return status == DLA_OK ? print_edge_scores(&scores, argument_flag(arguments, "--json")) : fail_with_library_error();
}
