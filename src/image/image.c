/* image.c - pixels in memory: making them, taking them from a caller's buffer, transparency, orientation. */
#include "image/image.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

dla_status image_create_wide(int height, int width, int bytes_per_pixel, dla_image **image)
{
    size_t bytes = (size_t)height * (size_t)width * (size_t)bytes_per_pixel;
    dla_image *made = memory_allocate(sizeof *made);
    uint8_t *pixels = memory_allocate(bytes);

    if (made == NULL || pixels == NULL) {
        memory_free(made);
        memory_free(pixels);
        return status_out_of_memory(bytes, "an image's pixels");
    }
    *made = (dla_image){.height = height, .width = width, .pixels = pixels};
    *image = made;
    return DLA_OK;
}

dla_status image_create(int height, int width, dla_image **image)
{
    return image_create_wide(height, width, 3, image);
}

void dla_image_destroy(dla_image *image)
{
    if (image != NULL) {
        memory_free(image->pixels);
        memory_free(image);
    }
}

int dla_image_height(const dla_image *image)
{
    return image->height;
}

int dla_image_width(const dla_image *image)
{
    return image->width;
}

const uint8_t *dla_image_pixels(const dla_image *image)
{
    return image->pixels;
}

/* Where the colours of one source pixel lie, by dla_pixel_order. */
static const struct pixel_format {
    int bytes, red, green, blue;
    int alpha; /* -1: none */
} pixel_formats[] = {
    [DLA_PIXELS_RGB] = {3, 0, 1, 2, -1}, [DLA_PIXELS_BGR] = {3, 2, 1, 0, -1},  [DLA_PIXELS_RGBA] = {4, 0, 1, 2, 3},
    [DLA_PIXELS_BGRA] = {4, 2, 1, 0, 3}, [DLA_PIXELS_GREY] = {1, 0, 0, 0, -1},
};

/* The colour over white, rounded to nearest: (value * alpha + 255 * (255 - alpha)) / 255 without a division. */
static uint8_t over_white(unsigned value, unsigned alpha)
{
    unsigned sum = value * alpha + 255 * (255 - alpha) + 128;

    return (uint8_t)((sum + (sum >> 8)) >> 8);
}

dla_status dla_image_from_pixels(const uint8_t *pixels, int height, int width, size_t row_bytes, dla_pixel_order order, dla_image **image)
{
    dla_image *made = NULL;

    if (pixels == NULL || image == NULL) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_from_pixels: pixels and image must not be NULL");
    }
    if (height < 1 || width < 1) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_from_pixels: %d x %d pixels; both sides must be at least 1", width, height);
    }
    if ((unsigned)order >= sizeof pixel_formats / sizeof *pixel_formats) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_from_pixels: %d is not a dla_pixel_order", (int)order);
    }
    const struct pixel_format *format = &pixel_formats[order];
    if (row_bytes < (size_t)width * (size_t)format->bytes) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_from_pixels: rows of %zu bytes cannot hold %d pixels of %d bytes", row_bytes,
                          width, format->bytes);
    }
    dla_status status = image_create(height, width, &made);
    if (status != DLA_OK) {
        return status;
    }
    for (int y = 0; y < height; y++) {
        const uint8_t *from = pixels + (size_t)y * row_bytes;
        uint8_t *to = made->pixels + (size_t)y * (size_t)width * 3;

        for (int x = 0; x < width; x++, from += format->bytes, to += 3) {
            unsigned alpha = format->alpha < 0 ? 255 : from[format->alpha];

            to[0] = over_white(from[format->red], alpha);
            to[1] = over_white(from[format->green], alpha);
            to[2] = over_white(from[format->blue], alpha);
        }
    }
    *image = made;
    return DLA_OK;
}

void image_flatten_alpha(dla_image *image)
{
    size_t count = (size_t)image->height * (size_t)image->width;
    const uint8_t *from = image->pixels;
    uint8_t *to = image->pixels;

    for (size_t i = 0; i < count; i++, from += 4, to += 3) {
        unsigned alpha = from[3]; /* read before `to` catches up with it */
        uint8_t red = over_white(from[0], alpha), green = over_white(from[1], alpha), blue = over_white(from[2], alpha);

        to[0] = red;
        to[1] = green;
        to[2] = blue;
    }
    uint8_t *smaller = memory_resize(image->pixels, count * 3);
    if (smaller != NULL) {
        image->pixels = smaller;
    }
}

/* out(y, x) = in(origin + y * down + x * right), in pixels of the stored picture; out is (out_height, out_width). Walked in
 * squares, so that a turned picture does not fetch a new cache line for every pixel. */
static void copy_turned(const uint8_t *in, ptrdiff_t origin, ptrdiff_t down, ptrdiff_t right, uint8_t *out, int out_height, int out_width)
{
    enum { TILE = 32 }; /* 32 x 32 pixels x 3 bytes, read and written: 6 KiB */

    for (int top = 0; top < out_height; top += TILE) {
        for (int left = 0; left < out_width; left += TILE) {
            int bottom = top + TILE < out_height ? top + TILE : out_height;
            int end = left + TILE < out_width ? left + TILE : out_width;

            for (int y = top; y < bottom; y++) {
                for (int x = left; x < end; x++) {
                    memcpy(out + ((ptrdiff_t)y * out_width + x) * 3, in + (origin + y * down + x * right) * 3, 3);
                }
            }
        }
    }
}

dla_status image_orient(dla_image *image, int orientation)
{
    /* Where the upright picture's first pixel lies in the stored one, and whether its rows are stored as columns. */
    static const struct {
        bool from_right, from_bottom, transposed;
    } turns[9] = {
        [2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false}, [5] = {false, false, true},
        [6] = {false, true, true},  [7] = {true, true, true},  [8] = {true, false, true},
    };

    if (orientation < 2 || orientation > 8) {
        return DLA_OK;
    }
    int height = image->height, width = image->width;
    ptrdiff_t column = turns[orientation].from_right ? -1 : 1;
    ptrdiff_t row = turns[orientation].from_bottom ? -(ptrdiff_t)width : width;
    ptrdiff_t origin =
        (turns[orientation].from_right ? width - 1 : 0) + (turns[orientation].from_bottom ? (ptrdiff_t)(height - 1) * width : 0);
    bool transposed = turns[orientation].transposed;
    int out_height = transposed ? width : height, out_width = transposed ? height : width;
    size_t bytes = (size_t)height * (size_t)width * 3;
    uint8_t *turned = memory_allocate(bytes);

    if (turned == NULL) {
        return status_out_of_memory(bytes, "turning an image upright");
    }
    copy_turned(image->pixels, origin, transposed ? column : row, transposed ? row : column, turned, out_height, out_width);
    memory_free(image->pixels);
    *image = (dla_image){.height = out_height, .width = out_width, .pixels = turned};
    return DLA_OK;
}
