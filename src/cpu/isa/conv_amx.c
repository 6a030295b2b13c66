/* conv_amx.c - dense 1x1 and 3x3 convolutions on Intel's matrix unit (AMX), as products of digits (amx_digits.h).
 *
 * On the left are the pixels, up to 16 positions (a group), on the right the weights, 16 outputs, and two such tiles are written out together; terms are input channels and taps. The
 * largest value is that of a pixel (1x1), or of an image, since a pixel is in several windows: never one that depends on how the work is
 * divided.
 *
 * Positions. Results lie in a row with a gap behind each row of the image, as wide as the window reaches beyond it: position
 * q = y (width + pad) + x. The input lies likewise, with zeros in the gaps; at stride 2 as four maps, those of even and of odd rows and columns,
 * each as large as the result. A tap is then the same distance in one of the maps for all positions, and neighbouring positions are a tile
 * wherever they begin. What is computed for the gaps is thrown away. 1x1 convolutions have none.
 *
 * What is done in what order. The digits of a strip's pixels are written to a panel. Where there are strips enough, a task does that for one
 * and multiplies it with all weights, so that the panel stays in its core's L2; on small maps all threads write one panel, then share
 * the outputs. While the unit works on one group, the core scales the last one's sums, adds bias and residual and writes them out, a few
 * rows with each block. Weights are packed as digits, 3 bytes a weight; the next outputs' are fetched meanwhile.
 */
#include "cpu/isa/amx_digits.h"

#if KERNEL_ISA_AVX512 && DLA_HAVE_AMX

#include "cpu/conv.h"
#include "cpu/isa/sizes.h"

#include <math.h>

enum {
    MOST_TAPS = 9,
    POSITION_BYTES = DIGITS * ROW_BYTES, /* of a block of a pixel */
    THREAD_SUMS = 2 * TILE_SUMS,         /* of the group that is computed and of the one that is written out */
    PANEL_BYTES = 256 * 1024,            /* of a strip, about */
    LEAST_STRIP = 8,                     /* groups */
    SHARED_TASKS = 4,                    /* a thread, so that one that was held up can be helped */
    PREFETCH_GROUPS = 32                 /* with more, reading the weights is hidden anyway */
};

/* Where a position's sums go. */
struct target {
    int64_t pixel; /* of the result; -1: nowhere */
    float scale;
};

struct blocking {
    int images, in_height, in_width, out_height, out_width; /* 1x1: all pixels are one row of one image */
    int pitch;                                              /* positions from one row of the image to the next */
    int64_t image_positions, positions;                     /* of an image, of all */
    int halo;                                               /* positions that a window reaches before and behind its own */
    int maps;                                               /* that the input is: stride * stride */
    int64_t reach[MOST_TAPS];                               /* rows of the panel from a position's own in the first map to a tap's */
    int taps, block_count, output_groups;
    int group_positions;
    int64_t groups;
    int strip_count;
    int64_t strip_groups; /* at most */
    bool shared;          /* one panel for all threads */
    int64_t map_rows;
    int64_t group_bytes, block_bytes; /* of the panel: from one group to the next, from a block to the next */
    int64_t panel_bytes, target_bytes;
    int image_parts; /* that its largest value is looked for in */
};

static struct blocking block(const struct conv_shape *s, int threads)
{
    int pad = s->padding;
    struct blocking b = {.images = s->batch,
                         .in_height = s->in_height,
                         .in_width = s->in_width,
                         .out_height = s->out_height,
                         .out_width = s->out_width,
                         .taps = s->kernel * s->kernel,
                         .output_groups = divide_up(s->out_channels, COLUMNS)};

