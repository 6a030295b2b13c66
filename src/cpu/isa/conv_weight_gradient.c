/* conv_weight_gradient.c - gradient of a convolution's weights, as matrix products over pixels.
 *
 * For one tap the gradient is  in^T * out_gradient : (channels_in x pixels) * (pixels x channels_out), where `in` is shifted
 * by the tap. A register tile (weight_gradient_tile.h) holds MR input by NR output channels and walks over pixels. Maps with one
 * vector of output channels take 16 or 24 x 1 instead of 8 x 2 vectors.
 *
 * So that the walk reads memory in order, both maps are first laid out in panels:
 *
 *     in             [row tile of MR][image][padded row][padded column][MR]     a tap is an offset, a stride a step
 *     out_gradient   [column tile of NR][image][row][column][NR]
 *
 * Three or four input channels (the photograph) would leave tiles empty; there the taps of one row are laid out as channels,
 * kernel * in_channels of them per output pixel, and only the rows of the window remain as taps.
 *
 * Small gradients (the early, wide maps) are summed privately per chunk of images and the chunks then added in order; large
 * ones (the late, small maps) are cut into column tiles, each summed over the whole batch. Groups are a task for every few lines of channels,
 * so that the maps are read from memory once, and then take fewer chunks. Chunks depend on the shape alone.
 *
 * That is the way for whatever has no better one (weight_gradient_winograd.c, _winograd7x7.c, _stride2.c, _pointwise.c, _rows.c, _groups.c).
 */
#include "cpu/isa/weight_gradient_isa.h"
#include "cpu/isa/weight_gradient_tile.h"

enum {
    PRIVATE_FLOATS = 160 * 1024, /* gradients up to 640 KB are summed privately: they and a block's panels share L2 */
    BLOCK_FLOATS = 32 * 1024,    /* panels of maps with few channels hold more: fewer rows are laid out twice at a block's edge */
    SPAN_CHANNELS = 64,          /* of the groups of a task */
    IN_PLACE_CHANNELS = 192,     /* with more, pixels of a block lie so far apart that they evict each other from L1 */
    IN_PLACE_PIXELS = 96
};

/* How one group is laid out; computed from the shape alone. */
struct layout {
    int vectors, mr, nr; /* register tile */
    int row_channels;    /* input channels, or kernel * input channels where taps of a row are merged */
    bool merged;
    int taps_y, taps_x;
    int row_tiles, column_tiles;
    int padded_height, padded_width; /* of a whole map in panels */
    int64_t tile_floats;             /* sums of one register tile: taps * mr * nr */
    int64_t gradient_floats;         /* sums of one group */
    int span, spans;                 /* groups of a task with private sums, and how often that is */
    int chunks;                      /* > 0: private sums */
    bool in_place;                   /* pointwise, whole tiles, few channels: no panels, the maps are read where they are */
    int rows_per_block, images_per_block;
};

static struct layout layout_of(const struct conv_shape *s)
{
    struct layout l = {0};
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups;
    l.merged = in_group <= 4 && s->kernel > 1;
    l.row_channels = l.merged ? s->kernel * in_group : in_group;
    l.taps_y = s->kernel;
    l.taps_x = l.merged ? 1 : s->kernel;
    l.vectors = out_group > VEC_WIDTH ? 2 : 1;
    l.nr = l.vectors * VEC_WIDTH;
    if (l.vectors == 2)
        l.mr = MR_WIDE;
    else
        l.mr = divide_up(l.row_channels, MR_TALL) * MR_TALL < divide_up(l.row_channels, MR_NARROW) * MR_NARROW ? MR_TALL : MR_NARROW;
    l.row_tiles = divide_up(l.row_channels, l.mr);
    l.column_tiles = divide_up(out_group, l.nr);
    l.padded_height = (s->out_height - 1) * s->stride + (s->kernel - 1) * s->dilation + 1;
    l.padded_width = l.merged ? s->out_width : (s->out_width - 1) * s->stride + (s->kernel - 1) * s->dilation + 1;
    l.tile_floats = (int64_t)l.taps_y * l.taps_x * l.mr * l.nr;
    l.gradient_floats = l.tile_floats * l.row_tiles * l.column_tiles;
    l.span = out_group < SPAN_CHANNELS ? smaller(SPAN_CHANNELS / out_group, s->groups) : 1;
    l.spans = divide_up(s->groups, l.span);
    if (l.gradient_floats <= PRIVATE_FLOATS)
        l.chunks = smaller(divide_up(MAX_CHUNKS, l.spans), s->batch);
    l.in_place = l.chunks && s->kernel == 1 && s->stride == 1 && s->groups == 1 && in_group % l.mr == 0 && out_group % l.nr == 0
                 && in_group + out_group <= IN_PLACE_CHANNELS;
    int pixels = s->out_height * s->out_width, block = BLOCK_FLOATS / (l.row_tiles * l.mr + l.column_tiles * l.nr);
    block = block < BLOCK_PIXELS ? BLOCK_PIXELS : block;
    l.images_per_block = pixels < block ? divide_up(block, pixels) : 1;
    l.rows_per_block = pixels < block ? s->out_height : divide_up(block, s->out_width);
    return l;
}

