/* touch_tensors.h - reads every element that a weights reader lets through, so that a view beyond its bytes is found. */
#ifndef DLA_FUZZ_TOUCH_TENSORS_H
#define DLA_FUZZ_TOUCH_TENSORS_H

#include "weights/tensor_file.h"

#include <stdlib.h>

static inline void touch_tensor(const struct tensor_view *tensor)
{
    enum { MOST_ELEMENTS = 1 << 20 }; /* more, from a small input, are one element many times over (strides of 0) */
    int64_t elements;

    if (!shape_elements(tensor->shape, tensor->rank, &elements))
        abort();
    if (elements > MOST_ELEMENTS)
        return;
    float *values = malloc((size_t)elements * sizeof(float) + 1);
    if (values == NULL)
        return;
    tensor_to_float(tensor, values);
    free(values);
}

static inline void open_and_touch(const uint8_t *bytes, size_t size)
{
    struct tensor_file *file = NULL;

    if (tensor_file_open_memory(bytes, size, "input", &file) != DLA_OK)
        return;
    for (int i = 0; i < file->tensor_count; i++)
        touch_tensor(&file->tensors[i]);
    tensor_file_close(file);
}

#endif
