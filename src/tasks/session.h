/* session.h - what tasks need of a session beyond dla.h. */
#ifndef DLA_TASKS_SESSION_H
#define DLA_TASKS_SESSION_H

#include "base/thread_pool.h"

/* The threads that the session's kernels run on, for work between two runs. The session's. */
struct thread_pool *session_thread_pool(const dla_session *session);

/* What it runs, for those who measure it. The session's. */
struct plan;
struct plan *session_plan(const dla_session *session);

/* How often a run of the session runs the plan, each time for as many images of the batch. */
int session_passes(const dla_session *session);

#endif