/* Floats of the panels of `images` images with `rows` output rows each. */
static int64_t in_panel_floats(const struct conv_shape *s, const struct layout *l, int images, int rows)
{
    return aligned((int64_t)l->row_tiles * images * input_rows(s, rows) * l->padded_width * l->mr);
}

static int64_t out_panel_floats(const struct conv_shape *s, const struct layout *l, int images, int rows)
{
    return aligned((int64_t)l->column_tiles * images * rows * s->out_width * l->nr);
}

/* One padded row of plain channels: zeros, the map's pixels from column first_x on, zeros. Tile by tile, so that writes are in order. */
static void pack_row(const struct conv_shape *s, const struct layout *l, const float *row /* first pixel of the map's row, or NULL */,
                     int64_t pixel_stride, int64_t tile_stride, float *to)
{
    int in_group = s->in_channels / s->groups;
    int before = row ? s->padding : l->padded_width, inside = row ? s->in_width : 0;
    before = before < l->padded_width ? before : l->padded_width;
    inside = inside < l->padded_width - before ? inside : l->padded_width - before;
    int after = l->padded_width - before - inside;
    for (int tile = 0; tile < l->row_tiles; tile++) {
        int lanes = in_group - tile * l->mr < l->mr ? in_group - tile * l->mr : l->mr;
        const float *from = row ? row + tile * l->mr : NULL;
        float *pixel = to + tile * tile_stride;
        memset(pixel, 0, (size_t)before * (size_t)l->mr * sizeof(float));
        pixel += (int64_t)before * l->mr;
        if (lanes == l->mr && l->mr % VEC_WIDTH == 0)
            for (int x = 0; x < inside; x++, from += pixel_stride, pixel += l->mr)
                for (int i = 0; i < l->mr; i += VEC_WIDTH)
                    vec_store(pixel + i, vec_load(from + i));
        else if (lanes == MR_WIDE && l->mr == MR_WIDE)
            for (int x = 0; x < inside; x++, from += pixel_stride, pixel += MR_WIDE)
                memcpy(pixel, from, MR_WIDE * sizeof(float));
        else
            for (int x = 0; x < inside; x++, from += pixel_stride, pixel += l->mr) {
                memcpy(pixel, from, (size_t)lanes * sizeof(float));
                memset(pixel + lanes, 0, (size_t)(l->mr - lanes) * sizeof(float));
            }
        memset(pixel, 0, (size_t)after * (size_t)l->mr * sizeof(float));
    }
}

