/* augment_dense.h - from a photograph and the labels of its pixels to one training input, by chance that depends on a key alone.
 *
 *     scaled as Pillow does it -> a square cut at a random place and turned about its centre -> mirrored or not
 *     -> colours as for classification -> (x / 255 - mean) / std
 *
 * What lies outside of the photograph is its reflection; its labels do not count. Pixels are interpolated, labels are the
 * nearest one's.
 */
#ifndef DLA_TRAIN_AUGMENT_DENSE_H
#define DLA_TRAIN_AUGMENT_DENSE_H

#include "image/label_map.h"

struct dense_augmentation {
    const dla_augmentation *colours; /* flip and the changes of colour */
    double min_scale, max_scale;
    double rotation; /* largest angle, degrees */
};

/* colours: size * size * 3 floats. output: (size, size, 3); labels: (size, size). */
dla_status augment_dense(const dla_image *image, const struct label_map *target, const struct dense_augmentation *options, int size,
                         const float mean[3], const float std[3], uint64_t key, float *colours, float *output, uint8_t *labels);

#endif
