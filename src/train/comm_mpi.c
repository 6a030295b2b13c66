/* comm_mpi.c - the ranks of an MPI job.
 *
 * Sums of gradients are nonblocking all-reduces; MPI moves them on whenever it is called, so `progress` between two steps of
 * the backward pass is what overlaps them with work. An error inside MPI ends the job with MPI's own message, a rank that dies
 * makes mpirun end the others.
 */
#include "train/comm.h"

#include "base/memory.h"
#include "base/status.h"

#include <mpi.h>

enum { MOST_REQUESTS = 256, MOST_BYTES = 1 << 30 };

struct comm_mpi {
    struct comm comm; /* first: the same address */
    MPI_Comm world;
    bool initialised_here;
    MPI_Request requests[MOST_REQUESTS];
    int request_count;
};

static struct comm_mpi *inside(struct comm *comm)
{
    return (struct comm_mpi *)comm;
}

static void finish(struct comm *comm)
{
    struct comm_mpi *mpi = inside(comm);
    MPI_Waitall(mpi->request_count, mpi->requests, MPI_STATUSES_IGNORE);
    mpi->request_count = 0;
}

static void start_sum(struct comm *comm, float *values, int64_t count)
{
    struct comm_mpi *mpi = inside(comm);
    while (count > 0) {
        int part = count > MOST_BYTES / 4 ? MOST_BYTES / 4 : (int)count;
        if (mpi->request_count == MOST_REQUESTS)
            finish(comm);
        MPI_Iallreduce(MPI_IN_PLACE, values, part, MPI_FLOAT, MPI_SUM, mpi->world, &mpi->requests[mpi->request_count++]);
        values += part;
        count -= part;
    }
}

static void progress(struct comm *comm)
{
    struct comm_mpi *mpi = inside(comm);
    int done;
    if (mpi->request_count)
        MPI_Testall(mpi->request_count, mpi->requests, &done, MPI_STATUSES_IGNORE);
}

static void sum(struct comm *comm, double *values, int count)
{
    MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM, inside(comm)->world);
}

static void broadcast(struct comm *comm, void *bytes, size_t size)
{
    for (size_t done = 0; done < size; done += MOST_BYTES) {
        size_t part = size - done < MOST_BYTES ? size - done : MOST_BYTES;
        MPI_Bcast((char *)bytes + done, (int)part, MPI_BYTE, 0, inside(comm)->world);
    }
}

static void close_ranks(struct comm *comm)
{
    struct comm_mpi *mpi = inside(comm);
    MPI_Comm_free(&mpi->world);
    if (mpi->initialised_here)
        MPI_Finalize();
    memory_free(mpi);
}

static const struct comm_backend backend = {"MPI", start_sum, progress, finish, sum, broadcast, close_ranks};

dla_status comm_mpi_open(struct comm **comm)
{
    int initialised, finalised, level;
    MPI_Comm machine;
    struct comm_mpi *mpi = memory_allocate_zeroed(1, sizeof(*mpi));
    if (mpi == NULL)
        return status_out_of_memory(sizeof(*mpi), "training on several ranks");
    MPI_Initialized(&initialised);
    MPI_Finalized(&finalised);
    if (finalised) {
        memory_free(mpi);
        return status_set(DLA_ERROR_UNSUPPORTED, "MPI was finalised in this process; a program that trains twice initialises MPI itself");
    }
    if (!initialised)
        MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    mpi->initialised_here = !initialised;
    MPI_Comm_dup(MPI_COMM_WORLD, &mpi->world);
    MPI_Comm_rank(mpi->world, &mpi->comm.rank);
    MPI_Comm_size(mpi->world, &mpi->comm.size);
    MPI_Comm_split_type(mpi->world, MPI_COMM_TYPE_SHARED, mpi->comm.rank, MPI_INFO_NULL, &machine);
    MPI_Comm_rank(machine, &mpi->comm.local_rank);
    MPI_Comm_free(&machine);
    mpi->comm.backend = &backend;
    *comm = &mpi->comm;
    return DLA_OK;
}