/* One row of the photograph: for every output column the window row's pixels, one after the other. */
static void pack_merged_row(const struct conv_shape *s, const struct layout *l, const float *row, int64_t pixel_stride, int64_t tile_stride,
                            float *to)
{
    int in_group = s->in_channels / s->groups;
    bool contiguous = pixel_stride == in_group && s->dilation == 1; /* a window row is a run of floats */
    for (int column = 0; column < l->padded_width; column++, to += l->mr) {
        int x = column * s->stride - s->padding;
        if (row && contiguous && x >= 0 && x + s->kernel <= s->in_width) {
            const float *from = row + (int64_t)x * in_group;
            for (int tile = 0; tile < l->row_tiles; tile++, from += l->mr)
                for (int i = 0; i < l->mr; i += VEC_WIDTH) {
                    int room = l->mr - i, lanes = l->row_channels - tile * l->mr - i;
                    room = room < VEC_WIDTH ? room : VEC_WIDTH;
                    lanes = lanes < 0 ? 0 : lanes < room ? lanes : room;
                    vec_store_first(to + tile * tile_stride + i, vec_load_first(from + i, lanes), room);
                }
            continue;
        }
        for (int tile = 0; tile < l->row_tiles; tile++)
            memset(to + tile * tile_stride, 0, (size_t)l->mr * sizeof(float));
        for (int kx = 0; row && kx < s->kernel; kx++) {
            int tap_x = x + kx * s->dilation;
            for (int i = 0; tap_x >= 0 && tap_x < s->in_width && i < in_group; i++) {
                int m = kx * in_group + i;
                to[m / l->mr * tile_stride + m % l->mr] = row[(int64_t)tap_x * pixel_stride + i];
            }
        }
    }
}

/* Lays out the input rows that output rows first_row .. first_row + rows - 1 of one image read, as image `slot` of `slots`. */
static void pack_in(const struct conv_shape *s, const struct layout *l, struct map_view in, int channel, int image, int first_row, int rows,
                    int slot, int slots, float *panel)
{
    int height = input_rows(s, rows);
    int64_t tile_stride = (int64_t)slots * height * l->padded_width * l->mr;
    for (int row = 0; row < height; row++) {
        int y = first_row * s->stride - s->padding + row;
        float *to = panel + ((int64_t)slot * height + row) * l->padded_width * l->mr;
        const float *from =
            y < 0 || y >= s->in_height ? NULL : in.data + ((int64_t)image * s->in_height + y) * s->in_width * in.pixel_stride + channel;
        (l->merged ? pack_merged_row : pack_row)(s, l, from, in.pixel_stride, tile_stride, to);
    }
}

static void pack_out(const struct conv_shape *s, const struct layout *l, struct map_view out, int channel, int image, int first_row,
                     int rows, int slot, int slots, float *panel)
{
    int out_group = s->out_channels / s->groups;
    int64_t pixels = (int64_t)rows * s->out_width, tile_stride = slots * pixels * l->nr;
    const float *from = out.data + ((int64_t)image * s->out_height + first_row) * s->out_width * out.pixel_stride + channel;
    float *to = panel + slot * pixels * l->nr;
    for (int64_t p = 0; p < pixels; p++, from += out.pixel_stride, to += l->nr)
        for (int tile = 0; tile < l->column_tiles; tile++)
            for (int v = 0; v < l->vectors; v++) {
                int first = tile * l->nr + v * VEC_WIDTH, lanes = out_group - first;
                float *vector_to = to + tile * tile_stride + v * VEC_WIDTH;
                if (lanes >= VEC_WIDTH)
                    vec_store(vector_to, vec_load(from + first));
                else
                    vec_store(vector_to, vec_load_first(from + first, lanes > 0 ? lanes : 0));
            }
}

static void multiply(const struct layout *l, const struct walk *w, float *sums)
{
    if (l->vectors == 2)
        multiply_tile(w, sums, MR_WIDE, 2);
    else if (l->mr == MR_NARROW)
        multiply_tile(w, sums, MR_NARROW, 1);
    else
        multiply_tile(w, sums, MR_TALL, 1);
}

