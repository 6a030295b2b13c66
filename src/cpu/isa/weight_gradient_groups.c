/* weight_gradient_groups.c - gradient of the weights of a convolution of many narrow groups.
 *
 * Lanes are output channels, and for each of the g input channels j of a group a copy of `in` is laid out in which every lane holds
 * channel j of its own group (groups_isa.h); then a vector of out_gradient times a vector of copy j, summed over the pixels, is a tap.
 */
#include "cpu/isa/weight_gradient_isa.h"

struct narrow_job {
    const struct conv_weight_gradient_call *call;
    int chunks, rows_per_block, padded_width, vectors;
    int64_t sums_floats, worker_floats;
    float *sums, *panels;
};

static struct narrow_job narrow_job_of(const struct conv_shape *s)
{
    struct narrow_job job = {0};
    int width = s->in_channels / s->groups;
    job.chunks = s->batch < MAX_CHUNKS ? s->batch : MAX_CHUNKS;
    job.rows_per_block = divide_up(BLOCK_PIXELS / width, s->out_width);
    job.rows_per_block = job.rows_per_block > s->out_height ? s->out_height : job.rows_per_block;
    job.padded_width = (s->out_width - 1) * s->stride + (s->kernel - 1) * s->dilation + 1;
    job.vectors = divide_up(s->in_channels, VEC_WIDTH);
    job.sums_floats = (int64_t)job.vectors * s->kernel * s->kernel * width * VEC_WIDTH;
    job.worker_floats = aligned((int64_t)input_rows(s, job.rows_per_block) * job.padded_width * width * VEC_WIDTH)
                        + aligned((int64_t)job.rows_per_block * s->out_width * VEC_WIDTH);
    return job;
}

/* sums [kx][j] += out_gradient * copy j of the input, for `taps` neighbouring taps of one window row. taps and width are
 * constants at the calls that matter. */
ALWAYS_INLINE void narrow_tile(const float *in, const float *out, int rows, int columns, int64_t in_row, int64_t in_column, int64_t in_tap,
                               float *sums, int taps, int width)
{
    vec sum[3][8];
    for (int t = 0; t < taps; t++)
        for (int j = 0; j < width; j++)
            sum[t][j] = vec_load(sums + (t * width + j) * VEC_WIDTH);
    for (int row = 0; row < rows; row++) {
        const float *pixel = in + row * in_row;
        for (int column = 0; column < columns; column++, pixel += in_column, out += VEC_WIDTH) {
            vec o = vec_load(out);
            for (int t = 0; t < taps; t++)
                for (int j = 0; j < width; j++)
                    sum[t][j] = vec_fma(o, vec_load(pixel + t * in_tap + j * VEC_WIDTH), sum[t][j]);
        }
    }
    for (int t = 0; t < taps; t++)
        for (int j = 0; j < width; j++)
            vec_store(sums + (t * width + j) * VEC_WIDTH, sum[t][j]);
}

static void narrow_window_row(const float *in, const float *out, int rows, int columns, int64_t in_row, int64_t in_column, int64_t in_tap,
                              float *sums, int kernel, int width)
{
    if (kernel == 3 && width == 8)
        narrow_tile(in, out, rows, columns, in_row, in_column, in_tap, sums, 3, 8);
    else if (kernel == 3 && width == 4)
        narrow_tile(in, out, rows, columns, in_row, in_column, in_tap, sums, 3, 4);
    else if (kernel == 3 && width == 2)
        narrow_tile(in, out, rows, columns, in_row, in_column, in_tap, sums, 3, 2);
    else
        for (int kx = 0; kx < kernel; kx++)
            for (int j = 0; j < width; j++)
                narrow_tile(in + kx * in_tap + j * VEC_WIDTH, out, rows, columns, in_row, in_column, in_tap,
                            sums + (kx * width + j) * VEC_WIDTH, 1, 1);
}

static void narrow_task(void *context, int chunk, int worker)
{
    const struct narrow_job *job = context;
    const struct conv_shape *s = job->call->shape;
    int width = s->in_channels / s->groups, taps = s->kernel * s->kernel;
    int first = first_image(s, chunk, job->chunks), end = first_image(s, chunk + 1, job->chunks);
    float *sums = job->sums + chunk * job->sums_floats, *panel = job->panels + worker * job->worker_floats;
    float *out_panel = panel + aligned((int64_t)input_rows(s, job->rows_per_block) * job->padded_width * width * VEC_WIDTH);
    memset(sums, 0, (size_t)job->sums_floats * sizeof(float));
    for (int image = first; image < end; image++)
        for (int row = 0; row < s->out_height; row += job->rows_per_block) {
            int rows = s->out_height - row < job->rows_per_block ? s->out_height - row : job->rows_per_block;
            for (int v = 0; v < job->vectors; v++) {
                int channel = v * VEC_WIDTH, lanes = s->in_channels - channel < VEC_WIDTH ? s->in_channels - channel : VEC_WIDTH;
                spread_groups(job->call->in, s->in_height, s->in_width, image, row * s->stride - s->padding, -s->padding,
                              input_rows(s, rows), job->padded_width, channel, lanes, width, panel);
                const float *from = job->call->out_gradient.data
                                    + ((int64_t)image * s->out_height + row) * s->out_width * job->call->out_gradient.pixel_stride
                                    + channel;
                for (int64_t p = 0; p < (int64_t)rows * s->out_width; p++)
                    vec_store(out_panel + p * VEC_WIDTH, vec_load_first(from + p * job->call->out_gradient.pixel_stride, lanes));
                int64_t pixel = (int64_t)width * VEC_WIDTH;
                for (int ky = 0; ky < s->kernel; ky++)
                    narrow_window_row(panel + (int64_t)ky * s->dilation * job->padded_width * pixel, out_panel, rows, s->out_width,
                                      (int64_t)s->stride * job->padded_width * pixel, s->stride * pixel, s->dilation * pixel,
                                      sums + ((int64_t)v * taps + ky * s->kernel) * pixel, s->kernel, width);
            }
        }
}

void ISA_NAME(groups_gradient)(const struct conv_weight_gradient_call *call)
{
    const struct conv_shape *s = call->shape;
    struct narrow_job job = narrow_job_of(s);
    int width = s->in_channels / s->groups, taps = s->kernel * s->kernel;
    job.call = call;
    job.sums = call->scratch;
    job.panels = job.sums + aligned(job.sums_floats * job.chunks);
    thread_pool_run(call->pool, narrow_task, &job, job.chunks);
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < width; i++)
            for (int tap = 0; tap < taps; tap++) {
                float sum = 0.0f;
                for (int chunk = 0; chunk < job.chunks; chunk++)
                    sum += job.sums[chunk * job.sums_floats + (((int64_t)(o / VEC_WIDTH) * taps + tap) * width + i) * VEC_WIDTH
                                    + o % VEC_WIDTH];
                call->weight_gradient[((int64_t)o * width + i) * taps + tap] += sum;
            }
}

size_t ISA_NAME(groups_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    struct narrow_job job = narrow_job_of(s);
    return (size_t)(aligned(job.sums_floats * job.chunks) + job.worker_floats * threads) * sizeof(float);
}
