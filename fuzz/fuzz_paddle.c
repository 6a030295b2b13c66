/* fuzz_paddle.c - PaddlePaddle's weights: NumPy arrays in a pickle. */
#include "touch_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_and_touch(data, size);
    return 0;
}
