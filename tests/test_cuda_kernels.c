/* Everything that the GPU computes agrees with the processor's reference: convolutions in every variant of every kernel, and
 * the functions on maps, in all formats, also where tiles, vectors, groups, sources and views do not divide the sizes.
 *
 * A fault is printed, one line each, and the rest goes on, so that one run tells everything. Skipped (77) where there is no GPU. */
#include "base/cpu_features.h"
#include "base/tensor.h"
#include "cpu/map.h"
#include "cuda/cuda_conv.h"
#include "cuda/cuda_map.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FORMATS = 3, ARITHMETICS = 4, MOST_KERNELS = 16 };

static const char *const format_names[FORMATS] = {[CUDA_FLOAT32] = "float32", [CUDA_FLOAT16] = "float16", [CUDA_BFLOAT16] = "bfloat16"};
static const char *const arithmetic_names[ARITHMETICS] = {
    [CUDA_EXACT] = "exact", [CUDA_TF32] = "tf32", [CUDA_HALF] = "half", [CUDA_BRAIN] = "brain"};

/* What storing a float may change, relative to it. */
static const double rounding[FORMATS] = {[CUDA_FLOAT32] = 0.0, [CUDA_FLOAT16] = 0x1p-11, [CUDA_BFLOAT16] = 0x1p-8};

static struct cuda_device device;
static cudaStream_t stream;
static struct thread_pool *pool;

/* Deterministic values around zero; the same on every machine. */
static float pseudo_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)(*state >> 8) / (float)(1 << 23) - 1.0f;
}

static float rounded(enum cuda_format format, float value)
{
    switch (format) {
    case CUDA_FLOAT16:
        return half_to_float(float_to_half(value));
    case CUDA_BFLOAT16:
        return bfloat16_to_float(float_to_bfloat16(value));
    default:
        return value;
    }
}

static float *allocate_floats(int64_t count)
{
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    return values;
}

/* Values that the format holds, in -magnitude .. magnitude. */
static float *random_floats(int64_t count, uint32_t seed, enum cuda_format format, float magnitude)
{
    float *values = allocate_floats(count);
    for (int64_t i = 0; i < count; i++)
        values[i] = rounded(format, magnitude * pseudo_random(&seed));
    return values;
}

static void check_cuda(cudaError_t error, const char *what)
{
    if (error != cudaSuccess)
        fail_msg("%s: %s", what, cudaGetErrorString(error));
}

static void *device_copy(const void *from, size_t bytes)
{
    void *memory = NULL;
    if (cuda_allocate(bytes, "a test", &memory) != DLA_OK)
        fail_msg("%s", dla_error_message());
    check_cuda(cudaMemcpy(memory, from, bytes, cudaMemcpyHostToDevice), "copy to the GPU");
    return memory;
}

/* ---- A map in the GPU's memory and its image on the host ---------------------------------------------------------------- */

/* All that is not the map's own is NaN of one bit pattern: what lies before and behind it, and the foreign channels between its
 * pixels. A kernel that reads there spoils its result, one that writes there changes the pattern. */
struct map {
    enum cuda_format format;
    int64_t pixels, stride, offset; /* offset: of the first channel in a pixel's `stride` elements */
    int channels;
    size_t bytes;
    unsigned char *host;
    void *device;
};

enum { MARGIN = 1024, POISON = 0xff }; /* bytes before and behind: keeps the alignment of cudaMalloc */

/* How a map's channels lie in its pixels. */
enum layout {
    WIDE,     /* between foreign channels, at multiples of 8 elements */
    TIGHT,    /* nothing foreign */
    QUARTERS, /* at multiples of 4 elements that are not multiples of 8 */
    ODD,      /* unaligned */
    PADDED,   /* nothing foreign, but pixels are filled up to 16 bytes */
    LAYOUTS
};
static const char *const layout_names[LAYOUTS] = {"wide", "tight", "quarters", "odd", "padded"};

static unsigned char *map_element(const struct map *m, int64_t pixel, int channel)
{
    return m->host + MARGIN + (size_t)(pixel * m->stride + m->offset + channel) * cuda_format_bytes(m->format);
}

