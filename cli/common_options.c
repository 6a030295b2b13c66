/* common_options.c - options that several commands share. */
#include "common_options.h"

#include "weights_fetch.h"

#include <stdlib.h>
#include <string.h>

int open_model(const struct arguments *arguments, dla_model **model)
{
    return open_model_for(arguments, DLA_TASK_CLASSIFY, model);
}

int open_model_for(const struct arguments *arguments, dla_task task, dla_model **model)
{
    const char *name = argument_text(arguments, "--model", NULL);
    const char *config = argument_text(arguments, "--config", NULL);
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_architecture architecture;

    if (name != NULL && config != NULL)
        return fail_with_usage("both --model %s and --config %s are given; one of them names the network", name, config);
    if ((name != NULL && dla_architecture_find(name, &architecture) != DLA_OK)
        || (config != NULL && dla_architecture_read_config(config, &architecture) != DLA_OK))
        return fail_with_library_error();
    if (name != NULL)
        architecture.num_classes = DLA_CLASSES_OF_WEIGHTS; /* a published network, fine-tuned to other classes */
    options.architecture = name != NULL || config != NULL ? &architecture : NULL;
    options.weights = argument_text(arguments, "--weights", NULL);
    options.task = task;
    int exit_status = fetch_weights(options.weights);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    return dla_model_open(&options, model) == DLA_OK ? EXIT_SUCCESS : fail_with_library_error();
}

dla_preprocessing chosen_preprocessing(const struct arguments *arguments, const dla_model *model)
{
    dla_preprocessing preprocessing = *dla_model_preprocessing(model);
    const char *interpolation = argument_text(arguments, "--interpolation", NULL);

    preprocessing.size = (int)argument_integer(arguments, "--size", preprocessing.size);
    preprocessing.crop_pct = argument_number(arguments, "--crop-pct", preprocessing.crop_pct);
    if (interpolation != NULL)
        preprocessing.interpolation = strcmp(interpolation, "bicubic") == 0 ? DLA_INTERPOLATION_BICUBIC : DLA_INTERPOLATION_BILINEAR;
    return preprocessing;
}

dla_tune chosen_tune(const struct arguments *arguments, dla_tune fallback)
{
    const char *text = argument_text(arguments, "--tune", "auto");

    return strcmp(text, "always") == 0 ? DLA_TUNE_ALWAYS : strcmp(text, "never") == 0 ? DLA_TUNE_NEVER : fallback;
}

/* ---- devices ------------------------------------------------------------------------------------------------------------ */

static const char *const precision_names[] = {
    [DLA_PRECISION_FLOAT32] = "float32",
    [DLA_PRECISION_TF32] = "tf32",
    [DLA_PRECISION_FLOAT16] = "float16",
    [DLA_PRECISION_BFLOAT16] = "bfloat16",
};

const char *precision_name(dla_precision precision)
{
    return precision_names[precision];
}

bool precision_of_name(const char *name, size_t length, dla_precision *precision)
{
    for (size_t i = 0; i < sizeof(precision_names) / sizeof(precision_names[0]); i++)
        if (strlen(precision_names[i]) == length && memcmp(precision_names[i], name, length) == 0) {
            *precision = (dla_precision)i;
            return true;
        }
    return false;
}

dla_device chosen_device(const struct arguments *arguments)
{
    return strcmp(argument_text(arguments, "--device", "cpu"), "cuda") == 0 ? DLA_DEVICE_CUDA : DLA_DEVICE_CPU;
}

int fail_with_cpu_precision(const char *precision)
{
    return fail_with_usage("--precision %s is for GPUs, the CPU computes in float32; add --device cuda", precision);
}

int choose_device(const struct arguments *arguments, dla_device *device, dla_precision *precision)
{
    const char *name = argument_text(arguments, "--precision", "float32");

    *device = chosen_device(arguments);
    *precision = DLA_PRECISION_FLOAT32;
    precision_of_name(name, strlen(name), precision);
    return *device == DLA_DEVICE_CPU && *precision != DLA_PRECISION_FLOAT32 ? fail_with_cpu_precision(name) : EXIT_SUCCESS;
}

int choose_classifier_options(const struct arguments *arguments, const dla_preprocessing *preprocessing, dla_classifier_options *options)
{
    *options = (dla_classifier_options)DLA_CLASSIFIER_OPTIONS_INIT;
    options->preprocessing = preprocessing;
    options->batch = (int)argument_integer(arguments, "--batch", 1);
    options->threads = (int)argument_integer(arguments, "--threads", 0);
    options->exact = argument_flag(arguments, "--exact");
    options->tune = chosen_tune(arguments, DLA_TUNE_AUTO);
    options->ignore_exif = argument_flag(arguments, "--no-exif");
    return choose_device(arguments, &options->device, &options->precision);
}
