/* cuda_conv_gemm.c - convolutions as matrix products: which shapes, which tiles, how weights are packed. gemm_params.h has the idea.
 *
 * A variant is a tile and the number of blocks that share one tile's sum. An estimate puts the best guess first:
 *
 *     time = waves of blocks * (steps of a block * (multiply-adds of a step / speed + latency of a step) + cost of joining)
 */
#include "cuda/cuda_conv.h"
#include "cuda/cuda_launch.h"
#include "cuda/cuda_weight.h"
#include "cuda/gemm_pack.h"
#include "cuda/gemm_params.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_TILES = 24,
    SPLITS = 5,         /* 1, 2, 4, 8, 16 blocks: a cluster has no more */
    PORTABLE_SPLIT = 8, /* that every generation with clusters has */
    MAX_VARIANTS = MAX_TILES * SPLITS,
    SET_OUTPUTS = 32, /* narrower groups are joined until they have so many outputs */
    LARGEST_KERNEL = 15
};

/* How a convolution is seen as a matrix product. */
struct product {
    int element_bytes, chunk_elements;
    int sets, groups_a_set;
    int set_inputs, set_outputs; /* of the channels */
    int chunk_shift, taps_a_step, steps;
};

struct variant {
    const struct gemm_tile *tile;
    int split;
    double cost;
};

static const struct gemm_tile *tiles_of(enum cuda_arithmetic arithmetic, int *count)
{
    switch (arithmetic) {
    case CUDA_TF32:
        return gemm_tf32_tiles(count);
    case CUDA_HALF:
        return gemm_half_tiles(count);
    case CUDA_BRAIN:
        return gemm_brain_tiles(count);
    case CUDA_EXACT:
    default:
        return gemm_exact_tiles(count);
    }
}

/* Bytes of a pixel's channels, of one set's or one source's. */
static int source_bytes(const struct product *product, const struct conv_shape *s, int source)
{
    return (s->groups > 1 ? product->set_inputs : s->source_channels[source]) * product->element_bytes;
}

static int source_chunks(const struct product *product, const struct conv_shape *s, int source)
{
    return divide_up(source_bytes(product, s, source), CUDA_CHUNK_BYTES);
}

static int source_pieces(const struct product *product, const struct conv_shape *s, int source)
{
    return divide_up(source_bytes(product, s, source), PIECE_BYTES);
}

/* Groups are joined to sets of at most SET_OUTPUTS outputs, as many as divide evenly into chunks. */
static int groups_a_set(const struct conv_shape *s, int chunk_elements)
{
    int group_inputs = s->in_channels / s->groups, group_outputs = s->out_channels / s->groups;

    for (int joined = s->groups; joined > 0; joined--)
        if (s->groups % joined == 0 && (joined == 1 || joined * group_outputs <= SET_OUTPUTS)
            && joined * group_inputs % chunk_elements == 0)
            return joined;
    return 0;
}

static struct product product_of(const struct cuda_conv_call *call)
{
    const struct conv_shape *s = call->shape;
    struct product p = {.element_bytes = (int)cuda_format_bytes(cuda_arithmetic_format(call->arithmetic)), .sets = 1, .groups_a_set = 1};
    int taps = s->kernel * s->kernel;

    p.chunk_elements = CUDA_CHUNK_BYTES / p.element_bytes;
    p.set_inputs = s->in_channels;
    p.set_outputs = s->out_channels;
    if (s->groups > 1) {
        p.groups_a_set = groups_a_set(s, p.chunk_elements);
        p.sets = p.groups_a_set > 0 ? s->groups / p.groups_a_set : 0;
        p.set_inputs = s->in_channels / s->groups * p.groups_a_set;
        p.set_outputs = s->out_channels / s->groups * p.groups_a_set;
    }
    int first = source_chunks(&p, s, 0);
    p.chunk_shift = s->source_count > 1 || first > 4 ? 3 : first > 2 ? 2 : first > 1 ? 1 : 0;
    p.taps_a_step = STEP_CHUNKS >> p.chunk_shift;
    for (int i = 0; i < s->source_count; i++)
        p.steps += divide_up(source_chunks(&p, s, i), STEP_CHUNKS) * divide_up(taps, p.taps_a_step);
    return p;
}

