/* Every variant of every convolution kernel of the GPU agrees with the processor's reference, in all arithmetics, also where tiles, groups,
 * sources and views do not divide the sizes.
 *
 * A fault is printed, one line each, and the rest goes on, so that one run tells everything. Skipped (77) where there is no GPU. */
#include "conv_case.h"
#include "cuda_maps.h"

enum { ARITHMETICS = 4, MOST_KERNELS = 16 };

static const char *const arithmetic_names[ARITHMETICS] = {
    [CUDA_EXACT] = "exact", [CUDA_TF32] = "tf32", [CUDA_HALF] = "half", [CUDA_BRAIN] = "brain"};

static const struct conv_case conv_cases[] = {
    /* pointwise */
    {.batch = 3, .height = 1, .width = 1, .in = 512, .out = 1000, .kernel = 1, .no_relu = true, .why = "classifier on a batch"},
    {.height = 1,
     .width = 1,
     .in = 1024,
     .out = 1000,
     .kernel = 1,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .no_relu = true,
     .why = "classifier"},
    {.height = 7, .width = 7, .in = 512, .out = 1000, .kernel = 1, .residual = true, .why = "outputs that no tile divides"},
    {.height = 1,
     .width = 33,
     .in = 24,
     .out = 19,
     .kernel = 1,
     .out_layout = TIGHT,
     .no_relu = true,
     .why = "19 scores, unaligned pixels"},
    {.batch = 2,
     .height = 28,
     .width = 28,
     .in = 64,
     .out = 32,
     .kernel = 1,
     .residual = true,
     .in_place = true,
     .why = "over the residual"},
    {.height = 13,
     .width = 17,
     .in = 56,
     .out = 64,
     .kernel = 1,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .residual = true,
     .why = "56 channels"},
    {.height = 28, .width = 28, .in = 8, .out = 16, .kernel = 1, .no_relu = true, .why = "one vector of inputs"},
    {.height = 14, .width = 14, .in = 4, .out = 64, .kernel = 1, .why = "half a vector of inputs"},
    {.batch = 2, .height = 13, .width = 17, .in = 16, .out = 1, .kernel = 1, .no_relu = true, .why = "one output"},
    {.batch = 2, .height = 14, .width = 14, .in = 64, .out = 128, .kernel = 1, .stride = 2, .why = "every other pixel"},
    {.batch = 3, .height = 7, .width = 7, .in = 1024, .out = 64, .kernel = 1, .residual = true, .why = "long sums, few tiles"},
    {.batch = 2,
     .height = 28,
     .width = 28,
     .in = 128,
     .out = 128,
     .kernel = 1,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "whole tiles"},
    {.height = 14, .width = 14, .in = 224, .out = 112, .kernel = 1, .sources = {64, 64, 32, 64}, .residual = true, .why = "four sources"},
    {.height = 13, .width = 17, .in = 704, .out = 128, .kernel = 1, .sources = {128, 64, 64, 128, 128, 64, 128}, .why = "seven sources"},
    {.height = 7,
     .width = 7,
     .in = 1792,
     .out = 256,
     .kernel = 1,
     .sources = {256, 256, 256, 256, 256, 256, 256},
     .residual = true,
     .in_place = true,
     .why = "deepest aggregation node"},
    {.batch = 2,
     .height = 13,
     .width = 17,
     .in = 152,
     .out = 64,
     .kernel = 1,
     .sources = {8, 24, 112, 8},
     .why = "sources of a part of a block"},
    {.height = 14,
     .width = 14,
     .in = 100,
     .out = 32,
     .kernel = 1,
     .sources = {4, 28, 56, 12},
     .in_layout = QUARTERS,
     .out_layout = QUARTERS,
     .why = "sources at multiples of 4"},
    {.height = 5,
     .width = 9,
     .in = 61,
     .out = 33,
     .kernel = 1,
     .sources = {7, 16, 9, 1, 28},
     .in_layout = ODD,
     .out_layout = ODD,
     .residual = true,
     .why = "sources that no vector divides"},
    {.height = 5, .width = 9, .in = 61, .out = 33, .kernel = 1, .sources = {7, 16, 9, 1, 28}, .in_layout = PADDED, .why = "padded sources"},
    {.height = 9, .width = 11, .in = 64, .out = 64, .kernel = 1, .in_layout = ODD, .why = "unaligned inputs"},
    {.height = 9, .width = 11, .in = 64, .out = 64, .kernel = 1, .out_layout = ODD, .residual = true, .why = "unaligned outputs"},

    /* 3x3 */
    {.height = 7, .width = 7, .in = 512, .out = 512, .kernel = 3, .residual = true, .in_place = true, .why = "dla34 level 5"},
    {.batch = 2,
     .height = 14,
     .width = 14,
     .in = 128,
     .out = 128,
     .kernel = 3,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .residual = true,
     .why = "several images in a tile"},
    {.batch = 3,
     .height = 13,
     .width = 17,
     .in = 64,
     .out = 64,
     .kernel = 3,
     .residual = true,
     .in_place = true,
     .why = "odd sides, over the residual"},
    {.height = 28, .width = 28, .in = 64, .out = 64, .kernel = 3, .no_relu = true, .why = "dla34 level 3"},
    {.batch = 2, .height = 28, .width = 28, .in = 64, .out = 128, .kernel = 3, .stride = 2, .why = "stride 2, even sides"},
    {.height = 13,
     .width = 17,
     .in = 24,
     .out = 40,
     .kernel = 3,
     .stride = 2,
     .residual = true,
     .why = "stride 2, odd sides, part of a block"},
    {.height = 14,
     .width = 14,
     .in = 256,
     .out = 512,
     .kernel = 3,
     .stride = 2,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "stride 2, few tiles"},
    {.height = 1, .width = 1, .in = 64, .out = 64, .kernel = 3, .residual = true, .why = "one pixel: eight of nine taps fall outside"},
    {.height = 1, .width = 33, .in = 16, .out = 16, .kernel = 3, .why = "one row"},
    {.height = 2, .width = 2, .in = 16, .out = 19, .kernel = 3, .no_relu = true, .why = "smaller than any tile, 19 outputs"},
    {.batch = 2,
     .height = 28,
     .width = 28,
     .in = 16,
     .out = 16,
     .kernel = 3,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "dla34 level 0"},
    {.height = 28, .width = 28, .in = 16, .out = 32, .kernel = 3, .stride = 2, .why = "dla34 level 1"},
    {.height = 13, .width = 17, .in = 56, .out = 56, .kernel = 3, .why = "a Res2Net slice"},
    {.height = 13, .width = 17, .in = 28, .out = 28, .kernel = 3, .in_layout = TIGHT, .out_layout = TIGHT, .why = "a Res2Net slice of 28"},
    {.height = 13,
     .width = 17,
     .in = 28,
     .out = 28,
     .kernel = 3,
     .in_layout = QUARTERS,
     .out_layout = QUARTERS,
     .why = "28 of wider pixels"},
    {.batch = 2, .height = 14, .width = 14, .in = 112, .out = 112, .kernel = 3, .residual = true, .why = "a Res2Net slice of 112"},
    {.height = 13, .width = 17, .in = 128, .out = 1, .kernel = 3, .no_relu = true, .why = "one output"},
    {.height = 14, .width = 14, .in = 512, .out = 16, .kernel = 3, .why = "4608 products, few outputs"},
    {.height = 14, .width = 14, .in = 64, .out = 64, .kernel = 3, .dilation = 2, .residual = true, .why = "dilation 2"},
    {.height = 5, .width = 6, .in = 16, .out = 32, .kernel = 3, .dilation = 4, .why = "dilation reaches over the whole map"},
    {.height = 15, .width = 17, .in = 8, .out = 8, .kernel = 3, .stride = 2, .dilation = 3, .why = "stride and dilation together"},
    {.batch = 2,
     .height = 14,
     .width = 14,
     .in = 128,
     .out = 64,
     .kernel = 3,
     .sources = {64, 64},
     .why = "two sources (iterative aggregation)"},
    {.height = 13, .width = 17, .in = 72, .out = 32, .kernel = 3, .sources = {16, 56}, .residual = true, .why = "two unlike sources"},
    {.height = 13, .width = 17, .in = 28, .out = 28, .kernel = 3, .in_layout = PADDED, .residual = true, .why = "28 channels, padded"},
    {.height = 12, .width = 20, .in = 33, .out = 31, .kernel = 3, .in_layout = PADDED, .no_relu = true, .why = "33 channels, padded"},
    {.height = 9,
     .width = 11,
     .in = 5,
     .out = 3,
     .kernel = 3,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "fewer channels than any vector"},
    {.height = 12,
     .width = 20,
     .in = 33,
     .out = 31,
     .kernel = 3,
     .in_layout = ODD,
     .out_layout = ODD,
     .no_relu = true,
     .why = "tails everywhere"},

    /* other windows */
    {.batch = 2,
     .height = 33,
     .width = 47,
     .in = 3,
     .out = 16,
     .kernel = 7,
     .in_layout = PADDED,
     .out_layout = TIGHT,
     .why = "first layer"},
    {.height = 28, .width = 28, .in = 1, .out = 32, .kernel = 7, .in_layout = PADDED, .why = "first layer of one channel"},
    {.batch = 2, .height = 28, .width = 28, .in = 4, .out = 16, .kernel = 7, .in_layout = TIGHT, .out_layout = TIGHT, .why = "4 channels"},
    {.batch = 2, .height = 28, .width = 28, .in = 8, .out = 16, .kernel = 7, .in_layout = TIGHT, .why = "8 channels"},
    {.height = 33, .width = 47, .in = 3, .out = 16, .kernel = 7, .in_layout = TIGHT, .out_layout = TIGHT, .why = "first layer, not padded"},
    {.height = 13, .width = 17, .in = 8, .out = 19, .kernel = 7, .no_relu = true, .why = "7x7, 19 outputs"},
    {.batch = 3, .height = 14, .width = 14, .in = 16, .out = 64, .kernel = 7, .stride = 2, .residual = true, .why = "7x7, stride 2"},
    {.height = 1, .width = 33, .in = 8, .out = 16, .kernel = 7, .why = "7x7 on one row"},
    {.height = 11, .width = 13, .in = 16, .out = 24, .kernel = 5, .why = "kernel 5"},
    {.height = 11, .width = 13, .in = 16, .out = 24, .kernel = 2, .stride = 2, .why = "even kernel without padding"},

    /* groups */
    {.batch = 2, .height = 15, .width = 8, .in = 64, .out = 64, .kernel = 3, .groups = 32, .residual = true, .why = "2 channels a group"},
    {.height = 13, .width = 17, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 32, .why = "2 channels a group, stride 2"},
    {.height = 15, .width = 17, .in = 128, .out = 128, .kernel = 3, .groups = 32, .why = "4 channels a group"},
    {.batch = 3,
     .height = 14,
     .width = 14,
     .in = 128,
     .out = 128,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .residual = true,
     .in_place = true,
     .why = "4 channels a group, stride 2"},
    {.batch = 2,
     .height = 14,
     .width = 14,
     .in = 256,
     .out = 256,
     .kernel = 3,
     .groups = 32,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "8 channels a group"},
    {.height = 13,
     .width = 17,
     .in = 256,
     .out = 256,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .no_relu = true,
     .why = "8 channels a group, stride 2"},
    {.batch = 2, .height = 7, .width = 7, .in = 512, .out = 512, .kernel = 3, .groups = 32, .residual = true, .why = "16 channels a group"},
    {.height = 28, .width = 28, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 4, .why = "16 channels a group, stride 2"},
    {.height = 7, .width = 7, .in = 1024, .out = 1024, .kernel = 3, .groups = 32, .why = "32 channels a group"},
    {.height = 13,
     .width = 7,
     .in = 1024,
     .out = 1024,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .in_layout = TIGHT,
     .out_layout = TIGHT,
     .why = "32 channels a group, stride 2"},
    {.height = 14, .width = 14, .in = 96, .out = 96, .kernel = 3, .groups = 3, .residual = true, .why = "three groups of 32"},
    {.height = 9, .width = 11, .in = 64, .out = 64, .kernel = 3, .dilation = 2, .groups = 8, .why = "8 channels a group, dilation 2"},
    {.height = 9, .width = 11, .in = 256, .out = 256, .kernel = 1, .groups = 4, .why = "pointwise, 64 channels a group"},
    {.height = 9, .width = 9, .in = 40, .out = 40, .kernel = 3, .groups = 8, .why = "5 channels a group"},
    {.height = 9, .width = 9, .in = 48, .out = 24, .kernel = 3, .groups = 4, .why = "groups with more inputs than outputs"},
    {.height = 9, .width = 9, .in = 64, .out = 32, .kernel = 3, .groups = 4, .sources = {24, 40}, .why = "a group over two sources"},
    {.height = 9, .width = 9, .in = 19, .out = 19, .kernel = 3, .groups = 19, .in_layout = ODD, .out_layout = ODD, .why = "depthwise"},
};

