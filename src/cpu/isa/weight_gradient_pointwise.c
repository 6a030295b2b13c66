/* weight_gradient_pointwise.c - gradient of the weights of a 1x1 convolution with many channels: one matrix product over pixels.
 *
 *     dW (in_channels x out_channels)  =  in^T (in_channels x pixels) * out_gradient (pixels x out_channels)
 *
 * A task has some column tiles of dW and all, or some, of its row tiles. It goes through the pixels block by block:
 *
 *     for each block of pixels:
 *         inputs of the task's row tiles          -> panels (row tile)(pixel)(MR_WIDE)
 *         out_gradient of the task's column tiles -> panels (column tile)(pixel)(BLOCK)
 *         for each column tile:                      its panel, 18 KB, stays in L1
 *             for each row tile:                     its panel comes from L2, in order
 *                 sums (MR_WIDE x BLOCK) += inputs^T * panel
 *
 * Both maps are so read from memory once a task, by prefetches for the next block that are spread over the products of this one. Sums
 * stay in L2. Every register tile adds its pixels in the same order however tasks are cut, so the result is the same for any number
 * of threads.
 *
 * Where a core has adders beside its FMA units, four of six pixels go in pairs, as in conv_paired.c: x and g being the input and the
 * gradient at one pixel, x' and g' at the next,
 *
 *     x g + x' g' = (x + g') (x' + g) - x x' - g g' = (x - g') (g - x') + x x' + g g'
 *
 * with one form for the first pair of the six pixels, the other for the second. The sums of x x' and g g' over all pixels are vectors of
 * channels, taken once. For the sake of rounding g is made as large as x: a power of two goes into the panels, and out of the sums.
 */
#include "cpu/isa/lines_ahead.h"
#include "cpu/isa/weight_gradient_isa.h"
#include "cpu/isa/weight_gradient_tile.h"

#include <math.h>

#if KERNEL_ISA_AVX512
#define KERNEL_PAIRS true
#else
#define KERNEL_PAIRS false /* a broadcast takes an instruction of its own there, and 4 x 2 sums are too few to hide it */
#endif

enum {
    BLOCK = 2 * VEC_WIDTH,
    PIXELS = 144,           /* of a block */
    LEAST_CHANNELS = 192,   /* of both maps together: maps with fewer are read where they are by conv_weight_gradient.c */
    LEAST_IN_PAIRS = 96,    /* the same where pixels go in pairs, which that does not do */
    MOST_SUMS = 128 * 1024, /* floats of a task's sums: half of L2 */
    LINE_FLOATS = 16,
    GROUP = 6,       /* pixels: a pair, a pair of the other form, two alone */
    MOST_SCALE = 40, /* power of two: its square is to fit into a float beside the maps' */
    SAMPLES = 64     /* pixels that tell how large the maps' values are */
};

struct pointwise_gradient_job {
    const struct conv_weight_gradient_call *call;
    int64_t pixels;
    int row_tiles, column_tiles;
    int row_parts, column_parts; /* tasks are parts of the rows times parts of the columns */
    int64_t worker_floats;
    bool paired;
    float scale; /* of the gradient, a power of two */
};

bool ISA_NAME(pointwise_gradient_supports)(const struct conv_shape *s)
{
    int least = KERNEL_PAIRS && cpu_adds_beside_products() ? LEAST_IN_PAIRS : LEAST_CHANNELS;
    return s->kernel == 1 && s->stride == 1 && s->padding == 0 && s->groups == 1 && s->in_channels % MR_WIDE == 0
           && s->out_channels % BLOCK == 0 && s->in_channels + s->out_channels > least;
}

