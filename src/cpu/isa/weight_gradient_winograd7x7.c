/* weight_gradient_winograd7x7.c - gradient of the weights of the first layer, a 7x7 convolution of stride 1 over an image, with a quarter of
 * the multiplications.
 *
 * Forward is, at each of 49 points, a 2 x 2 convolution over tiles of 4 x 4 outputs, y = A^T (sum over parts of (G g G^T) * V) A
 * (winograd7x7_input.h, winograd7x7.c). It is linear in the taps g of each part, so their gradient is the transpose of that map:
 *
 *     d loss / d g[part]  =  G^T ( sum over tiles of  (A dy A^T) * V[tile + part] ) G
 *
 * For an input channel and a vector of output channels the sums at a point are four vectors, one a part. A row of tiles at a time, W = A dy
 * A^T is written for all of its tiles; then, point by point, the sums of all parts and channels stay in registers while the row's tiles
 * pass: with three channels 12 sums + 1 vector of W, multiplied by numbers of V.
 *
 * A chunk of images has sums of its own, which are added in order and transformed at the end.
 */
#include "cpu/isa/weight_gradient_isa.h"
#include "cpu/isa/winograd7x7_input.h"

struct stem_gradient_job {
    const struct conv_weight_gradient_call *call;
    struct tile_grid grid;
    int chunks, vectors;                              /* of output channels */
    int64_t point_floats, sums_floats, worker_floats; /* W of a row at a point; the sums of a vector of output channels */
    float *sums /* (chunks, vectors, POINTS, part in y, channels, part in x, lanes) */, *scratch;
};

static struct stem_gradient_job job_of(const struct conv_shape *s)
{
    struct stem_gradient_job job = {.grid = grid_of(s), .chunks = smaller(s->batch, MAX_CHUNKS), .vectors = vec_count(s->out_channels)};

    job.point_floats = (int64_t)job.grid.tile_columns * VEC_WIDTH;
    job.sums_floats = (int64_t)POINTS * PARTS * PARTS * s->in_channels * VEC_WIDTH;
    job.worker_floats = aligned(job.grid.scratch_floats + POINTS * job.point_floats);
    return job;
}

bool ISA_NAME(stem_gradient_supports)(const struct conv_shape *s)
{
    return has_7x7_tiles(s);
}

size_t ISA_NAME(stem_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    struct stem_gradient_job job = job_of(s);
    return (size_t)(job.chunks * job.vectors * job.sums_floats + threads * job.worker_floats) * sizeof(float);
}

/* A y, the transpose of winograd7x7.c's output_line. */
ALWAYS_INLINE void gradient_pair(const vec y[OUT], const float p, vec *plus, vec *minus)
{
    vec even = vec_fma(vec_all(p * p), y[2], y[0]), odd = vec_fma(vec_all(p * p * p), y[3], vec_all(p) * y[1]);
    *plus = even + odd;
    *minus = even - odd;
}

ALWAYS_INLINE void gradient_line(const vec y[OUT], vec m[IN])
{
    gradient_pair(y, A, &m[0], &m[1]);
    gradient_pair(y, B, &m[2], &m[3]);
    gradient_pair(y, C, &m[4], &m[5]);
    m[6] = y[3];
}

/* W of one tile, `rows` x `columns` of which exist. `whole`: all of them, and all lanes. */
ALWAYS_INLINE void transform_gradient(const float *from, int64_t row_stride, int64_t pixel_stride, int rows, int columns, int lanes,
                                      float *to, int64_t point_stride, const bool whole)
{
    vec half[IN][OUT];

    UNROLL(4)
    for (int x = 0; x < OUT; x++) {
        vec y[OUT], m[IN];
        UNROLL(4)
        for (int i = 0; i < OUT; i++) {
            const float *pixel = from + i * row_stride + x * pixel_stride;
            if (whole)
                y[i] = vec_load(pixel);
            else
                y[i] = i < rows && x < columns ? vec_load_first(pixel, lanes) : vec_zero();
        }
        gradient_line(y, m);
        UNROLL(7)
        for (int i = 0; i < IN; i++)
            half[i][x] = m[i];
    }
    UNROLL(7)
    for (int i = 0; i < IN; i++) {
        vec m[IN];
        gradient_line(half[i], m);
        UNROLL(7)
        for (int x = 0; x < IN; x++)
            vec_store(to + (i * IN + x) * point_stride, m[x]);
    }
}

