/* winograd7x7.c - the 7x7 convolution of stride 1 over the few channels of an image, with which every network begins, by Winograd's
 * F(4x4, 4x4): a quarter of the multiplications.
 *
 * In two dimensions it is a 2 x 2 convolution over tiles at each of 49 points (winograd7x7_input.h): 196 products an input channel for 16
 * outputs, where the sum over the window has 784. Weights are transformed when they are packed: there are but 37 KB of them.
 *
 * A task is a strip of rows of tiles. Sums of a block of tiles at one point stay in registers: 14 sums + 2 weights + 1 broadcast, which
 * serves two FMAs; AVX2 has 8 sums. Image to planes, columns and V together take a tenth of the time.
 */
#include "cpu/isa/winograd7x7_input.h"
#include "cpu/isa/winograd_store.h"

#include <math.h>

enum {
    MIN_STRIP = 4,       /* rows of tiles a task; each task transforms one more */
    TASKS_PER_THREAD = 4 /* so that one that was held up can be helped */
};

/* What does not depend on a call's data. */
struct blocking {
    struct tile_grid grid;
    int strip_rows, strip_count; /* of an image, in rows of tiles */
    int64_t worker_floats;
};

static struct blocking block(const struct conv_shape *s, int threads)
{
    struct blocking b = {.grid = grid_of(s)};
    int strips = divide_up(TASKS_PER_THREAD * threads, s->batch), rows = b.grid.tile_rows;

    b.strip_rows = divide_up(rows, smaller(strips, divide_up(rows, MIN_STRIP)));
    b.strip_count = divide_up(rows, b.strip_rows);
    b.worker_floats = b.grid.scratch_floats + POINTS * TILES * VEC_WIDTH;
    return b;
}

static bool supports(const struct conv_shape *s)
{
    return has_7x7_tiles(s) && s->source_count == 1;
}

static int64_t vector_weights(const struct conv_shape *s)
{
    return (int64_t)POINTS * PARTS * PARTS * s->in_channels * VEC_WIDTH;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return (size_t)(vec_count(s->out_channels) * vector_weights(s)) * sizeof(float);
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    return (size_t)(block(s, threads).worker_floats * threads) * sizeof(float);
}

/* Microseconds, of the clock that conv_direct's estimate counts with: FMAs, and some 200 cycles for the transforms of a tile. */
static double cost(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s, threads);
    double tiles = (double)s->batch * b.grid.tile_rows * b.grid.block_count * TILES;
    double cycles = vec_count(s->out_channels) * (0.55 * POINTS * PARTS * PARTS * s->in_channels + 200.0);
    return tiles * cycles / 2500.0 / threads;
}

/* u = G g. */
static void weight_line(const double g[OUT], double u[IN])
{
    double factors[IN][OUT];

    tap_factors(factors);
    for (int i = 0; i < IN; i++) {
        u[i] = 0.0;
        for (int k = 0; k < OUT; k++)
            u[i] += g[k] * factors[i][k];
    }
}

/* G g G^T of the part of a window that begins at tap (y, x). */
static void transform_weights(const float *window, /* (7, 7) */
                              int y, int x, double u[IN][IN])
{
    double half[OUT][IN];

    for (int i = 0; i < OUT; i++) {
        double g[OUT];
        for (int k = 0; k < OUT; k++)
            g[k] = y + i < KERNEL && x + k < KERNEL ? (double)window[(y + i) * KERNEL + x + k] : 0.0;
        weight_line(g, half[i]);
    }
    for (int column = 0; column < IN; column++) {
        double g[OUT], line[IN];
        for (int i = 0; i < OUT; i++)
            g[i] = half[i][column];
        weight_line(g, line);
        for (int i = 0; i < IN; i++)
            u[i][column] = line[i];
    }
}

