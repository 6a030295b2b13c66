/* weight_gradient_amx.c - gradient of the weights of a 1x1 convolution on Intel's matrix unit (AMX), as products of digits
 * (amx_digits.h).
 *
 *     dW (out_channels x in_channels)  =  out_gradient^T (out_channels x pixels) * in (pixels x in_channels)
 *
 * Terms are pixels, CHUNK of them at a time, in which each channel has its factor. On the left are outputs, on the right inputs. Four pixels
 * of 16 channels make a row of a right tile as they come; a left tile has the pixels of a channel beside each other and is the same
 * turned over.
 *
 * A task has some outputs and some inputs of the gradient, and a part of the pixels. For each chunk it writes the digits of its channels to
 * panels, which stay in L2, and adds its products to the gradient of its part; parts are then added in order. They depend on the shape
 * alone, and chunks begin at the same pixels however tasks are cut, so the result is the same for any number of threads. Fewer outputs or
 * inputs a task would mean digits written more often; few tasks, that all wait for a thread whose core is busy with something else.
 */
#include "cpu/isa/amx_digits.h"

#if KERNEL_ISA_AVX512 && DLA_HAVE_AMX

#include "cpu/isa/lines_ahead.h"
#include "cpu/isa/sizes.h"
#include "cpu/isa/training_isa.h"

enum {
    CHUNK = 256, /* pixels */
    BLOCKS = CHUNK / TERMS,
    QUADS = TERMS / 4, /* of pixels, of a block */
    LEFT_BYTES = DIGITS * TILE_BYTES,
    MOST_OUTPUTS = 512, /* of a task */
    MOST_INPUTS = 512,
    PIXEL_PARTS = 4,     /* where one task could have all outputs and inputs */
    ADD_TASKS = 32,      /* of rows of the gradient, to which parts are added */
    LEAST_WEIGHTS = 4096 /* with fewer, writing the digits takes too much of the time */
};

struct gradient_job {
    const struct conv_weight_gradient_call *call;
    int64_t pixels;
    int left_tiles, right_groups; /* of TILE_ROWS outputs and of COLUMNS inputs */
    int pixel_parts, left_parts, right_parts;
    int most_left, most_right; /* of a task */
    int64_t worker_bytes;
    int64_t weights;      /* of a part's gradient */
    float *part_gradient; /* (pixel_parts, out_channels, in_channels), where there are several */
};

static bool supports(const struct conv_shape *s)
{
    return s->kernel == 1 && s->stride == 1 && s->padding == 0 && s->groups == 1
           && (int64_t)s->in_channels * s->out_channels >= LEAST_WEIGHTS;
}

/* How long all tasks take, in cycles for each 64 pixels, by times of an Emerald Rapids core: of products, of an output's digits, of an
 * input's. */
static double cycles_of(const struct gradient_job *job, int threads)
{
    const double product_cycles = 0.375, left_cycles = 44.0, right_cycles = 32.0;
    double outputs = job->most_left * TILE_ROWS, inputs = job->most_right * COLUMNS;
    return divide_up(job->pixel_parts * job->left_parts * job->right_parts, threads) / (double)job->pixel_parts
           * (outputs * inputs * product_cycles + outputs * left_cycles + inputs * right_cycles);
}

/* Cut as it takes the least time: into few tasks, each of which writes digits, but as many for each thread. */
static struct gradient_job job_of(const struct conv_shape *s, int threads)
{
    struct gradient_job job = {.pixels = (int64_t)s->batch * s->out_height * s->out_width,
                               .left_tiles = divide_up(s->out_channels, TILE_ROWS),
                               .right_groups = divide_up(s->in_channels, COLUMNS),
                               .weights = (int64_t)s->out_channels * s->in_channels};
    int left = divide_up(job.left_tiles * TILE_ROWS, MOST_OUTPUTS), right = divide_up(job.right_groups * COLUMNS, MOST_INPUTS);
    int chunks = (int)((job.pixels + CHUNK - 1) / CHUNK);
    struct gradient_job best = {0};

    job.pixel_parts = s->batch > 1 && left * right == 1 ? smaller(PIXEL_PARTS, chunks) : 1;
    for (job.left_parts = left; job.left_parts < left + threads && job.left_parts <= job.left_tiles; job.left_parts++)
        for (job.right_parts = right; job.right_parts < right + threads && job.right_parts <= job.right_groups; job.right_parts++) {
            job.most_left = divide_up(job.left_tiles, job.left_parts);
            job.most_right = divide_up(job.right_groups, job.right_parts);
            if (best.left_parts == 0 || cycles_of(&job, threads) < cycles_of(&best, threads))
                best = job;
        }
    best.worker_bytes = (int64_t)best.most_left * BLOCKS * LEFT_BYTES + (int64_t)best.most_right * HALVES * BLOCKS * RIGHT_BYTES
                        + 2 * TILE_SUMS * (int64_t)sizeof(int32_t)
                        + (best.most_left * TILE_ROWS + best.most_right * COLUMNS) * (int64_t)sizeof(int32_t);
    return best;
}

