/* conv_stem.c - the 7x7 convolution of stride 1 over the few channels of an image, with which every network begins, as plain sums
 * of products: for --exact. winograd7x7.c takes 40 % of its time.
 *
 * There is one vector of outputs or two, so a register tile that broadcasts an input for one FMA would need a load for every FMA:
 * as many as the processor can do. Here the seven taps of a window's row stay in registers, and an input, once broadcast, serves all
 * the outputs of the row that see it:
 *
 *     for window row ky, input channel i:   seven taps to registers
 *         for input x of the tile's row:    sum[x - kx] += in[ky][x][i] * tap[kx]  for the kx with an output in the tile
 *
 * 16 pixels: 16 sums + 7 taps + 1 broadcast = 24 of 32 registers; 112 FMAs (56 cycles) with 22 + 7 loads. Each sum waits for the
 * one before, 7 x 4 cycles, so 14 sums are needed to keep two FMA units busy: too many for the 16 registers of AVX2, where
 * conv_direct's tile of 6 pixels x 2 vectors, two thirds of a load an FMA, does better.
 *
 * Inputs are copied, some rows at a time, to scratch with real zeros around them: 28 KB for four output rows of 224 pixels and
 * three channels, which stay in L1 together with the 9 KB of weights.
 */
#include "cpu/conv.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/vector.h"

#include <math.h>

enum { KERNEL = 7, MAX_INPUTS = 4, PIXELS = 16, STRIP_ROWS = 4, STRIP_IN_ROWS = STRIP_ROWS + KERNEL - 1, CACHE_LINE = 64 };

static bool supports(const struct conv_shape *s)
{
    return MANY_REGISTERS && s->kernel == KERNEL && s->stride == 1 && s->dilation == 1 && s->groups == 1 && s->source_count == 1
           && s->in_channels <= MAX_INPUTS;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return (size_t)(vec_count(s->out_channels) * VEC_WIDTH * KERNEL * KERNEL * s->in_channels) * sizeof(float);
}

static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, 7, 7) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)                                    /* (vectors)(window rows)(in_channels)(window columns)(lanes) */
{
    float *out = packed;

    for (int first = 0; first < s->out_channels; first += VEC_WIDTH)
        for (int ky = 0; ky < KERNEL; ky++)
            for (int i = 0; i < s->in_channels; i++)
                for (int kx = 0; kx < KERNEL; kx++)
                    for (int o = first; o < first + VEC_WIDTH; o++)
                        *out++ = o < s->out_channels ? weight[((o * s->in_channels + i) * KERNEL + ky) * KERNEL + kx] * scale[o] : 0.0f;
}

/* Floats of a row of a strip: whole tiles, and what their windows see beside them. */
static int64_t row_floats(const struct conv_shape *s)
{
    return (int64_t)(divide_up(s->out_width, PIXELS) * PIXELS + KERNEL - 1) * s->in_channels;
}

static int64_t worker_floats(const struct conv_shape *s)
{
    int64_t floats = STRIP_IN_ROWS * row_floats(s), line = CACHE_LINE / (int64_t)sizeof(float);
    return (floats + line - 1) / line * line;
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    return (size_t)(worker_floats(s) * threads) * sizeof(float);
}

static double cost(const struct conv_shape *s, int threads)
{
    double products = (double)s->batch * s->out_height * divide_up(s->out_width, PIXELS) * PIXELS * vec_count(s->out_channels) * KERNEL
                      * KERNEL * s->in_channels;
    double products_a_microsecond = 2.0 * 0.9 * 2500.0;
    return products / products_a_microsecond / threads;
}

/* Sums of PIXELS outputs of a row for one vector of channels. `in` is what the window of the first sees first. */
ALWAYS_INLINE void sum_tile(const float *in, int64_t row_stride, const float *weight, vec bias, vec sum[PIXELS], const int inputs)
{
    UNROLL(16)
    for (int p = 0; p < PIXELS; p++)
        sum[p] = bias;
    for (int ky = 0; ky < KERNEL; ky++, in += row_stride) {
#pragma GCC unroll 1
        for (int i = 0; i < inputs; i++, weight += KERNEL * VEC_WIDTH) {
            vec tap[KERNEL];
            UNROLL(7)
            for (int kx = 0; kx < KERNEL; kx++)
                tap[kx] = vec_load(weight + kx * VEC_WIDTH);
            UNROLL(22)
            for (int x = 0; x < PIXELS + KERNEL - 1; x++) {
                vec value = vec_all(in[x * inputs + i]);
                UNROLL(7)
                for (int kx = 0; kx < KERNEL; kx++)
                    if (x - kx >= 0 && x - kx < PIXELS)
                        sum[x - kx] = vec_fma(value, tap[kx], sum[x - kx]);
            }
        }
    }
}

