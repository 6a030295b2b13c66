/* cuda_launch.h - starting a kernel while the one before it still ends.
 *
 * From compute capability 9.0 on a kernel's blocks may be set up, read weights and compute addresses before the kernel before has
 * finished; they wait (wait_for_kernel_before in ptx.cuh) before they touch what it wrote. Between kernels of a few microseconds that is
 * a third of the time. Every kernel that is started here waits so, first thing or after reading what no kernel writes.
 */
#ifndef DLA_CUDA_CUDA_LAUNCH_H
#define DLA_CUDA_CUDA_LAUNCH_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_grid {
    unsigned x, y, z;          /* blocks */
    unsigned threads;          /* of a block */
    int shared_bytes;
    unsigned cluster;          /* blocks along z that form a cluster; 0 or 1: none */
};

/* arguments: pointers to the kernel's parameters. */
cudaError_t cuda_launch(const void *kernel, const struct cuda_grid *grid, void **arguments, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
