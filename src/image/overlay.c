/* overlay.c - what a network found, laid over the photograph. */
#include "base/status.h"
#include "image/colour_map.h"
#include "image/image.h"

#include <string.h>

static dla_status check_colour_map(const char *function, dla_colour_map map)
{
    if (map != DLA_COLOUR_MAP_VIRIDIS && map != DLA_COLOUR_MAP_TURBO) {
        return status_set(DLA_ERROR_ARGUMENT, "%s: %d is not a dla_colour_map", function, (int)map);
    }
    return DLA_OK;
}

static dla_status check_opacity(const char *function, double opacity)
{
    if (!(opacity >= 0.0 && opacity <= 1.0)) {
        return status_set(DLA_ERROR_ARGUMENT, "%s: opacity is %g, must be 0 to 1", function, opacity);
    }
    return DLA_OK;
}

dla_status dla_image_from_map(const float *values, int height, int width, dla_colour_map map, dla_image **image)
{
    dla_image *made = NULL;

    if (values == NULL || image == NULL || height < 1 || width < 1) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_from_map: values and image must not be NULL, both sides at least 1");
    }
    dla_status status = check_colour_map("dla_image_from_map", map);
    if (status == DLA_OK) {
        status = image_create(height, width, &made);
    }
    if (status != DLA_OK) {
        return status;
    }
    for (size_t i = 0; i < (size_t)height * (size_t)width; i++) {
        colour_of_value(map, values[i], made->pixels + i * 3);
    }
    *image = made;
    return DLA_OK;
}

/* One axis of a smooth enlargement: three samples around and their weights. They are those of the quadratic B-spline, which has
 * no corners where bilinear interpolation of a coarse map shows its grid. */
struct blend {
    int sample[3];
    float weight[3];
};

static struct blend blend_at(int out, int out_size, int in_size)
{
    float position = ((float)out + 0.5f) * (float)in_size / (float)out_size; /* cell i covers i .. i + 1 */
    int cell = (int)position < in_size ? (int)position : in_size - 1;
    float t = position - (float)cell;
    struct blend blend = {{cell > 0 ? cell - 1 : 0, cell, cell + 1 < in_size ? cell + 1 : in_size - 1},
                          {0.5f * (1 - t) * (1 - t), 0.0f, 0.5f * t * t}};

    blend.weight[1] = 1 - blend.weight[0] - blend.weight[2];
    return blend;
}

static float blended(const float *values, int width, const struct blend *down, const struct blend *across)
{
    float sum = 0.0f;

    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            sum += down->weight[i] * across->weight[j] * values[(size_t)down->sample[i] * (size_t)width + (size_t)across->sample[j]];
        }
    }
    return sum;
}

static void mix(const uint8_t from[3], const uint8_t colour[3], float opacity, uint8_t to[3])
{
    for (int c = 0; c < 3; c++) {
        to[c] = (uint8_t)((float)from[c] + opacity * ((float)colour[c] - (float)from[c]) + 0.5f);
    }
}

dla_status dla_image_overlay_heat(const dla_image *photograph, const float *heat, int height, int width, const dla_rectangle *where,
                                  dla_colour_map map, double opacity, dla_image **picture)
{
    dla_image *made = NULL;

    if (photograph == NULL || heat == NULL || picture == NULL || height < 1 || width < 1) {
        return status_set(DLA_ERROR_ARGUMENT,
                          "dla_image_overlay_heat: photograph, heat and picture must not be NULL, both sides at least 1");
    }
    dla_rectangle all = {0, 0, photograph->height, photograph->width}, area = where != NULL ? *where : all;
    if (area.height < 1 || area.width < 1) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_overlay_heat: a rectangle of %d x %d; both sides must be at least 1", area.width,
                          area.height);
    }
    int top = area.top > 0 ? area.top : 0, left = area.left > 0 ? area.left : 0;
    int64_t bottom = (int64_t)area.top + area.height, right = (int64_t)area.left + area.width;
    bottom = bottom < photograph->height ? bottom : photograph->height;
    right = right < photograph->width ? right : photograph->width;
    dla_status status = check_colour_map("dla_image_overlay_heat", map);
    if (status == DLA_OK) {
        status = check_opacity("dla_image_overlay_heat", opacity);
    }
    if (status == DLA_OK) {
        status = image_create(photograph->height, photograph->width, &made);
    }
    if (status != DLA_OK) {
        return status;
    }
    size_t row_bytes = (size_t)made->width * 3;
    memcpy(made->pixels, photograph->pixels, (size_t)made->height * row_bytes);
    for (int y = top; y < bottom; y++) {
        struct blend down = blend_at(y - area.top, area.height, height);
        uint8_t *pixel = made->pixels + (size_t)y * row_bytes + (size_t)left * 3;

        for (int x = left; x < right; x++, pixel += 3) {
            struct blend across = blend_at(x - area.left, area.width, width);
            uint8_t colour[3];

            colour_of_value(map, blended(heat, width, &down, &across), colour);
            mix(pixel, colour, (float)opacity, pixel);
        }
    }
    *picture = made;
    return DLA_OK;
}

dla_status dla_image_overlay_labels(const dla_image *photograph, const uint8_t *labels, const uint8_t (*palette)[3], double opacity,
                                    dla_image **picture)
{
    dla_image *made = NULL;

    if (photograph == NULL || labels == NULL || palette == NULL || picture == NULL) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_overlay_labels: photograph, labels, palette and picture must not be NULL");
    }
    dla_status status = check_opacity("dla_image_overlay_labels", opacity);
    if (status == DLA_OK) {
        status = image_create(photograph->height, photograph->width, &made);
    }
    if (status != DLA_OK) {
        return status;
    }
    for (size_t i = 0; i < (size_t)made->height * (size_t)made->width; i++) {
        mix(photograph->pixels + i * 3, palette[labels[i]], (float)opacity, made->pixels + i * 3);
    }
    *picture = made;
    return DLA_OK;
}
