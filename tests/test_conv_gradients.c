/* The gradients of a convolution: the reference agrees with numerical differentiation of the forward reference, every
 * kernel that this processor can run agrees with the reference, and the result is the same for any number of threads. */
#include "conv_case.h"
#include "cpu/training.h"
#include "pseudo_random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct conv_case awkward[] = {
    {.height = 7, .width = 5, .in = 3, .out = 16, .kernel = 7, .why = "the photograph: taps of a row merged"},
    {.batch = 2, .height = 33, .width = 17, .in = 3, .out = 17, .kernel = 7, .why = "the photograph, an output tail of one"},
    {.batch = 3, .height = 9, .width = 10, .in = 16, .out = 16, .kernel = 3, .why = "one vector of output channels"},
    {.height = 14, .width = 75, .in = 1, .out = 9, .kernel = 7, .why = "a grey photograph, several blocks of tiles"},
    {.height = 13, .width = 63, .in = 4, .out = 33, .kernel = 7, .why = "four channels"},
    {.height = 12, .width = 12, .in = 2, .out = 16, .kernel = 7, .why = "two channels, whole tiles"},
    {.batch = 18, .height = 9, .width = 20, .in = 3, .out = 16, .kernel = 7, .why = "the photograph, whole and part blocks of rows"},
    {.batch = 2, .height = 6, .width = 23, .in = 24, .out = 5, .kernel = 3, .why = "three tiles of inputs, few outputs"},
    {.batch = 2, .height = 3, .width = 1, .in = 8, .out = 16, .kernel = 3, .why = "a map narrower than the window"},
    {.batch = 2, .height = 8, .width = 8, .in = 16, .out = 32, .kernel = 3, .stride = 2, .why = "stride 2, even sides"},
    {.batch = 2, .height = 9, .width = 7, .in = 24, .out = 40, .kernel = 3, .stride = 2, .why = "stride 2, odd sides, tails"},
    {.height = 37, .width = 46, .in = 16, .out = 32, .kernel = 3, .stride = 2, .why = "stride 2, several sets of tiles"},
    {.batch = 18, .height = 5, .width = 8, .in = 32, .out = 48, .kernel = 3, .stride = 2, .why = "stride 2, chunks of two images"},
    {.batch = 2, .height = 18, .width = 21, .in = 28, .out = 30, .kernel = 3, .stride = 2, .why = "stride 2, lanes to spare"},
    {.height = 1, .width = 3, .in = 16, .out = 16, .kernel = 3, .stride = 2, .why = "stride 2, a tile of one row"},
    {.batch = 17, .height = 3, .width = 2, .in = 33, .out = 31, .kernel = 3, .why = "more images than chunks, tails on both sides"},
    {.batch = 1,
     .height = 29,
     .width = 31,
     .in = 5,
     .out = 3,
     .kernel = 3,
     .why = "fewer channels than any vector, several blocks of rows"},
    {.batch = 3, .height = 4, .width = 4, .in = 136, .out = 150, .kernel = 3, .why = "gradient too large for private sums"},
    {.batch = 3, .height = 5, .width = 4, .in = 136, .out = 150, .kernel = 3, .stride = 2, .why = "the same with stride 2"},
    {.batch = 2, .height = 7, .width = 7, .in = 100, .out = 33, .kernel = 1, .why = "pointwise"},
    {.batch = 3, .height = 9, .width = 11, .in = 200, .out = 96, .kernel = 1, .why = "pointwise, two blocks of pixels, three columns"},
    {.batch = 6,
     .height = 8,
     .width = 8,
     .in = 160,
     .out = 64,
     .kernel = 1,
     .magnitude = 3e4f,
     .why = "pointwise, pairs of pixels, small gradients"},
    {.batch = 3, .height = 18, .width = 25, .in = 72, .out = 80, .kernel = 1, .why = "pointwise, parts of one and of two blocks of pixels"},
    {.height = 1, .width = 3, .in = 264, .out = 32, .kernel = 1, .why = "pointwise, one column for all threads"},
    {.height = 17, .width = 19, .in = 40, .out = 530, .kernel = 1, .why = "pointwise, two tasks of outputs, tails on both sides"},
    {.batch = 2,
     .height = 5,
     .width = 6,
     .in = 1030,
     .out = 20,
     .kernel = 1,
     .why = "pointwise, three tasks of inputs, less than a block of pixels"},
    {.batch = 2,
     .height = 6,
     .width = 7,
     .in = 20,
     .out = 12,
     .kernel = 1,
     .stride = 2,
     .why = "pointwise, stride 2: pixels that no output saw"},
    {.batch = 2, .height = 9, .width = 8, .in = 16, .out = 20, .kernel = 3, .dilation = 2, .why = "dilation 2"},
    {.height = 5, .width = 6, .in = 3, .out = 20, .kernel = 3, .dilation = 4, .why = "dilation over the whole map, merged taps"},
    {.height = 9, .width = 10, .in = 8, .out = 8, .kernel = 3, .stride = 2, .dilation = 3, .why = "stride and dilation together"},
    {.height = 6, .width = 7, .in = 16, .out = 20, .kernel = 2, .stride = 2, .why = "even kernel without padding"},
    {.batch = 2, .height = 7, .width = 5, .in = 64, .out = 64, .kernel = 3, .groups = 32, .why = "2 channels a group"},
    {.batch = 2, .height = 7, .width = 6, .in = 72, .out = 72, .kernel = 3, .groups = 18, .why = "4 channels a group, a tail"},
    {.batch = 2,
     .height = 6,
     .width = 7,
     .in = 64,
     .out = 64,
     .kernel = 3,
     .stride = 2,
     .groups = 8,
     .why = "8 channels a group, stride 2"},
    {.batch = 2,
     .height = 7,
     .width = 6,
     .in = 64,
     .out = 64,
     .kernel = 3,
     .stride = 2,
     .groups = 32,
     .why = "2 channels a group, stride 2"},
    {.height = 7, .width = 6, .in = 64, .out = 64, .kernel = 3, .groups = 4, .why = "16 channels a group"},
    {.batch = 3, .height = 5, .width = 4, .in = 96, .out = 96, .kernel = 3, .groups = 6, .why = "16 channels a group, a task and a half"},
    {.batch = 2,
     .height = 8,
     .width = 9,
     .in = 96,
     .out = 96,
     .kernel = 3,
     .stride = 2,
     .groups = 3,
     .why = "32 channels a group, stride 2"},
    {.height = 7, .width = 7, .in = 40, .out = 40, .kernel = 3, .groups = 8, .why = "5 channels a group: straddles vectors"},
    {.height = 7, .width = 7, .in = 24, .out = 12, .kernel = 3, .groups = 4, .why = "groups with more inputs than outputs"},
    {.height = 7, .width = 7, .in = 19, .out = 19, .kernel = 5, .groups = 19, .why = "depthwise"},
    {.batch = 3, .height = 9, .width = 10, .in = 64, .out = 64, .kernel = 3, .why = "Winograd, tiles over both edges"},
    {.batch = 2, .height = 9, .width = 10, .in = 28, .out = 30, .kernel = 3, .why = "Winograd, lanes to spare on both sides"},
    {.batch = 2, .height = 5, .width = 6, .in = 56, .out = 60, .kernel = 3, .why = "Winograd, lanes to spare, shared sums"},
    {.batch = 40, .height = 8, .width = 7, .in = 32, .out = 96, .kernel = 3, .why = "Winograd, two sets of tiles"},
    {.height = 1, .width = 2, .in = 48, .out = 32, .kernel = 3, .why = "Winograd, less than a tile"},
    {.batch = 19, .height = 13, .width = 18, .in = 16, .out = 16, .kernel = 3, .why = "Winograd, private sums, more images than chunks"},
    {.height = 1, .width = 1, .in = 40, .out = 24, .kernel = 3, .why = "a single pixel: eight of nine taps fall outside"},
    {.height = 1, .width = 13, .in = 12, .out = 24, .kernel = 3, .stride = 2, .why = "one row"},
};
enum { CASE_COUNT = sizeof awkward / sizeof awkward[0] };

