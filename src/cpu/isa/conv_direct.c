/* conv_direct.c - convolution of any kernel size, stride, padding, dilation and grouping as register-blocked sums of products.
 *
 * The unit of work is a tile: some neighbouring pixels of one output row times a block of one to three vectors of output channels, all of it
 * in registers while the sums run over window and input channels:
 *
 *     for chunk of 16 input channels, for tap (ky, kx), for channel i of the chunk:
 *         sum[pixel][v] += in[pixel's window][tap][i] * weight[chunk][tap][i][v]        one broadcast, a block's FMAs a pixel
 *
 * AVX-512: 14 pixels x 2 vectors = 28 sums + 2 weights + 1 broadcast = 31 of 32 registers; 28 FMAs (14 cycles at two a cycle)
 * need 14 + 2 loads (8 cycles), and 128 bytes of weights from L2, 9 bytes a cycle. 14 divides the widths 224 ... 14, and 7
 * pixels still keep 14 sums in flight, more than the 8 that two FMA units of latency 4 need. AVX2: 4 x 3 sums + 3 + 1 = 16 of 16
 * (channel_sums.h), and 96 bytes of weights in six cycles: from L2 they took a Zen 3 a sixth of its time (14x14, 512 > 512, stride 2). So all
 * tiles of a strip take one chunk's weights, 14 KB that stay in L1, before the next chunk's, and their sums wait in memory.
 *
 * Inputs are first copied, a strip of rows at a time, to scratch of one layout that suits every case:
 *
 *     strip[chunk][row][phase][column][16 channels],      input x = column * stride + phase - padding
 *
 * so zero padding is real zeros, several sources become one, neighbouring output pixels are always 16 floats apart whatever
 * the stride, and no power-of-two distance makes lines evict each other. The copy costs two loads and stores where the sums
 * cost kernel^2 * out_channels FMAs. A strip is small enough to stay in L2 beside the block's weights.
 *
 * On a map of 7 columns, a tile of 14 pixels is two rows. While a block is computed, the weights of the next one are fetched into L2, a
 * share with each tile. Where the weights are larger than L2, a strip is as high as it can be, so that they are read once.
 *
 * A 1x1 convolution of stride 1 does not care about rows: its map is taken as one of POINTWISE_COLUMNS columns.
 * Groups: a block of output channels reads the input channels of all groups that it touches, with zero weights where the
 * groups differ.
 */
#include "cpu/conv.h"
#include "cpu/isa/channel_sums.h"
#include "cpu/isa/output_blocks.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/tile_store.h"

#include <math.h>

enum {
    CHUNK = 16,
    BLOCK_VECTORS = MANY_REGISTERS ? 2 : 3,
    MOST_SUMS = MANY_REGISTERS ? 28 : 12, /* of a tile */
    PART_TAPS = 9,                        /* of chunks that the tiles of a strip take at a time, with 16 registers */
    POINTWISE_COLUMNS = 112,              /* 8 tiles of 14 */
    MAX_TAPS = 121,                       /* kernel 11 */
    STRIP_BYTES = 192 * 1024,             /* of the 0.5 to 2 MB of L2; the rest is for weights */
    HEAVY_WEIGHT_BYTES = 2 << 20,         /* weights that are rather read once, by a strip of up to HEAVY_STRIP_BYTES */
    HEAVY_STRIP_BYTES = 512 * 1024,
    TASKS_PER_THREAD = 6, /* an even end without a cost per task that shows */
    ALIGNMENT = 64,
    CACHE_LINE = 64,
    SLACK_FLOATS = 14 * CHUNK /* a tile may reach over the end of a strip */
};

/* What does not depend on a call's data. */
struct blocking {
    struct conv_shape shape;                                    /* with a pointwise map folded to POINTWISE_COLUMNS columns */
    int64_t in_pixels, out_pixels;                              /* of all images; a folded map's last row may be short of them */
    int vector_count, block_vectors, block_count;               /* of output channels: all, of a block, blocks */
    int chunk_count, part_chunks;                               /* of input channels: all, those that tiles take at a time */
    int columns;                                                /* of a strip row and phase */
    int strip_rows;                                             /* output rows a strip */
    int strip_count;                                            /* per image */
    int strip_in_rows;                                          /* input rows that a strip of strip_rows output rows touches */
    int64_t row_floats, plane_floats, strip_floats, sum_floats; /* sum_floats: of the sums that wait */
    int blocks_per_task, tasks_per_strip;
};

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* Tiles of a row, for blocks of so many vectors or less. */
static int row_tiles(int width, int vectors)
{
    return divide_up(width, MANY_REGISTERS ? 14 : vectors == 3 ? 4 : 6);
}