/* One case in one format. */
struct conv_fixture {
    const struct conv_case *c;
    enum cuda_format format;
    struct conv_shape shape;
    int64_t out_pixels;
    float *weight, *scale, *bias; /* as in conv_kernel.pack; scaled weights are exact in the format, too */
    float *expected;              /* (out_pixels, out_channels) */
    struct map sources[CONV_MAX_SOURCES], residual, out;
    unsigned char *untouched; /* of out, before a kernel runs: NaN, or the residual that it overwrites */
    void *device_bias;
};

/* What the processor's reference makes of the fixture. */
static void conv_fixture_expect(struct conv_fixture *f, float *const *sources /* each (in_pixels, source_channels) */,
                                float *residual /* (out_pixels, out_channels) or NULL */)
{
    const struct conv_shape *s = &f->shape;
    float *packed = malloc(conv_reference.packed_bytes(s));
    void *scratch = malloc(conv_reference.scratch_bytes(s, thread_pool_size(pool)));
    struct conv_call call = {
        .shape = s,
        .packed = packed,
        .bias = f->bias,
        .residual = {residual, s->out_channels},
        .out = {f->expected, s->out_channels},
        .relu = !f->c->no_relu,
        .scratch = scratch,
        .pool = pool,
    };

    assert_non_null(packed);
    assert_non_null(scratch);
    for (int i = 0; i < s->source_count; i++)
        call.sources[i] = (struct map_view){sources[i], s->source_channels[i]};
    conv_reference.pack(s, f->weight, f->scale, packed);
    conv_reference.run(&call);
    free(packed);
    free(scratch);
}

