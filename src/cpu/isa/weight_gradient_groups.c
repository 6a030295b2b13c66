/* weight_gradient_groups.c - gradient of the weights of a convolution of many narrow groups.
 *
 * Lanes are input channels. Of out_gradient at a pixel g vectors are made, one for each output channel j of a group, whose lanes hold
 * channel j of their own group (groups_isa.h); such a vector times a vector of inputs, summed over the pixels, is a tap. The spread vectors
 * stay in registers, where they serve all taps of a window's row. Only the inputs are copied, for the zeros around them.
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
    job.rows_per_block = divide_up(BLOCK_PIXELS / (s->stride * s->stride), s->out_width);
    job.rows_per_block = job.rows_per_block > s->out_height ? s->out_height : job.rows_per_block;
    job.padded_width = (s->out_width - 1) * s->stride + (s->kernel - 1) * s->dilation + 1;
    job.vectors = divide_up(s->in_channels, VEC_WIDTH);
    job.sums_floats = (int64_t)job.vectors * s->kernel * s->kernel * width * VEC_WIDTH;
    job.worker_floats = aligned((int64_t)job.vectors * input_rows(s, job.rows_per_block) * job.padded_width * VEC_WIDTH);
    return job;
}

/* What a block of output rows reads: inputs with zeros around them, and the gradient itself. Distances in floats. */
struct narrow_block {
    const float *in;
    int64_t in_row, in_column, in_tap; /* from an output row and column to the next, from a tap to the next */
    const float *out;
    int64_t out_pixel;
    int rows, columns, lanes;
};

/* sums [kx][j] += inputs * copy j of the gradient, for `taps` neighbouring taps of one window row and `count` of the `width` channels from
 * `first` on. The last four are constants at the calls that matter. */
ALWAYS_INLINE void narrow_tile(const struct narrow_block *b, float *sums, const int taps, const int width, const int first, const int count)
{
    vec sum[3][8];
    for (int t = 0; t < taps; t++)
        for (int j = 0; j < count; j++)
            sum[t][j] = vec_load(sums + (t * width + first + j) * VEC_WIDTH);
    const float *out = b->out;
    for (int row = 0; row < b->rows; row++) {
        const float *pixel = b->in + row * b->in_row;
        for (int column = 0; column < b->columns; column++, pixel += b->in_column, out += b->out_pixel) {
            vec gradient = vec_load_first(out, b->lanes);
            for (int j = 0; j < count; j++) {
                vec copy = width == VEC_WIDTH ? vec_all(out[first + j]) : vec_spread(gradient, width, first + j);
                for (int t = 0; t < taps; t++)
                    sum[t][j] = vec_fma(copy, vec_load(pixel + t * b->in_tap), sum[t][j]);
            }
        }
    }
    for (int t = 0; t < taps; t++)
        for (int j = 0; j < count; j++)
            vec_store(sums + (t * width + first + j) * VEC_WIDTH, sum[t][j]);
}

static void narrow_window_row(const struct narrow_block *b, float *sums, int kernel, int width)
{
    struct narrow_block tap = *b;
    if (MANY_REGISTERS && VEC_WIDTH >= 8 && kernel == 3 && width == 8)
        narrow_tile(b, sums, 3, 8, 0, 8);
    else if (VEC_WIDTH == 8 && kernel == 3 && width == 8) { /* 24 sums are too many for 16 registers */
        narrow_tile(b, sums, 3, 8, 0, 4);
        narrow_tile(b, sums, 3, 8, 4, 4);
    } else if (kernel == 3 && width == 4)
        narrow_tile(b, sums, 3, 4, 0, 4);
    else if (kernel == 3 && width == 2)
        narrow_tile(b, sums, 3, 2, 0, 2);
    else
        for (int kx = 0; kx < kernel; kx++, tap.in += tap.in_tap)
            narrow_tile(&tap, sums + kx * width * VEC_WIDTH, 1, width, 0, width);
}