static struct blocking block(const struct conv_shape *shape, int threads)
{
    struct blocking b = {.shape = *shape};
    struct conv_shape *s = &b.shape;

    b.in_pixels = (int64_t)s->batch * s->in_height * s->in_width;
    b.out_pixels = (int64_t)s->batch * s->out_height * s->out_width;
    if (s->kernel == 1 && s->stride == 1 && s->padding == 0) {
        s->in_width = s->out_width = b.out_pixels < POINTWISE_COLUMNS ? (int)b.out_pixels : POINTWISE_COLUMNS;
        s->in_height = s->out_height = (int)((b.out_pixels + s->out_width - 1) / s->out_width);
        s->batch = 1;
    }
    bool narrow = s->out_channels <= VEC_WIDTH || (s->groups > 1 && s->out_channels / s->groups <= VEC_WIDTH);
    b.vector_count = vec_count(s->out_channels);
    b.block_vectors = narrow ? 1 : s->groups > 1 ? 2 : BLOCK_VECTORS;
    b.block_count = divide_up(b.vector_count, b.block_vectors);
    b.chunk_count = divide_up(s->in_channels, CHUNK);
    b.part_chunks = MANY_REGISTERS ? b.chunk_count : larger(PART_TAPS / (s->kernel * s->kernel), 1);
    b.columns = s->out_width + (s->kernel - 1) * s->dilation / s->stride;
    b.row_floats = (int64_t)s->stride * b.columns * CHUNK;

    int halo = (s->kernel - 1) * s->dilation + 1;
    int64_t row_bytes = b.row_floats * b.chunk_count * (int64_t)sizeof(float);
    int64_t weight_bytes = (int64_t)s->out_channels * s->in_channels / s->groups * s->kernel * s->kernel * (int64_t)sizeof(float);
    bool heavy = weight_bytes > HEAVY_WEIGHT_BYTES;
    int64_t rows_that_fit = ((heavy ? HEAVY_STRIP_BYTES : STRIP_BYTES) / row_bytes - halo) / s->stride + 1;
    int64_t strips_wanted = divide_up(TASKS_PER_THREAD * threads, s->batch);
    int rows = divide_up(s->out_height, (int)strips_wanted);
    if (rows < 4) /* the halo would be copied too often: rather split the output channels */
        rows = heavy || s->out_height < 4 ? s->out_height : 4;
    if (rows > rows_that_fit)
        rows = rows_that_fit < 1 ? 1 : (int)rows_that_fit;
    b.strip_count = divide_up(s->out_height, rows);
    b.strip_rows = divide_up(s->out_height, b.strip_count);
    b.strip_count = divide_up(s->out_height, b.strip_rows);
    b.strip_in_rows = (b.strip_rows - 1) * s->stride + halo;
    b.plane_floats = b.strip_in_rows * b.row_floats;
    b.strip_floats = b.plane_floats * b.chunk_count;
    if (b.part_chunks < b.chunk_count)
        b.sum_floats = (int64_t)b.strip_rows * row_tiles(s->out_width, b.block_vectors) * MOST_SUMS * VEC_WIDTH;

    int strips = b.strip_count * s->batch;
    int wanted = divide_up(TASKS_PER_THREAD * threads, strips);
    if (threads == 1 || strips >= TASKS_PER_THREAD * threads)
        wanted = 1;
    b.blocks_per_task = divide_up(b.block_count, wanted);
    b.tasks_per_strip = divide_up(b.block_count, b.blocks_per_task);
    return b;
}

/* What a block of output channels is: its first one and all of its lanes, and the input channels [first_input, last_input) that it reads. */
struct output_block {
    int first, lanes, first_input, last_input;
};

static struct output_block output_block(const struct blocking *b, int index)
{
    const struct conv_shape *s = &b->shape;
    int group_inputs = s->in_channels / s->groups, group_outputs = s->out_channels / s->groups;
    int first = first_vector(b->vector_count, b->block_vectors, index) * VEC_WIDTH;
    int end = first_vector(b->vector_count, b->block_vectors, index + 1) * VEC_WIDTH;
    return (struct output_block){.first = first,
                                 .lanes = end - first,
                                 .first_input = first / group_outputs * group_inputs,
                                 .last_input = ((smaller(end, s->out_channels) - 1) / group_outputs + 1) * group_inputs};
}