static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, 7, 7) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)                                    /* (vectors)(points)(part in y)(in_channels)(part in x)(lanes) */
{
    float *out = packed;

    memset(packed, 0, packed_bytes(s));
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < s->in_channels; i++)
            for (int part = 0; part < PARTS * PARTS; part++) {
                double u[IN][IN];
                int y = part / PARTS, x = part % PARTS;
                transform_weights(weight + ((int64_t)o * s->in_channels + i) * KERNEL * KERNEL, y * OUT, x * OUT, u);
                for (int point = 0; point < POINTS; point++) {
                    int64_t at = (((int64_t)point * PARTS + y) * s->in_channels + i) * PARTS + x;
                    out[o / VEC_WIDTH * vector_weights(s) + at * VEC_WIDTH + o % VEC_WIDTH] =
                        (float)(u[point / IN][point % IN] * (double)scale[o]);
                }
            }
}

/* Sums of a block at one point for one vector of outputs: M (TILES, lanes). `upper` and `lower` are V of two rows of tiles. */
ALWAYS_INLINE void multiply(const float *upper, const float *lower, const float *weight, float *out, const int inputs)
{
    vec sum[TILES];

    UNROLL(14)
    for (int t = 0; t < TILES; t++)
        sum[t] = vec_zero();
    for (int y = 0; y < PARTS; y++) {
        const float *in = y == 0 ? upper : lower;
        for (int i = 0; i < inputs; i++, in += LINE, weight += PARTS * VEC_WIDTH) {
            vec left = vec_load(weight), right = vec_load(weight + VEC_WIDTH);
            UNROLL(15)
            for (int t = 0; t <= TILES; t++) {
                vec value = vec_all(in[t]);
                if (t < TILES)
                    sum[t] = vec_fma(value, left, sum[t]);
                if (t > 0)
                    sum[t - 1] = vec_fma(value, right, sum[t - 1]);
            }
        }
    }
    UNROLL(14)
    for (int t = 0; t < TILES; t++)
        vec_store(out + t * VEC_WIDTH, sum[t]);
}

/* All points of a block. */
ALWAYS_INLINE void multiply_block(const float *upper, const float *lower, const float *weight, float *out, const int inputs)
{
    for (int point = 0; point < POINTS; point++) {
        multiply(upper, lower, weight, out, inputs);
        upper += inputs * LINE;
        lower += inputs * LINE;
        weight += PARTS * PARTS * inputs * VEC_WIDTH;
        out += TILES * VEC_WIDTH;
    }
}

typedef void block_function(const float *upper, const float *lower, const float *weight, float *out);

#define BLOCK_FUNCTION(inputs)                                                                                                             \
    static void multiply_block_##inputs(const float *upper, const float *lower, const float *weight, float *out)                           \
    {                                                                                                                                      \
        multiply_block(upper, lower, weight, out, inputs);                                                                                 \
    }
BLOCK_FUNCTION(1)
BLOCK_FUNCTION(2)
BLOCK_FUNCTION(3)
BLOCK_FUNCTION(4)

static block_function *const block_functions[MAX_INPUTS] = {multiply_block_1, multiply_block_2, multiply_block_3, multiply_block_4};

ALWAYS_INLINE void output_line(const vec m[IN], vec y[OUT])
{
    vec even_a = m[0] + m[1], odd_a = m[0] - m[1];
    vec even_b = m[2] + m[3], odd_b = m[2] - m[3];
    vec even_c = m[4] + m[5], odd_c = m[4] - m[5];

    y[0] = even_a + even_b + even_c;
    y[1] = vec_fma(vec_all(C), odd_c, vec_fma(vec_all(B), odd_b, vec_all(A) * odd_a));
    y[2] = vec_fma(vec_all(C * C), even_c, vec_fma(vec_all(B * B), even_b, vec_all(A * A) * even_a));
    y[3] = vec_fma(vec_all(C * C * C), odd_c, vec_fma(vec_all(B * B * B), odd_b, vec_fma(vec_all(A * A * A), odd_a, m[6])));
}

