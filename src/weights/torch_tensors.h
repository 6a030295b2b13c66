/* torch_tensors.h - from a PyTorch pickle, already built as data, to tensor views. */
#ifndef DLA_WEIGHTS_TORCH_TENSORS_H
#define DLA_WEIGHTS_TORCH_TENSORS_H

#include "base/tensor.h"
#include "weights/pickle.h"
#include "weights/tensor_file.h"

extern const struct pickle_global torch_globals[];

/* Elements of one type that tensors are views of. */
struct torch_storage {
    const char *key; /* "17" */
    enum dtype dtype;
    int64_t elements;
    const uint8_t *bytes; /* elements * dtype_size(dtype) of them; never NULL */
};

/* Finds the bytes behind a reference ("storage", type, key, location, elements[, view]). The storage's dtype and elements are
 * what the reference claims; find_bytes checks them against what is there. */
struct torch_storage_source {
    dla_status (*find_bytes)(void *context, struct torch_storage *storage);
    void *context;
};

/* Reads what a persistent reference says: key, dtype, elements; *view is its sixth item or NULL. */
dla_status torch_read_reference(const struct pickle_value *identity, struct arena *arena, struct torch_storage *storage,
                                const struct pickle_value **view);

/* Fills file->tensors from the state dict in `root`: root itself, or below state_dict, model, model_state ... */
dla_status torch_read_state_dict(const struct pickle_value *root, const struct torch_storage_source *source, struct tensor_file *file);

#endif
