/* grouped3x3.c - 3x3 convolution with few channels a group (the x-networks and Res2NeXt: 2 to 32), stride 1 and 2.
 *
 * A group of g channels has 9 g products an output. General libraries treat every group as a tiny dense convolution, whose
 * matrices fill no vector. Here a vector of outputs covers VEC_WIDTH / g groups at once: for tap (ky, kx) and member j of
 * the groups,
 *
 *     sum[pixel] += spread(in[pixel's window][tap], j) * weight[tap][j]
 *
 * where spread() gives every lane member j of its own group: a permutation of one vector, or where g >= VEC_WIDTH a broadcast
 * of one float from memory.
 *
 * A spread input serves all outputs whose windows it lies in. A tile is TILE_ROWS x 8, 7 or 4 pixels of one vector of channels; for
 * each of its input rows and each member, at most six weights are loaded (three of each output row that the input row
 * belongs to), then each spread input goes into up to six sums. Stride 1, AVX-512: 2 x 8 sums + 6 weights + permutation + input =
 * 24 of 32 registers, 4 x 10 = 40 spreads for 144 FMAs. Where permutations share a port with one of the two FMA units (Intel),
 * (144 + 40) / 2 = 92 cycles against 72 is the bound, 78 % of the peak; with broadcasts it is 100 %. Stride 2: 5 x 17 spreads
 * for as many FMAs, 63 %. 8 columns divide the maps that come of images of 128 or 256 pixels, 7 those of 224. With 16 registers a tile
 * is one row: 8 sums + 3 weights + permutation + input = 13, and all of its sums take part in every row of inputs. (Of 2 x 4 sums, half
 * wait for themselves while the first and the last row pass.)
 *
 * Tiles at the left and right edge have code of their own, which neither reads nor multiplies padding. Weights of a task
 * (BLOCK_BYTES) stay in L1. Where a group fills vectors, each line of its inputs is read VEC_WIDTH times and more; in a map whose
 * pixels lie a multiple of 2 KB apart (a planner's do not) they would evict each other from L1, and are first copied to a compact
 * panel. So are the inputs of tiles that hang over an edge by more than the padding. Groups that fill vectors have the most weights
 * and the fewest pixels: meanwhile the next block's weights are prefetched. With 16 registers, so are the inputs of the next tile, pixels
 * apart as far as no hardware prefetcher looks.
 */
#include "cpu/conv.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/vector.h"

enum {
    TILE_ROWS = MANY_REGISTERS ? 2 : 1,
    TILE_COLUMNS = 8, /* at most */
    TAPS = 9,
    BLOCK_BYTES = 20 * 1024, /* of weights: they stay in L1 beside a tile's inputs */
    TASKS_PER_THREAD = 8,
    LINE_FLOATS = 16,
    ALIAS_FLOATS = 512, /* pixels at such distances share two of L1's sets */
    SPLIT_PAIRS = 3,    /* pairs of rows a thread: with fewer, threads share channels */
    MAX_STRIDE = 2,
    MAX_IN_ROWS = (TILE_ROWS - 1) * MAX_STRIDE + 3,
    MAX_IN_COLUMNS = (TILE_COLUMNS - 1) * MAX_STRIDE + 3
};

static bool supports(const struct conv_shape *s)
{
    int group = s->in_channels / s->groups;
    bool whole_vectors = s->in_channels % VEC_WIDTH == 0 && (VEC_WIDTH % group == 0 || group % VEC_WIDTH == 0);

    return s->groups > 1 && s->kernel == 3 && s->dilation == 1 && s->stride <= MAX_STRIDE && s->source_count == 1
           && s->in_channels == s->out_channels && group > 1 && whole_vectors;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return (size_t)s->out_channels * TAPS * (size_t)(s->in_channels / s->groups) * sizeof(float);
}

