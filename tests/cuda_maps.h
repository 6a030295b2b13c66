/* cuda_maps.h - maps in the GPU's memory for tests: filled with values that their format holds, surrounded by poison that shows what was
 * read or written beside them, and compared with what was expected. */
#ifndef DLA_TESTS_CUDA_MAPS_H
#define DLA_TESTS_CUDA_MAPS_H

#include "base/cpu_features.h"
#include "base/tensor.h"
#include "cpu/map.h"
#include "cuda/cuda_conv.h"
#include "cuda/cuda_map.h"
#include "pseudo_random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FORMATS = 3 };

static const char *const format_names[FORMATS] = {[CUDA_FLOAT32] = "float32", [CUDA_FLOAT16] = "float16", [CUDA_BFLOAT16] = "bfloat16"};

/* What storing a float may change, relative to it. */
static const double rounding[FORMATS] = {[CUDA_FLOAT32] = 0.0, [CUDA_FLOAT16] = 0x1p-11, [CUDA_BFLOAT16] = 0x1p-8};

static struct cuda_device device;
static cudaStream_t stream;
static struct thread_pool *pool;

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
static inline void map_pad(const struct map *m)
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
/* 0; else what the test has to end with: 77, skipped, where there is no GPU. */
static int open_gpu(void)
{
    if (cuda_device_open(&device) != DLA_OK) {
        printf("skipped: %s\n", dla_error_message());
        return 77;
    }
    printf("%s, compute capability %d.%d\n", device.name, device.major, device.minor);
    if (cudaStreamCreate(&stream) != cudaSuccess || thread_pool_create(cpu_core_count(), &pool) != DLA_OK) {
        printf("no stream or no threads\n");
        return 1;
    }
    return 0;
}

static void close_gpu(void)
{
    thread_pool_destroy(pool);
    (void)cudaStreamDestroy(stream);
}

#endif
