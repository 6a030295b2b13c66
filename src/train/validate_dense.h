/* validate_dense.h - how well the weights label the pixels of photographs that they were not trained on. */
#ifndef DLA_TRAIN_VALIDATE_DENSE_H
#define DLA_TRAIN_VALIDATE_DENSE_H

#include "tasks/dense_target.h"
#include "train/validate.h"

struct dense_validation_options {
    const struct dense_target_options *target;
    const float *class_weights; /* or NULL */
    const dla_preprocessing *preprocessing;
    int threads;
    enum isa isa;
    bool exact;
    dla_device device;
    dla_precision precision;
};

/* Whole photographs, each at its own size. result->top1 is the mean IoU of a segmentation; of boundaries the largest F over 255
 * thresholds, pixel against pixel: without the tolerance of the benchmark it is far lower, but it costs nothing and rises with it.
 * Photographs that cannot be read do not count; wrong targets are failures. */
dla_status validate_dense(const struct parameter_block *parameters, const float *values, const struct sample_list *samples,
                          const struct dense_validation_options *options, struct validation *result);

#endif
