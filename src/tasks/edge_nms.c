/* edge_nms.c - non-maximum suppression across the boundary's direction.
 *
 * The direction follows from second derivatives of the smoothed map G: on a ridge, curvature is strongest across it. With
 *
 *     normal = atan( G_yy * sign(-G_xy) / (G_xx + tiny) )   taken modulo pi
 *
 * (as in Dollar and Zitnick, "Fast edge detection using structured forests", PAMI 2015) a pixel stays if its value, raised by
 * one in a hundred, is no less than the map one pixel further along the normal and one against it, read between pixels by
 * bilinear interpolation. Smoothing is with triangle filters [1 2 .. r+1 .. 2 1], radius 4 for the direction and 1 for the values;
 * both reflect at the border. Within five pixels of the border, where the network sees padding, values fade out.
 */
#include "base/memory.h"
#include "base/status.h"

#include <math.h>

enum { VALUE_RADIUS = 1, DIRECTION_RADIUS = 4, BORDER = 5 };
static const float tolerance = 1.01f;
static const float pi = 3.14159265f;

static int reflect(int i, int size)
{
    while (i < 0 || i >= size)
        i = i < 0 ? -1 - i : 2 * size - 1 - i;
    return i;
}

/* One pass of the triangle filter along lines of `count` elements `step` apart. in, out: different arrays. */
static void smooth_lines(const float *in, int lines, int line_step, int count, int step, int radius, float *out)
{
    const float norm = 1.0f / (float)((radius + 1) * (radius + 1));

    for (int line = 0; line < lines; line++)
        for (int i = 0; i < count; i++) {
            float sum = 0;
            for (int d = -radius; d <= radius; d++)
                sum += (float)(radius + 1 - (d < 0 ? -d : d)) * in[(size_t)line * (size_t)line_step + (size_t)reflect(i + d, count) * (size_t)step];
            out[(size_t)line * (size_t)line_step + (size_t)i * (size_t)step] = sum * norm;
        }
}

/* in, scratch, out: (height, width); in may be out. */
static void smooth(const float *in, int height, int width, int radius, float *scratch, float *out)
{
    smooth_lines(in, height, width, width, 1, radius, scratch);
    smooth_lines(scratch, width, 1, height, width, radius, out);
}

/* Central difference, one-sided at the border. */
static float slope(const float *line, int i, int count, int step)
{
    int before = i > 0 ? i - 1 : i, after = i < count - 1 ? i + 1 : i;
    return after == before ? 0 : (line[(size_t)after * (size_t)step] - line[(size_t)before * (size_t)step]) / (float)(after - before);
}

static void differentiate(const float *map, int height, int width, float *by_x, float *by_y)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            size_t i = (size_t)y * (size_t)width + (size_t)x;
            by_x[i] = slope(map + (size_t)y * (size_t)width, x, width, 1);
            by_y[i] = slope(map + x, y, height, width);
        }
}

static float clamp(float value, float low, float high)
{
    return value < low ? low : value > high ? high : value;
}

/* The map between pixels. */
static float read_between(const float *map, int height, int width, float y, float x)
{
    float cy = clamp(y, 0, (float)(height - 1)), cx = clamp(x, 0, (float)(width - 1));
    int y0 = (int)cy, x0 = (int)cx, y1 = y0 + 1 < height ? y0 + 1 : y0, x1 = x0 + 1 < width ? x0 + 1 : x0;
    float fy = cy - (float)y0, fx = cx - (float)x0;
    const float *upper = map + (size_t)y0 * (size_t)width, *lower = map + (size_t)y1 * (size_t)width;

    return (upper[x0] * (1 - fx) + upper[x1] * fx) * (1 - fy) + (lower[x0] * (1 - fx) + lower[x1] * fx) * fy;
}

static float fade(int y, int x, int height, int width)
{
    int distance = y;
    if (height - 1 - y < distance)
        distance = height - 1 - y;
    if (x < distance)
        distance = x;
    if (width - 1 - x < distance)
        distance = width - 1 - x;
    return distance < BORDER ? (float)distance / BORDER : 1;
}

/* Angle across the boundary, from x towards y, in 0 .. pi. */
static float normal_angle(float xx, float xy, float yy)
{
    float sign = xy < 0 ? 1.0f : xy > 0 ? -1.0f : 0.0f;
    float angle = atanf(yy * sign / (xx + 1e-5f));
    return angle < 0 ? angle + pi : angle;
}

dla_status dla_edges_thin(const float *in, int height, int width, float *out)
{
    const size_t pixels = height > 0 && width > 0 ? (size_t)height * (size_t)width : 0;
    float *maps, *scratch, *values, *by_x, *by_y, *xx, *xy, *yy;

    if (pixels == 0 || pixels > SIZE_MAX / (7 * sizeof *maps))
        return status_set(DLA_ERROR_ARGUMENT, "a boundary map of %dx%d cannot be thinned", height, width);
    maps = memory_allocate(7 * pixels * sizeof *maps);
    if (!maps)
        return status_out_of_memory(7 * pixels * sizeof *maps, "thinning a boundary map");
    scratch = maps;
    values = maps + pixels;
    by_x = maps + 2 * pixels;
    by_y = maps + 3 * pixels;
    xx = maps + 4 * pixels;
    xy = maps + 5 * pixels;
    yy = maps + 6 * pixels;
    smooth(in, height, width, VALUE_RADIUS, scratch, values);
    smooth(values, height, width, DIRECTION_RADIUS, scratch, out);
    differentiate(out, height, width, by_x, by_y);
    differentiate(by_x, height, width, xx, xy);
    differentiate(by_y, height, width, scratch, yy);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            size_t i = (size_t)y * (size_t)width + (size_t)x;
            float angle = normal_angle(xx[i], xy[i], yy[i]);
            float dx = cosf(angle), dy = sinf(angle), raised = values[i] * tolerance;
            bool ridge = raised >= read_between(values, height, width, (float)y + dy, (float)x + dx)
                         && raised >= read_between(values, height, width, (float)y - dy, (float)x - dx);
            out[i] = ridge ? values[i] * fade(y, x, height, width) : 0;
        }
    memory_free(maps);
    return DLA_OK;
}
