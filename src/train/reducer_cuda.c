/* reducer_cuda.c - by NCCL, or through the host's memory. */
#include "train/reducer_cuda.h"

#include "base/memory.h"
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "cuda/nccl_ranks.h"

#include <stdio.h>
#include <string.h>

enum { MOST_BUCKETS = 64, BUCKET_FLOATS = 1024 * 1024 /* 4 MB: long against the start of a copy and of a sum */ };

struct cuda_reducer {
    struct comm *comm;
    struct nccl_ranks *nccl; /* NULL: through the host */
    float *host;             /* (floats), pinned; NULL with NCCL */
    int64_t floats;
    cudaEvent_t copied[MOST_BUCKETS]; /* the bucket is in the host's memory */
    char name[512];
};

/* ---- which way ---- */

enum { IDENTITY_NUMBERS = 4 }; /* the 16 bytes of a GPU's identity as so many numbers below 2^32, which sums of doubles leave exact */

/* Whether two ranks have the same GPU. identities: (ranks, IDENTITY_NUMBERS), zeros. */
static bool share_a_gpu(struct comm *comm, const struct cuda_device *device, double *identities)
{
    for (int k = 0; k < IDENTITY_NUMBERS; k++) {
        uint32_t part;
        memcpy(&part, device->identity + (size_t)k * sizeof part, sizeof part);
        identities[comm->rank * IDENTITY_NUMBERS + k] = (double)part;
    }
    comm->backend->sum(comm, identities, comm->size * IDENTITY_NUMBERS);
    for (int a = 0; a < comm->size; a++)
        for (int b = 0; b < a; b++) {
            int alike = 0;
            for (int k = 0; k < IDENTITY_NUMBERS; k++)
                alike += identities[a * IDENTITY_NUMBERS + k] == identities[b * IDENTITY_NUMBERS + k];
            if (alike == IDENTITY_NUMBERS)
                return true;
        }
    return false;
}

static void go_through_host(struct cuda_reducer *r, const char *why)
{
    snprintf(r->name, sizeof r->name, "%s through the host's memory (%s)", r->comm->backend->name, why);
}

/* Whether it is so on all ranks; where not, r->name tells. */
static bool all_can(struct cuda_reducer *r, dla_status status)
{
    if (!comm_any(r->comm, status != DLA_OK))
        return true;
    go_through_host(r, status == DLA_OK ? "another rank cannot use NCCL" : dla_error_message());
    return false;
}

/* r->nccl stays NULL where a rank has no NCCL, or NCCL does not connect them. */
static void connect_gpus(struct cuda_reducer *r)
{
    struct nccl_id id = {{0}};
    if (!all_can(r, nccl_find(r->name, sizeof r->name)) || !all_can(r, r->comm->rank == 0 ? nccl_make_id(&id) : DLA_OK))
        return;
    r->comm->backend->broadcast(r->comm, &id, sizeof id);
    if (!all_can(r, nccl_ranks_open(&id, r->comm->rank, r->comm->size, &r->nccl))) {
        nccl_ranks_close(r->nccl);
        r->nccl = NULL;
    }
}

static dla_status make_host_memory(struct cuda_reducer *r)
{
    dla_status status =
        cuda_status(cudaMallocHost((void **)&r->host, (size_t)r->floats * sizeof *r->host), "allocate pinned memory for gradients");
    for (int i = 0; i < MOST_BUCKETS && status == DLA_OK; i++)
        status = cuda_status(cudaEventCreateWithFlags(&r->copied[i], cudaEventDisableTiming), "make an event");
    return status;
}