    if (b.taps == 1) {
        b.in_width = b.out_width = s->batch * s->out_height * s->out_width;
        b.images = b.in_height = b.out_height = 1;
    }
    b.pitch = b.out_width + pad;
    b.image_positions = (int64_t)(b.out_height + pad) * b.pitch;
    b.halo = pad * b.pitch + pad;
    b.positions = b.images * b.image_positions - b.halo; /* none behind the last pixel */
    for (int source = 0; source < s->source_count; source++)
        b.block_count += divide_up(s->source_channels[source], TERMS);
    b.groups = (b.positions + TILE_ROWS - 1) / TILE_ROWS;
    b.group_positions = (int)((b.positions + b.groups - 1) / b.groups);

    b.maps = s->stride * s->stride;
    int64_t strip = PANEL_BYTES / ((int64_t)b.group_positions * b.block_count * b.maps * POSITION_BYTES);
    int64_t strips = b.groups / (strip > LEAST_STRIP ? strip : LEAST_STRIP);
    strips = strips < threads ? threads : (strips + threads - 1) / threads * threads;
    b.shared = b.groups < (int64_t)LEAST_STRIP * threads;
    b.strip_count = (int)(b.shared ? 1 : strips);
    b.strip_groups = (b.groups + b.strip_count - 1) / b.strip_count;
    b.map_rows = b.strip_groups * b.group_positions + 2 * b.halo;
    b.block_bytes = (b.taps == 1 ? b.group_positions : b.maps * b.map_rows) * POSITION_BYTES;
    b.group_bytes = b.taps == 1 ? b.block_count * b.block_bytes : b.group_positions * POSITION_BYTES;
    b.panel_bytes = b.block_count * b.maps * b.map_rows * POSITION_BYTES;
    b.target_bytes = (b.strip_groups * b.group_positions * (int64_t)sizeof(struct target) + LINE - 1) / LINE * LINE;
    b.image_parts = b.taps == 1 ? 0 : smaller(divide_up(SHARED_TASKS * threads, b.images), b.in_height);
    for (int tap = 0; tap < b.taps; tap++) {
        int y = tap / s->kernel - pad, x = tap % s->kernel - pad; /* of the input, from that of the position */
        int map_y = (y + s->stride) % s->stride, map_x = (x + s->stride) % s->stride;
        b.reach[tap] = (map_y * s->stride + map_x) * b.map_rows + (int64_t)(y - map_y) / s->stride * b.pitch + (x - map_x) / s->stride;
    }
    return b;
}

static bool supports(const struct conv_shape *s)
{
    return (s->kernel == 3 ? s->stride <= 2 : s->kernel == 1 && s->stride == 1) && s->dilation == 1 && s->groups == 1
           && s->padding == s->kernel / 2 && s->in_channels <= MOST_TERMS / (s->kernel * s->kernel);
}

