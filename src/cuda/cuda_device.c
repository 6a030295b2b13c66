/* cuda_device.c - finding the GPU, its memory, and CUDA's errors as our status. */
#include "cuda/cuda_device.h"

#include "base/status.h"

#include <stdio.h>
#include <string.h>

enum { OLDEST_MAJOR = 8 }; /* asynchronous copies, and tensor cores that take TF32 and bfloat16 */

static _Thread_local int chosen_place;

void cuda_device_choose(int place)
{
    chosen_place = place;
}

/* Why the runtime found no driver that it can work with. */
static dla_status no_driver(cudaError_t error)
{
    int driver = 0, runtime = 0;

    if (cudaDriverGetVersion(&driver) != cudaSuccess || cudaRuntimeGetVersion(&runtime) != cudaSuccess || driver == 0 || driver >= runtime)
        return status_set(DLA_ERROR_UNSUPPORTED, "no NVIDIA driver answers (%s); --device cuda needs one, or leave the option away",
                          cudaGetErrorString(error));
    return status_set(DLA_ERROR_UNSUPPORTED, "the NVIDIA driver is made for CUDA %d.%d, --device cuda needs one for %d.%d: update it",
                      driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
}

static dla_status open_error(cudaError_t error)
{
    cudaGetLastError(); /* or the next launch would be blamed for it */
    if (error == cudaErrorInsufficientDriver)
        return no_driver(error);
    return status_set(error == cudaErrorMemoryAllocation ? DLA_ERROR_MEMORY : DLA_ERROR_UNSUPPORTED,
                      "no GPU can be used (%s); --device cuda needs one, or leave the option away", cudaGetErrorString(error));
}

dla_status cuda_device_open(struct cuda_device *device)
{
    struct cudaDeviceProp properties;
    int count = 0, number = 0;
    cudaError_t error = cudaGetDeviceCount(&count);

    if (error == cudaSuccess && count == 0)
        error = cudaErrorNoDevice;
    if (error == cudaSuccess) {
        number = chosen_place % count;
        error = cudaGetDeviceProperties(&properties, number);
    }
    if (error != cudaSuccess)
        return open_error(error);
    if (properties.major < OLDEST_MAJOR)
        return status_set(DLA_ERROR_UNSUPPORTED, "%.63s has compute capability %d.%d, --device cuda needs %d.0 or newer (Ampere)",
                          properties.name, properties.major, properties.minor, OLDEST_MAJOR);
    error = cudaSetDevice(number);
    if (error != cudaSuccess)
        return open_error(error);

    *device = (struct cuda_device){
        .major = properties.major,
        .minor = properties.minor,
        .multiprocessors = properties.multiProcessorCount,
        .memory_bytes = properties.totalGlobalMem,
        .shared_bytes = properties.sharedMemPerBlockOptin,
    };
    snprintf(device->name, sizeof device->name, "%.63s", properties.name);
    memcpy(device->identity, properties.uuid.bytes, sizeof device->identity);
    return DLA_OK;
}

/* What the machine or this build lacks is unsupported; what else goes wrong is the GPU's failing to do its work. */
static dla_status kind_of_error(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation:
        return DLA_ERROR_MEMORY;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNotSupported:
        return DLA_ERROR_UNSUPPORTED;
    default:
        return DLA_ERROR_IO;
    }
}

dla_status cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return DLA_OK;
    cudaGetLastError(); /* reported now: it must not be found again by who asks next */
    return status_set(kind_of_error(error), "cannot %s: %s", what, cudaGetErrorString(error));
}

dla_status cuda_allocate(size_t bytes, const char *purpose, void **memory)
{
    void *allocated = NULL;
    cudaError_t error = cudaMalloc(&allocated, bytes);

    if (error == cudaErrorMemoryAllocation) {
        size_t available = 0, total = 0;
        cudaGetLastError();
        if (cudaMemGetInfo(&available, &total) != cudaSuccess)
            return cuda_status(error, "allocate memory on the GPU");
        return status_set(DLA_ERROR_MEMORY, "out of memory on the GPU: %zu bytes for %s, %zu of %zu are free; a smaller batch needs less",
                          bytes, purpose, available, total);
    }
    if (error != cudaSuccess)
        return cuda_status(error, "allocate memory on the GPU");
    /* Streams that do not wait for the default one may use the memory at once, so the zeros must be there. */
    error = cudaMemset(allocated, 0, bytes);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(NULL);
    if (error != cudaSuccess) {
        cudaFree(allocated);
        return cuda_status(error, "clear memory on the GPU");
    }
    *memory = allocated;
    return DLA_OK;
}

void cuda_free(void *memory)
{
    cudaFree(memory);
}
