/* explain_picture.c - an explanation on one sheet.
 *
 *     garbage truck 93.1 %
 *     photograph, the crop outlined     evidence as a heat map over it
 *     activity of level0 ... level5, each on its own grid: the feature pyramid
 */
#include "base/memory.h"
#include "base/status.h"
#include "image/draw_text.h"
#include "image/image.h"
#include "image/resize.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MARGIN = 12,
    GAP = 8,
    TILE = 152,
    PANEL = (DLA_LEVEL_COUNT * TILE + (DLA_LEVEL_COUNT - 2) * GAP) / 2, /* two panels are as wide as six tiles */
    SHEET_WIDTH = 2 * MARGIN + 2 * PANEL + GAP,
    SCALE = 2,       /* of letters */
    TITLE_SCALE = 3, /* of the first line's */
    LINE = LETTER_HEIGHT * SCALE + 4,
    TITLE_LINE = LETTER_HEIGHT * TITLE_SCALE + GAP
};

static const uint8_t background[3] = {24, 26, 30}, bright[3] = {235, 235, 230}, dim[3] = {165, 168, 172};

static void fill(dla_image *image, const uint8_t colour[3])
{
    for (size_t i = 0; i < (size_t)image->height * (size_t)image->width; i++)
        memcpy(image->pixels + i * 3, colour, 3);
}

/* `image` must lie within the sheet. */
static void paste(dla_image *sheet, const dla_image *image, int top, int left)
{
    for (int y = 0; y < image->height; y++)
        memcpy(sheet->pixels + ((size_t)(top + y) * (size_t)sheet->width + (size_t)left) * 3,
               image->pixels + (size_t)y * (size_t)image->width * 3, (size_t)image->width * 3);
}

/* A line around the rectangle, as far as it lies within the image: bright inside, dark outside, to be seen on any ground. */
static void outline(dla_image *image, const dla_rectangle *rectangle)
{
    for (int y = 0; y < image->height; y++) {
        for (int x = 0; x < image->width; x++) {
            int above = y - rectangle->top, before = x - rectangle->left;
            int below = rectangle->top + rectangle->height - 1 - y, behind = rectangle->left + rectangle->width - 1 - x;
            int depth = above < below ? above : below, beside = before < behind ? before : behind;

            depth = depth < beside ? depth : beside; /* pixels between this one and the nearest side; negative outside */
            if (depth >= -1 && depth <= 1)
                memcpy(image->pixels + ((size_t)y * (size_t)image->width + (size_t)x) * 3, depth < 0 ? background : bright, 3);
        }
    }
}

static dla_status resized(const dla_image *image, int height, int width, dla_image **result)
{
    struct resize_shape shape = resize_whole(image->height, image->width, 3, height, width, DLA_INTERPOLATION_BICUBIC);
    dla_image *made = NULL;
    dla_status status = image_create(height, width, &made);

    if (status == DLA_OK)
        status = image_resize(&shape, image->pixels, made->pixels);
    if (status != DLA_OK) {
        dla_image_destroy(made);
        return status;
    }
    *result = made;
    return DLA_OK;
}

/* Every cell of a coarse map stays visible: whole cells, no blending. */
static dla_status enlarged(const dla_image *image, int height, int width, dla_image **result)
{
    dla_image *made = NULL;
    dla_status status = image_create(height, width, &made);

    if (status != DLA_OK)
        return status;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            size_t row = (size_t)y * (size_t)image->height / (size_t)height, column = (size_t)x * (size_t)image->width / (size_t)width;

            memcpy(made->pixels + ((size_t)y * (size_t)width + (size_t)x) * 3, image->pixels + (row * (size_t)image->width + column) * 3,
                   3);
        }
    }
    *result = made;
    return DLA_OK;
}

/* Largest sides of the image's shape within limit x limit. */
static void fit_sides(int height, int width, int limit, int *out_height, int *out_width)
{
    double scale = (double)limit / (height > width ? height : width);

    *out_height = (int)fmax(1.0, height * scale + 0.5);
    *out_width = (int)fmax(1.0, width * scale + 0.5);
}

/* low .. high of the map to 0 .. 1, cut there; all 0 where they are the same. */
static dla_status stretched(const float *map, int height, int width, float low, float high, float **result)
{
    size_t count = (size_t)height * (size_t)width;
    float *values = memory_allocate(count * sizeof *values), range = high - low;

    if (values == NULL)
        return status_out_of_memory(count * sizeof *values, "a picture of a map");
    for (size_t i = 0; i < count; i++)
        values[i] = range > 0.0f ? fminf(fmaxf((map[i] - low) / range, 0.0f), 1.0f) : 0.0f;
    *result = values;
    return DLA_OK;
}

static void find_range(const float *map, int height, int width, float *low, float *high)
{
    *low = *high = map[0];
    for (size_t i = 1; i < (size_t)height * (size_t)width; i++) {
        *low = fminf(*low, map[i]);
        *high = fmaxf(*high, map[i]);
    }
}

