/* The passes of a batch norm, on every instruction set: each agrees with the definition in double precision, at numbers of channels and
 * pixels around those where the kernels change their ways, and touches nothing between pixels. */
#include "base/cpu_features.h"
#include "cpu/training.h"
#include "pseudo_random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { GAP = 3, ARRAYS = 5 };
static const float MARK = 12345.0f;

struct maps {
    int64_t pixels, stride; /* floats from pixel to pixel */
    int channels;
    float *x, *residual, *z, *dz, *dx, *dresidual; /* (pixels, stride) */
    float *arrays[ARRAYS];                         /* (channels): scale, shift, mean, gradient_of_x, gradient_constant */
};

static float *random_floats(int64_t count, uint32_t seed)
{
    float *values = malloc((size_t)count * sizeof(float));
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = pseudo_random(&seed);
    return values;
}

static float *random_map(const struct maps *m, uint32_t seed)
{
    float *map = random_floats(m->pixels * m->stride, seed);
    for (int64_t p = 0; p < m->pixels; p++)
        for (int64_t c = m->channels; c < m->stride; c++)
            map[p * m->stride + c] = MARK;
    return map;
}

static struct maps make_maps(int64_t pixels, int channels)
{
    struct maps m = {.pixels = pixels, .channels = channels, .stride = channels + GAP};
    m.x = random_map(&m, 1);
    m.residual = random_map(&m, 2);
    m.z = random_map(&m, 3);
    m.dz = random_map(&m, 4);
    m.dx = random_map(&m, 5);
    m.dresidual = random_map(&m, 6);
    for (uint32_t i = 0; i < ARRAYS; i++)
        m.arrays[i] = random_floats(channels, 7 + i);
    return m;
}

static void free_maps(struct maps *m)
{
    float *maps[] = {m->x, m->residual, m->z, m->dz, m->dx, m->dresidual};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++)
        free(maps[i]);
    for (int i = 0; i < ARRAYS; i++)
        free(m->arrays[i]);
}

struct variant {
    bool relu, residual, accumulate;
};

static struct norm_run run_of(const struct maps *m, struct variant v)
{
    struct norm_run run = {.pixels = m->pixels,
                           .channels = m->channels,
                           .relu = v.relu,
                           .in = {m->x, m->stride},
                           .out = {m->z, m->stride},
                           .out_gradient = {m->dz, m->stride},
                           .in_gradient = {m->dx, m->stride},
                           .accumulate_residual = v.accumulate,
                           .accumulate_in = v.accumulate,
                           .scale = m->arrays[0],
                           .shift = m->arrays[1],
                           .mean = m->arrays[2],
                           .gradient_of_x = m->arrays[3],
                           .gradient_constant = m->arrays[4]};
    if (v.residual) {
        run.residual = (struct const_view){m->residual, m->stride};
        run.residual_gradient = (struct map_view){m->dresidual, m->stride};
    }
    return run;
}

static void check(double actual, double expected, double tolerance, const char *what, const struct maps *m, struct variant v)
{
    if (!(fabs(actual - expected) <= tolerance))
        fail_msg("%s is %g, expected %g (%lld pixels of %d channels%s%s%s)", what, actual, expected, (long long)m->pixels, m->channels,
                 v.relu ? ", relu" : "", v.residual ? ", residual" : "", v.accumulate ? ", added" : "");
}

static void check_gaps(const float *map, const struct maps *m)
{
    for (int64_t p = 0; p < m->pixels; p++)
        for (int64_t c = m->channels; c < m->stride; c++)
            assert_true(map[p * m->stride + c] == MARK);
}

/* z of element `at`, of channel c, by the definition. */
static double expected_z(const struct maps *m, struct variant v, int64_t at, int c)
{
    double z = (double)m->arrays[0][c] * (double)m->x[at] + (double)m->arrays[1][c] + (v.residual ? (double)m->residual[at] : 0.0);
    return v.relu ? fmax(z, 0.0) : z;
}

static void check_passes(const struct training_kernels *kernels, int64_t pixels, int channels, struct variant v)
{
    struct maps m = make_maps(pixels, channels);
    struct norm_run run = run_of(&m, v);
    double *sums = calloc((size_t)channels * 4, sizeof(double)), *backward = sums + 2 * channels, tolerance = 3e-6 * (double)(pixels + 10);
    assert_non_null(sums);
    sums[0] = 1.0; /* they are added to what is there */

    kernels->norm_sums(&run, m.arrays[2], sums);
    kernels->norm_apply(&run);
    kernels->norm_backward_sums(&run, backward);
    float *dx = random_map(&m, 5), *dresidual = random_map(&m, 6); /* what was there before */
    kernels->norm_backward_apply(&run);
    for (int c = 0; c < channels; c++) {
        double expected[4] = {c == 0 ? 1.0 : 0.0, 0.0, 0.0, 0.0};
        for (int64_t p = 0; p < pixels; p++) {
            int64_t at = p * m.stride + c;
            double centred = (double)m.x[at] - (double)m.arrays[2][c];
            double gradient = !v.relu || m.z[at] > 0.0f ? (double)m.dz[at] : 0.0;
            expected[0] += centred;
            expected[1] += centred * centred;
            expected[2] += gradient;
            expected[3] += gradient * centred;
            check((double)m.z[at], expected_z(&m, v, at, c), 1e-6, "z", &m, v);
            check((double)m.dx[at],
                  (double)m.arrays[0][c] * gradient + (double)m.arrays[3][c] * centred + (double)m.arrays[4][c]
                      + (v.accumulate ? (double)dx[at] : 0.0),
                  2e-6, "gradient", &m, v);
            if (v.residual)
                check((double)m.dresidual[at], gradient + (v.accumulate ? (double)dresidual[at] : 0.0), 1e-6, "residual's gradient", &m, v);
        }
        check(sums[c], expected[0], tolerance, "sum", &m, v);
        check(sums[channels + c], expected[1], tolerance, "sum of squares", &m, v);
        check(backward[c], expected[2], tolerance, "sum of gradients", &m, v);
        check(backward[channels + c], expected[3], tolerance, "sum of products", &m, v);
    }
    check_gaps(m.z, &m);
    check_gaps(m.dx, &m);
    check_gaps(m.dresidual, &m);
    free(dx);
    free(dresidual);
    free(sums);
    free_maps(&m);
}

static void every_pass_agrees_with_the_definition(void **state)
{
    static const int channels[] = {1, 5, 16, 31, 48, 64, 65, 100, 256, 1024, 1030, 1088, 2100};
    static const int64_t pixels[] = {1, 127, 128, 129, 300};
    static const struct variant variants[] = {
        {false, false, false}, {true, false, true}, {true, true, false}, {true, true, true}, {false, true, true}};
    (void)state;
    for (int isa = 0; isa < ISA_COUNT; isa++)
        for (size_t c = 0; c < sizeof channels / sizeof channels[0] && isa_is_available((enum isa)isa); c++)
            for (size_t p = 0; p < sizeof pixels / sizeof pixels[0]; p++)
                for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++)
                    check_passes(training_kernels((enum isa)isa), pixels[p], channels[c], variants[v]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pass_agrees_with_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
