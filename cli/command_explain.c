/* command_explain.c - `dla explain`: where in a photograph a network sees what it says it sees. */
#include "command.h"
#include "common_options.h"
#include "json_output.h"

#include <dla/dla.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec options[] = {
    OPTION_ROWS_MODEL,
    {"--output", OPTION_TEXT, "OUT.png", "where the picture goes (default: the photograph's name with -explained.png, here)", 0, 0},
    {"--class", OPTION_TEXT, "N|NAME", "explain this class: its number, label or WordNet id (default: the most probable)", 0, 0},
    OPTION_ROW_JSON,
    OPTION_ROW_THREADS,
    OPTION_ROWS_PREPROCESSING,
    OPTION_ROW_EXACT,
    OPTION_ROWS_DEVICE,
    {0},
};

/* The class that the text names, -1 if there is none. A label of several names, "beagle, hound", goes by any of them. */
static int find_class(const dla_model *model, const char *text)
{
    int count = dla_model_class_count(model);
    char *end;

    errno = 0;
    long number = strtol(text, &end, 10);
    if (*end == '\0' && errno == 0)
        return number >= 0 && number < count ? (int)number : -1;
    for (int i = 0; i < count; i++) {
        const char *label = dla_model_label(model, i), *wnid = dla_model_wnid(model, i);

        if ((wnid != NULL && strcmp(wnid, text) == 0) || (label != NULL && strcmp(label, text) == 0))
            return i;
        for (const char *name = label; name != NULL; name = strstr(name, ", ") != NULL ? strstr(name, ", ") + 2 : NULL)
            if (strncmp(name, text, strlen(text)) == 0 && (name[strlen(text)] == '\0' || name[strlen(text)] == ','))
                return i;
    }
    return -1;
}

static int fail_with_unknown_class(const dla_model *model, const char *text)
{
    int count = dla_model_class_count(model);
    const char **labels = calloc((size_t)count + 1, sizeof *labels), *nearest = NULL;

    for (int i = 0; labels != NULL && i < count && dla_model_label(model, i) != NULL; i++)
        labels[i] = dla_model_label(model, i);
    if (labels != NULL && labels[0] != NULL)
        nearest = dla_nearest_name(text, labels, (size_t)count);
    int status = nearest != NULL ? fail_with_usage("--class %s: no such class; did you mean %s?", text, nearest)
                                 : fail_with_usage("--class %s: no such class; the network has classes 0 to %d", text, count - 1);
    free(labels);
    return status;
}

/* "photos/cat.jpg" -> "cat-explained.png"; the caller frees it. */
static char *default_output(const char *photograph)
{
    static const char suffix[] = "-explained.png";
    const char *slash = strrchr(photograph, '/'), *name = slash != NULL ? slash + 1 : photograph, *dot = strrchr(name, '.');
    size_t length = dot != NULL && dot != name ? (size_t)(dot - name) : strlen(name);
    char *output = malloc(length + sizeof suffix);

    if (output != NULL)
        snprintf(output, length + sizeof suffix, "%.*s%s", (int)length, name, suffix);
    return output;
}

static json_t *numbers(const float *values, int height, int width)
{
    json_t *rows = json_array();

    for (int y = 0; y < height; y++) {
        json_t *row = json_array();
        for (int x = 0; x < width; x++)
            json_add(row, json_real((double)values[y * width + x]));
        json_add(rows, row);
    }
    return rows;
}

static int report(const struct arguments *arguments, const dla_explanation *explanation, const char *output)
{
    const char *photograph = argument_at(arguments, 0), *label = explanation->score.label;
    const dla_rectangle *seen = &explanation->seen;

    if (!argument_flag(arguments, "--json")) {
        printf("%s: %.2f %% ", photograph, (double)explanation->score.probability * 100.0);
        if (label != NULL)
            printf("%s", label);
        else
            printf("class %d", explanation->score.index);
        printf("; drawn in %s\n", output);
        return EXIT_SUCCESS;
    }
    json_t *object = json_object(), *crop = json_object();
    json_put(crop, "top", json_integer(seen->top));
    json_put(crop, "left", json_integer(seen->left));
    json_put(crop, "height", json_integer(seen->height));
    json_put(crop, "width", json_integer(seen->width));
    json_put(object, "file", json_text(photograph));
    json_put(object, "output", json_text(output));
    json_put(object, "index", json_integer(explanation->score.index));
    json_put(object, "label", json_text(label));
    json_put(object, "wnid", json_text(explanation->score.wnid));
    json_put(object, "probability", json_real((double)explanation->score.probability));
    json_put(object, "logit", json_real((double)explanation->logit));
    json_put(object, "bias", json_real((double)explanation->bias));
    json_put(object, "crop", crop);
    json_put(object, "evidence", numbers(explanation->evidence, explanation->height, explanation->width));
    return json_print(object);
}

static int explain(const struct arguments *arguments, const dla_model *model, const char *output)
{
    const char *class_text = argument_text(arguments, "--class", NULL);
    dla_preprocessing preprocessing = chosen_preprocessing(arguments, model);
    dla_decode_options decoding = DLA_DECODE_OPTIONS_INIT;
    dla_explain_options explain_options = DLA_EXPLAIN_OPTIONS_INIT;
    dla_image *photograph = NULL, *picture = NULL;
    dla_explanation *explanation = NULL;
    int status = choose_device(arguments, &explain_options.device, &explain_options.precision);

    if (status != EXIT_SUCCESS)
        return status;
    explain_options.preprocessing = &preprocessing;
    explain_options.threads = (int)argument_integer(arguments, "--threads", 0);
    explain_options.exact = argument_flag(arguments, "--exact");
    decoding.ignore_exif = argument_flag(arguments, "--no-exif");
    if (class_text != NULL) {
        explain_options.class_index = find_class(model, class_text);
        if (explain_options.class_index < 0)
            return fail_with_unknown_class(model, class_text);
    }
    if (dla_image_read(argument_at(arguments, 0), &decoding, &photograph) != DLA_OK
        || dla_explain(model, photograph, &explain_options, &explanation) != DLA_OK
        || dla_explanation_draw(explanation, photograph, &picture) != DLA_OK || dla_image_write_png(picture, output) != DLA_OK)
        status = fail_with_library_error();
    else
        status = report(arguments, explanation, output);
    dla_image_destroy(picture);
    dla_explanation_destroy(explanation);
    dla_image_destroy(photograph);
    return status;
}

static int run(const struct arguments *arguments)
{
    const char *given = argument_text(arguments, "--output", NULL);
    char *output = given != NULL ? strdup(given) : default_output(argument_at(arguments, 0));
    dla_model *model = NULL;

    if (output == NULL) {
        warn("out of memory");
        return EXIT_WORK_FAILED;
    }
    int status = open_model(arguments, &model);
    if (status == EXIT_SUCCESS)
        status = explain(arguments, model, output);
    dla_model_close(model);
    free(output);
    return status;
}

const struct command command_explain = {
    .name = "explain",
    .summary = "draw where in a photograph a network sees what it says",
    .positional = "PHOTO",
    .min_positional = 1,
    .max_positional = 1,
    .description = "Classifies a photograph and draws the class's evidence over it: what every place of the last map adds to the class's "
                   "score (class activation mapping; for these networks an identity, not an estimate). Below it, the feature pyramid: "
                   "how strongly each of the six levels answers, place by place.",
    .example = "dla explain photo.jpg\n"
               "dla explain photo.jpg --class \"garbage truck\" --output truck.png --json",
    .options = options,
    .run = run,
};
