/* model.h - what is inside a dla_model: a network with its weights, labels and preprocessing. */
#ifndef DLA_TASKS_MODEL_H
#define DLA_TASKS_MODEL_H

#include "net/network.h"
#include "weights/bind.h"

struct dla_model {
    const dla_network *network;
    dla_network *own_network; /* the same, or NULL where the caller keeps it */
    struct tensor_file *file; /* stays mapped as long as the model lives; NULL where it is untrained */
    struct bound_weights weights;
    dla_preprocessing preprocessing;
    int class_count;              /* 0: embeddings */
    const char **labels, **wnids; /* class_count each, or NULL */
    struct arena arena;           /* owns the labels and the report */
    char *report;
};

#endif
