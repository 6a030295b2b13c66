/* Every convolution kernel that this processor can run agrees with the reference, also where tiles, vectors, groups and
 * several sources do not divide the sizes; and the map functions likewise. */
#include "conv_case.h"
#include "cpu/map.h"
#include "pseudo_random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct conv_case awkward[] = {
    {.height = 7, .width = 7, .in = 512, .out = 512, .kernel = 3, .residual = true, .why = "one and a half Winograd tiles, many channels"},
    {.height = 1, .width = 33, .in = 3, .out = 17, .kernel = 7, .why = "one row, an output tail of one"},
    {.height = 33, .width = 47, .in = 3, .out = 16, .kernel = 7, .why = "first layer, odd sides"},
    {.batch = 2, .height = 9, .width = 16, .in = 3, .out = 16, .kernel = 7, .residual = true, .why = "first layer, whole tiles, part of a strip"},
    {.height = 5, .width = 30, .in = 1, .out = 33, .kernel = 7, .no_relu = true, .why = "first layer of one channel, three vectors of outputs"},
    {.height = 6, .width = 3, .in = 4, .out = 5, .kernel = 7, .why = "first layer, fewer pixels and outputs than a tile"},
    {.batch = 2, .height = 41, .width = 62, .in = 3, .out = 20, .kernel = 7, .residual = true, .why = "first layer, two blocks and strips of tiles"},
    {.height = 45, .width = 57, .in = 2, .out = 16, .kernel = 7, .no_relu = true, .why = "first layer, one tile in the last block"},
    {.height = 7, .width = 8, .in = 40, .out = 80, .kernel = 3, .residual = true, .why = "four Winograd tiles, part of a chunk, of a block"},
    {.batch = 5, .height = 14, .width = 18, .in = 64, .out = 96, .kernel = 3, .residual = true, .why = "several sets of tiles, narrow ones at both edges"},
    {.height = 12, .width = 28, .in = 32, .out = 64, .kernel = 3, .why = "21 Winograd tiles"},
    {.batch = 2, .height = 9, .width = 27, .in = 32, .out = 40, .kernel = 3, .residual = true, .why = "42 tiles over two images, part of a block"},
    {.height = 2, .width = 2, .in = 16, .out = 16, .kernel = 3, .why = "smaller than any tile"},
    {.height = 1, .width = 1, .in = 40, .out = 24, .kernel = 3, .why = "a single pixel: eight of nine taps fall outside"},
    {.height = 13, .width = 15, .in = 16, .out = 16, .kernel = 3, .residual = true, .why = "tiles hang over both edges"},
    {.height = 29,
     .width = 30,
     .in = 64,
     .out = 64,
     .kernel = 3,
     .residual = true,
     .in_place = true,
     .why = "the result overwrites the residual"},
    {.height = 12, .width = 20, .in = 33, .out = 31, .kernel = 3, .no_relu = true, .why = "channel tails on both sides"},
    {.height = 9, .width = 11, .in = 5, .out = 3, .kernel = 3, .why = "fewer channels than any vector"},
    {.height = 28, .width = 28, .in = 32, .out = 64, .kernel = 3, .stride = 2, .why = "stride 2, even sides"},
    {.height = 29, .width = 31, .in = 24, .out = 40, .kernel = 3, .stride = 2, .residual = true, .why = "stride 2, odd sides"},
    {.batch = 2, .height = 19, .width = 22, .in = 20, .out = 28, .kernel = 3, .stride = 2, .why = "stride 2, lanes to spare"},
    {.height = 1, .width = 2, .in = 16, .out = 16, .kernel = 3, .stride = 2, .why = "stride 2, one pixel left"},
    {.height = 27, .width = 13, .in = 41, .out = 100, .kernel = 3, .stride = 2, .residual = true, .why = "stride 2, three chunks, uneven blocks"},
    {.batch = 3, .height = 14, .width = 37, .in = 48, .out = 24, .kernel = 3, .stride = 2, .residual = true, .why = "stride 2, 30 tiles over three images"},
    {.height = 20, .width = 23, .in = 16, .out = 32, .kernel = 3, .dilation = 2, .why = "dilation 2"},
    {.height = 5, .width = 6, .in = 16, .out = 32, .kernel = 3, .dilation = 4, .why = "dilation reaches over the whole map"},
    {.height = 15, .width = 17, .in = 8, .out = 8, .kernel = 3, .stride = 2, .dilation = 3, .why = "stride and dilation together"},
    {.height = 11, .width = 13, .in = 16, .out = 20, .kernel = 5, .why = "kernel 5"},
    {.height = 11, .width = 13, .in = 16, .out = 20, .kernel = 2, .stride = 2, .why = "even kernel without padding"},
    {.height = 7, .width = 7, .in = 1024, .out = 100, .kernel = 1, .residual = true, .why = "pointwise, pixels a power of two apart"},
    {.height = 17, .width = 19, .in = 48, .out = 80, .kernel = 1, .no_relu = true, .why = "pointwise, pixel count odd"},
    {.height = 13, .width = 11, .in = 23, .out = 6, .kernel = 1, .residual = true, .why = "pointwise, part of one vector"},
    {.height = 14,
     .width = 14,
     .in = 224,
     .out = 96,
     .kernel = 1,
     .sources = {64, 64, 32, 64},
     .residual = true,
     .why = "aggregation node over four sources"},
    {.batch = 2,
     .height = 40,
     .width = 41,
     .in = 64,
     .out = 64,
     .kernel = 1,
     .residual = true,
     .why = "pointwise, several strips of whole pairs"},
    {.batch = 3, .height = 11, .width = 13, .in = 48, .out = 40, .kernel = 1, .why = "pointwise, half a unit of pairs, part of a block"},
    {.height = 7, .width = 7, .in = 1088, .out = 96, .kernel = 1, .residual = true, .why = "pointwise, pairs in three parts"},
    {.height = 19, .width = 23, .in = 1152, .out = 72, .kernel = 1, .sources = {640, 512}, .why = "pairs in parts, strips and two sources"},
    {.height = 9,
     .width = 10,
     .in = 96,
     .out = 64,
     .kernel = 1,
     .magnitude = 1e12f,
     .no_relu = true,
     .why = "pointwise, large maps, small weights"},
    {.height = 9,
     .width = 10,
     .in = 96,
     .out = 64,
     .kernel = 1,
     .magnitude = 1e-12f,
     .no_relu = true,
     .why = "pointwise, small maps, large weights"},
    {.height = 9, .width = 10, .in = 96, .out = 64, .kernel = 1, .magnitude = 1e25f, .why = "pointwise, squares of the maps overflow"},
    {.height = 5, .width = 9, .in = 61, .out = 33, .kernel = 1, .sources = {7, 16, 9, 1, 28}, .why = "sources that no vector divides"},
    {.height = 15,
     .width = 15,
     .in = 1792,
     .out = 256,
     .kernel = 1,
     .sources = {256, 256, 256, 256, 256, 256, 256},
     .residual = true,
     .why = "deepest aggregation node: seven sources"},
    {.height = 10,
     .width = 12,
     .in = 56,
     .out = 24,
     .kernel = 3,
     .sources = {28, 28},
     .why = "3x3 over two sources (iterative aggregation)"},
    {.height = 1, .width = 1, .in = 512, .out = 1000, .kernel = 1, .no_relu = true, .why = "classifier"},
    {.batch = 5, .height = 1, .width = 1, .in = 256, .out = 11, .kernel = 1, .no_relu = true, .why = "classifier on a batch"},
    {.batch = 3,
     .height = 9,
     .width = 10,
     .in = 32,
     .out = 32,
     .kernel = 3,
     .residual = true,
     .why = "batch of three: images must not see each other"},
    {.batch = 2, .height = 9, .width = 13, .in = 24, .out = 16, .kernel = 3, .stride = 2, .why = "batch of two, stride 2"},
    {.batch = 2, .height = 15, .width = 8, .in = 64, .out = 64, .kernel = 3, .groups = 32, .why = "grouped, 2 channels a group"},
    {.height = 15, .width = 17, .in = 128, .out = 128, .kernel = 3, .groups = 32, .why = "grouped, 4 channels a group"},
    {.height = 16, .width = 14, .in = 128, .out = 128, .kernel = 3, .stride = 2, .groups = 32, .why = "grouped, stride 2"},
    {.height = 7, .width = 7, .in = 256, .out = 256, .kernel = 3, .groups = 32, .why = "grouped, 8 channels a group"},
    {.height = 14, .width = 14, .in = 96, .out = 96, .kernel = 3, .groups = 3, .residual = true, .why = "grouped, 32 channels a group, read in place"},
    {.height = 28, .width = 28, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 4, .why = "grouped, 16 channels a group, read in place"},
    {.height = 8, .width = 9, .in = 512, .out = 512, .kernel = 3, .groups = 32, .why = "grouped, 16 channels a group"},
    {.height = 7, .width = 7, .in = 1024, .out = 1024, .kernel = 3, .groups = 32, .why = "grouped, 32 channels a group"},
    {.height = 13, .width = 7, .in = 1024, .out = 1024, .kernel = 3, .stride = 2, .groups = 32, .why = "grouped, 32 channels, stride 2"},
    {.batch = 2, .height = 5, .width = 4, .in = 96, .out = 96, .kernel = 3, .groups = 3, .residual = true, .why = "grouped, as narrow as a tile of four"},
    {.height = 4, .width = 12, .in = 64, .out = 64, .kernel = 3, .groups = 8, .why = "grouped, narrow tiles, 8 channels a group"},
    {.height = 6, .width = 15, .in = 64, .out = 64, .kernel = 3, .groups = 16, .residual = true, .why = "grouped, a tile of eight hangs over"},
    {.height = 5, .width = 15, .in = 64, .out = 64, .kernel = 3, .groups = 4, .why = "grouped, broadcasts, a tile of eight hangs over"},
    {.batch = 2, .height = 8, .width = 16, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 2, .why = "grouped, stride 2, one tile of eight"},
    {.height = 9, .width = 31, .in = 32, .out = 32, .kernel = 3, .stride = 2, .groups = 8, .why = "grouped, stride 2, two tiles of eight"},
    {.height = 7, .width = 7, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 4, .why = "grouped, stride 2, a tile of four"},
    {.height = 5, .width = 21, .in = 64, .out = 64, .kernel = 3, .groups = 16, .why = "grouped, a tile at each edge and one inside"},
    {.height = 9,
     .width = 13,
     .in = 64,
     .out = 64,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .why = "grouped, stride 2, one tile, both edges"},
    {.height = 6, .width = 27, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 8, .why = "grouped, stride 2, odd width"},
    {.height = 5, .width = 28, .in = 64, .out = 64, .kernel = 3, .stride = 2, .groups = 4, .why = "grouped, stride 2, right edge inside"},
    {.height = 5, .width = 41, .in = 32, .out = 32, .kernel = 3, .stride = 2, .groups = 2, .why = "grouped, stride 2, three tiles"},
    {.batch = 3, .height = 14, .width = 14, .in = 160, .out = 160, .kernel = 3, .groups = 10, .why = "grouped, blocks of unlike size"},
    {.height = 9, .width = 9, .in = 40, .out = 40, .kernel = 3, .groups = 8, .why = "grouped, 5 channels a group: straddles vectors"},
    {.height = 9, .width = 9, .in = 48, .out = 24, .kernel = 3, .groups = 4, .why = "groups with more inputs than outputs"},
    {.height = 9, .width = 9, .in = 19, .out = 19, .kernel = 3, .groups = 19, .why = "depthwise"},
    {.height = 28, .width = 28, .in = 28, .out = 28, .kernel = 3, .why = "a Res2Net slice"},
    {.height = 57, .width = 56, .in = 64, .out = 64, .kernel = 3, .residual = true, .why = "dla34 level 2, an odd row more"},
    {.batch = 2,
     .height = 31,
     .width = 26,
     .in = 1100,
     .out = 48,
     .kernel = 1,
     .sources = {20, 1000, 80},
     .residual = true,
     .why = "sums in parts, several strips, sources and outputs that end within a block"},
    {.batch = 2,
     .height = 37,
     .width = 40,
     .in = 72,
     .out = 40,
     .kernel = 3,
     .stride = 2,
     .sources = {40, 32},
     .residual = true,
     .why = "stride 2, odd and even sides, two sources, several strips"},
    {.height = 40, .width = 39, .in = 512, .out = 33, .kernel = 3, .stride = 2, .why = "stride 2, strips as small as they can be"},
    {.height = 6, .width = 7, .in = 544, .out = 64, .kernel = 3, .stride = 2, .no_relu = true, .why = "stride 2, sums in parts, few pixels"},
    {.height = 7, .width = 5, .in = 520, .out = 35, .kernel = 3, .residual = true, .in_place = true, .why = "3x3, sums in parts, in place"},
    {.height = 113, .width = 120, .in = 16, .out = 16, .kernel = 3, .why = "large map, few channels: several strips"},
    {.height = 64, .width = 210, .in = 16, .out = 32, .kernel = 3, .stride = 2, .why = "large map, stride 2"},
};