/* A^T m A, then bias, residual and relu. `m` is the tile's point 0 in M. `whole`: all of the outputs and lanes exist. */
ALWAYS_INLINE void transform_output(const float *m, const struct tile_output *place, const bool whole)
{
    const struct tile_output to = *place;
    vec half[OUT][IN];

    UNROLL(7)
    for (int x = 0; x < IN; x++) {
        vec in[IN], y[OUT];
        UNROLL(7)
        for (int i = 0; i < IN; i++)
            in[i] = vec_load(m + (i * IN + x) * TILES * VEC_WIDTH);
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

/* Results of the tiles of a block for one vector of outputs. */
static void finish_block(const struct conv_call *call, int image, int tile_row, int first_tile, int tiles, int channel, const float *m)
{
    const struct conv_shape *s = call->shape;
    int lanes = smaller(s->out_channels - channel, VEC_WIDTH), rows = smaller(s->out_height - tile_row * OUT, OUT);
    struct tile_output to = output_of(call, channel, rows, lanes);

    for (int t = 0; t < tiles; t++) {
        int64_t x = (int64_t)(first_tile + t) * OUT, pixel = ((int64_t)image * s->out_height + tile_row * OUT) * s->out_width + x;
        int columns = smaller(s->out_width - (int)x, OUT);
        place_output(&to, call, pixel, channel, columns);
        if (rows == OUT && columns == OUT && lanes == VEC_WIDTH)
            transform_output(m + t * VEC_WIDTH, &to, true);
        else
            transform_output(m + t * VEC_WIDTH, &to, false);
    }
}

struct stem_job {
    struct blocking blocking;
    const struct conv_call *call;
};

/* The rows of a strip's tiles one after the other, and V of one more, which the last one needs. */
static void stem_task(void *context, int task, int worker)
{
    const struct stem_job *job = context;
    const struct blocking *b = &job->blocking;
    const struct tile_grid *g = &b->grid;
    const struct conv_call *call = job->call;
    const struct conv_shape *s = call->shape;
    int image = task / b->strip_count, first_row = task % b->strip_count * b->strip_rows;
    int rows = smaller(g->tile_rows - first_row, b->strip_rows);
    float *scratch = (float *)call->scratch + worker * b->worker_floats, *products = scratch + g->scratch_floats;
    struct input_rows input = start_rows(s, call->sources[0], g, image, first_row, scratch);

    next_row(&input);
    for (int row = 0; row < rows; row++) {
        next_row(&input);
        for (int index = 0; index < g->block_count; index++) {
            int64_t at = (int64_t)index * POINTS * s->in_channels * LINE;
            int tiles = smaller(g->tile_columns - index * TILES, TILES);
            for (int v = 0; v < vec_count(s->out_channels); v++) {
                block_functions[s->in_channels - 1](row_input(&input, row) + at, row_input(&input, row + 1) + at,
                                                    (const float *)call->packed + v * vector_weights(s), products);
                finish_block(call, image, first_row + row, index * TILES, tiles, v * VEC_WIDTH, products);
            }
        }
    }
}

static void run(const struct conv_call *call)
{
    struct stem_job job = {.blocking = block(call->shape, thread_pool_size(call->pool)), .call = call};
    thread_pool_run(call->pool, stem_task, &job, call->shape->batch * job.blocking.strip_count);
}

/* Along a side PARTS filters of IN points for each tile. */
static double products(const struct conv_shape *s)
{
    const double side = PARTS * IN;
    double tiles = (double)s->batch * divide_up(s->out_height, OUT) * divide_up(s->out_width, OUT);
    return tiles * side * side * s->in_channels * s->out_channels;
}

extern const struct conv_kernel ISA_NAME(winograd7x7);

const struct conv_kernel ISA_NAME(winograd7x7) = {
    .name = KERNEL_NAME("winograd7x7"),
    .winograd = true,
    .products = products,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
