/* image.h - 8-bit RGB pixels in memory, and what the layer's own files do with them.
 *
 * Every door of the library (a decoder, a camera's buffer) ends in the same object: RGB, 8 bits, rows without gaps. Grey
 * pictures have three equal channels, transparent ones stand on white. So nothing behind the doors asks where a picture is from.
 */
#ifndef DLA_IMAGE_IMAGE_H
#define DLA_IMAGE_IMAGE_H

#include <dla/dla.h>

struct dla_image {
    int height, width; /* at least 1 */
    uint8_t *pixels;   /* (height, width, 3), from memory_allocate */
};

/* Allocates, pixels not set; DLA_ERROR_MEMORY names the size. */
dla_status image_create(int height, int width, dla_image **image);

/* The same with room for `bytes_per_pixel` >= 3 bytes a pixel, for decoders that need a fourth channel on the way. */
dla_status image_create_wide(int height, int width, int bytes_per_pixel, dla_image **image);

/* Turns the (height, width, 4) RGBA pixels of an image made with four bytes a pixel into RGB over white, in place. */
void image_flatten_alpha(dla_image *image);

/* Turns and mirrors the picture as EXIF orientation 1 .. 8 asks; 1 and unknown values leave it alone. */
dla_status image_orient(dla_image *image, int orientation);

#endif