static struct pointwise_gradient_job job_of(const struct conv_shape *s, int threads)
{
    struct pointwise_gradient_job job = {
        .pixels = (int64_t)s->batch * s->out_height * s->out_width,
        .row_tiles = s->in_channels / MR_WIDE,
        .column_tiles = s->out_channels / BLOCK,
    };
    job.column_parts = smaller(threads, job.column_tiles);
    job.row_parts = smaller(divide_up(threads, job.column_parts), job.row_tiles);
    int columns = divide_up(job.column_tiles, job.column_parts), rows = divide_up(job.row_tiles, job.row_parts);
    while (columns * rows * MR_WIDE * BLOCK > MOST_SUMS) { /* cut what is longer: it is read once for every part of the other */
        if (rows * MR_WIDE > columns * BLOCK)
            rows = divide_up(job.row_tiles, ++job.row_parts);
        else
            columns = divide_up(job.column_tiles, ++job.column_parts);
    }
    job.worker_floats =
        aligned((int64_t)columns * (PIXELS * BLOCK + (int64_t)rows * MR_WIDE * BLOCK) + rows * MR_WIDE * (PIXELS + 1) + columns * BLOCK);
    return job;
}

size_t ISA_NAME(pointwise_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    return (size_t)(job_of(s, threads).worker_floats * threads) * sizeof(float);
}

/* Inputs of a block to panels (row tile)(pixel)(MR_WIDE): a line of the map, which has two or more row tiles, is read once. */
static void pack_inputs(const float *from, int64_t stride, int64_t pixels, int rows, float *panels)
{
    enum { TILES = VEC_WIDTH / MR_WIDE };
    for (int row = 0; row < rows; row += TILES) {
        int tiles = smaller(rows - row, TILES);
        const float *in = from + row * MR_WIDE;
        float *to = panels + row * pixels * MR_WIDE;
        for (int64_t p = 0; p < pixels; p++, in += stride, to += MR_WIDE)
            for (int tile = 0; tile < tiles; tile++)
                memcpy(to + tile * pixels * MR_WIDE, in + tile * MR_WIDE, MR_WIDE * sizeof(float));
    }
}

/* The gradient times `scale`; in groups, which come first, with g' of second pairs negated. */
static void pack_panels(const float *from, int64_t stride, int64_t pixels, int64_t groups, int columns, float scale, float *panels)
{
    for (int64_t p = 0; p < pixels; p++, from += stride) {
        vec factor = vec_all(p < groups * GROUP && p % GROUP == 3 ? -scale : scale);
        for (int column = 0; column < columns; column++)
            for (int lane = 0; lane < BLOCK; lane += VEC_WIDTH)
                vec_store(panels + (column * pixels + p) * BLOCK + lane, vec_load(from + column * BLOCK + lane) * factor);
    }
}

/* ---- pairs ------------------------------------------------------------------------------------------------------------- */

/* mixed (channels) += sum over groups of m m' of the first pair - m m' of the second, m = factor * map. */
static void add_mixed(const float *map, int64_t stride, int64_t groups, int channels, float factor, float *mixed)
{
    for (int c = 0; c < channels; c += VEC_WIDTH) {
        int lanes = smaller(channels - c, VEC_WIDTH);
        vec sum = vec_zero();
        const float *from = map + c;
        for (int64_t g = 0; g < groups; g++, from += GROUP * stride) {
            sum = vec_fma(vec_load_first(from, lanes), vec_load_first(from + stride, lanes), sum);
            sum = vec_fnma(vec_load_first(from + 2 * stride, lanes), vec_load_first(from + 3 * stride, lanes), sum);
        }
        vec_store_first(mixed + c, vec_fma(sum, vec_all(factor * factor), vec_load_first(mixed + c, lanes)), lanes);
    }
}