/* Channels [first, first + TERMS) of `channels`, zeros behind the last. */
ALWAYS_INLINE void load_block(const float *in, int channels, int first, vec x[TERMS / VEC_WIDTH])
{
    for (int i = 0; i < TERMS / VEC_WIDTH; i++) {
        int lanes = channels - first - i * VEC_WIDTH;
        x[i] = lanes >= VEC_WIDTH ? vec_load(in + first + i * VEC_WIDTH)
               : lanes > 0        ? vec_load_first(in + first + i * VEC_WIDTH, lanes)
                                  : vec_zero();
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

/* Before the digits: what an output's sums are multiplied by. */
static size_t factor_bytes(const struct blocking *b)
{
    return (size_t)b->output_groups * COLUMNS * sizeof(float);
}

static size_t packed_bytes(const struct conv_shape *s)
{
    struct blocking b = block(s, 1);
    return factor_bytes(&b) + (size_t)b.output_groups * HALVES * (size_t)b.block_count * (size_t)b.taps * RIGHT_BYTES;
}

/* Channels of a block, one every `taps` floats. */
ALWAYS_INLINE void load_weights(const float *weight, int channels, int taps, vec x[TERMS / VEC_WIDTH])
{
    const __m512i steps =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(taps));

    for (int i = 0; i < TERMS / VEC_WIDTH; i++) {
        int lanes = channels - i * VEC_WIDTH;
        __mmask16 mask = vec_first_lanes(lanes < 0 ? 0 : smaller(lanes, VEC_WIDTH));
        x[i] = _mm512_mask_i32gather_ps(vec_zero(), mask, steps, weight + (int64_t)i * VEC_WIDTH * taps, sizeof(float));
    }
}

/* What the weights of 16 outputs are multiplied by, 0 behind the last, and what their sums are. */
static void find_factors(const struct conv_shape *s, const float *weight, const float *scale, int first_output,
                         float *packing /* (TILE_COLUMNS) */, float *factors /* (TILE_COLUMNS) */)
{
    int terms = s->in_channels * s->kernel * s->kernel;

    for (int column = 0; column < TILE_COLUMNS; column++) {
        int output = first_output + column;
        packing[column] = factors[column] = 0.0f;
        if (output >= s->out_channels)
            continue;
        float largest = largest_lane(largest_of(weight + (int64_t)output * terms, terms, _mm512_setzero_si512()));
        packing[column] = LARGEST / largest;
        factors[column] = largest / LARGEST * SUM_FACTOR * scale[output];
    }
}

/* weight: of the first output, tap and channel, outputs `terms` floats apart; to: RIGHT_BYTES */
static void pack_tile(const float *weight, int64_t terms, int outputs, int channels, int taps, const float *packing, char *to)
{
    for (int column = 0; column < TILE_COLUMNS; column++) {
        vec x[TERMS / VEC_WIDTH];
        load_weights(column < outputs ? weight + column * terms : weight, channels, taps, x);
        write_digits(x, vec_all(packing[column]), to + column * ROW_BYTES, TILE_BYTES);
    }
    for (int digit = 0; digit < DIGITS; digit++)
        turn_over(to + digit * TILE_BYTES);
}

static void
pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, kernel, kernel) */
     const float *scale,                              /* (out_channels) */
     void *packed) /* (groups of outputs, 32) float, (groups of outputs, halves, taps, blocks, DIGITS, 16, 16 outputs, 4 channels) */
{
    struct blocking b = block(s, 1);
    int64_t terms = (int64_t)s->in_channels * b.taps, tap_bytes = (int64_t)b.block_count * RIGHT_BYTES;

    for (int output = 0; output < b.output_groups * COLUMNS; output += TILE_COLUMNS) {
        float packing[TILE_COLUMNS];
        int outputs = s->out_channels - output;
        const float *row = outputs > 0 ? weight + output * terms : weight;
        char *to = (char *)packed + factor_bytes(&b) + output / TILE_COLUMNS * b.taps * tap_bytes;

        find_factors(s, weight, scale, output, packing, (float *)packed + output);
        for (int source = 0; source < s->source_count; row += (int64_t)s->source_channels[source++] * b.taps)
            for (int channel = 0; channel < s->source_channels[source]; channel += TERMS, to += RIGHT_BYTES)
                for (int tap = 0; tap < b.taps; tap++)
                    pack_tile(row + (int64_t)channel * b.taps + tap, terms, outputs, s->source_channels[source] - channel, b.taps, packing,
                              to + tap * tap_bytes);
    }
}

/* ---- the panel --------------------------------------------------------------------------------------------------------- */

struct strip {
    int64_t first, end;     /* positions */
    char *panel;            /* (blocks, maps, map_rows, DIGITS, TERMS) bytes, 1x1: (groups, blocks, group_positions, ...); row 0 is
                         * position first - halo */
    struct target *targets; /* of positions from `first` on */
};

/* A walk over positions. */
struct walk {
    int64_t position, image;
    int y, x;
};

static struct walk walk_from(const struct blocking *b, int64_t position)
{
    struct walk walk = {.position = position};

