/* conv_data_gradient.c - gradient of a convolution's input for any stride, as a gather.
 *
 * Input pixel p collects  out_gradient[(p + padding - tap * dilation) / stride] * weight[tap]  from the taps for which that
 * division leaves no rest. With stride s the input pixels fall into s * s phases; within one, neighbours in a row are served
 * by the same taps and read neighbouring out_gradient pixels. So a register tile is some pixels of one phase's row by one or two
 * vectors of input channels: per tap and output channel, so many loads of weights and a broadcast for each pixel.
 *
 * out_gradient of one image is first copied into a frame of zeros, so that no tap needs a test for the map's edge. Weights
 * are packed beforehand as [column tile of NR][tap][output channel][NR].
 *
 * Convolutions of many narrow groups (groups_isa.h) take lanes as input channels and the spread copies of out_gradient, of which only
 * those rows are made and kept that a row of the input needs.
 *
 * Dense 3x3 convolutions of stride 2 have a way of their own (data_gradient_stride2.c).
 */
#include "cpu/isa/data_gradient_isa.h"
#include "cpu/isa/groups_isa.h"
#include "cpu/isa/sizes.h"

enum {
    PIXELS = VEC_REGISTERS / 4, /* of a tile of two vectors: half of the registers are sums, the rest weights and a broadcast */
    MOST_PIXELS = 2 * PIXELS    /* of a tile of one */
};

struct frame {
    int before_y, before_x; /* zero rows above, columns to the left */
    int height, width;      /* with the frame */
};

/* Room for every out_gradient coordinate that any input coordinate, rounded up to whole tiles, asks for. */
static struct frame frame_of(const struct conv_shape *s)
{
    struct frame f;
    int reach = (s->kernel - 1) * s->dilation;
    f.before_y = f.before_x = divide_up(reach > s->padding ? reach - s->padding : 0, s->stride) + 1;
    int last_y = (s->in_height - 1 + s->padding) / s->stride, last_x = (s->in_width - 1 + s->padding) / s->stride + MOST_PIXELS;
    f.height = f.before_y + (last_y + 1 > s->out_height ? last_y + 1 : s->out_height);
    f.width = f.before_x + (last_x + 1 > s->out_width ? last_x + 1 : s->out_width);
    return f;
}

struct job {
    const struct conv_data_gradient_call *call;
    struct frame frame;
    bool narrow;
    int slots;           /* rows of the frame that are there at a time: row r in slot r % slots */
    int vectors, pixels; /* of a tile */
    int column_tiles;    /* of one group; narrow: of all channels */
    const float *weights;
    float *frames; /* [worker] */
    int64_t tile_floats, frame_floats;
};

static struct job job_of(const struct conv_shape *s)
{
    struct job job = {.frame = frame_of(s), .narrow = narrow_groups(s)};
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups;
    job.vectors = job.narrow || in_group <= VEC_WIDTH ? 1 : 2;
    job.pixels = job.narrow || job.vectors == 2 ? PIXELS : MOST_PIXELS;
    job.column_tiles = divide_up(job.narrow ? s->in_channels : in_group, job.vectors * VEC_WIDTH);
    job.tile_floats = (int64_t)s->kernel * s->kernel * out_group * job.vectors * VEC_WIDTH;
    job.slots = job.narrow ? ((s->kernel - 1) * s->dilation) / s->stride + 1 : job.frame.height;
    job.frame_floats = aligned((int64_t)job.slots * job.frame.width * (job.narrow ? job.column_tiles * out_group * VEC_WIDTH : out_group));
    return job;
}

/* First coordinate of a phase's taps: `tap` reaches input coordinates of `phase` where this is true, at out coordinate *first
 * for the phase's first pixel (which may be negative: the frame). */
static bool tap_serves(const struct conv_shape *s, int phase, int tap, int *first)
{
    int distance = phase + s->padding - tap * s->dilation;
    *first = distance >= 0 ? distance / s->stride : -((-distance) / s->stride);
    return distance % s->stride == 0;
}

/* ---- dense ---- */

