/* augment.h - from a photograph to one training input, by chance that depends on a key alone.
 *
 *     random box (area and aspect ratio) -> resized to size x size as Pillow does it -> mirrored or not
 *     -> brightness, contrast, saturation, sharpness in random order -> PCA lighting -> (x / 255 - mean) / std
 *
 * Colours are worked on as floats of 0 .. 255, cut to that range after each change.
 */
#ifndef DLA_TRAIN_AUGMENT_H
#define DLA_TRAIN_AUGMENT_H

#include <dla/dla.h>

/* `scratch`: size * size * 3 bytes and as many floats. output: (size, size, 3). */
dla_status augment(const dla_image *image, const dla_augmentation *options, int size, const float mean[3], const float std[3], uint64_t key,
                   uint8_t *pixels, float *colours, float *output);

#endif
