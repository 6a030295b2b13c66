/* Three SGD steps of small networks against PyTorch: losses, every gradient, every parameter and running statistic afterwards.
 * tests/data/training_steps.json has PyTorch's numbers in double precision (tools/make_training_fixture.py); weights and
 * images come from the same formulas here and there. dense_training_steps.json is the same with a label for every pixel
 * (tools/make_dense_training_fixture.py). */
#include "base/memory.h"
#include "formula_random.h"
#include "net/network.h"
#include "tasks/dense_target.h"
#include "train/dense_loss.h"
#include "train/loss.h"
#include "train/optimiser.h"
#include "train/tape.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float parameter_value(const struct parameter *p, uint32_t seed, int64_t element)
{
    double random = (double)formula_random(seed, element);
    switch (p->kind) {
    case PARAMETER_CONV_WEIGHT:
        return (float)(random * sqrt(3.0 / (double)(p->shape[1] * p->shape[2] * p->shape[3])));
    case PARAMETER_RUNNING_VAR:
        return 1.0f;
    case PARAMETER_NORM_WEIGHT:
        return (float)(0.5 + 0.1 * random);
    case PARAMETER_NORM_BIAS:
        return (float)((random < 0.4 ? 1.5 : -1.5) + 0.2 * random);
    default:
        return (float)(0.1 * random);
    }
}

/* The fixture's three numbers of a tensor; each may be off by `tolerance` of the sum of magnitudes, and by `slack` where everything
 * almost cancelled. */
static void check_tensor(const json_t *expected, const float *values, int64_t count, double tolerance, double slack, const char *network,
                         const char *what, const char *name)
{
    double actual[3] = {0.0, 0.0, 0.0};
    uint32_t probe = formula_seed("probe");
    if (json_array_size(expected) != 3)
        fail_msg("%s: the fixture has no %s of %s", network, what, name);
    for (int64_t i = 0; i < count; i++) {
        actual[0] += (double)values[i];
        actual[1] += fabs((double)values[i]);
        actual[2] += (double)values[i] * (double)formula_random(probe, i);
    }
    double scale = json_number_value(json_array_get(expected, 1));
    for (size_t k = 0; k < 3; k++) {
        double truth = json_number_value(json_array_get(expected, k));
        if (!(fabs(actual[k] - truth) <= tolerance * scale + slack))
            fail_msg("%s: %s of %s: number %zu is %.9g, PyTorch has %.9g (magnitudes %.9g)", network, what, name, k, actual[k], truth,
                     scale);
    }
}

/* The labels of make_dense_training_fixture.py. */
static void make_pixel_labels(uint8_t *labels, int64_t pixels, int classes)
{
    uint32_t seed = formula_seed("labels"), ignored = formula_seed("ignored");
    for (int64_t i = 0; i < pixels; i++) {
        int label = (int)(((double)formula_random(seed, i) + 1.0) / 2.0 * classes);
        labels[i] = formula_random(ignored, i) > 0.5f ? TARGET_IGNORED : (uint8_t)(label < classes ? label : classes - 1);
    }
}

/* Of images whose label is their number modulo the classes, or of pixels. */
static double loss_of(struct tape *tape, const json_t *item, const struct tape_options *options, int classes)
{
    const json_t *weights = json_object_get(item, "class_weights");
    if (weights == NULL) {
        int labels[16], correct;
        for (int i = 0; i < options->batch; i++)
            labels[i] = i % classes;
        return cross_entropy(options->batch, classes, tape_output(tape, NULL), &(struct loss_targets){.a = labels}, 1.0f,
                             tape_output_gradient(tape), &correct);
    }
    int64_t pixels = (int64_t)options->batch * options->height * options->width;
    uint8_t *labels = malloc((size_t)pixels);
    float class_weights[16];
    assert_non_null(labels);
    for (size_t c = 0; c < json_array_size(weights); c++)
        class_weights[c] = (float)json_number_value(json_array_get(weights, c));
    make_pixel_labels(labels, pixels, classes);
    double loss =
        pixel_cross_entropy(pixels, classes, tape_output(tape, NULL), labels, class_weights, pixel_weight(pixels, labels, class_weights), 1.0f,
                            tape_output_gradient(tape))
            .loss;
    free(labels);
    return loss;
}

