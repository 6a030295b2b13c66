/* fuzz_npy.c - NumPy array files. */
#include "touch_tensors.h"
#include "weights/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tensor_view tensor;

    if (npy_parse(data, size, &tensor) == DLA_OK)
        touch_tensor(&tensor);
    return 0;
}
