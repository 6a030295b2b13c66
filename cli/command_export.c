/* command_export.c - `dla export`: a model for other engines. */
#include "command.h"
#include "network_choice.h"

#include <dla/dla.h>

#include <stdlib.h>
#include <string.h>

static const struct option_spec options[] = {
    MODEL_OPTIONS,
    {"--format", OPTION_CHOICE, "onnx", "what to write (default, and so far the only one: onnx)", 0, 0},
    {"--opset", OPTION_INTEGER, "N", "version of the ONNX operators (default 17, or 18 where the model resizes)", 17, 22},
    {"--size", OPTION_SIZE, "N|HxW", "input size (default: the weights' preprocessing size, else 224)", 32, 65536},
    {"--dynamic-size", OPTION_FLAG, NULL, "leave height and width free; the batch always is", 0, 0},
    {"--with-preprocessing", OPTION_CHOICE, "normalize|resize",
     "take 8-bit RGB pixels: normalize crops of the right size, or resize and crop photographs, too", 0, 0},
    {0},
};

static int run(const struct arguments *arguments)
{
    size_t count = argument_count(arguments);
    const char *name = count > 1 ? argument_at(arguments, 0) : NULL, *path = argument_at(arguments, count - 1);
    const char *preprocessing = argument_text(arguments, "--with-preprocessing", NULL);
    dla_onnx_options onnx = DLA_ONNX_OPTIONS_INIT;
    dla_model *model = NULL;

    onnx.opset = (int)argument_integer(arguments, "--opset", 0);
    onnx.dynamic_size = argument_flag(arguments, "--dynamic-size");
    if (argument_size(arguments, "--size", &onnx.height, &onnx.width) && onnx.dynamic_size)
        return fail_with_usage("--size and --dynamic-size exclude each other: the size is fixed or free");
    if (preprocessing != NULL)
        onnx.input = strcmp(preprocessing, "resize") == 0 ? DLA_ONNX_INPUT_PHOTOGRAPH : DLA_ONNX_INPUT_PIXELS;

    int status = open_chosen_model(arguments, name, &model);
    if (status == EXIT_SUCCESS && dla_model_export_onnx(model, &onnx, path) != DLA_OK)
        status = fail_with_library_error();
    dla_model_close(model);
    return status;
}

const struct command command_export = {
    .name = "export",
    .summary = "write a model as ONNX for other engines",
    .positional = "[MODEL] OUT",
    .min_positional = 1,
    .max_positional = 2,
    .description = "Writes a network with its weights as an ONNX model. Nodes and constants have the names of the reference's modules, "
                   "the batch size is free, labels and preprocessing travel in the metadata. Without MODEL, the weights must say which "
                   "network they are for; without --weights, it is the built-in model.",
    .example = "dla export dla34 --weights dla34.safetensors --format onnx dla34.onnx\n"
               "dla export --weights mine.safetensors --dynamic-size mine.onnx\n"
               "dla export --with-preprocessing resize classifier.onnx",
    .options = options,
    .run = run,
};
