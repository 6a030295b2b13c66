/* decode.h - what dla_image_decode asks of each format's decoder.
 *
 * A decoder gets all bytes of a file that begins with its signature. It gives upright-agnostic RGB pixels and the EXIF
 * orientation; the caller turns the picture. It compares the size that the header claims with the limits before it allocates
 * any pixel. Messages start with the origin.
 */
#ifndef DLA_IMAGE_DECODE_H
#define DLA_IMAGE_DECODE_H

#include "image/image.h"

/* A picture that need not be decoded whole. */
struct image_reduction {
    /* 1, 2, 4 or 8: the divisor at which an upright height x width picture may be decoded. */
    int (*choose)(void *context, int height, int width);
    void *context;
    int full_height, full_width; /* filled in: the upright picture's sizes before any reduction */
};

struct encoded_image {
    const uint8_t *bytes;
    size_t size;
    const char *origin; /* names the bytes in messages */
    int64_t max_pixels;
    struct image_reduction *reduction; /* NULL: whole; only JPEG reduces (its DCT gives smaller pictures for less work) */
};

/* On success *image is the caller's and *orientation is 1 .. 8. */
dla_status jpeg_decode(const struct encoded_image *encoded, dla_image **image, int *orientation);
dla_status png_decode(const struct encoded_image *encoded, dla_image **image, int *orientation);
dla_status webp_decode(const struct encoded_image *encoded, dla_image **image, int *orientation);

/* dla_image_read, reduced as asked: sides are divided, rounding up. Formats that cannot do it give the whole picture. */
dla_status image_read_reduced(const char *path, struct image_reduction *reduction, dla_image **image);

/* DLA_OK where width x height pixels may be decoded: both sides at least 1, within max_pixels, and not more than these few
 * bytes can hold at `most_pixels_per_byte` (0: the format sets no such bound). */
dla_status check_claimed_size(const struct encoded_image *encoded, uint64_t width, uint64_t height, uint64_t most_pixels_per_byte);

#endif
