/* cuda_launch.c - see cuda_launch.h. */
#include "cuda/cuda_launch.h"

#include <stdbool.h>

enum {
    STATIC_SHARED_BYTES = 48 << 10, /* that a kernel may use without asking */
    PORTABLE_CLUSTER = 8            /* blocks of a cluster, likewise */
};

static bool may_begin_early(void)
{
    int major = 0;
    return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess && major >= 9;
}

cudaError_t cuda_launch(const void *kernel, const struct cuda_grid *grid, void **arguments, cudaStream_t stream)
{
    cudaLaunchAttribute attributes[2];
    cudaLaunchConfig_t config = {
        .gridDim = {grid->x, grid->y, grid->z},
        .blockDim = {grid->threads, 1, 1},
        .dynamicSmemBytes = (size_t)grid->shared_bytes,
        .stream = stream,
        .attrs = attributes,
    };

    if (grid->cluster > PORTABLE_CLUSTER) {
        cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
        if (error != cudaSuccess)
            return error;
    }
    if (grid->cluster > 1) {
        attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[config.numAttrs].val.clusterDim.x = 1;
        attributes[config.numAttrs].val.clusterDim.y = 1;
        attributes[config.numAttrs++].val.clusterDim.z = grid->cluster;
    }
    if (may_begin_early()) {
        attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (grid->shared_bytes > STATIC_SHARED_BYTES) {
        cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, grid->shared_bytes);
        if (error != cudaSuccess)
            return error;
    }
    return cudaLaunchKernelExC(&config, kernel, arguments);
}
