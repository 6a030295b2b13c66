/* winograd_stride2.c - dense 3x3 convolution of stride 2 by Winograd's F(4x4, 2x2): 0.56 of the multiplications (winograd_stride2_tile.h,
 * winograd_stride2_product.h).
 */
#include "cpu/isa/winograd_store.h"
#include "cpu/isa/winograd_stride2_product.h"

struct blocking {
    int tile_rows, tile_columns, tile_count; /* of an image, of all images */
    int chunk_count, set_count;
    int64_t input_floats, product_floats; /* of a worker: V, M */
};

static struct blocking block(const struct conv_shape *s)
{
    struct blocking b = {.tile_rows = divide_up(s->out_height, OUT), .tile_columns = divide_up(s->out_width, OUT)};

    b.tile_count = s->batch * b.tile_rows * b.tile_columns;
    b.chunk_count = divide_up(s->in_channels, CHUNK);
    b.set_count = divide_up(b.tile_count, TILES);
    b.input_floats = (int64_t)POINTS * TILES * b.chunk_count * CHUNK;
    b.product_floats = (int64_t)BLOCK_VECTORS * VECTOR_PRODUCTS;
    return b;
}

static int64_t vector_weights(const struct conv_shape *s)
{
    return (int64_t)WEIGHTS * divide_up(s->in_channels, CHUNK) * CHUNK * VEC_WIDTH;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return (size_t)(vec_count(s->out_channels) * vector_weights(s)) * sizeof(float);
}

static bool supports(const struct conv_shape *s)
{
    return has_stride2_tiles(s) && s->source_count == 1 && s->in_channels >= CHUNK && packed_bytes(s) <= MAX_WEIGHT_BYTES;
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s);
    return (size_t)((b.input_floats + b.product_floats) * threads) * sizeof(float);
}

/* Microseconds, of the clock that conv_direct's estimate counts with. */
static double cost(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s);
    double vectors = vec_count(s->out_channels), inputs = b.chunk_count * CHUNK;
    double cycles = 0.6 * POINTS * inputs * vectors + 300.0 * inputs / VEC_WIDTH + 200.0 * vectors;
    return cycles * divide_up(b.set_count, threads) * TILES / 2500.0;
}

static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, 3, 3) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)                                    /* (vectors)(weights)(chunks of in_channels)(lanes) */
{
    int64_t weight_floats = vector_weights(s) / WEIGHTS;
    float *out = packed;

    memset(packed, 0, packed_bytes(s));
    for (int first = 0; first < s->out_channels; first += VEC_WIDTH, out += vector_weights(s))
        for (int i = 0; i < s->in_channels; i++) {
            float taps[TAPS * VEC_WIDTH] = {0.0f};
            for (int lane = 0; lane < VEC_WIDTH && first + lane < s->out_channels; lane++)
                for (int tap = 0; tap < TAPS; tap++)
                    taps[tap * VEC_WIDTH + lane] =
                        weight[((int64_t)(first + lane) * s->in_channels + i) * TAPS + tap] * scale[first + lane];
            put_weights(taps, out + i * VEC_WIDTH, weight_floats);
        }
}

/* ---- inputs ------------------------------------------------------------------------------------------------------------ */

static void transform_whole(const struct tile_inputs *in, int channel, float *out)
{
    transform_input(in->first + channel, in->row_stride, in->pixel_stride, NULL, out, TILES * CHUNK, true);
}

static void transform_part(const struct tile_inputs *in, int channel, float *out)
{
    transform_input(in->first + channel, in->row_stride, in->pixel_stride, &in->inside, out, TILES * CHUNK, false);
}

/* ---- outputs ----------------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void output_line(const vec m[IN], vec y[OUT])
{
    vec even_a = m[0] + m[1], odd_a = m[0] - m[1];
    vec even_b = m[2] + m[3], odd_b = m[2] - m[3];

    y[0] = even_a + even_b + m[5];
    y[1] = vec_fma(vec_all(A), odd_a, vec_fma(vec_all(B), odd_b, m[6]));
    y[2] = vec_fma(vec_all(A * A), even_a, vec_fma(vec_all(B * B), even_b, m[7]));
    y[3] = vec_fma(vec_all(A * A * A), odd_a, vec_fma(vec_all(B * B * B), odd_b, m[4] + m[8]));
}

/* A^T m A, then bias, residual and relu. `m` is the tile's slot 0 in M. `whole`: all of the outputs and lanes exist. */
ALWAYS_INLINE void transform_output(const float *m, const struct tile_output *place, const bool whole)
{
    const struct tile_output to = *place;
    vec half[OUT][IN];

    UNROLL(9)
    for (int x = 0; x < IN; x++) {
        vec in[IN], y[OUT];
        UNROLL(9)
        for (int i = 0; i < IN; i++)
            in[i] = vec_load(m + slot(i, x) * TILES * VEC_WIDTH);
        output_line(in, y);
        UNROLL(4)
        for (int i = 0; i < OUT; i++)
            half[i][x] = y[i];
    }
    UNROLL(4)
    for (int y = 0; y < OUT; y++) {
        vec line[OUT];
        if (!whole && y >= to.rows)
            break;
        output_line(half[y], line);
        store_line(&to, y, line, OUT, whole);
    }
}