/* Floats of packed weights before a block. */
static int64_t block_offset(const struct blocking *b, int index)
{
    int64_t floats = 0;

    if (b->shape.groups == 1)
        floats = (int64_t)first_vector(b->vector_count, b->block_vectors, index) * VEC_WIDTH * b->shape.in_channels;
    else
        for (int i = 0; i < index; i++) {
            struct output_block o = output_block(b, i);
            floats += (int64_t)o.lanes * (o.last_input - o.first_input);
        }
    return floats * b->shape.kernel * b->shape.kernel;
}

static bool supports(const struct conv_shape *s)
{
    return s->kernel * s->kernel <= MAX_TAPS;
}

static size_t packed_bytes(const struct conv_shape *shape)
{
    struct blocking b = block(shape, 1);
    return (size_t)block_offset(&b, b.block_count) * sizeof(float);
}

static void pack(const struct conv_shape *shape, const float *weight, /* (out_channels, in_channels / groups, kernel, kernel) */
                 const float *scale,                                  /* (out_channels) */
                 void *packed) /* (blocks)(chunks)(kernel, kernel)(channels of the chunk)(lanes of the block) */
{
    struct blocking b = block(shape, 1);
    int group_inputs = shape->in_channels / shape->groups, group_outputs = shape->out_channels / shape->groups;
    int taps = shape->kernel * shape->kernel;
    float *out = packed;

    for (int index = 0; index < b.block_count; index++) {
        struct output_block o = output_block(&b, index);
        for (int begin = o.first_input, end; begin < o.last_input; begin = end) {
            end = smaller((begin / CHUNK + 1) * CHUNK, o.last_input);
            for (int tap = 0; tap < taps; tap++)
                for (int i = begin; i < end; i++, out += o.lanes) {
                    int group = i / group_inputs; /* connects lanes [first_lane, last_lane) of the block to this input */
                    int first_lane = larger(group * group_outputs - o.first, 0);
                    int last_lane = smaller(smaller((group + 1) * group_outputs, shape->out_channels) - o.first, o.lanes);
                    const float *in = weight + ((int64_t)o.first * group_inputs + i - group * group_inputs) * taps + tap;
                    for (int lane = 0; lane < o.lanes; lane++)
                        out[lane] = 0.0f;
                    for (int lane = first_lane; lane < last_lane; lane++)
                        out[lane] = in[(int64_t)lane * group_inputs * taps] * scale[o.first + lane];
                }
        }
    }
}

/* A worker's strip begins with the number of the strip that it holds, so that tasks of one strip share the copy. */
struct strip_header {
    int64_t held;
};

static int64_t worker_floats(const struct blocking *b)
{
    int64_t bytes = ALIGNMENT + (b->strip_floats + SLACK_FLOATS + b->sum_floats) * (int64_t)sizeof(float);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT / (int64_t)sizeof(float);
}

static size_t scratch_bytes(const struct conv_shape *shape, int threads)
{
    struct blocking b = block(shape, threads);
    return (size_t)worker_floats(&b) * (size_t)threads * sizeof(float);
}

static double cost(const struct conv_shape *shape, int threads)
{
    struct blocking b = block(shape, threads);
    double products = 0.0;

    for (int i = 0; i < b.block_count; i++) {
        struct output_block o = output_block(&b, i);
        products += (double)o.lanes * (o.last_input - o.first_input);
    }
    products *= (double)shape->kernel * shape->kernel * (double)b.out_pixels;
    double lanes_per_microsecond = 2.0 * VEC_WIDTH * 0.85 * 2500.0;
    double copied = (double)b.shape.batch * b.strip_count * (double)b.strip_floats;
    return (products + 8.0 * copied) / lanes_per_microsecond / threads;
}