/* weights [group][column tile][tap][output channel][NR], zero where there is no channel. */
static void dense_pack(const struct job *job, const struct conv_shape *s, const float *weight, float *weights)
{
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups, taps = s->kernel * s->kernel;
    int nr = job->vectors * VEC_WIDTH;
    for (int group = 0; group < s->groups; group++)
        for (int tile = 0; tile < job->column_tiles; tile++, weights += job->tile_floats) {
            int channels = smaller(in_group - tile * nr, nr);
            for (int o = 0; o < out_group; o++) {
                const float *from = weight + (((int64_t)group * out_group + o) * in_group + tile * nr) * taps;
                for (int tap = 0; tap < taps; tap++)
                    for (int i = 0; i < channels; i++)
                        weights[((int64_t)tap * out_group + o) * nr + i] = from[i * taps + tap];
            }
        }
}

/* The taps of one phase as offsets, so that the tile's loop knows nothing of windows. */
struct tap_list {
    int count;
    struct tap {
        int64_t frame;   /* floats from the phase's first pixel's place in the frame */
        int64_t weights; /* floats from the tile's weights */
    } taps[64];
};

/* Of input row y and a phase of columns. */
static void list_taps(const struct job *job, int y, int phase_x, int frame_pixel, int weight_tap, struct tap_list *list)
{
    const struct conv_shape *s = job->call->shape;
    list->count = 0;
    for (int ky = 0; ky < s->kernel; ky++) {
        int oy;
        if (!tap_serves(s, y, ky, &oy) || oy < 0 || oy >= s->out_height)
            continue;
        for (int kx = 0; kx < s->kernel; kx++) {
            int ox;
            if (tap_serves(s, phase_x, kx, &ox))
                list->taps[list->count++] = (struct tap){
                    ((int64_t)((oy + job->frame.before_y) % job->slots) * job->frame.width + ox + job->frame.before_x) * frame_pixel,
                    (int64_t)(ky * s->kernel + kx) * weight_tap};
        }
    }
}

ALWAYS_INLINE void store_pixel(float *to, const vec *sum, int vectors, int channels, bool accumulate)
{
    for (int v = 0; v < vectors; v++) {
        int lanes = channels - v * VEC_WIDTH;
        if (lanes <= 0)
            return;
        lanes = lanes < VEC_WIDTH ? lanes : VEC_WIDTH;
        vec before = accumulate ? vec_load_first(to + v * VEC_WIDTH, lanes) : vec_zero();
        vec_store_first(to + v * VEC_WIDTH, before + sum[v], lanes);
    }
}

/* pixels and vectors are constants at every call; the first `count` pixels exist. */
ALWAYS_INLINE void dense_tile(const struct tap_list *list, const float *frame, int frame_pixel, const float *weights, float *to,
                              int64_t to_pixel, int count, int channels, bool accumulate, const int pixels, const int vectors)
{
    vec sum[2 * PIXELS];

    UNROLL(16)
    for (int k = 0; k < pixels * vectors; k++)
        sum[k] = vec_zero();
    for (int t = 0; t < list->count; t++) {
        const float *gradient = frame + list->taps[t].frame, *w = weights + list->taps[t].weights;
        for (int o = 0; o < frame_pixel; o++, w += vectors * VEC_WIDTH) {
            vec weight[2];
            UNROLL(2)
            for (int v = 0; v < vectors; v++)
                weight[v] = vec_load(w + v * VEC_WIDTH);
            UNROLL(16)
            for (int p = 0; p < pixels; p++) {
                vec g = vec_all(gradient[p * frame_pixel + o]);
                UNROLL(2)
                for (int v = 0; v < vectors; v++)
                    sum[p * vectors + v] = vec_fma(g, weight[v], sum[p * vectors + v]);
            }
        }
    }
    UNROLL(16)
    for (int p = 0; p < pixels; p++)
        if (p < count)
            store_pixel(to + p * to_pixel, &sum[p * vectors], vectors, channels, accumulate);
}

/* One group of an image's out_gradient in its frame of zeros: frame (height, width, channels of the group). */
static void fill_frame(const struct job *job, int image, int group, float *frame)
{
    const struct conv_data_gradient_call *call = job->call;
    const struct conv_shape *s = call->shape;
    const struct frame *f = &job->frame;
    int channels = s->out_channels / s->groups, behind = f->width - f->before_x - s->out_width;
    size_t pixel = (size_t)channels * sizeof(float), row = (size_t)f->width * pixel;
    const float *from =
        call->out_gradient.data + (int64_t)image * s->out_height * s->out_width * call->out_gradient.pixel_stride + group * channels;

    memset(frame, 0, (size_t)f->before_y * row);
    frame += (int64_t)f->before_y * f->width * channels;
    for (int y = 0; y < s->out_height; y++) {
        memset(frame, 0, (size_t)f->before_x * pixel);
        frame += f->before_x * channels;
        for (int x = 0; x < s->out_width; x++, from += call->out_gradient.pixel_stride, frame += channels)
            memcpy(frame, from, pixel);
        memset(frame, 0, (size_t)behind * pixel);
        frame += behind * channels;
    }
    memset(frame, 0, (size_t)(f->height - f->before_y - s->out_height) * row);
}

