/* winograd4x4.c - dense 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3): a quarter of the multiplications.
 *
 * The output is cut into tiles of 4 x 4 pixels; a tile needs 6 x 6 input pixels, overlapping its neighbours by two. With the
 * transforms of winograd_transform.h the convolution becomes 36 independent matrix products, one for each point p:
 *
 *     M[p] (tiles x out_channels) = V[p] (tiles x in_channels) * U[p] (in_channels x out_channels)
 *
 * V are the transformed inputs, U the transformed weights; M is transformed back, then bias, residual and relu follow.
 *
 * What bounds it. One input channel and one vector of outputs cost 36 T / 2 cycles of FMAs for T tiles (two a cycle). They use
 * 36 vectors of U, four times the bytes of the nine taps: read from DRAM at the 2 to 6 bytes a cycle that a core gets, U would
 * cost 400 cycles and more, which the FMAs of a 14x14 map (T = 16: 288 cycles) do not hide. So the packed weights are the plain
 * taps, and are transformed when they are used: some 60 operations and 36 stores, 70 to 200 cycles as the stores hit L1 or not.
 *
 * Blocking. The unit is a step: the six points of one row, a chunk of 32 input channels, two vectors of outputs. Its U (24 KB
 * with AVX-512, 12 KB with AVX2) is written and used at once. The step adds V * U to M in register blocks of ROWS tiles x
 * BLOCK_VECTORS vectors: AVX-512 14 x 2 sums + 2 weights + 1 broadcast = 31 of 32 registers, AVX2 6 x 2 + 2 + 1 = 15 of 16. A
 * block costs 14 x 32 = 448 cycles of FMAs, 30 for reading and writing its 28 sums. Going row by row keeps the sums in use few (6 of 36
 * points: 19 KB for 25 tiles). A set of tiles is so large that its V (4608 bytes a tile and chunk) stays in L2.
 *
 * Two ways to share the work. Where there are many tiles, a task is a set of tiles and does everything for it ("by tiles").
 * Where the map is small and the weights are what must be read, all threads transform the inputs to one V first, then a task
 * is a block of output channels, so that every weight is read and transformed once ("by channels").
 *
 * winograd4x4_half stores the taps in float16, which halves what is read from memory where a map is so small that this is
 * what takes the time; the arithmetic is float32.
 */
#include "cpu/conv.h"
#include "cpu/isa/winograd_transform.h"

enum {
    CHUNK = 32,
    BLOCK_VECTORS = 2,
    BLOCK = BLOCK_VECTORS * VEC_WIDTH,
    ROWS = VEC_REGISTERS == 32 ? 14 : 6,
    TAPS = 9,
    POINT_FLOATS = CHUNK * BLOCK + 2 * CHUNK,   /* of U: a point of a step, and a gap so that points do not lie 2 KB apart */
    WEIGHT_FLOATS = WINOGRAD_IN * POINT_FLOATS, /* U of a step */
    ALIGNMENT = 64
};

/* A run of at most CHUNK input channels of one source. */
struct chunk {
    int source, first, count;
};

struct blocking {
    int tile_rows, tile_columns, tile_count; /* of an image, of all images */
    int chunk_count;                         /* of input channels */
    int vector_count, block_count;           /* of output channels */
    bool by_tiles;
    int set_tiles, set_count;
    double cycles;                                                     /* estimate, of the thread that has most to do */
    int64_t table_floats, input_floats, product_floats, worker_floats; /* scratch: chunk table, V, M, all of a worker's */
};

static int divide_up(int a, int b)
{
    return (a + b - 1) / b;
}

static int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Floats of V for a tile. */
static int64_t tile_floats(const struct blocking *b)
{
    return (int64_t)WINOGRAD_POINTS * CHUNK * b->chunk_count;
}

/* Weights are float, or float16 where `half`; `at` counts elements. */
ALWAYS_INLINE vec load_weight(const void *weight, int64_t at, bool half)
{
#ifndef VEC_NO_HALF
    if (half)
        return vec_load_half((const uint16_t *)weight + at);
#endif
    (void)half;
    return vec_load((const float *)weight + at);
}

