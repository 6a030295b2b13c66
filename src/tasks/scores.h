/* scores.h - from logits to the most probable classes. */
#ifndef DLA_TASKS_SCORES_H
#define DLA_TASKS_SCORES_H

#include <dla/dla.h>

/* The `count` best of class_count, best first; equal logits in the order of their classes. Label and wnid stay NULL.
 * DLA_ERROR_MISMATCH where a logit is not finite: there are no probabilities then. */
dla_status softmax_top(const float *logits, /* (class_count) */
                       int class_count, int count, dla_class_score *scores /* (count) */);

#endif
