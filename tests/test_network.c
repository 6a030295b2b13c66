/* test_network.c - the graphs of the twelve networks: tensors as timm names and shapes them, values as every walk expects them. */
#include "net/aggregate.h"
#include "net/blocks.h"
#include "net/network.h"

#include "weights_check.h"

#include <math.h>

static dla_network *create(const dla_architecture *architecture)
{
    dla_network *network = NULL;
    assert_ok(dla_network_create(architecture, &network));
    return network;
}

static dla_network *create_named(const char *name)
{
    dla_architecture architecture;
    assert_ok(dla_architecture_find(name, &architecture));
    return create(&architecture);
}

/* ---- names and shapes of all tensors ----------------------------------------------------------------------------------- */

/* Marks parameter `module`.`field` as seen after comparing its shape. */
static void expect_tensor(const struct graph *graph, bool *seen, const char *module, const char *field, const int64_t *shape, int rank)
{
    char name[128];
    snprintf(name, sizeof(name), "%s.%s", module, field);
    int index = graph_find_parameter(graph, name);

    if (index == NO_PARAMETER)
        fail_msg("timm has %s, the graph has not", name);
    const struct parameter *parameter = &graph->parameters[index];
    int64_t elements = 1;
    assert_int_equal(parameter->rank, rank);
    for (int i = 0; i < rank; i++) {
        elements *= shape[i];
        if (parameter->shape[i] != shape[i])
            fail_msg("%s: side %d is %lld, timm's is %lld", name, i, (long long)parameter->shape[i], (long long)shape[i]);
    }
    assert_int_equal(parameter->elements, elements);
    assert_false(seen[index]);
    seen[index] = true;
}

static void expect_all_seen(const dla_network *network, const bool *seen)
{
    const struct graph *graph = &network->graph;
    for (int i = 0; i < graph->parameter_count; i++)
        if (!seen[i])
            fail_msg("%s: the graph has %s, timm has not", network->architecture.name, graph->parameters[i].name);
}

static void every_tensor_is_timms(void **state)
{
    static bool seen[4096];
    dla_network *network = NULL;
    char line[256], kind[16], name[112];
    int networks = 0;
    FILE *file = fopen(TEST_DATA "/timm_state_dicts.txt", "r");

    (void)state;
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        long long s[4];
        if (line[0] == '#')
            continue;
        int fields = sscanf(line, "%15s %111s %lld %lld %lld %lld", kind, name, &s[0], &s[1], &s[2], &s[3]);
        int64_t shape[4] = {s[0], fields > 3 ? s[1] : 0, fields > 4 ? s[2] : 0, fields > 5 ? s[3] : 0};
        if (strcmp(kind, "network") == 0) {
            if (network != NULL)
                expect_all_seen(network, seen);
            dla_network_destroy(network);
            network = create_named(name);
            assert_in_range(network->graph.parameter_count, 1, sizeof(seen));
            memset(seen, 0, sizeof(seen));
            networks++;
        } else if (strcmp(kind, "norm") == 0) {
            assert_int_equal(fields, 3);
            expect_tensor(&network->graph, seen, name, "weight", shape, 1);
            expect_tensor(&network->graph, seen, name, "bias", shape, 1);
            expect_tensor(&network->graph, seen, name, "running_mean", shape, 1);
            expect_tensor(&network->graph, seen, name, "running_var", shape, 1);
        } else {
            assert_int_equal(fields, 6);
            expect_tensor(&network->graph, seen, name, "weight", shape, 4);
            if (strcmp(kind, "conv+bias") == 0)
                expect_tensor(&network->graph, seen, name, "bias", shape, 1);
        }
    }
    expect_all_seen(network, seen);
    dla_network_destroy(network);
    fclose(file);
    assert_int_equal(networks, 12);
    assert_int_equal(dla_architecture_count(), 12);
}