static void dense_task(void *context, int image, int worker)
{
    const struct job *job = context;
    const struct conv_data_gradient_call *call = job->call;
    const struct conv_shape *s = call->shape;
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups, nr = job->vectors * VEC_WIDTH;
    float *frame = job->frames + worker * job->frame_floats;
    struct tap_list list;

    for (int group = 0; group < s->groups; group++) {
        fill_frame(job, image, group, frame);
        for (int tile = 0; tile < job->column_tiles; tile++) {
            const float *weights = job->weights + (group * job->column_tiles + tile) * job->tile_floats;
            int channels = in_group - tile * nr < nr ? in_group - tile * nr : nr;
            for (int y = 0; y < s->in_height; y++)
                for (int phase = 0; phase < s->stride && phase < s->in_width; phase++) {
                    list_taps(job, y, phase, out_group, out_group * nr, &list);
                    int count = divide_up(s->in_width - phase, s->stride);
                    float *to = call->in_gradient.data
                                + (((int64_t)image * s->in_height + y) * s->in_width + phase) * call->in_gradient.pixel_stride
                                + group * in_group + tile * nr;
                    int64_t to_pixel = s->stride * call->in_gradient.pixel_stride;
                    for (int p = 0; p < count; p += job->pixels) {
                        const float *from = frame + (int64_t)p * out_group;
                        int pixels = count - p < job->pixels ? count - p : job->pixels;
                        if (job->vectors == 2)
                            dense_tile(&list, from, out_group, weights, to + p * to_pixel, to_pixel, pixels, channels, call->accumulate,
                                       PIXELS, 2);
                        else
                            dense_tile(&list, from, out_group, weights, to + p * to_pixel, to_pixel, pixels, channels, call->accumulate,
                                       MOST_PIXELS, 1);
                    }
                }
        }
    }
}

/* ---- narrow groups ---- */

/* weights [vector][tap][j][lane]: lane c is weight[o = j-th output channel of c's group][c % width][tap]. */
static void narrow_pack(const struct conv_shape *s, const float *weight, float *weights)
{
    int width = s->in_channels / s->groups, taps = s->kernel * s->kernel;
    for (int c = 0; c < s->in_channels; c++)
        for (int j = 0; j < width; j++)
            for (int tap = 0; tap < taps; tap++)
                weights[(((int64_t)(c / VEC_WIDTH) * taps + tap) * width + j) * VEC_WIDTH + c % VEC_WIDTH] =
                    weight[((int64_t)(c / width * width + j) * width + c % width) * taps + tap];
}

/* width is a constant at the calls that matter. */
ALWAYS_INLINE void narrow_tile(const struct tap_list *list, const float *frame, const float *weights, float *to, int64_t to_pixel,
                               int pixels, int lanes, bool accumulate, const int width)
{
    vec sum[PIXELS];

    UNROLL(8)
    for (int p = 0; p < PIXELS; p++)
        sum[p] = vec_zero();
    for (int t = 0; t < list->count; t++) {
        const float *gradient = frame + list->taps[t].frame, *w = weights + list->taps[t].weights;
        for (int j = 0; j < width; j++) {
            vec weight = vec_load(w + j * VEC_WIDTH);
            UNROLL(8)
            for (int p = 0; p < PIXELS; p++)
                sum[p] = vec_fma(vec_load(gradient + ((int64_t)p * width + j) * VEC_WIDTH), weight, sum[p]);
        }
    }
    UNROLL(8)
    for (int p = 0; p < PIXELS; p++)
        if (p < pixels)
            store_pixel(to + p * to_pixel, &sum[p], 1, lanes, accumulate);
}

