/* augment.h - from a photograph to one training input, by chance that depends on a key alone.
 *
 *     random box (area and aspect ratio) -> resized to size x size as Pillow does it -> mirrored or not
 *     -> brightness, contrast, saturation, sharpness in random order -> PCA lighting -> (x / 255 - mean) / std
 *
 * Colours are worked on as floats of 0 .. 255, cut to that range after each change.
 */
#ifndef DLA_TRAIN_AUGMENT_H
#define DLA_TRAIN_AUGMENT_H

#include "image/resize.h"

/* The random box of a height x width picture. */
struct resize_box augment_box(int height, int width, const dla_augmentation *options, uint64_t key);

/* `image` is a full_height x full_width picture or one that was decoded at a fraction of that: the box is the same. `pixels`,
 * `colours`: scratch of size * size * 3. output: (size, size, 3). */
dla_status augment(const dla_image *image, int full_height, int full_width, const dla_augmentation *options, int size, const float mean[3],
                   const float std[3], uint64_t key, uint8_t *pixels, float *colours, float *output);

/* The second half of it: brightness, contrast, saturation, sharpness and lighting of colours, (size, size, 3) in 0 .. 255, in place.
 * scratch: two rows, size * 3 floats each. */
void augment_colours(float *colours, int size, const dla_augmentation *options, uint64_t key, float *scratch);

/* output: (size, size, 3). */
void normalise_colours(const float *colours, int size, const float mean[3], const float std[3], float *output);

#endif
