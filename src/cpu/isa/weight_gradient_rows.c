/* weight_gradient_rows.c - gradient of the weights of the first layers by plain sums: wide maps, stride 1, one vector of output channels.
 *
 *     d weight[ky][kx][i] (out_channels)  =  sum over y, p of  in[y + ky][p][i] * out_gradient[y][p - kx]
 *
 * With one vector of output channels a tile of inputs x outputs needs a load for every multiply-add. Here an input, once broadcast,
 * serves all taps of a window's row: the gradients of the last `kernel` pixels wait in registers and move on by one as the walk does.
 * 3 channels of a 7x7 window: 21 sums + 7 gradients + 1 broadcast, 21 multiply-adds for 4 loads; 8 channels of 3x3: 24 + 3 + 1, and 24
 * for 9. That takes 32 registers.
 *
 * Rows are copied to scratch with zeros around them, so that no tap falls outside. Sums are private to a chunk of images; the chunks are
 * added in order.
 */
#include "cpu/isa/weight_gradient_isa.h"

enum { BLOCK_ROWS = 4, STEM_KERNEL = 7, STEM_CHANNELS = 3, PLAIN_KERNEL = 3, PLAIN_CHANNELS = 8 };

struct rows_job {
    const struct conv_weight_gradient_call *call;
    int chunks, channels /* of a register tile */, tiles, columns /* of a walk: a multiple of the kernel */;
    int64_t in_row, out_row; /* floats of a copied row */
    int64_t sums_floats, worker_floats;
    float *sums, *panels;
};

bool ISA_NAME(rows_gradient_supports)(const struct conv_shape *s)
{
    bool stem = s->kernel == STEM_KERNEL && s->in_channels == STEM_CHANNELS;
    bool plain = s->kernel == PLAIN_KERNEL && s->in_channels % PLAIN_CHANNELS == 0;
    return MANY_REGISTERS && s->groups == 1 && s->stride == 1 && s->dilation == 1 && s->out_channels <= VEC_WIDTH && (stem || plain);
}

static struct rows_job rows_job_of(const struct conv_shape *s)
{
    struct rows_job job = {.chunks = s->batch < MAX_CHUNKS ? s->batch : MAX_CHUNKS};
    job.channels = s->kernel == STEM_KERNEL ? STEM_CHANNELS : PLAIN_CHANNELS;
    job.tiles = s->in_channels / job.channels;
    job.columns = divide_up(s->out_width + s->kernel - 1, s->kernel) * s->kernel;
    job.in_row = (int64_t)job.columns * s->in_channels;
    job.out_row = (int64_t)(job.columns + s->kernel - 1) * VEC_WIDTH;
    job.sums_floats = (int64_t)s->kernel * s->kernel * s->in_channels * VEC_WIDTH;
    job.worker_floats = aligned((BLOCK_ROWS + s->kernel - 1) * job.in_row) + aligned(BLOCK_ROWS * job.out_row);
    return job;
}

size_t ISA_NAME(rows_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    struct rows_job job = rows_job_of(s);
    return (size_t)(aligned(job.sums_floats * job.chunks) + job.worker_floats * threads) * sizeof(float);
}

/* One window row of one tile of channels, along one row: sums [kx][channel][lanes] += ... in (columns) pixels of in_pixel floats,
 * out (kernel - 1 zeros, columns)(lanes). kernel and channels are constants at every call. */
ALWAYS_INLINE void walk_row(const float *in, int64_t in_pixel, const float *out, int columns, float *sums, const int kernel,
                            const int channels)
{
    vec sum[PLAIN_KERNEL * PLAIN_CHANNELS], gradient[STEM_KERNEL];

    UNROLL(24)
    for (int k = 0; k < kernel * channels; k++)
        sum[k] = vec_load(sums + k * VEC_WIDTH);
    UNROLL(7)
    for (int k = 0; k < kernel - 1; k++)
        gradient[k] = vec_load(out + k * VEC_WIDTH);
    out += (kernel - 1) * VEC_WIDTH;
    for (int p = 0; p < columns; p += kernel) {
        UNROLL(7)
        for (int step = 0; step < kernel; step++, in += in_pixel, out += VEC_WIDTH) {
            gradient[(step + kernel - 1) % kernel] = vec_load(out); /* of column p + step; tap kx takes that kx columns before */
            UNROLL(8)
            for (int i = 0; i < channels; i++) {
                vec value = vec_all(in[i]);
                UNROLL(7)
                for (int kx = 0; kx < kernel; kx++)
                    sum[kx * channels + i] = vec_fma(value, gradient[(step + 2 * kernel - 1 - kx) % kernel], sum[kx * channels + i]);
            }
        }
    }
    UNROLL(24)
    for (int k = 0; k < kernel * channels; k++)
        vec_store(sums + k * VEC_WIDTH, sum[k]);
}

static void walk_stem(const float *in, int64_t in_pixel, const float *out, int columns, float *sums)
{
    walk_row(in, in_pixel, out, columns, sums, STEM_KERNEL, STEM_CHANNELS);
}

