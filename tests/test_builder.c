/* Networks that a user puts together: every part gives what PyTorch gives (tools/make_aggregation_fixture.py), in both layouts,
 * by name or as the result, and mistakes are told when the network is asked for. */
#include "weights_check.h"

#include <math.h>
#include <stdlib.h>

#define FOLDER TEST_DATA "/aggregation"

#define assert_error(call, status, text)                                                                                                   \
    do {                                                                                                                                   \
        assert_int_equal((call), (status));                                                                                                \
        assert_message_contains(text);                                                                                                     \
    } while (0)

enum { INPUTS = 3, HEIGHT = 90, WIDTH = 134 };

/* The fixture's network: trees, nodes and iterative aggregation over three maps at strides 4, 8 and 16. */
static dla_network *build_fusion(void)
{
    dla_builder *b;
    dla_network *network;

    assert_ok(dla_builder_create("fusion", &b));
    dla_map fine = dla_builder_input(b, "fine", 6, 4), middle = dla_builder_input(b, "middle", 10, 8),
            coarse = dla_builder_input(b, "coarse", 12, 16);
    dla_map stem = dla_builder_conv(b, coarse, 8, 3, 1, "stem");
    dla_map extra = dla_builder_conv(b, fine, 10, 5, 2, "extra");
    dla_tree options = DLA_TREE_INIT;
    options.depth = 2;
    options.channels = 16;
    options.stride = 2;
    options.joins_input = true;
    options.residual_node = true;
    dla_map tree = dla_builder_tree(b, coarse, &options, "tree");
    dla_map pair = dla_builder_node(b, (dla_map[]){middle, extra}, 2, 10, true, "pair");
    dla_map ida = dla_builder_ida(b, (dla_map[]){fine, pair, stem, tree}, 4, 7, "ida");
    dla_map up = dla_builder_dla_up(b, (dla_map[]){ida, pair, stem}, 3, "up");
    assert_ok(dla_builder_finish(b, dla_builder_scores(b, up, 3, "scores"), &network));
    return network;
}

static dla_model *open_fusion(const dla_network *network)
{
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_model *model;

    options.network = network;
    options.weights = FOLDER "/fusion.safetensors";
    assert_ok(dla_model_open(&options, &model));
    return model;
}

static dla_session *open_session(const dla_model *model, bool exact, const char *feature)
{
    dla_session_options options = DLA_SESSION_OPTIONS_INIT;
    dla_session *session;

    options.batch = 2;
    options.height = HEIGHT;
    options.width = WIDTH;
    options.threads = 2;
    options.exact = exact;
    options.features = &feature;
    options.feature_count = feature != NULL ? 1 : 0;
    assert_ok(dla_session_create(model, &options, &session));
    return session;
}

static int64_t elements(const int shape[4])
{
    return (int64_t)shape[0] * shape[1] * shape[2] * shape[3];
}

/* (batch, channels, height, width) to (batch, height, width, channels); the caller frees it. */
static float *channels_last(const float *in, const int shape[4])
{
    int64_t plane = (int64_t)shape[2] * shape[3];
    float *out = malloc((size_t)elements(shape) * sizeof *out);

    assert_non_null(out);
    for (int image = 0; image < shape[0]; image++)
        for (int c = 0; c < shape[1]; c++)
            for (int64_t p = 0; p < plane; p++)
                out[(image * plane + p) * shape[1] + c] = in[(image * shape[1] + c) * plane + p];
    return out;
}

