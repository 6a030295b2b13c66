/* resize.h - Pillow's resize of 8-bit pixels, bit for bit.
 *
 * A box of the source (in real-valued source pixels) is stretched to out_width x out_height, of which only a window is computed:
 * evaluation resizes the whole picture and keeps its centre, training resizes a random box and keeps all.
 */
#ifndef DLA_IMAGE_RESIZE_H
#define DLA_IMAGE_RESIZE_H

#include <dla/dla.h>

struct resize_box {
    float left, top, right, bottom; /* 0 <= left < right <= in_width, 0 <= top < bottom <= in_height */
};

struct resize_window {
    int64_t left, top;
    int width, height; /* not empty, within out_width x out_height */
};

struct resize_shape {
    int in_height, in_width;
    int channels; /* 1 or 3 */
    struct resize_box box;
    int64_t out_height, out_width; /* what the box becomes; only the window costs memory */
    struct resize_window window;   /* the part of that which is wanted */
    dla_interpolation interpolation;
};

/* The whole picture to out_height x out_width, all of it wanted. */
struct resize_shape resize_whole(int in_height, int in_width, int channels, int64_t out_height, int64_t out_width,
                                 dla_interpolation interpolation);

dla_status image_resize(const struct resize_shape *shape, const uint8_t *in, /* (in_height, in_width, channels) */
                        uint8_t *out);                                       /* (window.height, window.width, channels) */

/* The same by plain loops: what the fast passes are tested against. */
dla_status image_resize_reference(const struct resize_shape *shape, const uint8_t *in, uint8_t *out);

#endif
