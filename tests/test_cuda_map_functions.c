/* The GPU's functions on maps agree with the processor's reference, in all formats, also where vectors and views do not divide the sizes.
 *
 * A fault is printed, one line each, and the rest goes on, so that one run tells everything. Skipped (77) where there is no GPU. */
#include "cuda_maps.h"

struct map_case {
    const char *name;
    map_function *const *reference;
    cuda_map_function *function;
    int batch, height, width, channels, out_height, out_width, kernel, stride, padding;
    int dilation;            /* 0: 1 */
    int in_channels, groups; /* of transposed convolution; 0: depthwise */
    const char *why;
};

#define FUNCTION(name) #name, &map_reference.name, cuda_##name

static const struct map_case map_cases[] = {
    {FUNCTION(max_pool), 1, 8, 8, 32, 4, 4, 2, 2, 0, .why = "even"},
    {FUNCTION(max_pool), 2, 7, 9, 19, 4, 5, 2, 2, 0, .why = "ceil mode: the last window hangs over"},
    {FUNCTION(max_pool), 2, 15, 13, 64, 8, 7, 2, 2, 0, .why = "ceil mode in vectors"},
    {FUNCTION(max_pool), 1, 1, 1, 5, 1, 1, 2, 2, 0, .why = "a window with one pixel inside"},
    {FUNCTION(max_pool), 3, 9, 11, 24, 5, 6, 3, 2, 1, .why = "kernel 3, padding 1"},
    {FUNCTION(max_pool), 1, 7, 6, 21, 7, 6, 2, 1, 0, .dilation = 2, .why = "an output stride of 8: nothing is dropped"},
    {FUNCTION(average_pool), 1, 7, 3, 21, 7, 3, 3, 1, 2, .dilation = 2, .why = "dilated over both edges"},
    {FUNCTION(average_pool), 2, 9, 8, 20, 5, 4, 3, 2, 1, .why = "padding counts in the divisor"},
    {FUNCTION(average_pool), 1, 1, 3, 28, 1, 2, 3, 2, 1, .why = "one row"},
    {FUNCTION(global_average_pool), 3, 7, 7, 70, 1, 1, 7, 1, 0, .why = "channels past the last block"},
    {FUNCTION(global_average_pool), 1, 3, 11, 512, 1, 1, 3, 1, 0, .why = "not square"},
    {FUNCTION(global_average_pool), 5, 1, 1, 3, 1, 1, 1, 1, 0, .why = "one pixel: most warps have none"},
    {FUNCTION(global_average_pool), 2, 40, 31, 1028, 1, 1, 1, 1, 0, .why = "many pixels, a last block of one vector"},
    {FUNCTION(add), 2, 5, 6, 28, 5, 6, 1, 1, 0, .why = "a Res2Net slice plus the chain"},
    {FUNCTION(add), 3, 14, 14, 256, 14, 14, 1, 1, 0, .why = "rows of several blocks"},
    {FUNCTION(add), 1, 3, 5, 1, 3, 5, 1, 1, 0, .why = "one channel"},
    {FUNCTION(scale_shift), 1, 5, 6, 21, 5, 6, 1, 1, 0, .why = "tail"},
    {FUNCTION(scale_shift), 2, 9, 33, 16, 9, 33, 1, 1, 0, .why = "two vectors"},
    {FUNCTION(relu), 2, 3, 3, 17, 3, 3, 1, 1, 0, .why = "tail of one"},
    {FUNCTION(relu), 1, 13, 17, 40, 13, 17, 1, 1, 0, .why = "whole vectors"},
    {FUNCTION(relu), 70000, 1, 1, 3, 1, 1, 1, 1, 0, .why = "more images than a grid is high"},
    {FUNCTION(copy), 2, 6, 8, 13, 5, 7, 1, 1, 0, .why = "crop"},
    {FUNCTION(copy), 2, 6, 8, 72, 5, 7, 1, 1, 0, .why = "crop in vectors"},
    {FUNCTION(copy), 1, 14, 15, 112, 14, 15, 1, 1, 0, .why = "all of it"},
    {FUNCTION(transposed_conv), 1, 5, 7, 35, 10, 14, 4, 2, 1, .why = "upsampling by 2"},
    {FUNCTION(transposed_conv), 2, 5, 7, 64, 10, 14, 4, 2, 1, .why = "upsampling by 2 in vectors"},
    {FUNCTION(transposed_conv), 2, 3, 2, 19, 24, 16, 16, 8, 4, .why = "upsampling by 8"},
    {FUNCTION(transposed_conv), 2, 3, 5, 37, 5, 9, 4, 2, 1, .why = "upsampling by 2, the last row and column cut off"},
    {FUNCTION(transposed_conv), 1, 2, 3, 16, 5, 9, 8, 4, 2, .why = "upsampling by 4, cut inside of a phase"},
    {FUNCTION(transposed_conv), 1, 1, 1, 48, 2, 2, 4, 2, 1, .why = "a map of one pixel: one row, no neighbour"},
    {FUNCTION(transposed_conv), 1, 3, 4, 5, 6, 8, 3, 2, 1, .why = "a window that is not twice the stride"},
    {FUNCTION(transposed_conv), 2, 3, 4, 24, 6, 8, 4, 2, 1, .in_channels = 20, .groups = 1, .why = "all inputs to all outputs"},
    {FUNCTION(transposed_conv), 1, 3, 4, 24, 6, 8, 4, 2, 1, .in_channels = 16, .groups = 4, .why = "groups, fewer inputs than outputs"},
    {FUNCTION(transposed_conv), 1, 4, 3, 12, 9, 7, 3, 2, 0, .in_channels = 24, .groups = 12, .why = "two inputs an output"},
    {FUNCTION(log_softmax), 2, 3, 4, 19, 3, 4, 1, 1, 0, .why = "19 classes, less than a warp"},
    {FUNCTION(log_softmax), 1, 2, 37, 2, 2, 37, 1, 1, 0, .why = "boundaries, pixels past the last block"},
    {FUNCTION(log_softmax), 1, 1, 17, 300, 1, 17, 1, 1, 0, .why = "many classes, a tail"},
    {FUNCTION(log_softmax), 1, 3, 5, 32, 3, 5, 1, 1, 0, .why = "a warp of classes"},
    {FUNCTION(log_softmax), 1, 1, 3, 1, 1, 3, 1, 1, 0, .why = "one class: log 1"},
};

