/* reducer_cuda.h - the GPUs of several ranks add up: gradients, and the sums of batch norms that are taken over all ranks.
 *
 * Where every rank has a GPU of its own and finds NCCL, the GPUs exchange numbers among themselves, in the stream, and no host waits.
 * Otherwise (ranks that share a GPU, no NCCL) the numbers go through the host's memory and the comm, bucket by bucket: while one is
 * copied the one before it travels.
 *
 * All calls are collective: a rank on which something went wrong makes them, too, or the others would wait for it for ever.
 */
#ifndef DLA_TRAIN_REDUCER_CUDA_H
#define DLA_TRAIN_REDUCER_CUDA_H

#include "train/comm.h"

#include <cuda_runtime_api.h>

struct cuda_reducer;

/* For blocks of `floats` at most, on the calling thread's GPU. Each rank gets its own status; NULL where another rank failed. */
dla_status cuda_reducer_create(struct comm *comm, int64_t floats, struct cuda_reducer **reducer);
void cuda_reducer_destroy(struct cuda_reducer *reducer); /* accepts NULL */

/* What adds up: "NCCL 2.27.3", or "MPI through the host's memory (why)". */
const char *cuda_reducer_name(const struct cuda_reducer *reducer);
int cuda_reducer_ranks(const struct cuda_reducer *reducer);

/* Sums over all ranks, in place, behind what is in the stream. values: (count), device. */
dla_status cuda_reducer_sum_floats(struct cuda_reducer *reducer, float *values, int64_t count, cudaStream_t stream);
dla_status cuda_reducer_sum_doubles(struct cuda_reducer *reducer, double *values, int count, cudaStream_t stream);

#endif