/* ---- panels ------------------------------------------------------------------------------------------------------------ */

/* Some channels of a chunk of a map. */
struct columns {
    const float *map; /* (count, channels), pixels `stride` floats apart */
    int64_t stride;
    int count, channels;
};

/* The first pixel of a part. */
static int64_t part_pixel(const struct gradient_job *job, int part)
{
    int64_t pixel = (job->pixels + CHUNK - 1) / CHUNK * part / job->pixel_parts * CHUNK;
    return pixel < job->pixels ? pixel : job->pixels;
}

/* Of the chunk that begins at `pixel`. */
static struct columns columns_of(const struct gradient_job *job, const struct map_view *map, int64_t pixel, int channel, int channels)
{
    int64_t left = job->pixels - pixel;
    return (struct columns){.map = map->data + pixel * map->pixel_stride + channel,
                            .stride = map->pixel_stride,
                            .count = left < CHUNK ? (int)left : CHUNK,
                            .channels = channels};
}

ALWAYS_INLINE void note_largest(int32_t *largest, vec x)
{
    _mm512_storeu_si512(largest, larger(_mm512_loadu_si512(largest), x));
}

/* largest: (channels, rounded up to whole vectors) bits of the largest values. */
static void find_largest(const struct columns *c, int32_t *largest)
{
    const __m512i smallest = _mm512_castps_si512(vec_all(SMALLEST));
    const float *pixel = c->map;
    int whole = c->channels / VEC_WIDTH * VEC_WIDTH;

    for (int channel = 0; channel < c->channels; channel += VEC_WIDTH)
        _mm512_storeu_si512(largest + channel, smallest);
    for (int i = 0; i < c->count; i++, pixel += c->stride) {
        for (int channel = 0; channel < whole; channel += VEC_WIDTH) {
            vec_fetch_ahead(pixel + channel);
            note_largest(largest + channel, vec_load(pixel + channel));
        }
        if (whole < c->channels)
            note_largest(largest + whole, vec_load_first(pixel + whole, c->channels - whole));
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
    bool first;        /* written instead of added */
};

static void add_rows(struct pending *p, int rows)
{
    const float unscale = SUM_FACTOR / LARGEST / LARGEST;

    for (; rows > 0 && p->rows > 0; rows--, p->rows--, p->sums += SUM_INTS, p->left_largest++, p->gradient += p->stride) {
        vec factor = vec_all(*p->left_largest * unscale);
        for (int first = 0; first < p->columns; first += VEC_WIDTH) {
            int lanes = smaller(p->columns - first, VEC_WIDTH);
            vec sum = sums_of_levels(p->sums + first) * (factor * vec_load(p->right_largest + first));
            vec before = p->first ? vec_zero() : vec_load_first(p->gradient + first, lanes);
            vec_store_first(p->gradient + first, before + sum, lanes);
        }
    }
}

/* The next chunk's outputs and inputs, fetched a few lines with each block. */
struct next_chunk {
    struct lines_ahead left, right;
};

/* Of the chunk at `pixel`; none at the end of the task's part, and none of a single image, which is in the caches already. */
static struct lines_ahead lines_of(const struct gradient_job *job, const struct map_view *map, int64_t pixel, int64_t end, int channel,
                                   int channels, int times)
{
    if (pixel >= end || job->call->shape->batch == 1)
        return (struct lines_ahead){.left = 0};
    struct columns c = columns_of(job, map, pixel, channel, channels);
    return lines_ahead_of(c.map, c.stride, c.channels, c.count, times);
}

USES_TILES static void multiply_block(const char *left, const char *right, int32_t *sums, struct pending *pending, struct next_chunk *next)
{
    struct ahead nothing = {.next = left, .end = left};

    for (int half = 0; half < HALVES; half++) {
        begin_sums();
        for (int block = 0; block < BLOCKS; block++, right += RIGHT_BYTES) {
            multiply_digits(left + block * LEFT_BYTES, TILE_BYTES, ROW_BYTES, right, &nothing);
            add_rows(pending, TILE_ROWS / (HALVES * BLOCKS));
            fetch_lines(&next->left);
            fetch_lines(&next->right);
        }
        store_sums(sums, half);
    }
}

static void gradient_task(void *context, int task, int worker)
{
    const struct gradient_job *job = context;
    const struct conv_weight_gradient_call *call = job->call;
    const struct conv_shape *s = call->shape;
    int left_part = task / job->right_parts % job->left_parts, right_part = task % job->right_parts;
    int pixel_part = task / job->right_parts / job->left_parts;
    int64_t first_pixel = part_pixel(job, pixel_part), end_pixel = part_pixel(job, pixel_part + 1);
    int first_output = job->left_tiles * left_part / job->left_parts * TILE_ROWS;
    int first_input = job->right_groups * right_part / job->right_parts * COLUMNS;
    int outputs = smaller(job->left_tiles * (left_part + 1) / job->left_parts * TILE_ROWS, s->out_channels) - first_output;
    int inputs = smaller(job->right_groups * (right_part + 1) / job->right_parts * COLUMNS, s->in_channels) - first_input;
    char *left_panel = (char *)call->scratch + worker * job->worker_bytes;
    char *right_panel = left_panel + (int64_t)job->most_left * BLOCKS * LEFT_BYTES;
    int32_t *sums = (int32_t *)(void *)(right_panel + (int64_t)job->most_right * HALVES * BLOCKS * RIGHT_BYTES);
    int32_t *left_largest = sums + 2 * TILE_SUMS, *right_largest = left_largest + job->most_left * TILE_ROWS;
    int blocks = divide_up(outputs, TILE_ROWS) * divide_up(inputs, COLUMNS) * HALVES * BLOCKS;
    float *gradient = job->pixel_parts > 1 ? job->part_gradient + pixel_part * job->weights : call->weight_gradient;
    struct pending pending = {0};

    begin_tiles(TILE_ROWS);
    for (int64_t pixel = first_pixel; pixel < end_pixel; pixel += CHUNK) {
        struct columns left = columns_of(job, &call->out_gradient, pixel, first_output, outputs);
        struct columns right = columns_of(job, &call->in, pixel, first_input, inputs);
        struct next_chunk next = {.left = lines_of(job, &call->out_gradient, pixel + CHUNK, end_pixel, first_output, outputs, blocks),
                                  .right = lines_of(job, &call->in, pixel + CHUNK, end_pixel, first_input, inputs, blocks)};
        int turn = 0;

        find_largest(&left, left_largest);
        write_left(&left, left_largest, left_panel);
        find_largest(&right, right_largest);
        write_right(&right, right_largest, right_panel);
        for (int input = 0; input < inputs; input += COLUMNS)
            for (int output = 0; output < outputs; output += TILE_ROWS, turn = !turn) {
                int32_t *turn_sums = sums + turn * TILE_SUMS;
                multiply_block(left_panel + output / TILE_ROWS * BLOCKS * LEFT_BYTES,
                               right_panel + input / TILE_COLUMNS * BLOCKS * RIGHT_BYTES, turn_sums, &pending, &next);
                pending = (struct pending){
                    .sums = turn_sums,
                    .left_largest = (const float *)(const void *)left_largest + output,
                    .right_largest = (const float *)(const void *)right_largest + input,
                    .gradient = gradient + (int64_t)(first_output + output) * s->in_channels + first_input + input,
                    .stride = s->in_channels,
                    .rows = smaller(outputs - output, TILE_ROWS),
                    .columns = smaller(inputs - input, COLUMNS),
                    .first = job->pixel_parts > 1 && pixel == first_pixel,
                };
            }
        add_rows(&pending, TILE_ROWS);
    }
    end_tiles();
}

/* Some lines of the gradient, to which those of all parts are added. */
static void add_task(void *context, int task, int worker)
{
    const struct gradient_job *job = context;
    int64_t lines = (job->weights + VEC_WIDTH - 1) / VEC_WIDTH;

    (void)worker;
    for (int64_t line = lines * task / ADD_TASKS; line < lines * (task + 1) / ADD_TASKS; line++) {
        int64_t first = line * VEC_WIDTH, left = job->weights - first;
        int lanes = left < VEC_WIDTH ? (int)left : VEC_WIDTH;
        vec sum = vec_load_first(job->call->weight_gradient + first, lanes);
        for (int part = 0; part < job->pixel_parts; part++) {
            const float *gradient = job->part_gradient + part * job->weights + first;
            vec_fetch_ahead(gradient);
            sum += vec_load_first(gradient, lanes);
        }
        vec_store_first(job->call->weight_gradient + first, sum, lanes);
    }
}

/* ---- entry ------------------------------------------------------------------------------------------------------------- */

/* Enough for this way and the others. */
size_t ISA_NAME(conv_weight_gradient_amx_scratch_bytes)(const struct conv_shape *shape, int threads)
{
    size_t others = ISA_NAME(conv_weight_gradient_scratch_bytes)(shape, threads);
    size_t own = 0;

    if (supports(shape)) {
        struct gradient_job job = job_of(shape, threads);
        own = (size_t)(job.worker_bytes * threads + (job.pixel_parts > 1 ? job.pixel_parts * job.weights * (int64_t)sizeof(float) : 0));
    }
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
    job.part_gradient = (float *)(void *)((char *)call->scratch + job.worker_bytes * thread_pool_size(call->pool));
    thread_pool_run(call->pool, gradient_task, &job, job.pixel_parts * job.left_parts * job.right_parts);
    if (job.pixel_parts > 1)
        thread_pool_run(call->pool, add_task, &job, ADD_TASKS);
}

#endif