static struct conv_fixture conv_fixture_create(const struct conv_case *c, enum cuda_format format)
{
    struct conv_fixture f = {.c = c, .format = format, .shape = conv_case_shape(c)};
    const struct conv_shape *s = &f.shape;
    int64_t in_pixels = (int64_t)s->batch * s->in_height * s->in_width;
    int64_t products = (int64_t)s->in_channels / s->groups * s->kernel * s->kernel;
    float *sources[CONV_MAX_SOURCES] = {NULL}, *residual = NULL;

    f.out_pixels = (int64_t)s->batch * s->out_height * s->out_width;
    f.weight = random_floats(products * s->out_channels, 23, format, 1.5f / sqrtf((float)products));
    f.scale = allocate_floats(s->out_channels);
    for (int o = 0; o < s->out_channels; o++)
        f.scale[o] = o % 3 == 0 ? 1.0f : o % 3 == 1 ? 2.0f : 0.5f;
    f.bias = random_floats(s->out_channels, 31, CUDA_FLOAT32, 1.0f);
    f.expected = allocate_floats(f.out_pixels * s->out_channels);
    for (int i = 0; i < s->source_count; i++) {
        sources[i] = random_floats(in_pixels * s->source_channels[i], 11u + (uint32_t)i, format, 1.0f);
        f.sources[i] =
            map_create(format, in_pixels, s->source_channels[i], c->in_layout, c->in_layout == TIGHT ? 0 : i % 3 * 8, sources[i]);
        if (c->in_layout == PADDED)
            map_pad(&f.sources[i]);
    }
    if (c->residual)
        residual = random_floats(f.out_pixels * s->out_channels, 37, format, 1.0f);
    if (c->residual && !c->in_place)
        f.residual = map_create(format, f.out_pixels, s->out_channels, c->out_layout, c->out_layout == TIGHT ? 0 : 16, residual);
    f.out = map_create(format, f.out_pixels, s->out_channels, c->out_layout, 0, c->in_place ? residual : NULL);
    f.untouched = malloc(f.out.bytes);
    assert_non_null(f.untouched);
    memcpy(f.untouched, f.out.host, f.out.bytes);
    f.device_bias = device_copy(f.bias, (size_t)s->out_channels * sizeof *f.bias);
    conv_fixture_expect(&f, sources, residual);
    for (int i = 0; i < s->source_count; i++)
        free(sources[i]);
    free(residual);
    return f;
}