static float *random_floats(int64_t count, uint32_t seed)
{
    float *values = aligned_alloc(64, (size_t)(count * (int64_t)sizeof(float) + 63) / 64 * 64);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = pseudo_random(&seed);
    return values;
}

/* Maps with distance between pixels, so that a kernel that forgets the stride is found; the gap holds a mark. */
enum { GAP = 3 };
static const float MARK = 12345.0f;

struct problem {
    struct conv_shape shape;
    int64_t in_stride, out_stride, in_floats, out_floats, weight_floats;
    float *in, *weight, *out_gradient;
};

static struct problem problem_of(const struct conv_case *c)
{
    struct problem p = {.shape = conv_case_shape(c)};
    const struct conv_shape *s = &p.shape;
    p.in_stride = s->in_channels + GAP;
    p.out_stride = s->out_channels + GAP;
    p.in_floats = (int64_t)s->batch * s->in_height * s->in_width * p.in_stride;
    p.out_floats = (int64_t)s->batch * s->out_height * s->out_width * p.out_stride;
    p.weight_floats = (int64_t)s->out_channels * (s->in_channels / s->groups) * s->kernel * s->kernel;
    p.in = random_floats(p.in_floats, 1);
    p.weight = random_floats(p.weight_floats, 2);
    p.out_gradient = random_floats(p.out_floats, 3);
    for (int64_t i = 0; c->magnitude != 0.0f && i < p.in_floats; i++)
        p.in[i] *= c->magnitude;
    for (int64_t i = 0; c->magnitude != 0.0f && i < p.out_floats; i++)
        p.out_gradient[i] /= c->magnitude;
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->in);
    free(p->weight);
    free(p->out_gradient);
}