enum place { APART, OVER_IN, OVER_OTHER, PLACES }; /* where the result goes */
static const char *const place_names[PLACES] = {"apart", "over its input", "over its second input"};

/* One case in one format: its operands, and the result that is expected of them. */
struct map_fixture {
    const struct map_case *c;
    enum cuda_format format;
    bool relu;
    int in_channels, groups;
    float *in, *other;             /* (batch, height, width, in_channels) */
    float *weight, *scale, *shift; /* as in map_call */
    float *expected;               /* (batch, out_height, out_width, channels) */
    void *device_weight, *device_scale, *device_shift;
};

static struct map_fixture map_fixture_create(const struct map_case *c, enum cuda_format format, bool relu)
{
    struct map_fixture f = {.c = c, .format = format, .relu = relu};
    int64_t in_pixels = (int64_t)c->batch * c->height * c->width, out_pixels = (int64_t)c->batch * c->out_height * c->out_width;

    f.in_channels = c->in_channels ? c->in_channels : c->channels;
    f.groups = c->groups ? c->groups : c->channels;
    int64_t weights = (int64_t)c->kernel * c->kernel * f.in_channels * (c->channels / f.groups);
    f.in = random_floats(in_pixels * f.in_channels, 3, format, 3.0f);
    f.other = random_floats(in_pixels * f.in_channels, 4, format, 3.0f);
    f.weight = random_floats(weights, 5, CUDA_FLOAT32, 1.0f);
    f.scale = random_floats(c->channels, 6, CUDA_FLOAT32, 2.0f);
    f.shift = random_floats(c->channels, 7, CUDA_FLOAT32, 1.0f);
    f.expected = allocate_floats(out_pixels * c->channels);
    f.device_weight = device_copy(f.weight, (size_t)weights * sizeof(float));
    f.device_scale = device_copy(f.scale, (size_t)c->channels * sizeof(float));
    f.device_shift = device_copy(f.shift, (size_t)c->channels * sizeof(float));

