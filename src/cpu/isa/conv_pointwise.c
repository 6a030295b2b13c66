/* conv_pointwise.c - 1x1 convolutions as a matrix product over several sources.
 *
 *     out[pixel][o] = Σ_source Σ_i source[pixel][i] * weight[first channel of source + i][o]
 *
 * An aggregation node is such a product over up to seven maps. They are read where they lie: a tile of up to TILE_PIXELS
 * pixels and a block of BLOCK_VECTORS vectors of output channels is summed in registers over all channels of all sources.
 * AVX-512: 14 x 2 sums + 2 weights + 1 broadcast = 31 of 32 registers, 28 FMAs for 16 loads; AVX2: 6 x 2 + 2 + 1 of 16.
 * It runs at 97 % of the FMA peak as long as loads hit: a tile's pixels must not be a multiple of 4 KB apart (they would evict
 * each other from L1, and the planner pads such maps), and weights must arrive in time.
 *
 * Weights of a block (channels x 32 x 4 bytes, 64 to 256 KB) stay in L2 while the pixels pass. Where there are few pixels
 * (7x7 maps), reading the weights from memory takes as long as the arithmetic: each tile then prefetches its share of the next
 * block's weights into L2, a few lines every RUN channels.
 *
 * With 16 registers every instruction counts (TERMS_AT_ONCE in vector.h): no weights are fetched into L1, and what is fetched into L2 is
 * fetched by the first strip alone, less often and more at once. Narrow tiles also read the weights more often, and strips are long, beyond
 * what L2 holds: better a strip's sources come from L3 than the weights from memory again.
 *
 * Threads share pixels, as those do who write and read these maps, so that most of what a thread reads lies in its own cache; with
 * few pixels the weights are the larger part of what is read, and they share output channels.
 */
#include "cpu/conv.h"
#include "cpu/isa/vector.h"

#include <math.h>

enum {
    BLOCK_VECTORS = 2,
    TILE_PIXELS = MANY_REGISTERS ? 14 : 6,
    SMALL_TILE = MANY_REGISTERS ? 4 : 3,                /* pixels; fewer leave FMA units idle: 2 x 4 sums in flight are just enough */
    STRIP_TILES = MANY_REGISTERS ? 8 : 34,              /* at most: a strip's sources stay in L2 from one block of weights to the next */
    STRIP_BYTES = (MANY_REGISTERS ? 512 : 2048) * 1024, /* of sources, for the same reason, where they are what is read most */
    RUN = MANY_REGISTERS ? 16 : 128,                    /* channels between prefetches */
    PREFETCH_TILES = 8,                                 /* with more tiles a block, reading its weights is hidden anyway */
    LINE_FLOATS = 16,
    AHEAD = MANY_REGISTERS ? 12 * BLOCK_VECTORS * VEC_WIDTH : 0, /* floats from the weights in use to those fetched into L1; 0: none are */
    SPLIT_PIXELS = 64,                                           /* a thread: with fewer, threads share output channels */
    TASKS_PER_THREAD = 4                                         /* so that one that was held up can be helped */
};

