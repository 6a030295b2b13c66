/* winograd7x7.c - the 7x7 convolution of stride 1 over the few channels of an image, with which every network begins, by Winograd's
 * F(4x4, 4x4): a quarter of the multiplications.
 *
 * Along one side, seven taps are two filters of four taps, the second of which begins four inputs later and ends in a zero. Its
 * inputs for the outputs of tile t are then the first one's for tile t + 1:
 *
 *     inputs     .  .  .  [0  1  2  3  4  5  6]            seven inputs, beginning every four, are evaluated at seven points once:
 *                             [4  5  6  7  8  9 10]        v[t], v[t + 1]
 *     outputs of tile t = A^T (u[0] v[t] + u[1] v[t + 1])
 *
 * In two dimensions that is a 2 x 2 convolution over tiles at each of 49 points: 196 products an input channel for 16 outputs, where
 * the sum over the window has 784. The three maps (see winograd_transform.h for what they are) use the points +-a, +-b, +-c and
 * infinity, which make all of them sums and differences of an even and an odd part. Weights are transformed when they are packed:
 * there are but 37 KB of them. With a = 1/4, b = 7/8, c = 2 all constants are exact, and the error is twice that of F(4x4, 3x3).
 *
 * A task is a strip of rows of tiles. For each row of tiles, four more rows of the image are copied to planes of one channel, split by
 * column modulo 4, so that neighbouring tiles are neighbours in memory (planes); then columns are transformed (columns), then rows, to
 *
 *     V[parity of the row of tiles][block of TILES tiles][point][channel][16 tiles]
 *
 * where a block's row of 16 holds the block and the tile after it. Sums of a block at one point stay in registers: 14 sums + 2
 * weights + 1 broadcast, which serves two FMAs; AVX2 has 8 sums. Image to planes, columns and V together take a tenth of the time.
 */
#include "cpu/conv.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/winograd_store.h"

#include <math.h>

enum {
    KERNEL = 7,
    OUT = 4, /* outputs a side of a tile, and inputs from tile to tile */
    IN = 7,  /* inputs a side, and points */
    POINTS = IN * IN,
    PARTS = 2,      /* filters of OUT taps along a side */
    MAX_INPUTS = 4, /* channels */
    TILES = VEC_REGISTERS == 32 ? 14 : 8,
    LINE = 16,           /* floats: a block of tiles and the one after it */
    ROW_SLOTS = 8,       /* rows of the image that are kept: IN, a power of two */
    MIN_STRIP = 4,       /* rows of tiles a task; each task transforms one more */
    TASKS_PER_THREAD = 4 /* so that one that was held up can be helped */
};

#define A 0.25f
#define B 0.875f
#define C 2.0f

/* What does not depend on a call's data. Sizes in floats. */
struct blocking {
    int tile_rows, tile_columns, block_count; /* blocks of a row of tiles */
    int strip_rows, strip_count;              /* of an image, in rows of tiles */
    int side;                                 /* of a plane: tiles of a row, with what the last block reads beyond */
    int64_t row_floats;                       /* of the image: (channels, OUT, side) */
    int64_t input_floats;                     /* of V: a row of tiles */
    int64_t worker_floats;
};

static struct blocking block(const struct conv_shape *s, int threads)
{
    struct blocking b = {.tile_rows = divide_up(s->out_height, OUT), .tile_columns = divide_up(s->out_width, OUT)};
    int strips = divide_up(TASKS_PER_THREAD * threads, s->batch);

    b.block_count = divide_up(b.tile_columns, TILES);
    b.strip_rows = divide_up(b.tile_rows, smaller(strips, divide_up(b.tile_rows, MIN_STRIP)));
    b.strip_count = divide_up(b.tile_rows, b.strip_rows);
    b.side = divide_up((b.block_count - 1) * TILES + LINE + 1, LINE) * LINE;
    b.row_floats = (int64_t)s->in_channels * OUT * b.side;
    b.input_floats = (int64_t)b.block_count * POINTS * s->in_channels * LINE;
    b.worker_floats = (ROW_SLOTS + IN) * b.row_floats + PARTS * b.input_floats + POINTS * TILES * VEC_WIDTH;
    return b;
}

