/* weight_gradient_winograd.c - gradient of the weights of a dense 3x3 convolution of stride 1, with a quarter of the multiplications.
 *
 * Winograd's F(4x4, 3x3) computes y = A^T (G g G^T * B^T d B) A for a tile of 4 x 4 outputs y (winograd_transform.h). It is linear in the
 * taps g, so their gradient is the transpose of that map, summed over all tiles of all images:
 *
 *     d loss / d g  =  G^T ( sum over tiles of  (A dy A^T) * (B^T d B) ) G
 *
 * V = B^T d B and W = A dy A^T are multiplied at each of the 36 points (weight_gradient_points.h): 36 products a tile where the definition
 * takes 144.
 *
 * Tiles go in sets. Where dU is small, it is summed privately for each chunk of images, by one thread, in sets whose V and W stay in L2.
 * Else all threads transform a set's tiles, then share the points and column tiles of dU, which they add the set's products to; there a
 * set is so large that adding to dU, which does not stay in the caches where channels are many, takes little of the time, and otherwise so
 * small that V and W stay in the last cache. At the end dU is transformed to taps. Sets and chunks depend on the shape alone, so the
 * order of sums is the same for any number of threads.
 */
#include "cpu/isa/weight_gradient_points.h"
#include "cpu/isa/winograd_tile.h"

enum {
    PRIVATE_CHANNELS = 32 * 32,         /* in times out: dU up to 147 KB is summed privately */
    PRIVATE_SET_BYTES = 256 * 1024,     /* of V and W */
    SHARED_SET_BYTES = 2 * 1024 * 1024, /* or as much as dU, where that is more */
    PADDED_CHANNELS = 128,              /* multiples of it: tiles of V and W would lie so far apart that they evict each other from L1 */
    PADDING = 16                        /* floats between them, and between points */
};

struct winograd_gradient_job {
    const struct conv_weight_gradient_call *call;
    struct conv_call input; /* what transform_tile asks for */
    int tile_rows, tile_columns, tile_count, set_tiles;
    int chunks; /* of images, with sums of their own; 0: shared sums */
    struct point_sums point_sums;
    int64_t in_row, out_row;         /* floats from tile to tile in V and W */
    int64_t in_point, out_point;     /* from point to point */
    int64_t set_floats, sums_floats; /* V and W, dU */
    float *sets, *sums;              /* V (points, set_tiles, in_row) and W; dU (points, column_tiles, row_tiles, rows, vectors) */
    int first_tile, tiles;           /* shared: of the set at hand */
};

static int64_t row_of(int channels)
{
    return channels + (channels % PADDED_CHANNELS == 0 ? PADDING : 0);
}

static struct winograd_gradient_job job_of(const struct conv_shape *s)
{
    struct winograd_gradient_job job = {
        .tile_rows = divide_up(s->out_height, WINOGRAD_OUT),
        .tile_columns = divide_up(s->out_width, WINOGRAD_OUT),
        .point_sums = point_sums_of(s),
    };
    job.in_row = row_of(job.point_sums.in_lanes);
    job.out_row = row_of(job.point_sums.out_lanes);
    int64_t tile_bytes = WINOGRAD_POINTS * (job.in_row + job.out_row) * (int64_t)sizeof(float), set_bytes = PRIVATE_SET_BYTES;

    job.sums_floats = WINOGRAD_POINTS * job.point_sums.point_floats;
    job.tile_count = s->batch * job.tile_rows * job.tile_columns;
    if (job.point_sums.point_floats <= PRIVATE_CHANNELS)
        job.chunks = smaller(s->batch, MAX_CHUNKS);
    else {
        int64_t sum_bytes = job.sums_floats * (int64_t)sizeof(float);
        set_bytes = sum_bytes > SHARED_SET_BYTES ? sum_bytes : SHARED_SET_BYTES;
    }
    job.set_tiles = set_bytes / tile_bytes < job.tile_count ? (int)(set_bytes / tile_bytes) : job.tile_count;
    job.set_tiles = divide_up(job.tile_count, divide_up(job.tile_count, job.set_tiles)); /* of like size */
    job.in_point = aligned(job.set_tiles * job.in_row) + PADDING;
    job.out_point = aligned(job.set_tiles * job.out_row) + PADDING;
    job.set_floats = WINOGRAD_POINTS * (job.in_point + job.out_point);
    return job;
}

bool ISA_NAME(winograd_gradient_supports)(const struct conv_shape *s)
{
    return s->kernel == 3 && s->stride == 1 && s->dilation == 1 && s->groups == 1 && fills_point_sums(s);
}

size_t ISA_NAME(winograd_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    struct winograd_gradient_job job = job_of(s);
    return (size_t)(job.chunks ? job.set_floats * threads + job.sums_floats * job.chunks : job.set_floats + job.sums_floats)
           * sizeof(float);
}

