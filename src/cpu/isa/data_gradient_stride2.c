/* data_gradient_stride2.c - gradient of the input of a dense 3x3 convolution of stride 2 and padding 1 by Winograd's F(4x4, 2x2): 0.56 of the
 * multiplications.
 *
 * Along one side, out_gradient dy reaches the input, dx, by two taps or by one:
 *
 *     dx[2k + 1] = w2 dy[k] + w0 dy[k + 1]        a filter of two taps, F(4, 2)
 *     dx[2k]     = w1 dy[k]                       plain products
 *
 * A tile is 4 x 4 pixels of dy, with one more behind it, and 8 x 8 of dx. In two dimensions the 81 products are those of the forward
 * convolution (winograd_stride2_tile.h) with the taps turned around, but each kind of points gives pixels of its own:
 *
 *     y \ x            two taps                 one tap
 *     two taps         dx[2k + 1][2l + 1]       dx[2k + 1][2l]
 *     one tap          dx[2k][2l + 1]           dx[2k][2l]
 */
#include "cpu/isa/data_gradient_isa.h"
#include "cpu/isa/winograd_stride2_product.h"

struct stride2_data_job {
    const struct conv_data_gradient_call *call;
    int tile_rows, tile_columns, tile_count; /* of an image, of all images */
    int chunk_count;                         /* of output channels */
    int64_t vector_floats;                   /* weights of a vector of input channels */
    int64_t input_floats, worker_floats;     /* V; it and M */
};

static struct stride2_data_job job_of(const struct conv_shape *s)
{
    struct stride2_data_job job = {.tile_rows = divide_up(s->out_height, OUT),
                                   .tile_columns = divide_up(s->out_width, OUT),
                                   .chunk_count = divide_up(s->out_channels, CHUNK)};

    job.tile_count = s->batch * job.tile_rows * job.tile_columns;
    job.vector_floats = (int64_t)WEIGHTS * job.chunk_count * CHUNK * VEC_WIDTH;
    job.input_floats = (int64_t)POINTS * TILES * job.chunk_count * CHUNK;
    job.worker_floats = job.input_floats + (int64_t)BLOCK_VECTORS * VECTOR_PRODUCTS;
    return job;
}

size_t ISA_NAME(stride2_data_packed_bytes)(const struct conv_shape *s)
{
    return (size_t)(vec_count(s->in_channels) * job_of(s).vector_floats) * sizeof(float);
}

bool ISA_NAME(stride2_data_supports)(const struct conv_shape *s)
{
    return has_stride2_tiles(s) && s->padding == 1 && s->out_channels >= CHUNK
           && ISA_NAME(stride2_data_packed_bytes)(s) <= MAX_WEIGHT_BYTES;
}

size_t ISA_NAME(stride2_data_scratch_bytes)(const struct conv_shape *s, int threads)
{
    return (size_t)(job_of(s).worker_floats * threads) * sizeof(float);
}

/* packed: (vectors of in_channels)(weights)(chunks of out_channels)(lanes) */
void ISA_NAME(stride2_data_pack)(const struct conv_shape *s, const float *weight, void *packed)
{
    struct stride2_data_job job = job_of(s);
    float *out = packed;

    memset(packed, 0, ISA_NAME(stride2_data_packed_bytes)(s));
    for (int first = 0; first < s->in_channels; first += VEC_WIDTH, out += job.vector_floats)
        for (int o = 0; o < s->out_channels; o++) {
            float turned[TAPS * VEC_WIDTH] = {0.0f};
            for (int lane = 0; lane < VEC_WIDTH && first + lane < s->in_channels; lane++)
                for (int tap = 0; tap < TAPS; tap++)
                    turned[tap * VEC_WIDTH + lane] = weight[((int64_t)o * s->in_channels + first + lane) * TAPS + TAPS - 1 - tap];
            put_weights(turned, out + o * VEC_WIDTH, job.vector_floats / WEIGHTS);
        }
}

