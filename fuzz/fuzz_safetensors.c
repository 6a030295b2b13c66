/* fuzz_safetensors.c - weights files as tensor_file_open sees them, seeded with safetensors. */
#include "touch_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_and_touch(data, size);
    return 0;
}