/* A task is some of a strip's blocks. Strips are tile_count * i / strip_count and so on, as even as whole tiles allow. */
struct blocking {
    int64_t pixels, tile_count;
    int block_channels, block_count;
    int64_t strip_count;
    int tasks_per_strip;
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static struct blocking block(const struct conv_shape *s, int threads)
{
    struct blocking b = {.pixels = (int64_t)s->batch * s->out_height * s->out_width};

    b.tile_count = divide_up(b.pixels, TILE_PIXELS);
    b.block_channels = s->out_channels <= VEC_WIDTH ? VEC_WIDTH : BLOCK_VECTORS * VEC_WIDTH;
    b.block_count = (int)divide_up(s->out_channels, b.block_channels);
    b.strip_count = 1;
    if (b.pixels >= (int64_t)SPLIT_PIXELS * threads) {
        int64_t strip_tiles = STRIP_BYTES / ((int64_t)sizeof(float) * TILE_PIXELS * s->in_channels);
        strip_tiles = strip_tiles < 1 ? 1 : strip_tiles > STRIP_TILES ? STRIP_TILES : strip_tiles;
        b.strip_count = divide_up(divide_up(b.tile_count, strip_tiles), threads) * threads;
        if (b.strip_count > b.tile_count)
            b.strip_count = b.tile_count;
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
    struct blocking b = block(s, 1);
    return (size_t)b.block_count * (size_t)b.block_channels * (size_t)s->in_channels * sizeof(float);
}

static void pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels) */
                 const float *scale,                              /* (out_channels) */
                 void *packed)                                    /* (blocks, in_channels, block_channels) */
{
    struct blocking b = block(s, 1);
    float *out = packed;

    for (int index = 0; index < b.block_count; index++) {
        int first = index * b.block_channels,
            count = s->out_channels - first < b.block_channels ? s->out_channels - first : b.block_channels;
        for (int i = 0; i < s->in_channels; i++, out += b.block_channels) {
            const float *in = weight + (int64_t)first * s->in_channels + i;
            for (int lane = 0; lane < count; lane++)
                out[lane] = in[(int64_t)lane * s->in_channels] * scale[first + lane];
            for (int lane = count; lane < b.block_channels; lane++)
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
    double products = (double)b.pixels * s->in_channels * b.block_count * b.block_channels;
    return products / (VEC_WIDTH * 2.0 * 0.93 * 2500.0) / threads;
}

struct tile {
    const struct conv_call *call;
    int64_t pixel;               /* the first */
    int first_channel, channels; /* of the block, as far as they exist */
    const float *weight;         /* of the block */
    const float *prefetch;       /* where the next block's weights are still to be fetched */
    int prefetch_lines;          /* every RUN channels; 0: none */
};

/* The end of a tile whose block has fewer channels than its vectors: sums is (pixels, block_channels). */
static void store_part(const struct tile *t, const float *sums, int pixels, int block_channels)
{
    const struct map_view *residual = &t->call->residual, *out = &t->call->out;

    for (int p = 0; p < pixels; p++)
        for (int c = 0; c < t->channels; c++) {
            float sum = sums[p * block_channels + c];
            if (residual->data)
                sum += residual->data[(t->pixel + p) * residual->pixel_stride + t->first_channel + c];
            out->data[(t->pixel + p) * out->pixel_stride + t->first_channel + c] = t->call->relu && sum < 0.0f ? 0.0f : sum;
        }
}

/* Adds one channel to the sums of a tile: in (pixels, every `stride` floats), weight (vectors). `pixels` and `vectors` are constants at
 * every call, here and below, so that `sum` lives in registers. */
ALWAYS_INLINE void add_channel(vec (*sum)[BLOCK_VECTORS], const float *in, int64_t stride, const float *weight, const int pixels,
                               const int vectors)
{
    vec w[BLOCK_VECTORS];

    UNROLL(2)
    for (int v = 0; v < vectors; v++) {
        if (AHEAD > 0 && v * VEC_WIDTH % LINE_FLOATS == 0)
            __builtin_prefetch(weight + AHEAD + v * VEC_WIDTH, 0, 3);
        w[v] = vec_load(weight + v * VEC_WIDTH);
    }
    UNROLL(14)
    for (int p = 0; p < pixels; p++) {
        vec x = vec_all(in[p * stride]);
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            sum[p][v] = vec_accumulate(x, w[v], sum[p][v]);
    }
}

ALWAYS_INLINE void tile_run(struct tile *t, const int pixels, const int vectors)
{
    const struct conv_call *call = t->call;
    const struct conv_shape *s = call->shape;
    const float *weight = t->weight, *prefetch = t->prefetch;
    vec sum[TILE_PIXELS][BLOCK_VECTORS];

    for (int v = 0; v < vectors; v++) {
        int lanes = t->channels - v * VEC_WIDTH;
        const float *bias = call->bias + t->first_channel + v * VEC_WIDTH;
        vec start = lanes >= VEC_WIDTH ? vec_load(bias) : vec_load_first(bias, lanes > 0 ? lanes : 0);
        UNROLL(14)
        for (int p = 0; p < pixels; p++)
            sum[p][v] = start;
    }
    int64_t out_stride = call->out.pixel_stride;
    int64_t residual_stride = call->residual.pixel_stride;
    float *out = call->out.data + t->pixel * out_stride + t->first_channel;
    const float *residual = call->residual.data ? call->residual.data + t->pixel * residual_stride + t->first_channel : NULL;
    UNROLL(14)
    for (int p = 0; p < pixels; p++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            if (v * VEC_WIDTH % LINE_FLOATS == 0) {
                vec_fetch_to_store(out + p * out_stride + v * VEC_WIDTH);
                if (!MANY_REGISTERS && residual)
                    __builtin_prefetch(residual + p * residual_stride + v * VEC_WIDTH);
            }
    }
    for (int source = 0; source < s->source_count; source++) {
        int64_t stride = call->sources[source].pixel_stride;
        const float *in = call->sources[source].data + t->pixel * stride;
        for (int channels = s->source_channels[source], run; channels > 0; channels -= run) {
            run = t->prefetch_lines > 0 && channels > RUN ? RUN : channels;
            for (int line = 0; line < t->prefetch_lines; line++, prefetch += LINE_FLOATS)
                __builtin_prefetch(prefetch, 0, 2);
            int i = 0;
            for (; i + TERMS_AT_ONCE <= run; i += TERMS_AT_ONCE, in += TERMS_AT_ONCE) {
                UNROLL(2)
                for (int c = 0; c < TERMS_AT_ONCE; c++)
                    add_channel(sum, in + c, stride, weight + c * vectors * VEC_WIDTH, pixels, vectors);
                weight += TERMS_AT_ONCE * vectors * VEC_WIDTH;
            }
            for (; TERMS_AT_ONCE > 1 && i < run; i++, in++, weight += vectors * VEC_WIDTH)
                add_channel(sum, in, stride, weight, pixels, vectors);
        }
    }
    t->prefetch = prefetch;
    if (t->channels < vectors * VEC_WIDTH) {
        float sums[TILE_PIXELS * BLOCK_VECTORS * VEC_WIDTH];
        UNROLL(14)
        for (int p = 0; p < pixels; p++) {
            UNROLL(2)
            for (int v = 0; v < vectors; v++)
                vec_store(sums + (p * vectors + v) * VEC_WIDTH, sum[p][v]);
        }
        store_part(t, sums, pixels, vectors * VEC_WIDTH);
        return;
    }
    vec floor = vec_all(call->relu ? 0.0f : -INFINITY);
    if (residual) {
        UNROLL(14)
        for (int p = 0; p < pixels; p++) {
            UNROLL(2)
            for (int v = 0; v < vectors; v++)
                sum[p][v] = sum[p][v] + vec_load(residual + p * residual_stride + v * VEC_WIDTH);
        }
    }
    UNROLL(14)
    for (int p = 0; p < pixels; p++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++)
            vec_store(out + p * out_stride + v * VEC_WIDTH, vec_max(floor, sum[p][v]));
    }
}

typedef void tile_function(struct tile *tile);

/* Widths for which code exists, widest first. */
struct tile_size {
    int pixels;
    tile_function *run[BLOCK_VECTORS];
};

#define TILE(pixels)                                                                                                                       \
    static void tile_##pixels##x1(struct tile *t)                                                                                          \
    {                                                                                                                                      \
        tile_run(t, pixels, 1);                                                                                                            \
    }                                                                                                                                      \
    static void tile_##pixels##x2(struct tile *t)                                                                                          \
    {                                                                                                                                      \
        tile_run(t, pixels, 2);                                                                                                            \
    }
#define TILE_ENTRY(pixels)                                                                                                                 \
    {                                                                                                                                      \
        pixels,                                                                                                                            \
        {                                                                                                                                  \
            tile_##pixels##x1, tile_##pixels##x2                                                                                           \
        }                                                                                                                                  \
    }

TILE(1)
TILE(2)
TILE(4)
TILE(5)
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
TILE(7)
TILE(10)
TILE(12)
TILE(14)
static const struct tile_size tile_sizes[] = {TILE_ENTRY(14), TILE_ENTRY(12), TILE_ENTRY(10), TILE_ENTRY(7),
                                              TILE_ENTRY(5),  TILE_ENTRY(4),  TILE_ENTRY(2),  TILE_ENTRY(1)};
#else
TILE(3)
TILE(6)
static const struct tile_size tile_sizes[] = {TILE_ENTRY(6), TILE_ENTRY(5), TILE_ENTRY(4), TILE_ENTRY(3), TILE_ENTRY(2), TILE_ENTRY(1)};
#endif

/* The tile to take when `left` pixels are left: the widest, but rather two middling ones than a wide one and a sliver. */
static const struct tile_size *next_tile(int64_t left)
{
    int64_t limit = left > TILE_PIXELS && left < TILE_PIXELS + SMALL_TILE ? left - SMALL_TILE : left;
    const struct tile_size *size = tile_sizes;

    while (size->pixels > limit)
        size++;
    return size;
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
    int64_t begin = b->tile_count * strip / b->strip_count * TILE_PIXELS;
    int64_t end = b->tile_count * (strip + 1) / b->strip_count * TILE_PIXELS;
    int part = task % b->tasks_per_strip;
    int first_block = b->block_count * part / b->tasks_per_strip, last_block = b->block_count * (part + 1) / b->tasks_per_strip;
    int64_t block_floats = (int64_t)s->in_channels * b->block_channels;

    (void)worker;
    if (end > b->pixels)
        end = b->pixels;
    int tiles = (int)divide_up(end - begin, TILE_PIXELS);
    int fetch_channels = s->in_channels < RUN ? s->in_channels : RUN;
    int fetch_lines =
        weights_come_late(job, strip, tiles) ? (int)divide_up((int64_t)fetch_channels * b->block_channels / LINE_FLOATS, tiles) : 0;
    struct tile t;
    t.call = job->call;
    for (int index = first_block; index < last_block; index++) {
        t.first_channel = index * b->block_channels;
        t.weight = (const float *)job->call->packed + index * block_floats;
        t.channels = s->out_channels - t.first_channel < b->block_channels ? s->out_channels - t.first_channel : b->block_channels;
        t.prefetch = t.weight + block_floats;
        t.prefetch_lines = index + 1 < b->block_count ? fetch_lines : 0;
        for (t.pixel = begin; t.pixel < end;) {
            const struct tile_size *size = next_tile(end - t.pixel);
            size->run[b->block_channels / VEC_WIDTH - 1](&t);
            t.pixel += size->pixels;
        }
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
