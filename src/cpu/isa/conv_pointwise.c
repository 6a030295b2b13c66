/* conv_pointwise.c - 1x1 convolutions as a matrix product over several sources.
 *
 *     out[pixel][o] = Σ_source Σ_i source[pixel][i] * weight[first channel of source + i][o]
 *
 * An aggregation node is such a product over up to seven maps. They are read where they lie: a tile of some pixels and a block of
 * BLOCK_VECTORS vectors of output channels is summed in registers over all channels of all sources (channel_sums.h). AVX-512: 14 x 2
 * sums + 2 weights + 1 broadcast = 31 of 32 registers, 28 FMAs for 16 loads; AVX2: 4 x 3 + 3 + 1 of 16, 12 FMAs for 7 loads, and 6 x 2
 * with the one or two vectors that blocks of three leave. It runs at 97 % of the FMA peak as long as loads hit: a tile's pixels must not
 * be a multiple of 4 KB apart (they would evict each other from L1, and the planner pads such maps), and weights must arrive in time.
 *
 * Weights of a block (channels x 32 x 4 bytes, 64 to 256 KB) stay in L2 while the pixels pass. Where there are few pixels
 * (7x7 maps), reading the weights from memory takes as long as the arithmetic: each tile then prefetches its share of the next
 * block's weights into L2, a few lines every RUN channels.
 *
 * With 16 registers every instruction and load counts (TERMS_AT_ONCE in vector.h): no weights are fetched into L1, and what is fetched
 * into L2 is fetched by the first strip alone, less often and more at once. Narrow tiles also read the weights more often, and strips are
 * long, beyond what L2 holds: better a strip's sources come from L3 than the weights from memory again.
 *
 * Threads share pixels, as those do who write and read these maps, so that most of what a thread reads lies in its own cache; with
 * few pixels the weights are the larger part of what is read, and they share output channels.
 */
#include "cpu/conv.h"
#include "cpu/isa/channel_sums.h"
#include "cpu/isa/output_blocks.h"
#include "cpu/isa/tile_store.h"

#include <math.h>

enum {
    BLOCK_VECTORS = MANY_REGISTERS ? 2 : 3,
    MOST_SUMS = MANY_REGISTERS ? 28 : 12,               /* of a tile */
    UNIT_PIXELS = MANY_REGISTERS ? 14 : 12,             /* which strips are multiples of: whole tiles, however many vectors a block has */
    STRIP_UNITS = MANY_REGISTERS ? 8 : 17,              /* at most: a strip's sources stay in L2 from one block of weights to the next */
    STRIP_BYTES = (MANY_REGISTERS ? 512 : 2048) * 1024, /* of sources, for the same reason, where they are what is read most */
    RUN = MANY_REGISTERS ? 16 : 128,                    /* channels between prefetches */
    PREFETCH_TILES = 8,                                 /* with more tiles a block, reading its weights is hidden anyway */
    LINE_FLOATS = 16,
    AHEAD = MANY_REGISTERS ? 12 * BLOCK_VECTORS * VEC_WIDTH : 0, /* floats from the weights in use to those fetched into L1; 0: none are */
    SPLIT_PIXELS = 64,                                           /* a thread: with fewer, threads share output channels */
    TASKS_PER_THREAD = 4                                         /* so that one that was held up can be helped */
};