static void finish_whole(const float *m, const struct tile_output *to)
{
    transform_output(m, to, true);
}

static void finish_part(const float *m, const struct tile_output *to)
{
    transform_output(m, to, false);
}

/* ---- a set ------------------------------------------------------------------------------------------------------------- */

/* Tiles are passed by number: one that is written in parts and read as a whole would wait for all stores before it. */
static void transform_tile(const struct conv_call *call, const struct blocking *b, int index, float *input)
{
    const struct tile tile = tile_at(b->tile_rows, b->tile_columns, index);
    struct tile_inputs in = inputs_of(call->shape, call->sources[0], &tile);

    for (int channel = 0; channel < b->chunk_count * CHUNK; channel += VEC_WIDTH) {
        float *out = input + (int64_t)(channel / CHUNK) * POINTS * TILES * CHUNK + channel % CHUNK;
        in.inside.lanes = lanes_from(call->shape->in_channels, channel);
        if (in.whole && in.inside.lanes == VEC_WIDTH)
            transform_whole(&in, channel, out);
        else
            transform_part(&in, channel, out);
    }
}

static void finish_tile(const struct conv_call *call, const struct blocking *b, int index, int channel, const float *m)
{
    const struct conv_shape *s = call->shape;
    const struct tile tile = tile_at(b->tile_rows, b->tile_columns, index);
    int rows = smaller(s->out_height - tile.y, OUT), columns = smaller(s->out_width - tile.x, OUT);
    int lanes = smaller(s->out_channels - channel, VEC_WIDTH);
    int64_t pixel = ((int64_t)tile.image * s->out_height + tile.y) * s->out_width + tile.x;
    struct tile_output to = output_of(call, channel, rows, lanes);

    place_output(&to, call, pixel, channel, columns);
    if (rows == OUT && columns == OUT && lanes == VEC_WIDTH)
        finish_whole(m, &to);
    else
        finish_part(m, &to);
}

struct stride2_job {
    struct blocking blocking;
    const struct conv_call *call;
};

/* A task is a set. In the last one tiles may be missing; what is computed in their place is dropped. */
static void stride2_task(void *context, int task, int worker)
{
    const struct stride2_job *job = context;
    const struct blocking *b = &job->blocking;
    const struct conv_call *call = job->call;
    int first = task * TILES, tiles = smaller(b->tile_count - first, TILES);
    float *input = (float *)call->scratch + worker * (b->input_floats + b->product_floats), *products = input + b->input_floats;

    for (int i = 0; i < tiles; i++)
        transform_tile(call, b, first + i, input + (int64_t)i * CHUNK);
    for (int v = 0, done, count = vec_count(call->shape->out_channels); v < count; v += done) {
        done = multiply(input, b->chunk_count, (const float *)call->packed + v * vector_weights(call->shape), products, count - v);
        for (int o = 0; o < done; o++)
            for (int i = 0; i < tiles; i++)
                finish_tile(call, b, first + i, (v + o) * VEC_WIDTH, products + o * VECTOR_PRODUCTS + i * VEC_WIDTH);
    }
}

static void run(const struct conv_call *call)
{
    struct stride2_job job = {.blocking = block(call->shape), .call = call};
    thread_pool_run(call->pool, stride2_task, &job, job.blocking.set_count);
}

static double products(const struct conv_shape *s)
{
    struct blocking b = block(s);
    return (double)b.tile_count * POINTS * b.chunk_count * CHUNK * s->out_channels;
}

extern const struct conv_kernel ISA_NAME(winograd_stride2);

const struct conv_kernel ISA_NAME(winograd_stride2) = {
    .name = KERNEL_NAME("winograd_stride2"),
    .winograd = true,
    .products = products,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
