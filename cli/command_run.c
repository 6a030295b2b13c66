/* command_run.c - `dla run`: one forward pass on a NumPy file, for scripts and for comparing with others. */
#include "command.h"
#include "common_options.h"
#include "json_output.h"
#include "network_choice.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct option_spec options[] = {
    MODEL_OPTIONS,
    {"--input", OPTION_TEXT, "X.npy", "float32 (batch, channels, height, width), preprocessed", 0, 0},
    {"--output", OPTION_TEXT, "Y.npy", "where the logits go; with --features an .npz archive", 0, 0},
    {"--features", OPTION_TEXT, "LIST", "feature maps to write instead, such as level2,level5", 0, 0},
    {"--threads", OPTION_INTEGER, "N", "threads (default: one per core)", 1, 1024},
    {"--exact", OPTION_FLAG, NULL, "keep to kernels that sum as a direct convolution does", 0, 0},
    {"--half-weights", OPTION_FLAG, NULL, "let kernels keep weights as float16 where memory bounds them", 0, 0},
    OPTION_ROW_TUNE,
    OPTION_ROWS_DEVICE,
    {"--json", OPTION_FLAG, NULL, "print the outputs' names and shapes as JSON", 0, 0},
    {0},
};

/* The comma-separated names in `list`, which is cut up; at most `capacity`. Returns how many, or -1 for an empty name. */
static int split_names(char *list, const char **names, int capacity)
{
    int count = 0;

    for (char *name = list; name; count++) {
        char *comma = strchr(name, ',');
        if (comma)
            *comma = '\0';
        if (*name == '\0' || count == capacity)
            return -1;
        names[count] = name;
        name = comma ? comma + 1 : NULL;
    }
    return count;
}

static int print_json(const dla_session *session, double milliseconds)
{
    json_t *object = json_object(), *outputs = json_array();

    for (size_t i = 0; i < dla_session_output_count(session); i++) {
        json_t *output = json_object(), *shape = json_array();
        int sides[4];
        dla_session_output_shape(session, i, sides);
        for (int k = 0; k < 4; k++)
            json_add(shape, json_integer(sides[k]));
        json_put(output, "name", json_text(dla_session_output_name(session, i)));
        json_put(output, "shape", shape);
        json_add(outputs, output);
    }
    json_put(object, "outputs", outputs);
    json_put(object, "ms", json_real(milliseconds));
    return json_print(object);
}

/* Logits go as (batch, classes), feature maps as (batch, channels, height, width). */
static int write_outputs(const dla_session *session, const char *path, bool features, float *const *values)
{
    size_t count = dla_session_output_count(session);
    dla_array *arrays = calloc(count, sizeof *arrays);
    const char **names = calloc(count, sizeof *names);
    dla_status status = DLA_OK;

    if (!arrays || !names) {
        free(arrays);
        free(names);
        warn("out of memory");
        return EXIT_WORK_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        int shape[4];
        dla_session_output_shape(session, i, shape);
        names[i] = dla_session_output_name(session, i);
        arrays[i].values = values[i];
        arrays[i].rank = !features && shape[2] == 1 && shape[3] == 1 ? 2 : 4;
        for (int k = 0; k < 4; k++)
            arrays[i].shape[k] = shape[k];
    }
    status = features ? dla_npz_write(path, names, arrays, count) : dla_npy_write(path, &arrays[0]);
    free(arrays);
    free(names);
    return status == DLA_OK ? EXIT_SUCCESS : fail_with_library_error();
}