static void conv_fixture_free(struct conv_fixture *f)
{
    for (int i = 0; i < f->shape.source_count; i++)
        map_free(&f->sources[i]);
    map_free(&f->residual);
    map_free(&f->out);
    free(f->weight);
    free(f->scale);
    free(f->bias);
    free(f->expected);
    free(f->untouched);
    cuda_free(f->device_bias);
}

static struct cuda_conv_call conv_fixture_call(const struct conv_fixture *f, enum cuda_arithmetic arithmetic)
{
    struct cuda_conv_call call = {
        .shape = &f->shape,
        .arithmetic = arithmetic,
        .bias = f->device_bias,
        .out = map_view_of(&f->out),
        .relu = !f->c->no_relu,
        .padded = f->c->in_layout == PADDED,
    };

    for (int i = 0; i < f->shape.source_count; i++)
        call.sources[i] = map_view_of(&f->sources[i]);
    if (f->c->in_place)
        call.residual = call.out;
    else if (f->c->residual)
        call.residual = map_view_of(&f->residual);
    return call;
}

/* What is seen of one kernel in one arithmetic. */
struct tally {
    int runs, faults;
    double worst; /* largest error relative to the largest |result| of its case */
    const char *worst_why;
};

/* An error of the sum relative to the largest |result|. The operands are exact in their formats, so beside the rounding of the result
 * only float32 sums of up to 4608 products remain, which tensor cores cut off instead of rounding; TF32 cuts the operands, too,
 * to 2^-10. */