/* Everything a tile needs; `in`, `out` and `sums` move from tile to tile. */
struct tile {
    const float *in; /* chunk 0, first tap of the first pixel */
    int64_t in_row;  /* floats to the second row of a tile of two */
    int64_t plane_floats;
    int first_input, last_input; /* input channels at hand */
    bool begins, ends;           /* whether they are the first, the last that the block reads */
    float *sums;                 /* of those before, and of all so far: (pixels, vectors) */
    int tap_count;
    const int *taps; /* (tap_count) floats from the first tap */
    const float *weight;
    const char *ahead;     /* weights of the next block, fetched meanwhile: a share with each tile */
    int ahead_step;        /* bytes with each input channel and tap */
    const float *bias;     /* (channels) */
    const float *residual; /* first pixel, or NULL */
    int64_t residual_stride, residual_row;
    float *out; /* first pixel */
    int64_t out_stride, out_row;
    int pixels, channels; /* of the tile that exist; the kernel computes whole tiles */
    bool relu;
};

ALWAYS_INLINE void start_sums(const struct tile *t, vec *sum, const int pixels, const int vectors)
{
    if (!t->begins) {
        UNROLL(28)
        for (int i = 0; i < pixels * vectors; i++)
            sum[i] = vec_load(t->sums + i * VEC_WIDTH);
        return;
    }
    UNROLL(3)
    for (int v = 0; v < vectors; v++) {
        int lanes = t->channels - v * VEC_WIDTH;
        vec bias = lanes >= VEC_WIDTH ? vec_load(t->bias + v * VEC_WIDTH) : vec_load_first(t->bias + v * VEC_WIDTH, lanes > 0 ? lanes : 0);
        UNROLL(14)
        for (int p = 0; p < pixels; p++)
            sum[p * vectors + v] = bias;
    }
}

/* `count` channels of a chunk, all taps; the weights behind them. */
ALWAYS_INLINE const float *sum_taps(const struct tile *t, vec *sum, const float *plane, const float *weight, const char **ahead,
                                    const int count, const int pixels, const int rows, const int vectors)
{
    if (!MANY_REGISTERS)
        for (int byte = 0; byte < t->ahead_step * count * t->tap_count; byte += CACHE_LINE, *ahead += CACHE_LINE)
            __builtin_prefetch(*ahead, 0, 2);
    for (int tap = 0; tap < t->tap_count; tap++) {
        const float *in = plane + t->taps[tap], *in_second = in + t->in_row;
        if (!MANY_REGISTERS) {
            sum_channels(sum, in, CHUNK, weight, count, 0, pixels, vectors);
            weight += count * vectors * VEC_WIDTH;
            continue;
        }
        for (int i = 0; i < count; i++, weight += vectors * VEC_WIDTH, *ahead += t->ahead_step) {
            __builtin_prefetch(*ahead, 0, 2);
            sum_channel(sum, in + i, in_second + i, CHUNK, weight, 0, pixels, rows, vectors);
        }
    }
    return weight;
}

/* `pixels`, `rows` and `vectors` are constants at every call, so that `sum` lives in registers. The pixels are neighbours in one
 * row, or whole rows above each other, all of which exist. */
ALWAYS_INLINE void tile_run(const struct tile *t, const int pixels, const int rows, const int vectors)
{
    vec sum[MOST_SUMS];
    const int row_pixels = pixels / rows;
    const float *weight = t->weight;
    const char *ahead = t->ahead;

    start_sums(t, sum, pixels, vectors);
    for (int begin = t->first_input, end; begin < t->last_input; begin = end) {
        const float *plane = t->in + begin / CHUNK * t->plane_floats + begin % CHUNK;
        end = smaller((begin / CHUNK + 1) * CHUNK, t->last_input);
        if (!MANY_REGISTERS && end - begin == CHUNK) /* a number that the compiler knows leaves less to do around a tap's short loop */
            weight = sum_taps(t, sum, plane, weight, &ahead, CHUNK, pixels, rows, vectors);
        else
            weight = sum_taps(t, sum, plane, weight, &ahead, end - begin, pixels, rows, vectors);
    }
    if (!t->ends) {
        UNROLL(28)
        for (int i = 0; i < pixels * vectors; i++)
            vec_store(t->sums + i * VEC_WIDTH, sum[i]);
        return;
    }
    if (t->pixels < pixels || t->channels < vectors * VEC_WIDTH) {
        float sums[MOST_SUMS * VEC_WIDTH];
        UNROLL(28)
        for (int i = 0; i < pixels * vectors; i++)
            vec_store(sums + i * VEC_WIDTH, sum[i]);
        for (int row = 0; row < rows; row++) {
            struct tile_target to = {t->out + row * t->out_row, t->out_stride, t->residual ? t->residual + row * t->residual_row : NULL,
                                     t->residual_stride, t->relu};
            store_part(&to, sums + row * row_pixels * vectors * VEC_WIDTH, vectors * VEC_WIDTH, rows == 1 ? t->pixels : row_pixels,
                       t->channels);
        }
        return;
    }
    vec floor = vec_all(t->relu ? 0.0f : -INFINITY);
    if (t->residual) {
        UNROLL(14)
        for (int p = 0; p < pixels; p++) {
            const float *residual = t->residual + p / row_pixels * t->residual_row + p % row_pixels * t->residual_stride;
            UNROLL(3)
            for (int v = 0; v < vectors; v++)
                sum[p * vectors + v] = sum[p * vectors + v] + vec_load(residual + v * VEC_WIDTH);
        }
    }
    UNROLL(14)
    for (int p = 0; p < pixels; p++) {
        float *out = t->out + p / row_pixels * t->out_row + p % row_pixels * t->out_stride;
        UNROLL(3)
        for (int v = 0; v < vectors; v++)
            vec_store(out + v * VEC_WIDTH, vec_max(floor, sum[p * vectors + v]));
    }
}