ALWAYS_INLINE void store_weight(void *weight, int64_t at, vec v, bool half)
{
#ifndef VEC_NO_HALF
    if (half) {
        vec_store_half((uint16_t *)weight + at, v);
        return;
    }
#endif
    (void)half;
    vec_store((float *)weight + at, v);
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* The estimate for sets of `tiles` tiles. Constants: cycles measured on a Cascade Lake core (1 MB of L2). */
static double estimate(const struct blocking *b, const struct conv_shape *s, int threads, bool by_tiles, int tiles)
{
    enum { L2_BYTES = 512 * 1024 }; /* that V and M may fill beside weights and maps */
    const double l3_cycles_a_line = 1.5, weights = 12.0 * VEC_WIDTH, transforms = 300.0;
    int parts = divide_up(tiles, ROWS), sets = divide_up(b->tile_count, tiles);
    double products = (double)WINOGRAD_POINTS * (0.53 * tiles + 0.6 * parts); /* of an input channel and a vector of outputs */
    double outputs = (products + weights) * BLOCK_VECTORS * s->in_channels;   /* of a block, all input channels */
    double input = transforms * tiles * b->chunk_count * CHUNK / VEC_WIDTH;
    double input_bytes = (double)tile_floats(b) * tiles * sizeof(float);

    if (input_bytes + (double)WINOGRAD_POINTS * tiles * BLOCK * sizeof(float) > L2_BYTES)
        outputs += input_bytes / 64.0 * l3_cycles_a_line;
    outputs += transforms * BLOCK_VECTORS * tiles;
    if (by_tiles)
        return divide_up(sets, threads) * (input + b->block_count * outputs);
    return sets * (input / threads + divide_up(b->block_count, threads) * outputs + 10000.0); /* two waits for all threads */
}

static struct blocking block(const struct conv_shape *s, int threads)
{
    struct blocking b = {
        .tile_rows = divide_up(s->out_height, WINOGRAD_OUT),
        .tile_columns = divide_up(s->out_width, WINOGRAD_OUT),
        .vector_count = vec_count(s->out_channels),
        .block_count = divide_up(s->out_channels, BLOCK),
    };

    b.tile_count = s->batch * b.tile_rows * b.tile_columns;
    for (int source = 0; source < s->source_count; source++)
        b.chunk_count += divide_up(s->source_channels[source], CHUNK);

    for (int sets = 1; sets <= b.tile_count; sets += sets < 16 ? 1 : sets / 8) {
        int tiles = divide_up(b.tile_count, sets);
        for (int by_tiles = 0; by_tiles < 2; by_tiles++) {
            double cycles = estimate(&b, s, threads, by_tiles, tiles);
            if (b.cycles == 0.0 || cycles < b.cycles) {
                b.cycles = cycles;
                b.by_tiles = by_tiles;
                b.set_tiles = tiles;
            }
        }
    }
    b.set_count = divide_up(b.tile_count, b.set_tiles);
    b.table_floats = round_up(b.chunk_count * (int64_t)sizeof(struct chunk), ALIGNMENT) / (int64_t)sizeof(float);
    b.input_floats = tile_floats(&b) * b.set_tiles;
    b.product_floats = (int64_t)WINOGRAD_POINTS * b.set_tiles * BLOCK;
    b.worker_floats = WEIGHT_FLOATS + b.product_floats + (b.by_tiles ? b.input_floats : 0);
    return b;
}

static bool supports(const struct conv_shape *s)
{
    return s->kernel == 3 && s->stride == 1 && s->dilation == 1 && s->groups == 1;
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s, threads);
    return (size_t)(b.table_floats + (b.by_tiles ? 0 : b.input_floats) + threads * b.worker_floats) * sizeof(float);
}

static size_t packed_weights(const struct conv_shape *s)
{
    return (size_t)vec_count(s->out_channels) * VEC_WIDTH * TAPS * (size_t)s->in_channels;
}

/* Microseconds. Weights that come from memory may take longer than the arithmetic. Half precision must earn its rounding.
 * The estimate above ranks ways of blocking, in cycles that include waits; conv_direct's are of arithmetic alone.
 * Measured side by side, conv_direct took 1.2 to 2 times as long on every such layer of dla34, from 224x224x16 to 7x7x512, and
 * the scale makes the estimates say so too. */
static double cost_as(const struct conv_shape *s, int threads, bool half)
{
    const double megahertz = 2500.0, bytes_a_microsecond = 12000.0, scale = 0.55;
    double arithmetic = scale * block(s, threads).cycles / megahertz;
    double memory = (double)packed_weights(s) * (half ? sizeof(uint16_t) : sizeof(float)) / bytes_a_microsecond;

    return larger(arithmetic, memory) * (half ? 1.03 : 1.0);
}