static float *random_floats(int64_t count, uint32_t seed)
{
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = pseudo_random(&seed);
    return values;
}

static void *allocate_aligned(size_t size)
{
    void *memory = aligned_alloc(64, (size + 127) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0xff, (size + 127) / 64 * 64); /* NaN: what a kernel does not write must not matter */
    return memory;
}

/* One case with everything that it reads. Every map lies inside a wider one, whose other channels must stay as they are. */
struct fixture {
    struct conv_shape shape;
    struct map_view sources[CONV_MAX_SOURCES];
    float *weight, *scale, *bias, *residual;
    bool in_place, relu;
};

enum { GUARD = 5 }; /* foreign channels on both sides of a map */

/* Maps of another magnitude, with every third pixel zero, and weights that make up for it. */
static void fixture_scale(struct fixture *f, float magnitude)
{
    int64_t pixels = (int64_t)f->shape.batch * f->shape.in_height * f->shape.in_width;

    for (int i = 0; i < f->shape.source_count; i++)
        for (int64_t at = 0; at < pixels * f->sources[i].pixel_stride; at++)
            f->sources[i].data[at] *= at / f->sources[i].pixel_stride % 3 == 0 ? 0.0f : magnitude;
    for (int o = 0; o < f->shape.out_channels; o++)
        f->scale[o] /= magnitude;
}