static double milliseconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static int run_session(const struct arguments *arguments, dla_session *session, const dla_array *input, bool features)
{
    size_t count = dla_session_output_count(session);
    float **values = calloc(count, sizeof *values);
    int status = EXIT_SUCCESS;
    double begin, end;

    for (size_t i = 0; values && i < count; i++) {
        int shape[4];
        dla_session_output_shape(session, i, shape);
        values[i] = malloc((size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3] * sizeof **values);
        if (!values[i]) {
            warn("out of memory for output %s", dla_session_output_name(session, i));
            status = EXIT_WORK_FAILED;
            goto out;
        }
    }
    if (!values) {
        warn("out of memory");
        return EXIT_WORK_FAILED;
    }
    begin = milliseconds_now();
    if (dla_session_run(session, DLA_LAYOUT_NCHW, input->values, values) != DLA_OK) {
        status = fail_with_library_error();
        goto out;
    }
    end = milliseconds_now();
    status = write_outputs(session, argument_text(arguments, "--output", NULL), features, values);
    if (status == EXIT_SUCCESS && argument_flag(arguments, "--json"))
        status = print_json(session, end - begin);
out:
    for (size_t i = 0; i < count; i++)
        free(values[i]);
    free(values);
    return status;
}

enum { MAX_FEATURES = 64 };

static int run(const struct arguments *arguments)
{
    const char *input_path = argument_text(arguments, "--input", NULL), *output_path = argument_text(arguments, "--output", NULL);
    const char *feature_list = argument_text(arguments, "--features", NULL), *names[MAX_FEATURES];
    dla_session_options session_options = DLA_SESSION_OPTIONS_INIT;
    dla_model *model = NULL;
    dla_session *session = NULL;
    dla_array input = {0};
    char *list = NULL;

    if (!input_path || !output_path)
        return fail_with_usage("%s is missing; `dla run --help` shows an example", input_path ? "--output" : "--input");
    int status = choose_device(arguments, &session_options.device, &session_options.precision);
    if (status != EXIT_SUCCESS)
        return status;
    if (feature_list) {
        list = strdup(feature_list);
        int count = list ? split_names(list, names, MAX_FEATURES) : -1;
        if (count < 0) {
            free(list);
            return fail_with_usage("--features '%s' is no list of 1 to %d names with commas in between", feature_list, MAX_FEATURES);
        }
        session_options.features = names;
        session_options.feature_count = (size_t)count;
    }

    status = open_chosen_model(arguments, argument_count(arguments) > 0 ? argument_at(arguments, 0) : NULL, &model);
    if (status != EXIT_SUCCESS)
        goto out;
    if (dla_npy_read(input_path, &input) != DLA_OK) {
        status = fail_with_library_error();
        goto out;
    }
    int channels = dla_network_architecture(dla_model_network(model))->in_channels;
    if (input.rank != 4 || input.shape[0] < 1 || input.shape[0] > 4096 || input.shape[1] != channels || input.shape[2] < 32
        || input.shape[2] > 65536 || input.shape[3] < 32 || input.shape[3] > 65536) {
        warn("%s: needs shape (batch, %d, height, width) with sides of 32 to 65536", input_path, channels);
        status = EXIT_WORK_FAILED;
        goto out;
    }
    session_options.batch = (int)input.shape[0];
    session_options.height = (int)input.shape[2];
    session_options.width = (int)input.shape[3];
    session_options.threads = (int)argument_integer(arguments, "--threads", 0);
    session_options.exact = argument_flag(arguments, "--exact");
    session_options.half_weights = argument_flag(arguments, "--half-weights");
    session_options.tune = chosen_tune(arguments, DLA_TUNE_AUTO);
    if (dla_session_create(model, &session_options, &session) != DLA_OK)
        status = fail_with_library_error();
    else
        status = run_session(arguments, session, &input, feature_list != NULL);
out:
    dla_session_destroy(session);
    dla_model_close(model);
    dla_free(input.values);
    free(list);
    return status;
}

const struct command command_run = {
    .name = "run",
    .summary = "run a network on a NumPy file",
    .positional = "[MODEL]",
    .min_positional = 0,
    .max_positional = 1,
    .description = "Reads a preprocessed batch (float32, NCHW), runs the network, writes the logits as .npy, or with --features "
                   "the named maps as .npz (NCHW). `dla preprocess` makes such a batch of one photograph.",
    .example = "dla run dla34 --weights dla34.safetensors --input x.npy --output logits.npy\n"
               "dla run dla34 --weights dla34.safetensors --input x.npy --output maps.npz --features level2,level5",
    .options = options,
    .run = run,
};