static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, group, 3, 3) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)                                    /* (vectors of outputs)(ky, member of the group, kx)(lanes) */
{
    int group = s->in_channels / s->groups;
    float *out = packed;

    for (int first = 0; first < s->out_channels; first += VEC_WIDTH)
        for (int ky = 0; ky < 3; ky++)
            for (int member = 0; member < group; member++)
                for (int kx = 0; kx < 3; kx++)
                    for (int o = first; o < first + VEC_WIDTH; o++)
                        *out++ = weight[((int64_t)o * group + member) * TAPS + ky * 3 + kx] * scale[o];
}

/* Columns for which there is code. */
static const int tile_columns[] = {8, 7, 4};

enum { TILE_WIDTHS = sizeof tile_columns / sizeof *tile_columns };

/* Index of the columns with which rows of the map take the fewest columns of inputs, those of neighbouring tiles and of pixels that do
 * not exist among them. */
static int choose_columns(int width)
{
    int best = 0;

    for (int i = 1; i < TILE_WIDTHS; i++)
        if (divide_up(width, tile_columns[i]) * (tile_columns[i] + 2) < divide_up(width, tile_columns[best]) * (tile_columns[best] + 2))
            best = i;
    return best;
}

/* FMAs at two a cycle, padding included, and spreads of permutations at the cost of an FMA; 2500 cycles a microsecond. */
static double cost(const struct conv_shape *s, int threads)
{
    int group = s->in_channels / s->groups, columns = tile_columns[choose_columns(s->out_width)];
    double tiles = (double)s->batch * divide_up(s->out_height, TILE_ROWS) * divide_up(s->out_width, columns);
    double fmas = TILE_ROWS * columns * TAPS;
    double spreads = ((TILE_ROWS - 1) * s->stride + 3) * ((columns - 1) * s->stride + 3);

    if (group >= VEC_WIDTH) /* broadcasts from memory take no time of the FMA units */
        spreads = 0.0;
    return tiles * (fmas + spreads) * group * (s->out_channels / VEC_WIDTH) / 2.0 / 2500.0 / threads;
}

struct tile {
    const float *in; /* first input pixel (it may lie outside the map), channels of this vector or group */
    int64_t row_stride, pixel_stride;
    int top, bottom, left, right; /* input rows [top, bottom) and columns [left, right) of the tile lie inside the map */
    int group;
    const float *weight;   /* (ky, group, kx, lanes) */
    const float *prefetch; /* weights that are needed soon: a line for every input row and member is fetched from here on */
    bool fetch_next;       /* the inputs of the tile to the right, a line of each pixel */
    vec bias;
    const float *residual; /* first output, or NULL */
    int64_t residual_stride;
    float *out; /* first output */
    int64_t out_stride;
    int out_width; /* of the map: pixels from row to row */
    int columns;   /* of the tile that exist */
    bool relu;
};

/* Whether a tile's first and last input column are padding, which is neither read nor multiplied. */
enum edges { INSIDE = 0, LEFT_OUTSIDE = 1, RIGHT_OUTSIDE = 2 };