/* All taps of one register tile over `images` images of `rows` output rows, from panels that start at `in` and `out`. */
static void multiply_taps(const struct conv_shape *s, const struct layout *l, const float *in, const float *out, int images, int rows,
                          float *sums)
{
    struct walk w = {.images = images, .rows = rows, .columns = s->out_width, .out_column = l->nr, .out = out};
    w.in_column = (int64_t)l->mr * (l->merged ? 1 : s->stride);
    w.in_row = (int64_t)s->stride * l->padded_width * l->mr;
    w.in_image = (int64_t)input_rows(s, rows) * l->padded_width * l->mr;
    if (s->kernel == 1 && s->stride == 1) { /* no halo: one long row */
        w.columns = images * rows * s->out_width;
        w.images = w.rows = 1;
    }
    for (int ky = 0; ky < l->taps_y; ky++)
        for (int kx = 0; kx < l->taps_x; kx++, sums += l->mr * l->nr) {
            w.in = in + ((int64_t)ky * s->dilation * l->padded_width + kx * s->dilation) * l->mr;
            multiply(l, &w, sums);
        }
}

/* Adds one register tile's sums of `copies` chunks, in order, to the weights' gradient. sums: (taps, mr, nr), changed. */
static void add_tile(const struct conv_shape *s, const struct layout *l, int group, int row_tile, int column_tile, float *sums, int copies,
                     int64_t copy_stride, float *gradient)
{
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups, taps = s->kernel * s->kernel;
    int first = column_tile * l->nr, lanes = out_group - first < l->nr ? out_group - first : l->nr;
    int rows = l->row_channels - row_tile * l->mr < l->mr ? l->row_channels - row_tile * l->mr : l->mr;

    for (int64_t at = 0; copies > 1 && at < l->tile_floats; at += VEC_WIDTH) {
        vec total = vec_load(sums + at);
        for (int copy = 1; copy < copies; copy++)
            total = total + vec_load(sums + copy * copy_stride + at);
        vec_store(sums + at, total);
    }
    for (int n = 0; n < lanes; n++)
        for (int m = 0; m < rows; m++) {
            int channel = row_tile * l->mr + m, kx = l->merged ? channel / in_group : 0, i = l->merged ? channel % in_group : channel;
            float *to = gradient + (((int64_t)group * out_group + first + n) * in_group + i) * taps;
            for (int tap = 0; tap < l->taps_y * l->taps_x; tap++)
                to[l->merged ? tap * s->kernel + kx : tap] += sums[((int64_t)tap * l->mr + m) * l->nr + n];
        }
}

struct job {
    const struct conv_weight_gradient_call *call;
    struct layout layout;
    int group;                          /* shared: the one that is done */
    float *sums, *in_panel, *out_panel; /* private: sums [chunk][group], panels [worker]; shared: sums [worker], panels of the batch */
    int64_t worker_floats;
};

/* A pointwise convolution's chunk from pixel `first` to `end`. */
static void multiply_in_place(const struct job *job, int64_t first, int64_t end, float *sums)
{
    const struct layout *l = &job->layout;
    const struct map_view *in = &job->call->in, *out = &job->call->out_gradient;

    for (int64_t pixel = first; pixel < end; pixel += IN_PLACE_PIXELS)
        for (int column_tile = 0; column_tile < l->column_tiles; column_tile++)
            for (int row_tile = 0; row_tile < l->row_tiles; row_tile++) {
                struct walk w = {.images = 1,
                                 .rows = 1,
                                 .columns = end - pixel < IN_PLACE_PIXELS ? (int)(end - pixel) : IN_PLACE_PIXELS,
                                 .in_column = in->pixel_stride,
                                 .out_column = out->pixel_stride,
                                 .in = in->data + pixel * in->pixel_stride + row_tile * l->mr,
                                 .out = out->data + pixel * out->pixel_stride + column_tile * l->nr};
                multiply(l, &w, sums + ((int64_t)column_tile * l->row_tiles + row_tile) * l->tile_floats);
            }
}

