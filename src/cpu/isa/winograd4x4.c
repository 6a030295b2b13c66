/* winograd4x4.c - dense 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3): a quarter of the multiplications.
 *
 * The output is cut into tiles of 4 x 4 pixels; a tile needs 6 x 6 input pixels, overlapping its neighbours by two. With the
 * transforms of winograd_transform.h the convolution becomes 36 independent matrix products, one for each point p:
 *
 *     M[p] (tiles x out_channels) = V[p] (tiles x in_channels) * U[p] (in_channels x out_channels)
 *
 * V are the transformed inputs, U the transformed weights; M is transformed back, then bias, residual and relu follow.
 *
 * What bounds it. One input channel and one vector of outputs cost 36 T / 2 cycles of FMAs for T tiles (two a cycle). They use
 * 36 vectors of U, four times the bytes of the nine taps: read from DRAM at the 5 to 10 bytes a cycle that a core gets, U would
 * cost 230 cycles and more, which the FMAs of a 14x14 map (T = 16: 288 cycles) hardly hide. So the packed weights are the plain
 * taps, and are transformed when they are used: some 60 operations, 42 loads and 36 stores, 70 cycles. The taps must be there by
 * then: while a chunk of input channels is computed, those of the next one are fetched from memory.
 *
 * Blocking. The unit is a step: the six points of one row, a chunk of 32 input channels (64 with AVX2), two vectors of outputs. Its U
 * (24 KB) is written and used at once. The step adds V * U to M in register blocks of ROWS tiles x
 * BLOCK_VECTORS vectors: AVX-512 14 x 2 sums + 2 weights + 1 broadcast = 31 of 32 registers, AVX2 6 x 2 + 2 + 1 = 15 of 16. A
 * block costs 14 x 32 = 448 cycles of FMAs, 10 more for reading and writing its 28 sums. The six rows of a chunk follow one
 * another, so its taps come from memory once and from L2 after that. A set of tiles is so large that its V (4608 bytes a tile and
 * chunk, with AVX2 9216) stays in L2. With four tiles (7x7), U is not worth its way through L1: see multiply_few.
 *
 * A last row or column of tiles that has but one or two outputs along that side does with four of the six points there (F(2, 3), see
 * winograd_transform.h). On a 14x14 map that leaves 484 products of 576. Tiles are numbered by shape so that those which have a
 * point are neighbours in V and M.
 *
 * Two ways to share the work. Where there are many tiles, a task is a set of tiles and does everything for it ("by tiles").
 * Where the map is small and the weights are what must be read, all threads transform the inputs to one V first, then a task
 * is a block of output channels, so that every weight is read and transformed once ("by channels").
 *
 * winograd4x4_half stores the taps in float16, which halves what is read from memory where a map is so small that this is
 * what takes the time; the arithmetic is float32.
 */
#include "cpu/isa/sizes.h"
#include "cpu/isa/winograd_tile.h"

enum { CACHE_LINE = 64 };

/* A run of at most CHUNK input channels of one source. */
struct chunk {
    int source, first, count;
};

struct blocking {
    int tile_rows, tile_columns, tile_count; /* of an image, of all images */
    int first_wide, first_low, first_corner; /* tiles by their shape, see tile_at */
    int chunk_count;                         /* of input channels */
    int vector_count, block_count;           /* of output channels */
    bool by_tiles;
    int set_tiles, set_count;
    double cycles;                                                     /* estimate, of the thread that has most to do */
    int64_t table_floats, input_floats, product_floats, worker_floats; /* scratch: chunk table, V, M, all of a worker's */
};

