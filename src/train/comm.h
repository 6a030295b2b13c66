/* comm.h - the processes that train together: alone, or the ranks of an MPI job.
 *
 * Both back ends have the same shape; alone, everything is there already and nothing is done. All calls are collective: every
 * rank makes them in the same order, from the thread that opened the comm.
 */
#ifndef DLA_TRAIN_COMM_H
#define DLA_TRAIN_COMM_H

#include <dla/dla.h>

struct comm;

struct comm_backend {
    const char *name;
    /* Adds up over all ranks, in place, while the caller goes on: values belong to the comm until finish returns. */
    void (*start_sum)(struct comm *comm, float *values, int64_t count);
    void (*progress)(struct comm *comm); /* lets what was started go on; cheap */
    void (*finish)(struct comm *comm);
    void (*sum)(struct comm *comm, double *values, int count);      /* the same at once */
    void (*broadcast)(struct comm *comm, void *bytes, size_t size); /* from rank 0 */
    void (*close)(struct comm *comm);
};

struct comm {
    const struct comm_backend *backend;
    int rank, size;
    int local_rank; /* among the ranks of this machine */
};

/* The ranks that mpirun started, or one process alone. DLA_ERROR_UNSUPPORTED under mpirun in a build without MPI. */
dla_status comm_open(struct comm **comm);
void comm_close(struct comm *comm); /* accepts NULL */

/* Whether it is so on any rank. */
bool comm_any(struct comm *comm, bool here);

/* The status of all: where one rank failed, all do. Ranks that did not fail themselves, or whose failure is rank 0's too, get
 * DLA_ERROR_INTERRUPTED; the others' message tells their rank. */
dla_status comm_agree(struct comm *comm, dla_status status);

/* comm_mpi.c; only in builds with MPI */
dla_status comm_mpi_open(struct comm **comm);

#endif
