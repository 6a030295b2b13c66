/* conv_paired.c - 1x1 convolutions with fewer multiplications than terms: S. Winograd's inner product ("A new algorithm for inner
 * product", IEEE Transactions on Computers C-17, 1968).
 *
 * Two terms of a sum are one product of sums, but for two products that do not mix maps and weights:
 *
 *     x w + x' w' = (x + w') (x' + w) - x x' - w w'
 *
 * The x x' of a pixel serve all of its outputs, the w w' of an output all pixels. So a pair costs an FMA and two additions instead of
 * two FMAs, and that is a gain where a core has adders beside its FMA units: AMD's from Zen 3 on have two of each, which start
 * four instructions a cycle, and plain sums keep two of them idle. (Intel's add where they multiply: a loss, left to measurement.) With P
 * pairs among 2 W terms the FMA units have 2 W - P instructions and the adders 2 P: even at P = 2/3 W, in 2/3 of the time of plain
 * sums. Here P is 10 of 16 with AVX-512, where a Zen 4 with everything in L1 reaches 1.44 times its FMA peak, of 1.45 possible, and 5
 * of 8 with AVX2: there a broadcast needs an instruction of its own, which takes a slot of an adder, and 16 registers hold 8 sums, just
 * enough to hide what an FMA takes; 1.24 times the peak.
 *
 * Rounding. (x + w') (x' + w) is rounded at the size of x x' and w w', which must be no larger than x w: each pixel is scaled by a
 * power of two that makes its values about 1 (root mean square), and so is each output's row of weights. And the x x' of maps that come
 * from a relu are all positive: their sum would grow with the terms where that of the x w does not. So every other pair has
 *
 *     x w + x' w' = (x - w') (w - x') + x x' + w w'
 *
 * which needs no other instructions, since x' and w' are negated when they are packed. The error is then 1.4 times that of plain sums.
 *
 * What is done in what order: a strip of pixels is copied, scaled, into a panel, and the sums of x x' are taken on the way. Where there
 * are strips enough, a task copies one and multiplies it with all weights, so that the panel stays in its core's L2. Small maps are
 * copied in a job of their own before, and several tasks share a strip. Channels come in parts, so that a part of the panel stays in
 * L2 (AVX-512), or a part of a block's weights in L1 (AVX2, whose narrow tiles read them more often), while the tiles of the strip
 * pass; between parts, sums wait in memory. The innermost loops are in paired_tile.h.
 */
#include "cpu/isa/vector.h"

#if KERNEL_ISA_AVX2 || KERNEL_ISA_AVX512

#include "cpu/isa/paired_tile.h"
#include "cpu/isa/sizes.h"

enum {
    PART_UNITS = 16,          /* 512 channels: 64 KB of a block's weights and 256 KB of a strip; AVX2: 256, 16 KB and 128 KB */
    STRIP_FLOATS = 64 * 1024, /* of a panel: 256 KB */
    STRIP_PIXELS = 128,       /* where channels come in parts, of which a strip then has as many floats */
    SPLIT_PIXELS = 64,        /* a thread: with fewer, threads share outputs */
    TASKS_PER_THREAD = 4      /* so that one that was held up can be helped */
};

/* Mean squares between these are trusted: no square of a value that counts was 0 or infinite. */
#define SMALLEST_MEAN 0x1p-100f
#define LARGEST_MEAN 0x1p100f

struct blocking {
    int pixels, tile, tile_count; /* tile: pixels of one */
    int units;                    /* whole ones */
    int rest;                     /* channels behind them: 0 or VEC_WIDTH, summed plainly */
    int part_count, block_count;
    int strip_count, strip_tiles;                   /* strip_tiles: at most */
    int tasks_per_strip;                            /* more than one: panels are made beforehand, one a strip; otherwise one a thread */
    int task_blocks;                                /* at most */
    int64_t block_floats;                           /* weights of a block */
    int64_t panel_floats, strip_floats, sum_floats; /* a panel, it and its two numbers per pixel, a task's sums between parts */
};

