/* preprocess.c - resize of the shorter side, centre crop, normalisation.
 *
 * Only the pixels that the crop keeps are computed; they are the ones that a full resize would give. So a picture of 1 x 50000
 * pixels, which would become 256 x 12800000, costs no more than any other.
 */
#include "image/preprocess.h"

#include "base/memory.h"
#include "base/status.h"
#include "image/image.h"
#include "image/resize.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_SIZE = 16384 };

dla_status preprocessing_check(const dla_preprocessing *preprocessing)
{
    if (preprocessing->size < 1 || preprocessing->size > MAX_SIZE) {
        return status_set(DLA_ERROR_ARGUMENT, "preprocessing: size is %d, must be 1 to %d", preprocessing->size, MAX_SIZE);
    }
    if (!(preprocessing->crop_pct >= 0.01 && preprocessing->crop_pct <= 2.0)) {
        return status_set(DLA_ERROR_ARGUMENT, "preprocessing: crop_pct is %g, must be 0.01 to 2", preprocessing->crop_pct);
    }
    if (floor(preprocessing->size / preprocessing->crop_pct) < 1.0) {
        return status_set(DLA_ERROR_ARGUMENT, "preprocessing: size %d / crop_pct %g leaves no pixel to resize to", preprocessing->size,
                          preprocessing->crop_pct);
    }
    if (preprocessing->interpolation != DLA_INTERPOLATION_BILINEAR && preprocessing->interpolation != DLA_INTERPOLATION_BICUBIC) {
        return status_set(DLA_ERROR_ARGUMENT, "preprocessing: %d is not a dla_interpolation", (int)preprocessing->interpolation);
    }
    for (int c = 0; c < 3; c++) {
        if (!isfinite(preprocessing->mean[c]) || !isfinite(preprocessing->std[c]) || preprocessing->std[c] <= 0.0f) {
            return status_set(DLA_ERROR_ARGUMENT, "preprocessing: channel %d has mean %g and std %g; std must be positive", c,
                              (double)preprocessing->mean[c], (double)preprocessing->std[c]);
        }
    }
    return DLA_OK;
}

int64_t centre_crop_start(int64_t side, int64_t crop)
{
    if (side < crop) {
        return -((crop - side) / 2);
    }
    int64_t difference = side - crop, half = difference / 2;

    return difference % 2 != 0 && half % 2 != 0 ? half + 1 : half; /* a half goes to the even side */
}

struct crop_geometry crop_geometry(const dla_preprocessing *preprocessing, int height, int width)
{
    bool tall = height >= width;
    int64_t longer_in = tall ? height : width, shorter_in = tall ? width : height;
    int64_t shorter = (int64_t)floor(preprocessing->size / preprocessing->crop_pct);
    int64_t longer = (int64_t)((double)(shorter * longer_in) / (double)shorter_in);
    struct crop_geometry crop = {.height = tall ? longer : shorter, .width = tall ? shorter : longer};

    crop.top = centre_crop_start(crop.height, preprocessing->size);
    crop.left = centre_crop_start(crop.width, preprocessing->size);
    return crop;
}

void normalisation_table(const float mean[3], const float std[3], float table[3][256])
{
    for (int c = 0; c < 3; c++) {
        for (int value = 0; value < 256; value++) {
            float scaled = (float)value / 255.0f;

            table[c][value] = (scaled - mean[c]) / std[c];
        }
    }
}

/* Writes the kept pixels into their place in the output; what the crop takes from outside the picture is black. */
static void normalise(const uint8_t *pixels, /* (height, width, 3) */ int height, int width, int top, int left, int size,
                      float table[3][256], dla_layout layout, float *output)
{
    size_t channel_step = layout == DLA_LAYOUT_NCHW ? (size_t)size * (size_t)size : 1, pixel_step = layout == DLA_LAYOUT_NCHW ? 1 : 3;
    bool covered = height == size && width == size;

    for (int c = 0; c < 3; c++) {
        float *plane = output + (size_t)c * channel_step;

        for (size_t i = 0; !covered && i < (size_t)size * (size_t)size; i++) {
            plane[i * pixel_step] = table[c][0];
        }
        for (int y = 0; y < height; y++) {
            const uint8_t *from = pixels + (size_t)y * (size_t)width * 3 + c;
            float *to = plane + ((size_t)(top + y) * (size_t)size + (size_t)left) * pixel_step;

            for (int x = 0; x < width; x++) {
                to[(size_t)x * pixel_step] = table[c][from[(size_t)x * 3]];
            }
        }
    }
}

dla_status dla_image_preprocess(const dla_image *image, const dla_preprocessing *preprocessing, dla_layout layout, float *output)
{
    float table[3][256];

    if (image == NULL || preprocessing == NULL || output == NULL) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_preprocess: image, preprocessing and output must not be NULL");
    }
    if (layout != DLA_LAYOUT_NCHW && layout != DLA_LAYOUT_NHWC) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_preprocess: %d is not a dla_layout", (int)layout);
    }
    dla_status status = preprocessing_check(preprocessing);
    if (status != DLA_OK) {
        return status;
    }
    int size = preprocessing->size;
    struct crop_geometry crop = crop_geometry(preprocessing, image->height, image->width);
    struct resize_shape shape = resize_whole(image->height, image->width, 3, crop.height, crop.width, preprocessing->interpolation);
    shape.window = (struct resize_window){.left = crop.left < 0 ? 0 : crop.left,
                                          .top = crop.top < 0 ? 0 : crop.top,
                                          .width = crop.width < size ? (int)crop.width : size,
                                          .height = crop.height < size ? (int)crop.height : size};
    size_t bytes = (size_t)shape.window.height * (size_t)shape.window.width * 3;
    uint8_t *pixels = memory_allocate(bytes);
    if (pixels == NULL) {
        return status_out_of_memory(bytes, "a resized image");
    }
    status = image_resize(&shape, image->pixels, pixels);
    if (status == DLA_OK) {
        normalisation_table(preprocessing->mean, preprocessing->std, table);
        normalise(pixels, shape.window.height, shape.window.width, crop.top < 0 ? (int)-crop.top : 0, crop.left < 0 ? (int)-crop.left : 0,
                  size, table, layout, output);
    }
    memory_free(pixels);
    return status;
}