/* The projections that the authors' trees of depth > 1 own and overwrite. */
static void unused_projections_have_their_exact_names(void **state)
{
    static const struct { const char *network; const char *const names[9]; } expected[] = {
        {"dla34", {"level3.project", "level4.project"}},
        {"dla46_c", {"level4.project"}},   /* level 3 keeps its 64 channels */
        {"dla60", {"level3.project", "level4.project", "level4.tree1.project"}},
        {"dla102", {"level3.project", "level3.tree1.project", "level4.project", "level4.tree1.project", "level4.tree1.tree1.project"}},
        {"dla169",
         {"level2.project", "level3.project", "level3.tree1.project", "level4.project", "level4.tree1.project", "level4.tree1.tree1.project",
          "level4.tree1.tree1.tree1.project"}},
    };
    static const char *const fields[] = {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"};
    enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

    (void)state;
    for (size_t n = 0; n < sizeof(expected) / sizeof(expected[0]); n++) {
        dla_network *network = create_named(expected[n].network);
        int next = 0;
        for (int p = 0; expected[n].names[p] != NULL; p++) {
            for (int f = 0; f < FIELDS; f++, next++) {
                char name[64];
                snprintf(name, sizeof(name), "%s.%s", expected[n].names[p], fields[f]);
                assert_in_range(next, 0, network->graph.unused_count - 1);
                assert_string_equal(network->graph.unused[next].name, name);
            }
        }
        assert_int_equal(next, network->graph.unused_count);
        dla_network_destroy(network);
    }
}

/* ---- what every walk over a graph relies on ---------------------------------------------------------------------------- */

static void check_graph(const struct graph *graph, int height, int width)
{
    struct map_size *sizes = calloc((size_t)graph->node_count, sizeof(*sizes));
    bool *used = calloc((size_t)graph->parameter_count, sizeof(*used));

    assert_ok(graph_infer_sizes(graph, height, width, sizes));
    for (value v = 0; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        assert_int_equal(graph_find_value(graph, node->name), v);   /* names are unique */
        for (int i = 0; i < node->input_count; i++)
            assert_in_range(node->inputs[i], 0, v - 1);             /* topological order */
        assert_in_range(sizes[v].height, 1, height);
        assert_in_range(sizes[v].width, 1, width);
        if (node->op == OP_ADD || node->op == OP_CONCAT) {
            for (int i = 1; i < node->input_count; i++)
                assert_memory_equal(&sizes[node->inputs[i]], &sizes[node->inputs[0]], sizeof(*sizes));
        }
        if (node->op == OP_ADD)
            assert_int_equal(graph->nodes[node->inputs[0]].channels, graph->nodes[node->inputs[1]].channels);
        if (node->op == OP_CONV2D || node->op == OP_TRANSPOSED_CONV2D)
            used[node->as.conv.weight] = true;
        if (node->op == OP_CONV2D && node->as.conv.bias != NO_PARAMETER)
            used[node->as.conv.bias] = true;
        if (node->op == OP_BATCH_NORM)
            used[node->as.batch_norm.weight] = used[node->as.batch_norm.bias] = used[node->as.batch_norm.running_mean] =
                used[node->as.batch_norm.running_var] = true;
    }
    for (int i = 0; i < graph->parameter_count; i++)
        assert_true(used[i]);
    for (int i = 0; i < graph->part_count; i++) {
        assert_true(graph->parts[i].first <= graph->parts[i].last);
        if (i > 0)
            assert_true(graph->parts[i].first > graph->parts[i - 1].last);
    }
    free(sizes);
    free(used);
}

static void graphs_are_sound_at_any_size(void **state)
{
    static const struct map_size sizes[] = {{32, 32}, {33, 47}, {224, 224}, {225, 319}, {1025, 61}};

    (void)state;
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        dla_network *network = create(dla_architecture_at(i));
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
            check_graph(&network->graph, sizes[s].height, sizes[s].width);
        dla_network_destroy(network);
    }
}

static void sizes_out_of_range_are_refused(void **state)
{
    dla_network *network = create_named("dla34");
    struct map_size *sizes = calloc((size_t)network->graph.node_count, sizeof(*sizes));

    (void)state;
    assert_int_equal(graph_infer_sizes(&network->graph, 31, 224, sizes), DLA_ERROR_ARGUMENT);
    assert_message_contains("31x224");
    assert_int_equal(graph_infer_sizes(&network->graph, 224, 65537, sizes), DLA_ERROR_ARGUMENT);
    assert_message_contains("32 to 65536");
    free(sizes);
    dla_network_destroy(network);
}

