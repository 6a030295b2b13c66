/* decode_picture.h - what the fuzzers of the picture formats share. */
#ifndef DLA_FUZZ_DECODE_PICTURE_H
#define DLA_FUZZ_DECODE_PICTURE_H

#include "image/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned pixel_sum;   /* so that no compiler leaves the reading out */

/* Decodes, turns upright, and reads every pixel. Small pictures only: the decoders' time is not what is looked for. */
static inline void decode_picture(dla_status (*decode)(const struct encoded_image *, dla_image **, int *), const uint8_t *data, size_t size)
{
    const struct encoded_image encoded = {data, size, "input", 1 << 18, NULL};
    dla_image *image = NULL;
    int orientation = 1;
    unsigned sum = 0;

    if (decode(&encoded, &image, &orientation) == DLA_OK && image_orient(image, orientation) == DLA_OK)
        for (size_t i = 0; i < (size_t)image->height * (size_t)image->width * 3; i++)
            sum += image->pixels[i];
    pixel_sum = sum;
    dla_image_destroy(image);
}

#endif