/* All but `t` are constants at every call. */
ALWAYS_INLINE void tile_run(const struct tile *t, const int rows, const int columns, const int stride, const bool permute, const int edges)
{
    vec sum[TILE_ROWS][TILE_COLUMNS];
    const int in_rows = (rows - 1) * stride + 3, in_columns = (columns - 1) * stride + 3;
    const int group = t->group;
    const int64_t pixel_stride = t->pixel_stride;

    UNROLL(2)
    for (int row = 0; row < rows; row++) {
        UNROLL(8)
        for (int column = 0; column < columns; column++) {
            sum[row][column] = t->bias;
            vec_fetch_to_store(t->out + ((int64_t)row * t->out_width + column) * t->out_stride);
        }
    }
    UNROLL(5)
    for (int r = 0; r < in_rows; r++) {
        if (r < t->top || r >= t->bottom)
            continue;
        const float *in = t->in + r * t->row_stride;
        vec_lanes lanes = vec_group_lanes(permute ? group : 1);
        if (t->fetch_next) {
            UNROLL(17)
            for (int c = 0; c < columns * stride; c++)
                __builtin_prefetch(in + (in_columns + c) * pixel_stride);
        }
        for (int member = 0; member < group; member++) {
            if (!permute)
                __builtin_prefetch(t->prefetch + (r * group + member) * LINE_FLOATS, 0, 2);
            vec w[TILE_ROWS][3];
            UNROLL(2)
            for (int row = 0; row < rows; row++) {
                int ky = r - row * stride;
                if (ky < 0 || ky >= 3)
                    continue;
                UNROLL(3)
                for (int kx = 0; kx < 3; kx++)
                    w[row][kx] = vec_load(t->weight + ((ky * group + member) * 3 + kx) * VEC_WIDTH);
            }
            UNROLL(17)
            for (int c = 0; c < in_columns; c++) {
                if ((c == 0 && (edges & LEFT_OUTSIDE)) || (c == in_columns - 1 && (edges & RIGHT_OUTSIDE)))
                    continue;
                const float *pixel = in + c * pixel_stride;
                vec x = permute ? vec_permute(vec_load(pixel), lanes) : vec_all(pixel[member]);
                UNROLL(2)
                for (int row = 0; row < rows; row++) {
                    int ky = r - row * stride;
                    if (ky < 0 || ky >= 3)
                        continue;
                    UNROLL(3)
                    for (int kx = 0; kx < 3; kx++)
                        if (c >= kx && (c - kx) % stride == 0 && (c - kx) / stride < columns)
                            sum[row][(c - kx) / stride] = vec_fma(x, w[row][kx], sum[row][(c - kx) / stride]);
                }
            }
            lanes = vec_next_lanes(lanes);
        }
    }
    vec floor = t->relu ? vec_zero() : vec_all(-__builtin_inff());
    UNROLL(2)
    for (int row = 0; row < rows; row++) {
        UNROLL(8)
        for (int column = 0; column < columns; column++) {
            if (column >= t->columns)
                break;
            int64_t pixel = (int64_t)row * t->out_width + column;
            vec result = sum[row][column];
            if (t->residual)
                result = result + vec_load(t->residual + pixel * t->residual_stride);
            vec_store(t->out + pixel * t->out_stride, vec_max(result, floor));
        }
    }
}

typedef void tile_function(const struct tile *tile);

#define TILE_EDGES(rows, columns, stride, edges)                                                                                           \
    static void broadcast_##rows##_##columns##_##stride##_##edges(const struct tile *t)                                                    \
    {                                                                                                                                      \
        tile_run(t, rows, columns, stride, false, edges);                                                                                  \
    }                                                                                                                                      \
    static void permute_##rows##_##columns##_##stride##_##edges(const struct tile *t)                                                      \
    {                                                                                                                                      \
        tile_run(t, rows, columns, stride, true, edges);                                                                                   \
    }
#define TILE_STRIDE(rows, columns, stride)                                                                                                 \
    TILE_EDGES(rows, columns, stride, 0)                                                                                                   \
    TILE_EDGES(rows, columns, stride, 1)                                                                                                   \
    TILE_EDGES(rows, columns, stride, 2)                                                                                                   \
    TILE_EDGES(rows, columns, stride, 3)
#define TILE_ROW(rows, columns)                                                                                                            \
    TILE_STRIDE(rows, columns, 1)                                                                                                          \
    TILE_STRIDE(rows, columns, 2)

#define EDGES(name)                                                                                                                        \
    {                                                                                                                                      \
        name##_0, name##_1, name##_2, name##_3                                                                                             \
    }
