/* builtin_model.h - the weights that travel inside the library, a safetensors file with labels and preprocessing. */
#ifndef DLA_TASKS_BUILTIN_MODEL_H
#define DLA_TASKS_BUILTIN_MODEL_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t dla_builtin_model[];
extern const size_t dla_builtin_model_size;

#endif