/* A task is some of a strip's blocks. Strips are unit_count * i / strip_count and so on, as even as whole units allow. */
struct blocking {
    int64_t pixels, unit_count;
    int vector_count, block_count; /* of output channels */
    int64_t strip_count;
    int tasks_per_strip;
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static struct blocking block(const struct conv_shape *s, int threads)
{
    struct blocking b = {.pixels = (int64_t)s->batch * s->out_height * s->out_width, .vector_count = vec_count(s->out_channels)};

    b.unit_count = divide_up(b.pixels, UNIT_PIXELS);
    b.block_count = (int)divide_up(b.vector_count, BLOCK_VECTORS);
    b.strip_count = 1;
    if (b.pixels >= (int64_t)SPLIT_PIXELS * threads) {
        int64_t strip_units = STRIP_BYTES / ((int64_t)sizeof(float) * UNIT_PIXELS * s->in_channels);
        strip_units = strip_units < 1 ? 1 : strip_units > STRIP_UNITS ? STRIP_UNITS : strip_units;
        b.strip_count = divide_up(divide_up(b.unit_count, strip_units), threads) * threads;
        if (b.strip_count > b.unit_count)
            b.strip_count = b.unit_count;
    }
    int64_t tasks = divide_up(TASKS_PER_THREAD * threads, b.strip_count);
    b.tasks_per_strip = tasks < b.block_count ? (int)tasks : b.block_count;
    return b;
}

static bool supports(const struct conv_shape *s)
{
    return s->kernel == 1 && s->stride == 1 && s->padding == 0 && s->groups == 1;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return (size_t)vec_count(s->out_channels) * VEC_WIDTH * (size_t)s->in_channels * sizeof(float);
}

static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)                                    /* (blocks, in_channels, lanes of the block) */
{
    struct blocking b = block(s, 1);
    float *out = packed;

    for (int index = 0; index < b.block_count; index++) {
        int first = first_vector(b.vector_count, BLOCK_VECTORS, index) * VEC_WIDTH,
            lanes = first_vector(b.vector_count, BLOCK_VECTORS, index + 1) * VEC_WIDTH - first;
        int count = s->out_channels - first < lanes ? s->out_channels - first : lanes;
        for (int i = 0; i < s->in_channels; i++, out += lanes) {
            const float *in = weight + (int64_t)first * s->in_channels + i;
            for (int lane = 0; lane < count; lane++)
                out[lane] = in[(int64_t)lane * s->in_channels] * scale[first + lane];
            for (int lane = count; lane < lanes; lane++)
                out[lane] = 0.0f;
        }
    }
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    (void)s;
    (void)threads;
    return 0;
}

static double cost(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s, threads);
    double products = (double)b.pixels * s->in_channels * b.vector_count * VEC_WIDTH;
    return products / (VEC_WIDTH * 2.0 * 0.93 * 2500.0) / threads;
}

/* Tiles of a block, one after the other. */
struct tiles {
    const struct conv_call *call;
    int64_t pixel;               /* the first */
    int first_channel, channels; /* of the block, as far as they exist */
    const float *weight;         /* of the block */
    const float *prefetch;       /* where the next block's weights are still to be fetched */
    int prefetch_lines;          /* every RUN channels; 0: none */
};

/* Asks for the lines that a tile will write, or read in the end: `vectors` vectors of each pixel from `first` on. */
ALWAYS_INLINE void fetch_tile(const float *first, int64_t stride, const bool to_store, const int pixels, const int vectors)
{
    UNROLL(14)
    for (int p = 0; p < pixels; p++) {
        UNROLL(3)
        for (int v = 0; v < vectors; v++)
            if (v * VEC_WIDTH % LINE_FLOATS == 0 && to_store)
                vec_fetch_to_store(first + p * stride + v * VEC_WIDTH);
            else if (v * VEC_WIDTH % LINE_FLOATS == 0)
                __builtin_prefetch(first + p * stride + v * VEC_WIDTH);
    }
}

/* Adds all channels of all sources to the sums of a tile. `pixels` and `vectors` are constants at every call, here and below. */
ALWAYS_INLINE void sum_sources(struct tiles *t, vec *sum, const int pixels, const int vectors)
{
    const struct conv_call *call = t->call;
    const float *weight = t->weight;

    for (int source = 0; source < call->shape->source_count; source++) {
        int64_t stride = call->sources[source].pixel_stride;
        const float *in = call->sources[source].data + t->pixel * stride;
        for (int left = call->shape->source_channels[source], run; left > 0; left -= run) {
            run = t->prefetch_lines > 0 && left > RUN ? RUN : left;
            for (int line = 0; line < t->prefetch_lines; line++, t->prefetch += LINE_FLOATS)
                __builtin_prefetch(t->prefetch, 0, 2);
            sum_channels(sum, in, stride, weight, run, AHEAD, pixels, vectors);
            in += run;
            weight += (int64_t)run * vectors * VEC_WIDTH;
        }
    }
}

