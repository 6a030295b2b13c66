/* test_bind.c - which tensors a network takes, which it refuses and in which words. */
#include "weights/bind.h"

#include "weights_making.h"

#include <math.h>

static char path[512];

/* Writes the made weights, opens and binds them; the caller frees what DLA_OK gave. */
static dla_status bind_made(const struct made_weights *made, const struct graph *graph, struct tensor_file **file,
                            struct bound_weights *bound)
{
    assert_ok(safetensors_write(path, made->tensors, made->count, NULL, 0, DTYPE_F32));
    assert_ok(tensor_file_open(path, file));
    return weights_bind(graph, "dla46_c", *file, bound);
}

static void expect_bound(const struct made_weights *made, const char *report_part)
{
    const struct graph *graph = &made->network->graph;
    struct bound_weights bound;
    struct tensor_file *file = NULL;

    assert_ok(bind_made(made, graph, &file, &bound));
    for (int p = 0; p < graph->parameter_count; p++)
        for (int64_t i = 0; i < graph->parameters[p].elements; i++)
            assert_true(bound.values[p][i] == made_value(i));
    if (strstr(bound.report, report_part) == NULL)
        fail_msg("\"%s\" does not contain \"%s\"", bound.report, report_part);
    bound_weights_free(&bound);
    tensor_file_close(file);
}

static void expect_refused(const struct made_weights *made, const char *message_part)
{
    struct bound_weights bound;
    struct tensor_file *file = NULL;

    assert_int_equal(bind_made(made, &made->network->graph, &file, &bound), DLA_ERROR_MISMATCH);
    assert_message_contains(path);
    assert_message_contains(message_part);
    tensor_file_close(file);
}

static void exact_weights_are_taken_without_a_copy(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);
    const struct graph *graph = &made.network->graph;
    struct bound_weights bound;
    struct tensor_file *file = NULL;

    (void)state;
    expect_bound(&made, "242 tensors used, 242 of float32");
    assert_ok(bind_made(&made, graph, &file, &bound));
    for (int p = 0; p < graph->parameter_count; p++) {
        const uint8_t *values = (const uint8_t *)bound.values[p];
        assert_true(values >= file->mapping.bytes && values < file->mapping.bytes + file->mapping.size);
        bound_weights_release(&bound, graph, p);
        assert_true(bound.values[p][0] == made_value(0)); /* dropped pages come back */
    }
    bound_weights_free(&bound);
    tensor_file_close(file);
    free_made_weights(&made);
}

static void a_wrong_shape_is_named_with_both(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);
    struct tensor_view *tensor = made_tensor(&made, "level0.0.weight");

    (void)state;
    tensor->shape[2] = tensor->shape[3] = 1;
    tensor_set_row_major(tensor);
    expect_refused(&made, "tensor 'level0.0.weight' is (16, 16, 1, 1), dla46_c needs (16, 16, 3, 3); `dla inspect");
    free_made_weights(&made);

    made = make_weights("dla46_c", 10); /* the right number of elements does not make up for a wrong shape */
    tensor = made_tensor(&made, "base_layer.1.bias");
    tensor->rank = 2;
    tensor->shape[0] = 4;
    tensor->shape[1] = 4;
    tensor_set_row_major(tensor);
    expect_refused(&made, "'base_layer.1.bias' is (4, 4), dla46_c needs (16)");
    free_made_weights(&made);
}

static void a_missing_tensor_is_named(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);

    (void)state;
    *made_tensor(&made, "level5.root.bn.running_var") = made.tensors[made.count - 1];
    made.count--; /* one parameter less, the last one twice: written once */
    struct tensor_view *last = made_tensor(&made, "level5.root.bn.weight");
    assert_non_null(last);
    expect_refused(&made, "'level5.root.bn.running_var' (256) is missing, dla46_c needs it");
    free_made_weights(&made);
}

static void an_unknown_tensor_is_named(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);

    (void)state;
    add_tensor(&made, "level9.weight", 2, (const int64_t[]){2, 3});
    expect_refused(&made, "tensor 'level9.weight' (2, 3) is not one of dla46_c's");
    made.count--;
    add_tensor(&made, "level9.num_batches_tracked", 1, (const int64_t[]){1}); /* beside no batch norm */
    expect_refused(&made, "'level9.num_batches_tracked' (1) is not one of");
    free_made_weights(&made);
}

static void many_problems_are_counted(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);

    (void)state;
    add_tensor(&made, "x", 1, (const int64_t[]){1});
    add_tensor(&made, "y", 1, (const int64_t[]){1});
    add_tensor(&made, "z", 1, (const int64_t[]){1});
    expect_refused(&made, "(and 2 other tensors)");
    free_made_weights(&made);
}

static void known_extras_are_left_out(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);
    const struct graph *graph = &made.network->graph;

    (void)state;
    assert_true(graph->unused_count > 0);
    for (int i = 0; i < graph->unused_count; i++)
        add_tensor(&made, graph->unused[i].name, graph->unused[i].rank, graph->unused[i].shape);
    add_tensor(&made, "base_layer.1.num_batches_tracked", 0, NULL)->dtype = DTYPE_I32;
    expect_bound(&made, "1 num_batches_tracked left out");
    expect_bound(&made, "projections that no forward pass uses left out");
    made_tensor(&made, graph->unused[0].name)->shape[0] = 1; /* known by name and shape, not by name alone */
    tensor_set_row_major(made_tensor(&made, graph->unused[0].name));
    expect_refused(&made, graph->unused[0].name);
    free_made_weights(&made);
}