/* The width of which the fewest pixels are computed for nothing, and of those the largest. */
static int choose_tile(int pixels)
{
    int best = MAX_TILE;

    for (int tile = MAX_TILE - 1; tile >= LEAST_TILE; tile--)
        if (divide_up(pixels, tile) * tile < divide_up(pixels, best) * best)
            best = tile;
    return best;
}

static struct blocking block(const struct conv_shape *s, int threads)
{
    struct blocking b = {.pixels = s->batch * s->out_height * s->out_width};
    int strip_pixels = STRIP_FLOATS / s->in_channels > STRIP_PIXELS ? STRIP_FLOATS / s->in_channels : STRIP_PIXELS;

    b.tile = choose_tile(b.pixels);
    b.tile_count = divide_up(b.pixels, b.tile);
    b.units = s->in_channels / UNIT;
    b.rest = s->in_channels % UNIT;
    b.part_count = divide_up(b.units, PART_UNITS);
    b.block_count = divide_up(s->out_channels, BLOCK);
    b.block_floats = (int64_t)s->in_channels * BLOCK;
    b.strip_count = 1;
    if (b.pixels >= SPLIT_PIXELS * threads)
        b.strip_count = smaller(divide_up(divide_up(b.pixels, strip_pixels), threads) * threads, b.tile_count);
    b.strip_tiles = divide_up(b.tile_count, b.strip_count);
    b.tasks_per_strip = smaller(divide_up(TASKS_PER_THREAD * threads, b.strip_count), b.block_count);
    b.task_blocks = divide_up(b.block_count, b.tasks_per_strip);
    b.panel_floats = (int64_t)b.strip_tiles * b.tile * s->in_channels;
    b.strip_floats = aligned(b.panel_floats + 2 * (int64_t)b.strip_tiles * b.tile);
    b.sum_floats = (int64_t)b.strip_tiles * b.tile * BLOCK * (b.part_count > 1 ? b.task_blocks : 1);
    return b;
}

static bool supports(const struct conv_shape *s)
{
    if (s->kernel != 1 || s->stride != 1 || s->padding != 0 || s->groups != 1 || s->in_channels < UNIT)
        return false;
    for (int i = 0; i < s->source_count; i++)
        if (s->source_channels[i] % (s->source_count == 1 ? VEC_WIDTH : UNIT) != 0)
            return false;
    return true;
}

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

/* Whether pair `pair` of unit `unit` is one of those with x - w'. */
static bool is_negative(int unit, int pair)
{
    return (unit + pair) % 2 != 0;
}

/* The power of two nearest to 1 / sqrt(mean_square), a normal number: half the exponent, read from the float's bits. */
static float scale_to_one(float mean_square)
{
    uint32_t bits;

    memcpy(&bits, &mean_square, sizeof(bits));
    int exponent = (int)(bits >> 23 & 0xff) - 127;
    bits = (uint32_t)(127 - (exponent - (exponent < 0)) / 2) << 23;
    memcpy(&mean_square, &bits, sizeof(bits));
    return mean_square;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return (size_t)divide_up(s->out_channels, BLOCK) * BLOCK * ((size_t)s->in_channels + 2) * sizeof(float);
}

/* The sum of squares of the weights times `factor`. */
static float sum_squares(const float *weight, int count, float factor)
{
    vec squares[2] = {vec_zero(), vec_zero()};

    for (int i = 0; i < count; i += VEC_WIDTH) { /* `count` is a multiple of it */
        vec w = vec_load(weight + i) * vec_all(factor);
        squares[i / VEC_WIDTH % 2] = vec_fma(w, w, squares[i / VEC_WIDTH % 2]);
    }
    return vec_sum_of_lanes(squares[0] + squares[1]);
}