    struct map_call call = {
        .batch = c->batch,
        .channels = c->channels,
        .in_height = c->height,
        .in_width = c->width,
        .out_height = c->out_height,
        .out_width = c->out_width,
        .kernel = c->kernel,
        .stride = c->stride,
        .padding = c->padding,
        .dilation = c->dilation ? c->dilation : 1,
        .in = {f.in, f.in_channels},
        .other = {f.other, f.in_channels},
        .in_channels = f.in_channels,
        .groups = f.groups,
        .weight = f.weight,
        .scale = f.scale,
        .shift = c->batch == 2 ? NULL : f.shift,
        .out = {f.expected, c->channels},
        .relu = relu,
    };
    if (c->function == cuda_scale_shift)
        call.shift = f.shift;
    (*c->reference)(&call);
    return f;
}

static void map_fixture_free(struct map_fixture *f)
{
    free(f->in);
    free(f->other);
    free(f->weight);
    free(f->scale);
    free(f->shift);
    free(f->expected);
    cuda_free(f->device_weight);
    cuda_free(f->device_scale);
    cuda_free(f->device_shift);
}

/* Whether the result was as expected. */
static bool check_map_function(const struct map_fixture *f, enum layout in_layout, enum layout out_layout, enum place place)
{
    const struct map_case *c = f->c;
    int64_t in_pixels = (int64_t)c->batch * c->height * c->width, out_pixels = (int64_t)c->batch * c->out_height * c->out_width;
    struct map in = map_create(f->format, in_pixels, f->in_channels, in_layout, 0, f->in);
    struct map other = map_create(f->format, in_pixels, f->in_channels, in_layout, 8, f->other);
    struct map apart = map_create(f->format, out_pixels, c->channels, out_layout, 0, NULL);
    struct map *out = place == OVER_IN ? &in : place == OVER_OTHER ? &other : &apart;
    struct cuda_map_call call = {
        .format = f->format,
        .batch = c->batch,
        .channels = c->channels,
        .in_height = c->height,
        .in_width = c->width,
        .out_height = c->out_height,
        .out_width = c->out_width,
        .kernel = c->kernel,
        .stride = c->stride,
        .padding = c->padding,
        .dilation = c->dilation ? c->dilation : 1,
        .in = map_view_of(&in),
        .other = map_view_of(&other),
        .in_channels = f->in_channels,
        .groups = f->groups,
        .weight = f->device_weight,
        .scale = f->device_scale,
        .shift = c->batch == 2 && c->function != cuda_scale_shift ? NULL : f->device_shift,
        .out = map_view_of(out),
        .relu = f->relu,
    };
    char where[256];
    snprintf(where, sizeof where, "%s, %s, %s%s, %s to %s, %s", c->name, c->why, format_names[f->format], f->relu ? ", relu" : "",
             layout_names[in_layout], layout_names[out_layout], place_names[place]);

    c->function(&call, stream);
    const char *error = launch_error(cudaSuccess);
    bool right = !error;
    if (error) {
        printf("FAULT %s: %s\n", where, error);
        stop_if_lost(where);
    } else {
        check_cuda(cudaMemcpy(out->host, out->device, out->bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
        struct difference d = map_compare(out, f->expected);
        right = d.missing == 0 && d.foreign == 0 && d.excess <= 5e-6 * (1.0 + d.largest);
        if (!right)
            printf("FAULT %s: off by %g of %g at pixel %lld channel %d, %lld elements missing, %lld foreign bytes written\n", where,
                   d.error, d.largest, (long long)d.pixel, d.channel, (long long)d.missing, (long long)d.foreign);
    }
    map_free(&in);
    map_free(&other);
    map_free(&apart);
    return right;
}

static void map_functions_agree_with_the_reference(void **state)
{
    static const enum layout layouts[][2] = {{WIDE, WIDE}, {TIGHT, TIGHT}, {QUARTERS, WIDE}, {WIDE, QUARTERS}, {ODD, ODD}, {WIDE, ODD}};
    int faults = 0;

    (void)state;
    for (size_t i = 0; i < sizeof map_cases / sizeof *map_cases; i++) {
        cuda_map_function *function = map_cases[i].function;
        bool has_relu = function == cuda_add || function == cuda_scale_shift;
        bool over_in = has_relu || function == cuda_relu || function == cuda_log_softmax;
        for (int format = 0; format < FORMATS; format++)
            for (int relu = 0; relu <= (has_relu ? 1 : 0); relu++) {
                struct map_fixture f = map_fixture_create(&map_cases[i], (enum cuda_format)format, relu == 1);
                for (size_t k = 0; k < sizeof layouts / sizeof *layouts; k++) {
                    faults += !check_map_function(&f, layouts[k][0], layouts[k][1], APART);
                    if (over_in)
                        faults += !check_map_function(&f, layouts[k][0], layouts[k][0], OVER_IN);
                    if (function == cuda_add)
                        faults += !check_map_function(&f, layouts[k][0], layouts[k][0], OVER_OTHER);
                }
                map_fixture_free(&f);
            }
    }
    assert_int_equal(faults, 0);
}

/* NaN goes through pools and relu as on the processor. */
static void not_a_number_is_kept(void **state)
{
    const float values[4] = {1.0f, NAN, 2.0f, -3.0f}; /* one row */
    struct map in = map_create(CUDA_FLOAT32, 4, 1, TIGHT, 0, values), out = map_create(CUDA_FLOAT32, 4, 1, TIGHT, 0, values);
    struct cuda_map_call call = {
        .format = CUDA_FLOAT32,
        .batch = 1,
        .channels = 1,
        .in_height = 1,
        .in_width = 4,
        .out_height = 1,
        .out_width = 2,
        .kernel = 2,
        .stride = 2,
        .dilation = 1,
        .in = map_view_of(&in),
        .out = map_view_of(&out),
    };

    (void)state;
    cuda_max_pool(&call, stream);
    assert_null(launch_error(cudaSuccess));
    check_cuda(cudaMemcpy(out.host, out.device, out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
    assert_true(isnan(map_get(&out, 0, 0)));
    assert_float_equal(map_get(&out, 1, 0), 2.0f, 0.0f);
    call.out_width = 4;
    cuda_relu(&call, stream);
    assert_null(launch_error(cudaSuccess));
    check_cuda(cudaMemcpy(out.host, out.device, out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
    assert_true(isnan(map_get(&out, 1, 0)));
    assert_float_equal(map_get(&out, 3, 0), 0.0f, 0.0f);
    map_free(&in);
    map_free(&out);
}

/* Channels from float32 pixels to a padded map and back. */
static void formats_convert_both_ways(void **state)
{
    static const struct {
        int channels, padded;
    } sizes[] = {{3, 4}, {3, 8}, {3, 3}, {5, 8}, {1, 1}, {32, 32}, {19, 24}, {4, 4}, {6, 12}};
    enum { PIXELS = 331 };
    int faults = 0;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int format = 0; format < FORMATS; format++)
            for (int layout = 0; layout < LAYOUTS; layout++) {
                int channels = sizes[i].channels, padded = sizes[i].padded;
                float *values = random_floats(PIXELS * channels, 17, CUDA_FLOAT32, 2.0f), *expected = allocate_floats(PIXELS * padded);
                for (int k = 0; k < PIXELS * padded; k++)
                    expected[k] =
                        k % padded < channels ? rounded((enum cuda_format)format, values[k / padded * channels + k % padded]) : 0.0f;
                void *in = device_copy(values, (size_t)(PIXELS * channels) * sizeof *values);
                struct map out = map_create((enum cuda_format)format, PIXELS, padded, (enum layout)layout, 0, NULL);
                struct map back = map_create(CUDA_FLOAT32, PIXELS, padded, TIGHT, 0, NULL);

                cuda_pad_channels(in, PIXELS, channels, out.format, map_view_of(&out), padded, stream);
                cuda_to_float(out.format, map_view_of(&out), PIXELS, padded, map_view_of(&back).data, stream);
                const char *error = launch_error(cudaSuccess);
                if (error)
                    fail_msg("%d channels padded to %d: %s", channels, padded, error);
                check_cuda(cudaMemcpy(out.host, out.device, out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
                check_cuda(cudaMemcpy(back.host, back.device, back.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
                struct difference there = map_compare(&out, expected), and_back = map_compare(&back, expected);
                if (there.error != 0.0 || and_back.error != 0.0
                    || there.missing + and_back.missing + there.foreign + and_back.foreign != 0) {
                    printf(
                        "FAULT %d channels padded to %d, %s, %s: off by %g, and back by %g; %lld and %lld elements missing, %lld and %lld "
                        "foreign bytes written\n",
                        channels, padded, format_names[format], layout_names[layout], there.error, and_back.error, (long long)there.missing,
                        (long long)and_back.missing, (long long)there.foreign, (long long)and_back.foreign);
                    faults++;
                }
                map_free(&out);
                map_free(&back);
                cuda_free(in);
                free(values);
                free(expected);
            }
    assert_int_equal(faults, 0);
}

/* Offsets in a map need more than 32 bits. */
static void maps_of_more_than_4_gigabytes_work(void **state)
{
    enum { HEIGHT = 65, WIDTH = 65536, CHANNELS = 504, STRIDE = 512 }; /* 65 * 65536 * 512 elements: 2^31 and a row more */
    size_t elements = (size_t)HEIGHT * WIDTH * STRIDE;
    uint16_t ends[2][STRIDE];
    void *memory = NULL;

    (void)state;
    if (device.memory_bytes < elements * 2 + ((size_t)1 << 30) || cuda_allocate(elements * 2, "a large map", &memory) != DLA_OK) {
        printf("a GPU with too little free memory: no test of large maps\n");
        skip();
    }
    check_cuda(cudaMemset(memory, 0xbc, elements * 2), "fill a map"); /* -1.18 in float16 */
    struct cuda_map_call call = {
        .format = CUDA_FLOAT16,
        .batch = 1,
        .channels = CHANNELS,
        .in_height = HEIGHT,
        .in_width = WIDTH,
        .out_height = HEIGHT,
        .out_width = WIDTH,
        .in = {memory, STRIDE},
        .out = {memory, STRIDE},
    };
    cuda_relu(&call, stream);
    const char *error = launch_error(cudaSuccess);
    if (error)
        fail_msg("relu on a large map: %s", error);
    check_cuda(cudaMemcpy(ends[0], memory, sizeof ends[0], cudaMemcpyDeviceToHost), "copy a result from the GPU");
    check_cuda(cudaMemcpy(ends[1], (char *)memory + elements * 2 - sizeof ends[1], sizeof ends[1], cudaMemcpyDeviceToHost),
               "copy a result from the GPU");
    cuda_free(memory);
    for (int end = 0; end < 2; end++)
        for (int i = 0; i < STRIDE; i++)
            assert_int_equal(ends[end][i], i < CHANNELS ? 0 : 0xbcbc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_a_number_is_kept),
        cmocka_unit_test(formats_convert_both_ways),
        cmocka_unit_test(map_functions_agree_with_the_reference),
        cmocka_unit_test(maps_of_more_than_4_gigabytes_work),
    };
    int ready = open_gpu();

    if (ready != 0)
        return ready;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    close_gpu();
    return failed;
}
