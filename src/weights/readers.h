/* readers.h - the formats behind tensor_file_open, one row each in tensor_file.c.
 *
 * A reader gets a file that is mapped but has no tensors yet, and fills in format, tensors and metadata. All it keeps comes
 * from file->arena, so after a failure the caller frees everything with tensor_file_close. Messages carry no path:
 * tensor_file_open puts it in front.
 */
#ifndef DLA_WEIGHTS_READERS_H
#define DLA_WEIGHTS_READERS_H

#include "weights/tensor_file.h"

bool safetensors_is(const uint8_t *bytes, size_t size);
dla_status safetensors_read(struct tensor_file *file);

bool torch_zip_is(const uint8_t *bytes, size_t size);
dla_status torch_zip_read(struct tensor_file *file);

bool torch_legacy_is(const uint8_t *bytes, size_t size);
dla_status torch_legacy_read(struct tensor_file *file);

bool paddle_is(const uint8_t *bytes, size_t size);
dla_status paddle_read(struct tensor_file *file);

#endif
