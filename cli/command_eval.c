/* command_eval.c - `dla eval`: how many photographs of an ImageFolder tree a network recognises; how good dense predictions are. */
#include "command.h"
#include "common_options.h"
#include "eval_dense.h"
#include "json_output.h"
#include "progress.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec options[] = {
    OPTION_ROWS_EVAL_DENSE, OPTION_ROWS_MODEL, OPTION_ROW_JSON,
    OPTION_ROW_THREADS,     OPTION_ROW_BATCH,  OPTION_ROWS_PREPROCESSING,
    OPTION_ROW_EXACT,       OPTION_ROW_TUNE,   OPTION_ROWS_DEVICE,
    {0},
};

enum { MOST_CONFUSIONS_PRINTED = 10, LABEL_WIDTH = 32 };

static double fraction(int64_t part, int64_t whole)
{
    return (double)part / (double)whole;
}

/* null for a class without photographs: 0 of 0 is no score. */
static json_t *fraction_to_json(int64_t part, int64_t whole)
{
    return whole > 0 ? json_real(fraction(part, whole)) : json_null();
}

static int print_json(const dla_evaluation *evaluation)
{
    json_t *object = json_object(), *per_class = json_array(), *confusion = json_array(), *skipped = json_array();

    json_put(object, "top1", fraction_to_json(evaluation->top1, evaluation->count));
    json_put(object, "top5", fraction_to_json(evaluation->top5, evaluation->count));
    json_put(object, "count", json_integer(evaluation->count));
    for (int c = 0; c < evaluation->class_count; c++) {
        const dla_class_result *result = &evaluation->classes[c];
        json_t *class_object = json_object();
        json_put(class_object, "index", json_integer(c));
        json_put(class_object, "label", json_text(result->label));
        json_put(class_object, "wnid", json_text(result->wnid));
        json_put(class_object, "count", json_integer(result->count));
        json_put(class_object, "top1", fraction_to_json(result->top1, result->count));
        json_put(class_object, "top5", fraction_to_json(result->top5, result->count));
        json_add(per_class, class_object);
    }
    for (int truth = 0; truth < evaluation->class_count; truth++) {
        json_t *row = json_array();
        for (int guess = 0; guess < evaluation->class_count; guess++)
            json_add(row, json_integer(evaluation->confusion[(size_t)truth * (size_t)evaluation->class_count + (size_t)guess]));
        json_add(confusion, row);
    }
    for (size_t i = 0; i < evaluation->skipped_count; i++) {
        json_t *file = json_object();
        json_put(file, "file", json_text(evaluation->skipped[i].path));
        json_put(file, "reason", json_text(evaluation->skipped[i].reason));
        json_add(skipped, file);
    }
    json_put(object, "per_class", per_class);
    json_put(object, "confusion", confusion);
    json_put(object, "skipped", skipped);
    return json_print(object);
}

/* ---- text ------------------------------------------------------------------------------------------------------------- */

/* The first of a label's names, or the wnid, or the number. */
static const char *short_name(const dla_evaluation *evaluation, int index, char text[LABEL_WIDTH])
{
    const dla_class_result *result = &evaluation->classes[index];

    if (result->label != NULL)
        snprintf(text, LABEL_WIDTH, "%.*s", (int)strcspn(result->label, ","), result->label);
    else if (result->wnid != NULL)
        snprintf(text, LABEL_WIDTH, "%s", result->wnid);
    else
        snprintf(text, LABEL_WIDTH, "class %d", index);
    return text;
}

static void print_classes(const dla_evaluation *evaluation)
{
    char name[LABEL_WIDTH];

    printf("\n%-*s  photographs    top-1    top-5\n", LABEL_WIDTH, "class");
    for (int c = 0; c < evaluation->class_count; c++) {
        const dla_class_result *result = &evaluation->classes[c];
        if (result->count > 0)
            printf("%-*s  %11lld  %5.1f %%  %5.1f %%\n", LABEL_WIDTH, short_name(evaluation, c, name), (long long)result->count,
                   100.0 * fraction(result->top1, result->count), 100.0 * fraction(result->top5, result->count));
    }
}

/* The most frequent mistakes, most frequent first. */
static void print_confusions(const dla_evaluation *evaluation)
{
    int64_t previous = INT64_MAX;
    int printed = 0;
    char truth_name[LABEL_WIDTH], guess_name[LABEL_WIDTH];

    while (printed < MOST_CONFUSIONS_PRINTED) {
        int64_t next = 0; /* the largest count below the previous one */
        for (int truth = 0; truth < evaluation->class_count; truth++)
            for (int guess = 0; guess < evaluation->class_count; guess++) {
                int64_t count = evaluation->confusion[(size_t)truth * (size_t)evaluation->class_count + (size_t)guess];
                if (truth != guess && count < previous && count > next)
                    next = count;
            }
        if (next == 0)
            break;
        if (printed == 0)
            printf("\nmost frequent mistakes\n");
        for (int truth = 0; truth < evaluation->class_count; truth++)
            for (int guess = 0; guess < evaluation->class_count && printed < MOST_CONFUSIONS_PRINTED; guess++) {
                int64_t count = evaluation->confusion[(size_t)truth * (size_t)evaluation->class_count + (size_t)guess];
                if (truth == guess || count != next)
                    continue;
                printf("%5lld  %s taken for %s\n", (long long)count, short_name(evaluation, truth, truth_name),
                       short_name(evaluation, guess, guess_name));
                printed++;
            }
        previous = next;
    }
}

