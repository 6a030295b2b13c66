/* command_classify.c - `dla classify`: photographs in, most probable classes out. */
#include "command.h"
#include "common_options.h"
#include "json_output.h"
#include "photo_list.h"
#include "progress.h"
#include "standard_input.h"

#include <dla/dla.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct option_spec options[] = {
    OPTION_ROWS_MODEL,
    {"--topk", OPTION_INTEGER, "N", "classes to print per photograph (default 5)", 1, 1000000},
    OPTION_ROW_JSON,
    OPTION_ROW_THREADS,
    OPTION_ROW_BATCH,
    OPTION_ROWS_PREPROCESSING,
    OPTION_ROW_EXACT,
    OPTION_ROW_TUNE,
    OPTION_ROWS_DEVICE,
    {0},
};

/* Where results go, one after the other. */
struct output {
    int count;              /* classes per photograph */
    json_t *json;           /* the array to fill; NULL: text on stdout */
    size_t reported, total; /* photographs */
    bool all_read;          /* no photograph failed */
};

static json_t *scores_to_json(const dla_class_score *scores, int count)
{
    json_t *classes = json_array();

    for (int k = 0; k < count; k++) {
        json_t *class_object = json_object();
        json_put(class_object, "index", json_integer(scores[k].index));
        json_put(class_object, "label", json_text(scores[k].label));
        json_put(class_object, "wnid", json_text(scores[k].wnid));
        json_put(class_object, "probability", json_real((double)scores[k].probability));
        json_add(classes, class_object);
    }
    return classes;
}

static void add_json(json_t *array, const char *path, const dla_class_score *scores, int count, double milliseconds)
{
    json_t *photo = json_object();

    json_put(photo, "file", json_text(path));
    json_put(photo, "classes", scores_to_json(scores, count));
    json_put(photo, "ms", json_real(round(milliseconds * 1000.0) / 1000.0));
    json_add(array, photo);
}

static void print_text(const char *path, const dla_class_score *scores, int count)
{
    printf("%s\n", path);
    for (int k = 0; k < count; k++) {
        printf("  %6.2f %%  ", (double)scores[k].probability * 100.0);
        if (scores[k].label != NULL)
            printf("%s", scores[k].label);
        else
            printf("class %d", scores[k].index);
        if (scores[k].wnid != NULL)
            printf("  (%s)", scores[k].wnid);
        putchar('\n');
    }
}

static bool report(void *context, const dla_photograph_result *result)
{
    struct output *output = context;

    if (result->status != DLA_OK) {
        warn("%s", result->message);
        output->all_read = false;
    } else if (output->json != NULL) {
        add_json(output->json, result->path, result->scores, output->count, result->milliseconds);
    } else {
        progress_hide();
        print_text(result->path, result->scores, output->count);
    }
    output->reported++;
    progress_update((int64_t)output->reported, (int64_t)output->total);
    return true;
}

/* The photograph on standard input. That it cannot be decoded is reported; the status is the network's. */
static dla_status classify_standard_input(dla_classifier *classifier, const dla_decode_options *decode, struct output *output)
{
    dla_class_score *scores = calloc((size_t)output->count, sizeof(*scores));
    double start = seconds_now();
    dla_image *image = NULL;
    dla_status status = DLA_OK;
    size_t size = 0;
    unsigned char *bytes = scores != NULL ? read_standard_input(&size) : NULL;

    if (bytes == NULL) {
        output->all_read = false;
    } else if (dla_image_decode(bytes, size, "standard input", decode, &image) != DLA_OK) {
        dla_photograph_result result = {.path = "-", .status = DLA_ERROR_FORMAT, .message = dla_error_message()};
        report(output, &result);
    } else {
        dla_photograph_result result = {.path = "-", .message = "", .scores = scores};
        status = dla_classifier_classify(classifier, &(const dla_image *){image}, 1, output->count, scores);
        result.milliseconds = (seconds_now() - start) * 1000.0;
        if (status == DLA_OK)
            report(output, &result);
    }
    dla_image_destroy(image);
    free(bytes);
    free(scores);
    return status;
}