static struct fixture fixture_create(const struct conv_case *c)
{
    struct fixture f = {.shape = conv_case_shape(c), .in_place = c->in_place, .relu = !c->no_relu};
    const struct conv_shape *s = &f.shape;
    int64_t in_pixels = (int64_t)s->batch * s->in_height * s->in_width, out_pixels = (int64_t)s->batch * s->out_height * s->out_width;
    int64_t products = (int64_t)s->in_channels / s->groups * s->kernel * s->kernel;

    for (int i = 0; i < s->source_count; i++) {
        int64_t stride = s->source_channels[i] + (i % 2 ? 3 : 0);
        f.sources[i] = (struct map_view){random_floats(in_pixels * stride, 11u + (uint32_t)i), stride};
    }
    f.weight = random_floats(products * s->out_channels, 23);
    f.scale = random_floats(s->out_channels, 29);
    for (int i = 0; i < s->out_channels; i++)
        f.scale[i] = (0.5f + f.scale[i] * f.scale[i]) / sqrtf((float)products);
    f.bias = random_floats(s->out_channels, 31);
    f.residual = c->residual ? random_floats(out_pixels * s->out_channels, 37) : NULL;
    if (c->magnitude != 0.0f)
        fixture_scale(&f, c->magnitude);
    return f;
}

