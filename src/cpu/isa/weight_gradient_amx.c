/* weight_gradient_amx.c - gradient of the weights of a 1x1 convolution on Intel's matrix unit (AMX), as products of digits
 * (amx_digits.h).
 *
 *     dW (out_channels x in_channels)  =  out_gradient^T (out_channels x pixels) * in (pixels x in_channels)
 *
 * Terms are pixels, CHUNK of them at a time, in which each channel has its factor. On the left are outputs, on the right inputs. Four pixels
 * of 16 channels make a row of a right tile as they come; a left tile has the pixels of a channel beside each other and is the same
 * turned over.
 *
 * A task has some outputs and some inputs of the gradient, and all pixels. For each chunk it writes the digits of its channels to panels, which
 * stay in L2, and adds its products to the gradient. Chunks begin at the same pixels however tasks are cut, so the result is the same for
 * any number of threads.
 */
#include "cpu/isa/amx_digits.h"

#if KERNEL_ISA_AVX512 && DLA_HAVE_AMX

#include "cpu/isa/sizes.h"
#include "cpu/isa/training_isa.h"

enum {
    CHUNK = 256, /* pixels */
    BLOCKS = CHUNK / TERMS,
    QUADS = TERMS / 4, /* of pixels, of a block */
    LEFT_BYTES = DIGITS * TILE_BYTES,
    MOST_OUTPUTS = 512, /* of a task */
    MOST_INPUTS = 512,
    LEAST_WEIGHTS = 4096 /* with fewer, writing the digits takes too much of the time */
};

struct gradient_job {
    const struct conv_weight_gradient_call *call;
    int64_t pixels;
    int left_tiles, right_groups; /* of TILE_ROWS outputs and of COLUMNS inputs */
    int left_parts, right_parts;
    int most_left, most_right; /* of a task */
    int64_t worker_bytes;
};

static bool supports(const struct conv_shape *s)
{
    return s->kernel == 1 && s->stride == 1 && s->padding == 0 && s->groups == 1
           && (int64_t)s->in_channels * s->out_channels >= LEAST_WEIGHTS;
}

static struct gradient_job job_of(const struct conv_shape *s, int threads)
{
    struct gradient_job job = {
        .pixels = (int64_t)s->batch * s->out_height * s->out_width,
        .left_tiles = divide_up(s->out_channels, TILE_ROWS),
        .right_groups = divide_up(s->in_channels, COLUMNS),
    };

    job.right_parts = divide_up(job.right_groups * COLUMNS, MOST_INPUTS);
    job.left_parts = divide_up(job.left_tiles * TILE_ROWS, MOST_OUTPUTS);
    if (job.left_parts * job.right_parts < threads)
        job.left_parts = smaller(divide_up(threads, job.right_parts), job.left_tiles);
    job.most_left = divide_up(job.left_tiles, job.left_parts);
    job.most_right = divide_up(job.right_groups, job.right_parts);
    job.worker_bytes = (int64_t)job.most_left * BLOCKS * LEFT_BYTES + (int64_t)job.most_right * HALVES * BLOCKS * RIGHT_BYTES
                       + 2 * TILE_SUMS * (int64_t)sizeof(int32_t)
                       + (job.most_left * TILE_ROWS + job.most_right * COLUMNS) * (int64_t)sizeof(int32_t);
    return job;
}

/* ---- panels ------------------------------------------------------------------------------------------------------------ */

/* Some channels of a chunk of a map. */
struct columns {
    const float *map; /* (count, channels), pixels `stride` floats apart */
    int64_t stride;
    int count, channels;
};

/* largest: (channels, rounded up to whole vectors) bits of the largest values. */
static void find_largest(const struct columns *c, int32_t *largest)
{
    const __m512i smallest = _mm512_castps_si512(vec_all(SMALLEST));
    const float *pixel = c->map;

    for (int channel = 0; channel < c->channels; channel += VEC_WIDTH)
        _mm512_storeu_si512(largest + channel, smallest);
    for (int i = 0; i < c->count; i++, pixel += c->stride)
        for (int channel = 0; channel < c->channels; channel += VEC_WIDTH) {
            vec x = vec_load_first(pixel + channel, smaller(c->channels - channel, VEC_WIDTH));
            _mm512_storeu_si512(largest + channel, larger(_mm512_loadu_si512(largest + channel), x));
        }
}