ALWAYS_INLINE void run_tiles(struct tiles *t, int64_t count, const int pixels, const int vectors)
{
    const struct conv_call *call = t->call;
    const int64_t out_stride = call->out.pixel_stride, residual_stride = call->residual.pixel_stride;
    const vec floor = vec_all(call->relu ? 0.0f : -INFINITY);
    float bias[BLOCK_VECTORS * VEC_WIDTH];

    for (int v = 0; v < vectors; v++) {
        int lanes = t->channels - v * VEC_WIDTH;
        const float *first = call->bias + t->first_channel + v * VEC_WIDTH;
        vec_store(bias + v * VEC_WIDTH, lanes >= VEC_WIDTH ? vec_load(first) : vec_load_first(first, lanes > 0 ? lanes : 0));
    }
    for (; count > 0; count--, t->pixel += pixels) {
        vec sum[MOST_SUMS];
        float *out = call->out.data + t->pixel * out_stride + t->first_channel;
        const float *residual = call->residual.data ? call->residual.data + t->pixel * residual_stride + t->first_channel : NULL;
        UNROLL(28)
        for (int i = 0; i < pixels * vectors; i++)
            sum[i] = vec_load(bias + i % vectors * VEC_WIDTH);
        fetch_tile(out, out_stride, true, pixels, vectors);
        if (!MANY_REGISTERS && residual)
            fetch_tile(residual, residual_stride, false, pixels, vectors);
        sum_sources(t, sum, pixels, vectors);
        if (t->channels < vectors * VEC_WIDTH) {
            float sums[MOST_SUMS * VEC_WIDTH];
            UNROLL(28)
            for (int i = 0; i < pixels * vectors; i++)
                vec_store(sums + i * VEC_WIDTH, sum[i]);
            store_part(&(struct tile_target){out, out_stride, residual, residual_stride, call->relu}, sums, vectors * VEC_WIDTH, pixels,
                       t->channels);
            continue;
        }
        if (residual) {
            UNROLL(28)
            for (int i = 0; i < pixels * vectors; i++)
                sum[i] = sum[i] + vec_load(residual + i / vectors * residual_stride + i % vectors * VEC_WIDTH);
        }
        UNROLL(28)
        for (int i = 0; i < pixels * vectors; i++)
            vec_store(out + i / vectors * out_stride + i % vectors * VEC_WIDTH, vec_max(floor, sum[i]));
    }
}

typedef void tiles_function(struct tiles *tiles, int64_t count);

#define TILES(pixels, vectors)                                                                                                             \
    static void tiles_##pixels##x##vectors(struct tiles *t, int64_t count)                                                                 \
    {                                                                                                                                      \
        run_tiles(t, count, pixels, vectors);                                                                                              \
    }
#define TILES_ENTRY(pixels, vectors)                                                                                                       \
    {                                                                                                                                      \
        pixels, tiles_##pixels##x##vectors                                                                                                 \
    }

/* Widths for which code exists, widest first, for a number of vectors; and the least that sums enough at a time to keep FMA units busy:
 * eight are just enough. */
struct tile_widths {
    int least;
    struct {
        int pixels;
        tiles_function *run;
    } widths[8];
};

TILES(1, 1)
TILES(2, 1)
TILES(4, 1)
TILES(5, 1)
TILES(1, 2)
TILES(2, 2)
TILES(4, 2)
TILES(5, 2)
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
TILES(7, 1)
TILES(10, 1)
TILES(12, 1)
TILES(14, 1)
TILES(7, 2)
TILES(10, 2)
TILES(12, 2)
TILES(14, 2)
static const struct tile_widths tile_widths[BLOCK_VECTORS] = {
    {4,
     {TILES_ENTRY(14, 1), TILES_ENTRY(12, 1), TILES_ENTRY(10, 1), TILES_ENTRY(7, 1), TILES_ENTRY(5, 1), TILES_ENTRY(4, 1),
      TILES_ENTRY(2, 1), TILES_ENTRY(1, 1)}},
    {4,
     {TILES_ENTRY(14, 2), TILES_ENTRY(12, 2), TILES_ENTRY(10, 2), TILES_ENTRY(7, 2), TILES_ENTRY(5, 2), TILES_ENTRY(4, 2),
      TILES_ENTRY(2, 2), TILES_ENTRY(1, 2)}},
};
#else
TILES(6, 1)
TILES(3, 2)
TILES(6, 2)
TILES(1, 3)
TILES(2, 3)
TILES(3, 3)
TILES(4, 3)
static const struct tile_widths tile_widths[BLOCK_VECTORS] = {
    {4, {TILES_ENTRY(6, 1), TILES_ENTRY(5, 1), TILES_ENTRY(4, 1), TILES_ENTRY(2, 1), TILES_ENTRY(1, 1)}},
    {3, {TILES_ENTRY(6, 2), TILES_ENTRY(5, 2), TILES_ENTRY(4, 2), TILES_ENTRY(3, 2), TILES_ENTRY(2, 2), TILES_ENTRY(1, 2)}},
    {2, {TILES_ENTRY(4, 3), TILES_ENTRY(3, 3), TILES_ENTRY(2, 3), TILES_ENTRY(1, 3)}},
};
#endif

