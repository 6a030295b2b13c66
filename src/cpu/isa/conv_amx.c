/* conv_amx.c - dense 1x1 and 3x3 convolutions on Intel's matrix unit (AMX), which multiplies bfloat16 and adds float32.
 *
 * A float of 24 bits is the sum of three bfloat16 of 8 bits each, its limbs, and of the nine products of two floats' limbs the six largest
 * make a float32 product:
 *
 *     a b = a0 b0 + (a0 b1 + a1 b0) + (a0 b2 + a1 b1 + a2 b0)        (the other three are below 2^-24 of it)
 *
 * The unit does 512 products a cycle where AVX-512 does 32, so six for one are still 2.7 times as fast as multiply-adds, and as exact: each
 * product of limbs is, sums are float32 and rounded, the small ones first. Limbs are rounded to nearest, so that what is left out has no sign.
 *
 * The unit has eight tiles of 16 rows of 64 bytes. Four of them are sums of 32 positions x 32 outputs; two hold a limb of 32 positions,
 * two one of 32 outputs, of 32 input channels (a block). 14 loads serve 24 products of 16 cycles each.
 *
 * Positions. Results lie in a row with a gap behind each row of the image, as wide as the window reaches beyond it: position
 * q = y (width + pad) + x. The input lies likewise, with zeros in the gaps; at stride 2 as four maps, those of even and of odd rows and columns,
 * each as large as the result. A tap is then the same distance in one of the maps for all positions, and 16 neighbouring positions are a tile
 * wherever they begin. What is computed for the gaps is thrown away. 1x1 convolutions have none.
 *
 * What is done in what order. The limbs of a strip's pixels are written to a panel. Where there are strips enough, a task does that for one
 * and multiplies it with all weights, so that the panel stays in its core's L2; on small maps all threads write one panel, then share
 * the outputs. Channels come in parts of PART_BLOCKS blocks, between which sums wait in memory. While the unit works on one group of positions, the
 * core adds bias and residual to the last one's sums and writes them out, a few rows with each block: the unit's 24 products are 40
 * instructions, and the rest of the 384 cycles is free. The limbs of weights are packed, 6 bytes a weight; the next outputs' are fetched meanwhile.
 */
#include "cpu/isa/vector.h"

#include "base/cpu_features.h"

#if KERNEL_ISA_AVX512 && DLA_HAVE_AMX

#include "cpu/conv.h"
#include "cpu/isa/sizes.h"

#include <math.h>

#define USES_TILES __attribute__((target("amx-tile,amx-bf16,avx512bf16")))
#define TILES_INLINE static inline __attribute__((always_inline, target("amx-tile,amx-bf16,avx512bf16")))

enum {
    LIMBS = 3,
    PRODUCTS = 6,  /* of limbs */
    CHANNELS = 32, /* of a block */
    OUTPUTS = 32,  /* of two tiles */
    POSITIONS = 32,
    ROWS = 16, /* of a tile */
    ROW_BYTES = 64,
    TILE_BYTES = ROWS * ROW_BYTES,
    POSITION_BYTES = LIMBS * ROW_BYTES, /* of a block's channels of a pixel */
    MOST_TAPS = 9,
    WEIGHT_BYTES = LIMBS * 2 * TILE_BYTES, /* of a tap, a block and 32 outputs */
    SUM_FLOATS = POSITIONS * OUTPUTS,
    PART_BLOCKS = 16,         /* at most */
    PANEL_BYTES = 640 * 1024, /* of a strip, about */
    LEAST_STRIP = 4,          /* times POSITIONS */
    SHARED_TASKS = 4,         /* a thread, so that one that was held up can be helped */
    PREFETCH_GROUPS = 16,     /* of positions: with more, reading the weights is hidden anyway */
    LINE = 64
};

struct blocking {
    int pitch;                          /* positions from one row of the image to the next */
    int64_t image_positions, positions; /* of an image, of all */
    int halo;                           /* positions that a window reaches before and behind its own */
    int maps;                           /* that the input is: stride * stride */
    int64_t reach[MOST_TAPS];           /* rows of the panel from a position's own in the first map to a tap's */
    int taps, block_count, part_count, part_blocks;
    int output_groups;
    int64_t groups; /* of POSITIONS */
    int strip_count;
    int64_t strip_groups;                                  /* at most */
    bool shared;                                           /* one panel for all threads */
    int64_t map_rows, panel_rows, panel_bytes, sum_floats; /* rows: of a block */
};

