/* weight_gradient_pointwise.c - gradient of the weights of a 1x1 convolution with many channels: one matrix product over pixels.
 *
 *     dW (in_channels x out_channels)  =  in^T (in_channels x pixels) * out_gradient (pixels x out_channels)
 *
 * A task has some column tiles of dW and all, or some, of its row tiles. It goes through the pixels block by block:
 *
 *     for each block of pixels:
 *         out_gradient of the task's column tiles -> panels (column tile)(pixel)(BLOCK)
 *         for each column tile:                      its panel, 24 KB, stays in L1
 *             for each row tile:                     the block's inputs, read where they are, stay in L2
 *                 sums (MR_WIDE x BLOCK) += inputs^T * panel
 *
 * Both maps are so read from memory once a task, by prefetches for the next block that are spread over the products of this one. Sums
 * stay in L2. Every register tile adds its pixels in the same order however tasks are cut, so the result is the same for any number
 * of threads.
 */
#include "cpu/isa/weight_gradient_isa.h"
#include "cpu/isa/weight_gradient_tile.h"

enum {
    BLOCK = 2 * VEC_WIDTH,
    PIXELS = 192,           /* of a block */
    LEAST_CHANNELS = 192,   /* of both maps together: maps with fewer are read where they are by conv_weight_gradient.c */
    MOST_SUMS = 128 * 1024, /* floats of a task's sums: half of L2 */
    LINE_FLOATS = 16
};

struct pointwise_gradient_job {
    const struct conv_weight_gradient_call *call;
    int64_t pixels;
    int row_tiles, column_tiles;
    int row_parts, column_parts; /* tasks are parts of the rows times parts of the columns */
    int64_t worker_floats;
};

bool ISA_NAME(pointwise_gradient_supports)(const struct conv_shape *s)
{
    return s->kernel == 1 && s->stride == 1 && s->padding == 0 && s->groups == 1 && s->in_channels % MR_WIDE == 0
           && s->out_channels % BLOCK == 0 && s->in_channels + s->out_channels > LEAST_CHANNELS;
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
    job.worker_floats = aligned((int64_t)columns * (PIXELS * BLOCK + (int64_t)rows * MR_WIDE * BLOCK));
    return job;
}

size_t ISA_NAME(pointwise_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    return (size_t)(job_of(s, threads).worker_floats * threads) * sizeof(float);
}

/* Lines of the next block, as they follow one another in memory, pixel by pixel. */
struct ahead {
    const float *at;
    int64_t stride;
    int lines; /* of a pixel */
    int64_t count, done;
};

static struct ahead ahead_of(const float *at, int64_t stride, int channels, int64_t pixels)
{
    int lines = divide_up(channels, LINE_FLOATS);
    return (struct ahead){.at = at, .stride = stride, .lines = lines, .count = lines * pixels};
}

static void fetch(struct ahead *ahead, int64_t until)
{
    for (; ahead->done < until; ahead->done++)
        __builtin_prefetch(ahead->at + ahead->done / ahead->lines * ahead->stride + ahead->done % ahead->lines * LINE_FLOATS, 0, 2);
}

static void pack_panels(const float *from, int64_t stride, int64_t pixels, int columns, float *panels)
{
    for (int64_t p = 0; p < pixels; p++, from += stride)
        for (int column = 0; column < columns; column++)
            for (int lane = 0; lane < BLOCK; lane += VEC_WIDTH)
                vec_store(panels + (column * pixels + p) * BLOCK + lane, vec_load(from + column * BLOCK + lane));
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

    memset(sums, 0, (size_t)(rows * columns * tile_floats) * sizeof(float));
    for (int64_t pixel = 0; pixel < job->pixels; pixel += PIXELS) {
        int64_t count = job->pixels - pixel < PIXELS ? job->pixels - pixel : PIXELS, next = pixel + count;
        int64_t next_count = job->pixels - next < PIXELS ? job->pixels - next : PIXELS;
        struct ahead next_in = ahead_of(in + next * in_stride, in_stride, rows * MR_WIDE, next_count),
                     next_out = ahead_of(out + next * out_stride, out_stride, columns * BLOCK, next_count);
        int64_t tiles = (int64_t)rows * columns, done = 0;

        pack_panels(out + pixel * out_stride, out_stride, count, columns, panels);
        for (int column = 0; column < columns; column++)
            for (int row = 0; row < rows; row++) {
                struct walk walk = {.images = 1, .rows = 1, .columns = (int)count, .in_column = in_stride, .out_column = BLOCK};
                walk.in = in + pixel * in_stride + row * MR_WIDE;
                walk.out = panels + column * count * BLOCK;
                done++;
                fetch(&next_in, next_in.count * done / tiles);
                fetch(&next_out, next_out.count * done / tiles);
                multiply_tile(&walk, sums + (column * rows + row) * tile_floats, MR_WIDE, 2);
            }
    }
    for (int column = 0; column < columns; column++)
        for (int n = 0; n < BLOCK; n++) {
            int64_t o = (int64_t)(first_column + column) * BLOCK + n;
            float *to = call->weight_gradient + o * call->shape->in_channels + first_row * MR_WIDE;
            for (int i = 0; i < rows * MR_WIDE; i++)
                to[i] += sums[((int64_t)column * rows * MR_WIDE + i) * BLOCK + n];
        }
}

void ISA_NAME(pointwise_gradient)(const struct conv_weight_gradient_call *call)
{
    struct pointwise_gradient_job job = job_of(call->shape, thread_pool_size(call->pool));

    job.call = call;
    thread_pool_run(call->pool, pointwise_task, &job, job.row_parts * job.column_parts);
}