/* sums (MR_WIDE, BLOCK) += inputs^T * panel over whole groups of pixels, the mixed products among them. */
static void multiply_groups(const float *in, const float *panel, int64_t groups, float *sums)
{
    vec sum[MR_WIDE][2];

    UNROLL(8)
    for (int m = 0; m < MR_WIDE; m++) {
        UNROLL(2)
        for (int v = 0; v < 2; v++)
            sum[m][v] = vec_load(sums + m * BLOCK + v * VEC_WIDTH);
    }
    for (int64_t g = 0; g < groups; g++, in += GROUP * MR_WIDE, panel += GROUP * BLOCK) {
        const float *x[GROUP] = {in, in + MR_WIDE, in + 2 * MR_WIDE, in + 3 * MR_WIDE, in + 4 * MR_WIDE, in + 5 * MR_WIDE};
        UNROLL(2)
        for (int half = 0; half < 2; half++) {
            vec first[2], second[2], single[2];
            UNROLL(2)
            for (int v = 0; v < 2; v++) {
                first[v] = vec_load(panel + 2 * half * BLOCK + v * VEC_WIDTH);
                second[v] = vec_load(panel + (2 * half + 1) * BLOCK + v * VEC_WIDTH);
            }
            UNROLL(8)
            for (int m = 0; m < MR_WIDE; m++) {
                UNROLL(2)
                for (int v = 0; v < 2; v++) {
                    vec other = half == 0 ? vec_add_all(first[v], x[1] + m) : vec_sub_all(first[v], x[3] + m);
                    sum[m][v] = vec_fma(vec_add_all(second[v], x[2 * half] + m), other, sum[m][v]);
                }
            }
            UNROLL(2)
            for (int v = 0; v < 2; v++)
                single[v] = vec_load(panel + (4 + half) * BLOCK + v * VEC_WIDTH);
            UNROLL(8)
            for (int m = 0; m < MR_WIDE; m++) {
                UNROLL(2)
                for (int v = 0; v < 2; v++)
                    sum[m][v] = vec_fma_all(x[4 + half] + m, single[v], sum[m][v]);
            }
        }
    }
    UNROLL(8)
    for (int m = 0; m < MR_WIDE; m++) {
        UNROLL(2)
        for (int v = 0; v < 2; v++)
            vec_store(sums + m * BLOCK + v * VEC_WIDTH, sum[m][v]);
    }
}

/* The mean square of some pixels, spread over the map: the same however many threads there are. */
static float sample_square(const float *map, int64_t stride, int64_t pixels, int channels)
{
    int64_t count = pixels < SAMPLES ? pixels : SAMPLES;
    vec squares = vec_zero();

    for (int64_t sample = 0; sample < count; sample++) {
        const float *from = map + pixels * sample / count * stride;
        for (int c = 0; c < channels; c += VEC_WIDTH) {
            vec x = vec_load_first(from + c, smaller(channels - c, VEC_WIDTH));
            squares = vec_fma(x, x, squares);
        }
    }
    return vec_sum_of_lanes(squares) / ((float)count * (float)channels);
}