/* dla34's deepest aggregation nodes, source by source in the reference's order. */
static void aggregation_nodes_join_in_the_references_order(void **state)
{
    static const struct { const char *node; const char *const sources[8]; } expected[] = {
        {"level2.root.concat", {"level2.tree2.relu", "level2.tree1.relu"}},
        {"level3.tree1.root.concat", {"level3.tree1.tree2.relu", "level3.tree1.tree1.relu"}},
        {"level3.tree2.root.concat", {"level3.tree2.tree2.relu", "level3.tree2.tree1.relu", "level3.downsample", "level3.tree1.root.relu"}},
        {"level4.tree2.tree2.tree2.tree2.root.concat",
         {"level4.tree2.tree2.tree2.tree2.tree2.relu", "level4.tree2.tree2.tree2.tree2.tree1.relu", "level4.downsample",
          "level4.tree1.tree2.tree2.tree2.root.relu", "level4.tree2.tree1.tree2.tree2.root.relu", "level4.tree2.tree2.tree1.tree2.root.relu",
          "level4.tree2.tree2.tree2.tree1.root.relu"}},
    };
    static const char *const networks[] = {"dla34", "dla34", "dla34", "dla169"};

    (void)state;
    for (size_t e = 0; e < sizeof(expected) / sizeof(expected[0]); e++) {
        dla_network *network = create_named(networks[e]);
        value v = graph_find_value(&network->graph, expected[e].node);
        assert_int_not_equal(v, NO_VALUE);
        const struct node *node = &network->graph.nodes[v];
        for (int i = 0; i < node->input_count; i++) {
            assert_non_null(expected[e].sources[i]);
            assert_string_equal(network->graph.nodes[node->inputs[i]].name, expected[e].sources[i]);
        }
        assert_null(expected[e].sources[node->input_count]);
        dla_network_destroy(network);
    }
}

/* One map, pooled once: a tree and the subtree that starts with the same input share it. */
static void reduced_inputs_are_shared(void **state)
{
    dla_network *network = create_named("dla102");
    int pools = 0;

    (void)state;
    for (value v = 0; v < network->graph.node_count; v++)
        pools += network->graph.nodes[v].op == OP_MAX_POOL;
    assert_int_equal(pools, 4);   /* levels 2 to 5 */
    dla_network_destroy(network);
}

static void embeddings_and_other_inputs(void **state)
{
    dla_architecture architecture;
    dla_network *network;

    (void)state;
    assert_ok(dla_architecture_find("dla60x", &architecture));
    architecture.num_classes = 0;
    architecture.in_channels = 5;
    network = create(&architecture);
    assert_int_equal(graph_find_parameter(&network->graph, "fc.weight"), NO_PARAMETER);
    assert_int_equal(network->graph.nodes[network->graph.output].op, OP_GLOBAL_AVERAGE_POOL);
    assert_int_equal(network->graph.nodes[network->graph.output].channels, 1024);
    assert_int_equal(network->graph.parameters[graph_find_parameter(&network->graph, "base_layer.0.weight")].shape[1], 5);
    dla_network_destroy(network);
}

/* Lower output strides keep all tensors and the sizes of the finer levels. */
static void output_strides_keep_the_weights(void **state)
{
    static const char *const names[] = {"dla34", "dla102x", "dla60_res2net"};

    (void)state;
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        dla_architecture architecture;
        assert_ok(dla_architecture_find(names[n], &architecture));
        dla_network *nominal = create(&architecture);
        for (int output_stride = 16; output_stride >= 8; output_stride /= 2) {
            dla_census census;
            architecture.output_stride = output_stride;
            dla_network *network = create(&architecture);
            assert_int_equal(network->graph.node_count, nominal->graph.node_count);
            assert_int_equal(network->graph.parameter_count, nominal->graph.parameter_count);
            for (int i = 0; i < network->graph.parameter_count; i++) {
                assert_string_equal(network->graph.parameters[i].name, nominal->graph.parameters[i].name);
                assert_memory_equal(network->graph.parameters[i].shape, nominal->graph.parameters[i].shape, sizeof(int64_t[4]));
            }
            check_graph(&network->graph, 97, 225);
            assert_ok(dla_network_census(network, 97, 225, &census));
            for (int level = 0; level < DLA_LEVEL_COUNT; level++) {
                int stride = 1 << level < output_stride ? 1 << level : output_stride;
                assert_int_equal(census.levels[level].stride, stride);
                assert_int_equal(census.levels[level].height, (97 + stride - 1) / stride);
                assert_int_equal(census.levels[level].width, (225 + stride - 1) / stride);
            }
            dla_network_destroy(network);
        }
        dla_network_destroy(nominal);
    }
}

/* ---- iterative aggregation --------------------------------------------------------------------------------------------- */