static void fixture_free(struct fixture *f)
{
    for (int i = 0; i < f->shape.source_count; i++)
        free(f->sources[i].data);
    free(f->weight);
    free(f->scale);
    free(f->bias);
    free(f->residual);
}

/* (out_pixels, out_channels + 2 * GUARD) */
static float *fixture_run(const struct fixture *f, const struct conv_kernel *kernel, struct thread_pool *pool)
{
    const struct conv_shape *s = &f->shape;
    int64_t pixels = (int64_t)s->batch * s->out_height * s->out_width, stride = s->out_channels + 2 * GUARD;
    float *out = malloc((size_t)(pixels * stride) * sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < pixels * stride; i++)
        out[i] = -77.0f;
    if (f->in_place)
        for (int64_t i = 0; i < pixels; i++)
            memcpy(out + i * stride + GUARD, f->residual + i * s->out_channels, (size_t)s->out_channels * sizeof *out);

    struct conv_call call = {
        .shape = s,
        .bias = f->bias,
        .residual = {f->residual, s->out_channels},
        .out = {out + GUARD, stride},
        .relu = f->relu,
        .pool = pool,
    };
    if (f->in_place)
        call.residual = call.out;
    memcpy(call.sources, f->sources, sizeof call.sources);
    void *packed = allocate_aligned(kernel->packed_bytes(s));
    kernel->pack(s, f->weight, f->scale, packed);
    call.packed = packed;
    call.scratch = allocate_aligned(kernel->scratch_bytes(s, thread_pool_size(pool)));
    kernel->run(&call);
    free(packed);
    free(call.scratch);
    return out;
}