/* Packed weights: (blocks of outputs)(in_channels, 3, 3)(lanes of the block), as float or float16. */
static void pack_as(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, 3, 3) */
                    const float *scale,                              /* (out_channels) */
                    void *packed, bool half)
{
    int vectors = vec_count(s->out_channels);
    int64_t at = 0;

    for (int vector = 0; vector < vectors; vector += BLOCK_VECTORS)
        for (int i = 0; i < s->in_channels; i++)
            for (int tap = 0; tap < TAPS; tap++)
                for (int v = vector; v < vector + BLOCK_VECTORS && v < vectors; v++, at += VEC_WIDTH) {
                    float lanes[VEC_WIDTH];
                    for (int lane = 0; lane < VEC_WIDTH; lane++) {
                        int o = v * VEC_WIDTH + lane;
                        lanes[lane] = o < s->out_channels ? weight[((int64_t)o * s->in_channels + i) * TAPS + tap] * scale[o] : 0.0f;
                    }
                    store_weight(packed, at, vec_load(lanes), half);
                }
}

struct winograd_job {
    struct blocking blocking;
    const struct conv_call *call;
    bool half;                  /* the packed weights are float16 */
    const struct chunk *chunks; /* (chunk_count) */
    float *input;               /* V by channels */
    float *workers;
    int set;   /* by channels: the one at hand */
    int parts; /* by channels: tasks that share the chunks of a tile */
};

/* Where a tile lies. */
struct tile {
    int image, y, x; /* of its first output */
};

static struct tile tile_at(const struct blocking *b, int index)
{
    int in_image = index % (b->tile_rows * b->tile_columns);
    return (struct tile){.image = index / (b->tile_rows * b->tile_columns),
                         .y = in_image / b->tile_columns * WINOGRAD_OUT,
                         .x = in_image % b->tile_columns * WINOGRAD_OUT};
}

/* Rows [top, bottom) and columns [left, right) of a tile's inputs that lie inside the map. */
struct window {
    int top, bottom, left, right;
};

/* B^T d B for one vector of channels. `in` is the tile's first pixel, which need not exist; `out` point 0 of the tile in V. */
ALWAYS_INLINE void transform_input(const float *in, int64_t row_stride, int64_t pixel_stride, const struct window *inside, int lanes,
                                   float *out, int64_t row_points, int64_t point_stride, const bool simple)
{
    vec half[WINOGRAD_IN][WINOGRAD_IN];

#pragma GCC unroll 6
    for (int x = 0; x < WINOGRAD_IN; x++) {
        vec d[WINOGRAD_IN], v[WINOGRAD_IN];
        bool column = simple || (x >= inside->left && x < inside->right);
#pragma GCC unroll 6
        for (int y = 0; y < WINOGRAD_IN; y++) {
            const float *pixel = in + y * row_stride + x * pixel_stride;
            if (simple)
                d[y] = vec_load(pixel);
            else if (column && y >= inside->top && y < inside->bottom)
                d[y] = lanes == VEC_WIDTH ? vec_load(pixel) : vec_load_first(pixel, lanes);
            else
                d[y] = vec_zero();
        }
        winograd_input_line(d, v);
#pragma GCC unroll 6
        for (int y = 0; y < WINOGRAD_IN; y++)
            half[y][x] = v[y];
    }
#pragma GCC unroll 6
    for (int y = 0; y < WINOGRAD_IN; y++) {
        vec v[WINOGRAD_IN];
        winograd_input_line(half[y], v);
#pragma GCC unroll 6
        for (int x = 0; x < WINOGRAD_IN; x++)
            vec_store(out + y * row_points + x * point_stride, v[x]);
    }
}

