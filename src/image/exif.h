/* exif.h - the orientation that a camera noted beside the pixels. */
#ifndef DLA_IMAGE_EXIF_H
#define DLA_IMAGE_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* Orientation 1 .. 8 out of an EXIF block (a TIFF header, or "Exif\0\0" and one), as JPEG's APP1, PNG's eXIf and WebP's EXIF
 * carry it. 1 (upright) where the block says nothing, something illegal, or is damaged: the pixels are sound all the same. */
int exif_orientation(const uint8_t *bytes, size_t size);

#endif