typedef void tile_function(const struct tile *tile);

#define TILE(computed, rows, vectors)                                                                                                      \
    static void tile_##computed##x##rows##x##vectors(const struct tile *t)                                                                 \
    {                                                                                                                                      \
        tile_run(t, computed *rows, rows, vectors);                                                                                        \
    }
#define TILE_ENTRY(computed, vectors)                                                                                                      \
    {                                                                                                                                      \
        computed, tile_##computed##x1x##vectors                                                                                            \
    }

/* Widths that are computed; a tile of another width is computed as the next wider one, of which the rest is dropped. */
struct tile_size {
    int pixels;
    tile_function *run;
};

TILE(1, 1, 1)
TILE(2, 1, 1)
TILE(4, 1, 1)
TILE(1, 1, 2)
TILE(2, 1, 2)
TILE(4, 1, 2)
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
TILE(7, 1, 1)
TILE(10, 1, 1)
TILE(12, 1, 1)
TILE(14, 1, 1)
TILE(7, 1, 2)
TILE(10, 1, 2)
TILE(12, 1, 2)
TILE(14, 1, 2)
TILE(7, 2, 1)
TILE(7, 2, 2)
static const struct tile_size tile_sizes[BLOCK_VECTORS][7] = {
    {TILE_ENTRY(1, 1), TILE_ENTRY(2, 1), TILE_ENTRY(4, 1), TILE_ENTRY(7, 1), TILE_ENTRY(10, 1), TILE_ENTRY(12, 1), TILE_ENTRY(14, 1)},
    {TILE_ENTRY(1, 2), TILE_ENTRY(2, 2), TILE_ENTRY(4, 2), TILE_ENTRY(7, 2), TILE_ENTRY(10, 2), TILE_ENTRY(12, 2), TILE_ENTRY(14, 2)},
};
enum { TWO_ROWS_WIDTH = 7 };
static tile_function *const two_rows[BLOCK_VECTORS] = {tile_7x2x1, tile_7x2x2};
#else
TILE(6, 1, 1)
TILE(3, 1, 2)
TILE(5, 1, 2)
TILE(6, 1, 2)
TILE(1, 1, 3)
TILE(2, 1, 3)
TILE(3, 1, 3)
TILE(4, 1, 3)
static const struct tile_size tile_sizes[BLOCK_VECTORS][6] = {
    {TILE_ENTRY(1, 1), TILE_ENTRY(2, 1), TILE_ENTRY(4, 1), TILE_ENTRY(6, 1)},
    {TILE_ENTRY(1, 2), TILE_ENTRY(2, 2), TILE_ENTRY(3, 2), TILE_ENTRY(4, 2), TILE_ENTRY(5, 2), TILE_ENTRY(6, 2)},
    {TILE_ENTRY(1, 3), TILE_ENTRY(2, 3), TILE_ENTRY(3, 3), TILE_ENTRY(4, 3)},
};
enum { TWO_ROWS_WIDTH = 0 }; /* three pixels of three vectors keep nine sums in flight */
static tile_function *const two_rows[BLOCK_VECTORS] = {NULL};
#endif

