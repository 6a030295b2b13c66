/* winograd4x4_small.c - winograd4x4 for so few channels (16 or 32 in, up to 64 out) that the transforms, not the weights, decide.
 *
 * Transformed weights U of 16 > 16 channels are 37 KB, of 32 > 32 147 KB: small enough for L2, so they are packed as they are used.
 * Then nothing forces tiles into large sets. A set is one block of registers, 14 tiles x 1 vector of outputs or 7 x 2 (AVX2: 6 x 2), and
 * its V and M, 32 KB, stay in L1, where a tile's transforms take 35 ns instead of 100. Where the block is all of the outputs, and as
 * wide as the inputs, M takes V's place point by point:
 *
 *     for each set:      V = B^T d B of its tiles            36 points x tiles x in_channels
 *         for each point:    M = V U, over V                 sums in registers over all input channels
 *         outputs = A^T M A, bias, residual, relu
 *
 * U streams from L2 once a set: 3.5 to 7 cycles of products for each of its lines.
 */
#include "cpu/isa/sizes.h"
#include "cpu/isa/winograd_tile.h"

enum {
    MAX_OUTPUTS = 64,
    SET_FLOATS = 14 * 16, /* sums of a set: tiles x lanes of a block, with AVX-512 */
};

struct blocking {
    int tile_rows, tile_columns, tile_count; /* of an image, of all images */
    int vectors, block_count;                /* of outputs: of a block; blocks */
    int set_tiles, set_count;
    bool in_place;                                      /* M over V */
    int64_t point_weights, input_floats, worker_floats; /* U of a block's point, V, V and M */
};

static struct blocking block(const struct conv_shape *s)
{
    struct blocking b = {.tile_rows = divide_up(s->out_height, WINOGRAD_OUT), .tile_columns = divide_up(s->out_width, WINOGRAD_OUT)};

    b.tile_count = s->batch * b.tile_rows * b.tile_columns;
    b.vectors = smaller(vec_count(s->out_channels), BLOCK_VECTORS);
    b.block_count = divide_up(vec_count(s->out_channels), b.vectors);
    b.set_tiles = smaller(ROWS, SET_FLOATS / (b.vectors * VEC_WIDTH));
    b.set_count = divide_up(b.tile_count, b.set_tiles);
    b.in_place = b.block_count == 1 && b.vectors * VEC_WIDTH == s->in_channels;
    b.point_weights = (int64_t)s->in_channels * b.vectors * VEC_WIDTH;
    b.input_floats = (int64_t)WINOGRAD_POINTS * b.set_tiles * s->in_channels;
    b.worker_floats = b.input_floats + (b.in_place ? 0 : (int64_t)WINOGRAD_POINTS * b.set_tiles * b.vectors * VEC_WIDTH);
    return b;
}

static bool supports(const struct conv_shape *s)
{
    return s->kernel == 3 && s->stride == 1 && s->dilation == 1 && s->groups == 1 && s->source_count == 1
           && (s->in_channels == 16 || s->in_channels == 32) && s->out_channels <= MAX_OUTPUTS;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    struct blocking b = block(s);
    return (size_t)(b.block_count * WINOGRAD_POINTS * b.point_weights) * sizeof(float);
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    return (size_t)(block(s).worker_floats * threads) * sizeof(float);
}

/* Microseconds, of the clock that conv_direct's estimate counts with. */
static double cost(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s);
    double vectors = b.block_count * b.vectors;
    double cycles = 0.6 * WINOGRAD_POINTS * s->in_channels * vectors + 100.0 * vec_count(s->in_channels) + 80.0 * vectors;
    return cycles * b.set_count * b.set_tiles / 2500.0 / threads;
}

static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, 3, 3) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)                                    /* (blocks)(points)(in_channels)(lanes of the block) */
{
    struct blocking b = block(s);
    int width = b.vectors * VEC_WIDTH;

    for (int index = 0; index < b.block_count; index++)
        for (int i = 0; i < s->in_channels; i++) {
            float taps[TAPS * BLOCK];
            for (int tap = 0; tap < TAPS; tap++)
                for (int lane = 0; lane < width; lane++) {
                    int o = index * width + lane;
                    taps[tap * width + lane] =
                        o < s->out_channels ? weight[((int64_t)o * s->in_channels + i) * TAPS + tap] * scale[o] : 0.0f;
                }
            for (int row = 0; row < WINOGRAD_IN; row++)
                for (int v = 0; v < b.vectors; v++) {
                    vec u[WINOGRAD_IN];
                    float *out = (float *)packed + (int64_t)(index * WINOGRAD_POINTS + row * WINOGRAD_IN) * b.point_weights
                                 + (int64_t)i * width + v * VEC_WIDTH;
                    weight_row(taps, v * VEC_WIDTH, width, u, row, false);
                    for (int x = 0; x < WINOGRAD_IN; x++)
                        vec_store(out + x * b.point_weights, u[x]);
                }
        }
}