/* panel [vectors][rows][columns][VEC_WIDTH]: the input from (first_y, first_x) on, zero outside it, pixel by pixel. */
static void copy_inputs(const struct narrow_job *job, int image, int first_y, int first_x, int rows, float *panel)
{
    const struct conv_shape *s = job->call->shape;
    const struct map_view *in = &job->call->in;
    int64_t vector_floats = (int64_t)rows * job->padded_width * VEC_WIDTH;

    for (int y = first_y; y < first_y + rows; y++) {
        const float *row = in->data + ((int64_t)image * s->in_height + y) * s->in_width * in->pixel_stride;
        for (int x = first_x; x < first_x + job->padded_width; x++, panel += VEC_WIDTH) {
            bool inside = y >= 0 && y < s->in_height && x >= 0 && x < s->in_width;
            for (int v = 0; v < job->vectors; v++) {
                vec value = vec_zero();
                if (inside)
                    value = vec_load_first(row + x * in->pixel_stride + v * VEC_WIDTH, smaller(s->in_channels - v * VEC_WIDTH, VEC_WIDTH));
                vec_store(panel + v * vector_floats, value);
            }
        }
    }
}

static void narrow_task(void *context, int chunk, int worker)
{
    const struct narrow_job *job = context;
    const struct map_view *gradient = &job->call->out_gradient;
    const struct conv_shape *s = job->call->shape;
    int width = s->in_channels / s->groups, taps = s->kernel * s->kernel;
    int first = first_image(s, chunk, job->chunks), end = first_image(s, chunk + 1, job->chunks);
    float *sums = job->sums + chunk * job->sums_floats, *panel = job->panels + worker * job->worker_floats;
    int64_t row_floats = (int64_t)job->padded_width * VEC_WIDTH;
    memset(sums, 0, (size_t)job->sums_floats * sizeof(float));
    for (int image = first; image < end; image++)
        for (int row = 0; row < s->out_height; row += job->rows_per_block) {
            struct narrow_block block = {.in_row = s->stride * row_floats,
                                         .in_column = (int64_t)s->stride * VEC_WIDTH,
                                         .in_tap = (int64_t)s->dilation * VEC_WIDTH,
                                         .out_pixel = gradient->pixel_stride,
                                         .rows = smaller(s->out_height - row, job->rows_per_block),
                                         .columns = s->out_width};
            int rows = input_rows(s, block.rows);
            copy_inputs(job, image, row * s->stride - s->padding, -s->padding, rows, panel);
            for (int v = 0; v < job->vectors; v++) {
                block.lanes = smaller(s->in_channels - v * VEC_WIDTH, VEC_WIDTH);
                block.out = gradient->data + ((int64_t)image * s->out_height + row) * s->out_width * gradient->pixel_stride + v * VEC_WIDTH;
                for (int ky = 0; ky < s->kernel; ky++) {
                    block.in = panel + v * rows * row_floats + ky * s->dilation * row_floats;
                    narrow_window_row(&block, sums + ((int64_t)v * taps + ky * s->kernel) * width * VEC_WIDTH, s->kernel, width);
                }
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
    for (int c = 0; c < s->in_channels; c++)
        for (int j = 0; j < width; j++)
            for (int tap = 0; tap < taps; tap++) {
                const float *sums = job.sums + (((int64_t)(c / VEC_WIDTH) * taps + tap) * width + j) * VEC_WIDTH + c % VEC_WIDTH;
                float sum = 0.0f;
                for (int chunk = 0; chunk < job.chunks; chunk++)
                    sum += sums[chunk * job.sums_floats];
                call->weight_gradient[((int64_t)(c / width * width + j) * width + c % width) * taps + tap] += sum;
            }
}

size_t ISA_NAME(groups_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    struct narrow_job job = narrow_job_of(s);
    return (size_t)(aligned(job.sums_floats * job.chunks) + job.worker_floats * threads) * sizeof(float);
}