static void run_tile(struct tile *tile, int pixels, int rows, int vectors)
{
    const struct tile_size *size = tile_sizes[vectors - 1];

    tile->pixels = pixels * rows;
    if (rows == 2) {
        two_rows[vectors - 1](tile);
        return;
    }
    while (size->pixels < pixels)
        size++;
    size->run(tile);
    tile->sums += size->pixels * vectors * VEC_WIDTH;
}

/* Channels [0, count) of neighbouring columns to the strip's chunks from channel `at` on; `in` steps from column to column. */
static void copy_columns(float *strip, int64_t plane_floats, int at, const float *in, int64_t in_step, int columns, int count)
{
    while (count > 0) {
        int lane = at % CHUNK, run = CHUNK - lane < count ? CHUNK - lane : count;
        float *out = strip + at / CHUNK * plane_floats + lane;
        for (int column = 0; column < columns; column++) {
            const float *from = in + column * in_step;
            float *to = out + (int64_t)column * CHUNK;
            if (run == CHUNK)
                for (int v = 0; v < CHUNK; v += VEC_WIDTH)
                    vec_store(to + v, vec_load(from + v));
            else
                for (int i = 0; i < run; i++)
                    to[i] = from[i];
        }
        in += run;
        at += run;
        count -= run;
    }
}

static void clear_columns(float *strip, const struct blocking *b, int columns)
{
    for (int chunk = 0; chunk < b->chunk_count; chunk++)
        for (int i = 0; i < columns * CHUNK; i += VEC_WIDTH)
            vec_store(strip + chunk * b->plane_floats + i, vec_zero());
}

/* Fills the strip for output rows [first_row, first_row + rows) of one image. */
static void fill_strip(const struct blocking *b, const struct conv_call *call, int image, int first_row, int rows, float *strip)
{
    const struct conv_shape *s = &b->shape;
    int in_rows = (rows - 1) * s->stride + (s->kernel - 1) * s->dilation + 1;

    for (int row = 0; row < in_rows; row++) {
        int y = first_row * s->stride - s->padding + row;
        int64_t row_pixel = ((int64_t)image * s->in_height + y) * s->in_width;
        int width = b->in_pixels - row_pixel < s->in_width ? (int)(b->in_pixels - row_pixel) : s->in_width;
        for (int phase = 0; phase < s->stride; phase++) {
            float *out = strip + row * b->row_floats + (int64_t)phase * b->columns * CHUNK;
            int before = phase < s->padding ? divide_up(s->padding - phase, s->stride) : 0; /* columns left of the map */
            int end = y < 0 || y >= s->in_height || width <= phase - s->padding ? 0 : divide_up(width + s->padding - phase, s->stride);
            before = smaller(before, b->columns);
            end = larger(smaller(end, b->columns), before);
            clear_columns(out, b, before);
            clear_columns(out + (int64_t)end * CHUNK, b, b->columns - end);
            out += (int64_t)before * CHUNK;
            int64_t pixel = row_pixel + (int64_t)before * s->stride + phase - s->padding;
            for (int source = 0, at = 0; source < s->source_count && end > before; at += s->source_channels[source++])
                copy_columns(out, b->plane_floats, at, call->sources[source].data + pixel * call->sources[source].pixel_stride,
                             s->stride * call->sources[source].pixel_stride, end - before, s->source_channels[source]);
        }
    }
}

struct direct_job {
    struct blocking blocking;
    const struct conv_call *call;
    int taps[MAX_TAPS];
};

/* All tiles of a strip, for the input channels at hand. */
static void run_part(const struct direct_job *job, struct tile *t, const float *strip, int image, int first_row, int rows,
                     const struct output_block *o)
{
    const struct blocking *b = &job->blocking;
    const struct conv_call *call = job->call;
    int vectors = o->lanes / VEC_WIDTH, tiles = row_tiles(b->shape.out_width, vectors);
    int64_t tile_ahead = (int64_t)(t->last_input - t->first_input) * t->tap_count * t->ahead_step;

    for (int row = 0, together; row < rows; row += together) {
        int64_t pixel = ((int64_t)image * b->shape.out_height + first_row + row) * b->shape.out_width;
        int width = b->out_pixels - pixel < b->shape.out_width ? (int)(b->out_pixels - pixel) : b->shape.out_width;
        together = width == TWO_ROWS_WIDTH && row + 1 < rows && b->out_pixels - pixel >= 2 * width ? 2 : 1;
        t->in_row = b->shape.stride * b->row_floats;
        t->out_row = width * call->out.pixel_stride;
        t->residual_row = width * call->residual.pixel_stride;
        for (int i = 0, x = 0; i < tiles; i++) {
            int next_x = (int)((int64_t)width * (i + 1) / tiles);
            t->in = strip + (int64_t)row * b->shape.stride * b->row_floats + x * CHUNK;
            t->out = call->out.data + (pixel + x) * call->out.pixel_stride + o->first;
            t->residual = call->residual.data ? call->residual.data + (pixel + x) * call->residual.pixel_stride + o->first : NULL;
            run_tile(t, next_x - x, together, vectors);
            t->ahead += tile_ahead;
            x = next_x;
        }
    }
}