/* Four pixels of 16 channels, zeros behind the last. */
ALWAYS_INLINE void load_quad(const struct columns *c, int pixel, int channel, vec x[4])
{
    int lanes = smaller(c->channels - channel, VEC_WIDTH);

    for (int i = 0; i < 4; i++)
        x[i] = pixel + i < c->count ? vec_load_first(c->map + (pixel + i) * c->stride + channel, lanes) : vec_zero();
}

/* panel: (tiles of TILE_COLUMNS channels, BLOCKS, RIGHT_BYTES) */
static void write_right(const struct columns *c, const int32_t *largest, char *panel)
{
    for (int channel = 0; channel < c->channels; channel += TILE_COLUMNS) {
        vec factor = vec_all(LARGEST) / _mm512_castsi512_ps(_mm512_loadu_si512(largest + channel));
        char *to = panel + channel / TILE_COLUMNS * BLOCKS * RIGHT_BYTES;
        for (int quad = 0; quad < BLOCKS * QUADS; quad++) {
            vec x[4];
            load_quad(c, quad * 4, channel, x);
            write_digits(x, factor, to + quad / QUADS * RIGHT_BYTES + quad % QUADS * ROW_BYTES, TILE_BYTES);
        }
    }
}

/* panel: (tiles of TILE_ROWS channels, BLOCKS, DIGITS, 16 channels, 64 pixels) bytes */
static void write_left(const struct columns *c, const int32_t *largest, char *panel)
{
    for (int channel = 0; channel < c->channels; channel += TILE_ROWS) {
        vec factor = vec_all(LARGEST) / _mm512_castsi512_ps(_mm512_loadu_si512(largest + channel));
        for (int block = 0; block < BLOCKS; block++, panel += LEFT_BYTES) {
            for (int quad = 0; quad < QUADS; quad++) {
                vec x[4];
                load_quad(c, block * TERMS + quad * 4, channel, x);
                write_digits(x, factor, panel + quad * ROW_BYTES, TILE_BYTES);
            }
            for (int digit = 0; digit < DIGITS; digit++)
                turn_over(panel + digit * TILE_BYTES);
        }
    }
}

/* ---- tasks ------------------------------------------------------------------------------------------------------------- */

/* Sums of 16 outputs x 32 inputs on their way into the gradient. */
struct pending {
    const int32_t *sums; /* (TILE_ROWS, LEVELS, COLUMNS) */
    const float *left_largest, *right_largest;
    float *gradient; /* (rows, columns), rows `stride` floats apart */
    int64_t stride;
    int rows, columns; /* rows: that are left */
};

static void add_rows(struct pending *p, int rows)
{
    const float unscale = SUM_FACTOR / LARGEST / LARGEST;

    for (; rows > 0 && p->rows > 0; rows--, p->rows--, p->sums += SUM_INTS, p->left_largest++, p->gradient += p->stride) {
        vec factor = vec_all(*p->left_largest * unscale);
        for (int first = 0; first < p->columns; first += VEC_WIDTH) {
            int lanes = smaller(p->columns - first, VEC_WIDTH);
            vec sum = sums_of_levels(p->sums + first) * (factor * vec_load(p->right_largest + first));
            vec_store_first(p->gradient + first, vec_load_first(p->gradient + first, lanes) + sum, lanes);
        }
    }
}

USES_TILES static void multiply_block(const char *left, const char *right, int32_t *sums, struct pending *pending)
{
    struct ahead nothing = {.next = left, .end = left};

    for (int half = 0; half < HALVES; half++) {
        begin_sums();
        for (int block = 0; block < BLOCKS; block++, right += RIGHT_BYTES) {
            multiply_digits(left + block * LEFT_BYTES, TILE_BYTES, ROW_BYTES, right, &nothing);
            add_rows(pending, TILE_ROWS / (HALVES * BLOCKS));
        }
        store_sums(sums, half);
    }
}

