/* augment.c - random resized crop, flip, colour jitter and PCA lighting (the authors' ImageNet recipe). */
#include "train/augment.h"

#include "base/counter_random.h"
#include "base/status.h"
#include "image/image.h"
#include "image/preprocess.h"

#include <math.h>
#include <string.h>

enum { CROP_ATTEMPTS = 10 };

/* Draws of one sample; every draw has its own place, so that switching one change off leaves the others as they were. */
enum draw {
    DRAW_CROP = 0,
    DRAW_FLIP = 4 * CROP_ATTEMPTS,
    DRAW_ORDER,
    DRAW_BRIGHTNESS,
    DRAW_CONTRAST,
    DRAW_SATURATION,
    DRAW_SATURATE,
    DRAW_SHARPNESS,
    DRAW_LIGHTING
};

static double between(uint64_t key, int draw, double low, double high)
{
    return low + (high - low) * counter_uniform(key, (uint64_t)draw);
}

/* A box of `area` (share of the picture) and `aspect` (log-uniform) that fits, else the largest centred one within the aspect's
 * bounds: torchvision's RandomResizedCrop. */
struct resize_box augment_box(int full_height, int full_width, const dla_augmentation *o, uint64_t key)
{
    double height = full_height, width = full_width;
    for (int attempt = 0; attempt < CROP_ATTEMPTS; attempt++) {
        int draw = DRAW_CROP + 4 * attempt;
        double area = height * width * between(key, draw, o->min_area, o->max_area);
        double aspect = exp(between(key, draw + 1, log(o->min_aspect), log(o->max_aspect)));
        double w = round(sqrt(area * aspect)), h = round(sqrt(area / aspect));
        if (w < 1.0 || h < 1.0 || w > width || h > height)
            continue;
        double top = floor(between(key, draw + 2, 0.0, height - h + 1.0)), left = floor(between(key, draw + 3, 0.0, width - w + 1.0));
        return (struct resize_box){(float)left, (float)top, (float)(left + w), (float)(top + h)};
    }
    double aspect = fmin(fmax(width / height, o->min_aspect), o->max_aspect);
    double w = fmin(width, round(height * aspect)), h = fmin(height, round(width / aspect));
    double top = floor((height - h) / 2.0), left = floor((width - w) / 2.0);
    return (struct resize_box){(float)left, (float)top, (float)(left + w), (float)(top + h)};
}

static float clamp(float x)
{
    return x < 0.0f ? 0.0f : x > 255.0f ? 255.0f : x;
}

static float grey(const float *pixel)
{
    return 0.299f * pixel[0] + 0.587f * pixel[1] + 0.114f * pixel[2];
}

static void change_brightness(float *colours, int pixels, float factor)
{
    for (int i = 0; i < pixels * 3; i++)
        colours[i] = clamp(colours[i] * factor);
}

static void change_contrast(float *colours, int pixels, float factor)
{
    double sum = 0.0;
    for (int p = 0; p < pixels; p++)
        sum += (double)grey(colours + 3 * p);
    float mean = (float)(sum / pixels);
    for (int i = 0; i < pixels * 3; i++)
        colours[i] = clamp(mean + factor * (colours[i] - mean));
}

static void change_saturation(float *colours, int pixels, float factor)
{
    for (int p = 0; p < pixels; p++) {
        float *pixel = colours + 3 * p, mean = grey(pixel);
        for (int c = 0; c < 3; c++)
            pixel[c] = clamp(mean + factor * (pixel[c] - mean));
    }
}

/* Away from, or towards, the picture smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays. `previous` keeps two rows. */
static void change_sharpness(float *colours, int size, float factor, float *previous)
{
    int row_floats = size * 3;
    float *above = previous, *current = previous + row_floats;
    memcpy(above, colours, (size_t)row_floats * sizeof(float));
    for (int y = 1; y + 1 < size; y++) {
        float *row = colours + y * row_floats;
        const float *below = row + row_floats;
        memcpy(current, row, (size_t)row_floats * sizeof(float));
        for (int i = 3; i < row_floats - 3; i++) {
            float smooth = (above[i - 3] + above[i] + above[i + 3] + current[i - 3] + 5.0f * current[i] + current[i + 3] + below[i - 3]
                            + below[i] + below[i + 3])
                           / 13.0f;
            row[i] = clamp(smooth + factor * (current[i] - smooth));
        }
        float *swap = above;
        above = current;
        current = swap;
    }
}

