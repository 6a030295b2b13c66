/* dense.c - a prediction for every pixel of a photograph of any size.
 *
 * A photograph is cut into tiles no larger than memory allows, which overlap; each pixel is taken from the tile in whose
 * inside it lies deepest. A tile is looked at once for every scale, plain and, if wanted, mirrored:
 *
 *     result(y, x, c) = sum over scales and mirrorings of  enlarge( log p( network( reduce(tile) ) ) )(y, x, c)
 *
 * as the paper's multi-scale test does; the sum's largest class wins. All tiles are of one size, so one plan a scale serves
 * the whole photograph, and the next one of the same size.
 */
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "image/preprocess.h"
#include "image/resize.h"
#include "plan/device.h"

#include <math.h>
#include <string.h>

enum { SMALLEST_SIDE = 32, MAX_SCALES = 16 };

/* A plan for one scale of the current tile size. */
struct scaled_session {
    double scale;
    int height, width;               /* of the network's input */
    dla_session *session;            /* NULL: not made yet */
    float *input;                    /* (height, width, 3) */
    float *output;                   /* (height, width, classes) */
    uint8_t *pixels;                 /* (height, width, 3) */
};

struct dla_dense {
    const dla_model *model;
    dla_dense_options options;
    int classes;
    float normalisation[3][256];
    struct scaled_session scaled[MAX_SCALES];
    int scale_count;
    int tile_height, tile_width;     /* that the plans are for */
    float *sum;                      /* (tile_height, tile_width, classes) */
};

static dla_status check_options(const dla_dense_options *options)
{
    if (options->tile < 2 * SMALLEST_SIDE || options->tile > 1 << 14)
        return status_set(DLA_ERROR_ARGUMENT, "tile is %d, legal is 64 to 16384", options->tile);
    if (options->margin < 0 || options->margin > (options->tile - SMALLEST_SIDE) / 2)
        return status_set(DLA_ERROR_ARGUMENT, "margin is %d, legal is 0 to %d for tiles of %d", options->margin, (options->tile - SMALLEST_SIDE) / 2, options->tile);
    if (options->scale_count > MAX_SCALES)
        return status_set(DLA_ERROR_ARGUMENT, "%zu scales: at most %d", options->scale_count, MAX_SCALES);
    for (size_t i = 0; i < options->scale_count; i++)
        if (!(options->scales[i] >= 0.1 && options->scales[i] <= 4))
            return status_set(DLA_ERROR_ARGUMENT, "scale %g: legal is 0.1 to 4", options->scales[i]);
    return device_check(options->device, options->precision);
}

dla_status dla_dense_create(const dla_model *model, const dla_dense_options *given, dla_dense **result)
{
    dla_dense_options options = DLA_DENSE_OPTIONS_INIT;
    const dla_architecture *architecture = dla_network_architecture(dla_model_network(model));
    const dla_preprocessing *preprocessing = dla_model_preprocessing(model);
    dla_dense *dense;
    dla_status status;

    status = options_take(&options, sizeof options, given, "DLA_DENSE_OPTIONS_INIT");
    if (status == DLA_OK)
        status = check_options(&options);
    if (status != DLA_OK)
        return status;
    if (architecture->down_ratio == 0)
        return status_set(DLA_ERROR_ARGUMENT, "%s classifies whole photographs; a class for every pixel needs a network with DLA-Up, such as dla34up", architecture->name);
    if (architecture->in_channels != 3)
        return status_set(DLA_ERROR_ARGUMENT, "%s takes %d channels, photographs have 3", architecture->name, architecture->in_channels);
    dense = memory_allocate_zeroed(1, sizeof *dense);
    if (!dense)
        return status_out_of_memory(sizeof *dense, "dense prediction");
    dense->model = model;
    dense->options = options;
    dense->classes = architecture->num_classes;
    normalisation_table(preprocessing->mean, preprocessing->std, dense->normalisation);
    dense->scale_count = options.scale_count > 0 ? (int)options.scale_count : 1;
    for (int i = 0; i < dense->scale_count; i++)
        dense->scaled[i].scale = options.scale_count > 0 ? options.scales[i] : 1;
    dense->options.scales = NULL; /* copied; the caller's may go */
    *result = dense;
    return DLA_OK;
}

static void release_plans(dla_dense *dense)
{
    for (int i = 0; i < dense->scale_count; i++) {
        struct scaled_session *scaled = &dense->scaled[i];
        dla_session_destroy(scaled->session);
        memory_free(scaled->input);
        memory_free(scaled->output);
        memory_free(scaled->pixels);
        *scaled = (struct scaled_session){ .scale = scaled->scale };
    }
    memory_free(dense->sum);
    dense->sum = NULL;
    dense->tile_height = dense->tile_width = 0;
}

void dla_dense_destroy(dla_dense *dense)
{
    if (!dense)
        return;
    release_plans(dense);
    memory_free(dense);
}

int dla_dense_class_count(const dla_dense *dense)
{
    return dense->classes;
}

