/* cuda_check.h - what the tests of the GPU share: a line for every item that fails, and on to the next one; memory; exit 77 without a GPU. */
#ifndef DLA_TESTS_CUDA_CHECK_H
#define DLA_TESTS_CUDA_CHECK_H

#include "cuda/cuda_device.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int cuda_items, cuda_failures;

/* Counts an item; where it failed, prints the text. */
__attribute__((format(printf, 2, 3))) static void cuda_expect(bool holds, const char *format, ...)
{
    va_list arguments;
    cuda_items++;
    if (holds)
        return;
    cuda_failures++;
    printf("FAILED: ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
}

/* A call that must work; false: it did not, and what follows makes no sense. */
static inline bool cuda_works(dla_status status, const char *what)
{
    cuda_expect(status == DLA_OK, "%s: %s", what, status == DLA_OK ? "" : dla_error_message());
    return status == DLA_OK;
}

static void *cuda_need(void *memory)
{
    if (memory == NULL) {
        printf("out of memory\n");
        exit(1);
    }
    return memory;
}

static float *cuda_floats(int64_t count)
{
    return cuda_need(calloc((size_t)(count > 0 ? count : 1), sizeof(float)));
}

/* Largest difference, over the largest expected magnitude; not a number where one is. */
static double cuda_largest_error(const float *actual, const float *expected, int64_t count)
{
    double largest = 1e-30, error = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs((double)actual[i] - (double)expected[i]);
        if (!(difference <= error))
            error = difference;
        largest = fmax(largest, fabs((double)expected[i]));
    }
    return error / largest;
}

/* The device, or the end of the test. */
static struct cuda_device cuda_device_or_skip(void)
{
    struct cuda_device device;
    if (cuda_device_open(&device) != DLA_OK) {
        printf("skipped: %s\n", dla_error_message());
        exit(77);
    }
    printf("%s, compute capability %d.%d\n", device.name, device.major, device.minor);
    return device;
}

/* After an illegal access nothing works any more: what is left would only fail, too. */
static void cuda_stop_if_broken(const char *what)
{
    cudaError_t error = cudaDeviceSynchronize();
    if (error == cudaSuccess)
        return;
    printf("FAILED: %s: %s; the GPU is of no use to this process any more (CUDA_LAUNCH_BLOCKING=1 and compute-sanitizer say more)\n", what,
           cudaGetErrorString(error));
    exit(1);
}

static int cuda_summary(void)
{
    printf("%d of %d items failed\n", cuda_failures, cuda_items);
    return cuda_failures > 0;
}

#endif