dla_status cuda_reducer_create(struct comm *comm, int64_t floats, struct cuda_reducer **reducer)
{
    struct cuda_device device = {0};
    struct cuda_reducer *made = memory_allocate_zeroed(1, sizeof *made);
    double *identities = memory_allocate_zeroed((size_t)comm->size * IDENTITY_NUMBERS, sizeof *identities);
    dla_status status = made && identities ? cuda_device_open(&device) : status_out_of_memory(sizeof *made, "training on several GPUs");
    *reducer = NULL;
    if (!comm_any(comm, status != DLA_OK) && made && identities) {
        made->comm = comm;
        made->floats = floats;
        if (share_a_gpu(comm, &device, identities))
            go_through_host(made, "ranks share a GPU");
        else
            connect_gpus(made);
        if (made->nccl == NULL)
            status = make_host_memory(made);
        if (!comm_any(comm, status != DLA_OK)) {
            *reducer = made;
            made = NULL;
        }
    }
    memory_free(identities);
    cuda_reducer_destroy(made);
    return status;
}

void cuda_reducer_destroy(struct cuda_reducer *r)
{
    if (r == NULL)
        return;
    nccl_ranks_close(r->nccl);
    for (int i = 0; i < MOST_BUCKETS; i++)
        if (r->copied[i])
            cudaEventDestroy(r->copied[i]);
    cudaFreeHost(r->host);
    memory_free(r);
}

const char *cuda_reducer_name(const struct cuda_reducer *r)
{
    return r->name;
}

int cuda_reducer_ranks(const struct cuda_reducer *r)
{
    return r->comm->size;
}

/* ---- sums ---- */

static void keep_first(cudaError_t *error, cudaError_t next)
{
    if (*error == cudaSuccess)
        *error = next;
}

static dla_status sum_through_host(struct cuda_reducer *r, float *values, int64_t count, cudaStream_t stream)
{
    const struct comm_backend *backend = r->comm->backend;
    int64_t even = (count + MOST_BUCKETS - 1) / MOST_BUCKETS, bucket = even > BUCKET_FLOATS ? even : BUCKET_FLOATS;
    cudaError_t error = cudaSuccess;
    for (int64_t first = 0; first < count; first += bucket) {
        int64_t part = count - first < bucket ? count - first : bucket;
        keep_first(&error, cudaMemcpyAsync(r->host + first, values + first, (size_t)part * sizeof *values, cudaMemcpyDeviceToHost, stream));
        keep_first(&error, cudaEventRecord(r->copied[first / bucket], stream));
    }
    for (int64_t first = 0; first < count; first += bucket) {
        keep_first(&error, cudaEventSynchronize(r->copied[first / bucket]));
        backend->progress(r->comm);
        backend->start_sum(r->comm, r->host + first, count - first < bucket ? count - first : bucket);
    }
    backend->finish(r->comm);
    keep_first(&error, cudaMemcpyAsync(values, r->host, (size_t)count * sizeof *values, cudaMemcpyHostToDevice, stream));
    return cuda_status(error, "add up over the ranks");
}

dla_status cuda_reducer_sum_floats(struct cuda_reducer *r, float *values, int64_t count, cudaStream_t stream)
{
    return r->nccl ? nccl_ranks_sum_floats(r->nccl, values, count, stream) : sum_through_host(r, values, count, stream);
}

/* The pinned memory holds what a batch norm's sums need: its parameters, four floats a channel, lie in the same block. */
dla_status cuda_reducer_sum_doubles(struct cuda_reducer *r, double *values, int count, cudaStream_t stream)
{
    size_t bytes = (size_t)count * sizeof *values;
    double *host = (double *)(void *)r->host;
    if (r->nccl)
        return nccl_ranks_sum_doubles(r->nccl, values, count, stream);
    cudaError_t error = cudaMemcpyAsync(host, values, bytes, cudaMemcpyDeviceToHost, stream);
    keep_first(&error, cudaStreamSynchronize(stream));
    r->comm->backend->sum(r->comm, host, count);
    keep_first(&error, cudaMemcpyAsync(values, host, bytes, cudaMemcpyHostToDevice, stream));
    return cuda_status(error, "add up over the ranks");
}