/* V of one tile for one vector of channels, of which `rows` x `columns` pixels and `lanes` lanes exist. */
ALWAYS_INLINE void transform_gradient(const float *from, int64_t row_stride, int64_t pixel_stride, int rows, int columns, int lanes,
                                      float *out, const bool whole)
{
    vec d[EVEN][EVEN], row[IN][EVEN];

    UNROLL(5)
    for (int x = 0; x < EVEN; x++) {
        vec column[EVEN], v[EVEN];
        UNROLL(5)
        for (int y = 0; y < EVEN; y++) {
            const float *pixel = from + y * row_stride + x * pixel_stride;
            if (whole)
                d[y][x] = vec_load(pixel);
            else
                d[y][x] = y < rows && x < columns ? vec_load_first(pixel, lanes) : vec_zero();
            column[y] = d[y][x];
        }
        even_line(column, v);
        UNROLL(5)
        for (int y = 0; y < EVEN; y++)
            row[y][x] = v[y];
        UNROLL(4)
        for (int y = 0; y < OUT; y++)
            row[EVEN + y][x] = d[y][x];
    }
    UNROLL(9)
    for (int y = 0; y < IN; y++) {
        vec v[EVEN];
        even_line(row[y], v);
        UNROLL(5)
        for (int x = 0; x < EVEN; x++)
            vec_store(out + slot(y, x) * TILES * CHUNK, v[x]);
        UNROLL(4)
        for (int x = 0; x < OUT; x++)
            vec_store(out + slot(y, EVEN + x) * TILES * CHUNK, row[y][x]);
    }
}

/* Tiles are passed by number: one that is written in parts and read as a whole would wait for all stores before it. */
static void transform_tile(const struct stride2_data_job *job, int index, float *input)
{
    const struct conv_shape *s = job->call->shape;
    const struct tile tile = tile_at(job->tile_rows, job->tile_columns, index);
    const struct map_view *gradient = &job->call->out_gradient;
    int rows = smaller(s->out_height - tile.y, EVEN), columns = smaller(s->out_width - tile.x, EVEN);
    int64_t stride = gradient->pixel_stride, row_stride = s->out_width * stride;
    const float *from = gradient->data + ((int64_t)tile.image * s->out_height + tile.y) * row_stride + tile.x * stride;

    for (int channel = 0; channel < job->chunk_count * CHUNK; channel += VEC_WIDTH) {
        float *out = input + (int64_t)(channel / CHUNK) * POINTS * TILES * CHUNK + channel % CHUNK;
        int lanes = lanes_from(s->out_channels, channel);
        if (rows == EVEN && columns == EVEN && lanes == VEC_WIDTH)
            transform_gradient(from + channel, row_stride, stride, rows, columns, lanes, out, true);
        else
            transform_gradient(from + channel, row_stride, stride, rows, columns, lanes, out, false);
    }
}

/* Where a tile's part of dx goes, and how much of it exists. */
struct target {
    float *first;
    int64_t row_stride, pixel_stride;
    int rows, columns, lanes;
    bool accumulate;
};

/* Four results at the points of F(4, 2). */
ALWAYS_INLINE void two_taps(const vec m[EVEN], vec y[OUT])
{
    vec even_a = m[0] + m[1], odd_a = m[0] - m[1];
    vec even_b = m[2] + m[3], odd_b = m[2] - m[3];

    y[0] = even_a + even_b;
    y[1] = vec_fma(vec_all(A), odd_a, vec_all(B) * odd_b);
    y[2] = vec_fma(vec_all(A * A), even_a, vec_all(B * B) * even_b);
    y[3] = vec_fma(vec_all(A * A * A), odd_a, vec_fma(vec_all(B * B * B), odd_b, m[4]));
}