static void parts_equal_pytorch(void **state)
{
    static const char *const files[INPUTS] = {FOLDER "/fine.npy", FOLDER "/middle.npy", FOLDER "/coarse.npy"};
    dla_network *network = build_fusion();
    dla_model *model = open_fusion(network);
    dla_array arrays[INPUTS], expected;
    const float *inputs[INPUTS];

    (void)state;
    for (int i = 0; i < INPUTS; i++) {
        assert_ok(dla_npy_read(files[i], &arrays[i]));
        inputs[i] = arrays[i].values;
    }
    assert_ok(dla_npy_read(FOLDER "/expected.npy", &expected));
    for (int variant = 0; variant < 4; variant++) { /* exact or not; the result as such or by its node's name */
        dla_session *session = open_session(model, variant % 2 == 1, variant < 2 ? NULL : "scores");
        int shape[4];

        assert_int_equal(dla_session_input_count(session), INPUTS);
        assert_string_equal(dla_session_input_name(session, 1), "middle");
        assert_null(dla_session_input_name(session, INPUTS));
        for (size_t i = 0; i < INPUTS; i++) {
            dla_session_input_shape(session, i, shape);
            for (int k = 0; k < 4; k++)
                assert_int_equal(shape[k], arrays[i].shape[k]);
        }
        dla_session_output_shape(session, 0, shape);
        for (int k = 0; k < 4; k++)
            assert_int_equal(shape[k], expected.shape[k]);
        float *got = malloc((size_t)elements(shape) * sizeof *got);
        assert_non_null(got);
        assert_ok(dla_session_run_maps(session, DLA_LAYOUT_NCHW, inputs, &got));
        for (int64_t k = 0; k < elements(shape); k++)
            if (!(fabsf(got[k] - expected.values[k]) <= 1e-5f))
                fail_msg("variant %d: %g instead of %g at %lld", variant, (double)got[k], (double)expected.values[k], (long long)k);

        float *last[INPUTS], *got_last = malloc((size_t)elements(shape) * sizeof *got), *turned = channels_last(got, shape);
        assert_non_null(got_last);
        for (size_t i = 0; i < INPUTS; i++) {
            int in_shape[4];
            dla_session_input_shape(session, i, in_shape);
            last[i] = channels_last(inputs[i], in_shape);
        }
        assert_ok(dla_session_run_maps(session, DLA_LAYOUT_NHWC, (const float *const *)last, &got_last));
        assert_memory_equal(got_last, turned, (size_t)elements(shape) * sizeof *got);
        for (int i = 0; i < INPUTS; i++)
            free(last[i]);
        free(got_last);
        free(turned);
        free(got);
        dla_session_destroy(session);
    }
    for (int i = 0; i < INPUTS; i++)
        dla_free(arrays[i].values);
    dla_free(expected.values);
    dla_model_close(model);
    dla_network_destroy(network);
}

/* A backbone of one's own over one input works with dla_session_run, and without weights. */
static void one_input_needs_no_list(void **state)
{
    dla_builder *b;
    dla_network *network;
    dla_model *model;
    dla_session *session;
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_session_options session_options = DLA_SESSION_OPTIONS_INIT;
    float input[5 * 7 * 3], output[3 * 4 * 2], *outputs[1] = {output};
    int shape[4];

    (void)state;
    assert_ok(dla_builder_create("tiny", &b));
    dla_map image = dla_builder_input(b, "image", 3, 1), half = dla_builder_conv(b, image, 8, 3, 2, "half");
    assert_ok(dla_builder_finish(b, dla_builder_scores(b, half, 2, "scores"), &network));
    options.network = network;
    options.untrained = true;
    assert_ok(dla_model_open(&options, &model));
    assert_string_equal(dla_network_architecture(dla_model_network(model))->name, "tiny");
    session_options.height = 5;
    session_options.width = 7;
    assert_ok(dla_session_create(model, &session_options, &session));
    dla_session_output_shape(session, 0, shape);
    assert_int_equal(shape[2], 3);
    assert_int_equal(shape[3], 4);
    for (int i = 0; i < 5 * 7 * 3; i++)
        input[i] = (float)(i % 11) - 5.0f;
    assert_ok(dla_session_run(session, DLA_LAYOUT_NHWC, input, outputs));
    float sum = 0.0f;
    for (int i = 0; i < 3 * 4 * 2; i++)
        sum += fabsf(output[i]);
    assert_true(isfinite(sum) && sum > 0.0f);
    dla_session_destroy(session);
    dla_model_close(model);
    dla_network_destroy(network);
}

static void what_needs_levels_says_so(void **state)
{
    dla_network *network = build_fusion();
    dla_model *model = open_fusion(network);
    dla_session *session = open_session(model, false, NULL);
    dla_classifier *classifier = NULL;
    dla_dense *dense = NULL;
    dla_benchmark *benchmark = NULL;
    dla_census census;
    char *text;

    (void)state;
    assert_error(dla_session_run(session, DLA_LAYOUT_NCHW, NULL, NULL), DLA_ERROR_ARGUMENT, "has 3 inputs");
    assert_error(dla_network_draw_svg(network, "never.svg"), DLA_ERROR_UNSUPPORTED, "fusion was made with dla_builder");
    assert_error(dla_benchmark_run(model, NULL, &benchmark), DLA_ERROR_UNSUPPORTED, "fusion was made with dla_builder");
    assert_error(dla_classifier_create(model, NULL, &classifier), DLA_ERROR_UNSUPPORTED, "has no classes");
    assert_error(dla_dense_create(model, NULL, &dense), DLA_ERROR_ARGUMENT, "needs a network with DLA-Up");
    assert_ok(dla_network_census(network, HEIGHT, WIDTH, &census));
    assert_true(census.params > 0 && census.macs > 0);
    assert_ok(dla_network_to_text(network, &text));
    assert_non_null(strstr(text, "node_3"));
    dla_free(text);
    dla_session_destroy(session);
    dla_model_close(model);
    dla_network_destroy(network);
}

/* Each row makes one mistake with the maps it is given; the next call must not hide it. */
typedef dla_map mistake(dla_builder *b, dla_map fine, dla_map coarse);

