/* command_edges.c - `dla edges`: how likely every pixel of a photograph lies on a boundary. */
#include "command.h"
#include "dense_run.h"
#include "json_output.h"
#include "picture_folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BOUNDARY = 1 }; /* of the two classes, as in BSDS: 0 is everything else */

static const struct option_spec options[] = {
    OPTION_ROWS_MODEL, OPTION_ROWS_DENSE, OPTION_ROW_JSON, OPTION_ROW_THREADS, OPTION_ROW_EXACT, OPTION_ROWS_DEVICE, {0},
};

/* values: (height, width), 0 to 1. */
static dla_status write_map(const float *values, int height, int width, uint8_t *bytes, const char *path)
{
    for (size_t i = 0; i < (size_t)height * (size_t)width; i++)
        bytes[i] = (uint8_t)lroundf(fminf(fmaxf(values[i], 0), 1) * 255);
    return dla_grey_write_png(bytes, height, width, path);
}

static bool find_edges(dla_dense *dense, const dla_model *model, const dla_image *image, const char *path, const char *output, json_t *description)
{
    int height = dla_image_height(image), width = dla_image_width(image);
    size_t pixels = (size_t)height * (size_t)width;
    char *probability_path = picture_path(output, "probability", path), *edges_path = picture_path(output, "edges", path);
    float *probability = malloc(pixels * sizeof(*probability)), *thin = malloc(pixels * sizeof(*thin));
    uint8_t *bytes = malloc(pixels);
    bool done = false;

    (void)model;
    if (probability_path == NULL || edges_path == NULL || probability == NULL || thin == NULL || bytes == NULL)
        warn("%s: out of memory", path);
    else if (dla_dense_probability(dense, image, BOUNDARY, probability) != DLA_OK
             || dla_edges_thin(probability, height, width, thin) != DLA_OK
             || write_map(probability, height, width, bytes, probability_path) != DLA_OK
             || write_map(thin, height, width, bytes, edges_path) != DLA_OK)
        warn("%s: %s", path, dla_error_message());
    else
        done = true;
    if (done && description == NULL)
        printf("%s: %s, %s\n", path, probability_path, edges_path);
    if (done) {
        json_put(description, "probability_png", json_text(probability_path));
        json_put(description, "edges_png", json_text(edges_path));
    }
    free(probability_path);
    free(edges_path);
    free(probability);
    free(thin);
    free(bytes);
    return done;
}

static int run(const struct arguments *arguments)
{
    static const char *const kinds[] = {"probability", "edges", NULL};
    return dense_run(arguments, DLA_TASK_EDGES, kinds, find_edges);
}

const struct command command_edges = {
    .name = "edges",
    .summary = "find the boundaries in photographs",
    .positional = "PHOTO...",
    .min_positional = 1,
    .max_positional = -1,
    .description = "Runs a boundary network (DLA-Up with two classes), the built-in one unless --weights is given, and writes, for each photograph, the probability of a boundary "
                   "at every pixel (DIR/probability/NAME.png, 0 to 255 for 0 to 1) and the same thinned to ridges "
                   "(DIR/edges/NAME.png, what `dla eval --task edges --predictions DIR/edges` scores). "
                   "PHOTO is a file, or a folder of photographs.",
    .example = "dla edges holiday.jpg --output out",
    .options = options,
    .run = run,
};