/* Batch norm's scale, and the power of two that makes a row of weights about 1. *undo is one over the latter. */
static float row_factor(const float *weight, int count, float scale, float *undo)
{
    float mean = sum_squares(weight, count, scale) / (float)count, rough = 1.0f;

    if (!(mean > SMALLEST_MEAN && mean < LARGEST_MEAN)) {
        rough = mean < 1.0f ? 0x1p60f : 0x1p-60f;
        mean = sum_squares(weight, count, scale * rough) / (float)count;
    }
    float fine = mean > 0.0f ? scale_to_one(mean) : 1.0f;
    *undo = 1.0f / (rough * fine);
    return scale * (rough * fine);
}

/* packed: (blocks * BLOCK) sums of w w', (blocks * BLOCK) what undoes an output's scale, (blocks, in_channels, BLOCK) weights. */
static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)
{
    struct blocking b = block(s, 1);
    float *mixed = packed, *undo = mixed + b.block_count * BLOCK, *out = undo + b.block_count * BLOCK;

    for (int first = 0; first < s->out_channels; first += BLOCK, mixed += BLOCK, undo += BLOCK) {
        int count = smaller(s->out_channels - first, BLOCK);
        const float *rows = weight + (int64_t)first * s->in_channels;
        float factors[BLOCK] = {0.0f};
        double sums[BLOCK] = {0.0};
        for (int lane = 0; lane < BLOCK; lane++)
            undo[lane] = 0.0f;
        for (int lane = 0; lane < count; lane++)
            factors[lane] = row_factor(rows + (int64_t)lane * s->in_channels, s->in_channels, scale[first + lane], &undo[lane]);
        float near[BLOCK][VEC_WIDTH] = {{0.0f}}; /* rows lie powers of two apart, and evict each other from L1 */
        for (int i = 0; i < s->in_channels; i++, out += BLOCK) {
            int unit = i / UNIT, pair = i % UNIT - VEC_WIDTH; /* the pair whose second member channel i is */
            bool second = unit < b.units && pair >= 0 && pair < PAIRS;
            float sign = second && is_negative(unit, pair) ? -1.0f : 1.0f;
            for (int lane = 0; lane < count && i % VEC_WIDTH == 0; lane++)
                vec_store(near[lane], vec_load(rows + (int64_t)lane * s->in_channels + i));
            for (int lane = 0; lane < BLOCK; lane++)
                out[lane] = near[lane][i % VEC_WIDTH] * (sign * factors[lane]);
            for (int lane = 0; second && lane < BLOCK; lane++)
                sums[lane] += (double)out[lane] * out[lane - VEC_WIDTH * BLOCK];
        }
        for (int lane = 0; lane < BLOCK; lane++)
            mixed[lane] = (float)sums[lane];
    }
}

/* ---- maps -------------------------------------------------------------------------------------------------------------- */

static int panel_count(const struct blocking *b, int threads)
{
    return b->tasks_per_strip > 1 ? b->strip_count : threads;
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s, threads);
    return (size_t)(panel_count(&b, threads) * b.strip_floats + threads * b.sum_floats) * sizeof(float);
}

struct strip {
    int begin, pixels;
    float *panel;  /* (tiles, units, tile, UNIT), each tile's (tile, rest) behind its units */
    float *mixed;  /* (pixels) sums of x x' */
    float *undo;   /* (pixels) what undoes a pixel's scale */
    bool is_first; /* that its thread works on: the weights must come from memory, and are fetched ahead */
};

/* Strip `index`, in the panel-th part of the scratch. */
static struct strip strip_of(const struct conv_call *call, const struct blocking *b, int index, int panel)
{
    int threads = thread_pool_size(call->pool);
    struct strip strip = {
        .is_first = thread_pool_range_begins(index, b->strip_count, threads),
        .begin = (int)((int64_t)b->tile_count * index / b->strip_count) * b->tile,
        .panel = (float *)call->scratch + panel * b->strip_floats,
    };
    strip.pixels = smaller((int)((int64_t)b->tile_count * (index + 1) / b->strip_count) * b->tile, b->pixels) - strip.begin;
    strip.mixed = strip.panel + b->panel_floats;
    strip.undo = strip.mixed + b->strip_tiles * b->tile;
    return strip;
}