typedef void tile_function(const float *in, int64_t row_stride, const float *weight, vec bias, vec sum[PIXELS]);

#define TILE(inputs)                                                                                                                       \
    static void tile_##inputs(const float *in, int64_t row_stride, const float *weight, vec bias, vec sum[PIXELS])                         \
    {                                                                                                                                      \
        vec in_registers[PIXELS];                                                                                                          \
        sum_tile(in, row_stride, weight, bias, in_registers, inputs);                                                                      \
        for (int p = 0; p < PIXELS; p++)                                                                                                   \
            sum[p] = in_registers[p];                                                                                                      \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)

static tile_function *const tile_functions[MAX_INPUTS] = {tile_1, tile_2, tile_3, tile_4};

/* The input rows that output rows from first_row on see, with zeros where there is no input: strip (STRIP_IN_ROWS, row_floats). */
static void fill_strip(const struct conv_call *call, int image, int first_row, float *strip)
{
    const struct conv_shape *s = call->shape;
    const struct map_view *map = &call->sources[0];
    int64_t stride = row_floats(s);

    for (int row = 0; row < STRIP_IN_ROWS; row++, strip += stride) {
        int y = first_row + row - s->padding;
        int64_t end = 0;
        if (y >= 0 && y < s->in_height) {
            const float *in = map->data + ((int64_t)image * s->in_height + y) * s->in_width * map->pixel_stride;
            for (; end < (int64_t)s->padding * s->in_channels; end++)
                strip[end] = 0.0f;
            for (int x = 0; x < s->in_width && end + s->in_channels <= stride; x++, in += map->pixel_stride)
                for (int i = 0; i < s->in_channels; i++)
                    strip[end++] = in[i];
        }
        for (; end < stride; end++)
            strip[end] = 0.0f;
    }
}

struct stem_job {
    const struct conv_call *call;
};

static void stem_task(void *context, int task, int worker)
{
    const struct conv_call *call = ((const struct stem_job *)context)->call;
    const struct conv_shape *s = call->shape;
    int strips = divide_up(s->out_height, STRIP_ROWS), vectors = vec_count(s->out_channels);
    int image = task / strips, first_row = task % strips * STRIP_ROWS;
    int rows = s->out_height - first_row < STRIP_ROWS ? s->out_height - first_row : STRIP_ROWS;
    int64_t row_stride = row_floats(s);
    float *strip = (float *)call->scratch + worker * worker_floats(s);
    vec floor = vec_all(call->relu ? 0.0f : -INFINITY);

    fill_strip(call, image, first_row, strip);
    for (int row = 0; row < rows; row++)
        for (int x = 0; x < s->out_width; x += PIXELS)
            for (int v = 0; v < vectors; v++) {
                vec sum[PIXELS];
                int lanes = s->out_channels - v * VEC_WIDTH < VEC_WIDTH ? s->out_channels - v * VEC_WIDTH : VEC_WIDTH;
                int pixels = s->out_width - x < PIXELS ? s->out_width - x : PIXELS;
                int64_t pixel = ((int64_t)image * s->out_height + first_row + row) * s->out_width + x;
                const float *weight = (const float *)call->packed + (int64_t)v * KERNEL * KERNEL * s->in_channels * VEC_WIDTH;
                tile_functions[s->in_channels - 1](strip + row * row_stride + (int64_t)x * s->in_channels, row_stride, weight,
                                                   vec_load_first(call->bias + v * VEC_WIDTH, lanes), sum);
                for (int p = 0; p < pixels; p++) {
                    vec result = sum[p];
                    if (call->residual.data)
                        result =
                            result + vec_load_first(call->residual.data + (pixel + p) * call->residual.pixel_stride + v * VEC_WIDTH, lanes);
                    vec_store_first(call->out.data + (pixel + p) * call->out.pixel_stride + v * VEC_WIDTH, vec_max(floor, result), lanes);
                }
            }
}

static void run(const struct conv_call *call)
{
    struct stem_job job = {.call = call};
    thread_pool_run(call->pool, stem_task, &job, call->shape->batch * divide_up(call->shape->out_height, STRIP_ROWS));
}

extern const struct conv_kernel ISA_NAME(conv_stem);

const struct conv_kernel ISA_NAME(conv_stem) = {
    .name = KERNEL_NAME("stem7x7"),
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
