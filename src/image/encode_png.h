/* encode_png.h - pictures to look at, and label maps to compute with, as PNG. */
#ifndef DLA_IMAGE_ENCODE_PNG_H
#define DLA_IMAGE_ENCODE_PNG_H

#include <dla/dla.h>

enum png_kind {
    PNG_KIND_RGB,    /* three bytes a pixel */
    PNG_KIND_GREY,   /* one */
    PNG_KIND_PALETTE /* one, an index into the palette; readers that ask for it get the index back */
};

struct png_picture {
    int height, width; /* at least 1 */
    enum png_kind kind;
    const uint8_t *pixels;       /* (height, width, 3) or (height, width) */
    const uint8_t (*palette)[3]; /* (colours, 3); PNG_KIND_PALETTE only. Indices past it are an error */
    int colours;                 /* 1 .. 256 */
};

/* The file appears when it is complete, or not at all. */
dla_status png_write(const char *path, const struct png_picture *picture);

/* Into memory: *bytes is the caller's, memory_free. */
dla_status png_encode(const struct png_picture *picture, uint8_t **bytes, size_t *size);

#endif