static int scaled_side(int side, double scale)
{
    int scaled = (int)lround(side * scale);
    return scaled < SMALLEST_SIDE ? SMALLEST_SIDE : scaled;
}

static dla_status make_plan(dla_dense *dense, struct scaled_session *scaled)
{
    dla_session_options options = DLA_SESSION_OPTIONS_INIT;
    size_t pixels;

    scaled->height = options.height = scaled_side(dense->tile_height, scaled->scale);
    scaled->width = options.width = scaled_side(dense->tile_width, scaled->scale);
    options.threads = dense->options.threads;
    options.exact = dense->options.exact;
    options.device = dense->options.device;
    options.precision = dense->options.precision;
    pixels = (size_t)scaled->height * (size_t)scaled->width;
    scaled->input = memory_allocate(pixels * 3 * sizeof *scaled->input);
    scaled->output = memory_allocate(pixels * (size_t)dense->classes * sizeof *scaled->output);
    scaled->pixels = memory_allocate(pixels * 3);
    if (!scaled->input || !scaled->output || !scaled->pixels)
        return status_out_of_memory(pixels * (size_t)dense->classes * sizeof *scaled->output, "a tile; smaller ones (--tile) need less");
    return dla_session_create(dense->model, &options, &scaled->session);
}

static dla_status prepare_plans(dla_dense *dense, int height, int width)
{
    dla_status status = DLA_OK;
    size_t elements = (size_t)height * (size_t)width * (size_t)dense->classes;

    if (dense->tile_height == height && dense->tile_width == width)
        return DLA_OK;
    release_plans(dense);
    dense->tile_height = height;
    dense->tile_width = width;
    dense->sum = memory_allocate(elements * sizeof *dense->sum);
    if (!dense->sum)
        status = status_out_of_memory(elements * sizeof *dense->sum, "a tile; smaller ones (--tile) need less");
    for (int i = 0; status == DLA_OK && i < dense->scale_count; i++)
        status = make_plan(dense, &dense->scaled[i]);
    if (status != DLA_OK)
        release_plans(dense);
    return status;
}

/* Pixels of the tile at the plan's size, normalised; mirrored if wanted. */
static dla_status fill_input(const dla_dense *dense, const struct scaled_session *scaled, const dla_image *image, int top, int left, bool mirrored)
{
    struct resize_shape shape = resize_whole(dla_image_height(image), dla_image_width(image), 3, scaled->height, scaled->width, DLA_INTERPOLATION_BILINEAR);
    dla_status status;

    shape.box = (struct resize_box){ (float)left, (float)top, (float)(left + dense->tile_width), (float)(top + dense->tile_height) };
    status = image_resize(&shape, dla_image_pixels(image), scaled->pixels);
    if (status != DLA_OK)
        return status;
    for (int y = 0; y < scaled->height; y++)
        for (int x = 0; x < scaled->width; x++) {
            int from = mirrored ? scaled->width - 1 - x : x;
            const uint8_t *pixel = scaled->pixels + 3 * ((size_t)y * (size_t)scaled->width + (size_t)from);
            float *to = scaled->input + 3 * ((size_t)y * (size_t)scaled->width + (size_t)x);
            for (int c = 0; c < 3; c++)
                to[c] = dense->normalisation[c][pixel[c]];
        }
    return DLA_OK;
}

/* Where output pixel i of `size` lies between the pixels of a map of `from`: lower index and the part of the upper one. */
static int source_pixel(int i, int size, int from, float *part)
{
    float at = ((float)i + 0.5f) * (float)from / (float)size - 0.5f;
    int lower;

    if (at < 0)
        at = 0;
    lower = (int)at;
    if (lower > from - 1)
        lower = from - 1;
    *part = lower + 1 < from ? at - (float)lower : 0;
    return lower;
}

/* Adds the network's map, brought back to the tile's size by bilinear interpolation. */
static void add_enlarged(dla_dense *dense, const struct scaled_session *scaled, bool mirrored)
{
    const size_t classes = (size_t)dense->classes, row = (size_t)scaled->width * classes;

    for (int y = 0; y < dense->tile_height; y++) {
        float down;
        int y0 = source_pixel(y, dense->tile_height, scaled->height, &down);
        const float *upper = scaled->output + (size_t)y0 * row, *lower = down > 0 ? upper + row : upper;
        for (int x = 0; x < dense->tile_width; x++) {
            float *sum = dense->sum + ((size_t)y * (size_t)dense->tile_width + (size_t)x) * classes;
            float right;
            int x0 = source_pixel(mirrored ? dense->tile_width - 1 - x : x, dense->tile_width, scaled->width, &right);
            size_t a = (size_t)x0 * classes, b = right > 0 ? a + classes : a;
            for (size_t c = 0; c < classes; c++)
                sum[c] += (upper[a + c] * (1 - right) + upper[b + c] * right) * (1 - down) + (lower[a + c] * (1 - right) + lower[b + c] * right) * down;
        }
    }
}

