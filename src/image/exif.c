/* exif.c - reads one number out of an EXIF block.
 *
 * EXIF is a TIFF file without the pixels: a byte order ("II" or "MM"), the number 42, the offset of the first directory. A
 * directory is a count and so many entries of 12 bytes: tag, type, number of values, and the values themselves where they fit
 * into four bytes. Orientation is tag 0x0112 of the first directory, one 16-bit number.
 */
#include "image/exif.h"

#include <stdbool.h>
#include <string.h>

struct tiff {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
};

/* The caller has checked that the bytes are there. */
static unsigned read_16(const struct tiff *tiff, size_t offset)
{
    unsigned first = tiff->bytes[offset], second = tiff->bytes[offset + 1];

    return tiff->big_endian ? first << 8 | second : second << 8 | first;
}

static uint32_t read_32(const struct tiff *tiff, size_t offset)
{
    uint32_t first = read_16(tiff, offset), second = read_16(tiff, offset + 2);

    return tiff->big_endian ? first << 16 | second : second << 16 | first;
}

int exif_orientation(const uint8_t *bytes, size_t size)
{
    enum { UPRIGHT = 1, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4, HEADER = 8, ENTRY = 12 };

    if (size >= 6 && memcmp(bytes, "Exif\0", 6) == 0) {
        bytes += 6;
        size -= 6;
    }
    if (size < HEADER || (memcmp(bytes, "II*", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0)) {
        return UPRIGHT;
    }
    struct tiff tiff = {bytes, size, bytes[0] == 'M'};
    size_t directory = read_32(&tiff, 4);
    if (directory > size - 2) {
        return UPRIGHT;
    }
    size_t entries = read_16(&tiff, directory), room = (size - directory - 2) / ENTRY;
    for (size_t i = 0; i < entries && i < room; i++) {
        size_t entry = directory + 2 + i * ENTRY;
        unsigned type = read_16(&tiff, entry + 2);

        if (read_16(&tiff, entry) != TAG_ORIENTATION || read_32(&tiff, entry + 4) != 1) {
            continue;
        }
        uint32_t value = type == TYPE_SHORT ? read_16(&tiff, entry + 8) : type == TYPE_LONG ? read_32(&tiff, entry + 8) : 0;
        return value >= 1 && value <= 8 ? (int)value : UPRIGHT;
    }
    return UPRIGHT;
}
