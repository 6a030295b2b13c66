/* command_segment.c - `dla segment`: a class for every pixel of a photograph, as pictures and areas. */
#include "command.h"
#include "dense_run.h"
#include "json_output.h"
#include "picture_folder.h"

#include <stdio.h>
#include <stdlib.h>

static const double overlay_opacity = 0.55; /* classes are told apart, the photograph still recognised */

static const struct option_spec options[] = {
    OPTION_ROWS_MODEL, OPTION_ROWS_DENSE, OPTION_ROW_JSON, OPTION_ROW_THREADS, OPTION_ROW_EXACT, OPTION_ROWS_DEVICE, {0},
};

static void report_areas(const dla_model *model, const uint8_t *labels, size_t pixels, const char *path, json_t *description)
{
    size_t areas[256] = {0};
    json_t *list = description != NULL ? json_array() : NULL;

    for (size_t i = 0; i < pixels; i++)
        areas[labels[i]]++;
    if (description == NULL)
        printf("%s\n", path);
    for (int c = 0; c < dla_model_class_count(model) && c < 256; c++) {
        double fraction = (double)areas[c] / (double)pixels;
        const char *label = dla_model_label(model, c);
        if (list != NULL) {
            json_t *area = json_object();
            json_put(area, "index", json_integer(c));
            json_put(area, "label", json_text(label));
            json_put(area, "pixels", json_integer((json_int_t)areas[c]));
            json_put(area, "fraction", json_real(fraction));
            json_add(list, area);
        } else if (areas[c] > 0) {
            printf("  %6.2f %%  ", 100 * fraction);
            if (label != NULL)
                printf("%s\n", label);
            else
                printf("class %d\n", c);
        }
    }
    json_put(description, "areas", list);
}

/* Class map and overlay as files. */
static dla_status write_pictures(const dla_image *image, const uint8_t *labels, const char *classes_path, const char *overlay_path)
{
    uint8_t palette[256][3];
    dla_image *overlay = NULL;
    dla_status status;

    dla_class_palette(palette);
    status = dla_labels_write_png(labels, dla_image_height(image), dla_image_width(image), (const uint8_t(*)[3])palette, classes_path);
    if (status == DLA_OK)
        status = dla_image_overlay_labels(image, labels, (const uint8_t(*)[3])palette, overlay_opacity, &overlay);
    if (status == DLA_OK)
        status = dla_image_write_png(overlay, overlay_path);
    dla_image_destroy(overlay);
    return status;
}

static bool segment(dla_dense *dense, const dla_model *model, const dla_image *image, const char *path, const char *output, json_t *description)
{
    size_t pixels = (size_t)dla_image_height(image) * (size_t)dla_image_width(image);
    char *classes_path = picture_path(output, "classes", path), *overlay_path = picture_path(output, "overlay", path);
    uint8_t *labels = malloc(pixels);
    bool done = false;

    if (classes_path == NULL || overlay_path == NULL || labels == NULL)
        warn("%s: out of memory", path);
    else if (dla_dense_classes(dense, image, labels) != DLA_OK || write_pictures(image, labels, classes_path, overlay_path) != DLA_OK)
        warn("%s: %s", path, dla_error_message());
    else
        done = true;
    if (done) {
        json_put(description, "classes_png", json_text(classes_path));
        json_put(description, "overlay_png", json_text(overlay_path));
        report_areas(model, labels, pixels, path, description);
    }
    free(classes_path);
    free(overlay_path);
    free(labels);
    return done;
}

static int run(const struct arguments *arguments)
{
    static const char *const kinds[] = {"classes", "overlay", NULL};
    return dense_run(arguments, DLA_TASK_SEGMENT, kinds, segment);
}

const struct command command_segment = {
    .name = "segment",
    .summary = "give every pixel of photographs a class",
    .positional = "PHOTO...",
    .min_positional = 1,
    .max_positional = -1,
    .description = "Runs a network with DLA-Up, the built-in one for street scenes unless --weights is given, and writes, for each photograph, the class of every pixel as a palette picture "
                   "(DIR/classes/NAME.png, a pixel's number is its class) and the photograph tinted by class (DIR/overlay/NAME.png); "
                   "prints what part of the picture each class covers. PHOTO is a file, or a folder of photographs.",
    .example = "dla segment street.jpg\n"
               "dla segment frames/ --weights camvid.safetensors --output out --scales 0.5,1,1.5 --flip --json",
    .options = options,
    .run = run,
};
