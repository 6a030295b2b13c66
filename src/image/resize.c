/* resize.c - separable resize with antialiasing, equal to Pillow's for BILINEAR and BICUBIC.
 *
 * Output sample i of an axis has its centre at  c = start + (i + 0.5) * scale  in the source, where scale = box / output. It is
 * the average of the source samples around, weighted by a filter  w(d)  of their distance; when the picture shrinks, the filter
 * is widened by the scale, so that every source sample counts. Weights are normalised to sum 1 in double precision, then rounded
 * to fixed point. Two passes, with an 8-bit picture in between: along the rows, then across them. Since its version 13 Pillow goes
 * across first where the height shrinks by more than twice the pixels that the width does; then so do we. (For pictures resized
 * by their shorter side these are the ones over twice as tall as wide. Older versions differ there by a step in a few pixels.)
 *
 * Bit for bit means: the same order of the same roundings. Changing an expression here changes pixels.
 */
#include "image/resize.h"

#include "base/memory.h"
#include "base/status.h"
#include "image/resample.h"

#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* a fused multiply-add rounds once where Pillow's code rounds twice */
#endif

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic with a = -1/2 */
static double cubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    if (x < 2.0) {
        return (((x - 5) * x + 8) * x - 4) * a;
    }
    return 0.0;
}

static const struct {
    double (*weight)(double distance);
    double support; /* weight is zero from here on */
} filters[] = {
    [DLA_INTERPOLATION_BILINEAR] = {triangle, 1.0},
    [DLA_INTERPOLATION_BICUBIC] = {cubic, 2.0},
};

static void axis_free(struct resample_axis *axis)
{
    memory_free(axis->spans);
    memory_free(axis->coefficients);
}

/* Samples first_out .. first_out + count - 1 of an axis on which source start .. end becomes out_size samples. `weights` has
 * room for the taps of one sample. */
static void axis_fill(struct resample_axis *axis, int in_size, float start, double scale, double widening, int64_t first_out,
                      dla_interpolation interpolation, double *weights)
{
    double support = filters[interpolation].support * widening, narrowing = 1.0 / widening;

    for (int i = 0; i < axis->count; i++) {
        int32_t *coefficients = axis->coefficients + (size_t)i * (size_t)axis->stride;
        double centre = (double)start + ((double)(first_out + i) + 0.5) * scale, sum = 0.0;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);

        first = first < 0 ? 0 : first;
        end = end > in_size ? in_size : end;
        int taps = end - first;
        for (int t = 0; t < taps; t++) {
            weights[t] = filters[interpolation].weight((t + first - centre + 0.5) * narrowing);
            sum += weights[t];
        }
        for (int t = 0; t < taps; t++) {
            double weight = sum != 0.0 ? weights[t] / sum : weights[t];

            coefficients[t] = (int32_t)((weight < 0 ? -0.5 : 0.5) + weight * (1 << FRACTION_BITS));
        }
        memset(coefficients + taps, 0, (size_t)(axis->stride - taps) * sizeof *coefficients);
        axis->spans[i] = (struct tap_span){first, taps};
    }
}

static dla_status axis_create(struct resample_axis *axis, int in_size, float start, float end, int64_t out_size, int64_t first_out,
                              int count, dla_interpolation interpolation)
{
    double scale = (double)(end - start) / (double)out_size, widening = scale < 1.0 ? 1.0 : scale;
    int most_taps = (int)ceil(filters[interpolation].support * widening) * 2 + 1;
    size_t stride = ((size_t)most_taps + TAP_BLOCK - 1) / TAP_BLOCK * TAP_BLOCK;
    double *weights = memory_allocate((size_t)most_taps * sizeof *weights);

    axis->count = count;
    axis->stride = (int)stride;
    axis->spans = memory_allocate((size_t)count * sizeof *axis->spans);
    axis->coefficients = memory_allocate((size_t)count * stride * sizeof *axis->coefficients);
    if (weights == NULL || axis->spans == NULL || axis->coefficients == NULL) {
        memory_free(weights);
        return status_out_of_memory((size_t)count * stride * sizeof *axis->coefficients, "the coefficients of a resize");
    }
    axis_fill(axis, in_size, start, scale, widening, first_out, interpolation, weights);
    memory_free(weights);
    return DLA_OK;
}