static const double tolerance[ARITHMETICS] = {[CUDA_EXACT] = 2e-5, [CUDA_TF32] = 2e-3, [CUDA_HALF] = 2e-4, [CUDA_BRAIN] = 2e-4};

static void check_variant(struct conv_fixture *f, const struct cuda_conv_kernel *kernel, const struct cuda_conv_call *call, int variant,
                          struct tally *tally)
{
    const struct conv_shape *s = &f->shape;
    char name[80], where[256];

    kernel->name_variant(call, &device, variant, name, sizeof name);
    snprintf(where, sizeof where, "%s, %s, %dx%d %d to %d, batch %d (%s)", name, arithmetic_names[call->arithmetic], s->kernel, s->kernel,
             s->in_channels, s->out_channels, s->batch, f->c->why);
    tally->runs++;
    memcpy(f->out.host, f->untouched, f->out.bytes);
    map_upload(&f->out);
    const char *error = launch_error(kernel->run(call, &device, variant, stream));
    if (error) {
        tally->faults++;
        printf("FAULT %s: %s\n", where, error);
        stop_if_lost(where);
        return;
    }
    check_cuda(cudaMemcpy(f->out.host, f->out.device, f->out.bytes, cudaMemcpyDeviceToHost), "copy a result from the GPU");
    struct difference d = map_compare(&f->out, f->expected);
    double relative = d.error / fmax(d.largest, 1e-3);
    if (relative > tally->worst) {
        tally->worst = relative;
        tally->worst_why = f->c->why;
    }
    if (d.missing == 0 && d.foreign == 0 && d.excess <= tolerance[call->arithmetic] * fmax(d.largest, 1e-3))
        return;
    tally->faults++;
    printf("FAULT %s: off by %.2e of %.3g, worst at y %lld x %lld channel %d of image %lld; %lld of %lld elements NaN, %lld foreign bytes "
           "written\n",
           where, relative, d.largest, (long long)(d.pixel / s->out_width % s->out_height), (long long)(d.pixel % s->out_width), d.channel,
           (long long)(d.pixel / s->out_width / s->out_height), (long long)d.missing, (long long)f->out_pixels * s->out_channels,
           (long long)d.foreign);
}

