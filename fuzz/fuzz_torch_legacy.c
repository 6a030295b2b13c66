/* fuzz_torch_legacy.c - PyTorch checkpoints before 1.6: pickles and storages in a row. */
#include "touch_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_and_touch(data, size);
    return 0;
}
