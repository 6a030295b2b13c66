/* colour_map.h - colours for numbers and for classes. */
#ifndef DLA_IMAGE_COLOUR_MAP_H
#define DLA_IMAGE_COLOUR_MAP_H

#include <dla/dla.h>

/* The colour of a value of 0 .. 1; values outside take the nearest end, NaN the lower one. */
void colour_of_value(dla_colour_map map, float value, uint8_t rgb[3]);

#endif
