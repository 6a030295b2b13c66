/* cuda_device.h - the GPU: whether there is one, and memory on it.
 *
 * The CUDA runtime is linked statically and looks for the driver when it is first called, so the library loads and runs on
 * machines without a GPU; asking for one there is an error like any other. A thread uses one device: the first that
 * CUDA_VISIBLE_DEVICES leaves, or the one that it chose.
 */
#ifndef DLA_CUDA_CUDA_DEVICE_H
#define DLA_CUDA_CUDA_DEVICE_H

#include <dla/dla.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_device {
    char name[64];             /* "NVIDIA H200" */
    int major, minor;          /* compute capability: 9, 0 */
    int multiprocessors;
    size_t memory_bytes;
    size_t shared_bytes;       /* that a block may ask for */
    unsigned char identity[16]; /* of this GPU and no other, in whatever process and under whatever number */
};

/* From now on the calling thread's device is number `place`, counted round where there are fewer; 0, the first, until it chooses. */
void cuda_device_choose(int place);

/* The thread's device, current from now on. DLA_ERROR_UNSUPPORTED where there is no driver, no GPU, or one that is too old. */
dla_status cuda_device_open(struct cuda_device *device);

/* DLA_OK, or the error as a status: "cannot <what>: <CUDA's words>". DLA_ERROR_MEMORY where memory ran out. */
dla_status cuda_status(cudaError_t error, const char *what);

/* Zeroed memory of the device; cuda_free takes NULL. */
dla_status cuda_allocate(size_t bytes, const char *purpose, void **memory);
void cuda_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