static int source_blocks(const struct conv_shape *s, int source)
{
    return divide_up(s->source_channels[source], CHANNELS);
}

static struct blocking block(const struct conv_shape *s, int threads)
{
    int pad = s->padding;
    struct blocking b = {.pitch = s->out_width + pad, .taps = s->kernel * s->kernel, .output_groups = divide_up(s->out_channels, OUTPUTS)};

    b.image_positions = (int64_t)(s->out_height + pad) * b.pitch;
    b.positions = s->batch * b.image_positions;
    b.halo = pad * b.pitch + pad;
    for (int source = 0; source < s->source_count; source++)
        b.block_count += source_blocks(s, source);
    b.part_count = divide_up(b.block_count, PART_BLOCKS);
    b.part_blocks = divide_up(b.block_count, b.part_count);
    b.groups = (b.positions + POSITIONS - 1) / POSITIONS;

    b.maps = s->stride * s->stride;
    int64_t strip = PANEL_BYTES / (POSITIONS * b.part_blocks * b.maps * POSITION_BYTES), strips = b.groups / (strip > 1 ? strip : 1);
    strips = strips < threads ? threads : (strips + threads - 1) / threads * threads;
    b.shared = b.groups < (int64_t)LEAST_STRIP * threads;
    b.strip_count = (int)(b.shared ? 1 : strips < b.groups ? strips : b.groups);
    b.strip_groups = (b.groups + b.strip_count - 1) / b.strip_count;
    b.map_rows = b.strip_groups * POSITIONS + 2 * b.halo;
    b.panel_rows = b.maps * b.map_rows;
    b.panel_bytes = b.part_blocks * b.panel_rows * POSITION_BYTES;
    b.sum_floats = (b.part_count > 1 ? b.strip_groups * b.output_groups : 2 * (b.shared ? threads : 1)) * SUM_FLOATS;
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
           && s->padding == s->kernel / 2;
}

/* ---- limbs ------------------------------------------------------------------------------------------------------------- */

