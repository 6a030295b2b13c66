/* draw_text.h - captions in pictures: letters of 5 x 8 pixels, enlarged by whole numbers. */
#ifndef DLA_IMAGE_DRAW_TEXT_H
#define DLA_IMAGE_DRAW_TEXT_H

#include "image/image.h"

enum { LETTER_WIDTH = 6, LETTER_HEIGHT = 8 }; /* at scale 1, the gap to the next letter included */

/* Writes text with its upper left corner at (left, top); what lies outside the picture is cut off. Characters beyond ASCII are
 * shown as a box each. */
void draw_text(dla_image *image, int left, int top, int scale, const uint8_t colour[3], const char *text);

/* The same text, cut so that it fits into `width` pixels, with dots where something is missing; at most size - 1 bytes. */
void fit_text(const char *text, int width, int scale, char *fitted, size_t size);

#endif
