/* label_map.h - a class for every pixel, as annotation files store it. */
#ifndef DLA_IMAGE_LABEL_MAP_H
#define DLA_IMAGE_LABEL_MAP_H

#include <dla/dla.h>

struct label_map {
    int height, width;
    uint8_t *labels; /* (height, width), from memory_allocate */
};

/* Decodes a PNG whose stored numbers are the labels: grey of at most 8 bits (not scaled to 0 .. 255) or palette indices.
 * `origin` names the bytes in messages; limits as for photographs. */
dla_status label_map_decode(const void *bytes, size_t size, const char *origin, struct label_map *labels);
dla_status label_map_read(const char *path, struct label_map *labels);
void label_map_free(struct label_map *labels);

#endif