    if (position > 0) {
        walk.image = position / b->image_positions;
        int64_t in_image = position - walk.image * b->image_positions;
        walk.y = (int)(in_image / b->pitch);
        walk.x = (int)(in_image - (int64_t)walk.y * b->pitch);
    }
    return walk;
}

ALWAYS_INLINE void walk_on(struct walk *walk, const struct blocking *b)
{
    if (walk->position++ < 0)
        return;
    if (++walk->x == b->pitch) {
        walk->x = 0;
        if ((int64_t)++walk->y * b->pitch == b->image_positions) {
            walk->y = 0;
            walk->image++;
        }
    }
}

static __m512i largest_input(const struct conv_call *call, int64_t pixel, __m512i largest)
{
    for (int source = 0; source < call->shape->source_count; source++) {
        const struct map_view *in = &call->sources[source];
        const float *x = in->data + pixel * in->pixel_stride;
        for (int channel = 0; channel < call->shape->source_channels[source]; channel += VEC_WIDTH)
            vec_fetch_ahead(x + channel);
        largest = largest_of(x, call->shape->source_channels[source], largest);
    }
    return largest;
}

/* A pixel's blocks. */
static void write_pixel(const struct conv_call *call, const struct blocking *b, int64_t pixel, vec factor, char *row)
{
    for (int source = 0; source < call->shape->source_count; source++) {
        const struct map_view *in = &call->sources[source];
        int channels = call->shape->source_channels[source];
        for (int channel = 0; channel < channels; channel += TERMS, row += b->block_bytes) {
            vec x[TERMS / VEC_WIDTH];
            load_block(in->data + pixel * in->pixel_stride, channels, channel, x);
            write_digits(x, factor, row, ROW_BYTES);
        }
    }
}

/* Where a row of the panel's first block begins. */
ALWAYS_INLINE int64_t row_at(const struct blocking *b, int64_t row)
{
    if (b->taps > 1)
        return row * POSITION_BYTES;
    return row / b->group_positions * b->group_bytes + row % b->group_positions * POSITION_BYTES;
}