static void print_text(const dla_evaluation *evaluation)
{
    if (evaluation->count == 0) {
        printf("no photograph could be read\n");
        return;
    }
    printf("top-1  %6.2f %%  (%lld of %lld)\n", 100.0 * fraction(evaluation->top1, evaluation->count), (long long)evaluation->top1,
           (long long)evaluation->count);
    printf("top-5  %6.2f %%  (%lld of %lld)\n", 100.0 * fraction(evaluation->top5, evaluation->count), (long long)evaluation->top5,
           (long long)evaluation->count);
    print_classes(evaluation);
    print_confusions(evaluation);
}

/* ---- the command ------------------------------------------------------------------------------------------------------ */

static bool show_progress(void *context, size_t done, size_t total)
{
    (void)context;
    progress_update((int64_t)done, (int64_t)total);
    return true;
}

static int evaluate(const struct arguments *arguments, const dla_model *model)
{
    dla_preprocessing preprocessing = chosen_preprocessing(arguments, model);
    dla_classifier_options classifier_options;
    dla_classifier *classifier = NULL;
    dla_evaluation *evaluation = NULL;
    int exit_status = choose_classifier_options(arguments, &preprocessing, &classifier_options);

    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    if (dla_classifier_create(model, &classifier_options, &classifier) != DLA_OK)
        return fail_with_library_error();
    progress_start("photographs");
    dla_status status = dla_classifier_evaluate(classifier, argument_at(arguments, 0), show_progress, NULL, &evaluation);
    progress_finish();
    dla_classifier_destroy(classifier);
    if (status != DLA_OK)
        return fail_with_library_error();

    for (size_t i = 0; i < evaluation->skipped_count; i++)
        warn("%s; skipped", evaluation->skipped[i].reason);
    if (argument_flag(arguments, "--json"))
        exit_status = print_json(evaluation);
    else
        print_text(evaluation);
    if (exit_status == EXIT_SUCCESS && evaluation->count == 0)
        exit_status = EXIT_WORK_FAILED;
    dla_evaluation_destroy(evaluation);
    return exit_status;
}

static int run(const struct arguments *arguments)
{
    const char *task = argument_text(arguments, "--task", "classify");
    dla_model *model = NULL;

    bool pictures = argument_text(arguments, "--predictions", NULL) != NULL;
    if (strcmp(task, "classify") != 0 && (argument_count(arguments) > 0) == pictures)
        return fail_with_usage("eval --task %s needs either DIR, labelled photographs, or --predictions DIR, pictures", task);
    if (strcmp(task, "segment") == 0)
        return eval_segmentation(arguments);
    if (strcmp(task, "edges") == 0)
        return eval_edges(arguments);
    if (argument_count(arguments) == 0)
        return fail_with_usage("eval needs DIR, a folder with one folder of photographs per class");
    int exit_status = open_model(arguments, &model);

    if (exit_status == EXIT_SUCCESS)
        exit_status = evaluate(arguments, model);
    dla_model_close(model);
    return exit_status;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "score a network on labelled photographs, or anybody's dense predictions",
    .positional = "[DIR]",
    .min_positional = 0,
    .max_positional = 1,
    .description =
        "Classifies all photographs below DIR, which holds one folder per class (as torchvision's ImageFolder), and counts how many "
        "are recognised at once (top-1) or among the five best (top-5). A folder is called by its class's wnid, such as n01440764, "
        "or by its label. What cannot be read or belongs to no class is skipped, with one line on stderr, and does not count. "
        "With --json: top1 and top5 as fractions, count, per_class, confusion (a row per true class, a column per guess) and skipped. "
        "--task segment scores class maps (mean IoU over the classes that occur, pixel and class accuracy), --task edges boundary maps "
        "(ODS, OIS and AP as the BSDS benchmark defines them): a network's own, for DIR in the forms of `dla train --task`, or with "
        "--predictions pictures that `dla segment` and `dla edges` or anybody else made.",
    .example = "dla eval imagenette/val\n"
               "dla eval --json --batch 8 --weights dla34.safetensors imagenet/val > scores.json\n"
               "dla eval --task segment camvid --weights camvid.safetensors --ignore 11\n"
               "dla eval --task segment --predictions out/classes --labels camvid/testannot --classes 11 --ignore 11\n"
               "dla eval --task edges --predictions out/edges --ground-truth bsds500/groundTruth/test",
    .options = options,
    .run = run,
};
