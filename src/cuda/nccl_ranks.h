/* nccl_ranks.h - sums over GPUs of several processes by NCCL.
 *
 * All ranks make the same calls in the same order. One of them makes an id, which reaches the others by whatever connects them already.
 */
#ifndef DLA_CUDA_NCCL_RANKS_H
#define DLA_CUDA_NCCL_RANKS_H

#include <dla/dla.h>

#include <cuda_runtime_api.h>

enum { NCCL_ID_BYTES = 128 };

struct nccl_id {
    char bytes[NCCL_ID_BYTES];
};

struct nccl_ranks;

/* Puts "NCCL 2.27.3" into name. DLA_ERROR_UNSUPPORTED where NCCL is not to be had. */
dla_status nccl_find(char *name, size_t size);
dla_status nccl_make_id(struct nccl_id *id);

/* Waits for all `count` ranks, each with a GPU of its own: the calling thread's current one. */
dla_status nccl_ranks_open(const struct nccl_id *id, int rank, int count, struct nccl_ranks **ranks);
void nccl_ranks_close(struct nccl_ranks *ranks); /* accepts NULL */

/* Sums over all ranks, in place, in the stream. values: (count), device. */
dla_status nccl_ranks_sum_floats(struct nccl_ranks *ranks, float *values, int64_t count, cudaStream_t stream);
dla_status nccl_ranks_sum_doubles(struct nccl_ranks *ranks, double *values, int64_t count, cudaStream_t stream);

#endif
