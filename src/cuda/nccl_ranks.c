/* nccl_ranks.c - a communicator of NCCL's. */
#include "cuda/nccl_ranks.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>
#include <string.h>

#if defined __has_include
#if __has_include(<nccl.h>)
#define HAVE_NCCL 1
#endif
#endif

#ifdef HAVE_NCCL
#include "cuda/nccl_library.h"

_Static_assert(sizeof(ncclUniqueId) == NCCL_ID_BYTES, "NCCL's ids have another size");

struct nccl_ranks {
    const struct nccl_library *library;
    ncclComm_t comm;
};

/* DLA_OK, or the failure as a status: "NCCL cannot <what>: <its words>". */
static dla_status status_of(const struct nccl_library *library, ncclResult_t result, ncclComm_t comm, const char *what)
{
    char words[256] = "";
    if (result == ncclSuccess)
        return DLA_OK;
    const char *more = library->GetLastError(comm);
    snprintf(words, sizeof words, "%s", more ? more : "");
    words[strcspn(words, "\n")] = '\0';
    return status_set(DLA_ERROR_UNSUPPORTED, "NCCL cannot %s: %s%s%s (NCCL_DEBUG=INFO in the environment says more)", what,
                      library->GetErrorString(result), words[0] ? ", " : "", words);
}

dla_status nccl_find(char *name, size_t size)
{
    const struct nccl_library *library;
    int version = 0;
    dla_status status = nccl_library_find(&library);
    if (status == DLA_OK)
        status = status_of(library, library->GetVersion(&version), NULL, "tell its version");
    if (status == DLA_OK)
        snprintf(name, size, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return status;
}

dla_status nccl_make_id(struct nccl_id *id)
{
    const struct nccl_library *library;
    ncclUniqueId made;
    dla_status status = nccl_library_find(&library);
    if (status == DLA_OK)
        status = status_of(library, library->GetUniqueId(&made), NULL, "make an id");
    if (status == DLA_OK)
        memcpy(id->bytes, &made, sizeof made);
    return status;
}

dla_status nccl_ranks_open(const struct nccl_id *id, int rank, int count, struct nccl_ranks **ranks)
{
    ncclUniqueId given;
    struct nccl_ranks *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return status_out_of_memory(sizeof *made, "NCCL");
    memcpy(&given, id->bytes, sizeof given);
    dla_status status = nccl_library_find(&made->library);
    if (status == DLA_OK)
        status = status_of(made->library, made->library->CommInitRank(&made->comm, count, given, rank), NULL, "connect the GPUs");
    if (status != DLA_OK) {
        memory_free(made);
        return status;
    }
    *ranks = made;
    return DLA_OK;
}

void nccl_ranks_close(struct nccl_ranks *ranks)
{
    if (ranks == NULL)
        return;
    ranks->library->CommDestroy(ranks->comm);
    memory_free(ranks);
}

static dla_status sum(struct nccl_ranks *ranks, void *values, int64_t count, ncclDataType_t type, cudaStream_t stream)
{
    ncclResult_t result = ranks->library->AllReduce(values, values, (size_t)count, type, ncclSum, ranks->comm, stream);
    return status_of(ranks->library, result, ranks->comm, "add up over the GPUs");
}

dla_status nccl_ranks_sum_floats(struct nccl_ranks *ranks, float *values, int64_t count, cudaStream_t stream)
{
    return sum(ranks, values, count, ncclFloat32, stream);
}

dla_status nccl_ranks_sum_doubles(struct nccl_ranks *ranks, double *values, int64_t count, cudaStream_t stream)
{
    return sum(ranks, values, count, ncclFloat64, stream);
}

#else

/* Without its header nobody gets further than the first of these. */
dla_status nccl_find(char *name, size_t size)
{
    (void)name;
    (void)size;
    return status_set(DLA_ERROR_UNSUPPORTED, "built without NCCL");
}

dla_status nccl_make_id(struct nccl_id *id)
{
    (void)id;
    return DLA_ERROR_UNSUPPORTED;
}

dla_status nccl_ranks_open(const struct nccl_id *id, int rank, int count, struct nccl_ranks **ranks)
{
    (void)id;
    (void)rank;
    (void)count;
    (void)ranks;
    return DLA_ERROR_UNSUPPORTED;
}

void nccl_ranks_close(struct nccl_ranks *ranks)
{
    (void)ranks;
}

dla_status nccl_ranks_sum_floats(struct nccl_ranks *ranks, float *values, int64_t count, cudaStream_t stream)
{
    (void)ranks;
    (void)values;
    (void)count;
    (void)stream;
    return DLA_ERROR_UNSUPPORTED;
}

dla_status nccl_ranks_sum_doubles(struct nccl_ranks *ranks, double *values, int64_t count, cudaStream_t stream)
{
    (void)ranks;
    (void)values;
    (void)count;
    (void)stream;
    return DLA_ERROR_UNSUPPORTED;
}

#endif