/* W of a row of tiles for one vector of output channels: (POINTS, tiles, lanes). */
static void transform_row(const struct stem_gradient_job *job, int image, int tile_row, int channel, float *to)
{
    const struct conv_shape *s = job->call->shape;
    const struct map_view *gradient = &job->call->out_gradient;
    int rows = smaller(s->out_height - tile_row * OUT, OUT), lanes = smaller(s->out_channels - channel, VEC_WIDTH);
    int64_t stride = gradient->pixel_stride, row_stride = s->out_width * stride;
    const float *from = gradient->data + ((int64_t)image * s->out_height + tile_row * OUT) * row_stride + channel;

    for (int tile = 0; tile < job->grid.tile_columns; tile++, from += OUT * stride, to += VEC_WIDTH) {
        int columns = smaller(s->out_width - tile * OUT, OUT);
        if (rows == OUT && columns == OUT && lanes == VEC_WIDTH)
            transform_gradient(from, row_stride, stride, rows, columns, lanes, to, job->point_floats, true);
        else
            transform_gradient(from, row_stride, stride, rows, columns, lanes, to, job->point_floats, false);
    }
}

/* A row of tiles at one point. upper, lower: V at the point of this row's first block and the next row's; blocks are `block_floats` apart.
 * sums: (part in y, inputs, part in x, lanes). */
ALWAYS_INLINE void add_row(const struct tile_grid *g, const float *upper, const float *lower, int64_t block_floats, const float *w,
                           float *sums, const int inputs)
{
    vec sum[PARTS * MAX_INPUTS * PARTS];

    UNROLL(16)
    for (int n = 0; n < PARTS * inputs * PARTS; n++)
        sum[n] = vec_load(sums + n * VEC_WIDTH);
    for (int index = 0; index < g->block_count; index++, upper += block_floats, lower += block_floats) {
        int tiles = smaller(g->tile_columns - index * TILES, TILES);
        for (int tile = 0; tile < tiles; tile++, w += VEC_WIDTH) {
            vec gradient = vec_load(w);
            UNROLL(4)
            for (int i = 0; i < inputs; i++) {
                UNROLL(2)
                for (int x = 0; x < PARTS; x++) {
                    sum[i * PARTS + x] = vec_fma_all(upper + i * LINE + tile + x, gradient, sum[i * PARTS + x]);
                    sum[(inputs + i) * PARTS + x] = vec_fma_all(lower + i * LINE + tile + x, gradient, sum[(inputs + i) * PARTS + x]);
                }
            }
        }
    }
    UNROLL(16)
    for (int n = 0; n < PARTS * inputs * PARTS; n++)
        vec_store(sums + n * VEC_WIDTH, sum[n]);
}

ALWAYS_INLINE void add_points(const struct tile_grid *g, const float *upper, const float *lower, const float *w, int64_t point_floats,
                              float *sums, const int inputs)
{
    for (int point = 0; point < POINTS; point++)
        add_row(g, upper + point * inputs * LINE, lower + point * inputs * LINE, POINTS * inputs * LINE, w + point * point_floats,
                sums + point * PARTS * inputs * PARTS * VEC_WIDTH, inputs);
}

typedef void points_function(const struct tile_grid *g, const float *upper, const float *lower, const float *w, int64_t point_floats,
                             float *sums);

#define POINTS_FUNCTION(inputs)                                                                                                            \
    static void add_points_##inputs(const struct tile_grid *g, const float *upper, const float *lower, const float *w,                     \
                                    int64_t point_floats, float *sums)                                                                     \
    {                                                                                                                                      \
        add_points(g, upper, lower, w, point_floats, sums, inputs);                                                                        \
    }
POINTS_FUNCTION(1)
POINTS_FUNCTION(2)
POINTS_FUNCTION(3)
POINTS_FUNCTION(4)

static points_function *const points_functions[MAX_INPUTS] = {add_points_1, add_points_2, add_points_3, add_points_4};

