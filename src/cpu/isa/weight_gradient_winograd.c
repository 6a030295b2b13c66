/* weight_gradient_winograd.c - gradient of the weights of a dense 3x3 convolution of stride 1, with a quarter of the multiplications.
 *
 * Winograd's F(4x4, 3x3) computes y = A^T (G g G^T * B^T d B) A for a tile of 4 x 4 outputs y (winograd_transform.h). It is linear in the
 * taps g, so their gradient is the transpose of that map, summed over all tiles of all images:
 *
 *     d loss / d g  =  G^T ( sum over tiles of  (A dy A^T) * (B^T d B) ) G
 *
 * For input channel i and output channel o the sum at each of the 36 points p is a matrix product over tiles,
 *
 *     dU[p] (in_channels x out_channels)  =  V[p]^T (in_channels x tiles) * W[p] (tiles x out_channels)
 *
 * with V = B^T d B and W = A dy A^T: 36 products a tile where the definition takes 144.
 *
 * Tiles go in sets. All threads transform a set's tiles to V and W, then share the points and column tiles of dU, which they add the
 * set's products to. A set is so large that adding to dU, which does not stay in the caches where channels are many, takes little of the
 * time, and otherwise so small that V and W stay in the last cache. At the end dU is transformed to taps. Sets depend on the shape
 * alone, so the order of sums is the same for any number of threads.
 */
#include "cpu/isa/weight_gradient_isa.h"
#include "cpu/isa/weight_gradient_tile.h"
#include "cpu/isa/winograd_tile.h"

enum {
    LEAST_CHANNELS = 32,        /* with fewer, transforms take longer than the products they save */
    SET_BYTES = 2 * 1024 * 1024, /* of V and W, or as much as dU, where that is more */
    ROW_PADDING = 16             /* floats between tiles of V, and between its points, so that they do not evict each other from L1 */
};

struct winograd_gradient_job {
    const struct conv_weight_gradient_call *call;
    struct conv_call input; /* what transform_tile asks for */
    int tile_rows, tile_columns, tile_count, set_tiles;
    int row_tiles, column_tiles;    /* register tiles of dU */
    int64_t in_row, out_row;        /* floats from tile to tile in V and W */
    int64_t in_point, out_point;    /* from point to point */
    int64_t tile_sums, point_sums;  /* of dU: a register tile, a point */
    float *in, *out, *sums;         /* V (points, set_tiles, in_row), W, dU (points, column_tiles, row_tiles, MR_WIDE, BLOCK) */
    int set;
};

bool ISA_NAME(winograd_gradient_supports)(const struct conv_shape *s)
{
    return s->kernel == 3 && s->stride == 1 && s->dilation == 1 && s->groups == 1 && s->in_channels >= LEAST_CHANNELS
           && s->in_channels % VEC_WIDTH == 0 && s->in_channels % MR_WIDE == 0 && s->out_channels >= LEAST_CHANNELS
           && s->out_channels % BLOCK == 0;
}

static struct winograd_gradient_job job_of(const struct conv_shape *s)
{
    struct winograd_gradient_job job = {
        .tile_rows = divide_up(s->out_height, WINOGRAD_OUT),
        .tile_columns = divide_up(s->out_width, WINOGRAD_OUT),
        .row_tiles = s->in_channels / MR_WIDE,
        .column_tiles = s->out_channels / BLOCK,
        .in_row = s->in_channels + ROW_PADDING,
        .out_row = s->out_channels + ROW_PADDING,
        .tile_sums = (int64_t)MR_WIDE * BLOCK,
        .point_sums = (int64_t)s->in_channels * s->out_channels,
    };
    int64_t tile_bytes = WINOGRAD_POINTS * (job.in_row + job.out_row) * (int64_t)sizeof(float);
    int64_t sum_bytes = WINOGRAD_POINTS * job.point_sums * (int64_t)sizeof(float);
    int64_t set_tiles = (sum_bytes > SET_BYTES ? sum_bytes : SET_BYTES) / tile_bytes;

    job.tile_count = s->batch * job.tile_rows * job.tile_columns;
    job.set_tiles = set_tiles < job.tile_count ? (int)set_tiles : job.tile_count;
    job.set_tiles = divide_up(job.tile_count, divide_up(job.tile_count, job.set_tiles)); /* of like size */
    job.in_point = job.set_tiles * job.in_row + ROW_PADDING;
    job.out_point = job.set_tiles * job.out_row + ROW_PADDING;
    return job;
}

size_t ISA_NAME(winograd_gradient_scratch_bytes)(const struct conv_shape *s)
{
    struct winograd_gradient_job job = job_of(s);
    return (size_t)(WINOGRAD_POINTS * (job.in_point + job.out_point + job.point_sums)) * sizeof(float);
}

/* A dy A^T without f for one vector of channels. `from` is the tile's first pixel; rows and columns of it exist. */
ALWAYS_INLINE void transform_gradient(const float *from, int64_t row_stride, int64_t pixel_stride, int rows, int columns, float *to,
                                      int64_t point_stride, const bool whole)
{
    vec half[WINOGRAD_IN][WINOGRAD_OUT];

    UNROLL(4)
    for (int x = 0; x < WINOGRAD_OUT; x++) {
        vec y[WINOGRAD_OUT], m[WINOGRAD_IN];
        UNROLL(4)
        for (int i = 0; i < WINOGRAD_OUT; i++)
            y[i] = whole || (i < rows && x < columns) ? vec_load(from + i * row_stride + x * pixel_stride) : vec_zero();
        winograd_gradient_line(y, m);
        UNROLL(6)
        for (int i = 0; i < WINOGRAD_IN; i++)
            half[i][x] = m[i];
    }
    UNROLL(6)
    for (int i = 0; i < WINOGRAD_IN; i++) {
        vec m[WINOGRAD_IN];
        winograd_gradient_line(half[i], m);
        UNROLL(6)
        for (int x = 0; x < WINOGRAD_IN; x++)
            vec_store(to + (i * WINOGRAD_IN + x) * point_stride, m[x]);
    }
}