/* sum of out * out_gradient, in double, by the definition of a convolution. */
static double loss_of(const struct problem *p)
{
    const struct conv_shape *s = &p->shape;
    int in_group = s->in_channels / s->groups, out_group = s->out_channels / s->groups;
    double loss = 0.0;
    for (int n = 0; n < s->batch; n++)
        for (int oy = 0; oy < s->out_height; oy++)
            for (int ox = 0; ox < s->out_width; ox++)
                for (int o = 0; o < s->out_channels; o++)
                    for (int i = 0; i < in_group; i++)
                        for (int tap = 0; tap < s->kernel * s->kernel; tap++) {
                            int y = oy * s->stride + tap / s->kernel * s->dilation - s->padding,
                                x = ox * s->stride + tap % s->kernel * s->dilation - s->padding;
                            if (y >= 0 && x >= 0 && y < s->in_height && x < s->in_width)
                                loss +=
                                    (double)p->in[(((int64_t)n * s->in_height + y) * s->in_width + x) * p->in_stride
                                                  + o / out_group * in_group + i]
                                    * (double)p->weight[((int64_t)o * in_group + i) * s->kernel * s->kernel + tap]
                                    * (double)p->out_gradient[(((int64_t)n * s->out_height + oy) * s->out_width + ox) * p->out_stride + o];
                        }
    return loss;
}

/* The loss is linear in every input and every weight, so the difference quotient is exact but for rounding. */
static double numerical_derivative(const struct problem *p, float *element)
{
    float before = *element;
    *element = before + 1.0f;
    double up = loss_of(p);
    *element = before - 1.0f;
    double down = loss_of(p);
    double step = ((double)before + 1.0) - (double)*element;
    *element = before;
    return (up - down) / step;
}