static dla_map same_name(dla_builder *b, dla_map fine, dla_map coarse)
{
    (void)coarse;
    return dla_builder_conv(b, fine, 8, 3, 1, "fine");
}

static dla_map even_kernel(dla_builder *b, dla_map fine, dla_map coarse)
{
    (void)coarse;
    return dla_builder_conv(b, fine, 8, 4, 1, "conv");
}

static dla_map no_channels(dla_builder *b, dla_map fine, dla_map coarse)
{
    (void)coarse;
    return dla_builder_scores(b, fine, 0, "scores");
}

static dla_map coarse_first(dla_builder *b, dla_map fine, dla_map coarse)
{
    return dla_builder_ida(b, (dla_map[]){coarse, fine}, 2, 8, "ida");
}

static dla_map sizes_in_a_node(dla_builder *b, dla_map fine, dla_map coarse)
{
    return dla_builder_node(b, (dla_map[]){fine, coarse}, 2, 8, false, "node");
}

static dla_map residual_of_another_width(dla_builder *b, dla_map fine, dla_map coarse)
{
    (void)coarse;
    return dla_builder_node(b, &fine, 1, 8, true, "node");
}

static dla_map a_step_of_three(dla_builder *b, dla_map fine, dla_map coarse)
{
    return dla_builder_dla_up(b, (dla_map[]){fine, coarse}, 2, "up");
}

static dla_map foreign_map(dla_builder *b, dla_map fine, dla_map coarse)
{
    (void)fine;
    return dla_builder_ida(b, (dla_map[]){coarse, 77}, 2, 8, "ida");
}

static dla_map groups_that_divide_nothing(dla_builder *b, dla_map fine, dla_map coarse)
{
    dla_tree tree = DLA_TREE_INIT;

    (void)coarse;
    tree.block = DLA_BLOCK_BOTTLENECK;
    tree.cardinality = 32;
    tree.base_width = 1;
    return dla_builder_tree(b, fine, &tree, "tree");
}

static dla_map deep_tree(dla_builder *b, dla_map fine, dla_map coarse)
{
    dla_tree tree = DLA_TREE_INIT;

    (void)coarse;
    tree.depth = 9;
    return dla_builder_tree(b, fine, &tree, "tree");
}

static dla_map bad_name(dla_builder *b, dla_map fine, dla_map coarse)
{
    (void)coarse;
    return dla_builder_scores(b, fine, 2, "a name");
}

static void mistakes_are_told_at_the_end(void **state)
{
    static const struct {
        mistake *make;
        const char *text;
    } mistakes[] = {
        {same_name, "two parts called fine"},
        {even_kernel, "its kernel is 4"},
        {no_channels, "its number of channels is 0, legal is 1 to 16384"},
        {coarse_first, "finest map first"},
        {sizes_in_a_node, "joins maps of strides 4 and 12"},
        {residual_of_another_width, "cannot add its first map of 6 channels to a result of 8"},
        {a_step_of_three, "map 1 has stride 12, which must be twice"},
        {foreign_map, "is no map of this builder"},
        {groups_that_divide_nothing, "positive multiple of the cardinality"},
        {deep_tree, "its depth is 9, legal is 1 to 8"},
        {bad_name, "name is 'a name'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        dla_builder *b;
        dla_network *network = NULL;

        assert_ok(dla_builder_create("wrong", &b));
        dla_map fine = dla_builder_input(b, "fine", 6, 4), coarse = dla_builder_input(b, "coarse", 6, 12);
        assert_int_equal(mistakes[i].make(b, fine, coarse), DLA_NO_MAP);
        dla_map later = dla_builder_conv(b, fine, 0, 2, 0, "later");
        assert_int_equal(later, DLA_NO_MAP);
        assert_error(dla_builder_finish(b, later, &network), DLA_ERROR_ARGUMENT, mistakes[i].text);
        assert_null(network);
    }
}

static void a_network_and_an_architecture_are_too_much(void **state)
{
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_network *network = build_fusion();
    dla_model *model = NULL;

    (void)state;
    options.network = network;
    assert_error(dla_model_open(&options, &model), DLA_ERROR_ARGUMENT, "fusion needs a weights file");
    options.architecture = dla_architecture_at(0);
    assert_error(dla_model_open(&options, &model), DLA_ERROR_ARGUMENT, "both a network and an architecture");
    options.architecture = NULL;
    options.weights = TEST_DATA "/dense/small_up.safetensors";
    assert_error(dla_model_open(&options, &model), DLA_ERROR_MISMATCH, "fusion");
    dla_network_destroy(network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_equal_pytorch),
        cmocka_unit_test(one_input_needs_no_list),
        cmocka_unit_test(what_needs_levels_says_so),
        cmocka_unit_test(mistakes_are_told_at_the_end),
        cmocka_unit_test(a_network_and_an_architecture_are_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
