/* resample.h - one axis of a resize, and the passes over pixels that apply it. Internal to the resize.
 *
 * Output sample i of an axis is   sum over t of  coefficient[i][t] * source[first[i] + t],  in fixed point with FRACTION_BITS
 * bits behind the point, half added before they are cut off, clamped to 0 .. 255.
 */
#ifndef DLA_IMAGE_RESAMPLE_H
#define DLA_IMAGE_RESAMPLE_H

#include <dla/dla.h>

enum {
    FRACTION_BITS = 32 - 8 - 2, /* an int, less a pixel's 8 bits, less two for sums beyond 255 and the sign */
    TAP_BLOCK = 4,              /* coefficients of a sample are padded with zeros to a multiple of this */
    OVERREAD = 4 * TAP_BLOCK    /* bytes behind a source row that resample_rows may read (their coefficient is zero) */
};

struct tap_span {
    int first; /* source sample of the first coefficient */
    int taps;
};

struct resample_axis {
    int count;              /* output samples */
    int stride;             /* coefficients stored for each, a multiple of TAP_BLOCK */
    struct tap_span *spans; /* (count), `first` does not decrease */
    int32_t *coefficients;  /* (count, stride) */
};

/* The passes; every version gives the same bytes. */
struct resample_kernels {
    /* Along rows, for `channels` 1 or 3. Reads up to OVERREAD bytes behind each source row. */
    void (*rows)(const struct resample_axis *axis, int channels, const uint8_t *in, /* (rows, in_width, channels) */
                 size_t in_row_bytes, int rows, uint8_t *out /* (rows, axis->count, channels), no gaps */);

    /* Across rows: one output row out of `taps` source rows. Coefficients are padded as in an axis. */
    void (*columns)(const int32_t *coefficients, int taps, const uint8_t *in, /* (taps, bytes) */
                    size_t in_row_bytes, uint8_t *out, /* (bytes) */ size_t bytes);
};

const struct resample_kernels *resample_kernels_reference(void);
const struct resample_kernels *resample_kernels_fastest(void); /* that this processor runs */

#endif
