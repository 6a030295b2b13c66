/* tile_store.h - the end of a tile of which only a part exists, one element after the other. */
#ifndef DLA_CPU_ISA_TILE_STORE_H
#define DLA_CPU_ISA_TILE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the results of a row of pixels go: its first pixel. */
struct tile_target {
    float *out;
    int64_t out_stride;
    const float *residual; /* or NULL */
    int64_t residual_stride;
    bool relu;
};

/* Those pixels and channels of a tile that exist; bias is in the sums. */
static inline void store_part(const struct tile_target *to, const float *sums /* (pixels, width) */, int width, int pixels, int channels)
{
    for (int p = 0; p < pixels; p++)
        for (int c = 0; c < channels; c++) {
            float sum = sums[p * width + c];
            if (to->residual)
                sum += to->residual[p * to->residual_stride + c];
            to->out[p * to->out_stride + c] = to->relu && sum < 0.0f ? 0.0f : sum;
        }
}

#endif