/* What `images` images from `image` on, output rows from `row` on, add to the sums of a group. */
static void add_block(const struct job *job, int group, int image, int images, int row, int worker, float *sums)
{
    const struct layout *l = &job->layout;
    const struct conv_shape *s = job->call->shape;
    int channel_in = group * (s->in_channels / s->groups), channel_out = group * (s->out_channels / s->groups);
    int rows = smaller(s->out_height - row, l->rows_per_block);
    float *in_panel = job->in_panel + worker * job->worker_floats;
    float *out_panel = in_panel + in_panel_floats(s, l, l->images_per_block, l->rows_per_block);
    int64_t in_tile = (int64_t)images * input_rows(s, rows) * l->padded_width * l->mr,
            out_tile = (int64_t)images * rows * s->out_width * l->nr;

    for (int slot = 0; slot < images; slot++) {
        pack_in(s, l, job->call->in, channel_in, image + slot, row, rows, slot, images, in_panel);
        pack_out(s, l, job->call->out_gradient, channel_out, image + slot, row, rows, slot, images, out_panel);
    }
    for (int column_tile = 0; column_tile < l->column_tiles; column_tile++)
        for (int row_tile = 0; row_tile < l->row_tiles; row_tile++, sums += l->tile_floats)
            multiply_taps(s, l, in_panel + row_tile * in_tile, out_panel + column_tile * out_tile, images, rows, sums);
}

/* A chunk of images, some of the groups. */
static void private_task(void *context, int task, int worker)
{
    const struct job *job = context;
    const struct layout *l = &job->layout;
    const struct conv_shape *s = job->call->shape;
    int chunk = task / l->spans, first_group = task % l->spans * l->span, end_group = smaller(first_group + l->span, s->groups);
    int first = first_image(s, chunk, l->chunks), end = first_image(s, chunk + 1, l->chunks);
    float *sums = job->sums + ((int64_t)chunk * s->groups + first_group) * l->gradient_floats;

    memset(sums, 0, (size_t)((end_group - first_group) * l->gradient_floats) * sizeof(float));
    if (l->in_place) {
        int64_t pixels = (int64_t)s->out_height * s->out_width;
        multiply_in_place(job, first * pixels, end * pixels, sums);
        return;
    }
    for (int image = first; image < end; image += l->images_per_block)
        for (int row = 0; row < s->out_height; row += l->rows_per_block)
            for (int group = first_group; group < end_group; group++)
                add_block(job, group, image, smaller(end - image, l->images_per_block), row, worker,
                          sums + (group - first_group) * l->gradient_floats);
}

/* A column tile of a group. */
static void add_task(void *context, int task, int worker)
{
    const struct job *job = context;
    const struct layout *l = &job->layout;
    const struct conv_shape *s = job->call->shape;
    int group = task / l->column_tiles, column_tile = task % l->column_tiles;
    (void)worker;
    for (int row_tile = 0; row_tile < l->row_tiles; row_tile++)
        add_tile(s, l, group, row_tile, column_tile,
                 job->sums + group * l->gradient_floats + ((int64_t)column_tile * l->row_tiles + row_tile) * l->tile_floats, l->chunks,
                 s->groups * l->gradient_floats, job->call->weight_gradient);
}

static void shared_pack_task(void *context, int image, int worker)
{
    const struct job *job = context;
    const struct conv_shape *s = job->call->shape;
    (void)worker;
    pack_in(s, &job->layout, job->call->in, job->group * (s->in_channels / s->groups), image, 0, s->out_height, image, s->batch,
            job->in_panel);
    pack_out(s, &job->layout, job->call->out_gradient, job->group * (s->out_channels / s->groups), image, 0, s->out_height, image, s->batch,
             job->out_panel);
}

/* A column tile: every row tile over the whole batch, blocks of images at a time so that a block serves all taps from L1. */
static void shared_task(void *context, int column_tile, int worker)
{
    const struct job *job = context;
    const struct layout *l = &job->layout;
    const struct conv_shape *s = job->call->shape;
    float *sums = job->sums + worker * aligned(l->tile_floats);
    int64_t in_image = (int64_t)l->padded_height * l->padded_width * l->mr, out_image = (int64_t)s->out_height * s->out_width * l->nr;

    for (int row_tile = 0; row_tile < l->row_tiles; row_tile++) {
        memset(sums, 0, (size_t)l->tile_floats * sizeof(float));
        for (int image = 0; image < s->batch; image += l->images_per_block) {
            int images = s->batch - image < l->images_per_block ? s->batch - image : l->images_per_block;
            multiply_taps(s, l, job->in_panel + ((int64_t)row_tile * s->batch + image) * in_image,
                          job->out_panel + ((int64_t)column_tile * s->batch + image) * out_image, images, s->out_height, sums);
        }
        add_tile(s, l, job->group, row_tile, column_tile, sums, 1, 0, job->call->weight_gradient);
    }
}