/* One vector of channels of a row's phase, from the first pixel on, which is `to`. */
static void narrow_row(const struct job *job, const struct tap_list *list, const float *frame, const float *weights, float *to, int count,
                       int lanes)
{
    const struct conv_shape *s = job->call->shape;
    int width = s->in_channels / s->groups;
    int64_t to_pixel = s->stride * job->call->in_gradient.pixel_stride;
    bool accumulate = job->call->accumulate;

    for (int p = 0; p < count; p += PIXELS, frame += PIXELS * width * VEC_WIDTH, to += PIXELS * to_pixel) {
        int pixels = smaller(count - p, PIXELS);
        if (width == 8)
            narrow_tile(list, frame, weights, to, to_pixel, pixels, lanes, accumulate, 8);
        else if (width == 4)
            narrow_tile(list, frame, weights, to, to_pixel, pixels, lanes, accumulate, 4);
        else if (width == 2)
            narrow_tile(list, frame, weights, to, to_pixel, pixels, lanes, accumulate, 2);
        else
            narrow_tile(list, frame, weights, to, to_pixel, pixels, lanes, accumulate, width);
    }
}

/* Row by row, all channels of one after the other, so that both maps are gone through in order. */
static void narrow_task(void *context, int image, int worker)
{
    const struct job *job = context;
    const struct conv_data_gradient_call *call = job->call;
    const struct conv_shape *s = call->shape;
    const struct frame *f = &job->frame;
    int width = s->in_channels / s->groups, frame_pixel = width * VEC_WIDTH, spread = 0 /* rows of out_gradient */;
    int64_t frame_row = (int64_t)f->width * frame_pixel, frame_floats = job->slots * frame_row; /* of a vector of channels */
    float *frames = job->frames + worker * job->frame_floats;
    struct tap_list list;

    for (int y = 0; y < s->in_height; y++) {
        for (; spread < s->out_height && spread * s->stride <= y + s->padding; spread++)
            for (int v = 0; v < job->column_tiles; v++)
                spread_groups(call->out_gradient, s->out_height, s->out_width, image, spread, -f->before_x, 1, f->width, v * VEC_WIDTH,
                              smaller(s->in_channels - v * VEC_WIDTH, VEC_WIDTH), width,
                              frames + v * frame_floats + (spread + f->before_y) % job->slots * frame_row);
        for (int phase = 0; phase < s->stride && phase < s->in_width; phase++) {
            float *to =
                call->in_gradient.data + (((int64_t)image * s->in_height + y) * s->in_width + phase) * call->in_gradient.pixel_stride;
            list_taps(job, y, phase, frame_pixel, frame_pixel, &list);
            for (int v = 0; v < job->column_tiles; v++)
                narrow_row(job, &list, frames + v * frame_floats, job->weights + v * job->tile_floats, to + v * VEC_WIDTH,
                           divide_up(s->in_width - phase, s->stride), smaller(s->in_channels - v * VEC_WIDTH, VEC_WIDTH));
        }
    }
}

/* ---- entry ---- */

static bool takes_winograd(const struct conv_shape *s, bool exact)
{
    return !exact && ISA_NAME(stride2_data_supports)(s);
}

size_t ISA_NAME(conv_data_gradient_packed_bytes)(const struct conv_shape *s, bool exact)
{
    struct job job = job_of(s);
    if (takes_winograd(s, exact))
        return ISA_NAME(stride2_data_packed_bytes)(s);
    return (size_t)(job.tile_floats * job.column_tiles * (job.narrow ? 1 : s->groups)) * sizeof(float);
}

void ISA_NAME(conv_data_gradient_pack)(const struct conv_shape *s, bool exact, const float *weight, void *packed)
{
    struct job job = job_of(s);
    if (takes_winograd(s, exact)) {
        ISA_NAME(stride2_data_pack)(s, weight, packed);
        return;
    }
    memset(packed, 0, ISA_NAME(conv_data_gradient_packed_bytes)(s, exact));
    if (job.narrow)
        narrow_pack(s, weight, packed);
    else
        dense_pack(&job, s, weight, packed);
}

size_t ISA_NAME(conv_data_gradient_scratch_bytes)(const struct conv_shape *s, int threads)
{
    size_t gather = (size_t)(job_of(s).frame_floats * threads) * sizeof(float), winograd = 0;
    if (takes_winograd(s, false))
        winograd = ISA_NAME(stride2_data_scratch_bytes)(s, threads);
    return gather > winograd ? gather : winograd;
}

void ISA_NAME(conv_data_gradient)(const struct conv_data_gradient_call *call)
{
    struct job job = job_of(call->shape);
    if (takes_winograd(call->shape, call->exact)) {
        ISA_NAME(stride2_data)(call);
        return;
    }
    job.call = call;
    job.weights = call->packed;
    job.frames = call->scratch;
    thread_pool_run(call->pool, job.narrow ? narrow_task : dense_task, &job, call->shape->batch);
}
