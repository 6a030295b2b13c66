/* classifier.h - what the parts of classification share; the public side is in dla.h. */
#ifndef DLA_TASKS_CLASSIFIER_H
#define DLA_TASKS_CLASSIFIER_H

#include <dla/dla.h>

struct dla_classifier {
    const dla_model *model;
    dla_preprocessing preprocessing;
    dla_decode_options decode;
    int batch, threads, class_count;
    dla_session *session;
    float *inputs; /* (batch, size, size, 3), NHWC */
    float *logits; /* (batch, class_count) */
};

/* Floats of one preprocessed photograph. */
size_t classifier_input_floats(const dla_classifier *classifier);

/* Runs the network on the first `filled` of classifier->inputs and writes (filled, count) scores; count is at most class_count. */
dla_status classifier_run(dla_classifier *classifier, int filled, int count, dla_class_score *scores);

#endif