/* V[chunk][point][tile of the set][16] for one tile and some chunks. */
static void transform_tile(const struct winograd_job *job, int tile_index, int first_chunk, int last_chunk, float *input)
{
    const struct blocking *b = &job->blocking;
    const struct conv_shape *s = job->call->shape;
    struct tile tile = tile_at(b, tile_index);
    int y = tile.y - s->padding, x = tile.x - s->padding;
    struct window inside = {
        .top = y < 0 ? -y : 0,
        .bottom = s->in_height - y,
        .left = x < 0 ? -x : 0,
        .right = s->in_width - x,
    };
    bool whole = inside.top == 0 && inside.left == 0 && inside.bottom >= WINOGRAD_IN && inside.right >= WINOGRAD_IN;
    int64_t point_stride = (int64_t)b->set_tiles * CHUNK, row_points = b->chunk_count * WINOGRAD_IN * point_stride;

    for (int c = first_chunk; c < last_chunk; c++) {
        const struct chunk *chunk = &job->chunks[c];
        const struct map_view *map = &job->call->sources[chunk->source];
        int64_t pixel = ((int64_t)tile.image * s->in_height + y) * s->in_width + x;
        const float *in = map->data + pixel * map->pixel_stride + chunk->first;
        float *out = input + (int64_t)c * WINOGRAD_IN * point_stride + tile_index % b->set_tiles * CHUNK;
        for (int lane = 0; lane < chunk->count; lane += VEC_WIDTH) {
            int lanes = chunk->count - lane < VEC_WIDTH ? chunk->count - lane : VEC_WIDTH;
            if (whole && lanes == VEC_WIDTH)
                transform_input(in + lane, s->in_width * map->pixel_stride, map->pixel_stride, &inside, lanes, out + lane, row_points,
                                point_stride, true);
            else
                transform_input(in + lane, s->in_width * map->pixel_stride, map->pixel_stride, &inside, lanes, out + lane, row_points,
                                point_stride, false);
        }
    }
}

/* Row `row` of G g G^T for `count` input channels: weight (count, 9, width) from `at` on to U[point of the row][channel][width].
 * The points of a row need one combination of the three weights above each other, then the points along it. */
ALWAYS_INLINE void transform_weights(const void *weight, int64_t at, int count, float *out, const int row, const int vectors,
                                     const bool half)
{
    const int width = vectors * VEC_WIDTH;

    for (int i = 0; i < count; i++, at += TAPS * width, out += width)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            int64_t g = at + v * VEC_WIDTH;
            vec column[3], u[WINOGRAD_IN];
#pragma GCC unroll 3
            for (int x = 0; x < 3; x++) {
                vec all[WINOGRAD_IN];
                winograd_weight_line(load_weight(weight, g + x * width, half), load_weight(weight, g + (3 + x) * width, half),
                                     load_weight(weight, g + (6 + x) * width, half), all);
                column[x] = all[row]; /* the compiler drops the others, and loads that only they need */
            }
            winograd_weight_line(column[0], column[1], column[2], u);
#pragma GCC unroll 6
            for (int x = 0; x < WINOGRAD_IN; x++)
                vec_store(out + x * POINT_FLOATS + v * VEC_WIDTH, u[x]);
        }
}

typedef void weights_function(const void *weight, int64_t at, int count, float *out);

#define WEIGHTS(row, vectors)                                                                                                              \
    static void weights_##row##x##vectors(const void *weight, int64_t at, int count, float *out)                                           \
    {                                                                                                                                      \
        transform_weights(weight, at, count, out, row, vectors, false);                                                                    \
    }                                                                                                                                      \
    static void weights_half_##row##x##vectors(const void *weight, int64_t at, int count, float *out)                                      \
    {                                                                                                                                      \
        transform_weights(weight, at, count, out, row, vectors, true);                                                                     \
    }
