/* command_convert.c - `dla convert`: any weights file that can be read, written as safetensors. */
#include "command.h"
#include "weights_fetch.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>

static const struct option_spec options[] = {
    {"--half", OPTION_FLAG, NULL, "store float16: half the size; refuses values above 65504; biases and batch norms stay float32", 0, 0},
    {"--bfloat16", OPTION_FLAG, NULL, "store bfloat16: half the size, float32's range, three digits; biases and batch norms stay float32", 0, 0},
    {0},
};

static int run(const struct arguments *arguments)
{
    const char *input = argument_at(arguments, 0), *output = argument_at(arguments, 1);
    bool half = argument_flag(arguments, "--half"), brain = argument_flag(arguments, "--bfloat16");
    char *report = NULL;

    if (half && brain)
        return fail_with_usage("--half and --bfloat16 exclude each other");
    int exit_status = fetch_weights(input);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    if (dla_weights_convert(input, output, half ? DLA_FLOAT16 : brain ? DLA_BFLOAT16 : DLA_FLOAT32, &report) != DLA_OK)
        return fail_with_library_error();
    fprintf(stderr, "%s\n", report);
    dla_free(report);
    return EXIT_SUCCESS;
}

const struct command command_convert = {
    .name = "convert",
    .summary = "write any weights file as safetensors",
    .positional = "IN OUT",
    .min_positional = 2,
    .max_positional = 2,
    .description = "Reads weights of any known format and writes safetensors. Weights that fit a network come out clean: plain names, "
                   "no unused tensors, and network, labels and preprocessing in the file itself, also those from a config.json beside IN. "
                   "Other files keep all tensors as they are.",
    .example = "dla convert dla34-ba72cf86.pth dla34.safetensors\n"
               "dla convert mine.safetensors small.safetensors --half",
    .options = options,
    .run = run,
};