static void check_kernel(const struct fixture *f, const struct conv_kernel *kernel, struct thread_pool *pool, const float *expected,
                         const char *why)
{
    float *got = fixture_run(f, kernel, pool);
    int64_t stride = f->shape.out_channels + 2 * GUARD;
    int64_t count = (int64_t)f->shape.batch * f->shape.out_height * f->shape.out_width * stride;
    double largest = 1.0, worst = 0.0; /* sums are of the order of one, even where relu left little */

    for (int64_t i = 0; i < count; i++)
        if (i % stride >= GUARD && i % stride < stride - GUARD)
            largest = fmax(largest, fabs((double)expected[i]));
    for (int64_t i = 0; i < count; i++) {
        if (i % stride < GUARD || i % stride >= stride - GUARD) {
            if (got[i] != -77.0f)
                fail_msg("%s (%s): wrote outside its channels, at float %lld", kernel->name, why, (long long)i);
        } else if (!(fabs((double)got[i] - (double)expected[i]) <= worst)) {
            worst = fabs((double)got[i] - (double)expected[i]);
            if (isnan(got[i]))
                fail_msg("%s (%s): NaN at pixel %lld channel %lld", kernel->name, why, (long long)(i / stride),
                         (long long)(i % stride - GUARD));
        }
    }
    /* Rounding errors of a float sum grow like the root of its length; Winograd's transforms multiply them; a weight in float16
     * is off by up to 1/2048. */
    double products = (double)f->shape.in_channels / f->shape.groups * f->shape.kernel * f->shape.kernel;
    double tolerance = (kernel->half ? 1e-3 : 0.0) + (kernel->winograd ? 10.0 : 1.0) * (1e-6 + 1e-7 * sqrt(products));
    if (worst > tolerance * largest)
        fail_msg("%s (%s): off by %g of %g", kernel->name, why, worst, largest);
    free(got);
}

