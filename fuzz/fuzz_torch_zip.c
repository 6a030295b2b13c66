/* fuzz_torch_zip.c - PyTorch's zip checkpoints: the archive, the pickle in it, the views. */
#include "touch_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_and_touch(data, size);
    return 0;
}