/* One row of dx, from its nine points. `whole`: all pixels and lanes exist, and nothing is added. */
ALWAYS_INLINE void store_row(const struct target *to, int y, const vec m[IN], const bool whole)
{
    vec odd[OUT];

    if (!whole && y >= to->rows)
        return;
    two_taps(m, odd);
    UNROLL(8)
    for (int x = 0; x < 2 * OUT; x++) {
        float *pixel = to->first + y * to->row_stride + x * to->pixel_stride;
        vec value = x % 2 == 0 ? m[EVEN + x / 2] : odd[x / 2];
        if (!whole && x >= to->columns)
            break;
        if (!whole && to->accumulate)
            value = value + vec_load_first(pixel, to->lanes);
        if (whole)
            vec_store(pixel, value);
        else
            vec_store_first(pixel, value, to->lanes);
    }
}

/* `m` is the tile's slot 0 in M. */
ALWAYS_INLINE void transform_output(const float *m, const struct target *to, const bool whole)
{
    vec odd[OUT][IN];

    UNROLL(9)
    for (int x = 0; x < IN; x++) {
        vec column[EVEN], y[OUT];
        UNROLL(5)
        for (int i = 0; i < EVEN; i++)
            column[i] = vec_load(m + slot(i, x) * TILES * VEC_WIDTH);
        two_taps(column, y);
        UNROLL(4)
        for (int i = 0; i < OUT; i++)
            odd[i][x] = y[i];
    }
    UNROLL(4)
    for (int y = 0; y < OUT; y++) {
        vec even[IN];
        UNROLL(9)
        for (int x = 0; x < IN; x++)
            even[x] = vec_load(m + slot(EVEN + y, x) * TILES * VEC_WIDTH);
        store_row(to, 2 * y, even, whole);
        store_row(to, 2 * y + 1, odd[y], whole);
    }
}

static void finish_tile(const struct stride2_data_job *job, int index, int channel, const float *m)
{
    const struct conv_shape *s = job->call->shape;
    const struct tile tile = tile_at(job->tile_rows, job->tile_columns, index);
    const struct map_view *gradient = &job->call->in_gradient;
    int y = 2 * tile.y, x = 2 * tile.x;
    struct target to = {
        .first = gradient->data + (((int64_t)tile.image * s->in_height + y) * s->in_width + x) * gradient->pixel_stride + channel,
        .row_stride = s->in_width * gradient->pixel_stride,
        .pixel_stride = gradient->pixel_stride,
        .rows = s->in_height - y,
        .columns = s->in_width - x,
        .lanes = lanes_from(s->in_channels, channel),
        .accumulate = job->call->accumulate,
    };

    if (to.rows >= 2 * OUT && to.columns >= 2 * OUT && to.lanes == VEC_WIDTH && !to.accumulate)
        transform_output(m, &to, true);
    else
        transform_output(m, &to, false);
}

/* A task is a set of tiles. In the last one tiles may be missing; what is computed in their place is dropped. */
static void set_task(void *context, int task, int worker)
{
    const struct stride2_data_job *job = context;
    const struct conv_data_gradient_call *call = job->call;
    int first = task * TILES, tiles = smaller(job->tile_count - first, TILES);
    float *input = (float *)call->scratch + worker * job->worker_floats, *products = input + job->input_floats;

    for (int i = 0; i < tiles; i++)
        transform_tile(job, first + i, input + (int64_t)i * CHUNK);
    for (int v = 0, done, count = vec_count(call->shape->in_channels); v < count; v += done) {
        done = multiply(input, job->chunk_count, (const float *)call->packed + v * job->vector_floats, products, count - v);
        for (int o = 0; o < done; o++)
            for (int i = 0; i < tiles; i++)
                finish_tile(job, first + i, (v + o) * VEC_WIDTH, products + o * VECTOR_PRODUCTS + i * VEC_WIDTH);
    }
}

void ISA_NAME(stride2_data)(const struct conv_data_gradient_call *call)
{
    struct stride2_data_job job = job_of(call->shape);

    job.call = call;
    thread_pool_run(call->pool, set_task, &job, divide_up(job.tile_count, TILES));
}