static void conv_kernels_agree_with_the_reference(void **state)
{
    struct thread_pool *pools[2];
    int checked = 0;

    (void)state;
    assert_int_equal(thread_pool_create(1, &pools[0]), DLA_OK);
    assert_int_equal(thread_pool_create(3, &pools[1]), DLA_OK);
    for (size_t i = 0; i < sizeof awkward / sizeof *awkward; i++) {
        struct fixture f = fixture_create(&awkward[i]);
        float *expected = fixture_run(&f, &conv_reference, pools[1]);
        for (int isa = 0; isa < ISA_COUNT; isa++) {
            int count;
            if (!isa_is_available((enum isa)isa))
                continue;
            const struct conv_kernel *const *kernels = conv_kernels((enum isa)isa, &count);
            assert_ptr_equal(kernels[count - 1], &conv_reference);
            for (int k = 0; k < count - 1; k++)
                if (kernels[k]->supports(&f.shape)) {
                    check_kernel(&f, kernels[k], pools[0], expected, awkward[i].why);
                    check_kernel(&f, kernels[k], pools[1], expected, awkward[i].why);
                    checked++;
                }
        }
        free(expected);
        fixture_free(&f);
    }
    thread_pool_destroy(pools[0]);
    thread_pool_destroy(pools[1]);
    assert_true(checked >= (int)(sizeof awkward / sizeof *awkward));
}

/* What is computed from a number that is none must not look like a result: training ends when the loss is NaN. */
static void conv_kernels_keep_what_is_not_finite(void **state)
{
    static const struct conv_case cases[] = {
        {.height = 9, .width = 10, .in = 96, .out = 64, .kernel = 1, .no_relu = true, .why = "pointwise"},
        {.batch = 2, .height = 9, .width = 10, .in = 64, .out = 64, .kernel = 3, .no_relu = true, .why = "3x3"},
        {.batch = 2, .height = 9, .width = 10, .in = 32, .out = 64, .kernel = 3, .stride = 2, .no_relu = true, .why = "stride 2"},
        {.height = 9, .width = 10, .in = 64, .out = 64, .kernel = 3, .groups = 8, .no_relu = true, .why = "grouped"},
        {.height = 9, .width = 10, .in = 3, .out = 16, .kernel = 7, .no_relu = true, .why = "first layer"},
    };
    static const float not_finite[] = {NAN, INFINITY, -INFINITY};
    struct thread_pool *pool;

    (void)state;
    assert_int_equal(thread_pool_create(3, &pool), DLA_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases * 3; i++) {
        struct fixture f = fixture_create(&cases[i / 3]);
        int64_t stride = f.shape.out_channels + 2 * GUARD;
        int64_t count = (int64_t)f.shape.batch * f.shape.out_height * f.shape.out_width * stride;
        f.sources[0].data[23 * f.sources[0].pixel_stride + 1] = not_finite[i % 3];
        float *expected = fixture_run(&f, &conv_reference, pool);
        int64_t reached = 0;
        for (int64_t at = 0; at < count; at++)
            reached += !isfinite(expected[at]);
        assert_true(reached > 0);
        for (int isa = 0; isa < ISA_COUNT; isa++) {
            int kernel_count;
            if (!isa_is_available((enum isa)isa))
                continue;
            const struct conv_kernel *const *kernels = conv_kernels((enum isa)isa, &kernel_count);
            for (int k = 0; k < kernel_count; k++) {
                if (!kernels[k]->supports(&f.shape))
                    continue;
                float *got = fixture_run(&f, kernels[k], pool);
                for (int64_t at = 0; at < count; at++)
                    if (!isfinite(expected[at]) && isfinite(got[at]))
                        fail_msg("%s (%s): %g became %g at float %lld", kernels[k]->name, cases[i / 3].why, (double)expected[at],
                                 (double)got[at], (long long)at);
                free(got);
            }
        }
        free(expected);
        fixture_free(&f);
    }
    thread_pool_destroy(pool);
}

