/* fuzz_webp.c - WebP files. Their decoder is called for nothing shorter than the signature by which they are told. */
#include "decode_picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 12)
        decode_picture(webp_decode, data, size);
    return 0;
}
