/* augment_dense.c - scale, crop, rotation and flip as one walk over the square.
 *
 * The square's pixel (y, x) comes from the place (v, u) of the scaled photograph, both counted from the square's centre and
 * turned by the angle:
 *
 *     u = u0 + cos * (x - c) - sin * (y - c),   v = v0 + sin * (x - c) + cos * (y - c),   c = (size - 1) / 2
 *
 * Only the part of the scaled photograph in which these places lie, their reflections included, is computed.
 */
#include "train/augment_dense.h"

#include "base/counter_random.h"
#include "base/memory.h"
#include "base/status.h"
#include "image/resize.h"
#include "tasks/dense_target.h"
#include "train/augment.h"

#include <math.h>
#include <stdlib.h>

/* Draws of one sample beside those of augment.c, which come from a stream of their own. */
enum draw { DRAW_SCALE, DRAW_ANGLE, DRAW_TOP, DRAW_LEFT, DRAW_MIRROR, DRAW_COLOURS };

static double between(uint64_t key, int draw, double low, double high)
{
    return low + (high - low) * counter_uniform(key, (uint64_t)draw);
}

/* One axis of the walk: the scaled photograph's length, the square's centre on it, and the window of it that is computed. */
struct axis {
    int length;
    double centre;
    int first, count; /* window */
};

/* The square lies anywhere inside a longer side; a shorter one lies anywhere inside the square. `reach`: how far from its centre
 * the turned square goes. */
static struct axis choose_axis(int length, int size, double chance, double reach)
{
    struct axis axis = {.length = length};
    int free = length - size;
    axis.centre = floor(chance * (abs(free) + 1)) * (free < 0 ? -1.0 : 1.0) + (size - 1) / 2.0;
    int low = (int)floor(axis.centre - reach) - 1, high = (int)ceil(axis.centre + reach) + 1, last = length - 1;
    int first = low, end = high;
    if (low < -last || high > 2 * last) { /* reflected more than once: all of it is seen */
        first = 0;
        end = last;
    }
    if (high > last && 2 * last - high < first)
        first = 2 * last - high;
    if (low < 0 && -low > end)
        end = -low;
    axis.first = first < 0 ? 0 : first > last ? last : first;
    axis.count = (end > last ? last : end) - axis.first + 1;
    return axis;
}

/* Index 0 .. length-1 of what is seen at i: ... 2 1 | 0 1 2 ... n-1 | n-2 n-3 ... */
static int reflect(int i, int length)
{
    if (length == 1)
        return 0;
    int period = 2 * (length - 1);
    i = i % period;
    if (i < 0)
        i += period;
    return i < length ? i : period - i;
}

struct walk {
    struct axis down, across;
    const uint8_t *pixels; /* (down.count, across.count, 3): the window */
    const struct label_map *target;
};

static const uint8_t *pixel_at(const struct walk *w, int y, int x)
{
    int row = reflect(y, w->down.length) - w->down.first, column = reflect(x, w->across.length) - w->across.first;
    return w->pixels + ((size_t)row * (size_t)w->across.count + (size_t)column) * 3;
}

static uint8_t label_at(const struct walk *w, int y, int x)
{
    if (y < 0 || x < 0 || y >= w->down.length || x >= w->across.length)
        return TARGET_IGNORED;
    /* The centre of the scaled pixel, in pixels of the photograph. */
    int from_y = (int)(((double)y + 0.5) * w->target->height / w->down.length),
        from_x = (int)(((double)x + 0.5) * w->target->width / w->across.length);
    return w->target->labels[(size_t)from_y * (size_t)w->target->width + (size_t)from_x];
}

static void take_square(const struct walk *w, int size, double angle, bool mirrored, float *colours, uint8_t *labels)
{
    double cosine = cos(angle), sine = sin(angle), c = (size - 1) / 2.0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            size_t at = (size_t)y * (size_t)size + (size_t)(mirrored ? size - 1 - x : x);
            double u = w->across.centre + cosine * (x - c) - sine * (y - c), v = w->down.centre + sine * (x - c) + cosine * (y - c);
            int left = (int)floor(u), top = (int)floor(v);
            float right_part = (float)(u - left), lower_part = (float)(v - top);
            const uint8_t *p00 = pixel_at(w, top, left), *p01 = pixel_at(w, top, left + 1);
            const uint8_t *p10 = pixel_at(w, top + 1, left), *p11 = pixel_at(w, top + 1, left + 1);
            for (int i = 0; i < 3; i++) {
                float upper = (float)p00[i] + right_part * (float)(p01[i] - p00[i]);
                float lower = (float)p10[i] + right_part * (float)(p11[i] - p10[i]);
                colours[3 * at + (size_t)i] = upper + lower_part * (lower - upper);
            }
            labels[at] = label_at(w, (int)floor(v + 0.5), (int)floor(u + 0.5));
        }
}

dla_status augment_dense(const dla_image *image, const struct label_map *target, const struct dense_augmentation *o, int size,
                         const float mean[3], const float std[3], uint64_t key, float *colours, float *output, uint8_t *labels)
{
    int height = dla_image_height(image), width = dla_image_width(image);
    double scale = exp(between(key, DRAW_SCALE, log(o->min_scale), log(o->max_scale)));
    double angle = between(key, DRAW_ANGLE, -o->rotation, o->rotation) * 3.141592653589793 / 180.0;
    double reach = (size - 1) / 2.0 * (fabs(cos(angle)) + fabs(sin(angle)));
    struct walk walk = {.target = target};
    int scaled_height = (int)fmax(1.0, round(height * scale)), scaled_width = (int)fmax(1.0, round(width * scale));
    walk.down = choose_axis(scaled_height, size, counter_uniform(key, DRAW_TOP), reach);
    walk.across = choose_axis(scaled_width, size, counter_uniform(key, DRAW_LEFT), reach);
    struct resize_shape shape = resize_whole(height, width, 3, scaled_height, scaled_width, DLA_INTERPOLATION_BILINEAR);
    shape.window =
        (struct resize_window){.left = walk.across.first, .top = walk.down.first, .width = walk.across.count, .height = walk.down.count};
    size_t bytes = (size_t)walk.down.count * (size_t)walk.across.count * 3;
    uint8_t *window = memory_allocate(bytes);
    if (window == NULL)
        return status_out_of_memory(bytes, "a scaled photograph");
    dla_status status = image_resize(&shape, dla_image_pixels(image), window);
    if (status == DLA_OK) {
        walk.pixels = window;
        take_square(&walk, size, angle, counter_uniform(key, DRAW_MIRROR) < o->colours->flip, colours, labels);
        augment_colours(colours, size, o->colours, counter_key(key, DRAW_COLOURS), output);
        normalise_colours(colours, size, mean, std, output);
    }
    memory_free(window);
    return status;
}
