/* edge_thinning.h - a binary map thinned to lines one pixel wide. */
#ifndef DLA_TASKS_EDGE_THINNING_H
#define DLA_TASKS_EDGE_THINNING_H

#include <dla/dla.h>

/* Thins in place until nothing changes: as MATLAB's bwmorph(map, 'thin', Inf), which the BSDS benchmark calls.
 * map: (height, width), 0 or 1; what lies outside counts as 0. */
dla_status edge_map_thin(uint8_t *map, int height, int width);

#endif