static void reference_agrees_with_numerical_gradient(void **state)
{
    (void)state;
    for (int c = 0; c < CASE_COUNT; c++) {
        struct problem p = problem_of(&awkward[c]);
        if (p.out_floats * p.weight_floats / p.shape.out_channels > 4000000) { /* too slow to differentiate */
            problem_free(&p);
            continue;
        }
        float *in_gradient = random_floats(p.in_floats, 4), *weight_gradient = calloc((size_t)p.weight_floats, sizeof(float));
        assert_non_null(weight_gradient);
        conv_data_gradient_reference(&(struct conv_data_gradient_call){.shape = &p.shape,
                                                                       .weight = p.weight,
                                                                       .out_gradient = {p.out_gradient, p.out_stride},
                                                                       .in_gradient = {in_gradient, p.in_stride}});
        conv_weight_gradient_reference(&(struct conv_weight_gradient_call){.shape = &p.shape,
                                                                           .in = {p.in, p.in_stride},
                                                                           .out_gradient = {p.out_gradient, p.out_stride},
                                                                           .weight_gradient = weight_gradient});
        uint32_t seed = 5;
        for (int probe = 0; probe < 8; probe++) {
            int64_t w = (int64_t)((pseudo_random(&seed) + 1.0f) * 0.5f * (float)(p.weight_floats - 1));
            int64_t pixel = (int64_t)((pseudo_random(&seed) + 1.0f) * 0.5f * (float)(p.in_floats / p.in_stride - 1));
            int64_t i = pixel * p.in_stride + probe % p.shape.in_channels;
            double expected_w = numerical_derivative(&p, &p.weight[w]), expected_i = numerical_derivative(&p, &p.in[i]);
            if (fabs(expected_w - (double)weight_gradient[w]) > 1e-5 * (1.0 + fabs(expected_w))
                || fabs(expected_i - (double)in_gradient[i]) > 1e-5 * (1.0 + fabs(expected_i)))
                fail_msg("%s: weight %g, differentiated %g; input %g, differentiated %g", awkward[c].why, (double)weight_gradient[w],
                         expected_w, (double)in_gradient[i], expected_i);
        }
        free(in_gradient);
        free(weight_gradient);
        problem_free(&p);
    }
}

/* Largest difference relative to the largest value; marks between pixels must be untouched. */
static double difference(const float *a, const float *b, int64_t pixels, int channels, int64_t stride)
{
    double largest = 0.0, scale = 1e-20;
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < stride; c++) {
            double x = (double)a[p * stride + c], y = (double)b[p * stride + c];
            if (c >= channels)
                assert_true(x == (double)MARK && y == (double)MARK);
            else {
                largest = fmax(largest, fabs(x - y));
                scale = fmax(scale, fabs(y));
                assert_true(isfinite(x));
            }
        }
    return largest / scale;
}

static float *marked(int64_t pixels, int channels, int64_t stride)
{
    float *map = random_floats(pixels * stride, 6);
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = channels; c < stride; c++)
            map[p * stride + c] = MARK;
    return map;
}

/* With one thread and with three: both alike, bit for bit. */
static void check_data_gradient(enum isa isa, const struct problem *p, struct conv_data_gradient_call call, const float *expected,
                                struct thread_pool **pools, const char *why)
{
    const struct training_kernels *kernels = training_kernels(isa);
    const struct conv_shape *s = call.shape;
    int64_t pixels = p->in_floats / p->in_stride;
    float *packed = random_floats((int64_t)kernels->conv_data_gradient_packed_bytes(s, call.exact) / 4 + 16, 10), *first = NULL;

    kernels->conv_data_gradient_pack(s, call.exact, p->weight, packed);
    call.packed = packed;
    for (int pool = 0; pool < 2; pool++) {
        float *actual = marked(pixels, s->in_channels, p->in_stride);
        int threads = thread_pool_size(pools[pool]);
        call.scratch = random_floats((int64_t)kernels->conv_data_gradient_scratch_bytes(s, threads) / 4 + 16, 7);
        call.in_gradient = (struct map_view){actual, p->in_stride};
        call.pool = pools[pool];
        kernels->conv_data_gradient(&call);
        double d = difference(actual, expected, pixels, s->in_channels, p->in_stride);
        if (d > 3e-6)
            fail_msg("%s, data gradient, %s%s: off by %g", isa_name(isa), why, call.exact ? ", exact" : "", d);
        if (first)
            assert_memory_equal(first, actual, (size_t)p->in_floats * sizeof(float));
        free(call.scratch);
        free(first);
        first = actual;
    }
    free(packed);
    free(first);
}

