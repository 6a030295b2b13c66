/* map_fast.c - pooling, sums and copies with vectors over the channels of a pixel and threads over the rows of the result; rows of
 * other operations come from upsample.c and log_softmax.c.
 *
 * Bound by memory: each function reads every input once (a pool's windows overlap in cache) and writes every output once.
 */
#include "cpu/isa/sizes.h"
#include "cpu/isa/training_isa.h"
#include "cpu/map.h"

#include <math.h>

/* One row of the result; `row` counts over all images. */
typedef void row_function(const struct map_call *c, int image, int y);

struct row_job {
    const struct map_call *call;
    row_function *function;
};

static void row_task(void *context, int task, int worker)
{
    const struct row_job *job = context;
    (void)worker;
    job->function(job->call, task / job->call->out_height, task % job->call->out_height);
}

static void for_rows(const struct map_call *c, row_function *function)
{
    struct row_job job = {.call = c, .function = function};
    thread_pool_run(c->pool, row_task, &job, c->batch * c->out_height);
}

/* Window rows [*begin, *end) that lie inside a map side of `size`, row k at pixel at + k * dilation. */
static void clip_window(int at, int kernel, int dilation, int size, int *begin, int *end)
{
    int inside = (size - at + dilation - 1) / dilation;
    *begin = at < 0 ? (-at + dilation - 1) / dilation : 0;
    *end = inside < kernel ? inside : kernel;
}

/* Asks for what a window FETCH_WINDOWS further along its row reads first: where a map is a slice of a wider one, as in Res2Net, its pixels
 * lie so far apart that the processor's own prefetcher does not. */
ALWAYS_INLINE void fetch_window(const struct map_call *c, int image, int top, int left, int ky_begin, int ky_end)
{
    enum { FETCH_WINDOWS = 4, LINE_FLOATS = 16 };
    int first = left + FETCH_WINDOWS * c->stride, end = smaller(first + c->stride, c->in_width);
    first = first > 0 ? first : 0; /* padding may be wider than that */

    for (int ky = ky_begin; ky < ky_end; ky++)
        for (int x = first; x < end; x++) {
            const float *pixel = map_pixel(&c->in, c->in_height, c->in_width, image, top + ky * c->dilation, x);
            for (int channel = 0; channel < c->channels; channel += LINE_FLOATS)
                __builtin_prefetch(pixel + channel);
        }
}

enum pool_kind { POOL_MAX, POOL_SUM };

/* Maximum or scaled sum over the window of each pixel of a row, a vector of channels at a time. */
ALWAYS_INLINE void pool_row(const struct map_call *c, int image, int y, const enum pool_kind kind)
{
    float *out = map_pixel(&c->out, c->out_height, c->out_width, image, y, 0);
    int top = y * c->stride - c->padding, ky_begin, ky_end;
    vec factor = vec_all(1.0f / (float)(c->kernel * c->kernel));

    clip_window(top, c->kernel, c->dilation, c->in_height, &ky_begin, &ky_end);
    const int64_t pixel_step = c->in.pixel_stride * c->dilation, row_step = pixel_step * c->in_width;
    for (int x = 0; x < c->out_width; x++, out += c->out.pixel_stride) {
        int left = x * c->stride - c->padding, kx_begin, kx_end;
        clip_window(left, c->kernel, c->dilation, c->in_width, &kx_begin, &kx_end);
        bool nothing = ky_begin >= ky_end || kx_begin >= kx_end; /* padding alone */
        const float *window =
            nothing ? c->in.data
                    : map_pixel(&c->in, c->in_height, c->in_width, image, top + ky_begin * c->dilation, left + kx_begin * c->dilation);
        if (c->in.pixel_stride >= 2 * c->channels)
            fetch_window(c, image, top, left, ky_begin, ky_end);
        for (int channel = 0; channel < c->channels; channel += VEC_WIDTH) {
            int lanes = smaller(c->channels - channel, VEC_WIDTH);
            vec result = kind == POOL_MAX ? vec_all(-INFINITY) : vec_zero();
            for (int ky = ky_begin; ky < ky_end; ky++) {
                const float *in = window + (ky - ky_begin) * row_step + channel;
                for (int kx = kx_begin; kx < kx_end; kx++, in += pixel_step) {
                    vec value = lanes == VEC_WIDTH ? vec_load(in) : vec_load_first(in, lanes);
                    if (kind == POOL_MAX)
                        result = vec_max(result, value);
                    else
                        result = result + value;
                }
            }
            if (kind == POOL_SUM)
                result = result * factor;
            if (lanes == VEC_WIDTH)
                vec_store(out + channel, result);
            else
                vec_store_first(out + channel, result, lanes);
        }
    }
}

static void max_pool_row(const struct map_call *c, int image, int y)
{
    pool_row(c, image, y, POOL_MAX);
}

static void average_pool_row(const struct map_call *c, int image, int y)
{
    pool_row(c, image, y, POOL_SUM);
}

enum element_kind { ELEMENT_COPY, ELEMENT_ADD, ELEMENT_SCALE_SHIFT, ELEMENT_RELU };