/* Adds a random mixture of the main directions in which ImageNet's colours vary. */
static void add_lighting(float *colours, int pixels, double strength, uint64_t key)
{
    static const double eigenvalues[3] = {55.46, 4.794, 1.148};
    static const double eigenvectors[3][3] = {{-0.5675, 0.7192, 0.4009}, {-0.5808, -0.0045, -0.8140}, {-0.5836, -0.6948, 0.4203}};
    double alpha[3];
    for (int i = 0; i < 3; i++) { /* Box and Muller */
        double u = 1.0 - counter_uniform(key, DRAW_LIGHTING + 2 * (uint64_t)i),
               v = counter_uniform(key, DRAW_LIGHTING + 2 * (uint64_t)i + 1);
        alpha[i] = strength * sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
    }
    for (int c = 0; c < 3; c++) {
        double shift = 0.0;
        for (int i = 0; i < 3; i++)
            shift += eigenvectors[c][i] * alpha[i] * eigenvalues[i];
        for (int p = 0; p < pixels; p++)
            colours[3 * p + c] += (float)shift;
    }
}

static void jitter(float *colours, int size, const dla_augmentation *o, uint64_t key, float *rows)
{
    int order[4] = {0, 1, 2, 3}, pixels = size * size;
    uint64_t bits = counter_bits(key, DRAW_ORDER);
    for (int i = 3; i > 0; i--) {
        int other = (int)(bits % (uint64_t)(i + 1)), swap = order[i];
        bits /= (uint64_t)(i + 1);
        order[i] = order[other];
        order[other] = swap;
    }
    for (int i = 0; i < 4; i++)
        switch (order[i]) {
        case 0:
            if (o->brightness > 0.0)
                change_brightness(colours, pixels, (float)between(key, DRAW_BRIGHTNESS, 1.0 - o->brightness, 1.0 + o->brightness));
            break;
        case 1:
            if (o->contrast > 0.0)
                change_contrast(colours, pixels, (float)between(key, DRAW_CONTRAST, 1.0 - o->contrast, 1.0 + o->contrast));
            break;
        case 2:
            if (o->saturation > 0.0 && counter_uniform(key, DRAW_SATURATE) < o->saturation_probability)
                change_saturation(colours, pixels, (float)between(key, DRAW_SATURATION, 1.0 - o->saturation, 1.0 + o->saturation));
            break;
        default:
            if (o->sharpness > 0.0)
                change_sharpness(colours, size, (float)between(key, DRAW_SHARPNESS, 1.0 - o->sharpness, 1.0 + o->sharpness), rows);
            break;
        }
}

void augment_colours(float *colours, int size, const dla_augmentation *o, uint64_t key, float *scratch)
{
    jitter(colours, size, o, key, scratch);
    if (o->lighting > 0.0)
        add_lighting(colours, size * size, o->lighting, key);
}

void normalise_colours(const float *colours, int size, const float mean[3], const float std[3], float *output)
{
    for (int c = 0; c < 3; c++) {
        float scale = 1.0f / (255.0f * std[c]), shift = -mean[c] / std[c];
        for (int p = 0; p < size * size; p++)
            output[3 * p + c] = colours[3 * p + c] * scale + shift;
    }
}

dla_status augment(const dla_image *image, int full_height, int full_width, const dla_augmentation *o, int size, const float mean[3],
                   const float std[3], uint64_t key, uint8_t *pixels, float *colours, float *output)
{
    struct resize_shape shape = resize_whole(image->height, image->width, 3, size, size, o->interpolation);
    shape.box = augment_box(full_height, full_width, o, key);
    if (image->width != full_width || image->height != full_height) {
        float across = (float)image->width / (float)full_width, down = (float)image->height / (float)full_height;
        shape.box = (struct resize_box){shape.box.left * across, shape.box.top * down, fminf(shape.box.right * across, (float)image->width),
                                        fminf(shape.box.bottom * down, (float)image->height)};
    }
    dla_status status = image_resize(&shape, image->pixels, pixels);
    if (status != DLA_OK)
        return status;
    bool mirrored = counter_uniform(key, DRAW_FLIP) < o->flip;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++)
            for (int c = 0; c < 3; c++)
                colours[(y * size + x) * 3 + c] = (float)pixels[(y * size + (mirrored ? size - 1 - x : x)) * 3 + c];
    augment_colours(colours, size, o, key, output);
    normalise_colours(colours, size, mean, std, output);
    return DLA_OK;
}
