/* validate.h - loss and top-1 of weights that are still being trained, on the held-out photographs. */
#ifndef DLA_TRAIN_VALIDATE_H
#define DLA_TRAIN_VALIDATE_H

#include "plan/plan.h"
#include "train/dataset.h"
#include "train/parameter_block.h"

struct validation {
    double loss, top1; /* means over `count`; NaN where it is 0 */
    size_t count;      /* photographs that could be read */
};

/* values: a block of the parameters' order. Runs the inference plan, so what is measured is what users will run; of its options height
 * and width are the preprocessing's, and the threads decode, too. */
dla_status validate(const struct parameter_block *parameters, const float *values, const struct sample_list *samples,
                    const dla_preprocessing *preprocessing, const struct plan_options *plan_options, struct validation *result);

#endif