static void wrappers_prefixes_are_removed(void **state)
{
    static const char *const prefixes[] = {"module.", "model.", "state_dict.", "_orig_mod.", "state_dict.module."};

    (void)state;
    for (size_t k = 0; k < sizeof(prefixes) / sizeof(prefixes[0]); k++) {
        struct made_weights made = make_weights("dla46_c", 10);
        for (int i = 0; i < made.count; i++)
            made.tensors[i].name = arena_format(&made.arena, "%s%s", prefixes[k], made.tensors[i].name);
        expect_bound(&made, prefixes[k]);
        made.tensors[0].name += strlen(prefixes[k]); /* a prefix that not all carry is part of the name */
        expect_refused(&made, "(and 481 other tensors)");
        free_made_weights(&made);
    }
}

static void a_linear_classifier_is_a_convolution(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);

    (void)state;
    made_tensor(&made, "fc.weight")->rank = 2;
    tensor_set_row_major(made_tensor(&made, "fc.weight"));
    expect_bound(&made, "fc.weight (10, 256) taken as (10, 256, 1, 1)");
    free_made_weights(&made);
}

static void a_classifier_too_many_is_left_out(void **state)
{
    struct made_weights made = make_weights("dla46_c", 0);

    (void)state;
    add_tensor(&made, "fc.weight", 4, (const int64_t[]){10, 256, 1, 1});
    add_tensor(&made, "fc.bias", 1, (const int64_t[]){10});
    expect_bound(&made, "fc left out");
    free_made_weights(&made);
}

/* timm's rule: one channel takes the sum over RGB; n channels repeat RGB, times 3/n. */
static void the_stem_adapts_to_other_channels(void **state)
{
    static const int channel_counts[] = {1, 2, 4, 7};
    struct made_weights made = make_weights("dla46_c", 10);

    (void)state;
    for (size_t k = 0; k < sizeof(channel_counts) / sizeof(channel_counts[0]); k++) {
        int channels = channel_counts[k];
        dla_architecture architecture = *dla_network_architecture(made.network);
        struct bound_weights bound;
        struct tensor_file *file = NULL;
        dla_network *network;

        architecture.in_channels = channels;
        assert_ok(dla_network_create(&architecture, &network));
        assert_ok(bind_made(&made, &network->graph, &file, &bound));
        const float *stem = bound.values[graph_find_parameter(&network->graph, "base_layer.0.weight")];
        const float *rgb = made_tensor(&made, "base_layer.0.weight")->data;
        for (int o = 0; o < 16; o++)
            for (int c = 0; c < channels; c++)
                for (int i = 0; i < 49; i++) {
                    const float *r = rgb + o * 147 + i;
                    float wanted = channels == 1 ? r[0] + r[49] + r[98] : r[c % 3 * 49] * (3.0f / (float)channels);
                    assert_true(fabsf(stem[(o * channels + c) * 49 + i] - wanted) <= 1e-7f);
                }
        bound_weights_free(&bound);
        tensor_file_close(file);
        dla_network_destroy(network);
    }
    free_made_weights(&made);
}

static void values_that_are_no_numbers_are_refused(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct made_weights made = make_weights("dla46_c", 10);
        ((float *)(uintptr_t)made_tensor(&made, "level0.0.weight")->data)[1234] = bad[k];
        expect_refused(&made, "tensor 'level0.0.weight' holds");
        assert_message_contains("at element 1234");
        free_made_weights(&made);
    }
    struct made_weights made = make_weights("dla46_c", 10);
    ((float *)(uintptr_t)made_tensor(&made, "base_layer.1.running_var")->data)[3] = -0.5f;
    expect_refused(&made, "'base_layer.1.running_var' holds a negative variance (-0.5 at element 3)");
    free_made_weights(&made);
}

/* Halves are converted; a file without alignment is copied. */
static void other_encodings_bind_to_the_same_values(void **state)
{
    struct made_weights made = make_weights("dla46_c", 10);
    const struct graph *graph = &made.network->graph;
    struct mapped_file written;

    (void)state;
    for (int encoding = 0; encoding < 2; encoding++) {
        struct bound_weights bound;
        struct tensor_file *file = NULL;
        uint8_t *bytes;

        assert_ok(safetensors_write(path, made.tensors, made.count, NULL, 0, encoding == 0 ? DTYPE_F16 : DTYPE_F32));
        assert_ok(file_map(path, &written));
        bytes = malloc(written.size + 1);
        memcpy(bytes + encoding, written.bytes, written.size);
        assert_ok(tensor_file_open_memory(bytes + encoding, written.size, path, &file));
        assert_ok(weights_bind(graph, "dla46_c", file, &bound));
        for (int p = 0; p < graph->parameter_count; p++) {
            assert_int_equal((uintptr_t)bound.values[p] % sizeof(float), 0);
            for (int64_t i = 0; i < graph->parameters[p].elements; i++)
                assert_true(bound.values[p][i] == made_value(i));
        }
        bound_weights_free(&bound);
        tensor_file_close(file);
        file_unmap(&written);
        free(bytes);
    }
    free_made_weights(&made);
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_weights_are_taken_without_a_copy),
        cmocka_unit_test(a_wrong_shape_is_named_with_both),
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(an_unknown_tensor_is_named),
        cmocka_unit_test(many_problems_are_counted),
        cmocka_unit_test(known_extras_are_left_out),
        cmocka_unit_test(wrappers_prefixes_are_removed),
        cmocka_unit_test(a_linear_classifier_is_a_convolution),
        cmocka_unit_test(a_classifier_too_many_is_left_out),
        cmocka_unit_test(the_stem_adapts_to_other_channels),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(other_encodings_bind_to_the_same_values),
    };
    temporary_path(path, sizeof(path), "bind.safetensors");
    return cmocka_run_group_tests(tests, NULL, remove_file);
}
