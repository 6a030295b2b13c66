/* fuzz_jpeg.c - JPEG files. */
#include "decode_picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode_picture(jpeg_decode, data, size);
    return 0;
}
