/* fuzz_png.c - PNG files, as pictures and as label maps.
 *
 * Every chunk ends with a checksum, which damage nearly always breaks. So each input is also tried with its checksums put
 * right, or nothing behind them would ever be reached.
 */
#include "decode_picture.h"
#include "image/label_map.h"

#include <stdlib.h>
#include <string.h>

static uint32_t checksum(const uint8_t *bytes, size_t size)
{
    uint32_t value = 0xffffffff;

    for (size_t i = 0; i < size; i++) {
        value ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
    }
    return ~value;
}

static void correct_checksums(uint8_t *bytes, size_t size)
{
    size_t offset = 8;

    while (offset + 12 <= size) {
        uint8_t *chunk = bytes + offset;
        size_t length = (size_t)chunk[0] << 24 | (size_t)chunk[1] << 16 | (size_t)chunk[2] << 8 | chunk[3];

        if (length > size - offset - 12)
            break;
        uint32_t value = checksum(chunk + 4, length + 4);
        for (int i = 0; i < 4; i++)
            chunk[8 + length + (size_t)i] = (uint8_t)(value >> (24 - 8 * i));
        offset += 12 + length;
    }
}

static void decode(const uint8_t *data, size_t size)
{
    struct label_map labels;

    decode_picture(png_decode, data, size);
    if (size <= 4096 && label_map_decode(data, size, "input", &labels) == DLA_OK)
        label_map_free(&labels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *corrected = malloc(size > 0 ? size : 1);

    decode(data, size);
    if (corrected != NULL) {
        memcpy(corrected, data, size);
        correct_checksums(corrected, size);
        decode(corrected, size);
    }
    free(corrected);
    return 0;
}