/* M = V U at every point: in (points, rows, channels), out (points, rows, width). */
ALWAYS_INLINE void multiply_points(const float *in, const float *weight, float *out, const int rows, const int vectors, const int channels)
{
    const int width = vectors * VEC_WIDTH;

    for (int point = 0; point < WINOGRAD_POINTS; point++, in += rows * channels, out += rows * width) {
        vec sum[ROWS][BLOCK_VECTORS];
        UNROLL(14)
        for (int r = 0; r < rows; r++) {
            UNROLL(2)
            for (int v = 0; v < vectors; v++)
                sum[r][v] = vec_zero();
        }
        for (int i = 0; i < channels; i += TERMS_AT_ONCE, weight += TERMS_AT_ONCE * width) {
            UNROLL(2)
            for (int c = 0; c < TERMS_AT_ONCE; c++) {
                vec w[BLOCK_VECTORS];
                UNROLL(2)
                for (int v = 0; v < vectors; v++)
                    w[v] = vec_load(weight + c * width + v * VEC_WIDTH);
                UNROLL(14)
                for (int r = 0; r < rows; r++) {
                    vec x = vec_all(in[r * channels + i + c]);
                    UNROLL(2)
                    for (int v = 0; v < vectors; v++)
                        sum[r][v] = vec_fma(x, w[v], sum[r][v]);
                }
            }
        }
        UNROLL(14)
        for (int r = 0; r < rows; r++) {
            UNROLL(2)
            for (int v = 0; v < vectors; v++)
                vec_store(out + r * width + v * VEC_WIDTH, sum[r][v]);
        }
    }
}

typedef void points_function(const float *in, const float *weight, float *out);

#define POINTS_FUNCTION(vectors, channels)                                                                                                 \
    static void points_##vectors##x##channels(const float *in, const float *weight, float *out)                                            \
    {                                                                                                                                      \
        const int fit = SET_FLOATS / ((vectors)*VEC_WIDTH);                                                                                \
        multiply_points(in, weight, out, fit < ROWS ? fit : ROWS, vectors, channels);                                                      \
    }
POINTS_FUNCTION(1, 16)
POINTS_FUNCTION(1, 32)
POINTS_FUNCTION(2, 16)
POINTS_FUNCTION(2, 32)

static points_function *const points_functions[BLOCK_VECTORS][2] = {{points_1x16, points_1x32}, {points_2x16, points_2x32}};

struct small_job {
    struct blocking blocking;
    const struct conv_call *call;
};

static void go_to_next_tile(const struct blocking *b, struct tile *tile)
{
    tile->x += WINOGRAD_OUT;
    if (tile->x == b->tile_columns * WINOGRAD_OUT) {
        tile->x = 0;
        tile->y += WINOGRAD_OUT;
    }
    if (tile->y == b->tile_rows * WINOGRAD_OUT) {
        tile->y = 0;
        tile->image++;
    }
}

/* A task is a set. In the last one tiles may be missing; what is computed in their place is dropped. */
static void small_task(void *context, int task, int worker)
{
    const struct small_job *job = context;
    const struct blocking *b = &job->blocking;
    const struct conv_call *call = job->call;
    const struct conv_shape *s = call->shape;
    int first = task * b->set_tiles, tiles = smaller(b->tile_count - first, b->set_tiles), width = b->vectors * VEC_WIDTH;
    float *input = (float *)call->scratch + worker * b->worker_floats, *products = b->in_place ? input : input + b->input_floats;
    int64_t in_stride = (int64_t)b->set_tiles * s->in_channels, out_stride = (int64_t)b->set_tiles * width;
    const struct tile first_tile = tile_in_order(b->tile_rows, b->tile_columns, first);
    struct tile tile = first_tile;

    for (int i = 0; i < tiles; i++, go_to_next_tile(b, &tile))
        transform_tile(call, &tile, 0, 0, s->in_channels, input + (int64_t)i * s->in_channels, WINOGRAD_IN * in_stride, in_stride);
    for (int index = 0; index < b->block_count; index++) {
        const float *weight = (const float *)call->packed + index * WINOGRAD_POINTS * b->point_weights;
        int channels = smaller(s->out_channels - index * width, width);
        points_functions[b->vectors - 1][s->in_channels / 16 - 1](input, weight, products);
        tile = first_tile;
        for (int i = 0; i < tiles; i++, go_to_next_tile(b, &tile))
            finish_tile(call, &tile, index * width, channels, products + (int64_t)i * width, out_stride);
    }
}

static void run(const struct conv_call *call)
{
    struct small_job job = {.blocking = block(call->shape), .call = call};
    thread_pool_run(call->pool, small_task, &job, job.blocking.set_count);
}

static double products(const struct conv_shape *s)
{
    return (double)block(s).tile_count * WINOGRAD_POINTS * s->in_channels * s->out_channels;
}

extern const struct conv_kernel ISA_NAME(winograd4x4_small);

const struct conv_kernel ISA_NAME(winograd4x4_small) = {
    .name = KERNEL_NAME("winograd4x4_small"),
    .winograd = true,
    .products = products,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