static void chunk_task(void *context, int chunk, int worker)
{
    const struct stem_gradient_job *job = context;
    const struct conv_weight_gradient_call *call = job->call;
    const struct conv_shape *s = call->shape;
    const struct tile_grid *g = &job->grid;
    float *sums = job->sums + chunk * job->vectors * job->sums_floats, *scratch = job->scratch + worker * job->worker_floats;
    float *w = scratch + g->scratch_floats;

    memset(sums, 0, (size_t)(job->vectors * job->sums_floats) * sizeof(float));
    for (int image = first_image(s, chunk, job->chunks); image < first_image(s, chunk + 1, job->chunks); image++) {
        struct input_rows input = start_rows(s, call->in, g, image, 0, scratch);
        next_row(&input);
        for (int row = 0; row < g->tile_rows; row++) {
            next_row(&input);
            for (int v = 0; v < job->vectors; v++) {
                transform_row(job, image, row, v * VEC_WIDTH, w);
                points_functions[s->in_channels - 1](g, row_input(&input, row), row_input(&input, row + 1), w, job->point_floats,
                                                     sums + v * job->sums_floats);
            }
        }
    }
}

/* G^T u G of one part of the window, for one input channel and a vector of output channels: u at the first point, taps (OUT, OUT). */
static void transform_taps(const float *u, int64_t point_floats, double factors[IN][OUT], vec taps[OUT][OUT])
{
    vec half[OUT][IN];

    for (int x = 0; x < IN; x++)
        for (int k = 0; k < OUT; k++) {
            half[k][x] = vec_zero();
            for (int i = 0; i < IN; i++)
                half[k][x] = vec_fma(vec_all((float)factors[i][k]), vec_load(u + (i * IN + x) * point_floats), half[k][x]);
        }
    for (int y = 0; y < OUT; y++)
        for (int k = 0; k < OUT; k++) {
            taps[y][k] = vec_zero();
            for (int i = 0; i < IN; i++)
                taps[y][k] = vec_fma(vec_all((float)factors[i][k]), half[y][i], taps[y][k]);
        }
}

/* A vector of output channels: all chunks' sums, added in order, to taps, which are added to the weights' gradient. */
static void taps_task(void *context, int vector, int worker)
{
    const struct stem_gradient_job *job = context;
    const struct conv_shape *s = job->call->shape;
    int inputs = s->in_channels, lanes = smaller(s->out_channels - vector * VEC_WIDTH, VEC_WIDTH);
    int64_t point_floats = PARTS * inputs * PARTS * VEC_WIDTH;
    float *sums = job->sums + vector * job->sums_floats;
    double factors[IN][OUT];

    (void)worker;
    for (int chunk = 1; chunk < job->chunks; chunk++)
        for (int64_t at = 0; at < job->sums_floats; at += VEC_WIDTH)
            vec_store(sums + at, vec_load(sums + at) + vec_load(sums + chunk * job->vectors * job->sums_floats + at));
    tap_factors(factors);
    for (int n = 0; n < PARTS * inputs * PARTS; n++) {
        int y = n / (inputs * PARTS) * OUT, i = n / PARTS % inputs, x = n % PARTS * OUT; /* the part's first tap */
        vec taps[OUT][OUT];
        transform_taps(sums + n * VEC_WIDTH, point_floats, factors, taps);
        for (int ky = y; ky < smaller(y + OUT, KERNEL); ky++)
            for (int kx = x; kx < smaller(x + OUT, KERNEL); kx++) {
                float lane[VEC_WIDTH];
                float *to = job->call->weight_gradient + ((int64_t)(vector * VEC_WIDTH * inputs + i) * KERNEL + ky) * KERNEL + kx;
                vec_store(lane, taps[ky - y][kx - x]);
                for (int o = 0; o < lanes; o++)
                    to[(int64_t)o * inputs * KERNEL * KERNEL] += lane[o];
            }
    }
}

void ISA_NAME(stem_gradient)(const struct conv_weight_gradient_call *call)
{
    struct stem_gradient_job job = job_of(call->shape);

    job.call = call;
    job.sums = call->scratch;
    job.scratch = job.sums + job.chunks * job.vectors * job.sums_floats;
    thread_pool_run(call->pool, chunk_task, &job, job.chunks);
    thread_pool_run(call->pool, taps_task, &job, job.vectors);
}