/* expected: the reference's result */
static void check_weight_gradient(enum isa isa, const struct problem *p, const float *expected, struct thread_pool *const *pools,
                                  const char *why)
{
    const struct training_kernels *kernels = training_kernels(isa);
    const struct conv_shape *s = &p->shape;
    float *first = NULL;
    for (int run = 0; run < 6; run++) {
        float *actual = random_floats(p->weight_floats, 8);
        struct conv_weight_gradient_call call = {.shape = s,
                                                 .in = {p->in, p->in_stride},
                                                 .out_gradient = {p->out_gradient, p->out_stride},
                                                 .weight_gradient = actual,
                                                 .exact = run / 2 == 1,
                                                 .pairs = run / 2 == 2,
                                                 .pool = pools[run % 2]};
        call.scratch = random_floats((int64_t)kernels->conv_weight_gradient_scratch_bytes(s, thread_pool_size(call.pool)) / 4 + 16, 9);
        kernels->conv_weight_gradient(&call);
        double d = difference(actual, expected, 1, (int)p->weight_floats, p->weight_floats);
        if (d > (call.exact ? 3e-6 : 6e-6)) /* seven taps in Winograd's domain: twice the rounding */
            fail_msg("%s, weight gradient, %s%s: off by %g", isa_name(isa), why,
                     call.exact   ? ", exact"
                     : call.pairs ? ", in pairs"
                                  : "",
                     d);
        if (run % 2)
            assert_memory_equal(first, actual, (size_t)p->weight_floats * sizeof(float));
        free(call.scratch);
        free(first);
        first = actual;
    }
    free(first);
}

/* Case by case, so that the reference, which takes most of the time, runs once for all instruction sets. */
static void every_kernel_agrees_with_the_reference(void **state)
{
    (void)state;
    struct thread_pool *pools[2];
    assert_int_equal(thread_pool_create(1, &pools[0]), DLA_OK);
    assert_int_equal(thread_pool_create(3, &pools[1]), DLA_OK);
    for (int c = 0; c < CASE_COUNT; c++) {
        struct problem p = problem_of(&awkward[c]);
        const struct conv_shape *s = &p.shape;
        int64_t pixels = p.in_floats / p.in_stride;
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            float *expected = marked(pixels, s->in_channels, p.in_stride);
            struct conv_data_gradient_call call = {
                .shape = s, .weight = p.weight, .out_gradient = {p.out_gradient, p.out_stride}, .accumulate = accumulate};
            call.in_gradient = (struct map_view){expected, p.in_stride};
            conv_data_gradient_reference(&call);
            for (int isa = 0; isa < ISA_COUNT; isa++)
                for (int exact = 0; exact < 2 && isa_is_available((enum isa)isa); exact++) {
                    call.exact = exact;
                    check_data_gradient((enum isa)isa, &p, call, expected, pools, awkward[c].why);
                }
            free(expected);
        }
        float *expected = random_floats(p.weight_floats, 8);
        conv_weight_gradient_reference(&(struct conv_weight_gradient_call){
            .shape = s, .in = {p.in, p.in_stride}, .out_gradient = {p.out_gradient, p.out_stride}, .weight_gradient = expected});
        for (int isa = 0; isa < ISA_COUNT; isa++)
            if (isa_is_available((enum isa)isa))
                check_weight_gradient((enum isa)isa, &p, expected, pools, awkward[c].why);
        free(expected);
        problem_free(&p);
    }
    thread_pool_destroy(pools[0]);
    thread_pool_destroy(pools[1]);
}