/* By stride and edges. */
#define TABLE_ROW(name, rows, columns)                                                                                                     \
    {                                                                                                                                      \
        EDGES(name##_##rows##_##columns##_1), EDGES(name##_##rows##_##columns##_2)                                                         \
    }

/* One row, and what more there is code for. */
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
#define TILES(columns) TILE_ROW(1, columns) TILE_ROW(2, columns)
#define TABLE(name, columns)                                                                                                               \
    {                                                                                                                                      \
        TABLE_ROW(name, 1, columns), TABLE_ROW(name, 2, columns)                                                                           \
    }
#else
#define TILES(columns) TILE_ROW(1, columns)
#define TABLE(name, columns)                                                                                                               \
    {                                                                                                                                      \
        TABLE_ROW(name, 1, columns)                                                                                                        \
    }
#endif
typedef tile_function *const tile_table[TILE_ROWS][MAX_STRIDE][4];

TILES(4)
TILES(7)
TILES(8)
static const tile_table tile_functions[2][TILE_WIDTHS] = {{TABLE(broadcast, 8), TABLE(broadcast, 7), TABLE(broadcast, 4)},
                                                          {TABLE(permute, 8), TABLE(permute, 7), TABLE(permute, 4)}};

struct grouped_job {
    const struct conv_call *call;
    int width, columns; /* of a tile: which of tile_columns, and these */
    int channels;       /* of a block: whole vectors and whole groups */
    int blocks;
    int strip_rows, strips; /* of an image */
    int prefetch_floats;    /* of the next block's weights, for each tile and vector of channels */
};

/* The tile's inputs, `channels` of every pixel, zeros outside the map: (MAX_IN_ROWS, MAX_IN_COLUMNS, channels). */
static void fill_panel(const struct tile *t, int in_columns, int channels, float *panel)
{
    for (int r = t->top; r < t->bottom; r++)
        for (int c = 0; c < in_columns; c++) {
            const float *pixel = t->in + r * t->row_stride + c * t->pixel_stride;
            float *out = panel + (r * MAX_IN_COLUMNS + c) * channels;
            for (int channel = 0; channel < channels; channel += VEC_WIDTH)
                vec_store(out + channel, c >= t->left && c < t->right ? vec_load(pixel + channel) : vec_zero());
        }
}

/* The columns outside the map, if they are none, the first, the last or both; else -1. */
static int edges_of(const struct tile *t, int in_columns)
{
    if (t->left > 1 || t->right < in_columns - 1)
        return -1;
    return (t->left == 1 ? LEFT_OUTSIDE : 0) | (t->right == in_columns - 1 ? RIGHT_OUTSIDE : 0);
}

/* Channels that share inputs: those of a vector, or of a group that fills several. */
static int unit_channels(const struct conv_shape *s)
{
    int group = s->in_channels / s->groups;
    return group < VEC_WIDTH ? VEC_WIDTH : group;
}

/* `prefetch` is where this tile's part of the next block's weights begins. */
static void run_tile(const struct grouped_job *job, int first_channel, int image, int y, int rows, int x, const float *prefetch,
                     float *panel)
{
    const struct conv_call *call = job->call;
    const struct conv_shape *s = call->shape;
    const struct map_view *map = &call->sources[0];
    int group = s->in_channels / s->groups, unit = unit_channels(s);
    bool permute = group < VEC_WIDTH;
    int last_channel = smaller(first_channel + job->channels, s->out_channels);
    int in_y = y * s->stride - s->padding, in_x = x * s->stride - s->padding;
    int64_t in_pixel = ((int64_t)image * s->in_height + in_y) * s->in_width + in_x;
    int64_t out_pixel = ((int64_t)image * s->out_height + y) * s->out_width + x;
    struct tile t = {
        .row_stride = s->in_width * map->pixel_stride,
        .pixel_stride = map->pixel_stride,
        .top = in_y < 0 ? -in_y : 0,
        .bottom = smaller(s->in_height - in_y, (rows - 1) * s->stride + 3),
        .left = in_x < 0 ? -in_x : 0,
        .right = s->in_width - in_x,
        .group = group,
        .residual_stride = call->residual.pixel_stride,
        .out_stride = call->out.pixel_stride,
        .out_width = s->out_width,
        .columns = smaller(s->out_width - x, job->columns),
        .relu = call->relu,
    };
    struct tile of_panel = t;
    int in_columns = (job->columns - 1) * s->stride + 3, edges = edges_of(&t, in_columns);
    bool aliased = !permute && map->pixel_stride % ALIAS_FLOATS == 0, copy = aliased || edges < 0;
    struct tile *tile = copy ? &of_panel : &t;
    tile_function *function = tile_functions[permute][job->width][rows - 1][s->stride - 1][edges < 0 ? INSIDE : edges];

    of_panel.in = panel;
    of_panel.pixel_stride = unit;
    of_panel.row_stride = MAX_IN_COLUMNS * unit;
    for (int channel = first_channel; channel < last_channel; channel += VEC_WIDTH) {
        t.in = map->data + in_pixel * map->pixel_stride + channel - channel % unit;
        if (copy && channel % unit == 0)
            fill_panel(&t, in_columns, unit, panel);
        tile->weight = (const float *)call->packed + (int64_t)channel * TAPS * group;
        tile->fetch_next = !MANY_REGISTERS && channel % LINE_FLOATS == 0;
        tile->prefetch = prefetch + (channel - first_channel) / VEC_WIDTH * job->prefetch_floats;
        tile->bias = vec_load(call->bias + channel);
        tile->out = call->out.data + out_pixel * t.out_stride + channel;
        tile->residual = call->residual.data ? call->residual.data + out_pixel * t.residual_stride + channel : NULL;
        function(tile);
    }
}

static int64_t panel_floats(const struct conv_shape *s)
{
    return (int64_t)MAX_IN_ROWS * MAX_IN_COLUMNS * unit_channels(s);
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    return (size_t)threads * (size_t)panel_floats(s) * sizeof(float);
}

static void grouped_task(void *context, int task, int worker)
{
    const struct grouped_job *job = context;
    const struct conv_shape *s = job->call->shape;
    int block = task % job->blocks, strip = task / job->blocks % job->strips, image = task / job->blocks / job->strips;
    int first_row = strip * job->strip_rows, last_row = smaller(first_row + job->strip_rows, s->out_height);
    float *panel = (float *)job->call->scratch + worker * panel_floats(s);
    int first_channel = block * job->channels, tiles = 0;
    const float *prefetch =
        (const float *)job->call->packed + (int64_t)(first_channel + job->channels) * TAPS * (s->in_channels / s->groups);

    for (int y = first_row; y < last_row; y += TILE_ROWS)
        for (int x = 0; x < s->out_width; x += job->columns, tiles++)
            run_tile(job, first_channel, image, y, smaller(last_row - y, TILE_ROWS), x,
                     prefetch + (int64_t)tiles * job->channels / VEC_WIDTH * job->prefetch_floats, panel);
}

static void run(const struct conv_call *call)
{
    const struct conv_shape *s = call->shape;
    int unit = unit_channels(s), units = s->out_channels / unit;
    int unit_bytes = TAPS * (s->in_channels / s->groups) * unit * (int)sizeof(float);
    struct grouped_job job = {.call = call, .width = choose_columns(s->out_width)};

    job.columns = tile_columns[job.width];
    job.blocks = divide_up(units, BLOCK_BYTES < unit_bytes ? 1 : BLOCK_BYTES / unit_bytes);
    job.channels = divide_up(units, job.blocks) * unit;
    job.blocks = divide_up(units * unit, job.channels);
    int wanted = divide_up(TASKS_PER_THREAD * thread_pool_size(call->pool), job.blocks * s->batch); /* strips of an image */
    int pairs = divide_up(s->out_height, TILE_ROWS), threads = thread_pool_size(call->pool);
    if (wanted < threads && pairs >= SPLIT_PAIRS * threads)
        wanted = threads;
    job.strip_rows = divide_up(pairs, smaller(wanted, pairs)) * TILE_ROWS;
    job.strips = divide_up(s->out_height, job.strip_rows);
    int tiles = divide_up(job.strip_rows, TILE_ROWS) * divide_up(s->out_width, job.columns);
    job.prefetch_floats = divide_up(unit_bytes / (unit / VEC_WIDTH), tiles * LINE_FLOATS * (int)sizeof(float)) * LINE_FLOATS;
    thread_pool_run(call->pool, grouped_task, &job, job.blocks * s->batch * job.strips);
}

extern const struct conv_kernel ISA_NAME(grouped3x3);

const struct conv_kernel ISA_NAME(grouped3x3) = {
    .name = KERNEL_NAME("grouped3x3"),
    .winograd = false,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