/* A dy A^T without f for one vector of channels. `from` is the tile's first pixel; rows, columns and lanes of it exist. `whole`: all. */
ALWAYS_INLINE void transform_gradient(const float *from, int64_t row_stride, int64_t pixel_stride, int rows, int columns, int lanes,
                                      float *to, int64_t point_stride, const bool whole)
{
    vec half[WINOGRAD_IN][WINOGRAD_OUT];

    UNROLL(4)
    for (int x = 0; x < WINOGRAD_OUT; x++) {
        vec y[WINOGRAD_OUT], m[WINOGRAD_IN];
        UNROLL(4)
        for (int i = 0; i < WINOGRAD_OUT; i++)
            if (whole)
                y[i] = vec_load(from + i * row_stride + x * pixel_stride);
            else
                y[i] = i < rows && x < columns ? vec_load_first(from + i * row_stride + x * pixel_stride, lanes) : vec_zero();
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

/* Tile `index` of all to place `slot` of a set. */
static void transform_both(const struct winograd_gradient_job *job, int index, int slot, float *set)
{
    const struct conv_shape *s = job->call->shape;
    const struct map_view *gradient = &job->call->out_gradient;
    struct tile tile = tile_in_order(job->tile_rows, job->tile_columns, index);
    int rows = smaller(s->out_height - tile.y, WINOGRAD_OUT), columns = smaller(s->out_width - tile.x, WINOGRAD_OUT);
    int64_t pixel = ((int64_t)tile.image * s->out_height + tile.y) * s->out_width + tile.x,
            row_stride = s->out_width * gradient->pixel_stride;
    const float *from = gradient->data + pixel * gradient->pixel_stride;
    float *to = set + WINOGRAD_POINTS * job->in_point + slot * job->out_row;

    transform_tile(&job->input, &tile, 0, 0, s->in_channels, set + slot * job->in_row, WINOGRAD_IN * job->in_point, job->in_point);
    for (int o = 0; o < s->out_channels; o += VEC_WIDTH) {
        int lanes = smaller(s->out_channels - o, VEC_WIDTH);
        if (rows == WINOGRAD_OUT && columns == WINOGRAD_OUT && lanes == VEC_WIDTH)
            transform_gradient(from + o, row_stride, gradient->pixel_stride, rows, columns, lanes, to + o, job->out_point, true);
        else
            transform_gradient(from + o, row_stride, gradient->pixel_stride, rows, columns, lanes, to + o, job->out_point, false);
    }
}

/* A column tile of dU at one point: a set's products are added. */
static void add_set(const struct winograd_gradient_job *job, int point, int column_tile, int tiles, const float *set, float *sums)
{
    add_products(&job->point_sums, column_tile, tiles, set + point * job->in_point, job->in_row,
                 set + WINOGRAD_POINTS * job->in_point + point * job->out_point, job->out_row, sums + point * job->point_sums.point_floats);
}

static void transform_task(void *context, int slot, int worker)
{
    const struct winograd_gradient_job *job = context;
    (void)worker;
    transform_both(job, job->first_tile + slot, slot, job->sets);
}

static void product_task(void *context, int task, int worker)
{
    const struct winograd_gradient_job *job = context;
    (void)worker;
    add_set(job, task / job->point_sums.column_tiles, task % job->point_sums.column_tiles, job->tiles, job->sets, job->sums);
}

static void private_task(void *context, int chunk, int worker)
{
    const struct winograd_gradient_job *job = context;
    const struct conv_shape *s = job->call->shape;
    int tiles_per_image = job->tile_rows * job->tile_columns, end = first_image(s, chunk + 1, job->chunks) * tiles_per_image;
    float *set = job->sets + worker * job->set_floats, *sums = job->sums + chunk * job->sums_floats;

    memset(sums, 0, (size_t)job->sums_floats * sizeof(float));
    for (int first = first_image(s, chunk, job->chunks) * tiles_per_image; first < end; first += job->set_tiles) {
        int tiles = smaller(end - first, job->set_tiles);
        for (int slot = 0; slot < tiles; slot++)
            transform_both(job, first + slot, slot, set);
        for (int point = 0; point < WINOGRAD_POINTS; point++)
            for (int column_tile = 0; column_tile < job->point_sums.column_tiles; column_tile++)
                add_set(job, point, column_tile, tiles, set, sums);
    }
}

/* G^T dU G for one input channel and a vector of output channels. */
static void transform_taps(const float *sums, int64_t point_floats, float *taps)
{
    vec half[3][WINOGRAD_IN];

    for (int x = 0; x < WINOGRAD_IN; x++) {
        vec u[WINOGRAD_IN], g[3];
        for (int i = 0; i < WINOGRAD_IN; i++)
            u[i] = vec_load(sums + (i * WINOGRAD_IN + x) * point_floats);
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

static void taps_task(void *context, int column_tile, int worker)
{
    const struct winograd_gradient_job *job = context;

    (void)worker;
    finish_column(&job->point_sums, WINOGRAD_POINTS, column_tile, job->chunks, job->sums, transform_taps, job->call->weight_gradient);
}

void ISA_NAME(winograd_gradient)(const struct conv_weight_gradient_call *call)
{
    struct winograd_gradient_job job = job_of(call->shape);

    job.call = call;
    job.input = (struct conv_call){.shape = call->shape, .sources = {call->in}};
    job.sums = call->scratch;
    if (job.chunks) {
        job.sets = job.sums + job.chunks * job.sums_floats;
        thread_pool_run(call->pool, private_task, &job, job.chunks);
    } else {
        job.sets = job.sums + job.sums_floats;
        memset(job.sums, 0, (size_t)job.sums_floats * sizeof(float));
        for (job.first_tile = 0; job.first_tile < job.tile_count; job.first_tile += job.tiles) {
            job.tiles = smaller(job.tile_count - job.first_tile, job.set_tiles);
            thread_pool_run(call->pool, transform_task, &job, job.tiles);
            thread_pool_run(call->pool, product_task, &job, WINOGRAD_POINTS * job.point_sums.column_tiles);
        }
    }
    thread_pool_run(call->pool, taps_task, &job, job.point_sums.column_tiles);
}
