/* preprocess.h - from pixels to a network's input, as torchvision's evaluation transforms do it. */
#ifndef DLA_IMAGE_PREPROCESS_H
#define DLA_IMAGE_PREPROCESS_H

#include <dla/dla.h>

/* DLA_ERROR_ARGUMENT names the field that is out of range. */
dla_status preprocessing_check(const dla_preprocessing *preprocessing);

/* Where the network's input comes from: the picture resized, a square of preprocessing->size cut out at (left, top). These are
 * negative where the square is larger than the picture, which is then surrounded by black. */
struct crop_geometry {
    int64_t height, width; /* of the resized picture */
    int64_t top, left;
};

/* For legal preprocessing and sides of at least 1. */
struct crop_geometry crop_geometry(const dla_preprocessing *preprocessing, int height, int width);

/* Where a centred crop starts on a side. */
int64_t centre_crop_start(int64_t side, int64_t crop);

/* (pixel / 255 - mean) / std in float32, each of the 256 values a channel can have. */
void normalisation_table(const float mean[3], const float std[3], float table[3][256]);

#endif