/* A residual that is added and a relu that clips, by hand: the reference itself is anchored. */
static void reference_computes_its_definition(void **state)
{
    static const float in[4] = {1, 2, 3, 4}, weight[9] = {0, 0, 0, 0, 1, 10, 0, 100, 0}, scale[1] = {2}, bias[1] = {-50};
    static const float residual[4] = {1, 1, -1000, 1};
    struct conv_shape s = {1, 2, 2, 1, 2, 2, 1, 3, 1, 1, 1, 1, 1, {1}};
    float packed[9], out[4], in_copy[4], residual_copy[4];
    double scratch[1];
    struct thread_pool *pool;

    (void)state;
    memcpy(in_copy, in, sizeof in);
    memcpy(residual_copy, residual, sizeof residual);
    assert_int_equal(thread_pool_create(1, &pool), DLA_OK);
    conv_reference.pack(&s, weight, scale, packed);
    struct conv_call call = {.shape = &s, .packed = packed, .bias = bias, .relu = true, .scratch = scratch, .pool = pool};
    call.sources[0] = (struct map_view){in_copy, 1};
    call.residual = (struct map_view){residual_copy, 1};
    call.out = (struct map_view){out, 1};
    conv_reference.run(&call);
    assert_float_equal(out[0], 2 * (1 + 20 + 300) - 50 + 1, 1e-6);
    assert_float_equal(out[1], 2 * (2 + 400) - 50 + 1, 1e-6);
    assert_float_equal(out[2], 0, 0); /* 2 * (3 + 40) - 50 - 1000 */
    assert_float_equal(out[3], 0, 0); /* 2 * 4 - 50 + 1 */
    thread_pool_destroy(pool);
}

struct map_case {
    const char *name;
    size_t function; /* offset in struct map_functions */
    int batch, height, width, channels, out_height, out_width, kernel, stride, padding;
    int dilation; /* 0: 1 */
    const char *why;
};

#define FUNCTION(name) #name, offsetof(struct map_functions, name)

static const struct map_case map_cases[] = {
    {FUNCTION(max_pool), 1, 8, 8, 32, 4, 4, 2, 2, 0, .why = "even"},
    {FUNCTION(max_pool), 2, 7, 9, 19, 4, 5, 2, 2, 0, .why = "ceil mode: the last window hangs over"},
    {FUNCTION(max_pool), 1, 1, 1, 5, 1, 1, 2, 2, 0, .why = "a window with one pixel inside"},
    {FUNCTION(max_pool), 1, 7, 6, 21, 7, 6, 2, 1, 0, .dilation = 2, .why = "an output stride of 8: nothing is dropped"},
    {FUNCTION(average_pool), 1, 7, 3, 21, 7, 3, 3, 1, 2, .dilation = 2, .why = "dilated over both edges"},
    {FUNCTION(average_pool), 2, 9, 8, 20, 5, 4, 3, 2, 1, .why = "padding counts in the divisor"},
    {FUNCTION(average_pool), 1, 1, 3, 28, 1, 2, 3, 2, 1, .why = "one row"},
    {FUNCTION(global_average_pool), 3, 7, 7, 70, 1, 1, 7, 1, 0, .why = "channels past the last block"},
    {FUNCTION(global_average_pool), 1, 3, 11, 512, 1, 1, 3, 1, 0, .why = "not square"},
    {FUNCTION(add), 2, 5, 6, 28, 5, 6, 1, 1, 0, .why = "a Res2Net slice plus the chain"},
    {FUNCTION(scale_shift), 1, 5, 6, 21, 5, 6, 1, 1, 0, .why = "tail"},
    {FUNCTION(relu), 2, 3, 3, 17, 3, 3, 1, 1, 0, .why = "tail of one"},
    {FUNCTION(copy), 2, 6, 8, 13, 5, 7, 1, 1, 0, .why = "crop"},
    {FUNCTION(transposed_conv), 1, 5, 7, 35, 10, 14, 4, 2, 1, .why = "upsampling by 2"},
    {FUNCTION(transposed_conv), 2, 3, 2, 19, 24, 16, 16, 8, 4, .why = "upsampling by 8"},
    {FUNCTION(transposed_conv), 2, 3, 5, 37, 5, 9, 4, 2, 1, .why = "upsampling by 2, the last row and column cut off"},
    {FUNCTION(transposed_conv), 1, 2, 3, 16, 5, 9, 8, 4, 2, .why = "upsampling by 4, cut inside of a phase"},
    {FUNCTION(transposed_conv), 1, 1, 1, 48, 2, 2, 4, 2, 1, .why = "a map of one pixel: one row, no neighbour"},
    {FUNCTION(transposed_conv), 1, 3, 4, 5, 6, 8, 3, 2, 1, .why = "a window that is not twice the stride"},
    {FUNCTION(log_softmax), 2, 3, 4, 19, 3, 4, 1, 1, 0, .why = "19 classes, less than a vector of pixels"},
    {FUNCTION(log_softmax), 1, 2, 37, 2, 2, 37, 1, 1, 0, .why = "boundaries, pixels past the last vector"},
    {FUNCTION(log_softmax), 1, 1, 17, 300, 1, 17, 1, 1, 0, .why = "many classes, a tail"},
    {FUNCTION(log_softmax), 1, 3, 5, 32, 3, 5, 1, 1, 0, .why = "whole vectors of classes"},
    {FUNCTION(log_softmax), 2, 2, 21, 8, 2, 21, 1, 1, 0, .why = "half a vector of classes"},
    {FUNCTION(log_softmax), 1, 1, 3, 1, 1, 3, 1, 1, 0, .why = "one class: log 1"},
};