/* The most bytes that these channels of every pixel can be accessed by: 16, 8 or 0. */
static int view_access(struct cuda_view view, int channels, int element_bytes)
{
    for (int bytes = CUDA_CHUNK_BYTES; bytes >= PIECE_BYTES; bytes /= 2)
        if ((uintptr_t)view.data % (size_t)bytes == 0 && view.pixel_stride * element_bytes % bytes == 0
            && channels * element_bytes % bytes == 0)
            return bytes;
    return 0;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int source_access(const struct cuda_conv_call *call, const struct product *p)
{
    const struct conv_shape *s = call->shape;
    int access = CUDA_CHUNK_BYTES;

    for (int i = 0; i < s->source_count; i++)
        access = smaller(access, view_access(call->sources[i], call->padded ? p->chunk_elements : s->source_channels[i], p->element_bytes));
    return access;
}

/* Pixels of all images are counted in int. */
static bool counts_fit(const struct conv_shape *s)
{
    return (int64_t)s->batch * s->in_height * s->in_width < INT32_MAX / 2 && (int64_t)s->batch * s->out_height * s->out_width < INT32_MAX / 2;
}

static bool supports(const struct cuda_conv_call *call, const struct cuda_device *device)
{
    const struct conv_shape *s = call->shape;
    struct product p = product_of(call);
    (void)device;

    if (!counts_fit(s) || s->kernel > LARGEST_KERNEL || (s->groups > 1 && (s->source_count > 1 || p.sets == 0)))
        return false;
    return source_access(call, &p) > 0;
}

static int rows_of(const struct conv_shape *s)
{
    return s->batch * s->out_height * s->out_width;
}

static double estimate(const struct conv_shape *s, const struct product *p, const struct cuda_device *device, const struct gemm_tile *tile,
                       int split)
{
    const double step_latency = 150.0, launch = 2500.0, join = 600.0 + 100.0 * split; /* nanoseconds */
    double blocks = (double)divide_up(rows_of(s), tile->rows) * p->sets * divide_up(p->set_outputs, tile->columns) * split;
    double places = (double)device->multiprocessors * tile->blocks, waves = ceil(blocks / places);
    double crowd = blocks < places ? blocks / device->multiprocessors : tile->blocks; /* blocks that share a multiprocessor */
    int depth = STEP_BYTES / p->element_bytes;
    double products = (double)tile->rows * tile->columns * depth / tile->speed * (crowd > 1.0 ? crowd : 1.0);
    double step = products > step_latency ? products : step_latency;

    return launch + waves * (divide_up(p->steps, split) * step + (split > 1 ? join : 0.0));
}

/* All that the device can run and that may be worth it; the cheapest by estimate first. Returns how many. */
static int list_variants(const struct cuda_conv_call *call, const struct cuda_device *device, struct variant *variants)
{
    const struct conv_shape *s = call->shape;
    struct product p = product_of(call);
    int tile_count, count = 0, best = 0;
    bool pieces = source_access(call, &p) == PIECE_BYTES;
    const struct gemm_tile *tiles = tiles_of(call->arithmetic, &tile_count);

    for (int i = 0; i < tile_count; i++) {
        const struct gemm_tile *tile = &tiles[i];
        if (tile->pieces != pieces)
            continue;
        if ((tile->hopper && !(device->major == 9 && device->minor == 0)) || (size_t)tile->shared_bytes > device->shared_bytes)
            continue;
        if (tile->columns >= 2 * p.set_outputs && tile->columns > 32)
            continue; /* more than half of it would be empty */
        int blocks = divide_up(rows_of(s), tile->rows) * p.sets * divide_up(p.set_outputs, tile->columns);
        for (int split = 1; split <= 1 << (SPLITS - 1); split *= 2) {
            if (split > 1 && (device->major < 9 || split > p.steps || blocks * split > 4 * device->multiprocessors))
                break;
            if (split > PORTABLE_SPLIT && !(device->major == 9 && device->minor == 0))
                break;
            variants[count++] = (struct variant){tile, split, estimate(s, &p, device, tile, split)};
        }
    }
    for (int i = 1; i < count; i++)
        if (variants[i].cost < variants[best].cost)
            best = i;
    struct variant first = variants[0];
    variants[0] = variants[best];
    variants[best] = first;
    return count;
}

static int variant_count(const struct cuda_conv_call *call, const struct cuda_device *device)
{
    struct variant variants[MAX_VARIANTS];
    return list_variants(call, device, variants);
}

static void name_variant(const struct cuda_conv_call *call, const struct cuda_device *device, int variant, char *name, size_t size)
{
    struct variant variants[MAX_VARIANTS];

    (void)list_variants(call, device, variants);
    (void)snprintf(name, size, "gemm_%s_%d_%s", variants[variant].tile->name, variants[variant].split,
                   cuda_arithmetic_name(call->arithmetic));
}

static double cost(const struct cuda_conv_call *call, const struct cuda_device *device, int variant)
{
    struct variant variants[MAX_VARIANTS];

    (void)list_variants(call, device, variants);
    return variants[variant].cost;
}

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

static size_t packed_bytes(const struct cuda_conv_call *call)
{
    struct product p = product_of(call);
    return (size_t)p.sets * (size_t)p.steps * (size_t)p.set_outputs * STEP_BYTES;
}

/* The elements of one output in one step, 128 bytes. channel: of the source's first among all inputs. */
static void pack_step_row(const struct cuda_conv_call *call, const struct product *p, int set, int output, int source, int first_channel,
                          int block, int tap_of_step, const float *weight, float scale, char *row)
{
    const struct conv_shape *s = call->shape;
    int taps = s->kernel * s->kernel, group_inputs = s->in_channels / s->groups, group_outputs = s->out_channels / s->groups;
    int channels = s->groups > 1 ? p->set_inputs : s->source_channels[source];

    for (int column = 0; column < STEP_CHUNKS; column++) {
        int tap = tap_of_step + (column >> p->chunk_shift);
        int chunk = block * STEP_CHUNKS + (column & ((1 << p->chunk_shift) - 1));
        for (int e = 0; e < p->chunk_elements; e++) {
            int channel = chunk * p->chunk_elements + e; /* within the set, or the source */
            if (tap >= taps || channel >= channels)
                continue;                        /* stays zero */
            int input = first_channel + channel; /* within the set's inputs */
            if (s->groups > 1 && input / group_inputs != output / group_outputs)
                continue;
            int64_t at = ((int64_t)(set * p->set_outputs + output) * group_inputs + input % group_inputs) * taps + tap;
            cuda_store_weight(call->arithmetic, weight[at] * scale, row + (column * p->chunk_elements + e) * p->element_bytes);
        }
    }
}

static void pack(const struct cuda_conv_call *call, const float *weight, const float *scale, void *packed)
{
    const struct conv_shape *s = call->shape;
    struct product p = product_of(call);
    int taps = s->kernel * s->kernel;
    char *row = packed;

    memset(packed, 0, packed_bytes(call));
    for (int set = 0; set < p.sets; set++)
        for (int source = 0, first_channel = 0; source < s->source_count; first_channel += s->source_channels[source++])
            for (int block = 0; block * STEP_CHUNKS < source_chunks(&p, s, source); block++)
                for (int tap = 0; tap < taps; tap += p.taps_a_step)
                    for (int output = 0; output < p.set_outputs; output++, row += STEP_BYTES)
                        pack_step_row(call, &p, set, output, source, first_channel, block, tap, weight, scale[set * p.set_outputs + output],
                                      row);
}

cudaError_t cuda_conv_gemm_pack(const struct cuda_conv_call *call, const void *weight, bool turned, void *packed, cudaStream_t stream)
{
    const struct conv_shape *s = call->shape;
    struct product p = product_of(call);
    struct gemm_pack_params params = {
        .weight = weight,
        .packed = packed,
        .taps = s->kernel * s->kernel,
        .taps_a_step = p.taps_a_step,
        .steps_a_block = divide_up(s->kernel * s->kernel, p.taps_a_step),
        .steps = p.steps,
        .chunk_shift = p.chunk_shift,
        .set_inputs = p.set_inputs,
        .set_outputs = p.set_outputs,
        .group_inputs = s->in_channels / s->groups,
        .group_outputs = s->out_channels / s->groups,
        .turned = turned,
        .round = call->arithmetic == CUDA_TF32,
    };

    gemm_pack_start(&params, p.sets, p.element_bytes, stream);
    return cudaPeekAtLastError();
}

/* ---- running ----------------------------------------------------------------------------------------------------------- */

static struct gemm_params params_of(const struct cuda_conv_call *call, const struct product *p, const struct variant *variant)
{
    const struct conv_shape *s = call->shape;
    struct gemm_params params = {
        .in_height = s->in_height,
        .in_width = s->in_width,
        .rows = rows_of(s),
        .image_rows = s->out_height * s->out_width,
        .out_width = s->out_width,
        .kernel = s->kernel,
        .taps = s->kernel * s->kernel,
        .stride = s->stride,
        .padding = s->padding,
        .dilation = s->dilation,
        .inverse = divide_up(1 << 16, s->kernel),
        .chunk_shift = p->chunk_shift,
        .taps_a_step = p->taps_a_step,
        .steps_a_block = divide_up(s->kernel * s->kernel, p->taps_a_step),
        .steps = p->steps,
        .set_bytes = s->groups > 1 ? p->set_inputs * p->element_bytes : 0,
        .set_outputs = p->set_outputs,
        .tiles_a_set = divide_up(p->set_outputs, variant->tile->columns),
        .split = variant->split,
        .packed = call->packed,
        .bias = call->bias,
        .residual = call->residual.data,
        .out = call->out.data,
        .residual_stride = call->residual.pixel_stride,
        .out_stride = call->out.pixel_stride,
        .relu = call->relu,
    };
    params.access = view_access(call->out, p->set_outputs, p->element_bytes);
    if (call->residual.data != NULL)
        params.access = smaller(params.access, view_access(call->residual, p->set_outputs, p->element_bytes));
    for (int i = 0; i < s->source_count; i++)
        params.sources[i] = (struct gemm_source){.data = call->sources[i].data,
                                                 .stride = (int)call->sources[i].pixel_stride * p->element_bytes,
                                                 .chunks = source_chunks(p, s, i),
                                                 .pieces = source_pieces(p, s, i)};
    return params;
}

static cudaError_t run(const struct cuda_conv_call *call, const struct cuda_device *device, int index, cudaStream_t stream)
{
    struct variant variants[MAX_VARIANTS];
    (void)list_variants(call, device, variants);
    const struct variant *variant = &variants[index];
    const struct gemm_tile *tile = variant->tile;
    struct product p = product_of(call);
    struct gemm_params params = params_of(call, &p, variant);
    void *arguments[] = {&params};
    struct cuda_grid grid = {
        .x = (unsigned)divide_up(params.rows, tile->rows),
        .y = (unsigned)(p.sets * params.tiles_a_set),
        .z = (unsigned)variant->split,
        .threads = (unsigned)tile->threads,
        .shared_bytes = tile->shared_bytes,
        .cluster = (unsigned)variant->split,
    };

    return cuda_launch(tile->function, &grid, arguments, stream);
}

const struct cuda_conv_kernel cuda_conv_gemm = {
    .name = "gemm",
    .supports = supports,
    .variants = variant_count,
    .name_variant = name_variant,
    .cost = cost,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .run = run,
};