static bool supports_all(const struct conv_shape *s)
{
    (void)s;
    return true;
}

static size_t panels_scratch_bytes(const struct conv_shape *s, int threads)
{
    struct layout l = layout_of(s);
    int64_t floats;

    if (l.chunks)
        floats =
            aligned(l.gradient_floats * s->groups * l.chunks)
            + (in_panel_floats(s, &l, l.images_per_block, l.rows_per_block) + out_panel_floats(s, &l, l.images_per_block, l.rows_per_block))
                  * threads;
    else
        floats = aligned(l.tile_floats) * threads + in_panel_floats(s, &l, s->batch, s->out_height)
                 + out_panel_floats(s, &l, s->batch, s->out_height);
    return (size_t)floats * sizeof(float);
}

static void panels_gradient(const struct conv_weight_gradient_call *call)
{
    const struct conv_shape *s = call->shape;
    struct job job = {.call = call, .layout = layout_of(s)};
    const struct layout *l = &job.layout;
    job.sums = call->scratch;
    if (l->chunks) {
        job.in_panel = job.sums + aligned(l->gradient_floats * s->groups * l->chunks);
        job.worker_floats =
            in_panel_floats(s, l, l->images_per_block, l->rows_per_block) + out_panel_floats(s, l, l->images_per_block, l->rows_per_block);
        thread_pool_run(call->pool, private_task, &job, l->chunks * l->spans);
        thread_pool_run(call->pool, add_task, &job, s->groups * l->column_tiles);
        return;
    }
    job.in_panel = job.sums + aligned(l->tile_floats) * thread_pool_size(call->pool);
    job.out_panel = job.in_panel + in_panel_floats(s, l, s->batch, s->out_height);
    for (job.group = 0; job.group < s->groups; job.group++) {
        thread_pool_run(call->pool, shared_pack_task, &job, s->batch);
        thread_pool_run(call->pool, shared_task, &job, l->column_tiles);
    }
}

/* ---- entry ---- */

/* The first that supports a shape takes it. */
static const struct way {
    bool winograd;
    bool (*supports)(const struct conv_shape *shape);
    size_t (*scratch_bytes)(const struct conv_shape *shape, int threads);
    void (*run)(const struct conv_weight_gradient_call *call);
} ways[] = {
    {false, narrow_groups, ISA_NAME(groups_gradient_scratch_bytes), ISA_NAME(groups_gradient)},
    {true, ISA_NAME(winograd_gradient_supports), ISA_NAME(winograd_gradient_scratch_bytes), ISA_NAME(winograd_gradient)},
    {true, ISA_NAME(stride2_gradient_supports), ISA_NAME(stride2_gradient_scratch_bytes), ISA_NAME(stride2_gradient)},
    {true, ISA_NAME(stem_gradient_supports), ISA_NAME(stem_gradient_scratch_bytes), ISA_NAME(stem_gradient)},
    {false, ISA_NAME(rows_gradient_supports), ISA_NAME(rows_gradient_scratch_bytes), ISA_NAME(rows_gradient)},
    {false, ISA_NAME(pointwise_gradient_supports), ISA_NAME(pointwise_gradient_scratch_bytes), ISA_NAME(pointwise_gradient)},
    {false, supports_all, panels_scratch_bytes, panels_gradient},
};

static const struct way *way_of(const struct conv_shape *shape, bool exact)
{
    const struct way *way = ways;

    while ((exact && way->winograd) || !way->supports(shape))
        way++;
    return way;
}

/* Enough for both. */
size_t ISA_NAME(conv_weight_gradient_scratch_bytes)(const struct conv_shape *shape, int threads)
{
    size_t exact = way_of(shape, true)->scratch_bytes(shape, threads), any = way_of(shape, false)->scratch_bytes(shape, threads);
    return exact > any ? exact : any;
}

void ISA_NAME(conv_weight_gradient)(const struct conv_weight_gradient_call *call)
{
    way_of(call->shape, call->exact)->run(call);
}