/* The signs of x' in a unit of even number and in one of odd number; those of x x', 0 for channels without a partner. */
struct signs {
    vec second[2], pairs;
};

static struct signs make_signs(void)
{
    float lanes[3][VEC_WIDTH];

    for (int lane = 0; lane < VEC_WIDTH; lane++) {
        lanes[0][lane] = lane < PAIRS && is_negative(0, lane) ? -1.0f : 1.0f;
        lanes[1][lane] = lane < PAIRS && is_negative(1, lane) ? -1.0f : 1.0f;
        lanes[2][lane] = lane < PAIRS ? lanes[0][lane] : 0.0f;
    }
    return (struct signs){{vec_load(lanes[0]), vec_load(lanes[1])}, vec_load(lanes[2])};
}

/* A pixel's scale, and the sum of its x x' after scaling. Squares are taken of the values times `factor`, 1 unless those would not fit
 * into a float. */
static float measure_pixel(const struct conv_call *call, int64_t pixel, const struct signs *signs, float factor, float *mixed)
{
    const vec factors = vec_all(factor), signed_factors[2] = {factors, vec_all(-factor)};
    vec squares = vec_zero(), more_squares = vec_zero(), products = vec_zero();

    for (int i = 0, unit = 0; i < call->shape->source_count; i++) {
        const float *in = call->sources[i].data + pixel * call->sources[i].pixel_stride;
        int left = call->shape->source_channels[i];
        for (; left >= UNIT; left -= UNIT, in += UNIT, unit++) {
            vec first = vec_load(in) * factors, second = vec_load(in + VEC_WIDTH) * signed_factors[unit % 2];
            squares = vec_fma(first, first, squares);
            more_squares = vec_fma(second, second, more_squares);
            products = vec_fma(first, second, products);
        }
        if (left > 0)
            squares = vec_fma(vec_load(in) * factors, vec_load(in) * factors, squares);
    }
    float mean = vec_sum_of_lanes(squares + more_squares) / (float)call->shape->in_channels;
    if (!(mean > SMALLEST_MEAN && mean < LARGEST_MEAN)) {
        if (factor == 1.0f)
            return measure_pixel(call, pixel, signs, mean < 1.0f ? 0x1p64f : 0x1p-64f, mixed);
        mean = mean > 0.0f ? mean : 1.0f; /* nothing but zeros: any scale will do */
    }
    float scale = scale_to_one(mean);
    *mixed = vec_sum_of_lanes(products * signs->pairs) * scale * scale;
    return factor * scale;
}

/* Copies `count` pixels into the rows of a tile of the panel, scaled, x' of negative pairs negated. Rows without a pixel are cleared:
 * any numbers would do that cost no more than others. */
static void copy_tile(const struct conv_call *call, int64_t pixel, int count, const float *scales, const struct signs *signs, float *tile,
                      int rows)
{
    for (int i = 0, unit = 0; i < call->shape->source_count; i++) {
        int64_t stride = call->sources[i].pixel_stride;
        const float *in = call->sources[i].data + pixel * stride;
        int left = call->shape->source_channels[i];
        for (; left >= UNIT; left -= UNIT, in += UNIT, unit++, tile += rows * UNIT) {
            for (int row = 0; row < count; row++) {
                vec_store(tile + row * UNIT, vec_load(in + row * stride) * vec_all(scales[row]));
                vec_store(tile + row * UNIT + VEC_WIDTH,
                          vec_load(in + row * stride + VEC_WIDTH) * (signs->second[unit % 2] * vec_all(scales[row])));
            }
            memset(tile + count * UNIT, 0, (size_t)((rows - count) * UNIT) * sizeof(float));
        }
        if (left > 0) {
            for (int row = 0; row < count; row++)
                vec_store(tile + row * VEC_WIDTH, vec_load(in + row * stride) * vec_all(scales[row]));
            memset(tile + count * VEC_WIDTH, 0, (size_t)((rows - count) * VEC_WIDTH) * sizeof(float));
        }
    }
}