static void walk_plain(const float *in, int64_t in_pixel, const float *out, int columns, float *sums)
{
    walk_row(in, in_pixel, out, columns, sums, PLAIN_KERNEL, PLAIN_CHANNELS);
}

/* Input row y of an image from column -padding on, zeros where there is none: to (columns, in_channels). */
static void copy_in(const struct rows_job *job, int image, int y, float *to)
{
    const struct conv_shape *s = job->call->shape;
    const struct map_view *map = &job->call->in;
    int64_t channels = s->in_channels, before = s->padding < job->columns ? s->padding : job->columns;
    int64_t inside = s->in_width < job->columns - before ? s->in_width : job->columns - before;

    if (y < 0 || y >= s->in_height) {
        memset(to, 0, (size_t)job->in_row * sizeof(float));
        return;
    }
    const float *from = map->data + ((int64_t)image * s->in_height + y) * s->in_width * map->pixel_stride;
    memset(to, 0, (size_t)(before * channels) * sizeof(float));
    if (map->pixel_stride == channels)
        memcpy(to + before * channels, from, (size_t)(inside * channels) * sizeof(float));
    else
        for (int64_t x = 0; x < inside; x++)
            memcpy(to + (before + x) * channels, from + x * map->pixel_stride, (size_t)channels * sizeof(float));
    memset(to + (before + inside) * channels, 0, (size_t)((job->columns - before - inside) * channels) * sizeof(float));
}

/* Row y of the output's gradient between zeros: to (kernel - 1 + columns, lanes). */
static void copy_out(const struct rows_job *job, int image, int y, float *to)
{
    const struct conv_shape *s = job->call->shape;
    const struct map_view *map = &job->call->out_gradient;
    const float *from = map->data + ((int64_t)image * s->out_height + y) * s->out_width * map->pixel_stride;
    float *end = to + job->out_row;

    for (int x = 0; x < s->kernel - 1; x++, to += VEC_WIDTH)
        vec_store(to, vec_zero());
    for (int x = 0; x < s->out_width; x++, to += VEC_WIDTH)
        vec_store(to, vec_load_first(from + x * map->pixel_stride, s->out_channels));
    for (; to < end; to += VEC_WIDTH)
        vec_store(to, vec_zero());
}

/* A chunk of images: sums (window rows)(tiles)(window columns)(channels of a tile)(lanes). */
static void rows_task(void *context, int chunk, int worker)
{
    const struct rows_job *job = context;
    const struct conv_shape *s = job->call->shape;
    float *sums = job->sums + chunk * job->sums_floats, *in_rows = job->panels + worker * job->worker_floats;
    float *out_rows = in_rows + aligned((BLOCK_ROWS + s->kernel - 1) * job->in_row);
    int64_t tile_sums = (int64_t)s->kernel * job->channels * VEC_WIDTH;

    memset(sums, 0, (size_t)job->sums_floats * sizeof(float));
    for (int image = first_image(s, chunk, job->chunks); image < first_image(s, chunk + 1, job->chunks); image++)
        for (int first = 0; first < s->out_height; first += BLOCK_ROWS) {
            int rows = s->out_height - first < BLOCK_ROWS ? s->out_height - first : BLOCK_ROWS;
            for (int row = 0; row < rows + s->kernel - 1; row++)
                copy_in(job, image, first + row - s->padding, in_rows + row * job->in_row);
            for (int row = 0; row < rows; row++)
                copy_out(job, image, first + row, out_rows + row * job->out_row);
            for (int row = 0; row < rows; row++)
                for (int ky = 0; ky < s->kernel; ky++)
                    for (int tile = 0; tile < job->tiles; tile++)
                        (s->kernel == STEM_KERNEL ? walk_stem : walk_plain)(in_rows + (row + ky) * job->in_row + tile * job->channels,
                                                                            s->in_channels, out_rows + row * job->out_row, job->columns,
                                                                            sums + (ky * job->tiles + tile) * tile_sums);
        }
}

void ISA_NAME(rows_gradient)(const struct conv_weight_gradient_call *call)
{
    const struct conv_shape *s = call->shape;
    struct rows_job job = rows_job_of(s);

    job.call = call;
    job.sums = call->scratch;
    job.panels = job.sums + aligned(job.sums_floats * job.chunks);
    thread_pool_run(call->pool, rows_task, &job, job.chunks);
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < s->in_channels; i++)
            for (int tap = 0; tap < s->kernel * s->kernel; tap++) {
                int ky = tap / s->kernel, kx = tap % s->kernel, tile = i / job.channels, channel = i % job.channels;
                int64_t at = (((int64_t)ky * job.tiles + tile) * s->kernel + kx) * job.channels + channel;
                float sum = 0.0f;
                for (int chunk = 0; chunk < job.chunks; chunk++)
                    sum += job.sums[chunk * job.sums_floats + at * VEC_WIDTH + o];
                call->weight_gradient[((int64_t)o * s->in_channels + i) * s->kernel * s->kernel + tap] += sum;
            }
}