/* Fills dense->sum for the tile whose corner is at (top, left). */
static dla_status predict_tile(dla_dense *dense, const dla_image *image, int top, int left)
{
    memset(dense->sum, 0, (size_t)dense->tile_height * (size_t)dense->tile_width * (size_t)dense->classes * sizeof *dense->sum);
    for (int i = 0; i < dense->scale_count; i++)
        for (int mirrored = 0; mirrored <= (dense->options.flip ? 1 : 0); mirrored++) {
            struct scaled_session *scaled = &dense->scaled[i];
            dla_status status = fill_input(dense, scaled, image, top, left, mirrored);
            if (status == DLA_OK)
                status = dla_session_run(scaled->session, DLA_LAYOUT_NHWC, scaled->input, &scaled->output);
            if (status != DLA_OK)
                return status;
            add_enlarged(dense, scaled, mirrored);
        }
    return DLA_OK;
}

/* Tiles along one side: evenly spread, of one length, overlapping by two margins or more. */
struct tiling { int side, length, count; };

static struct tiling tile_side(int side, int tile, int margin)
{
    struct tiling tiling = { side, side, 1 };
    if (side > tile) {
        tiling.length = tile;
        tiling.count = (side - 2 * margin + tile - 2 * margin - 1) / (tile - 2 * margin);
    }
    return tiling;
}

static int tile_start(struct tiling tiling, int index)
{
    return tiling.count == 1 ? 0 : (int)((int64_t)(tiling.side - tiling.length) * index / (tiling.count - 1));
}

/* First pixel that is taken from tile `index`: the middle of its overlap with the one before. */
static int tile_core(struct tiling tiling, int index)
{
    if (index == 0)
        return 0;
    if (index == tiling.count)
        return tiling.side;
    return (tile_start(tiling, index) + tile_start(tiling, index - 1) + tiling.length) / 2;
}

/* What becomes of a pixel's summed log-probabilities. */
struct result {
    uint8_t *labels;                 /* (height, width), or NULL */
    float *probability;              /* (height, width), or NULL */
    int index;                       /* the class whose probability is wanted */
};

static int most_probable(const float *sum, int classes)
{
    int best = 0;
    for (int c = 1; c < classes; c++)
        if (sum[c] > sum[best])
            best = c;
    return best;
}

/* Softmax of the mean log-probability. */
static float probability_of(const float *sum, int classes, int index, int looks)
{
    double total = 0, largest = sum[most_probable(sum, classes)];
    for (int c = 0; c < classes; c++)
        total += exp((sum[c] - largest) / looks);
    return (float)(exp((sum[index] - largest) / looks) / total);
}

static void take_core(const dla_dense *dense, const struct result *result, int image_width, int top, int left, int y0, int y1, int x0, int x1)
{
    const int looks = dense->scale_count * (dense->options.flip ? 2 : 1);

    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const float *sum = dense->sum + ((size_t)(y - top) * (size_t)dense->tile_width + (size_t)(x - left)) * (size_t)dense->classes;
            size_t at = (size_t)y * (size_t)image_width + (size_t)x;
            if (result->labels)
                result->labels[at] = (uint8_t)most_probable(sum, dense->classes);
            if (result->probability)
                result->probability[at] = probability_of(sum, dense->classes, result->index, looks);
        }
}

static dla_status predict(dla_dense *dense, const dla_image *image, const struct result *result)
{
    const int height = dla_image_height(image), width = dla_image_width(image);
    const struct tiling down = tile_side(height, dense->options.tile, dense->options.margin);
    const struct tiling across = tile_side(width, dense->options.tile, dense->options.margin);
    dla_status status;

    if (height < SMALLEST_SIDE || width < SMALLEST_SIDE)
        return status_set(DLA_ERROR_ARGUMENT, "a photograph of %dx%d (height x width): the network's stride of 32 needs at least 32x32; enlarge it", height, width);
    status = prepare_plans(dense, down.length, across.length);
    for (int i = 0; status == DLA_OK && i < down.count; i++)
        for (int j = 0; status == DLA_OK && j < across.count; j++) {
            int top = tile_start(down, i), left = tile_start(across, j);
            status = predict_tile(dense, image, top, left);
            if (status == DLA_OK)
                take_core(dense, result, width, top, left, tile_core(down, i), tile_core(down, i + 1), tile_core(across, j), tile_core(across, j + 1));
        }
    return status;
}

dla_status dla_dense_classes(dla_dense *dense, const dla_image *image, uint8_t *labels)
{
    if (dense->classes > 256)
        return status_set(DLA_ERROR_ARGUMENT, "the network has %d classes, a map of bytes holds 256", dense->classes);
    return predict(dense, image, &(struct result){ .labels = labels });
}

dla_status dla_dense_probability(dla_dense *dense, const dla_image *image, int index, float *probability)
{
    if (index < 0 || index >= dense->classes)
        return status_set(DLA_ERROR_ARGUMENT, "class %d: the network has classes 0 to %d", index, dense->classes - 1);
    return predict(dense, image, &(struct result){ .probability = probability, .index = index });
}