/* ---- the command ------------------------------------------------------------------------------------------------------ */

/* Files go through the classifier in runs, between them what stands on standard input. */
static dla_status classify_list(dla_classifier *classifier, const dla_decode_options *decode, const struct photo_list *list,
                                struct output *output)
{
    dla_status status = DLA_OK;

    for (size_t first = 0, end; status == DLA_OK && first < list->count; first = end) {
        end = first + 1;
        if (is_standard_input(list->paths[first])) {
            status = classify_standard_input(classifier, decode, output);
            continue;
        }
        while (end < list->count && !is_standard_input(list->paths[end]))
            end++;
        status = dla_classifier_classify_files(classifier, list->paths + first, end - first, output->count, report, output);
    }
    return status;
}

static int classify(const struct arguments *arguments, const dla_model *model, const struct photo_list *list)
{
    dla_preprocessing preprocessing = chosen_preprocessing(arguments, model);
    dla_classifier_options classifier_options;
    dla_decode_options decode = DLA_DECODE_OPTIONS_INIT;
    struct output output = {.total = list->count, .all_read = list->complete};
    dla_classifier *classifier = NULL;
    int64_t count = argument_integer(arguments, "--topk", 5);
    int exit_status = choose_classifier_options(arguments, &preprocessing, &classifier_options);

    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    output.count = (int)(count < dla_model_class_count(model) ? count : dla_model_class_count(model));
    decode.ignore_exif = classifier_options.ignore_exif;
    if (list->count > 0 && (size_t)classifier_options.batch > list->count)
        classifier_options.batch = (int)list->count; /* places that stay empty cost as much as full ones */
    if (dla_classifier_create(model, &classifier_options, &classifier) != DLA_OK)
        return fail_with_library_error();
    if (argument_flag(arguments, "--json"))
        output.json = json_array();

    progress_start("photographs");
    dla_status status = classify_list(classifier, &decode, list, &output);
    progress_finish();
    dla_classifier_destroy(classifier);
    if (status != DLA_OK) {
        json_decref(output.json);
        return fail_with_library_error();
    }
    exit_status = argument_flag(arguments, "--json") ? json_print(output.json) : EXIT_SUCCESS;
    return exit_status == EXIT_SUCCESS && !output.all_read ? EXIT_WORK_FAILED : exit_status;
}

static int run(const struct arguments *arguments)
{
    dla_model *model = NULL;
    struct photo_list list;
    int exit_status = open_model(arguments, &model);

    if (exit_status == EXIT_SUCCESS) {
        exit_status = photo_list_read(arguments, &list);
        if (exit_status == EXIT_SUCCESS) {
            exit_status = classify(arguments, model, &list);
            photo_list_free(&list);
        }
    }
    dla_model_close(model);
    return exit_status;
}

const struct command command_classify = {
    .name = "classify",
    .summary = "say what photographs show",
    .positional = "PHOTO...",
    .min_positional = 1,
    .max_positional = -1,
    .description =
        "Prints the most probable classes of each photograph (JPEG, PNG or WebP). PHOTO may be a file, a folder, which is "
        "searched with the folders inside it, or - for standard input. Without --weights the built-in network is used, "
        "which knows ten classes. A photograph that cannot be read gives one line on stderr, the others are classified all "
        "the same, and the exit status is 1. With --json: an array with one object per photograph, its keys file, classes (index, "
        "label, wnid, probability) and ms, the milliseconds from file to classes.",
    .example = "dla classify photo.jpg\n"
               "dla classify --topk 1 --json holidays/ > classes.json\n"
               "dla classify --weights dla34.safetensors --batch 8 photos/*.jpg\n"
               "curl -s https://example.org/photo.jpg | dla classify -",
    .options = options,
    .run = run,
};
