/* comm.c - training alone, and what all back ends share. */
#include "train/comm.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>

static void alone_start_sum(struct comm *comm, float *values, int64_t count)
{
    (void)comm;
    (void)values;
    (void)count;
}

static void alone_nothing(struct comm *comm)
{
    (void)comm;
}

static void alone_sum(struct comm *comm, double *values, int count)
{
    (void)comm;
    (void)values;
    (void)count;
}

static void alone_broadcast(struct comm *comm, void *bytes, size_t size)
{
    (void)comm;
    (void)bytes;
    (void)size;
}

static void alone_close(struct comm *comm)
{
    memory_free(comm);
}

static const struct comm_backend alone = {"alone", alone_start_sum, alone_nothing, alone_nothing, alone_sum, alone_broadcast, alone_close};

/* What the launchers of Open MPI, and of MPICH and Slurm, set. */
static int launched_ranks(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *count = getenv(names[i]);
        if (count != NULL)
            return atoi(count);
    }
    return 0;
}

dla_status comm_open(struct comm **comm)
{
#if DLA_HAVE_MPI
    if (launched_ranks() > 0)
        return comm_mpi_open(comm);
#else
    if (launched_ranks() > 1)
        return status_set(DLA_ERROR_UNSUPPORTED,
                          "started by mpirun, but this library was built without MPI; build it with -DDLA_MPI=ON (docs/distributed.md)");
#endif
    struct comm *made = memory_allocate_zeroed(1, sizeof(*made));
    if (made == NULL)
        return status_out_of_memory(sizeof(*made), "training");
    *made = (struct comm){.backend = &alone, .rank = 0, .size = 1};
    *comm = made;
    return DLA_OK;
}

void comm_close(struct comm *comm)
{
    if (comm)
        comm->backend->close(comm);
}

bool comm_any(struct comm *comm, bool here)
{
    double count = here;
    comm->backend->sum(comm, &count, 1);
    return count > 0.0;
}

dla_status comm_agree(struct comm *comm, dla_status status)
{
    double failed[2] = {status != DLA_OK, status != DLA_OK && comm->rank == 0};
    char message[1024];
    if (comm->size == 1)
        return status;
    comm->backend->sum(comm, failed, 2);
    if (failed[0] == 0.0)
        return DLA_OK;
    if (comm->rank > 0 && (status == DLA_OK || failed[1] > 0.0))
        return status_set(DLA_ERROR_INTERRUPTED, "another rank failed; its message says why");
    if (status == DLA_OK)
        return status_set(DLA_ERROR_INTERRUPTED, "another rank failed; its message says why");
    snprintf(message, sizeof(message), "%s", dla_error_message());
    return comm->rank > 0 ? status_set(status, "rank %d of %d: %s", comm->rank, comm->size, message) : status;
}