static void gradient_task(void *context, int task, int worker)
{
    const struct gradient_job *job = context;
    const struct conv_weight_gradient_call *call = job->call;
    const struct conv_shape *s = call->shape;
    int left_part = task / job->right_parts, right_part = task % job->right_parts;
    int first_output = job->left_tiles * left_part / job->left_parts * TILE_ROWS;
    int first_input = job->right_groups * right_part / job->right_parts * COLUMNS;
    int outputs = smaller(job->left_tiles * (left_part + 1) / job->left_parts * TILE_ROWS, s->out_channels) - first_output;
    int inputs = smaller(job->right_groups * (right_part + 1) / job->right_parts * COLUMNS, s->in_channels) - first_input;
    char *left_panel = (char *)call->scratch + worker * job->worker_bytes;
    char *right_panel = left_panel + (int64_t)job->most_left * BLOCKS * LEFT_BYTES;
    int32_t *sums = (int32_t *)(void *)(right_panel + (int64_t)job->most_right * HALVES * BLOCKS * RIGHT_BYTES);
    int32_t *left_largest = sums + 2 * TILE_SUMS, *right_largest = left_largest + job->most_left * TILE_ROWS;
    struct pending pending = {0};

    begin_tiles(TILE_ROWS);
    for (int64_t pixel = 0; pixel < job->pixels; pixel += CHUNK) {
        int count = job->pixels - pixel < CHUNK ? (int)(job->pixels - pixel) : CHUNK, turn = 0;
        int64_t out_stride = call->out_gradient.pixel_stride, in_stride = call->in.pixel_stride;
        struct columns left = {call->out_gradient.data + pixel * out_stride + first_output, out_stride, count, outputs};
        struct columns right = {call->in.data + pixel * in_stride + first_input, in_stride, count, inputs};

        find_largest(&left, left_largest);
        write_left(&left, left_largest, left_panel);
        find_largest(&right, right_largest);
        write_right(&right, right_largest, right_panel);
        for (int input = 0; input < inputs; input += COLUMNS)
            for (int output = 0; output < outputs; output += TILE_ROWS, turn = !turn) {
                int32_t *turn_sums = sums + turn * TILE_SUMS;
                multiply_block(left_panel + output / TILE_ROWS * BLOCKS * LEFT_BYTES,
                               right_panel + input / TILE_COLUMNS * BLOCKS * RIGHT_BYTES, turn_sums, &pending);
                pending = (struct pending){
                    .sums = turn_sums,
                    .left_largest = (const float *)(const void *)left_largest + output,
                    .right_largest = (const float *)(const void *)right_largest + input,
                    .gradient = call->weight_gradient + (int64_t)(first_output + output) * s->in_channels + first_input + input,
                    .stride = s->in_channels,
                    .rows = smaller(outputs - output, TILE_ROWS),
                    .columns = smaller(inputs - input, COLUMNS),
                };
            }
        add_rows(&pending, TILE_ROWS);
    }
    end_tiles();
}

/* ---- entry ------------------------------------------------------------------------------------------------------------- */

/* Enough for this way and the others. */
size_t ISA_NAME(conv_weight_gradient_amx_scratch_bytes)(const struct conv_shape *shape, int threads)
{
    size_t others = ISA_NAME(conv_weight_gradient_scratch_bytes)(shape, threads);
    size_t own = supports(shape) ? (size_t)(job_of(shape, threads).worker_bytes * threads) : 0;
    return own > others ? own : others;
}

void ISA_NAME(conv_weight_gradient_amx)(const struct conv_weight_gradient_call *call)
{
    struct gradient_job job;

    if (call->exact || call->pairs || !supports(call->shape)) {
        ISA_NAME(conv_weight_gradient)(call);
        return;
    }
    job = job_of(call->shape, thread_pool_size(call->pool));
    job.call = call;
    thread_pool_run(call->pool, gradient_task, &job, job.left_parts * job.right_parts);
}

#endif