static void run_block(const struct direct_job *job, const float *strip, float *sums, int image, int first_row, int rows, int index)
{
    const struct blocking *b = &job->blocking;
    const struct conv_call *call = job->call;
    const struct output_block o = output_block(b, index);
    struct tile t = {
        .plane_floats = b->plane_floats,
        .tap_count = b->shape.kernel * b->shape.kernel,
        .taps = job->taps,
        .weight = (const float *)call->packed + block_offset(b, index),
        .bias = call->bias + o.first,
        .residual_stride = call->residual.pixel_stride,
        .out_stride = call->out.pixel_stride,
        .channels = smaller(b->shape.out_channels - o.first, o.lanes),
        .relu = call->relu,
    };

    /* What is in L2 when the next block begins need not come from memory then. */
    t.ahead = (const char *)((const float *)call->packed + block_offset(b, index + 1 < b->block_count ? index + 1 : 0));
    t.ahead_step = divide_up(o.lanes * (int)sizeof(float), row_tiles(b->shape.out_width, o.lanes / VEC_WIDTH) * rows);
    for (int begin = o.first_input, end; begin < o.last_input; begin = end) {
        end = smaller((begin / CHUNK + b->part_chunks) * CHUNK, o.last_input);
        t.first_input = begin;
        t.last_input = end;
        t.begins = begin == o.first_input;
        t.ends = end == o.last_input;
        t.sums = sums;
        run_part(job, &t, strip, image, first_row, rows, &o);
        t.weight += (int64_t)(end - begin) * t.tap_count * o.lanes;
    }
}

static void direct_task(void *context, int task, int worker)
{
    const struct direct_job *job = context;
    const struct blocking *b = &job->blocking;
    float *memory = (float *)job->call->scratch + worker * worker_floats(b);
    struct strip_header *header = (struct strip_header *)memory;
    float *strip = memory + ALIGNMENT / sizeof(float);
    int strip_index = task / b->tasks_per_strip, first_block = task % b->tasks_per_strip * b->blocks_per_task;
    int image = strip_index / b->strip_count, first_row = strip_index % b->strip_count * b->strip_rows;
    int rows = b->shape.out_height - first_row < b->strip_rows ? b->shape.out_height - first_row : b->strip_rows;

    if (header->held != strip_index) {
        fill_strip(b, job->call, image, first_row, rows, strip);
        header->held = strip_index;
    }
    for (int i = first_block; i < first_block + b->blocks_per_task && i < b->block_count; i++)
        run_block(job, strip, strip + b->strip_floats + SLACK_FLOATS, image, first_row, rows, i);
}

static void run(const struct conv_call *call)
{
    int threads = thread_pool_size(call->pool);
    struct direct_job job = {.blocking = block(call->shape, threads), .call = call};
    const struct conv_shape *s = &job.blocking.shape;

    for (int ky = 0; ky < s->kernel; ky++)
        for (int kx = 0; kx < s->kernel; kx++) {
            int column = kx * s->dilation;
            job.taps[ky * s->kernel + kx] = (int)(ky * s->dilation * job.blocking.row_floats)
                                            + (column % s->stride * job.blocking.columns + column / s->stride) * CHUNK;
        }
    for (int worker = 0; worker < threads; worker++)
        ((struct strip_header *)((float *)call->scratch + worker * worker_floats(&job.blocking)))->held = -1;
    thread_pool_run(call->pool, direct_task, &job, s->batch * job.blocking.strip_count * job.blocking.tasks_per_strip);
}

extern const struct conv_kernel ISA_NAME(conv_direct);

const struct conv_kernel ISA_NAME(conv_direct) = {
    .name = KERNEL_NAME("direct"),
    .winograd = false,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