/* Copies tiles [first, end) of a strip. */
static void copy_tiles(const struct conv_call *call, const struct blocking *b, const struct strip *strip, int first, int end)
{
    const struct signs signs = make_signs();

    for (int tile = first; tile < end; tile++) {
        int at = tile * b->tile, count = smaller(strip->pixels - at, b->tile);
        float scales[MAX_TILE];
        for (int row = 0; row < count; row++) {
            scales[row] = measure_pixel(call, strip->begin + at + row, &signs, 1.0f, &strip->mixed[at + row]);
            strip->undo[at + row] = 1.0f / scales[row];
        }
        for (int row = count; row < b->tile; row++)
            strip->mixed[at + row] = strip->undo[at + row] = 0.0f;
        copy_tile(call, strip->begin + at, count, scales, &signs, strip->panel + (int64_t)at * call->shape->in_channels, b->tile);
    }
}

/* ---- tasks ------------------------------------------------------------------------------------------------------------- */

struct paired_job {
    struct blocking blocking;
    int threads;
    bool once;
    const struct conv_call *call;
};

/* One part of a block's weights with all tiles of a strip. */
static void run_part(const struct paired_job *job, const struct strip *strip, int o, int part, float *sums)
{
    const struct blocking *b = &job->blocking;
    const struct conv_call *call = job->call;
    const float *mixed = call->packed, *undo = mixed + b->block_count * BLOCK, *weight = undo + b->block_count * BLOCK;
    int first_unit = b->units * part / b->part_count, end_unit = b->units * (part + 1) / b->part_count;
    struct tile t = {
        .call = call,
        .weight = weight + o * b->block_floats + (int64_t)first_unit * UNIT * BLOCK,
        .units = end_unit - first_unit,
        .first = part == 0,
        .last = part == b->part_count - 1,
        .mixed = mixed + o * BLOCK,
        .undo = undo + o * BLOCK,
        .first_channel = o * BLOCK,
        .channels = smaller(call->shape->out_channels - o * BLOCK, BLOCK),
    };

    t.rest = t.last ? b->rest : 0;
    if (strip->is_first && (o + 1 < b->block_count || !t.last)) {
        t.prefetch = t.weight + b->block_floats;
        t.prefetch_lines = divide_up(UNIT * BLOCK / LINE_FLOATS, divide_up(strip->pixels, b->tile));
    }
    for (int p = 0; p < strip->pixels; p += b->tile) {
        t.x = strip->panel + (int64_t)p * call->shape->in_channels + (int64_t)first_unit * b->tile * UNIT;
        t.sums = sums + (int64_t)p * BLOCK;
        t.pixel_mixed = strip->mixed + p;
        t.pixel_undo = strip->undo + p;
        t.pixel = strip->begin + p;
        t.pixels = smaller(strip->pixels - p, b->tile);
        tile_functions[job->once][b->tile](&t);
        if (t.prefetch)
            t.prefetch += (int64_t)t.units * t.prefetch_lines * LINE_FLOATS;
    }
}

static void copy_task(void *context, int task, int worker)
{
    const struct paired_job *job = context;
    const struct blocking *b = &job->blocking;
    int index = task / b->tasks_per_strip, share = task % b->tasks_per_strip;
    struct strip strip = strip_of(job->call, b, index, index);
    int tiles = divide_up(strip.pixels, b->tile);

    (void)worker;
    copy_tiles(job->call, b, &strip, tiles * share / b->tasks_per_strip, tiles * (share + 1) / b->tasks_per_strip);
}

