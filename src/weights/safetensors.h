/* safetensors.h - writing weights in the safetensors format (reading: tensor_file.h). */
#ifndef DLA_WEIGHTS_SAFETENSORS_H
#define DLA_WEIGHTS_SAFETENSORS_H

#include "weights/tensor_file.h"

/* Writes a file atomically. Floating-point tensors are stored as `floats` (DTYPE_F32, DTYPE_F16 or DTYPE_BF16), rounded to
 * nearest even, but vectors (biases, batch norms) always as float32; integers stay as they are. A finite value that overflows
 * float16 is DLA_ERROR_UNSUPPORTED and names its tensor. Equal input gives equal bytes. */
dla_status safetensors_write(const char *path, const struct tensor_view *tensors, int tensor_count, const struct metadata_entry *metadata,
                             int metadata_count, enum dtype floats);

#endif