/* DLA-Up over a pyramid of bare values, without any network: names, channels, factors and sizes as in the reference. */
static void iterative_aggregation_takes_any_pyramid(void **state)
{
    static const struct { const char *parameter; int64_t shape[4]; } expected[] = {
        {"up.ida_0.proj_1.0.weight", {32, 64, 1, 1}},
        {"up.ida_0.up_1.weight", {32, 1, 4, 4}},
        {"up.ida_0.node_1.0.weight", {32, 64, 3, 3}},
        {"up.ida_1.proj_1.0.weight", {16, 32, 1, 1}},
        {"up.ida_1.proj_2.0.weight", {16, 32, 1, 1}},
        {"up.ida_1.up_2.weight", {16, 1, 4, 4}},
        {"up.ida_1.node_2.0.weight", {16, 32, 3, 3}},
    };
    struct graph graph = {0};
    value layers[3];
    struct map_size *sizes;

    (void)state;
    value x = graph_input(&graph, 3);
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "layer%d", i);
        x = layers[i] = graph_conv(&graph, x, 16 << i, 3, 2, 1, 1, false, name);
    }
    value result = dla_up(&graph, layers, 3, "up");
    assert_ok(graph_status(&graph));
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        int index = graph_find_parameter(&graph, expected[i].parameter);
        if (index == NO_PARAMETER)
            fail_msg("no %s", expected[i].parameter);
        assert_memory_equal(graph.parameters[index].shape, expected[i].shape, sizeof(expected[i].shape));
    }
    assert_int_equal(graph_find_parameter(&graph, "up.ida_0.proj_0.0.weight"), NO_PARAMETER);   /* same channels: no projection */
    assert_int_equal(graph_find_parameter(&graph, "up.ida_0.up_0.weight"), NO_PARAMETER);       /* same size: no upsampling */
    check_graph(&graph, 75, 33);
    sizes = calloc((size_t)graph.node_count, sizeof(*sizes));
    assert_ok(graph_infer_sizes(&graph, 75, 33, sizes));
    assert_int_equal(graph.nodes[result].channels, 16);
    assert_int_equal(sizes[result].height, 38);   /* odd sizes: the coarser layers are cut to the finest */
    assert_int_equal(sizes[result].width, 17);
    free(sizes);
    graph_free(&graph);
}

static void dense_prediction_gives_classes_for_every_pixel(void **state)
{
    static const int ratios[] = {2, 4, 8, 16};
    dla_architecture architecture;

    (void)state;
    assert_ok(dla_architecture_find("dla34", &architecture));
    architecture.num_classes = 19;
    for (size_t r = 0; r < sizeof(ratios) / sizeof(ratios[0]); r++) {
        architecture.down_ratio = ratios[r];
        dla_network *network = create(&architecture);
        const struct graph *graph = &network->graph;
        struct map_size *sizes = calloc((size_t)graph->node_count, sizeof(*sizes));
        const struct parameter *up = &graph->parameters[graph_find_parameter(graph, "up.weight")];
        assert_int_not_equal(graph_find_parameter(graph, "base.level2.tree1.conv1.weight"), NO_PARAMETER);
        assert_int_not_equal(graph_find_parameter(graph, "dla_up.ida_0.node_1.1.running_var"), NO_PARAMETER);
        assert_int_not_equal(graph_find_parameter(graph, "fc.0.bias"), NO_PARAMETER);
        assert_false(up->trainable);
        assert_int_equal(up->shape[2], 2 * ratios[r]);
        assert_ok(graph_infer_sizes(graph, 65, 131, sizes));
        assert_int_equal(graph->nodes[graph->output].channels, 19);
        assert_int_equal(sizes[graph->output].height, 65);
        assert_int_equal(sizes[graph->output].width, 131);
        free(sizes);
        dla_network_destroy(network);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_is_timms),
        cmocka_unit_test(unused_projections_have_their_exact_names),
        cmocka_unit_test(graphs_are_sound_at_any_size),
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(aggregation_nodes_join_in_the_references_order),
        cmocka_unit_test(reduced_inputs_are_shared),
        cmocka_unit_test(embeddings_and_other_inputs),
        cmocka_unit_test(output_strides_keep_the_weights),
        cmocka_unit_test(iterative_aggregation_takes_any_pyramid),
        cmocka_unit_test(dense_prediction_gives_classes_for_every_pixel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
