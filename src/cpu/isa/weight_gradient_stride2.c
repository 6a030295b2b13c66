/* weight_gradient_stride2.c - gradient of the weights of a dense 3x3 convolution of stride 2 with few channels, with 0.56 of the multiplications.
 *
 * Forward is, at 81 points with 36 different weights, y = A^T ((G g G^T) * V) A (winograd_stride2_tile.h). It is linear in the taps g, so
 * their gradient is the transpose of that map, summed over all tiles of all images:
 *
 *     d loss / d g  =  G^T ( sum over tiles, and over the points of a weight, of  W * V ) G,      W = A dy A^T
 *
 * The points of one weight are neighbours in V and W, so that they are but more rows of one matrix product (weight_gradient_points.h). Tiles
 * go in sets whose V and W stay in L2; a chunk of images has sums of its own, which are added in order.
 */
#include "cpu/isa/weight_gradient_points.h"
#include "cpu/isa/winograd_stride2_tile.h"

enum {
    MOST_CHANNELS = 32 * 64, /* in times out: dU up to 295 KB stays in L2 */
    SET_BYTES = 256 * 1024   /* of V and W */
};

struct stride2_gradient_job {
    const struct conv_weight_gradient_call *call;
    struct point_sums point_sums;
    int tile_rows, tile_columns; /* of an image */
    int set_tiles, chunks;
    int64_t set_floats, sums_floats; /* V and W, dU */
    float *sets, *sums;              /* V (slots, set_tiles, in_lanes) and W; dU (WEIGHTS) */
};

static struct stride2_gradient_job job_of(const struct conv_shape *s)
{
    struct stride2_gradient_job job = {
        .point_sums = point_sums_of(s),
        .tile_rows = divide_up(s->out_height, OUT),
        .tile_columns = divide_up(s->out_width, OUT),
        .chunks = smaller(s->batch, MAX_CHUNKS),
    };
    job.sums_floats = WEIGHTS * job.point_sums.point_floats;
    int64_t tile_floats = (int64_t)POINTS * (job.point_sums.in_lanes + job.point_sums.out_lanes);
    int most = (int)(SET_BYTES / (int64_t)sizeof(float) / tile_floats);

    /* An odd number: else slots lie powers of two apart, and what a tile writes to them evicts each other from L1. */
    job.set_tiles = (smaller(job.tile_rows * job.tile_columns, most > 1 ? most : 1) - 1) | 1;
    job.set_floats = aligned(job.set_tiles * tile_floats);
    return job;
}

bool ISA_NAME(stride2_gradient_supports)(const struct conv_shape *s)
{
    return has_stride2_tiles(s) && fills_point_sums(s) && point_sums_of(s).point_floats <= MOST_CHANNELS;
}

size_t ISA_NAME(stride2_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    struct stride2_gradient_job job = job_of(s);
    return (size_t)(job.set_floats * threads + job.sums_floats * job.chunks) * sizeof(float);
}

/* A dy: values at +-a, +-b and infinity, the transpose of winograd_stride2.c's output_line; then dy itself, for the odd inputs. */
ALWAYS_INLINE void gradient_line(const vec y[OUT], vec m[IN])
{
    vec even_a = vec_fma(vec_all(A * A), y[2], y[0]), odd_a = vec_fma(vec_all(A * A * A), y[3], vec_all(A) * y[1]);
    vec even_b = vec_fma(vec_all(B * B), y[2], y[0]), odd_b = vec_fma(vec_all(B * B * B), y[3], vec_all(B) * y[1]);

    m[0] = even_a + odd_a;
    m[1] = even_a - odd_a;
    m[2] = even_b + odd_b;
    m[3] = even_b - odd_b;
    m[4] = y[3];
    UNROLL(4)
    for (int i = 0; i < OUT; i++)
        m[EVEN + i] = y[i];
}

/* W of one tile for one vector of output channels. `whole`: all of its outputs and lanes exist. */
ALWAYS_INLINE void transform_gradient(const float *from, int64_t row_stride, int64_t pixel_stride, int rows, int columns, int lanes,
                                      float *to, int64_t slot_floats, const bool whole)
{
    vec half[IN][OUT];

    UNROLL(4)
    for (int x = 0; x < OUT; x++) {
        vec y[OUT], m[IN];
        UNROLL(4)
        for (int i = 0; i < OUT; i++)
            if (whole)
                y[i] = vec_load(from + i * row_stride + x * pixel_stride);
            else
                y[i] = i < rows && x < columns ? vec_load_first(from + i * row_stride + x * pixel_stride, lanes) : vec_zero();
        gradient_line(y, m);
        UNROLL(9)
        for (int i = 0; i < IN; i++)
            half[i][x] = m[i];
    }
    UNROLL(9)
    for (int i = 0; i < IN; i++) {
        vec m[IN];
        gradient_line(half[i], m);
        UNROLL(9)
        for (int x = 0; x < IN; x++)
            vec_store(to + slot(i, x) * slot_floats, m[x]);
    }
}