/* One tile to V and W. */
static void transform_task(void *context, int index, int worker)
{
    const struct winograd_gradient_job *job = context;
    const struct conv_shape *s = job->call->shape;
    const struct map_view *gradient = &job->call->out_gradient;
    struct tile tile = tile_in_order(job->tile_rows, job->tile_columns, job->set * job->set_tiles + index);
    int rows = smaller(s->out_height - tile.y, WINOGRAD_OUT), columns = smaller(s->out_width - tile.x, WINOGRAD_OUT);
    int64_t pixel = ((int64_t)tile.image * s->out_height + tile.y) * s->out_width + tile.x, row_stride = s->out_width * gradient->pixel_stride;
    const float *from = gradient->data + pixel * gradient->pixel_stride;
    float *to = job->out + index * job->out_row;

    (void)worker;
    transform_tile(&job->input, &tile, 0, 0, s->in_channels, job->in + index * job->in_row, WINOGRAD_IN * job->in_point, job->in_point);
    for (int o = 0; o < s->out_channels; o += VEC_WIDTH)
        if (rows == WINOGRAD_OUT && columns == WINOGRAD_OUT)
            transform_gradient(from + o, row_stride, gradient->pixel_stride, rows, columns, to + o, job->out_point, true);
        else
            transform_gradient(from + o, row_stride, gradient->pixel_stride, rows, columns, to + o, job->out_point, false);
}

/* A column tile of dU at one point: the set's products are added. */
static void product_task(void *context, int task, int worker)
{
    const struct winograd_gradient_job *job = context;
    int point = task / job->column_tiles, column_tile = task % job->column_tiles;
    int64_t column_sums = job->row_tiles * job->tile_sums;
    float *sums = job->sums + point * job->point_sums + column_tile * column_sums;
    struct walk walk = {
        .images = 1,
        .rows = 1,
        .columns = smaller(job->tile_count - job->set * job->set_tiles, job->set_tiles),
        .in_column = job->in_row,
        .out_column = job->out_row,
        .out = job->out + point * job->out_point + column_tile * BLOCK,
    };

    (void)worker;
    if (job->set == 0)
        memset(sums, 0, (size_t)column_sums * sizeof(float));
    for (int row_tile = 0; row_tile < job->row_tiles; row_tile++) {
        walk.in = job->in + point * job->in_point + row_tile * MR_WIDE;
        multiply_tile(&walk, sums + row_tile * job->tile_sums, MR_WIDE, BLOCK_VECTORS);
    }
}

/* The taps of one input channel and one vector of output channels, from 36 points to 3 x 3: taps (9, VEC_WIDTH). */
static void transform_taps(const float *sums, int64_t point_sums, float *taps)
{
    vec half[3][WINOGRAD_IN];

    for (int x = 0; x < WINOGRAD_IN; x++) {
        vec u[WINOGRAD_IN], g[3];
        for (int i = 0; i < WINOGRAD_IN; i++)
            u[i] = vec_load(sums + (i * WINOGRAD_IN + x) * point_sums);
        winograd_tap_line(u, g);
        for (int i = 0; i < 3; i++)
            half[i][x] = g[i];
    }
    for (int i = 0; i < 3; i++) {
        vec g[3];
        winograd_tap_line(half[i], g);
        for (int x = 0; x < 3; x++)
            vec_store(taps + (i * 3 + x) * VEC_WIDTH, g[x]);
    }
}

/* A column tile's taps, added to the gradient. */
static void taps_task(void *context, int column_tile, int worker)
{
    const struct winograd_gradient_job *job = context;
    int in_channels = job->call->shape->in_channels;
    const float *sums = job->sums + column_tile * job->row_tiles * job->tile_sums;

    (void)worker;
    for (int v = 0; v < BLOCK_VECTORS; v++)
        for (int i = 0; i < in_channels; i++) {
            float taps[TAPS * VEC_WIDTH];
            transform_taps(sums + (int64_t)i * BLOCK + v * VEC_WIDTH, job->point_sums, taps);
            for (int lane = 0; lane < VEC_WIDTH; lane++) {
                int64_t o = column_tile * BLOCK + v * VEC_WIDTH + lane;
                float *to = job->call->weight_gradient + (o * in_channels + i) * TAPS;
                for (int tap = 0; tap < TAPS; tap++)
                    to[tap] += taps[tap * VEC_WIDTH + lane];
            }
        }
}

void ISA_NAME(winograd_gradient)(const struct conv_weight_gradient_call *call)
{
    struct winograd_gradient_job job = job_of(call->shape);

    job.call = call;
    job.input = (struct conv_call){.shape = call->shape, .sources = {call->in}};
    job.in = call->scratch;
    job.out = job.in + WINOGRAD_POINTS * job.in_point;
    job.sums = job.out + WINOGRAD_POINTS * job.out_point;
    for (job.set = 0; job.set * job.set_tiles < job.tile_count; job.set++) {
        thread_pool_run(call->pool, transform_task, &job, smaller(job.tile_count - job.set * job.set_tiles, job.set_tiles));
        thread_pool_run(call->pool, product_task, &job, WINOGRAD_POINTS * job.column_tiles);
    }
    thread_pool_run(call->pool, taps_task, &job, job.column_tiles);
}
