/* command_preprocess.c - `dla preprocess`: a photograph as the network's input, in a NumPy file. */
#include "command.h"
#include "json_output.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec options[] = {
    {"--output", OPTION_TEXT, "X.npy", "where to write the array; needed", 0, 0},
    {"--size", OPTION_INTEGER, "N", "side of the square that is cut out (default 224)", 1, 16384},
    {"--crop-pct", OPTION_NUMBER, "F", "the cut's part of the shorter side (default 0.875)", 0.01, 2},
    {"--interpolation", OPTION_CHOICE, "bilinear|bicubic", "how to resize (default bilinear)", 0, 0},
    {"--no-exif", OPTION_FLAG, NULL, "ignore the camera's note of how the picture was held", 0, 0},
    {"--json", OPTION_FLAG, NULL, "print what was done as JSON", 0, 0},
    {0},
};

static int report(const struct arguments *arguments, const char *output, const dla_image *image, const dla_array *array)
{
    int height = dla_image_height(image), width = dla_image_width(image);

    if (!argument_flag(arguments, "--json")) {
        printf("%s: float32 (1, 3, %d, %d) from %d x %d pixels\n", output, (int)array->shape[2], (int)array->shape[3], width, height);
        return EXIT_SUCCESS;
    }
    json_t *object = json_object(), *shape = json_array();
    for (int i = 0; i < array->rank; i++)
        json_add(shape, json_integer(array->shape[i]));
    json_put(object, "file", json_text(argument_at(arguments, 0)));
    json_put(object, "height", json_integer(height));
    json_put(object, "width", json_integer(width));
    json_put(object, "output", json_text(output));
    json_put(object, "shape", shape);
    return json_print(object);
}

static int run(const struct arguments *arguments)
{
    const char *output = argument_text(arguments, "--output", NULL);
    dla_decode_options decoding = DLA_DECODE_OPTIONS_INIT;
    dla_preprocessing preprocessing = DLA_PREPROCESSING_IMAGENET;
    dla_image *image = NULL;
    dla_array array = {.rank = 4};
    int exit_status;

    if (output == NULL)
        return fail_with_usage("preprocess needs --output X.npy, where to write the array");
    decoding.ignore_exif = argument_flag(arguments, "--no-exif");
    preprocessing.size = (int)argument_integer(arguments, "--size", preprocessing.size);
    preprocessing.crop_pct = argument_number(arguments, "--crop-pct", preprocessing.crop_pct);
    if (strcmp(argument_text(arguments, "--interpolation", "bilinear"), "bicubic") == 0)
        preprocessing.interpolation = DLA_INTERPOLATION_BICUBIC;

    size_t size = (size_t)preprocessing.size;
    memcpy(array.shape, (int64_t[4]){1, 3, preprocessing.size, preprocessing.size}, 4 * sizeof(int64_t));
    array.values = malloc(3 * size * size * sizeof(float));
    if (array.values == NULL) {
        warn("out of memory for %zu x %zu pixels", size, size);
        return EXIT_WORK_FAILED;
    }
    if (dla_image_read(argument_at(arguments, 0), &decoding, &image) != DLA_OK
        || dla_image_preprocess(image, &preprocessing, DLA_LAYOUT_NCHW, array.values) != DLA_OK || dla_npy_write(output, &array) != DLA_OK)
        exit_status = fail_with_library_error();
    else
        exit_status = report(arguments, output, image, &array);
    dla_image_destroy(image);
    free(array.values);
    return exit_status;
}

const struct command command_preprocess = {
    .name = "preprocess",
    .summary = "turn a photograph into a network's input array",
    .positional = "IMAGE",
    .min_positional = 1,
    .max_positional = 1,
    .description = "Decodes a JPEG, PNG or WebP file, turns it upright, resizes its shorter side to floor(size / crop-pct) as Pillow "
                   "does, cuts a square out of the centre and normalises it by the means and deviations of ImageNet. The result is a "
                   "NumPy file of float32 in the shape (1, 3, size, size).",
    .example = "dla preprocess photo.jpg --output photo.npy\n"
               "dla preprocess photo.jpg --output photo.npy --size 288 --crop-pct 1 --interpolation bicubic",
    .options = options,
    .run = run,
};