static void caption(dla_image *sheet, int top, int left, int width, int scale, const uint8_t colour[3], const char *text)
{
    char fitted[256];

    fit_text(text, width, scale, fitted, sizeof fitted);
    draw_text(sheet, left, top, scale, colour, fitted);
}

/* The photograph and the evidence over it, side by side below `top`. */
static dla_status draw_panels(dla_image *sheet, int top, const dla_explanation *explanation, const dla_image *small, double scale)
{
    const dla_rectangle *seen = &explanation->seen;
    dla_rectangle crop = {(int)lround(seen->top * scale), (int)lround(seen->left * scale), (int)lround(seen->height * scale),
                          (int)lround(seen->width * scale)};
    dla_image *heat = NULL, *photograph = NULL;
    float low, high, *strength = NULL;

    crop.height = crop.height > 0 ? crop.height : 1;
    crop.width = crop.width > 0 ? crop.width : 1;
    find_range(explanation->evidence, explanation->height, explanation->width, &low, &high);
    dla_status status = stretched(explanation->evidence, explanation->height, explanation->width, 0.0f, high, &strength);
    if (status == DLA_OK)
        status = dla_image_overlay_heat(small, strength, explanation->height, explanation->width, &crop, DLA_COLOUR_MAP_TURBO, 0.55, &heat);
    if (status == DLA_OK)
        status = resized(small, small->height, small->width, &photograph);
    if (status == DLA_OK) {
        outline(photograph, &crop);
        paste(sheet, photograph, top, MARGIN + (PANEL - small->width) / 2);
        paste(sheet, heat, top, MARGIN + PANEL + GAP + (PANEL - small->width) / 2);
    }
    memory_free(strength);
    dla_image_destroy(heat);
    dla_image_destroy(photograph);
    return status;
}

static dla_status draw_level(dla_image *sheet, int top, int left, const dla_level_activity *level)
{
    float low, high, *values = NULL;
    dla_image *map = NULL, *tile = NULL;
    char text[64];
    int height, width;

    find_range(level->activity, level->height, level->width, &low, &high);
    dla_status status = stretched(level->activity, level->height, level->width, low, high, &values);
    if (status == DLA_OK)
        status = dla_image_from_map(values, level->height, level->width, DLA_COLOUR_MAP_VIRIDIS, &map);
    fit_sides(level->height, level->width, TILE, &height, &width);
    if (status == DLA_OK)
        status = level->height > height ? resized(map, height, width, &tile) : enlarged(map, height, width, &tile);
    if (status == DLA_OK) {
        paste(sheet, tile, top, left);
        caption(sheet, top + TILE + 4, left, TILE, SCALE, bright, level->name);
        snprintf(text, sizeof text, "%dx%dx%d", level->channels, level->height, level->width);
        caption(sheet, top + TILE + 4 + LINE, left, TILE, SCALE, dim, text);
    }
    memory_free(values);
    dla_image_destroy(map);
    dla_image_destroy(tile);
    return status;
}

dla_status dla_explanation_draw(const dla_explanation *explanation, const dla_image *photograph, dla_image **picture)
{
    dla_image *sheet = NULL, *small = NULL;
    int height, width;
    char title[512];

    if (explanation == NULL || photograph == NULL || picture == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_explanation_draw: explanation, photograph and picture must not be NULL");
    fit_sides(photograph->height, photograph->width, PANEL, &height, &width);
    int panels = MARGIN + TITLE_LINE + LINE, levels = panels + height + 2 * GAP + LINE, end = levels + TILE + 4 + 2 * LINE + MARGIN;
    dla_status status = image_create(end, SHEET_WIDTH, &sheet);
    if (status == DLA_OK)
        status = resized(photograph, height, width, &small);
    if (status != DLA_OK)
        goto out;
    fill(sheet, background);
    if (explanation->score.label != NULL)
        snprintf(title, sizeof title, "%.1f %% %s", (double)explanation->score.probability * 100.0, explanation->score.label);
    else
        snprintf(title, sizeof title, "%.1f %% class %d", (double)explanation->score.probability * 100.0, explanation->score.index);
    caption(sheet, MARGIN, MARGIN, SHEET_WIDTH - 2 * MARGIN, TITLE_SCALE, bright, title);
    caption(sheet, MARGIN + TITLE_LINE, MARGIN, PANEL, SCALE, dim, "what the network saw, outlined");
    caption(sheet, MARGIN + TITLE_LINE, MARGIN + PANEL + GAP, PANEL, SCALE, dim, "where it saw it: blue nothing, red most");
    status = draw_panels(sheet, panels, explanation, small, (double)height / photograph->height);
    caption(sheet, levels - LINE, MARGIN, SHEET_WIDTH - 2 * MARGIN, SCALE, dim, "what every level answers to: dark least, yellow most");
    for (int i = 0; status == DLA_OK && i < DLA_LEVEL_COUNT; i++)
        status = draw_level(sheet, levels, MARGIN + i * (TILE + GAP), &explanation->levels[i]);
    if (status == DLA_OK) {
        *picture = sheet;
        sheet = NULL;
    }
out:
    dla_image_destroy(sheet);
    dla_image_destroy(small);
    return status;
}