/* Pixels up to `end`: as many of the widest tiles as fit, but rather two middling ones in the end than a wide one and a sliver. */
static void run_pixels(struct tiles *t, int64_t end, const struct tile_widths *w)
{
    while (t->pixel < end) {
        int64_t left = end - t->pixel, widest = w->widths[0].pixels, count = left / widest, rest = left % widest;
        int width = 0;
        if (count > 0 && rest > 0 && rest < w->least)
            count--;
        if (count == 0) {
            count = 1;
            while (w->widths[width].pixels > (left > widest ? left - w->least : left))
                width++;
        }
        w->widths[width].run(t, count);
    }
}

struct pointwise_job {
    struct blocking blocking;
    int threads;
    const struct conv_call *call;
};

/* Whether the next block's weights must be fetched while this one's are used. With long strips, only the first of a thread has to. */
static bool weights_come_late(const struct pointwise_job *job, int64_t strip, int tiles)
{
    return MANY_REGISTERS ? tiles <= PREFETCH_TILES : thread_pool_range_begins(strip, job->blocking.strip_count, job->threads);
}

static void pointwise_task(void *context, int task, int worker)
{
    const struct pointwise_job *job = context;
    const struct blocking *b = &job->blocking;
    const struct conv_shape *s = job->call->shape;
    int64_t strip = task / b->tasks_per_strip;
    int64_t begin = b->unit_count * strip / b->strip_count * UNIT_PIXELS;
    int64_t end = b->unit_count * (strip + 1) / b->strip_count * UNIT_PIXELS;
    int part = task % b->tasks_per_strip;
    int first_block = b->block_count * part / b->tasks_per_strip, last_block = b->block_count * (part + 1) / b->tasks_per_strip;
    int fetch_channels = s->in_channels < RUN ? s->in_channels : RUN;

    (void)worker;
    if (end > b->pixels)
        end = b->pixels;
    struct tiles t = {.call = job->call};
    for (int index = first_block; index < last_block; index++) {
        int first = first_vector(b->vector_count, BLOCK_VECTORS, index),
            vectors = first_vector(b->vector_count, BLOCK_VECTORS, index + 1) - first, lanes = vectors * VEC_WIDTH;
        const struct tile_widths *widths = &tile_widths[vectors - 1];
        int tiles = (int)divide_up(end - begin, widths->widths[0].pixels);
        t.pixel = begin;
        t.first_channel = first * VEC_WIDTH;
        t.channels = s->out_channels - t.first_channel < lanes ? s->out_channels - t.first_channel : lanes;
        t.weight = (const float *)job->call->packed + (int64_t)t.first_channel * s->in_channels;
        t.prefetch = t.weight + (int64_t)lanes * s->in_channels;
        t.prefetch_lines = 0;
        if (index + 1 < b->block_count && weights_come_late(job, strip, tiles))
            t.prefetch_lines = (int)divide_up((int64_t)fetch_channels * lanes / LINE_FLOATS, tiles);
        run_pixels(&t, end, widths);
    }
}

static void run(const struct conv_call *call)
{
    int threads = thread_pool_size(call->pool);
    struct pointwise_job job = {.blocking = block(call->shape, threads), .threads = threads, .call = call};
    thread_pool_run(call->pool, pointwise_task, &job, (int)(job.blocking.strip_count * job.blocking.tasks_per_strip));
}

extern const struct conv_kernel ISA_NAME(conv_pointwise);

const struct conv_kernel ISA_NAME(conv_pointwise) = {
    .name = KERNEL_NAME("pointwise"),
    .winograd = false,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};