/* Sixteen floats' limbs, one every `step` bytes. */
TILES_INLINE void split(vec x, char *to, int64_t step)
{
    for (int limb = 0; limb < LIMBS; limb++) {
        __m256i bits = (__m256i)_mm512_cvtneps_pbh(x);
        _mm256_storeu_si256((__m256i *)(to + limb * step), bits);
        x = x - _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

static size_t packed_bytes(const struct conv_shape *s)
{
    struct blocking b = block(s, 1);
    return (size_t)b.output_groups * (size_t)b.block_count * (size_t)b.taps * WEIGHT_BYTES;
}

/* The limbs of one output's weights of a block and tap, `taps` floats apart, into the pairs of channels that its column of a tile has.
 * to: the block's two tiles of each limb. */
USES_TILES static void pack_column(const float *weight, int channels, int taps, float scale, int column, char *to)
{
    float values[CHANNELS] = {0.0f};
    uint32_t pairs[LIMBS][ROWS];

    for (int i = 0; i < channels; i++)
        values[i] = weight[(int64_t)i * taps] * scale;
    for (int half = 0; half < 2; half++)
        split(vec_load(values + half * VEC_WIDTH), (char *)pairs + half * ROW_BYTES / 2, sizeof(pairs[0]));
    to += column / ROWS * TILE_BYTES + column % ROWS * (int)sizeof(uint32_t);
    for (int limb = 0; limb < LIMBS; limb++)
        for (int row = 0; row < ROWS; row++)
            memcpy(to + limb * 2 * TILE_BYTES + row * ROW_BYTES, &pairs[limb][row], sizeof(uint32_t));
}

/* The first block of a part. */
static int first_block(const struct blocking *b, int part)
{
    return b->block_count * part / b->part_count;
}

/* Where the weights of a part and of 32 outputs begin. */
static int64_t weights_at(const struct blocking *b, int part, int group)
{
    int first = first_block(b, part), blocks = first_block(b, part + 1) - first;
    return ((int64_t)b->output_groups * first + (int64_t)group * blocks) * b->taps * WEIGHT_BYTES;
}

static void
pack(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, kernel, kernel) */
     const float *scale,                              /* (out_channels) */
     void *packed) /* (parts, groups of outputs, taps, blocks of the part, LIMBS, 2 tiles, 16 pairs of channels, 16 outputs, 2) */
{
    struct blocking b = block(s, 1);
    int part = 0, in_part = 0;

    memset(packed, 0, packed_bytes(s));
    for (int source = 0, first = 0; source < s->source_count; first += s->source_channels[source++])
        for (int channel = 0; channel < s->source_channels[source]; channel += CHANNELS, in_part++) {
            int blocks = first_block(&b, part + 1) - first_block(&b, part);
            if (in_part == blocks) {
                in_part = 0;
                blocks = first_block(&b, part + 2) - first_block(&b, part + 1);
                part++;
            }
            for (int o = 0; o < s->out_channels; o++)
                for (int tap = 0; tap < b.taps; tap++)
                    pack_column(weight + ((int64_t)o * s->in_channels + first + channel) * b.taps + tap,
                                smaller(s->source_channels[source] - channel, CHANNELS), b.taps, scale[o], o % OUTPUTS,
                                (char *)packed + weights_at(&b, part, o / OUTPUTS) + ((int64_t)tap * blocks + in_part) * WEIGHT_BYTES);
        }
}

/* ---- the panel --------------------------------------------------------------------------------------------------------- */

struct strip {
    int64_t first, end; /* positions */
    char *panel;        /* (blocks of the part, maps, map_rows, LIMBS, CHANNELS) bfloat16; row 0 is position first - halo */
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

/* in: (channels), NULL: zeros. */
TILES_INLINE void write_row(const float *in, int channels, char *row)
{
    for (int half = 0; half < 2; half++) {
        int lanes = in ? channels - half * VEC_WIDTH : 0;
        vec x = lanes >= VEC_WIDTH ? vec_load(in + half * VEC_WIDTH)
                : lanes > 0        ? vec_load_first(in + half * VEC_WIDTH, lanes)
                                   : vec_zero();
        split(x, row + half * ROW_BYTES / 2, ROW_BYTES);
    }
}

/* Where a block's channels are. */
struct piece {
    int source, channel, channels;
};

static int list_pieces(const struct conv_shape *s, const struct blocking *b, int part, struct piece *pieces /* (PART_BLOCKS) */)
{
    int index = 0, count = 0, first = first_block(b, part), end = first_block(b, part + 1);

    for (int source = 0; source < s->source_count; source++)
        for (int channel = 0; channel < s->source_channels[source]; channel += CHANNELS, index++)
            if (index >= first && index < end)
                pieces[count++] = (struct piece){source, channel, smaller(s->source_channels[source] - channel, CHANNELS)};
    return count;
}

/* Rows [begin, end) of each map of the panel, of one part. */
USES_TILES static void write_panel(const struct conv_call *call, const struct blocking *b, const struct strip *strip, int part,
                                   int64_t begin, int64_t end)
{
    const struct conv_shape *s = call->shape;
    struct piece pieces[PART_BLOCKS];
    int count = list_pieces(s, b, part, pieces);

    for (int map = 0; map < b->maps; map++) {
        struct walk walk = walk_from(b, strip->first - b->halo + begin);
        char *row = strip->panel + (map * b->map_rows + begin) * POSITION_BYTES;
        for (int64_t i = begin; i < end; i++, row += POSITION_BYTES, walk_on(&walk, b)) {
            int y = walk.y * s->stride + map / s->stride, x = walk.x * s->stride + map % s->stride;
            bool inside = walk.position >= 0 && walk.position < b->positions && y < s->in_height && x < s->in_width;
            int64_t pixel = inside ? (walk.image * s->in_height + y) * s->in_width + x : 0;
            for (int k = 0; k < count; k++) {
                const struct map_view *in = &call->sources[pieces[k].source];
                write_row(inside ? in->data + pixel * in->pixel_stride + pieces[k].channel : NULL, pieces[k].channels,
                          row + k * b->panel_rows * POSITION_BYTES);
            }
        }
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------------- */

/* Sums on their way into the map. */
struct pending {
    const float *sums; /* (count, OUTPUTS) */
    struct walk walk;
    int count; /* positions that are left */
    int first_output;
};

struct product {
    const struct conv_call *call;
    const struct blocking *blocking;
    const char *in; /* the panel's row of the first position */
    int blocks;
    const char *weights;  /* (taps, blocks) of WEIGHT_BYTES */
    const char *prefetch; /* where the next weights are still to be fetched */
    const char *prefetch_end;
    int prefetch_bytes;     /* with each product of limbs: in bursts they would keep tiles from being loaded */
    float *sums;            /* (POSITIONS, OUTPUTS) */
    bool first;             /* part: sums begin with 0 */
    struct pending pending; /* of the last group */
    int pending_rows;       /* a tap and block */
};

/* Bias, residual, relu, and out into the map, of some of the positions. */
static void store_rows(struct product *p, int rows)
{
    const struct conv_call *call = p->call;
    const struct conv_shape *s = call->shape;
    struct pending *pending = &p->pending;
    int outputs = smaller(s->out_channels - pending->first_output, OUTPUTS);
    vec floor = vec_all(call->relu ? 0.0f : -INFINITY);

    for (; rows > 0 && pending->count > 0; rows--, pending->count--, pending->sums += OUTPUTS, walk_on(&pending->walk, p->blocking)) {
        const struct walk *walk = &pending->walk;
        if (walk->y >= s->out_height || walk->x >= s->out_width)
            continue;
        int64_t pixel = (walk->image * s->out_height + walk->y) * s->out_width + walk->x;
        for (int first = 0; first < outputs; first += VEC_WIDTH) {
            int lanes = smaller(outputs - first, VEC_WIDTH), output = pending->first_output + first;
            vec sum = vec_load(pending->sums + first) + vec_load_first(call->bias + output, lanes);
            if (call->residual.data)
                sum = sum + vec_load_first(call->residual.data + pixel * call->residual.pixel_stride + output, lanes);
            vec_store_first(call->out.data + pixel * call->out.pixel_stride + output, vec_max(floor, sum), lanes);
        }
    }
}

ALWAYS_INLINE void fetch(struct product *p)
{
    const char *end = p->prefetch + p->prefetch_bytes;

    for (end = end < p->prefetch_end ? end : p->prefetch_end; p->prefetch < end; p->prefetch += LINE)
        __builtin_prefetch(p->prefetch, 0, 2);
}

/* The six products of limbs of one tap and block, the smallest first. two: groups of 16 positions. */
TILES_INLINE void multiply_limbs(struct product *p, const char *in, const char *weights, const bool two)
{
#define LOAD_POSITIONS(limb)                                                                                                               \
    _tile_loadd(4, in + (limb)*ROW_BYTES, POSITION_BYTES);                                                                                 \
    if (two)                                                                                                                               \
    _tile_loadd(5, in + (limb)*ROW_BYTES + ROWS * POSITION_BYTES, POSITION_BYTES)
#define LOAD_OUTPUTS(limb)                                                                                                                 \
    _tile_loadd(6, weights + (limb)*2 * TILE_BYTES, ROW_BYTES);                                                                            \
    _tile_loadd(7, weights + (limb)*2 * TILE_BYTES + TILE_BYTES, ROW_BYTES)
#define MULTIPLY()                                                                                                                         \
    _tile_dpbf16ps(0, 4, 6);                                                                                                               \
    _tile_dpbf16ps(1, 4, 7);                                                                                                               \
    if (two) {                                                                                                                             \
        _tile_dpbf16ps(2, 5, 6);                                                                                                           \
        _tile_dpbf16ps(3, 5, 7);                                                                                                           \
    }                                                                                                                                      \
    fetch(p)
    LOAD_POSITIONS(0);
    LOAD_OUTPUTS(2);
    MULTIPLY();
    LOAD_OUTPUTS(1);
    MULTIPLY();
    LOAD_POSITIONS(1);
    MULTIPLY();
    LOAD_OUTPUTS(0);
    MULTIPLY();
    LOAD_POSITIONS(2);
    MULTIPLY();
    LOAD_POSITIONS(0);
    MULTIPLY();
#undef LOAD_POSITIONS
#undef LOAD_OUTPUTS
#undef MULTIPLY
}

TILES_INLINE void multiply_group(struct product *p, const bool two)
{
    const int64_t row = OUTPUTS * sizeof(float);
    float *sums = p->sums, *more = sums + ROWS * OUTPUTS;
    const char *weights = p->weights;

    __asm__ volatile("" ::: "memory"); /* GCC does not know that tiles are loaded from memory: the panel must be there */
    if (p->first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, sums, row);
        _tile_loadd(1, sums + ROWS, row);
        _tile_loadd(2, more, row);
        _tile_loadd(3, more + ROWS, row);
    }
    for (int tap = 0; tap < p->blocking->taps; tap++) {
        const char *in = p->in + p->blocking->reach[tap] * POSITION_BYTES;
        for (int block = 0; block < p->blocks; block++, in += p->blocking->panel_rows * POSITION_BYTES, weights += WEIGHT_BYTES) {
            multiply_limbs(p, in, weights, two);
            store_rows(p, p->pending_rows);
        }
    }
    _tile_stored(0, sums, row);
    _tile_stored(1, sums + ROWS, row);
    if (two) {
        _tile_stored(2, more, row);
        _tile_stored(3, more + ROWS, row);
    }
}

/* One part of 32 outputs, all positions of a strip. sums: (groups of the strip) of SUM_FLOATS where parts wait for the next; else two. */
USES_TILES static void multiply_strip(const struct conv_call *call, const struct blocking *b, const struct strip *strip, int part,
                                      int group, float *sums)
{
    int64_t groups = (strip->end - strip->first + POSITIONS - 1) / POSITIONS;
    int blocks = first_block(b, part + 1) - first_block(b, part);
    struct product p = {
        .call = call,
        .blocking = b,
        .blocks = blocks,
        .weights = (const char *)call->packed + weights_at(b, part, group),
        .first = part == 0,
        .pending_rows = divide_up(POSITIONS, b->taps * blocks),
    };
    bool last = part == b->part_count - 1;

    p.prefetch = p.weights + (int64_t)b->taps * blocks * WEIGHT_BYTES;
    p.prefetch_end = p.prefetch + (last && group == b->output_groups - 1 ? 0 : (int64_t)b->taps * blocks * WEIGHT_BYTES);
    if (groups <= PREFETCH_GROUPS)
        p.prefetch_bytes = divide_up(WEIGHT_BYTES / LINE, (int)groups * PRODUCTS) * LINE;
    for (int64_t i = 0; i < groups; i++) {
        int64_t position = strip->first + i * POSITIONS;
        int count = strip->end - position < POSITIONS ? (int)(strip->end - position) : POSITIONS;
        p.in = strip->panel + (position - strip->first + b->halo) * POSITION_BYTES;
        p.sums = sums + (b->part_count > 1 ? i : i % 2) * SUM_FLOATS;
        if (count > ROWS)
            multiply_group(&p, true);
        else
            multiply_group(&p, false);
        if (last)
            p.pending = (struct pending){.sums = p.sums, .walk = walk_from(b, position), .count = count, .first_output = group * OUTPUTS};
    }
    store_rows(&p, POSITIONS);
}

/* All tiles have 16 rows of 64 bytes. A constant, since not every compiler knows that the processor reads all of it. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_configuration = {
    .palette = 1,
    .row_bytes = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES},
    .rows = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS},
};

USES_TILES static void begin_tiles(void)
{
    _tile_loadconfig(&tile_configuration);
}

USES_TILES static void end_tiles(void)
{
    _tile_release();
}

/* ---- tasks ------------------------------------------------------------------------------------------------------------- */

struct amx_job {
    struct blocking blocking;
    const struct conv_call *call;
    int part, tasks; /* of a shared panel */
};

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s, threads);
    return (size_t)((b.shared ? 1 : threads) * (b.panel_bytes + b.sum_floats * (int64_t)sizeof(float)));
}

static struct strip strip_of(const struct blocking *b, int index, char *panel)
{
    struct strip strip = {.panel = panel};

    strip.first = b->groups * index / b->strip_count * POSITIONS;
    strip.end = b->groups * (index + 1) / b->strip_count * POSITIONS;
    if (strip.end > b->positions)
        strip.end = b->positions;
    return strip;
}

static void strip_task(void *context, int task, int worker)
{
    const struct amx_job *job = context;
    const struct blocking *b = &job->blocking;
    char *scratch = (char *)job->call->scratch + worker * (b->panel_bytes + b->sum_floats * (int64_t)sizeof(float));
    struct strip strip = strip_of(b, task, scratch);
    float *sums = (float *)(void *)(scratch + b->panel_bytes);

    begin_tiles();
    for (int part = 0; part < b->part_count; part++) {
        write_panel(job->call, b, &strip, part, 0, b->map_rows);
        for (int group = 0; group < b->output_groups; group++)
            multiply_strip(job->call, b, &strip, part, group, sums + (b->part_count > 1 ? group * b->strip_groups * SUM_FLOATS : 0));
    }
    end_tiles();
}

static void panel_task(void *context, int task, int worker)
{
    const struct amx_job *job = context;
    const struct blocking *b = &job->blocking;
    struct strip strip = strip_of(b, 0, job->call->scratch);

    (void)worker;
    write_panel(job->call, b, &strip, job->part, b->map_rows * task / job->tasks, b->map_rows * (task + 1) / job->tasks);
}

static void outputs_task(void *context, int task, int worker)
{
    const struct amx_job *job = context;
    const struct blocking *b = &job->blocking;
    struct strip strip = strip_of(b, 0, job->call->scratch);
    float *sums = (float *)(void *)((char *)job->call->scratch + b->panel_bytes);
    int first = b->output_groups * task / job->tasks, end = b->output_groups * (task + 1) / job->tasks;

    begin_tiles();
    for (int group = first; group < end; group++)
        multiply_strip(job->call, b, &strip, job->part, group,
                       sums + (b->part_count > 1 ? group * b->strip_groups : 2 * worker) * SUM_FLOATS);
    end_tiles();
}

static void run(const struct conv_call *call)
{
    int threads = thread_pool_size(call->pool);
    struct amx_job job = {.blocking = block(call->shape, threads), .call = call};
    const struct blocking *b = &job.blocking;

    if (!b->shared) {
        thread_pool_run(call->pool, strip_task, &job, b->strip_count);
        return;
    }
    for (job.part = 0; job.part < b->part_count; job.part++) {
        job.tasks = threads;
        thread_pool_run(call->pool, panel_task, &job, job.tasks);
        job.tasks = smaller(SHARED_TASKS * threads, b->output_groups);
        thread_pool_run(call->pool, outputs_task, &job, job.tasks);
    }
}

/* Counted in multiply-adds of the vector units that take as long. */
static double products(const struct conv_shape *s)
{
    const double unit_speed = 16.0;
    return (double)s->batch * s->out_height * s->out_width * s->out_channels * s->in_channels * s->kernel * s->kernel * PRODUCTS
           / unit_speed;
}

/* By times of an Emerald Rapids core: of a group's products, of sixteen floats' limbs, of a position's 32 sums on their way out, of weights
 * from memory. */
static double cost(const struct conv_shape *s, int threads)
{
    const double product_cycles = 430.0, split_cycles = 12.0, store_cycles = 25.0, bytes_a_microsecond = 11000.0;
    struct blocking b = block(s, threads);
    double sums = (double)b.groups * b.taps * b.block_count * b.output_groups * product_cycles;
    double panel = (double)b.panel_rows * b.strip_count * b.block_count * 2 * split_cycles;
    double ends = (double)b.groups * POSITIONS * b.output_groups * store_cycles;
    double arithmetic = (sums + panel + ends) / 2500.0 / threads, memory = (double)packed_bytes(s) / bytes_a_microsecond;
    return arithmetic > memory ? arithmetic : memory;
}

extern const struct conv_kernel ISA_NAME(conv_amx);

const struct conv_kernel ISA_NAME(conv_amx) = {
    .name = "amx",
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