/* The power of two that makes the gradient about as large as the input; 1 where either has no size. */
static float gradient_scale(const struct conv_weight_gradient_call *call, int64_t pixels)
{
    float in = sample_square(call->in.data, call->in.pixel_stride, pixels, call->shape->in_channels);
    float gradient = sample_square(call->out_gradient.data, call->out_gradient.pixel_stride, pixels, call->shape->out_channels);
    int exponent;

    if (!(in > 0.0f && gradient > 0.0f && isfinite(in) && isfinite(gradient)))
        return 1.0f;
    (void)frexp((double)in / gradient, &exponent);
    return ldexpf(1.0f, exponent / 2 > MOST_SCALE ? MOST_SCALE : exponent / 2 < -MOST_SCALE ? -MOST_SCALE : exponent / 2);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------------- */

/* Sums (count, BLOCK) of some inputs and a column tile's outputs, without the mixed products, to the gradient (out_channels, in_channels). */
static void add_sums(const struct pointwise_gradient_job *job, const float *sums, int count, const float *in_mixed, const float *out_mixed,
                     float *gradient)
{
    const float undo = 1.0f / job->scale;

    for (int n = 0; n < BLOCK; n++, gradient += job->call->shape->in_channels)
        for (int i = 0; i < count; i++)
            gradient[i] += (sums[i * BLOCK + n] - in_mixed[i] - out_mixed[n]) * undo;
}

static void pointwise_task(void *context, int task, int worker)
{
    const struct pointwise_gradient_job *job = context;
    const struct conv_weight_gradient_call *call = job->call;
    int column_part = task / job->row_parts, row_part = task % job->row_parts;
    int first_column = job->column_tiles * column_part / job->column_parts, first_row = job->row_tiles * row_part / job->row_parts;
    int columns = job->column_tiles * (column_part + 1) / job->column_parts - first_column;
    int rows = job->row_tiles * (row_part + 1) / job->row_parts - first_row;
    const float *in = call->in.data + first_row * MR_WIDE, *out = call->out_gradient.data + first_column * BLOCK;
    int64_t in_stride = call->in.pixel_stride, out_stride = call->out_gradient.pixel_stride, tile_floats = MR_WIDE * BLOCK;
    float *panels = (float *)call->scratch + worker * job->worker_floats, *sums = panels + (int64_t)columns * PIXELS * BLOCK;
    float *in_mixed = sums + rows * columns * tile_floats, *out_mixed = in_mixed + rows * MR_WIDE;
    float *inputs = out_mixed + columns * BLOCK;

    memset(sums, 0, (size_t)(rows * columns * tile_floats + rows * MR_WIDE + columns * BLOCK) * sizeof(float));
    for (int64_t pixel = 0; pixel < job->pixels; pixel += PIXELS) {
        int64_t count = job->pixels - pixel < PIXELS ? job->pixels - pixel : PIXELS, next = pixel + count;
        int next_count = job->pixels - next < PIXELS ? (int)(job->pixels - next) : PIXELS;
        struct lines_ahead next_in = lines_ahead_of(in + next * in_stride, in_stride, rows * MR_WIDE, next_count, rows * columns);
        struct lines_ahead next_out = lines_ahead_of(out + next * out_stride, out_stride, columns * BLOCK, next_count, rows * columns);
        int64_t groups = job->paired ? count / GROUP : 0;

        pack_inputs(in + pixel * in_stride, in_stride, count, rows, inputs);
        pack_panels(out + pixel * out_stride, out_stride, count, groups, columns, job->scale, panels);
        add_mixed(in + pixel * in_stride, in_stride, groups, rows * MR_WIDE, 1.0f, in_mixed);
        add_mixed(out + pixel * out_stride, out_stride, groups, columns * BLOCK, job->scale, out_mixed);
        for (int column = 0; column < columns; column++)
            for (int row = 0; row < rows; row++) {
                const float *tile_in = inputs + row * count * MR_WIDE, *tile_out = panels + column * count * BLOCK;
                float *tile_sums = sums + (column * rows + row) * tile_floats;
                struct walk rest = {.images = 1,
                                    .rows = 1,
                                    .columns = (int)(count - groups * GROUP),
                                    .in_column = MR_WIDE,
                                    .out_column = BLOCK,
                                    .in = tile_in + groups * GROUP * MR_WIDE,
                                    .out = tile_out + groups * GROUP * BLOCK};
                fetch_lines(&next_in);
                fetch_lines(&next_out);
                if (groups > 0)
                    multiply_groups(tile_in, tile_out, groups, tile_sums);
                if (rest.columns > 0)
                    multiply_tile(&rest, tile_sums, MR_WIDE, 2);
            }
    }
    for (int column = 0; column < columns; column++)
        for (int i = 0; i < rows * MR_WIDE; i += LINE_FLOATS)
            add_sums(job, sums + ((int64_t)column * rows * MR_WIDE + i) * BLOCK, smaller(rows * MR_WIDE - i, LINE_FLOATS), in_mixed + i,
                     out_mixed + column * BLOCK,
                     call->weight_gradient + (int64_t)(first_column + column) * BLOCK * call->shape->in_channels + first_row * MR_WIDE + i);
}

void ISA_NAME(pointwise_gradient)(const struct conv_weight_gradient_call *call)
{
    struct pointwise_gradient_job job = job_of(call->shape, thread_pool_size(call->pool));

    job.call = call;
    job.paired = KERNEL_PAIRS && !call->exact && (call->pairs || cpu_adds_beside_products());
    job.scale = job.paired ? gradient_scale(call, job.pixels) : 1.0f;
    thread_pool_run(call->pool, pointwise_task, &job, job.row_parts * job.column_parts);
}