struct resize_shape resize_whole(int in_height, int in_width, int channels, int64_t out_height, int64_t out_width,
                                 dla_interpolation interpolation)
{
    return (struct resize_shape){.in_height = in_height,
                                 .in_width = in_width,
                                 .channels = channels,
                                 .box = {0.0f, 0.0f, (float)in_width, (float)in_height},
                                 .out_height = out_height,
                                 .out_width = out_width,
                                 .window = {0, 0, (int)out_width, (int)out_height},
                                 .interpolation = interpolation};
}

/* Pixels that a pass reads: `rows` rows that begin in_row_bytes apart, in memory that may be read up to `readable` bytes on. */
struct strip {
    const uint8_t *bytes;
    size_t row_bytes;
    int rows;
    size_t readable;
};

/* The pass along rows. The last rows may lie closer to the end of the memory than the kernel reads beyond them, so they go through
 * a copy with room behind. */
static dla_status pass_along_rows(const struct resample_kernels *kernels, const struct resample_axis *axis, int channels,
                                  const struct strip *in, uint8_t *out)
{
    struct tap_span last = axis->spans[axis->count - 1];
    size_t used = (size_t)(last.first + last.taps) * (size_t)channels; /* bytes of each row that have a coefficient */
    int direct = in->rows;

    while (direct > 0 && (size_t)(direct - 1) * in->row_bytes + used + OVERREAD > in->readable) {
        direct--;
    }
    if (direct > 0) {
        kernels->rows(axis, channels, in->bytes, in->row_bytes, direct, out);
    }
    int copied = in->rows - direct;
    if (copied > 0) {
        uint8_t *copy = memory_allocate((size_t)copied * used + OVERREAD);

        if (copy == NULL) {
            return status_out_of_memory((size_t)copied * used, "the last rows of a resize");
        }
        for (int y = 0; y < copied; y++) {
            memcpy(copy + (size_t)y * used, in->bytes + (size_t)(direct + y) * in->row_bytes, used);
        }
        memset(copy + (size_t)copied * used, 0, OVERREAD);
        kernels->rows(axis, channels, copy, used, copied, out + (size_t)direct * (size_t)axis->count * (size_t)channels);
        memory_free(copy);
    }
    return DLA_OK;
}

/* The pass across rows: out has axis->count rows of `bytes` bytes. */
static void pass_across_rows(const struct resample_kernels *kernels, const struct resample_axis *axis, const struct strip *in, size_t bytes,
                             uint8_t *out)
{
    for (int y = 0; y < axis->count; y++) {
        struct tap_span span = axis->spans[y];

        kernels->columns(axis->coefficients + (size_t)y * (size_t)axis->stride, span.taps, in->bytes + (size_t)span.first * in->row_bytes,
                         in->row_bytes, out + (size_t)y * bytes, bytes);
    }
}