static void map_functions_agree_with_the_reference(void **state)
{
    struct thread_pool *pool;

    (void)state;
    assert_int_equal(thread_pool_create(2, &pool), DLA_OK);
    for (size_t i = 0; i < sizeof map_cases / sizeof *map_cases; i++) {
        const struct map_case *m = &map_cases[i];
        int64_t in_stride = m->channels + 3, out_stride = m->channels + 2;
        int64_t in_pixels = (int64_t)m->batch * m->height * m->width, out_pixels = (int64_t)m->batch * m->out_height * m->out_width;
        float *in = random_floats(in_pixels * in_stride, 3), *other = random_floats(in_pixels * m->channels, 4);
        float *weight = random_floats((int64_t)m->kernel * m->kernel * m->channels, 5), *shift = random_floats(m->channels, 6);
        float *expected = random_floats(out_pixels * out_stride, 7);
        struct map_call call = {
            .batch = m->batch,
            .channels = m->channels,
            .in_height = m->height,
            .in_width = m->width,
            .out_height = m->out_height,
            .out_width = m->out_width,
            .kernel = m->kernel,
            .stride = m->stride,
            .padding = m->padding,
            .dilation = m->dilation == 0 ? 1 : m->dilation,
            .in = {in, in_stride},
            .other = {other, m->channels},
            .in_channels = m->channels,
            .groups = m->channels,
            .weight = weight,
            .scale = weight,
            .shift = shift,
            .relu = i % 2 == 0,
            .out = {expected, out_stride},
            .pool = pool,
        };
        map_function *function;
        memcpy(&function, (const char *)&map_reference + m->function, sizeof function);
        function(&call);
        for (int isa = 0; isa < ISA_COUNT; isa++) {
            if (!isa_is_available((enum isa)isa))
                continue;
            float *got = random_floats(out_pixels * out_stride, 7);
            call.out.data = got;
            memcpy(&function, (const char *)map_functions_for((enum isa)isa) + m->function, sizeof function);
            function(&call);
            for (int64_t k = 0; k < out_pixels * out_stride; k++)
                if (!(fabsf(got[k] - expected[k]) <= 2e-6f * (1.0f + fabsf(expected[k]))))
                    fail_msg("%s on %s (%s): %g instead of %g at float %lld", m->name, isa_name((enum isa)isa), m->why, (double)got[k],
                             (double)expected[k], (long long)k);
            free(got);
        }
        free(in);
        free(other);
        free(weight);
        free(shift);
        free(expected);
    }
    thread_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_computes_its_definition),
        cmocka_unit_test(conv_kernels_agree_with_the_reference),
        cmocka_unit_test(conv_kernels_keep_what_is_not_finite),
        cmocka_unit_test(map_functions_agree_with_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