/* An input that is not finite makes every gradient of its channel so: training is to notice. */
static void weight_gradients_keep_what_is_not_finite(void **state)
{
    static const struct conv_case pointwise = {.height = 9, .width = 10, .in = 96, .out = 64, .kernel = 1};
    static const float not_finite[] = {NAN, INFINITY};
    struct thread_pool *pool;

    (void)state;
    assert_int_equal(thread_pool_create(2, &pool), DLA_OK);
    for (int isa = 0; isa < ISA_COUNT; isa++)
        for (int value = 0; value < 2 && isa_is_available((enum isa)isa); value++) {
            const struct training_kernels *kernels = training_kernels((enum isa)isa);
            struct problem p = problem_of(&pointwise);
            struct conv_weight_gradient_call call = {
                .shape = &p.shape, .in = {p.in, p.in_stride}, .out_gradient = {p.out_gradient, p.out_stride}, .pool = pool};
            call.weight_gradient = random_floats(p.weight_floats, 8);
            call.scratch = random_floats((int64_t)kernels->conv_weight_gradient_scratch_bytes(&p.shape, 2) / 4 + 16, 9);
            p.in[23 * p.in_stride + 1] = not_finite[value];
            kernels->conv_weight_gradient(&call);
            for (int64_t row = 0; row < p.weight_floats; row += pointwise.in)
                if (isfinite(call.weight_gradient[row + 1]) || !isfinite(call.weight_gradient[row]))
                    fail_msg("%s: an input of %g gives a gradient of %g, and its neighbour one of %g", isa_name((enum isa)isa),
                             (double)not_finite[value], (double)call.weight_gradient[row + 1], (double)call.weight_gradient[row]);
            free(call.weight_gradient);
            free(call.scratch);
            problem_free(&p);
        }
    thread_pool_destroy(pool);
}

/* Where the stride is 1, the data gradient is the convolution with turned weights. */
static void turned_weights_give_the_data_gradient(void **state)
{
    (void)state;
    struct thread_pool *pool;
    assert_int_equal(thread_pool_create(1, &pool), DLA_OK);
    for (int c = 0; c < CASE_COUNT; c++) {
        struct problem p = problem_of(&awkward[c]);
        const struct conv_shape *s = &p.shape;
        if (s->stride == 1) {
            struct conv_shape turned = conv_turned_shape(s);
            int64_t pixels = p.in_floats / p.in_stride;
            float *expected = marked(pixels, s->in_channels, p.in_stride), *actual = marked(pixels, s->in_channels, p.in_stride);
            float *weight = random_floats(p.weight_floats, 1), *scale = random_floats(s->in_channels, 1),
                  *bias = calloc((size_t)s->in_channels, sizeof(float));
            assert_non_null(bias);
            for (int i = 0; i < s->in_channels; i++)
                scale[i] = 1.0f;
            conv_data_gradient_reference(&(struct conv_data_gradient_call){
                .shape = s, .weight = p.weight, .out_gradient = {p.out_gradient, p.out_stride}, .in_gradient = {expected, p.in_stride}});
            conv_turn_weights(s, p.weight, weight);
            float *packed = random_floats((int64_t)conv_reference.packed_bytes(&turned) / 4 + 16, 1);
            float *scratch = random_floats((int64_t)conv_reference.scratch_bytes(&turned, 1) / 4 + 16, 1);
            conv_reference.pack(&turned, weight, scale, packed);
            struct conv_call call = {.shape = &turned,
                                     .sources = {{p.out_gradient, p.out_stride}},
                                     .packed = packed,
                                     .bias = bias,
                                     .out = {actual, p.in_stride},
                                     .scratch = scratch};
            call.pool = pool;
            conv_reference.run(&call);
            double d = difference(actual, expected, pixels, s->in_channels, p.in_stride);
            if (d > 3e-6)
                fail_msg("%s: turned weights are off by %g", awkward[c].why, d);
            free(expected);
            free(actual);
            free(weight);
            free(scale);
            free(bias);
            free(packed);
            free(scratch);
        }
        problem_free(&p);
    }
    thread_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_numerical_gradient),
        cmocka_unit_test(every_kernel_agrees_with_the_reference),
        cmocka_unit_test(weight_gradients_keep_what_is_not_finite),
        cmocka_unit_test(turned_weights_give_the_data_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