/* Both passes, through an 8-bit picture in between. */
static dla_status pass_both(const struct resample_kernels *kernels, const struct resize_shape *shape,
                            const struct resample_axis *horizontal, const struct resample_axis *vertical, const struct strip *in,
                            int in_columns, uint8_t *out)
{
    bool across_first =
        shape->out_height < shape->in_height && shape->in_height - shape->out_height > 2 * (shape->in_width - shape->out_width);
    size_t pixel = (size_t)shape->channels, out_bytes = (size_t)horizontal->count * pixel;
    size_t bytes = across_first ? (size_t)in_columns * pixel : out_bytes;
    int rows = across_first ? vertical->count : in->rows;
    struct strip between = {.row_bytes = bytes, .rows = rows, .readable = (size_t)rows * bytes + OVERREAD};
    uint8_t *memory = memory_allocate(between.readable);
    dla_status status = DLA_OK;

    if (memory == NULL) {
        return status_out_of_memory(between.readable, "the picture between a resize's passes");
    }
    between.bytes = memory;
    if (across_first) {
        pass_across_rows(kernels, vertical, in, bytes, memory);
        memset(memory + (size_t)rows * bytes, 0, OVERREAD);
        status = pass_along_rows(kernels, horizontal, shape->channels, &between, out);
    } else {
        status = pass_along_rows(kernels, horizontal, shape->channels, in, memory);
        if (status == DLA_OK) {
            pass_across_rows(kernels, vertical, &between, out_bytes, out);
        }
    }
    memory_free(memory);
    return status;
}

/* Source samples first .. end - 1 that an axis uses; its spans count from `first` afterwards. */
static void axis_trim(struct resample_axis *axis, int *first, int *end)
{
    struct tap_span last = axis->spans[axis->count - 1];

    *first = axis->spans[0].first;
    *end = last.first + last.taps;
    for (int i = 0; i < axis->count; i++) {
        axis->spans[i].first -= *first;
    }
}

static dla_status resize_with(const struct resample_kernels *kernels, const struct resize_shape *shape, const uint8_t *in, uint8_t *out)
{
    const struct resize_box *box = &shape->box;
    const struct resize_window *window = &shape->window;
    bool along_rows = shape->out_width != shape->in_width || box->left > 0.0f || box->right < (float)shape->in_width;
    bool across_rows = shape->out_height != shape->in_height || box->top > 0.0f || box->bottom < (float)shape->in_height;
    struct resample_axis horizontal = {0}, vertical = {0};
    dla_status status = DLA_OK;

    /* The part of the source that matters; a side without a pass keeps its size, so the window lies within the source. */
    int left, right, top, bottom;
    if (along_rows) {
        status = axis_create(&horizontal, shape->in_width, box->left, box->right, shape->out_width, window->left, window->width,
                             shape->interpolation);
        if (status != DLA_OK) {
            goto out;
        }
        axis_trim(&horizontal, &left, &right);
    } else {
        left = (int)window->left;
        right = left + window->width;
    }
    if (across_rows) {
        status = axis_create(&vertical, shape->in_height, box->top, box->bottom, shape->out_height, window->top, window->height,
                             shape->interpolation);
        if (status != DLA_OK) {
            goto out;
        }
        axis_trim(&vertical, &top, &bottom);
    } else {
        top = (int)window->top;
        bottom = top + window->height;
    }
    size_t pixel = (size_t)shape->channels, row_bytes = (size_t)shape->in_width * pixel, out_row_bytes = (size_t)window->width * pixel;
    size_t start = (size_t)top * row_bytes + (size_t)left * pixel;
    struct strip source = {in + start, row_bytes, bottom - top, (size_t)shape->in_height * row_bytes - start};
    if (along_rows && across_rows) {
        status = pass_both(kernels, shape, &horizontal, &vertical, &source, right - left, out);
    } else if (along_rows) {
        status = pass_along_rows(kernels, &horizontal, shape->channels, &source, out);
    } else if (across_rows) {
        pass_across_rows(kernels, &vertical, &source, out_row_bytes, out);
    } else {
        for (int y = 0; y < window->height; y++) {
            memcpy(out + (size_t)y * out_row_bytes, source.bytes + (size_t)y * row_bytes, out_row_bytes);
        }
    }
out:
    axis_free(&horizontal);
    axis_free(&vertical);
    return status;
}

dla_status image_resize(const struct resize_shape *shape, const uint8_t *in, uint8_t *out)
{
    return resize_with(resample_kernels_fastest(), shape, in, out);
}

dla_status image_resize_reference(const struct resize_shape *shape, const uint8_t *in, uint8_t *out)
{
    return resize_with(resample_kernels_reference(), shape, in, out);
}
