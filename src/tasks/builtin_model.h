/* builtin_model.h - the weights that travel inside the library: safetensors files with labels and preprocessing, one a task. */
#ifndef DLA_TASKS_BUILTIN_MODEL_H
#define DLA_TASKS_BUILTIN_MODEL_H

#include <dla/dla.h>

struct builtin_model {
    const uint8_t *bytes;
    size_t size;
    const char *origin; /* how messages call it */
};

/* `task` is one of the enumeration. */
struct builtin_model builtin_model(dla_task task);

#endif