static void check_conv_kernel(struct conv_fixture *f, const struct cuda_conv_kernel *kernel, enum cuda_arithmetic arithmetic,
                              struct tally *tally)
{
    struct cuda_conv_call call = conv_fixture_call(f, arithmetic);

    if (!kernel->supports(&call, &device))
        return;
    int variants = kernel->variants(&call, &device);
    if (variants < 1)
        fail_msg("%s supports a case (%s) in no variant", kernel->name, f->c->why);
    size_t bytes = kernel->packed_bytes(&call);
    void *packed = malloc(bytes);
    assert_non_null(packed);
    memset(packed, POISON, bytes); /* what pack leaves out must not matter */
    kernel->pack(&call, f->weight, f->scale, packed);
    void *device_packed = device_copy(packed, bytes);
    call.packed = device_packed;
    for (int variant = 0; variant < variants; variant++)
        check_variant(f, kernel, &call, variant, tally);
    cuda_free(device_packed);
    free(packed);
}

static void conv_kernels_agree_with_the_reference(void **state)
{
    static struct tally tallies[MOST_KERNELS][ARITHMETICS];
    int count, faults = 0;
    const struct cuda_conv_kernel *const *kernels = cuda_conv_kernels(&count);

    (void)state;
    assert_in_range(count, 1, MOST_KERNELS);
    assert_ptr_equal(kernels[count - 1], &cuda_conv_reference);
    for (size_t i = 0; i < sizeof conv_cases / sizeof *conv_cases; i++)
        for (int format = 0; format < FORMATS; format++) {
            struct conv_fixture f = conv_fixture_create(&conv_cases[i], (enum cuda_format)format);
            for (int arithmetic = 0; arithmetic < ARITHMETICS; arithmetic++)
                if (cuda_arithmetic_format((enum cuda_arithmetic)arithmetic) == f.format)
                    for (int k = 0; k < count; k++)
                        check_conv_kernel(&f, kernels[k], (enum cuda_arithmetic)arithmetic, &tallies[k][arithmetic]);
            conv_fixture_free(&f);
        }
    printf("%-20s %-10s %6s %6s  %s\n", "kernel", "arithmetic", "runs", "faults", "largest error relative to the largest result");
    for (int k = 0; k < count; k++)
        for (int arithmetic = 0; arithmetic < ARITHMETICS; arithmetic++) {
            const struct tally *t = &tallies[k][arithmetic];
            faults += t->faults;
            if (t->runs > 0)
                printf("%-20s %-10s %6d %6d  %.1e  %s\n", kernels[k]->name, arithmetic_names[arithmetic], t->runs, t->faults, t->worst,
                       t->worst_why ? t->worst_why : "");
        }
    for (int arithmetic = 0; arithmetic < ARITHMETICS; arithmetic++) /* the last kernel takes everything */
        assert_int_equal(tallies[count - 1][arithmetic].runs, sizeof conv_cases / sizeof *conv_cases);
    assert_int_equal(faults, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_kernels_agree_with_the_reference),
    };
    int ready = open_gpu();

    if (ready != 0)
        return ready;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    close_gpu();
    return failed;
}