static float map_get(const struct map *m, int64_t pixel, int channel)
{
    const unsigned char *from = map_element(m, pixel, channel);
    uint16_t bits;
    float value;

    if (m->format == CUDA_FLOAT32) {
        memcpy(&value, from, sizeof value);
        return value;
    }
    memcpy(&bits, from, sizeof bits);
    return m->format == CUDA_FLOAT16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

static void map_set(const struct map *m, int64_t pixel, int channel, float value)
{
    unsigned char *to = map_element(m, pixel, channel);
    if (m->format == CUDA_FLOAT32) {
        memcpy(to, &value, sizeof value);
    } else {
        uint16_t bits = m->format == CUDA_FLOAT16 ? float_to_half(value) : float_to_bfloat16(value);
        memcpy(to, &bits, sizeof bits);
    }
}

/* Host to device. */
static void map_upload(const struct map *m)
{
    check_cuda(cudaMemcpy(m->device, m->host, m->bytes, cudaMemcpyHostToDevice), "copy a map to the GPU");
}

/* Up to a multiple of 16 bytes. */
static int padded_channels(enum cuda_format format, int channels)
{
    int multiple = 16 / (int)cuda_format_bytes(format);
    return (channels + multiple - 1) / multiple * multiple;
}

/* values: (pixels, channels); NULL: nothing but NaN. extra: more foreign channels, a multiple of 8. */
static struct map map_create(enum cuda_format format, int64_t pixels, int channels, enum layout layout, int extra, const float *values)
{
    struct map m = {.format = format, .pixels = pixels, .channels = channels};

    switch (layout) {
    case WIDE:
        m.offset = 8;
        m.stride = (channels + 7) / 8 * 8 + 16 + extra;
        break;
    case QUARTERS:
        m.offset = 4;
        m.stride = (channels + 7) / 8 * 8 + 12 + extra;
        break;
    case ODD:
        m.offset = 1;
        m.stride = channels + 3 + channels % 2 + extra; /* odd, too */
        break;
    case PADDED:
        m.stride = padded_channels(format, channels) + extra;
        break;
    default:
        m.stride = channels;
        break;
    }
    m.bytes = (size_t)(pixels * m.stride) * cuda_format_bytes(format) + 2 * MARGIN;
    m.host = malloc(m.bytes);
    assert_non_null(m.host);
    memset(m.host, POISON, m.bytes);
    if (values)
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            for (int channel = 0; channel < channels; channel++)
                map_set(&m, pixel, channel, values[pixel * channels + channel]);
    m.device = device_copy(m.host, m.bytes);
    return m;
}

/* Zeros behind the channels, up to a multiple of 16 bytes. */
static void map_pad(const struct map *m)
{
    for (int64_t pixel = 0; pixel < m->pixels; pixel++)
        for (int channel = m->channels; channel < padded_channels(m->format, m->channels); channel++)
            map_set(m, pixel, channel, 0.0f);
    map_upload(m);
}

static void map_free(struct map *m)
{
    free(m->host);
    cuda_free(m->device);
    *m = (struct map){0};
}

static struct cuda_view map_view_of(const struct map *m)
{
    return (struct cuda_view){(char *)m->device + MARGIN + (size_t)m->offset * cuda_format_bytes(m->format), m->stride};
}

/* Bytes outside the map's channels that are no longer POISON. */
static int64_t foreign_writes(const struct map *m)
{
    int64_t count = 0;
    size_t size = cuda_format_bytes(m->format), pixel_bytes = (size_t)m->stride * size;

    for (size_t i = 0; i < MARGIN; i++)
        count += (m->host[i] != POISON) + (m->host[m->bytes - 1 - i] != POISON);
    for (int64_t pixel = 0; pixel < m->pixels; pixel++) {
        const unsigned char *start = m->host + MARGIN + (size_t)pixel * pixel_bytes;
        size_t first = (size_t)m->offset * size, end = first + (size_t)m->channels * size;
        for (size_t i = 0; i < first; i++)
            count += start[i] != POISON;
        for (size_t i = end; i < pixel_bytes; i++)
            count += start[i] != POISON;
    }
    return count;
}

/* How a map that was computed differs from what is expected. */
struct difference {
    double largest; /* |expected| */
    double error;   /* |map - expected| */
    double excess;  /* |map - expected| beyond the rounding of its format; negative: none */
    int64_t pixel;  /* where the excess is */
    int channel;
    int64_t missing; /* NaN: not written, or computed of what must not be read */
    int64_t foreign; /* foreign_writes */
};

static struct difference map_compare(const struct map *m, const float *expected /* (pixels, channels) */)
{
    struct difference d = {.excess = -INFINITY, .foreign = foreign_writes(m)};

    for (int64_t pixel = 0; pixel < m->pixels; pixel++)
        for (int channel = 0; channel < m->channels; channel++) {
            double wanted = (double)expected[pixel * m->channels + channel];
            double error = fabs((double)map_get(m, pixel, channel) - wanted);
            double excess = error - rounding[m->format] * 1.001 * fabs(wanted);
            if (isnan(error)) {
                d.missing++;
                continue;
            }
            d.largest = fmax(d.largest, fabs(wanted));
            d.error = fmax(d.error, error);
            if (excess > d.excess) {
                d.excess = excess;
                d.pixel = pixel;
                d.channel = channel;
            }
        }
    return d;
}

/* After a launch: what went wrong, or NULL. */
static const char *launch_error(cudaError_t error)
{
    if (error == cudaSuccess)
        error = cudaGetLastError();
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(stream);
    if (error == cudaSuccess)
        return NULL;
    cudaGetLastError();
    return cudaGetErrorString(error);
}

/* Ends the test after an error that spoils the process's use of the GPU; others are the launch's own. */
static void stop_if_lost(const char *where)
{
    if (cudaDeviceSynchronize() != cudaSuccess) {
        fflush(stdout);
        fail_msg("%s: the GPU is lost after this, the rest was not tested", where);
    }
}

/* ---- Functions on maps -------------------------------------------------------------------------------------------------- */

struct map_case {
    const char *name;
    map_function *const *reference;
    cuda_map_function *function;
    int batch, height, width, channels, out_height, out_width, kernel, stride, padding;
    int dilation;            /* 0: 1 */
    int in_channels, groups; /* of transposed convolution; 0: depthwise */
    const char *why;
};

#define FUNCTION(name) #name, &map_reference.name, cuda_##name

static const struct map_case map_cases[] = {
    {FUNCTION(max_pool), 1, 8, 8, 32, 4, 4, 2, 2, 0, .why = "even"},
    {FUNCTION(max_pool), 2, 7, 9, 19, 4, 5, 2, 2, 0, .why = "ceil mode: the last window hangs over"},
    {FUNCTION(max_pool), 2, 15, 13, 64, 8, 7, 2, 2, 0, .why = "ceil mode in vectors"},
    {FUNCTION(max_pool), 1, 1, 1, 5, 1, 1, 2, 2, 0, .why = "a window with one pixel inside"},
    {FUNCTION(max_pool), 3, 9, 11, 24, 5, 6, 3, 2, 1, .why = "kernel 3, padding 1"},
    {FUNCTION(max_pool), 1, 7, 6, 21, 7, 6, 2, 1, 0, .dilation = 2, .why = "an output stride of 8: nothing is dropped"},
    {FUNCTION(average_pool), 1, 7, 3, 21, 7, 3, 3, 1, 2, .dilation = 2, .why = "dilated over both edges"},
    {FUNCTION(average_pool), 2, 9, 8, 20, 5, 4, 3, 2, 1, .why = "padding counts in the divisor"},
    {FUNCTION(average_pool), 1, 1, 3, 28, 1, 2, 3, 2, 1, .why = "one row"},
    {FUNCTION(global_average_pool), 3, 7, 7, 70, 1, 1, 7, 1, 0, .why = "channels past the last block"},
    {FUNCTION(global_average_pool), 1, 3, 11, 512, 1, 1, 3, 1, 0, .why = "not square"},
    {FUNCTION(global_average_pool), 5, 1, 1, 3, 1, 1, 1, 1, 0, .why = "one pixel: most warps have none"},
    {FUNCTION(global_average_pool), 2, 40, 31, 1028, 1, 1, 1, 1, 0, .why = "many pixels, a last block of one vector"},
    {FUNCTION(add), 2, 5, 6, 28, 5, 6, 1, 1, 0, .why = "a Res2Net slice plus the chain"},
    {FUNCTION(add), 3, 14, 14, 256, 14, 14, 1, 1, 0, .why = "rows of several blocks"},
    {FUNCTION(add), 1, 3, 5, 1, 3, 5, 1, 1, 0, .why = "one channel"},
    {FUNCTION(scale_shift), 1, 5, 6, 21, 5, 6, 1, 1, 0, .why = "tail"},
    {FUNCTION(scale_shift), 2, 9, 33, 16, 9, 33, 1, 1, 0, .why = "two vectors"},
    {FUNCTION(relu), 2, 3, 3, 17, 3, 3, 1, 1, 0, .why = "tail of one"},
    {FUNCTION(relu), 1, 13, 17, 40, 13, 17, 1, 1, 0, .why = "whole vectors"},
    {FUNCTION(relu), 70000, 1, 1, 3, 1, 1, 1, 1, 0, .why = "more images than a grid is high"},
    {FUNCTION(copy), 2, 6, 8, 13, 5, 7, 1, 1, 0, .why = "crop"},
    {FUNCTION(copy), 2, 6, 8, 72, 5, 7, 1, 1, 0, .why = "crop in vectors"},
    {FUNCTION(copy), 1, 14, 15, 112, 14, 15, 1, 1, 0, .why = "all of it"},
    {FUNCTION(transposed_conv), 1, 5, 7, 35, 10, 14, 4, 2, 1, .why = "upsampling by 2"},
    {FUNCTION(transposed_conv), 2, 5, 7, 64, 10, 14, 4, 2, 1, .why = "upsampling by 2 in vectors"},
    {FUNCTION(transposed_conv), 2, 3, 2, 19, 24, 16, 16, 8, 4, .why = "upsampling by 8"},
    {FUNCTION(transposed_conv), 2, 3, 5, 37, 5, 9, 4, 2, 1, .why = "upsampling by 2, the last row and column cut off"},
    {FUNCTION(transposed_conv), 1, 2, 3, 16, 5, 9, 8, 4, 2, .why = "upsampling by 4, cut inside of a phase"},
    {FUNCTION(transposed_conv), 1, 1, 1, 48, 2, 2, 4, 2, 1, .why = "a map of one pixel: one row, no neighbour"},
    {FUNCTION(transposed_conv), 1, 3, 4, 5, 6, 8, 3, 2, 1, .why = "a window that is not twice the stride"},
    {FUNCTION(transposed_conv), 2, 3, 4, 24, 6, 8, 4, 2, 1, .in_channels = 20, .groups = 1, .why = "all inputs to all outputs"},
    {FUNCTION(transposed_conv), 1, 3, 4, 24, 6, 8, 4, 2, 1, .in_channels = 16, .groups = 4, .why = "groups, fewer inputs than outputs"},
    {FUNCTION(transposed_conv), 1, 4, 3, 12, 9, 7, 3, 2, 0, .in_channels = 24, .groups = 12, .why = "two inputs an output"},
    {FUNCTION(log_softmax), 2, 3, 4, 19, 3, 4, 1, 1, 0, .why = "19 classes, less than a warp"},
    {FUNCTION(log_softmax), 1, 2, 37, 2, 2, 37, 1, 1, 0, .why = "boundaries, pixels past the last block"},
    {FUNCTION(log_softmax), 1, 1, 17, 300, 1, 17, 1, 1, 0, .why = "many classes, a tail"},
    {FUNCTION(log_softmax), 1, 3, 5, 32, 3, 5, 1, 1, 0, .why = "a warp of classes"},
    {FUNCTION(log_softmax), 1, 1, 3, 1, 1, 3, 1, 1, 0, .why = "one class: log 1"},
};

enum place { APART, OVER_IN, OVER_OTHER, PLACES }; /* where the result goes */
static const char *const place_names[PLACES] = {"apart", "over its input", "over its second input"};

/* One case in one format: its operands, and the result that is expected of them. */
struct map_fixture {
    const struct map_case *c;
    enum cuda_format format;
    bool relu;
    int in_channels, groups;
    float *in, *other;             /* (batch, height, width, in_channels) */
    float *weight, *scale, *shift; /* as in map_call */
    float *expected;               /* (batch, out_height, out_width, channels) */
    void *device_weight, *device_scale, *device_shift;
};

static struct map_fixture map_fixture_create(const struct map_case *c, enum cuda_format format, bool relu)
{
    struct map_fixture f = {.c = c, .format = format, .relu = relu};
    int64_t in_pixels = (int64_t)c->batch * c->height * c->width, out_pixels = (int64_t)c->batch * c->out_height * c->out_width;

    f.in_channels = c->in_channels ? c->in_channels : c->channels;
    f.groups = c->groups ? c->groups : c->channels;
    int64_t weights = (int64_t)c->kernel * c->kernel * f.in_channels * (c->channels / f.groups);
    f.in = random_floats(in_pixels * f.in_channels, 3, format, 3.0f);
    f.other = random_floats(in_pixels * f.in_channels, 4, format, 3.0f);
    f.weight = random_floats(weights, 5, CUDA_FLOAT32, 1.0f);
    f.scale = random_floats(c->channels, 6, CUDA_FLOAT32, 2.0f);
    f.shift = random_floats(c->channels, 7, CUDA_FLOAT32, 1.0f);
    f.expected = allocate_floats(out_pixels * c->channels);
    f.device_weight = device_copy(f.weight, (size_t)weights * sizeof(float));
    f.device_scale = device_copy(f.scale, (size_t)c->channels * sizeof(float));
    f.device_shift = device_copy(f.shift, (size_t)c->channels * sizeof(float));

    struct map_call call = {
        .batch = c->batch,
        .channels = c->channels,
        .in_height = c->height,
        .in_width = c->width,
        .out_height = c->out_height,
        .out_width = c->out_width,
        .kernel = c->kernel,
        .stride = c->stride,
        .padding = c->padding,
        .dilation = c->dilation ? c->dilation : 1,
        .in = {f.in, f.in_channels},
        .other = {f.other, f.in_channels},
        .in_channels = f.in_channels,
        .groups = f.groups,
        .weight = f.weight,
        .scale = f.scale,
        .shift = c->batch == 2 ? NULL : f.shift,
        .out = {f.expected, c->channels},
        .relu = relu,
    };
    if (c->function == cuda_scale_shift)
        call.shift = f.shift;
    (*c->reference)(&call);
    return f;
}

static void map_fixture_free(struct map_fixture *f)
{
    free(f->in);
    free(f->other);
    free(f->weight);
    free(f->scale);
    free(f->shift);
    free(f->expected);
    cuda_free(f->device_weight);
    cuda_free(f->device_scale);
    cuda_free(f->device_shift);
}

/* Whether the result was as expected. */
static bool check_map_function(const struct map_fixture *f, enum layout in_layout, enum layout out_layout, enum place place)
{
    const struct map_case *c = f->c;
    int64_t in_pixels = (int64_t)c->batch * c->height * c->width, out_pixels = (int64_t)c->batch * c->out_height * c->out_width;
    struct map in = map_create(f->format, in_pixels, f->in_channels, in_layout, 0, f->in);
    struct map other = map_create(f->format, in_pixels, f->in_channels, in_layout, 8, f->other);
    struct map apart = map_create(f->format, out_pixels, c->channels, out_layout, 0, NULL);
    struct map *out = place == OVER_IN ? &in : place == OVER_OTHER ? &other : &apart;
    struct cuda_map_call call = {
        .format = f->format,
        .batch = c->batch,
        .channels = c->channels,
        .in_height = c->height,
        .in_width = c->width,
        .out_height = c->out_height,
        .out_width = c->out_width,
        .kernel = c->kernel,
        .stride = c->stride,
        .padding = c->padding,
        .dilation = c->dilation ? c->dilation : 1,
        .in = map_view_of(&in),
        .other = map_view_of(&other),
        .in_channels = f->in_channels,
        .groups = f->groups,
        .weight = f->device_weight,
        .scale = f->device_scale,
        .shift = c->batch == 2 && c->function != cuda_scale_shift ? NULL : f->device_shift,
        .out = map_view_of(out),
        .relu = f->relu,
    };
    char where[256];
    snprintf(where, sizeof where, "%s, %s, %s%s, %s to %s, %s", c->name, c->why, format_names[f->format], f->relu ? ", relu" : "",
             layout_names[in_layout], layout_names[out_layout], place_names[place]);

    c->function(&call, stream);
    const char *error = launch_error(cudaSuccess);
    bool right = !error;
    if (error) {
        printf("FAULT %s: %s\n", where, error);
        stop_if_lost(where);
    } else {
        check_cuda(cudaMemcpy(out->host, out->device, out->bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
        struct difference d = map_compare(out, f->expected);
        right = d.missing == 0 && d.foreign == 0 && d.excess <= 5e-6 * (1.0 + d.largest);
        if (!right)
            printf("FAULT %s: off by %g of %g at pixel %lld channel %d, %lld elements missing, %lld foreign bytes written\n", where,
                   d.error, d.largest, (long long)d.pixel, d.channel, (long long)d.missing, (long long)d.foreign);
    }
    map_free(&in);
    map_free(&other);
    map_free(&apart);
    return right;
}

static void map_functions_agree_with_the_reference(void **state)
{
    static const enum layout layouts[][2] = {{WIDE, WIDE}, {TIGHT, TIGHT}, {QUARTERS, WIDE}, {WIDE, QUARTERS}, {ODD, ODD}, {WIDE, ODD}};
    int faults = 0;

    (void)state;
    for (size_t i = 0; i < sizeof map_cases / sizeof *map_cases; i++) {
        cuda_map_function *function = map_cases[i].function;
        bool has_relu = function == cuda_add || function == cuda_scale_shift;
        bool over_in = has_relu || function == cuda_relu || function == cuda_log_softmax;
        for (int format = 0; format < FORMATS; format++)
            for (int relu = 0; relu <= (has_relu ? 1 : 0); relu++) {
                struct map_fixture f = map_fixture_create(&map_cases[i], (enum cuda_format)format, relu == 1);
                for (size_t k = 0; k < sizeof layouts / sizeof *layouts; k++) {
                    faults += !check_map_function(&f, layouts[k][0], layouts[k][1], APART);
                    if (over_in)
                        faults += !check_map_function(&f, layouts[k][0], layouts[k][0], OVER_IN);
                    if (function == cuda_add)
                        faults += !check_map_function(&f, layouts[k][0], layouts[k][0], OVER_OTHER);
                }
                map_fixture_free(&f);
            }
    }
    assert_int_equal(faults, 0);
}

/* NaN goes through pools and relu as on the processor. */
static void not_a_number_is_kept(void **state)
{
    const float values[4] = {1.0f, NAN, 2.0f, -3.0f}; /* one row */
    struct map in = map_create(CUDA_FLOAT32, 4, 1, TIGHT, 0, values), out = map_create(CUDA_FLOAT32, 4, 1, TIGHT, 0, values);
    struct cuda_map_call call = {
        .format = CUDA_FLOAT32,
        .batch = 1,
        .channels = 1,
        .in_height = 1,
        .in_width = 4,
        .out_height = 1,
        .out_width = 2,
        .kernel = 2,
        .stride = 2,
        .dilation = 1,
        .in = map_view_of(&in),
        .out = map_view_of(&out),
    };

    (void)state;
    cuda_max_pool(&call, stream);
    assert_null(launch_error(cudaSuccess));
    check_cuda(cudaMemcpy(out.host, out.device, out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
    assert_true(isnan(map_get(&out, 0, 0)));
    assert_float_equal(map_get(&out, 1, 0), 2.0f, 0.0f);
    call.out_width = 4;
    cuda_relu(&call, stream);
    assert_null(launch_error(cudaSuccess));
    check_cuda(cudaMemcpy(out.host, out.device, out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
    assert_true(isnan(map_get(&out, 1, 0)));
    assert_float_equal(map_get(&out, 3, 0), 0.0f, 0.0f);
    map_free(&in);
    map_free(&out);
}

/* Channels from float32 pixels to a padded map and back. */
static void formats_convert_both_ways(void **state)
{
    static const struct {
        int channels, padded;
    } sizes[] = {{3, 4}, {3, 8}, {3, 3}, {5, 8}, {1, 1}, {32, 32}, {19, 24}, {4, 4}, {6, 12}};
    enum { PIXELS = 331 };
    int faults = 0;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int format = 0; format < FORMATS; format++)
            for (int layout = 0; layout < LAYOUTS; layout++) {
                int channels = sizes[i].channels, padded = sizes[i].padded;
                float *values = random_floats(PIXELS * channels, 17, CUDA_FLOAT32, 2.0f), *expected = allocate_floats(PIXELS * padded);
                for (int k = 0; k < PIXELS * padded; k++)
                    expected[k] =
                        k % padded < channels ? rounded((enum cuda_format)format, values[k / padded * channels + k % padded]) : 0.0f;
                void *in = device_copy(values, (size_t)(PIXELS * channels) * sizeof *values);
                struct map out = map_create((enum cuda_format)format, PIXELS, padded, (enum layout)layout, 0, NULL);
                struct map back = map_create(CUDA_FLOAT32, PIXELS, padded, TIGHT, 0, NULL);

                cuda_pad_channels(in, PIXELS, channels, out.format, map_view_of(&out), padded, stream);
                cuda_to_float(out.format, map_view_of(&out), PIXELS, padded, map_view_of(&back).data, stream);
                const char *error = launch_error(cudaSuccess);
                if (error)
                    fail_msg("%d channels padded to %d: %s", channels, padded, error);
                check_cuda(cudaMemcpy(out.host, out.device, out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
                check_cuda(cudaMemcpy(back.host, back.device, back.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
                struct difference there = map_compare(&out, expected), and_back = map_compare(&back, expected);
                if (there.error != 0.0 || and_back.error != 0.0
                    || there.missing + and_back.missing + there.foreign + and_back.foreign != 0) {
                    printf(
                        "FAULT %d channels padded to %d, %s, %s: off by %g, and back by %g; %lld and %lld elements missing, %lld and %lld "
                        "foreign bytes written\n",
                        channels, padded, format_names[format], layout_names[layout], there.error, and_back.error, (long long)there.missing,
                        (long long)and_back.missing, (long long)there.foreign, (long long)and_back.foreign);
                    faults++;
                }
                map_free(&out);
                map_free(&back);
                cuda_free(in);
                free(values);
                free(expected);
            }
    assert_int_equal(faults, 0);
}

/* Offsets in a map need more than 32 bits. */
static void maps_of_more_than_4_gigabytes_work(void **state)
{
    enum { HEIGHT = 65, WIDTH = 65536, CHANNELS = 504, STRIDE = 512 }; /* 65 * 65536 * 512 elements: 2^31 and a row more */
    size_t elements = (size_t)HEIGHT * WIDTH * STRIDE;
    uint16_t ends[2][STRIDE];
    void *memory = NULL;

    (void)state;
    if (device.memory_bytes < elements * 2 + ((size_t)1 << 30) || cuda_allocate(elements * 2, "a large map", &memory) != DLA_OK) {
        printf("a GPU with too little free memory: no test of large maps\n");
        skip();
    }
    check_cuda(cudaMemset(memory, 0xbc, elements * 2), "fill a map"); /* -1.18 in float16 */
    struct cuda_map_call call = {
        .format = CUDA_FLOAT16,
        .batch = 1,
        .channels = CHANNELS,
        .in_height = HEIGHT,
        .in_width = WIDTH,
        .out_height = HEIGHT,
        .out_width = WIDTH,
        .in = {memory, STRIDE},
        .out = {memory, STRIDE},
    };
    cuda_relu(&call, stream);
    const char *error = launch_error(cudaSuccess);
    if (error)
        fail_msg("relu on a large map: %s", error);
    check_cuda(cudaMemcpy(ends[0], memory, sizeof ends[0], cudaMemcpyDeviceToHost), "copy a result from the GPU");
    check_cuda(cudaMemcpy(ends[1], (char *)memory + elements * 2 - sizeof ends[1], sizeof ends[1], cudaMemcpyDeviceToHost),
               "copy a result from the GPU");
    cuda_free(memory);
    for (int end = 0; end < 2; end++)
        for (int i = 0; i < STRIDE; i++)
            assert_int_equal(ends[end][i], i < CHANNELS ? 0 : 0xbcbc);
}

/* ---- Convolutions ------------------------------------------------------------------------------------------------------- */

struct conv_case {
    int batch, height, width, in, out, kernel, stride, dilation, groups;
    int sources[CONV_MAX_SOURCES]; /* channels of each; none: a single source */
    enum layout in_layout, out_layout;
    bool residual, in_place, no_relu;
    const char *why;
};

static const struct conv_case conv_cases[] = {
    /* pointwise */
    {.batch = 3, .height = 1, .width = 1, .in = 512, .out = 1000, .kernel = 1, .no_relu = true, .why = "classifier on a batch"},
    {.height = 1,
     .width = 1,
     .in = 1024,
     .out = 1000,
     .kernel = 1,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .no_relu = true,
     .why = "classifier"},
    {.height = 7, .width = 7, .in = 512, .out = 1000, .kernel = 1, .residual = true, .why = "outputs that no tile divides"},
    {.height = 1,
     .width = 33,
     .in = 24,
     .out = 19,
     .kernel = 1,
     .out_layout = TIGHT,
     .no_relu = true,
     .why = "19 scores, unaligned pixels"},
    {.batch = 2,
     .height = 28,
     .width = 28,
     .in = 64,
     .out = 32,
     .kernel = 1,
     .residual = true,
     .in_place = true,
     .why = "over the residual"},
    {.height = 13,
     .width = 17,
     .in = 56,
     .out = 64,
     .kernel = 1,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .residual = true,
     .why = "56 channels"},
    {.height = 28, .width = 28, .in = 8, .out = 16, .kernel = 1, .no_relu = true, .why = "one vector of inputs"},
    {.height = 14, .width = 14, .in = 4, .out = 64, .kernel = 1, .why = "half a vector of inputs"},
    {.batch = 2, .height = 13, .width = 17, .in = 16, .out = 1, .kernel = 1, .no_relu = true, .why = "one output"},
    {.batch = 2, .height = 14, .width = 14, .in = 64, .out = 128, .kernel = 1, .stride = 2, .why = "every other pixel"},
    {.batch = 3, .height = 7, .width = 7, .in = 1024, .out = 64, .kernel = 1, .residual = true, .why = "long sums, few tiles"},
    {.batch = 2,
     .height = 28,
     .width = 28,
     .in = 128,
     .out = 128,
     .kernel = 1,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "whole tiles"},
    {.height = 14, .width = 14, .in = 224, .out = 112, .kernel = 1, .sources = {64, 64, 32, 64}, .residual = true, .why = "four sources"},
    {.height = 13, .width = 17, .in = 704, .out = 128, .kernel = 1, .sources = {128, 64, 64, 128, 128, 64, 128}, .why = "seven sources"},
    {.height = 7,
     .width = 7,
     .in = 1792,
     .out = 256,
     .kernel = 1,
     .sources = {256, 256, 256, 256, 256, 256, 256},
     .residual = true,
     .in_place = true,
     .why = "deepest aggregation node"},
    {.batch = 2,
     .height = 13,
     .width = 17,
     .in = 152,
     .out = 64,
     .kernel = 1,
     .sources = {8, 24, 112, 8},
     .why = "sources of a part of a block"},
    {.height = 14,
     .width = 14,
     .in = 100,
     .out = 32,
     .kernel = 1,
     .sources = {4, 28, 56, 12},
     .in_layout = QUARTERS,
     .out_layout = QUARTERS,
     .why = "sources at multiples of 4"},
    {.height = 5,
     .width = 9,
     .in = 61,
     .out = 33,
     .kernel = 1,
     .sources = {7, 16, 9, 1, 28},
     .in_layout = ODD,
     .out_layout = ODD,
     .residual = true,
     .why = "sources that no vector divides"},
    {.height = 5, .width = 9, .in = 61, .out = 33, .kernel = 1, .sources = {7, 16, 9, 1, 28}, .in_layout = PADDED, .why = "padded sources"},
    {.height = 9, .width = 11, .in = 64, .out = 64, .kernel = 1, .in_layout = ODD, .why = "unaligned inputs"},
    {.height = 9, .width = 11, .in = 64, .out = 64, .kernel = 1, .out_layout = ODD, .residual = true, .why = "unaligned outputs"},

    /* 3x3 */
    {.height = 7, .width = 7, .in = 512, .out = 512, .kernel = 3, .residual = true, .in_place = true, .why = "dla34 level 5"},
    {.batch = 2,
     .height = 14,
     .width = 14,
     .in = 128,
     .out = 128,
     .kernel = 3,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .residual = true,
     .why = "several images in a tile"},
    {.batch = 3,
     .height = 13,
     .width = 17,
     .in = 64,
     .out = 64,
     .kernel = 3,
     .residual = true,
     .in_place = true,
     .why = "odd sides, over the residual"},
    {.height = 28, .width = 28, .in = 64, .out = 64, .kernel = 3, .no_relu = true, .why = "dla34 level 3"},
    {.batch = 2, .height = 28, .width = 28, .in = 64, .out = 128, .kernel = 3, .stride = 2, .why = "stride 2, even sides"},
    {.height = 13,
     .width = 17,
     .in = 24,
     .out = 40,
     .kernel = 3,
     .stride = 2,
     .residual = true,
     .why = "stride 2, odd sides, part of a block"},
    {.height = 14,
     .width = 14,
     .in = 256,
     .out = 512,
     .kernel = 3,
     .stride = 2,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "stride 2, few tiles"},
    {.height = 1, .width = 1, .in = 64, .out = 64, .kernel = 3, .residual = true, .why = "one pixel: eight of nine taps fall outside"},
    {.height = 1, .width = 33, .in = 16, .out = 16, .kernel = 3, .why = "one row"},
    {.height = 2, .width = 2, .in = 16, .out = 19, .kernel = 3, .no_relu = true, .why = "smaller than any tile, 19 outputs"},
    {.batch = 2,
     .height = 28,
     .width = 28,
     .in = 16,
     .out = 16,
     .kernel = 3,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "dla34 level 0"},
    {.height = 28, .width = 28, .in = 16, .out = 32, .kernel = 3, .stride = 2, .why = "dla34 level 1"},
    {.height = 13, .width = 17, .in = 56, .out = 56, .kernel = 3, .why = "a Res2Net slice"},
    {.height = 13, .width = 17, .in = 28, .out = 28, .kernel = 3, .in_layout = TIGHT, .out_layout = TIGHT, .why = "a Res2Net slice of 28"},
    {.height = 13,
     .width = 17,
     .in = 28,
     .out = 28,
     .kernel = 3,
     .in_layout = QUARTERS,
     .out_layout = QUARTERS,
     .why = "28 of wider pixels"},
    {.batch = 2, .height = 14, .width = 14, .in = 112, .out = 112, .kernel = 3, .residual = true, .why = "a Res2Net slice of 112"},
    {.height = 13, .width = 17, .in = 128, .out = 1, .kernel = 3, .no_relu = true, .why = "one output"},
    {.height = 14, .width = 14, .in = 512, .out = 16, .kernel = 3, .why = "4608 products, few outputs"},
    {.height = 14, .width = 14, .in = 64, .out = 64, .kernel = 3, .dilation = 2, .residual = true, .why = "dilation 2"},
    {.height = 5, .width = 6, .in = 16, .out = 32, .kernel = 3, .dilation = 4, .why = "dilation reaches over the whole map"},
    {.height = 15, .width = 17, .in = 8, .out = 8, .kernel = 3, .stride = 2, .dilation = 3, .why = "stride and dilation together"},
    {.batch = 2,
     .height = 14,
     .width = 14,
     .in = 128,
     .out = 64,
     .kernel = 3,
     .sources = {64, 64},
     .why = "two sources (iterative aggregation)"},
    {.height = 13, .width = 17, .in = 72, .out = 32, .kernel = 3, .sources = {16, 56}, .residual = true, .why = "two unlike sources"},
    {.height = 13, .width = 17, .in = 28, .out = 28, .kernel = 3, .in_layout = PADDED, .residual = true, .why = "28 channels, padded"},
    {.height = 12, .width = 20, .in = 33, .out = 31, .kernel = 3, .in_layout = PADDED, .no_relu = true, .why = "33 channels, padded"},
    {.height = 9,
     .width = 11,
     .in = 5,
     .out = 3,
     .kernel = 3,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "fewer channels than any vector"},
    {.height = 12,
     .width = 20,
     .in = 33,
     .out = 31,
     .kernel = 3,
     .in_layout = ODD,
     .out_layout = ODD,
     .no_relu = true,
     .why = "tails everywhere"},

    /* other windows */
    {.batch = 2,
     .height = 33,
     .width = 47,
     .in = 3,
     .out = 16,
     .kernel = 7,
     .in_layout = PADDED,
     .out_layout = TIGHT,
     .why = "first layer"},
    {.height = 28, .width = 28, .in = 1, .out = 32, .kernel = 7, .in_layout = PADDED, .why = "first layer of one channel"},
    {.batch = 2, .height = 28, .width = 28, .in = 4, .out = 16, .kernel = 7, .in_layout = TIGHT, .out_layout = TIGHT, .why = "4 channels"},
    {.batch = 2, .height = 28, .width = 28, .in = 8, .out = 16, .kernel = 7, .in_layout = TIGHT, .why = "8 channels"},
    {.height = 33, .width = 47, .in = 3, .out = 16, .kernel = 7, .in_layout = TIGHT, .out_layout = TIGHT, .why = "first layer, not padded"},
    {.height = 13, .width = 17, .in = 8, .out = 19, .kernel = 7, .no_relu = true, .why = "7x7, 19 outputs"},
    {.batch = 3, .height = 14, .width = 14, .in = 16, .out = 64, .kernel = 7, .stride = 2, .residual = true, .why = "7x7, stride 2"},
    {.height = 1, .width = 33, .in = 8, .out = 16, .kernel = 7, .why = "7x7 on one row"},
    {.height = 11, .width = 13, .in = 16, .out = 24, .kernel = 5, .why = "kernel 5"},
    {.height = 11, .width = 13, .in = 16, .out = 24, .kernel = 2, .stride = 2, .why = "even kernel without padding"},

    /* groups */
    {.batch = 2, .height = 15, .width = 8, .in = 64, .out = 64, .kernel = 3, .groups = 32, .residual = true, .why = "2 channels a group"},
    {.height = 13, .width = 17, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 32, .why = "2 channels a group, stride 2"},
    {.height = 15, .width = 17, .in = 128, .out = 128, .kernel = 3, .groups = 32, .why = "4 channels a group"},
    {.batch = 3,
     .height = 14,
     .width = 14,
     .in = 128,
     .out = 128,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .residual = true,
     .in_place = true,
     .why = "4 channels a group, stride 2"},
    {.batch = 2,
     .height = 14,
     .width = 14,
     .in = 256,
     .out = 256,
     .kernel = 3,
     .groups = 32,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "8 channels a group"},
    {.height = 13,
     .width = 17,
     .in = 256,
     .out = 256,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .no_relu = true,
     .why = "8 channels a group, stride 2"},
    {.batch = 2, .height = 7, .width = 7, .in = 512, .out = 512, .kernel = 3, .groups = 32, .residual = true, .why = "16 channels a group"},
    {.height = 28, .width = 28, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 4, .why = "16 channels a group, stride 2"},
    {.height = 7, .width = 7, .in = 1024, .out = 1024, .kernel = 3, .groups = 32, .why = "32 channels a group"},
    {.height = 13,
     .width = 7,
     .in = 1024,
     .out = 1024,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "32 channels a group, stride 2"},
    {.height = 14, .width = 14, .in = 96, .out = 96, .kernel = 3, .groups = 3, .residual = true, .why = "three groups of 32"},
    {.height = 9, .width = 11, .in = 64, .out = 64, .kernel = 3, .dilation = 2, .groups = 8, .why = "8 channels a group, dilation 2"},
    {.height = 9, .width = 11, .in = 256, .out = 256, .kernel = 1, .groups = 4, .why = "pointwise, 64 channels a group"},
    {.height = 9, .width = 9, .in = 40, .out = 40, .kernel = 3, .groups = 8, .why = "5 channels a group"},
    {.height = 9, .width = 9, .in = 48, .out = 24, .kernel = 3, .groups = 4, .why = "groups with more inputs than outputs"},
    {.height = 9, .width = 9, .in = 64, .out = 32, .kernel = 3, .groups = 4, .sources = {24, 40}, .why = "a group over two sources"},
    {.height = 9, .width = 9, .in = 19, .out = 19, .kernel = 3, .groups = 19, .in_layout = ODD, .out_layout = ODD, .why = "depthwise"},
};

static struct conv_shape shape_of(const struct conv_case *c)
{
    struct conv_shape s = {
        .batch = c->batch ? c->batch : 1,
        .in_height = c->height,
        .in_width = c->width,
        .in_channels = c->in,
        .out_channels = c->out,
        .kernel = c->kernel,
        .stride = c->stride ? c->stride : 1,
        .dilation = c->dilation ? c->dilation : 1,
        .groups = c->groups ? c->groups : 1,
        .source_count = 1,
        .source_channels = {c->in},
    };
    s.padding = s.kernel % 2 == 0 ? 0 : s.dilation * (s.kernel - 1) / 2;
    s.out_height = (s.in_height + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
    s.out_width = (s.in_width + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
    if (c->sources[0]) {
        s.source_count = 0;
        for (int i = 0; c->sources[i]; i++)
            s.source_channels[s.source_count++] = c->sources[i];
    }
    return s;
}

/* One case in one format. */
struct conv_fixture {
    const struct conv_case *c;
    enum cuda_format format;
    struct conv_shape shape;
    int64_t out_pixels;
    float *weight, *scale, *bias; /* as in conv_kernel.pack; scaled weights are exact in the format, too */
    float *expected;              /* (out_pixels, out_channels) */
    struct map sources[CONV_MAX_SOURCES], residual, out;
    unsigned char *untouched; /* of out, before a kernel runs: NaN, or the residual that it overwrites */
    void *device_bias;
};

/* What the processor's reference makes of the fixture. */
static void conv_fixture_expect(struct conv_fixture *f, float *const *sources /* each (in_pixels, source_channels) */,
                                float *residual /* (out_pixels, out_channels) or NULL */)
{
    const struct conv_shape *s = &f->shape;
    float *packed = malloc(conv_reference.packed_bytes(s));
    void *scratch = malloc(conv_reference.scratch_bytes(s, thread_pool_size(pool)));
    struct conv_call call = {
        .shape = s,
        .packed = packed,
        .bias = f->bias,
        .residual = {residual, s->out_channels},
        .out = {f->expected, s->out_channels},
        .relu = !f->c->no_relu,
        .scratch = scratch,
        .pool = pool,
    };

    assert_non_null(packed);
    assert_non_null(scratch);
    for (int i = 0; i < s->source_count; i++)
        call.sources[i] = (struct map_view){sources[i], s->source_channels[i]};
    conv_reference.pack(s, f->weight, f->scale, packed);
    conv_reference.run(&call);
    free(packed);
    free(scratch);
}

static struct conv_fixture conv_fixture_create(const struct conv_case *c, enum cuda_format format)
{
    struct conv_fixture f = {.c = c, .format = format, .shape = shape_of(c)};
    const struct conv_shape *s = &f.shape;
    int64_t in_pixels = (int64_t)s->batch * s->in_height * s->in_width;
    int64_t products = (int64_t)s->in_channels / s->groups * s->kernel * s->kernel;
    float *sources[CONV_MAX_SOURCES] = {NULL}, *residual = NULL;

    f.out_pixels = (int64_t)s->batch * s->out_height * s->out_width;
    f.weight = random_floats(products * s->out_channels, 23, format, 1.5f / sqrtf((float)products));
    f.scale = allocate_floats(s->out_channels);
    for (int o = 0; o < s->out_channels; o++)
        f.scale[o] = o % 3 == 0 ? 1.0f : o % 3 == 1 ? 2.0f : 0.5f;
    f.bias = random_floats(s->out_channels, 31, CUDA_FLOAT32, 1.0f);
    f.expected = allocate_floats(f.out_pixels * s->out_channels);
    for (int i = 0; i < s->source_count; i++) {
        sources[i] = random_floats(in_pixels * s->source_channels[i], 11u + (uint32_t)i, format, 1.0f);
        f.sources[i] =
            map_create(format, in_pixels, s->source_channels[i], c->in_layout, c->in_layout == TIGHT ? 0 : i % 3 * 8, sources[i]);
        if (c->in_layout == PADDED)
            map_pad(&f.sources[i]);
    }
    if (c->residual)
        residual = random_floats(f.out_pixels * s->out_channels, 37, format, 1.0f);
    if (c->residual && !c->in_place)
        f.residual = map_create(format, f.out_pixels, s->out_channels, c->out_layout, c->out_layout == TIGHT ? 0 : 16, residual);
    f.out = map_create(format, f.out_pixels, s->out_channels, c->out_layout, 0, c->in_place ? residual : NULL);
    f.untouched = malloc(f.out.bytes);
    assert_non_null(f.untouched);
    memcpy(f.untouched, f.out.host, f.out.bytes);
    f.device_bias = device_copy(f.bias, (size_t)s->out_channels * sizeof *f.bias);
    conv_fixture_expect(&f, sources, residual);
    for (int i = 0; i < s->source_count; i++)
        free(sources[i]);
    free(residual);
    return f;
}

static void conv_fixture_free(struct conv_fixture *f)
{
    for (int i = 0; i < f->shape.source_count; i++)
        map_free(&f->sources[i]);
    map_free(&f->residual);
    map_free(&f->out);
    free(f->weight);
    free(f->scale);
    free(f->bias);
    free(f->expected);
    free(f->untouched);
    cuda_free(f->device_bias);
}

static struct cuda_conv_call conv_fixture_call(const struct conv_fixture *f, enum cuda_arithmetic arithmetic)
{
    struct cuda_conv_call call = {
        .shape = &f->shape,
        .arithmetic = arithmetic,
        .bias = f->device_bias,
        .out = map_view_of(&f->out),
        .relu = !f->c->no_relu,
        .padded = f->c->in_layout == PADDED,
    };

    for (int i = 0; i < f->shape.source_count; i++)
        call.sources[i] = map_view_of(&f->sources[i]);
    if (f->c->in_place)
        call.residual = call.out;
    else if (f->c->residual)
        call.residual = map_view_of(&f->residual);
    return call;
}

/* What is seen of one kernel in one arithmetic. */
struct tally {
    int runs, faults;
    double worst; /* largest error relative to the largest |result| of its case */
    const char *worst_why;
};

/* An error of the sum relative to the largest |result|. The operands are exact in their formats, so beside the rounding of the result
 * only float32 sums of up to 4608 products remain, which tensor cores cut off instead of rounding; TF32 cuts the operands, too,
 * to 2^-10. */
static const double tolerance[ARITHMETICS] = {[CUDA_EXACT] = 2e-5, [CUDA_TF32] = 2e-3, [CUDA_HALF] = 2e-4, [CUDA_BRAIN] = 2e-4};

static void check_variant(struct conv_fixture *f, const struct cuda_conv_kernel *kernel, const struct cuda_conv_call *call, int variant,
                          struct tally *tally)
{
    const struct conv_shape *s = &f->shape;
    char name[80], where[256];

    kernel->name_variant(call, &device, variant, name, sizeof name);
    snprintf(where, sizeof where, "%s, %s, %dx%d %d to %d, batch %d (%s)", name, arithmetic_names[call->arithmetic], s->kernel, s->kernel,
             s->in_channels, s->out_channels, s->batch, f->c->why);
    tally->runs++;
    memcpy(f->out.host, f->untouched, f->out.bytes);
    map_upload(&f->out);
    const char *error = launch_error(kernel->run(call, &device, variant, stream));
    if (error) {
        tally->faults++;
        printf("FAULT %s: %s\n", where, error);
        stop_if_lost(where);
        return;
    }
    check_cuda(cudaMemcpy(f->out.host, f->out.device, f->out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
    struct difference d = map_compare(&f->out, f->expected);
    double relative = d.error / fmax(d.largest, 1e-3);
    if (relative > tally->worst) {
        tally->worst = relative;
        tally->worst_why = f->c->why;
    }
    if (d.missing == 0 && d.foreign == 0 && d.excess <= tolerance[call->arithmetic] * fmax(d.largest, 1e-3))
        return;
    tally->faults++;
    printf("FAULT %s: off by %.2e of %.3g, worst at y %lld x %lld channel %d of image %lld; %lld of %lld elements NaN, %lld foreign bytes "
           "written\n",
           where, relative, d.largest, (long long)(d.pixel / s->out_width % s->out_height), (long long)(d.pixel % s->out_width), d.channel,
           (long long)(d.pixel / s->out_width / s->out_height), (long long)d.missing, (long long)(f->out_pixels * s->out_channels),
           (long long)d.foreign);
}

static void check_conv_kernel(struct conv_fixture *f, const struct cuda_conv_kernel *kernel, enum cuda_arithmetic arithmetic,
                              struct tally *tally)
{
    struct cuda_conv_call call = conv_fixture_call(f, arithmetic);

    if (!kernel->supports(&call, &device))
        return;
    int variants = kernel->variants(&call, &device);
    if (variants < 1)
        fail_msg("%s supports a case (%s) in no variant", kernel->name, f->c->why);
    size_t bytes = kernel->packed_bytes(&call);
    void *packed = malloc(bytes);
    assert_non_null(packed);
    memset(packed, POISON, bytes); /* what pack leaves out must not matter */
    kernel->pack(&call, f->weight, f->scale, packed);
    void *device_packed = device_copy(packed, bytes);
    call.packed = device_packed;
    for (int variant = 0; variant < variants; variant++)
        check_variant(f, kernel, &call, variant, tally);
    cuda_free(device_packed);
    free(packed);
}

static void conv_kernels_agree_with_the_reference(void **state)
{
    static struct tally tallies[MOST_KERNELS][ARITHMETICS];
    int count, faults = 0;
    const struct cuda_conv_kernel *const *kernels = cuda_conv_kernels(&count);

    (void)state;
    assert_in_range(count, 1, MOST_KERNELS);
    assert_ptr_equal(kernels[count - 1], &cuda_conv_reference);
    for (size_t i = 0; i < sizeof conv_cases / sizeof *conv_cases; i++)
        for (int format = 0; format < FORMATS; format++) {
            struct conv_fixture f = conv_fixture_create(&conv_cases[i], (enum cuda_format)format);
            for (int arithmetic = 0; arithmetic < ARITHMETICS; arithmetic++)
                if (cuda_arithmetic_format((enum cuda_arithmetic)arithmetic) == f.format)
                    for (int k = 0; k < count; k++)
                        check_conv_kernel(&f, kernels[k], (enum cuda_arithmetic)arithmetic, &tallies[k][arithmetic]);
            conv_fixture_free(&f);
        }
    printf("%-20s %-10s %6s %6s  %s\n", "kernel", "arithmetic", "runs", "faults", "largest error relative to the largest result");
    for (int k = 0; k < count; k++)
        for (int arithmetic = 0; arithmetic < ARITHMETICS; arithmetic++) {
            const struct tally *t = &tallies[k][arithmetic];
            faults += t->faults;
            if (t->runs > 0)
                printf("%-20s %-10s %6d %6d  %.1e  %s\n", kernels[k]->name, arithmetic_names[arithmetic], t->runs, t->faults, t->worst,
                       t->worst_why ? t->worst_why : "");
        }
    for (int arithmetic = 0; arithmetic < ARITHMETICS; arithmetic++) /* the last kernel takes everything */
        assert_int_equal(tallies[count - 1][arithmetic].runs, sizeof conv_cases / sizeof *conv_cases);
    assert_int_equal(faults, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_a_number_is_kept),
        cmocka_unit_test(formats_convert_both_ways),
        cmocka_unit_test(map_functions_agree_with_the_reference),
        cmocka_unit_test(maps_of_more_than_4_gigabytes_work),
        cmocka_unit_test(conv_kernels_agree_with_the_reference),
    };

    if (cuda_device_open(&device) != DLA_OK) {
        printf("skipped: %s\n", dla_error_message());
        return 77;
    }
    printf("%s, compute capability %d.%d\n", device.name, device.major, device.minor);
    if (cudaStreamCreate(&stream) != cudaSuccess || thread_pool_create(cpu_core_count(), &pool) != DLA_OK) {
        printf("no stream or no threads\n");
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_destroy(pool);
    cudaStreamDestroy(stream);
    return failed;
}