static int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Floats of V for a tile. */
static int64_t tile_floats(const struct blocking *b)
{
    return (int64_t)WINOGRAD_POINTS * CHUNK * b->chunk_count;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* A set of four tiles without narrow sides, and a whole block, which multiply_few is for. */
static bool few_tiles(const struct blocking *b, int set_tiles, int tiles, int vectors)
{
    bool narrow = b->first_wide > 0 || b->first_low < b->tile_count;
    return MANY_REGISTERS && !narrow && set_tiles == FEW && tiles == FEW && vectors == BLOCK_VECTORS;
}

/* The estimate for sets of `tiles` tiles, in cycles measured on a Zen 5 core. */
static double estimate(const struct blocking *b, const struct conv_shape *s, int threads, bool by_tiles, int tiles)
{
    enum { L2_BYTES = 512 * 1024, L3_BYTES = 6 * 1024 * 1024 }; /* that V and M may fill beside weights and maps */
    const double l3_cycles_a_line = 1.0, memory_cycles_a_line = 6.0, transforms = 200.0;
    int parts = divide_up(tiles, ROWS), sets = divide_up(b->tile_count, tiles);
    int vectors = b->vector_count < BLOCK_VECTORS ? b->vector_count : BLOCK_VECTORS;
    double narrow = (double)(b->first_wide + 2 * (b->tile_count - b->first_corner) + b->first_corner - b->first_low) / b->tile_count;
    double points = WINOGRAD_POINTS - 11.0 * narrow; /* of a tile on average: 36, 24 with a narrow side, 16 with two */
    double products = 0.5 * points * tiles + 0.15 * WINOGRAD_POINTS * parts; /* of an input channel and a vector of outputs */
    double weights = few_tiles(b, tiles, tiles, vectors) ? 40.0 : 5.0 * VEC_WIDTH;
    double outputs = (products + weights) * vectors * s->in_channels; /* of a block, all input channels */
    double input = transforms * tiles * b->chunk_count * CHUNK / VEC_WIDTH;
    double input_bytes = (double)tile_floats(b) * tiles * sizeof(float),
           product_bytes = (double)WINOGRAD_POINTS * tiles * BLOCK * sizeof(float);

    if (input_bytes + product_bytes > L2_BYTES)
        outputs += input_bytes / 64.0 * l3_cycles_a_line;
    if (input_bytes + product_bytes > L3_BYTES) /* V is read once, M read and written with every chunk */
        outputs += (input_bytes + 2.0 * b->chunk_count * product_bytes) / 64.0 * memory_cycles_a_line;
    outputs += transforms * vectors * tiles;
    if (by_tiles)
        return divide_up(sets, threads) * (input + b->block_count * outputs);
    return sets * (input / threads + divide_up(b->block_count, threads) * outputs + 10000.0); /* two waits for all threads */
}

/* Whether the last tile along a side has at most NARROW_OUT outputs. */
static bool is_narrow(int outputs)
{
    return outputs % WINOGRAD_OUT > 0 && outputs % WINOGRAD_OUT <= NARROW_OUT;
}

static struct blocking block(const struct conv_shape *s, int threads)
{
    struct blocking b = {
        .tile_rows = divide_up(s->out_height, WINOGRAD_OUT),
        .tile_columns = divide_up(s->out_width, WINOGRAD_OUT),
        .vector_count = vec_count(s->out_channels),
        .block_count = divide_up(s->out_channels, BLOCK),
    };

    int narrow_rows = is_narrow(s->out_height), narrow_columns = is_narrow(s->out_width);
    b.tile_count = s->batch * b.tile_rows * b.tile_columns;
    b.first_wide = s->batch * (b.tile_rows - narrow_rows) * narrow_columns;
    b.first_low = s->batch * (b.tile_rows - narrow_rows) * b.tile_columns;
    b.first_corner = b.tile_count - s->batch * narrow_rows * narrow_columns;
    for (int source = 0; source < s->source_count; source++)
        b.chunk_count += divide_up(s->source_channels[source], CHUNK);

    for (int sets = 1; sets <= b.tile_count; sets += sets < 16 ? 1 : sets / 8) {
        int tiles = divide_up(b.tile_count, sets);
        for (int by_tiles = 0; by_tiles < 2; by_tiles++) {
            double cycles = estimate(&b, s, threads, by_tiles, tiles);
            if (b.cycles == 0.0 || cycles < b.cycles) {
                b.cycles = cycles;
                b.by_tiles = by_tiles;
                b.set_tiles = tiles;
            }
        }
    }
    b.set_count = divide_up(b.tile_count, b.set_tiles);
    b.table_floats = round_up(b.chunk_count * (int64_t)sizeof(struct chunk), CACHE_LINE) / (int64_t)sizeof(float);
    b.input_floats = tile_floats(&b) * b.set_tiles;
    b.product_floats = (int64_t)WINOGRAD_POINTS * b.set_tiles * BLOCK;
    b.worker_floats = WEIGHT_FLOATS + b.product_floats + (b.by_tiles ? b.input_floats : 0);
    return b;
}

static bool supports(const struct conv_shape *s)
{
    return s->kernel == 3 && s->stride == 1 && s->dilation == 1 && s->groups == 1;
}

static size_t scratch_bytes(const struct conv_shape *s, int threads)
{
    struct blocking b = block(s, threads);
    return (size_t)(b.table_floats + (b.by_tiles ? 0 : b.input_floats) + threads * b.worker_floats) * sizeof(float);
}

static size_t packed_weights(const struct conv_shape *s)
{
    return (size_t)vec_count(s->out_channels) * VEC_WIDTH * TAPS * (size_t)s->in_channels;
}

/* Microseconds, of the clock that conv_direct's estimate counts with. Weights that come from memory may take longer than the
 * arithmetic (5 to 10 bytes a cycle on Cascade Lake, Zen 3 and Zen 5). Half precision must earn its rounding. */
static double cost_as(const struct conv_shape *s, int threads, bool half)
{
    const double megahertz = 2500.0, bytes_a_microsecond = 18000.0;
    double arithmetic = block(s, threads).cycles / megahertz;
    double memory = (double)packed_weights(s) * (half ? sizeof(uint16_t) : sizeof(float)) / bytes_a_microsecond;

    return larger(arithmetic, memory) * (half ? 1.03 : 1.0);
}

/* Packed weights: (blocks of outputs)(in_channels, 3, 3)(lanes of the block), as float or float16. A block is turned over a few channels at a
 * time, output by output: one weight of each output after the other would be read from as many lines, which often are a power of two apart. */
static void pack_as(const struct conv_shape *s, const float *weight, /* (out_channels, in_channels, 3, 3) */
                    const float *scale,                              /* (out_channels) */
                    void *packed, bool half)
{
    enum { TURNED = 16 * TAPS }; /* weights of an output at a time */
    float turned[TURNED * BLOCK];
    int count = s->in_channels * TAPS; /* weights of an output */
    int64_t at = 0;

    for (int first = 0; first < s->out_channels; first += BLOCK) {
        int width = smaller(vec_count(s->out_channels - first), BLOCK_VECTORS) * VEC_WIDTH, lanes = smaller(s->out_channels - first, width);
        memset(turned, 0, sizeof(turned));
        for (int begin = 0; begin < count; begin += TURNED) {
            int run = smaller(count - begin, TURNED);
            for (int lane = 0; lane < lanes; lane++) {
                const float *in = weight + (int64_t)(first + lane) * count + begin;
                for (int i = 0; i < run; i++)
                    turned[i * width + lane] = in[i] * scale[first + lane];
            }
            for (int i = 0; i < run * width; i += VEC_WIDTH, at += VEC_WIDTH)
                store_weight(packed, at, vec_load(turned + i), half);
        }
    }
}

struct winograd_job {
    struct blocking blocking;
    const struct conv_call *call;
    bool half;                  /* the packed weights are float16 */
    const struct chunk *chunks; /* (chunk_count) */
    float *input;               /* V by channels */
    float *workers;
    int set;   /* by channels: the one at hand */
    int parts; /* by channels: tasks that share the chunks of a tile */
};

/* Tiles are numbered by shape, so that those which have a point are neighbours, whatever the point:
 *
 *     [0, first_wide) narrow in x | [first_wide, first_low) full | [first_low, first_corner) narrow in y | [first_corner, tile_count) in both
 *     +-b in y: the first two kinds       +-b in x: the middle two       +-b in both: the full ones       else all */
static struct tile tile_at(const struct blocking *b, const struct conv_shape *s, int index)
{
    struct narrow narrow = {.y = index >= b->first_low, .x = index < b->first_wide || index >= b->first_corner};
    int rows = b->tile_rows, columns = b->tile_columns; /* of tiles of this shape, in an image */
    int first = narrow.y ? (narrow.x ? b->first_corner : b->first_low) : (narrow.x ? 0 : b->first_wide);

    rows = narrow.y ? 1 : rows - is_narrow(s->out_height);
    columns = narrow.x ? 1 : columns - is_narrow(s->out_width);
    int in_image = (index - first) % (rows * columns);
    return (struct tile){.image = (index - first) / (rows * columns),
                         .y = (narrow.y ? b->tile_rows - 1 : in_image / columns) * WINOGRAD_OUT,
                         .x = (narrow.x ? b->tile_columns - 1 : in_image % columns) * WINOGRAD_OUT,
                         .narrow = narrow};
}

/* V[row of points][chunk][point of the row][tile of the set][CHUNK] for one tile and some chunks. */
static void transform_chunks(const struct winograd_job *job, int tile_index, int first_chunk, int last_chunk, float *input)
{
    const struct blocking *b = &job->blocking;
    struct tile tile = tile_at(b, job->call->shape, tile_index);
    int64_t point_stride = (int64_t)b->set_tiles * CHUNK, row_points = b->chunk_count * WINOGRAD_IN * point_stride;

    for (int c = first_chunk; c < last_chunk; c++) {
        const struct chunk *chunk = &job->chunks[c];
        float *out = input + (int64_t)c * WINOGRAD_IN * point_stride + tile_index % b->set_tiles * CHUNK;
        transform_tile(job->call, &tile, chunk->source, chunk->first, chunk->count, out, row_points, point_stride);
    }
}

/* One step: a chunk of input channels, the six points of a row, a block of outputs, the tiles of a set. */
struct step {
    const float *input;   /* V of chunk and row: [point][tile of the set][CHUNK] */
    int64_t point_stride; /* of V */
    int first_tile, tiles;
    int64_t weight;    /* elements of the packed weights before the chunk and block */
    int count;         /* input channels */
    int vectors;       /* of outputs */
    float *products;   /* M of the row: [point][tile][vectors] */
    const char *ahead; /* the next `lines` lines of taps that will be needed, on their way from memory while this step computes */
    int lines;
};

static void fetch(const struct step *step, int part, int parts)
{
    for (int line = step->lines * part / parts; line < step->lines * (part + 1) / parts; line++)
        __builtin_prefetch(step->ahead + (int64_t)line * CACHE_LINE, 0, 2);
}

/* Tiles [first, last) of the set that have the point (row, x). */
static void tiles_of_point(const struct blocking *b, const struct step *s, int row, int x, int *first, int *last)
{
    int from = wide_point(x) ? b->first_wide : 0;
    int to = wide_point(row) ? b->first_low : wide_point(x) ? b->first_corner : b->tile_count;

    *first = from > s->first_tile ? from - s->first_tile : 0;
    *last = to < s->first_tile + s->tiles ? to - s->first_tile : s->tiles;
    if (*last < *first)
        *last = *first;
}

static void run_step(const struct winograd_job *job, const struct step *s, int row, bool first, float *weights)
{
    const int width = s->vectors * VEC_WIDTH;

    if (wide_point(row) && s->first_tile >= job->blocking.first_low)
        return; /* all of the set's tiles are narrow in y */
    weights_functions[row][job->half][s->vectors - 1](job->call->packed, s->weight, s->count, weights);
    for (int x = 0; x < WINOGRAD_IN; x++) {
        int begin, end;
        tiles_of_point(&job->blocking, s, row, x, &begin, &end);
        fetch(s, x, WINOGRAD_IN);
        int parts = divide_up(end - begin, ROWS);
        for (int part = 0, tile = begin; part < parts; part++) {
            int rows = divide_up(end - tile, parts - part);
            product_functions[rows - 1][s->vectors - 1](s->input + x * s->point_stride + tile * CHUNK, weights + x * POINT_FLOATS, s->count,
                                                        s->products + (x * s->tiles + tile) * width, first);
            tile += rows;
        }
    }
}

#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
static void run_few_step(const struct winograd_job *job, const struct step *s, int row, bool first)
{
    for (int v = 0; v < BLOCK_VECTORS; v++)
        few_functions[row][job->half](job->call->packed, s->weight + v * VEC_WIDTH, s->count, s->input, s->products + v * VEC_WIDTH, first,
                                      s->ahead + (int64_t)s->lines / BLOCK_VECTORS * v * CACHE_LINE);
}
#endif

/* One block of output channels for the tiles of a set. `next` is the block that this thread will probably run next. */
static void run_block(const struct winograd_job *job, const float *input, float *worker, int set, int index, int next)
{
    const struct blocking *b = &job->blocking;
    const struct conv_call *call = job->call;
    const int64_t element = job->half ? sizeof(uint16_t) : sizeof(float), block_elements = (int64_t)BLOCK * TAPS * call->shape->in_channels;
    float *weights = worker, *products = worker + WEIGHT_FLOATS;
    int first_tile = set * b->set_tiles, first = index * BLOCK;
    int channels = call->shape->out_channels - first < BLOCK ? call->shape->out_channels - first : BLOCK;
    struct step s = {
        .point_stride = (int64_t)b->set_tiles * CHUNK,
        .first_tile = first_tile,
        .tiles = b->tile_count - first_tile < b->set_tiles ? b->tile_count - first_tile : b->set_tiles,
        .weight = index * block_elements,
        .vectors = vec_count(channels),
    };
    int64_t row_products = (int64_t)WINOGRAD_IN * s.tiles * s.vectors * VEC_WIDTH;

    for (int c = 0; c < b->chunk_count; c++) {
        s.count = job->chunks[c].count;
        int64_t elements = (int64_t)s.count * TAPS * s.vectors * VEC_WIDTH;
        s.ahead = (const char *)call->packed + element * (c + 1 < b->chunk_count ? s.weight + elements : next * block_elements);
        s.lines = divide_up((int)(element * elements), WINOGRAD_IN * CACHE_LINE);
        for (int row = 0; row < WINOGRAD_IN; row++) {
            s.input = input + ((int64_t)row * b->chunk_count + c) * WINOGRAD_IN * s.point_stride;
            s.products = products + row * row_products;
#if KERNEL_ISA_AVX512 || KERNEL_ISA_NEON
            if (few_tiles(b, b->set_tiles, s.tiles, s.vectors))
                run_few_step(job, &s, row, c == 0);
            else
#endif
                run_step(job, &s, row, c == 0, weights);
            s.ahead += (int64_t)s.lines * CACHE_LINE;
        }
        s.weight += elements;
    }
    for (int i = 0; i < s.tiles; i++) {
        struct tile tile = tile_at(b, call->shape, first_tile + i);
        finish_tile(call, &tile, first, channels, products + i * s.vectors * VEC_WIDTH, row_products / WINOGRAD_IN);
    }
}

static void by_tiles_task(void *context, int task, int worker)
{
    const struct winograd_job *job = context;
    const struct blocking *b = &job->blocking;
    float *memory = job->workers + worker * b->worker_floats;
    float *input = memory + WEIGHT_FLOATS + b->product_floats;
    int last = (task + 1) * b->set_tiles < b->tile_count ? (task + 1) * b->set_tiles : b->tile_count;

    for (int tile = task * b->set_tiles; tile < last; tile++)
        transform_chunks(job, tile, 0, b->chunk_count, input);
    for (int index = 0; index < b->block_count; index++)
        run_block(job, input, memory, task, index, (index + 1) % b->block_count);
}

static void input_task(void *context, int task, int worker)
{
    const struct winograd_job *job = context;
    const struct blocking *b = &job->blocking;
    int part = task % job->parts;

    (void)worker;
    transform_chunks(job, job->set * b->set_tiles + task / job->parts, b->chunk_count * part / job->parts,
                     b->chunk_count * (part + 1) / job->parts, job->input);
}

static void channels_task(void *context, int task, int worker)
{
    const struct winograd_job *job = context;
    const struct blocking *b = &job->blocking;

    run_block(job, job->input, job->workers + worker * b->worker_floats, job->set, task, (task + 1) % b->block_count);
}

static void fill_chunks(const struct conv_shape *s, struct chunk *chunks /* (chunk_count) */)
{
    for (int source = 0; source < s->source_count; source++)
        for (int first = 0, left = s->source_channels[source]; left > 0; first += CHUNK, left -= CHUNK)
            *chunks++ = (struct chunk){.source = source, .first = first, .count = left < CHUNK ? left : CHUNK};
}

static void run_job(const struct conv_call *call, bool half)
{
    struct winograd_job job = {.blocking = block(call->shape, thread_pool_size(call->pool)), .call = call, .half = half};
    const struct blocking *b = &job.blocking;
    float *scratch = call->scratch;

    fill_chunks(call->shape, (struct chunk *)call->scratch);
    job.chunks = (const struct chunk *)call->scratch;
    if (b->by_tiles) {
        job.workers = scratch + b->table_floats;
        thread_pool_run(call->pool, by_tiles_task, &job, b->set_count);
        return;
    }
    job.input = scratch + b->table_floats;
    job.workers = job.input + b->input_floats;
    for (job.set = 0; job.set < b->set_count; job.set++) {
        int first = job.set * b->set_tiles, tiles = b->tile_count - first < b->set_tiles ? b->tile_count - first : b->set_tiles;
        job.parts = divide_up(64, tiles) < b->chunk_count ? divide_up(64, tiles) : b->chunk_count;
        thread_pool_run(call->pool, input_task, &job, tiles * job.parts);
        thread_pool_run(call->pool, channels_task, &job, b->block_count);
    }
}

/* Points along a side of so many outputs; a last tile of one or two does with two less. */
static double points_along(int outputs)
{
    return divide_up(outputs, WINOGRAD_OUT) * WINOGRAD_IN - (is_narrow(outputs) ? WINOGRAD_OUT - NARROW_OUT : 0);
}

static double products(const struct conv_shape *s)
{
    return s->batch * points_along(s->out_height) * points_along(s->out_width) * s->in_channels * s->out_channels;
}

static size_t packed_bytes(const struct conv_shape *s)
{
    return packed_weights(s) * sizeof(float);
}

static void pack(const struct conv_shape *s, const float *weight, const float *scale, void *packed)
{
    pack_as(s, weight, scale, packed, false);
}

static double cost(const struct conv_shape *s, int threads)
{
    return cost_as(s, threads, false);
}

static void run(const struct conv_call *call)
{
    run_job(call, false);
}

extern const struct conv_kernel ISA_NAME(winograd4x4);

const struct conv_kernel ISA_NAME(winograd4x4) = {
    .name = KERNEL_NAME("winograd4x4"),
    .winograd = true,
    .products = products,
    .supports = supports,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .cost = cost,
    .run = run,
};

#ifndef VEC_NO_HALF

static size_t packed_bytes_half(const struct conv_shape *s)
{
    return packed_weights(s) * sizeof(uint16_t);
}

static void pack_half(const struct conv_shape *s, const float *weight, const float *scale, void *packed)
{
    pack_as(s, weight, scale, packed, true);
}

static double cost_half(const struct conv_shape *s, int threads)
{
    return cost_as(s, threads, true);
}

static void run_half(const struct conv_call *call)
{
    run_job(call, true);
}

extern const struct conv_kernel ISA_NAME(winograd4x4_half);

const struct conv_kernel ISA_NAME(winograd4x4_half) = {
    .name = KERNEL_NAME("winograd4x4_half"),
    .winograd = true,
    .products = products,
    .half = true,
    .supports = supports,
    .packed_bytes = packed_bytes_half,
    .pack = pack_half,
    .scratch_bytes = scratch_bytes,
    .cost = cost_half,
    .run = run_half,
};

#endif