/* Rows [begin, end) of each map of the panel, and their targets. image_largest: (images); 1x1: NULL */
static void write_panel(const struct conv_call *call, const struct blocking *b, const float *image_largest, const struct strip *strip,
                        int64_t begin, int64_t end)
{
    int stride = call->shape->stride;

    for (int map = 0; map < b->maps; map++) {
        struct walk walk = walk_from(b, strip->first - b->halo + begin);
        for (int64_t i = begin; i < end; i++, walk_on(&walk, b)) {
            char *row = strip->panel + row_at(b, map * b->map_rows + i);
            int y = walk.y * stride + map / stride, x = walk.x * stride + map % stride;
            bool inside = walk.position >= 0 && walk.position < b->positions;
            float largest = inside && image_largest ? image_largest[walk.image] : 1.0f;

            if (inside && y < b->in_height && x < b->in_width) {
                int64_t pixel = (walk.image * b->in_height + y) * b->in_width + x;
                if (!image_largest)
                    largest = largest_lane(largest_input(call, pixel, _mm512_setzero_si512()));
                write_pixel(call, b, pixel, vec_all(LARGEST / largest), row);
            } else
                for (int block = 0; block < b->block_count; block++)
                    memset(row + block * b->block_bytes, 0, POSITION_BYTES);
            if (map == 0 && i >= b->halo && i < b->map_rows - b->halo) {
                bool kept = inside && walk.y < b->out_height && walk.x < b->out_width;
                strip->targets[i - b->halo] =
                    (struct target){kept ? (walk.image * b->out_height + walk.y) * b->out_width + walk.x : -1, largest / LARGEST};
            }
        }
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------------- */

/* Sums of a group and where they go in the map. */
struct results {
    const int32_t *sums;          /* (count, LEVELS, COLUMNS) */
    const struct target *targets; /* (count) */
    int count;                    /* positions that are left */
    int first_output;
};

struct product {
    const struct conv_call *call;
    const struct blocking *blocking;
    const char *in;          /* the panel's row of the first position */
    const char *weights;     /* (halves, taps, blocks) of RIGHT_BYTES */
    int halves;              /* that have outputs */
    struct ahead ahead;      /* the next weights */
    struct results pending;  /* of the last group: those that are still to be written out */
    struct results expected; /* of this group: those whose lines are still to be fetched */
    int rows_a_block;        /* of each, a tap and block */
};

/* Scales, bias, residual, relu, and out into the map, of some of the positions. */
static void store_rows(struct product *p, int rows)
{
    const struct conv_call *call = p->call;
    const float *factors = call->packed;
    struct results *pending = &p->pending;
    int outputs = smaller(call->shape->out_channels - pending->first_output, COLUMNS);
    vec floor = vec_all(call->relu ? 0.0f : -INFINITY);

    for (; rows > 0 && pending->count > 0; rows--, pending->count--, pending->targets++, pending->sums += SUM_INTS) {
        int64_t pixel = pending->targets->pixel;
        vec scale = vec_all(pending->targets->scale);
        if (pixel < 0)
            continue;
        for (int first = 0; first < outputs; first += VEC_WIDTH) {
            int lanes = smaller(outputs - first, VEC_WIDTH), output = pending->first_output + first;
            vec sum = vec_fma(sums_of_levels(pending->sums + first) * scale, vec_load(factors + output),
                              vec_load_first(call->bias + output, lanes));
            if (call->residual.data)
                sum = sum + vec_load_first(call->residual.data + pixel * call->residual.pixel_stride + output, lanes);
            vec_store_first(call->out.data + pixel * call->out.pixel_stride + output, vec_max(floor, sum), lanes);
        }
    }
}

/* Lines of the map that may have to come from memory: stores of tiles would wait behind those to the map, as stores leave a core in
 * order. */
static void fetch_rows(struct product *p, int rows)
{
    struct results *expected = &p->expected;

    for (; rows > 0 && expected->count > 0; rows--, expected->count--, expected->targets++) {
        if (expected->targets->pixel < 0)
            continue;
        const float *out = p->call->out.data + expected->targets->pixel * p->call->out.pixel_stride + expected->first_output;
        for (int half = 0; half < p->halves; half++)
            vec_fetch_to_store(out + half * TILE_COLUMNS);
    }
}

USES_TILES static void multiply_group(struct product *p, int32_t *sums /* (group_positions, LEVELS, COLUMNS) */)
{
    const struct blocking *b = p->blocking;
    const char *weights = p->weights;

    for (int half = 0; half < p->halves; half++) {
        begin_sums();
        for (int tap = 0; tap < b->taps; tap++) {
            const char *in = p->in + b->reach[tap] * POSITION_BYTES;
            for (int block = 0; block < b->block_count; block++, in += b->block_bytes, weights += RIGHT_BYTES) {
                multiply_digits(in, ROW_BYTES, POSITION_BYTES, weights, &p->ahead);
                fetch_rows(p, p->rows_a_block);
                store_rows(p, p->rows_a_block);
            }
        }
        store_sums(sums, half);
    }
}

/* 32 outputs, all positions of a strip. */
static void multiply_strip(const struct conv_call *call, const struct blocking *b, const struct strip *strip, int output_group,
                           int32_t *sums /* (2, TILE_ROWS, LEVELS, COLUMNS) */)
{
    int64_t groups = (strip->end - strip->first + b->group_positions - 1) / b->group_positions;
    int64_t weight_bytes = (int64_t)HALVES * b->taps * b->block_count * RIGHT_BYTES;
    int halves = smaller(divide_up(call->shape->out_channels - output_group * COLUMNS, TILE_COLUMNS), HALVES);
    struct product p = {
        .call = call,
        .blocking = b,
        .weights = (const char *)call->packed + factor_bytes(b) + output_group * weight_bytes,
        .halves = halves,
        .rows_a_block = divide_up(b->group_positions, halves * b->taps * b->block_count),
    };

    p.ahead.next = p.weights + weight_bytes;
    p.ahead.end = p.ahead.next + (output_group == b->output_groups - 1 ? 0 : weight_bytes);
    if (groups <= PREFETCH_GROUPS)
        p.ahead.bytes = divide_up(RIGHT_BYTES / LINE, (int)groups * FETCHES) * LINE;
    for (int64_t i = 0; i < groups; i++) {
        int64_t first = i * b->group_positions, left = strip->end - strip->first - first;
        p.in = strip->panel + i * b->group_bytes + b->halo * POSITION_BYTES;
        int count = left < b->group_positions ? (int)left : b->group_positions;
        struct results results = {sums + i % 2 * TILE_SUMS, strip->targets + first, count, output_group * COLUMNS};
        p.expected = results;
        multiply_group(&p, sums + i % 2 * TILE_SUMS);
        p.pending = results;
    }
    store_rows(&p, b->group_positions);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------------- */

struct amx_job {
    struct blocking blocking;
    const struct conv_call *call;
    int tasks;            /* of a shared panel */
    float *image_largest; /* (batch), and behind them a number for each part of each image; NULL for 1x1 */
    char *scratch;        /* behind these: for each thread, or for all where the panel is shared, what thread_bytes says */
};

static int64_t image_floats(const struct blocking *b, int batch)
{
    return aligned(b->image_parts > 0 ? (int64_t)batch * (1 + b->image_parts) : 0);
}

/* A panel and its targets, and sums of `threads`. */
static int64_t thread_bytes(const struct blocking *b, int threads)
{
    return b->panel_bytes + b->target_bytes + threads * THREAD_SUMS * (int64_t)sizeof(int32_t);
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s, threads);
    int64_t bytes = b.shared ? thread_bytes(&b, threads) : threads * thread_bytes(&b, 1);
    return (size_t)(image_floats(&b, s->batch) * (int64_t)sizeof(float) + bytes);
}

static struct strip strip_of(const struct amx_job *job, int index, char *scratch)
{
    const struct blocking *b = &job->blocking;
    int64_t end = b->groups * (index + 1) / b->strip_count * b->group_positions;

    return (struct strip){
        .first = b->groups * index / b->strip_count * b->group_positions,
        .end = end < b->positions ? end : b->positions,
        .panel = scratch,
        .targets = (struct target *)(void *)(scratch + b->panel_bytes),
    };
}

static int32_t *sums_of(const struct blocking *b, char *scratch, int worker)
{
    return (int32_t *)(void *)(scratch + b->panel_bytes + b->target_bytes) + worker * THREAD_SUMS;
}

static void strip_task(void *context, int task, int worker)
{
    const struct amx_job *job = context;
    const struct blocking *b = &job->blocking;
    char *scratch = job->scratch + worker * thread_bytes(b, 1);
    struct strip strip = strip_of(job, task, scratch);

    write_panel(job->call, b, job->image_largest, &strip, 0, b->map_rows);
    begin_tiles(b->group_positions);
    for (int group = 0; group < b->output_groups; group++)
        multiply_strip(job->call, b, &strip, group, sums_of(b, scratch, 0));
    end_tiles();
}

static void panel_task(void *context, int task, int worker)
{
    const struct amx_job *job = context;
    const struct blocking *b = &job->blocking;
    struct strip strip = strip_of(job, 0, job->scratch);

    (void)worker;
    write_panel(job->call, b, job->image_largest, &strip, b->map_rows * task / job->tasks, b->map_rows * (task + 1) / job->tasks);
}

static void outputs_task(void *context, int task, int worker)
{
    const struct amx_job *job = context;
    const struct blocking *b = &job->blocking;
    struct strip strip = strip_of(job, 0, job->scratch);
    int first = b->output_groups * task / job->tasks, end = b->output_groups * (task + 1) / job->tasks;

    begin_tiles(b->group_positions);
    for (int group = first; group < end; group++)
        multiply_strip(job->call, b, &strip, group, sums_of(b, job->scratch, worker));
    end_tiles();
}

/* The largest value of one part of an image. */
static void largest_task(void *context, int task, int worker)
{
    const struct amx_job *job = context;
    const struct conv_shape *s = job->call->shape;
    int parts = job->blocking.image_parts, image = task / parts, part = task % parts;
    int64_t first_row = (int64_t)image * s->in_height;
    int64_t begin = (first_row + s->in_height * part / parts) * s->in_width;
    int64_t end = (first_row + s->in_height * (part + 1) / parts) * s->in_width;
    __m512i largest = _mm512_setzero_si512();

    (void)worker;
    for (int64_t pixel = begin; pixel < end; pixel++)
        largest = largest_input(job->call, pixel, largest);
    job->image_largest[s->batch + task] = largest_lane(largest);
}

static void find_largest(struct amx_job *job)
{
    int batch = job->call->shape->batch, parts = job->blocking.image_parts;
    const float *part_largest = job->image_largest + batch;

    thread_pool_run(job->call->pool, largest_task, job, batch * parts);
    for (int image = 0; image < batch; image++) {
        float largest = 0.0f;
        for (int part = 0; part < parts; part++, part_largest++)
            if (!isnan(largest) && !(*part_largest <= largest)) /* NaN stays */
                largest = *part_largest;
        job->image_largest[image] = largest;
    }
}

static void run(const struct conv_call *call)
{
    int threads = thread_pool_size(call->pool);
    struct amx_job job = {.blocking = block(call->shape, threads), .call = call};
    const struct blocking *b = &job.blocking;
    int64_t floats = image_floats(b, call->shape->batch);

    job.scratch = (char *)call->scratch + floats * (int64_t)sizeof(float);
    if (floats > 0) {
        job.image_largest = call->scratch;
        find_largest(&job);
    }
    if (!b->shared) {
        thread_pool_run(call->pool, strip_task, &job, b->strip_count);
        return;
    }
    job.tasks = threads;
    thread_pool_run(call->pool, panel_task, &job, job.tasks);
    job.tasks = smaller(SHARED_TASKS * threads, b->output_groups);
    thread_pool_run(call->pool, outputs_task, &job, job.tasks);
}

/* Counted in multiply-adds of the vector units that take as long. */
static double products(const struct conv_shape *s)
{
    const double unit_speed = 32.0;
    return (double)s->batch * s->out_height * s->out_width * s->out_channels * s->in_channels * s->kernel * s->kernel * PRODUCTS
           / unit_speed;
}

/* By times of an Emerald Rapids core: of a position's products with a block of 32 outputs, of 64 inputs' digits, of a position's 32 sums
 * on their way out, of weights from memory. */
static double cost(const struct conv_shape *s, int threads)
{
    const double product_cycles = 23.0, digit_cycles = 45.0, store_cycles = 20.0, bytes_a_microsecond = 11000.0;
    struct blocking b = block(s, threads);
    double positions = (double)b.groups * b.group_positions;
    double sums = positions * b.taps * b.block_count * b.output_groups * product_cycles;
    double panel = (double)(b.maps * b.map_rows) * b.strip_count * b.block_count * digit_cycles;
    double ends = positions * b.output_groups * store_cycles;
    double arithmetic = (sums + panel + ends) / 2500.0 / threads, memory = (double)packed_bytes(s) / bytes_a_microsecond;
    return arithmetic > memory ? arithmetic : memory;
}

extern const struct conv_kernel ISA_NAME(conv_amx);

const struct conv_kernel ISA_NAME(conv_amx) = {
    .name = "digits_amx",
    .winograd = true,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .products = products,
    .cost = cost,
    .run = run,
};

#endif
