/* tune.h - choosing the kernel of a convolution: by the kernels' own estimates, corrected by measurements. */
#ifndef DLA_PLAN_TUNE_H
#define DLA_PLAN_TUNE_H

#include "plan/kernel_times.h"
#include "plan/plan.h"

/* The best kernel that the options allow for this shape. With options->tune DLA_TUNE_MISSING or DLA_TUNE_ALWAYS it measures on `pool`
 * and adds what it finds to `times`; with DLA_TUNE_NEVER it does not look at them. */
dla_status choose_kernel(const struct plan_options *options, struct thread_pool *pool, const struct conv_shape *shape,
                         struct kernel_times *times, const struct conv_kernel **chosen);

#endif
