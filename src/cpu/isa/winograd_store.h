/* winograd_store.h - the end of a Winograd tile of at most 4 x 4 outputs: bias, residual, relu, and into the map. */
#ifndef DLA_CPU_ISA_WINOGRAD_STORE_H
#define DLA_CPU_ISA_WINOGRAD_STORE_H

#include "cpu/conv.h"
#include "cpu/isa/vector.h"

/* Where the results of a tile go: its first pixel, how far rows and pixels are apart, how much of it exists. */
struct tile_output {
    float *out;
    int64_t out_row, out_pixel;
    const float *residual; /* or NULL */
    int64_t residual_row, residual_pixel;
    int rows, columns, lanes;
    vec bias, floor;
};

/* For tiles of so many rows and lanes, channels from `channel` on; place_output says which. */
static inline struct tile_output output_of(const struct conv_call *call, int channel, int rows, int lanes)
{
    return (struct tile_output){
        .out_row = call->shape->out_width * call->out.pixel_stride,
        .out_pixel = call->out.pixel_stride,
        .residual_row = call->shape->out_width * call->residual.pixel_stride,
        .residual_pixel = call->residual.pixel_stride,
        .rows = rows,
        .lanes = lanes,
        .bias = vec_load_first(call->bias + channel, lanes),
        .floor = vec_all(call->relu ? 0.0f : -__builtin_inff()),
    };
}

/* The tile whose first output is `pixel`, counted over rows and images. */
static inline void place_output(struct tile_output *to, const struct conv_call *call, int64_t pixel, int channel, int columns)
{
    to->columns = columns;
    to->out = call->out.data + pixel * to->out_pixel + channel;
    to->residual = call->residual.data ? call->residual.data + pixel * to->residual_pixel + channel : NULL;
}

/* Row y of a tile, `columns` of it at most. `whole`: all of them, and all lanes, exist. `to` is the caller's own copy: a store of vectors
 * may change anything else in memory, and its fields would be read again after each. */
ALWAYS_INLINE void store_line(const struct tile_output *to, int y, vec *line /* (columns) */, const int columns, const bool whole)
{
    UNROLL(4)
    for (int x = 0; x < columns; x++)
        line[x] += to->bias;
    if (to->residual) {
        const float *residual = to->residual + y * to->residual_row;
        UNROLL(4)
        for (int x = 0; x < columns; x++) {
            if (!whole && x >= to->columns)
                break;
            line[x] += whole ? vec_load(residual + x * to->residual_pixel) : vec_load_first(residual + x * to->residual_pixel, to->lanes);
        }
    }
    float *out = to->out + y * to->out_row;
    UNROLL(4)
    for (int x = 0; x < columns; x++) {
        if (!whole && x >= to->columns)
            break;
        vec result = vec_max(line[x], to->floor);
        if (whole)
            vec_store(out + x * to->out_pixel, result);
        else
            vec_store_first(out + x * to->out_pixel, result, to->lanes);
    }
}

#endif