ALWAYS_INLINE void element_row(const struct map_call *c, int image, int y, const enum element_kind kind)
{
    for (int x = 0; x < c->out_width; x++) {
        const float *in = map_pixel(&c->in, c->in_height, c->in_width, image, y, x);
        const float *other = kind == ELEMENT_ADD ? map_pixel(&c->other, c->in_height, c->in_width, image, y, x) : NULL;
        float *out = map_pixel(&c->out, c->out_height, c->out_width, image, y, x);
        for (int channel = 0; channel < c->channels; channel += VEC_WIDTH) {
            int lanes = c->channels - channel < VEC_WIDTH ? c->channels - channel : VEC_WIDTH;
            bool whole = lanes == VEC_WIDTH;
            vec result = whole ? vec_load(in + channel) : vec_load_first(in + channel, lanes);
            if (kind == ELEMENT_ADD)
                result = result + (whole ? vec_load(other + channel) : vec_load_first(other + channel, lanes));
            if (kind == ELEMENT_SCALE_SHIFT)
                result = vec_fma(result, whole ? vec_load(c->scale + channel) : vec_load_first(c->scale + channel, lanes),
                                 whole ? vec_load(c->shift + channel) : vec_load_first(c->shift + channel, lanes));
            if (kind == ELEMENT_RELU || (kind != ELEMENT_COPY && c->relu))
                result = vec_max(vec_zero(), result);
            if (whole)
                vec_store(out + channel, result);
            else
                vec_store_first(out + channel, result, lanes);
        }
    }
}

static void copy_row(const struct map_call *c, int image, int y)
{
    element_row(c, image, y, ELEMENT_COPY);
}

static void add_row(const struct map_call *c, int image, int y)
{
    element_row(c, image, y, ELEMENT_ADD);
}

static void scale_shift_row(const struct map_call *c, int image, int y)
{
    element_row(c, image, y, ELEMENT_SCALE_SHIFT);
}

static void relu_row(const struct map_call *c, int image, int y)
{
    element_row(c, image, y, ELEMENT_RELU);
}

static void max_pool(const struct map_call *c)
{
    for_rows(c, max_pool_row);
}

static void average_pool(const struct map_call *c)
{
    for_rows(c, average_pool_row);
}

/* The result is a single row of a single pixel: threads share the channels instead. */
enum { GLOBAL_VECTORS = 4 };

static void global_average_task(void *context, int task, int worker)
{
    const struct map_call *c = context;
    int blocks = (c->channels + GLOBAL_VECTORS * VEC_WIDTH - 1) / (GLOBAL_VECTORS * VEC_WIDTH);
    int image = task / blocks, first = task % blocks * GLOBAL_VECTORS * VEC_WIDTH;
    int64_t pixels = (int64_t)c->in_height * c->in_width;
    vec factor = vec_all(1.0f / (float)pixels);

    (void)worker;
    for (int channel = first; channel < first + GLOBAL_VECTORS * VEC_WIDTH && channel < c->channels; channel += VEC_WIDTH) {
        int lanes = c->channels - channel < VEC_WIDTH ? c->channels - channel : VEC_WIDTH;
        const float *in = map_pixel(&c->in, c->in_height, c->in_width, image, 0, 0) + channel;
        vec sum = vec_zero();
        for (int64_t pixel = 0; pixel < pixels; pixel++, in += c->in.pixel_stride)
            sum = sum + (lanes == VEC_WIDTH ? vec_load(in) : vec_load_first(in, lanes));
        vec_store_first(c->out.data + image * c->out.pixel_stride + channel, sum * factor, lanes);
    }
}

static void global_average_pool(const struct map_call *c)
{
    struct map_call copy = *c;
    int blocks = (c->channels + GLOBAL_VECTORS * VEC_WIDTH - 1) / (GLOBAL_VECTORS * VEC_WIDTH);
    thread_pool_run(c->pool, global_average_task, &copy, c->batch * blocks);
}

static void add(const struct map_call *c)
{
    for_rows(c, add_row);
}

static void scale_shift(const struct map_call *c)
{
    for_rows(c, scale_shift_row);
}

static void relu(const struct map_call *c)
{
    for_rows(c, relu_row);
}

static void copy_map(const struct map_call *c)
{
    for_rows(c, copy_row);
}

static void transposed_conv(const struct map_call *c)
{
    if (c->groups == c->channels && c->in_channels == c->channels && c->kernel == 2 * c->stride)
        for_rows(c, ISA_NAME(upsample_row));
    else
        map_reference.transposed_conv(c);
}

static void log_softmax_row(const struct map_call *c, int image, int y)
{
    struct const_view in = {map_pixel(&c->in, c->in_height, c->in_width, image, y, 0), c->in.pixel_stride};
    struct map_view out = {map_pixel(&c->out, c->out_height, c->out_width, image, y, 0), c->out.pixel_stride};
    ISA_NAME(log_softmax_run)(c->out_width, c->channels, in, out);
}

static void log_softmax(const struct map_call *c)
{
    for_rows(c, log_softmax_row);
}

extern const struct map_functions ISA_NAME(map_functions);

const struct map_functions ISA_NAME(map_functions) = {
    .max_pool = max_pool,
    .average_pool = average_pool,
    .global_average_pool = global_average_pool,
    .add = add,
    .scale_shift = scale_shift,
    .relu = relu,
    .copy = copy_map,
    .transposed_conv = transposed_conv,
    .log_softmax = log_softmax,
};
