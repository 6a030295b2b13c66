/* cuda_twins.h - for tests of training's kernels on the GPU: a map here and its twin on the GPU, in every format and in wider pixels, and the
 * comparison of both. */
#ifndef DLA_TESTS_CUDA_TWINS_H
#define DLA_TESTS_CUDA_TWINS_H

#include "cuda_check.h"

#include "base/counter_random.h"
#include "base/memory.h"
#include "cpu/training.h"
#include "cuda/cuda_map.h"
#include "cuda/cuda_training.h"

static cudaStream_t stream;

static const struct {
    const char *name;
    enum cuda_format format;
    double tolerance; /* of results that were rounded once */
} formats[] = {{"float32", CUDA_FLOAT32, 4e-6}, {"float16", CUDA_FLOAT16, 1e-3}, {"bfloat16", CUDA_BFLOAT16, 8e-3}};
enum { FORMATS = sizeof formats / sizeof formats[0] };

/* ---- maps on both sides ---- */

static void expect_close(const float *actual, const float *expected, int64_t count, double tolerance, const char *what)
{
    double error = cuda_largest_error(actual, expected, count);
    int64_t worst = 0;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)actual[i] - (double)expected[i]) <= fabs((double)actual[worst] - (double)expected[worst])))
            worst = i;
    cuda_expect(error <= tolerance, "%s: off by %.3g of the largest (%.3g allowed); element %lld of %lld is %.8g, expected %.8g", what,
                error, tolerance, (long long)worst, (long long)count, count ? (double)actual[worst] : 0.0,
                count ? (double)expected[worst] : 0.0);
}

/* A map here, contiguous, and on the GPU, inside pixels that are `gap` channels wider. */
struct twin {
    float *host; /* (pixels, channels), rounded to the format */
    struct cuda_view view;
    int64_t pixels;
    int channels, gap;
    enum cuda_format format;
    void *memory; /* (pixels, channels + gap) */
};

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    printf("FAILED: %s: %s; nothing more can be tested\n", what, cudaGetErrorString(error));
    exit(1);
}

static void *device_memory(size_t bytes)
{
    void *memory = NULL;
    must(cudaMalloc(&memory, bytes > 16 ? bytes : 16), "cudaMalloc");
    must(cudaMemset(memory, 0, bytes > 16 ? bytes : 16), "cudaMemset");
    must(cudaDeviceSynchronize(), "cudaMemset");
    return memory;
}

static void *to_device(const void *host, size_t bytes)
{
    void *memory = device_memory(bytes);
    must(cudaMemcpy(memory, host, bytes, cudaMemcpyHostToDevice), "copy to the GPU");
    must(cudaDeviceSynchronize(), "copy to the GPU");
    return memory;
}

static void from_device(void *host, const void *memory, size_t bytes)
{
    must(cudaStreamSynchronize(stream), "a kernel");
    must(cudaMemcpy(host, memory, bytes, cudaMemcpyDeviceToHost), "copy from the GPU");
}

/* (pixels, channels) of a view. */
static float *read_view(enum cuda_format format, struct cuda_view view, int64_t pixels, int channels)
{
    float *host = cuda_floats(pixels * channels), *memory = device_memory((size_t)(pixels * channels) * sizeof(float));
    cuda_to_float(format, view, pixels, channels, memory, stream);
    from_device(host, memory, (size_t)(pixels * channels) * sizeof(float));
    cuda_free(memory);
    return host;
}

/* values NULL: zeros. */
static struct twin make_twin(enum cuda_format format, int64_t pixels, int channels, int gap, const float *values)
{
    struct twin t = {.pixels = pixels, .channels = channels, .gap = gap, .format = format};
    t.memory = device_memory((size_t)(pixels * (channels + gap)) * cuda_format_bytes(format));
    t.view = (struct cuda_view){(char *)t.memory + (size_t)(gap / 2) * cuda_format_bytes(format), channels + gap};
    if (values) {
        float *memory = to_device(values, (size_t)(pixels * channels) * sizeof(float));
        cuda_pad_channels(memory, pixels, channels, format, t.view, channels, stream);
        must(cudaStreamSynchronize(stream), "cuda_pad_channels");
        cuda_free(memory);
    }
    t.host = read_view(format, t.view, pixels, channels);
    return t;
}

static struct twin random_twin(enum cuda_format format, int64_t pixels, int channels, int gap, uint64_t key)
{
    float *values = cuda_floats(pixels * channels);
    for (int64_t i = 0; i < pixels * channels; i++)
        values[i] = (float)(counter_uniform(key, (uint64_t)i) * 2.0 - 1.0);
    struct twin t = make_twin(format, pixels, channels, gap, values);
    free(values);
    return t;
}

static void free_twin(struct twin *t)
{
    free(t->host);
    cuda_free(t->memory);
    *t = (struct twin){0};
}

/* The GPU's map is the host's now, and what lies between its pixels was not touched. */
static void expect_twin(const struct twin *t, double tolerance, const char *what)
{
    float *actual = read_view(t->format, t->view, t->pixels, t->channels);
    expect_close(actual, t->host, t->pixels * t->channels, tolerance, what);
    free(actual);
    int wide = t->channels + t->gap;
    float *all = read_view(t->format, (struct cuda_view){t->memory, wide}, t->pixels, wide);
    int64_t touched = 0;
    for (int64_t p = 0; p < t->pixels; p++)
        for (int c = 0; c < wide; c++)
            touched += (c < t->gap / 2 || c >= t->gap / 2 + t->channels) && all[p * wide + c] != 0.0f;
    cuda_expect(touched == 0, "%s: %lld elements beside the map were written", what, (long long)touched);
    free(all);
}

static inline struct const_view host_view(const struct twin *t)
{
    return (struct const_view){t->host, t->channels};
}

static inline struct map_view host_map(const struct twin *t)
{
    return (struct map_view){t->host, t->channels};
}

static const struct {
    int64_t pixels;
    int channels, gap;
} sizes[] = {{1, 1, 0}, {7, 3, 0}, {1000, 5, 3}, {77, 16, 0}, {5000, 20, 8}, {40, 260, 8}, {2049, 64, 6}, {131, 512, 0}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* What one program tests, part by part; its exit status. */
struct cuda_part {
    const char *name;
    void (*run)(void);
};

static int run_parts(const struct cuda_part *parts, size_t count)
{
    cuda_device_or_skip();
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    for (size_t i = 0; i < count; i++) {
        int failed = cuda_failures, items = cuda_items;
        parts[i].run();
        cuda_stop_if_broken(parts[i].name);
        must(cudaGetLastError(), parts[i].name);
        printf("%s: %d of %d items failed\n", parts[i].name, cuda_failures - failed, cuda_items - items);
        fflush(stdout);
    }
    cudaStreamDestroy(stream);
    return cuda_summary();
}

#endif
