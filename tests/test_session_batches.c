/* test_session_batches.c - a batch gives what its images give alone, however many of them go through the plan at a time. */
#include "weights_check.h"

#include <stdlib.h>

enum { BATCH = 6, CHANNELS = 3 };

static float *noise(size_t floats)
{
    float *values = malloc(floats * sizeof *values);
    uint32_t state = 7;

    assert_non_null(values);
    for (size_t i = 0; i < floats; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)state * 0x1p-30f;
    }
    return values;
}

/* Runs `count` images from `input` through a session of that batch: outputs[k] of (count, ...) each. */
static void run(const dla_model *model, int count, int side, int threads, dla_layout layout, const float *input, float *outputs[2],
                size_t floats[2])
{
    static const char *const features[] = {"level2", "output"};
    dla_session_options options = DLA_SESSION_OPTIONS_INIT;
    dla_session *session = NULL;

    options.batch = count;
    options.height = options.width = side;
    options.threads = threads;
    options.features = features;
    options.feature_count = 2;
    assert_int_equal(dla_session_create(model, &options, &session), DLA_OK);
    for (size_t k = 0; k < 2; k++) {
        int shape[4];
        dla_session_output_shape(session, k, shape);
        assert_int_equal(shape[0], count);
        floats[k] = (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
        outputs[k] = malloc((size_t)count * floats[k] * sizeof(float));
        assert_non_null(outputs[k]);
    }
    assert_int_equal(dla_session_run(session, layout, input, outputs), DLA_OK);
    dla_session_destroy(session);
}

/* 160 x 160: one thread takes the images one by one, four threads three at a time. 64 x 64: all at once. */
static void a_batch_is_its_images(void **state)
{
    static const int sides[] = {64, 160}, threads[] = {1, 4};
    dla_model *model = NULL;

    (void)state;
    assert_int_equal(dla_model_open(NULL, &model), DLA_OK);
    for (int s = 0; s < 2; s++)
        for (int t = 0; t < 2; t++)
            for (int layout = 0; layout < 2; layout++) {
                size_t image = (size_t)CHANNELS * (size_t)sides[s] * (size_t)sides[s], floats[2];
                float *input = noise(BATCH * image), *together[2], *alone[2];
                dla_layout order = layout ? DLA_LAYOUT_NHWC : DLA_LAYOUT_NCHW;
                run(model, BATCH, sides[s], threads[t], order, input, together, floats);
                for (size_t n = 0; n < BATCH; n++) {
                    run(model, 1, sides[s], threads[t], order, input + n * image, alone, floats);
                    for (size_t k = 0; k < 2; k++) {
                        for (size_t i = 0; i < floats[k]; i++)
                            assert_float_equal(together[k][n * floats[k] + i], alone[k][i], 2e-4);
                        free(alone[k]);
                    }
                }
                free(together[0]);
                free(together[1]);
                free(input);
            }
    dla_model_close(model);
}

static void impossible_batches_are_refused(void **state)
{
    static const int batches[] = {-1, 0, 4097};
    dla_model *model = NULL;
    dla_session *session = NULL;

    (void)state;
    assert_int_equal(dla_model_open(NULL, &model), DLA_OK);
    for (int i = 0; i < 3; i++) {
        dla_session_options options = DLA_SESSION_OPTIONS_INIT;
        options.batch = batches[i];
        assert_int_equal(dla_session_create(model, &options, &session), DLA_ERROR_ARGUMENT);
        assert_null(session);
        assert_message_contains("1 to 4096 are possible");
    }
    dla_model_close(model);
}

/* What no machine and no build can do; that there is no GPU, tests/test_device.sh sees. */
static void impossible_devices_are_refused(void **state)
{
    dla_session_options session_options = DLA_SESSION_OPTIONS_INIT;
    dla_benchmark_options benchmark_options = DLA_BENCHMARK_OPTIONS_INIT;
    dla_model *model = NULL;
    dla_session *session = NULL;
    dla_benchmark *benchmark = NULL;
    char name[64] = "";

    (void)state;
    assert_int_equal(dla_device_name(DLA_DEVICE_CPU, name), DLA_OK);
    assert_string_equal(name, "cpu");
    assert_int_equal(dla_device_name((dla_device)7, name), DLA_ERROR_ARGUMENT);
    assert_string_equal(name, "cpu");

    assert_int_equal(dla_model_open(NULL, &model), DLA_OK);
    session_options.precision = DLA_PRECISION_FLOAT16;
    assert_int_equal(dla_session_create(model, &session_options, &session), DLA_ERROR_UNSUPPORTED);
    assert_message_contains("float32 alone");
    session_options.precision = (dla_precision)4;
    assert_int_equal(dla_session_create(model, &session_options, &session), DLA_ERROR_ARGUMENT);
    session_options.precision = DLA_PRECISION_FLOAT32;
    session_options.device = (dla_device)7;
    assert_int_equal(dla_session_create(model, &session_options, &session), DLA_ERROR_ARGUMENT);
    assert_message_contains("device 7");
    assert_null(session);
    benchmark_options.precision = DLA_PRECISION_BFLOAT16;
    assert_int_equal(dla_benchmark_run(model, &benchmark_options, &benchmark), DLA_ERROR_UNSUPPORTED);
    assert_null(benchmark);
    dla_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_its_images),
        cmocka_unit_test(impossible_batches_are_refused),
        cmocka_unit_test(impossible_devices_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