/* V and W of tile `index` to place `slot` of a set. */
static void transform_both(const struct stride2_gradient_job *job, int index, int slot, float *set)
{
    const struct conv_shape *s = job->call->shape;
    const struct tile tile = tile_at(job->tile_rows, job->tile_columns, index);
    const struct map_view *gradient = &job->call->out_gradient;
    struct tile_inputs in = inputs_of(s, job->call->in, &tile);
    int rows = smaller(s->out_height - tile.y, OUT), columns = smaller(s->out_width - tile.x, OUT);
    int in_lanes = job->point_sums.in_lanes, out_lanes = job->point_sums.out_lanes;
    int64_t in_slot = (int64_t)job->set_tiles * in_lanes, out_slot = (int64_t)job->set_tiles * out_lanes;
    int64_t pixel = ((int64_t)tile.image * s->out_height + tile.y) * s->out_width + tile.x;
    int64_t stride = gradient->pixel_stride, row_stride = s->out_width * stride;
    float *v = set + (int64_t)slot * in_lanes, *w = set + POINTS * in_slot + (int64_t)slot * out_lanes;

    for (int c = 0; c < in_lanes; c += VEC_WIDTH) {
        in.inside.lanes = lanes_from(s->in_channels, c);
        if (in.whole && in.inside.lanes == VEC_WIDTH)
            transform_input(in.first + c, in.row_stride, in.pixel_stride, NULL, v + c, in_slot, true);
        else
            transform_input(in.first + c, in.row_stride, in.pixel_stride, &in.inside, v + c, in_slot, false);
    }
    for (int o = 0; o < out_lanes; o += VEC_WIDTH) {
        const float *from = gradient->data + pixel * stride + o;
        int lanes = lanes_from(s->out_channels, o);
        if (rows == OUT && columns == OUT && lanes == VEC_WIDTH)
            transform_gradient(from, row_stride, stride, rows, columns, lanes, w + o, out_slot, true);
        else
            transform_gradient(from, row_stride, stride, rows, columns, lanes, w + o, out_slot, false);
    }
}

/* Products of a set's first `tiles` tiles. A whole set's points of one weight are one run of rows. */
static void add_set(const struct stride2_gradient_job *job, int tiles, const float *set, float *sums)
{
    int in_lanes = job->point_sums.in_lanes, out_lanes = job->point_sums.out_lanes;
    const float *v = set, *w = set + (int64_t)POINTS * job->set_tiles * in_lanes;

    for (int weight = 0; weight < WEIGHTS; weight++, sums += job->point_sums.point_floats) {
        int runs = tiles == job->set_tiles ? 1 : points_of(weight), count = tiles == job->set_tiles ? points_of(weight) * tiles : tiles;
        int64_t rows = points_of(weight) / runs * job->set_tiles; /* from run to run */
        for (int run = 0; run < runs; run++, v += rows * in_lanes, w += rows * out_lanes)
            for (int column_tile = 0; column_tile < job->point_sums.column_tiles; column_tile++)
                add_products(&job->point_sums, column_tile, count, v, in_lanes, w, out_lanes, sums);
    }
}

static void chunk_task(void *context, int chunk, int worker)
{
    const struct stride2_gradient_job *job = context;
    const struct conv_shape *s = job->call->shape;
    int tiles = job->tile_rows * job->tile_columns, end = first_image(s, chunk + 1, job->chunks) * tiles;
    float *set = job->sets + worker * job->set_floats, *sums = job->sums + chunk * job->sums_floats;

    memset(sums, 0, (size_t)job->sums_floats * sizeof(float));
    for (int first = first_image(s, chunk, job->chunks) * tiles; first < end; first += job->set_tiles) {
        int count = smaller(end - first, job->set_tiles);
        for (int slot = 0; slot < count; slot++)
            transform_both(job, first + slot, slot, set);
        add_set(job, count, set, sums);
    }
}

/* G^T u along one side: taps w0 and w2 from the even inputs' points, u = (w0 + w2 p) / f(p), and at infinity w2; w1 from the odd ones'. */
ALWAYS_INLINE void tap_line(const vec u[SIDE_WEIGHTS], vec g[3])
{
    const float of_a = 1.0f / (2.0f * A * (A * A - B * B)), of_b = 1.0f / (2.0f * B * (B * B - A * A));
    vec a = vec_all(of_a) * (u[0] - u[1]), b = vec_all(of_b) * (u[2] - u[3]); /* f(-p) = -f(p) */

    g[0] = a + b;
    g[1] = u[5];
    g[2] = vec_fma(vec_all(of_a * A), u[0] + u[1], vec_fma(vec_all(of_b * B), u[2] + u[3], u[4]));
}

static void transform_taps(const float *sums, int64_t point_floats, float *taps)
{
    vec half[3][SIDE_WEIGHTS];

    for (int x = 0; x < SIDE_WEIGHTS; x++) {
        vec u[SIDE_WEIGHTS], g[3];
        for (int y = 0; y < SIDE_WEIGHTS; y++)
            u[y] = vec_load(sums + (y * SIDE_WEIGHTS + x) * point_floats);
        tap_line(u, g);
        for (int y = 0; y < 3; y++)
            half[y][x] = g[y];
    }
    for (int y = 0; y < 3; y++) {
        vec g[3];
        tap_line(half[y], g);
        for (int x = 0; x < 3; x++)
            vec_store(taps + (y * 3 + x) * VEC_WIDTH, g[x]);
    }
}

static void taps_task(void *context, int column_tile, int worker)
{
    const struct stride2_gradient_job *job = context;

    (void)worker;
    finish_column(&job->point_sums, WEIGHTS, column_tile, job->chunks, job->sums, transform_taps, job->call->weight_gradient);
}

void ISA_NAME(stride2_gradient)(const struct conv_weight_gradient_call *call)
{
    struct stride2_gradient_job job = job_of(call->shape);

    job.call = call;
    job.sums = call->scratch;
    job.sets = job.sums + job.chunks * job.sums_floats;
    thread_pool_run(call->pool, chunk_task, &job, job.chunks);
    thread_pool_run(call->pool, taps_task, &job, job.point_sums.column_tiles);
}