static void multiply_task(void *context, int task, int worker)
{
    const struct paired_job *job = context;
    const struct blocking *b = &job->blocking;
    int index = task / b->tasks_per_strip, share = task % b->tasks_per_strip;
    int first_block = b->block_count * share / b->tasks_per_strip, end_block = b->block_count * (share + 1) / b->tasks_per_strip;
    bool has_own_panel = b->tasks_per_strip == 1;
    struct strip strip = strip_of(job->call, b, index, has_own_panel ? worker : index);
    float *sums = (float *)job->call->scratch + panel_count(b, job->threads) * b->strip_floats + worker * b->sum_floats;

    if (has_own_panel)
        copy_tiles(job->call, b, &strip, 0, divide_up(strip.pixels, b->tile));
    for (int part = 0; part < b->part_count; part++)
        for (int o = first_block; o < end_block; o++)
            run_part(job, &strip, o, part, sums + (b->part_count > 1 ? (o - first_block) * b->strip_tiles * b->tile * BLOCK : 0));
}

static void run_as(const struct conv_call *call, bool once)
{
    int threads = thread_pool_size(call->pool);
    struct paired_job job = {.blocking = block(call->shape, threads), .threads = threads, .once = once, .call = call};
    int tasks = job.blocking.strip_count * job.blocking.tasks_per_strip;

    if (job.blocking.tasks_per_strip > 1)
        thread_pool_run(call->pool, copy_task, &job, tasks);
    thread_pool_run(call->pool, multiply_task, &job, tasks);
}

static double products(const struct conv_shape *s)
{
    struct blocking b = block(s, 1);
    return (double)b.pixels * s->out_channels * (b.units * (UNIT - PAIRS) + b.rest);
}

/* `share` is of what plain sums take. Copies cost a pixel so much, and so much for each unit, in the same measure. */
static double cost_as(const struct conv_shape *s, int threads, double share)
{
    struct blocking b = block(s, threads);
    double terms = (double)b.tile_count * b.tile * s->in_channels * b.block_count * BLOCK;
    double units = (double)s->in_channels / UNIT, copies = b.pixels * (VEC_WIDTH == 16 ? 6.0 * units + 21.0 : 8.0 * units + 44.0);
    return (share * terms / (VEC_WIDTH * 2.0 * 0.93) + copies) / 2500.0 / threads;
}

/* Where nobody has measured them, these come after plain sums. */
static const double unknown_share = 1.1;

#define SHARED_BY_BOTH                                                                                                                     \
    .winograd = true, .supports = supports, .packed_bytes = packed_bytes, .pack = pack, .scratch_bytes = scratch_bytes, .products = products

#if KERNEL_ISA_AVX512

static void run(const struct conv_call *call)
{
    run_as(call, false);
}

static double cost(const struct conv_shape *s, int threads)
{
    return cost_as(s, threads, cpu_adds_beside_products() ? 0.72 : unknown_share);
}

extern const struct conv_kernel ISA_NAME(conv_paired);

const struct conv_kernel ISA_NAME(conv_paired) = {
    .name = KERNEL_NAME("paired"),
    SHARED_BY_BOTH,
    .cost = cost,
    .run = run,
};

#endif

static void run_once(const struct conv_call *call)
{
    run_as(call, true);
}

/* With AVX2 pairs need nearly all instructions that a core can start. One whose other thread is busy starts fewer, and takes an eighth
 * longer than for plain sums, where a core alone gains a fifteenth: no reason to prefer them unmeasured. */
static double cost_once(const struct conv_shape *s, int threads)
{
    return cost_as(s, threads, cpu_adds_beside_products() && VEC_WIDTH == 8 ? 1.0 : unknown_share);
}

extern const struct conv_kernel ISA_NAME(conv_paired_once);

const struct conv_kernel ISA_NAME(conv_paired_once) = {
    .name = KERNEL_NAME("paired_once"),
    SHARED_BY_BOTH,
    .cost = cost_once,
    .run = run_once,
};

#endif