#define WEIGHTS_ROW(row) WEIGHTS(row, 1) WEIGHTS(row, 2)
#define WEIGHTS_ENTRY(row)                                                                                                                 \
    {                                                                                                                                      \
        {weights_##row##x1, weights_##row##x2},                                                                                            \
        {                                                                                                                                  \
            weights_half_##row##x1, weights_half_##row##x2                                                                                 \
        }                                                                                                                                  \
    }
WEIGHTS_ROW(0)
WEIGHTS_ROW(1)
WEIGHTS_ROW(2)
WEIGHTS_ROW(3)
WEIGHTS_ROW(4)
WEIGHTS_ROW(5)

static weights_function *const weights_functions[WINOGRAD_IN][2][BLOCK_VECTORS] = {
    WEIGHTS_ENTRY(0), WEIGHTS_ENTRY(1), WEIGHTS_ENTRY(2), WEIGHTS_ENTRY(3), WEIGHTS_ENTRY(4), WEIGHTS_ENTRY(5),
};

/* One step's sums at one point for some tiles: out (rows, width) += in (rows, CHUNK) * weight (count, width). `rows` and `vectors`
 * are constants at every call, so that `sum` lives in registers. */
ALWAYS_INLINE void multiply(const float *in, const float *weight, int count, float *out, bool first, const int rows, const int vectors)
{
    vec sum[ROWS][BLOCK_VECTORS];
    const int width = vectors * VEC_WIDTH;
    const float *end = in + count, *next = in + rows * CHUNK;

#pragma GCC unroll 14
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vec_zero();
    do {
        vec w[BLOCK_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            w[v] = vec_load(weight + v * VEC_WIDTH);
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            vec x = vec_all(in[r * CHUNK]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[r][v] = vec_fma(x, w[v], sum[r][v]);
        }
        __builtin_prefetch(next); /* V is read in the order of its layout: a line with each channel fetches what the next call reads */
        next += CHUNK / 2;
        in++;
        weight += width;
    } while (in < end);
    if (first) {
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                vec_store(out + r * width + v * VEC_WIDTH, sum[r][v]);
    } else {
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                vec_store(out + r * width + v * VEC_WIDTH, sum[r][v] + vec_load(out + r * width + v * VEC_WIDTH));
    }
}

typedef void product_function(const float *in, const float *weight, int count, float *out, bool first);

#define PRODUCT(rows, vectors)                                                                                                             \
    static void multiply_##rows##x##vectors(const float *in, const float *weight, int count, float *out, bool first)                       \
    {                                                                                                                                      \
        multiply(in, weight, count, out, first, rows, vectors);                                                                            \
    }
#define PRODUCTS(rows) PRODUCT(rows, 1) PRODUCT(rows, 2)
#define PRODUCT_ENTRY(rows)                                                                                                                \
    {                                                                                                                                      \
        multiply_##rows##x1, multiply_##rows##x2                                                                                           \
    }
PRODUCTS(1)
PRODUCTS(2)
PRODUCTS(3)
PRODUCTS(4)
PRODUCTS(5)
PRODUCTS(6)
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
PRODUCTS(7)
PRODUCTS(8)
PRODUCTS(9)
PRODUCTS(10)
PRODUCTS(11)
PRODUCTS(12)
PRODUCTS(13)
PRODUCTS(14)
#endif

static product_function *const product_functions[ROWS][BLOCK_VECTORS] = {
    PRODUCT_ENTRY(1),  PRODUCT_ENTRY(2),  PRODUCT_ENTRY(3), PRODUCT_ENTRY(4),  PRODUCT_ENTRY(5),  PRODUCT_ENTRY(6),
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
    PRODUCT_ENTRY(7),  PRODUCT_ENTRY(8),  PRODUCT_ENTRY(9), PRODUCT_ENTRY(10), PRODUCT_ENTRY(11), PRODUCT_ENTRY(12),
    PRODUCT_ENTRY(13), PRODUCT_ENTRY(14),
#endif
};

/* A^T m A for one vector of channels, then bias, residual and relu. `m` is the tile's point 0 in M. */
ALWAYS_INLINE void transform_output(const float *m, int64_t point_stride, vec bias, const float *residual, int64_t residual_row,
                                    int64_t residual_pixel, float *out, int64_t out_row, int64_t out_pixel, int rows, int columns,
                                    int lanes, bool relu, const bool whole)
{
    vec half[WINOGRAD_OUT][WINOGRAD_IN];

#pragma GCC unroll 6
    for (int x = 0; x < WINOGRAD_IN; x++) {
        vec in[WINOGRAD_IN], y[WINOGRAD_OUT];
#pragma GCC unroll 6
        for (int i = 0; i < WINOGRAD_IN; i++)
            in[i] = vec_load(m + (i * WINOGRAD_IN + x) * point_stride);
        winograd_output_line(in, y);
#pragma GCC unroll 4
        for (int i = 0; i < WINOGRAD_OUT; i++)
            half[i][x] = y[i];
    }
    vec floor = relu ? vec_zero() : vec_all(-__builtin_inff());
#pragma GCC unroll 4
    for (int y = 0; y < WINOGRAD_OUT; y++) {
        vec line[WINOGRAD_OUT];
        if (!whole && y >= rows)
            break;
        winograd_output_line(half[y], line);
#pragma GCC unroll 4
        for (int x = 0; x < WINOGRAD_OUT; x++) {
            if (!whole && x >= columns)
                break;
            vec result = line[x] + bias;
            if (residual) {
                const float *add = residual + y * residual_row + x * residual_pixel;
                result = result + (whole ? vec_load(add) : vec_load_first(add, lanes));
            }
            result = vec_max(result, floor);
            float *to = out + y * out_row + x * out_pixel;
            if (whole)
                vec_store(to, result);
            else
                vec_store_first(to, result, lanes);
        }
    }
}

static void finish_tile(const struct winograd_job *job, int tile_index, int first_out, int channels, const float *m, int64_t point_stride)
{
    const struct conv_call *call = job->call;
    const struct conv_shape *s = call->shape;
    struct tile tile = tile_at(&job->blocking, tile_index);
    int rows = s->out_height - tile.y < WINOGRAD_OUT ? s->out_height - tile.y : WINOGRAD_OUT;
    int columns = s->out_width - tile.x < WINOGRAD_OUT ? s->out_width - tile.x : WINOGRAD_OUT;
    int64_t pixel = ((int64_t)tile.image * s->out_height + tile.y) * s->out_width + tile.x;
    int64_t out_pixel = call->out.pixel_stride, residual_pixel = call->residual.pixel_stride;

    for (int lane = 0; lane < channels; lane += VEC_WIDTH) {
        int lanes = channels - lane < VEC_WIDTH ? channels - lane : VEC_WIDTH;
        float *out = call->out.data + pixel * out_pixel + first_out + lane;
        const float *residual = call->residual.data ? call->residual.data + pixel * residual_pixel + first_out + lane : NULL;
        vec bias = vec_load_first(call->bias + first_out + lane, lanes);
        if (rows == WINOGRAD_OUT && columns == WINOGRAD_OUT && lanes == VEC_WIDTH)
            transform_output(m + lane, point_stride, bias, residual, s->out_width * residual_pixel, residual_pixel, out,
                             s->out_width * out_pixel, out_pixel, rows, columns, lanes, call->relu, true);
        else
            transform_output(m + lane, point_stride, bias, residual, s->out_width * residual_pixel, residual_pixel, out,
                             s->out_width * out_pixel, out_pixel, rows, columns, lanes, call->relu, false);
    }
}

/* One block of output channels for the tiles of a set. */
static void run_block(const struct winograd_job *job, const float *input, float *worker, int set, int index)
{
    const struct blocking *b = &job->blocking;
    float *weights = worker, *products = worker + WEIGHT_FLOATS;
    int first_tile = set * b->set_tiles, tiles = b->tile_count - first_tile < b->set_tiles ? b->tile_count - first_tile : b->set_tiles;
    int first = index * BLOCK, outputs = job->call->shape->out_channels;
    int channels = outputs - first < BLOCK ? outputs - first : BLOCK;
    int vectors = vec_count(channels), width = vectors * VEC_WIDTH;
    int parts = divide_up(tiles, ROWS), longer = divide_up(tiles, parts), longer_parts = tiles - parts * (longer - 1);
    int64_t point_stride = (int64_t)b->set_tiles * CHUNK;

    for (int row = 0; row < WINOGRAD_IN; row++) {
        const float *v = input + (int64_t)row * b->chunk_count * WINOGRAD_IN * point_stride;
        int64_t weight = (int64_t)first * TAPS * job->call->shape->in_channels; /* of the chunk, in elements */
        for (int c = 0; c < b->chunk_count; c++) {
            int count = job->chunks[c].count;
            float *out = products + (int64_t)row * WINOGRAD_IN * tiles * width;
            weights_functions[row][job->half][vectors - 1](job->call->packed, weight, count, weights);
            weight += (int64_t)count * TAPS * width;
            for (int x = 0; x < WINOGRAD_IN; x++, v += point_stride) {
                const float *in = v;
                for (int part = 0; part < parts; part++) {
                    int rows = part < longer_parts ? longer : longer - 1;
                    product_functions[rows - 1][vectors - 1](in, weights + x * POINT_FLOATS, count, out, c == 0);
                    in += rows * CHUNK;
                    out += rows * width;
                }
            }
        }
    }
    for (int tile = 0; tile < tiles; tile++)
        finish_tile(job, first_tile + tile, first, channels, products + tile * width, (int64_t)tiles * width);
}

static void by_tiles_task(void *context, int task, int worker)
{
    const struct winograd_job *job = context;
    const struct blocking *b = &job->blocking;
    float *memory = job->workers + worker * b->worker_floats;
    float *input = memory + WEIGHT_FLOATS + b->product_floats;
    int last = (task + 1) * b->set_tiles < b->tile_count ? (task + 1) * b->set_tiles : b->tile_count;

    for (int tile = task * b->set_tiles; tile < last; tile++)
        transform_tile(job, tile, 0, b->chunk_count, input);
    for (int index = 0; index < b->block_count; index++)
        run_block(job, input, memory, task, index);
}

static void input_task(void *context, int task, int worker)
{
    const struct winograd_job *job = context;
    const struct blocking *b = &job->blocking;
    int part = task % job->parts;

    (void)worker;
    transform_tile(job, job->set * b->set_tiles + task / job->parts, b->chunk_count * part / job->parts,
                   b->chunk_count * (part + 1) / job->parts, job->input);
}

static void channels_task(void *context, int task, int worker)
{
    const struct winograd_job *job = context;
    const struct blocking *b = &job->blocking;

    run_block(job, job->input, job->workers + worker * b->worker_floats, job->set, task);
}

static void fill_chunks(const struct conv_shape *s, struct chunk *chunks /* (chunk_count) */)
{
    for (int source = 0; source < s->source_count; source++)
        for (int first = 0, left = s->source_channels[source]; left > 0; first += CHUNK, left -= CHUNK)
            *chunks++ = (struct chunk){.source = source, .first = first, .count = left < CHUNK ? left : CHUNK};
}

static void run_job(const struct conv_call *call, bool half)
{
    struct winograd_job job = {.blocking = block(call->shape, thread_pool_size(call->pool)), .call = call, .half = half};
    const struct blocking *b = &job.blocking;
    float *scratch = call->scratch;

    fill_chunks(call->shape, (struct chunk *)call->scratch);
    job.chunks = (const struct chunk *)call->scratch;
    if (b->by_tiles) {
        job.workers = scratch + b->table_floats;
        thread_pool_run(call->pool, by_tiles_task, &job, b->set_count);
        return;
    }
    job.input = scratch + b->table_floats;
    job.workers = job.input + b->input_floats;
    for (job.set = 0; job.set < b->set_count; job.set++) {
        int first = job.set * b->set_tiles, tiles = b->tile_count - first < b->set_tiles ? b->tile_count - first : b->set_tiles;
        job.parts = divide_up(64, tiles) < b->chunk_count ? divide_up(64, tiles) : b->chunk_count;
        thread_pool_run(call->pool, input_task, &job, tiles * job.parts);
        thread_pool_run(call->pool, channels_task, &job, b->block_count);
    }
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return packed_weights(s) * sizeof(float);
}

static void pack(const struct conv_shape *s, const float *weight, const float *scale, void *packed)
{
    pack_as(s, weight, scale, packed, false);
}

static double cost(const struct conv_shape *s, int threads)
{
    return cost_as(s, threads, false);
}

static void run(const struct conv_call *call)
{
    run_job(call, false);
}

extern const struct conv_kernel ISA_NAME(winograd4x4);

const struct conv_kernel ISA_NAME(winograd4x4) = {
    .name = KERNEL_NAME("winograd4x4"),
    .winograd = 4,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};

#ifndef VEC_NO_HALF

static size_t packed_bytes_half(const struct conv_shape *s)
{
    return packed_weights(s) * sizeof(uint16_t);
}

static void pack_half(const struct conv_shape *s, const float *weight, const float *scale, void *packed)
{
    pack_as(s, weight, scale, packed, true);
}

static double cost_half(const struct conv_shape *s, int threads)
{
    return cost_as(s, threads, true);
}

static void run_half(const struct conv_call *call)
{
    run_job(call, true);
}

extern const struct conv_kernel ISA_NAME(winograd4x4_half);

const struct conv_kernel ISA_NAME(winograd4x4_half) = {
    .name = KERNEL_NAME("winograd4x4_half"),
    .winograd = 4,
    .half = true,
    .supports = supports,
    .packed_bytes = packed_bytes_half,
    .pack = pack_half,
    .scratch_bytes = scratch_bytes,
    .cost = cost_half,
    .run = run_half,
};

#endif