static void run_case(const json_t *item, enum isa isa, enum tape_by_image by_image)
{
    dla_architecture architecture;
    dla_network *network = NULL;
    char *config = json_dumps(json_object_get(item, "config"), 0);
    assert_non_null(config);
    if (dla_architecture_parse_config(config, strlen(config), "fixture", &architecture) != DLA_OK
        || dla_network_create(&architecture, &network) != DLA_OK)
        fail_msg("%s", dla_error_message());
    free(config);

    const struct graph *graph = &network->graph;
    struct tape_options options = {.isa = isa, .exact = true, .by_image = by_image};
    struct parameter_block parameters;
    struct thread_pool *pool;
    struct tape *tape;
    options.batch = (int)json_integer_value(json_object_get(item, "batch"));
    options.height = (int)json_integer_value(json_object_get(item, "height"));
    options.width = (int)json_integer_value(json_object_get(item, "width"));
    assert_int_equal(thread_pool_create(2, &pool), DLA_OK);
    assert_int_equal(parameter_block_create(graph, &parameters), DLA_OK);
    for (int i = 0; i < graph->parameter_count; i++)
        for (int64_t e = 0; e < graph->parameters[i].elements; e++)
            parameters.values[parameters.offsets[i] + e] =
                parameter_value(&graph->parameters[i], formula_seed(graph->parameters[i].name), e);
    assert_int_equal(tape_create(graph, &parameters, pool, &options, &tape), DLA_OK);
    float *velocity = allocate_floats(parameters.floats), *gradients = allocate_floats(parameters.floats);
    /* The loss is about 2; spread over pixels its gradients are that much smaller. */
    double slack = architecture.down_ratio > 0 ? 1e-8 : 1e-6;
    assert_non_null(velocity);
    assert_non_null(gradients);

    struct optimiser_options sgd = {.decay_norm_and_bias = true};
    sgd.momentum = (float)json_number_value(json_object_get(item, "momentum"));
    sgd.weight_decay = (float)json_number_value(json_object_get(item, "decay"));
    const json_t *losses = json_object_get(item, "losses");
    assert_true(json_array_size(losses) == 3);
    for (size_t step = 0; step < json_array_size(losses); step++) {
        uint32_t seed = formula_seed("images");
        for (int64_t i = 0; i < (int64_t)options.batch * options.height * options.width * 3; i++)
            tape_input(tape)[i] = formula_random(seed, i);
        tape_forward(tape, 0);
        double loss = loss_of(tape, item, &options, architecture.num_classes);
        double expected = json_number_value(json_array_get(losses, step));
        if (!(fabs(loss - expected) < 1e-5 * expected))
            fail_msg("%s: loss of step %zu is %.9g, PyTorch has %.9g", architecture.name, step, loss, expected);
        memset(gradients, 0, (size_t)parameters.floats * sizeof(float));
        tape_backward(tape, gradients);
        for (int i = 0; i < graph->parameter_count && step == 0; i++)
            if (graph->parameters[i].trainable)
                check_tensor(json_object_get(json_object_get(item, "gradients"), graph->parameters[i].name),
                             gradients + parameters.offsets[i], graph->parameters[i].elements, 1e-4, slack, architecture.name, "gradient",
                             graph->parameters[i].name);
        optimiser_step(&sgd, pool, &parameters, velocity, gradients, (float)json_number_value(json_object_get(item, "rate")));
    }
    for (int i = 0; i < graph->parameter_count; i++)
        check_tensor(json_object_get(json_object_get(item, "state"), graph->parameters[i].name), parameters.values + parameters.offsets[i],
                     graph->parameters[i].elements, 1e-5, 1e-6, architecture.name, "values", graph->parameters[i].name);
    memory_free(velocity);
    memory_free(gradients);
    tape_destroy(tape);
    parameter_block_free(&parameters);
    thread_pool_destroy(pool);
    dla_network_destroy(network);
}

static void run_fixture(const char *path, size_t cases)
{
    json_error_t error;
    json_t *fixture = json_load_file(path, 0, &error);
    if (fixture == NULL)
        fail_msg("%s", error.text);
    assert_int_equal(json_array_size(fixture), cases);
    for (size_t i = 0; i < json_array_size(fixture); i++)
        for (int isa = 0; isa < ISA_COUNT; isa++)
            if (isa_is_available((enum isa)isa)) {
                run_case(json_array_get(fixture, i), (enum isa)isa, BY_IMAGE_NONE);
                run_case(json_array_get(fixture, i), (enum isa)isa, BY_IMAGE_ALL);
            }
    json_decref(fixture);
}

static void three_steps_agree_with_pytorch(void **state)
{
    (void)state;
    run_fixture(TEST_DATA "/training_steps.json", 5);
}

static void three_dense_steps_agree_with_pytorch(void **state)
{
    (void)state;
    run_fixture(TEST_DATA "/dense_training_steps.json", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_steps_agree_with_pytorch),
        cmocka_unit_test(three_dense_steps_agree_with_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