static bool supports(const struct conv_shape *s)
{
    return s->kernel == KERNEL && s->stride == 1 && s->dilation == 1 && s->groups == 1 && s->source_count == 1
           && s->in_channels <= MAX_INPUTS;
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
    double tiles = (double)s->batch * b.tile_rows * b.block_count * TILES;
    double cycles = vec_count(s->out_channels) * (0.55 * POINTS * PARTS * PARTS * s->in_channels + 200.0);
    return tiles * cycles / 2500.0 / threads;
}

/* G: tap k at finite point p counts p^k / product_{q != p} (p - q); at infinity there is the last tap alone. */
static void weight_line(const double g[OUT], double u[IN])
{
    const double points[IN - 1] = {(double)A, (double)-A, (double)B, (double)-B, (double)C, (double)-C};

    for (int i = 0; i < IN - 1; i++) {
        double factor = 1.0, power = 1.0;
        for (int k = 0; k < IN - 1; k++)
            factor *= k == i ? 1.0 : points[i] - points[k];
        u[i] = 0.0;
        for (int k = 0; k < OUT; k++, power *= points[i])
            u[i] += g[k] * power / factor;
    }
    u[IN - 1] = g[OUT - 1];
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

/* ---- from the image to V ----------------------------------------------------------------------------------------------- */

/* Points in the order a, -a, b, -b, c, -c, infinity. c(+-a) = (x +- a) (x^4 - (b^2 + c^2) x^2 + b^2 c^2), and so on. */
ALWAYS_INLINE void input_pair(const vec d[IN], const float p, const float sum, const float product, vec *plus, vec *minus)
{
    vec even = vec_fma(vec_all(product), d[0], vec_fnma(vec_all(sum), d[2], d[4]));
    vec odd = vec_fma(vec_all(product), d[1], vec_fnma(vec_all(sum), d[3], d[5]));
    *plus = vec_fma(vec_all(p), even, odd);
    *minus = vec_fnma(vec_all(p), even, odd);
}

ALWAYS_INLINE void input_line(const vec d[IN], vec v[IN])
{
    input_pair(d, A, B * B + C * C, B * B * C * C, &v[0], &v[1]);
    input_pair(d, B, A * A + C * C, A * A * C * C, &v[2], &v[3]);
    input_pair(d, C, A * A + B * B, A * A * B * B, &v[4], &v[5]);
    v[6] = vec_fnma(
        vec_all(A * A * B * B * C * C), d[0],
        vec_fma(vec_all(A * A * B * B + A * A * C * C + B * B * C * C), d[2], vec_fnma(vec_all(A * A + B * B + C * C), d[4], d[6])));
}

/* Column `column` of a row of an image, counted with its padding, lies at [channel][column % OUT][column / OUT] of its planes. */
ALWAYS_INLINE void split_pixels(const float *in, int64_t pixel_stride, int first, int last, float *restrict row, int side,
                                const int channels)
{
    for (int group = first; group < last; group++, in += OUT * pixel_stride)
        for (int x = 0; x < OUT; x++)
            for (int i = 0; i < channels; i++)
                row[(i * OUT + x) * side + group] = in[x * pixel_stride + i];
}

/* One row of an image to its planes (channels, OUT, side). Padding in them is zero already, but for whole rows outside the image. */
static void split_row(const struct conv_call *call, const struct blocking *b, int image, int y, float *row)
{
    const struct conv_shape *s = call->shape;
    int64_t stride = call->sources[0].pixel_stride;
    const float *in = call->sources[0].data + ((int64_t)image * s->in_height + y) * s->in_width * stride;
    int begin = s->padding, end = smaller(s->in_width + s->padding, b->side * OUT); /* columns */
    int first = divide_up(begin, OUT), last = end / OUT;                            /* whole groups of OUT columns */

    if (y < 0 || y >= s->in_height) {
        memset(row, 0, (size_t)b->row_floats * sizeof(float));
        return;
    }
    for (int column = begin; column < end; column++) {
        if (column == first * OUT && last > first)
            column = last * OUT;
        for (int i = 0; i < s->in_channels && column < end; i++)
            row[(i * OUT + column % OUT) * b->side + column / OUT] = in[(column - begin) * stride + i];
    }
    in += (first * OUT - begin) * stride;
    if (s->in_channels == 3) /* what it nearly always is */
        split_pixels(in, stride, first, last, row, b->side, 3);
    else
        split_pixels(in, stride, first, last, row, b->side, s->in_channels);
}

/* Columns of one row of tiles, of which `planes` holds the image's rows from slot `first` on: columns (IN, channels, OUT, side). */
static void transform_columns(const struct blocking *b, const float *planes, int first, float *columns)
{
    const float *rows[IN];

    for (int i = 0; i < IN; i++)
        rows[i] = planes + (first + i) % ROW_SLOTS * b->row_floats;
    for (int64_t at = 0; at < b->row_floats; at += VEC_WIDTH) {
        vec d[IN], v[IN];
        UNROLL(7)
        for (int i = 0; i < IN; i++)
            d[i] = vec_load(rows[i] + at);
        input_line(d, v);
        UNROLL(7)
        for (int i = 0; i < IN; i++)
            vec_store(columns + i * b->row_floats + at, v[i]);
    }
}

/* V of a row of tiles: (blocks, POINTS, channels, LINE). */
static void transform_rows(const struct blocking *b, int channels, const float *columns, float *input)
{
    for (int index = 0; index < b->block_count; index++)
        for (int y = 0; y < IN; y++)
            for (int i = 0; i < channels; i++)
                for (int lane = 0; lane < LINE; lane += VEC_WIDTH) {
                    const float *in = columns + y * b->row_floats + (int64_t)i * OUT * b->side + index * TILES + lane;
                    float *out = input + (((int64_t)index * POINTS + y * IN) * channels + i) * LINE + lane;
                    vec d[IN], v[IN];
                    UNROLL(7)
                    for (int x = 0; x < IN; x++)
                        d[x] = vec_load(in + (int64_t)(x % OUT) * b->side + x / OUT);
                    input_line(d, v);
                    UNROLL(7)
                    for (int x = 0; x < IN; x++)
                        vec_store(out + (int64_t)x * channels * LINE, v[x]);
                }
}

/* ---- from V to the result ---------------------------------------------------------------------------------------------- */

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
ALWAYS_INLINE void transform_output(const float *m, const struct tile_output *to, const bool whole)
{
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
        if (!whole && y >= to->rows)
            break;
        output_line(half[y], line);
        store_line(to, y, line, OUT, whole);
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

/* The rows of a strip's tiles one after the other; `row` counts them, and one more, whose V the last one needs. */
static void stem_task(void *context, int task, int worker)
{
    const struct stem_job *job = context;
    const struct blocking *b = &job->blocking;
    const struct conv_call *call = job->call;
    const struct conv_shape *s = call->shape;
    int image = task / b->strip_count, first_row = task % b->strip_count * b->strip_rows;
    int rows = smaller(b->tile_rows - first_row, b->strip_rows);
    float *planes = (float *)call->scratch + worker * b->worker_floats, *columns = planes + ROW_SLOTS * b->row_floats;
    float *input = columns + IN * b->row_floats, *products = input + PARTS * b->input_floats;
    int y = first_row * OUT - s->padding, filled = 0; /* first row of the image; rows of it in `planes` */

    memset(planes, 0, (size_t)(ROW_SLOTS * b->row_floats) * sizeof(float));
    for (int row = 0; row <= rows; row++) {
        for (; filled < row * OUT + IN; filled++)
            split_row(call, b, image, y + filled, planes + filled % ROW_SLOTS * b->row_floats);
        transform_columns(b, planes, row * OUT, columns);
        transform_rows(b, s->in_channels, columns, input + row % PARTS * b->input_floats);
        for (int index = 0; row > 0 && index < b->block_count; index++) {
            int64_t at = (int64_t)index * POINTS * s->in_channels * LINE;
            const float *upper = input + (row - 1) % PARTS * b->input_floats + at, *lower = input + row % PARTS * b->input_floats + at;
            int tiles = smaller(b->tile_columns - index * TILES, TILES);
            for (int v = 0; v < vec_count(s->out_channels); v++) {
                block_functions[s->in_channels - 1](upper, lower, (const float *)call->packed + v * vector_weights(s), products);
                finish_block(call, image, first_row + row - 1, index * TILES, tiles, v * VEC_WIDTH, products);
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
