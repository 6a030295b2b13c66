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

/* Row y of a tile, `columns` of it at most. `whole`: all of them, and all lanes, exist. */
ALWAYS_INLINE void store_line(const struct tile_output *to, int y, const vec *line /* (columns) */, const int columns, const bool whole)
{
    UNROLL(4)
    for (int x = 0; x < columns; x++) {
        if (!whole && x >= to->columns)
            break;
        vec result = line[x] + to->bias;
        if (to->residual) {
            const float *add = to->residual + y * to->residual_row + x * to->residual_pixel;
            result = result + (whole ? vec_load(add) : vec_load_first(add, to->lanes));
        }
        result = vec_max(result, to->floor);
        float *out = to->out + y * to->out_row + x * to->out_pixel;
        if (whole)
            vec_store(out, result);
        else
            vec_store_first(out, result, to->lanes);
    }
}

#endif
