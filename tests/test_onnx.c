/* test_onnx.c - ONNX files, read back: every value defined before it is used, every parameter there under its name with its
 * numbers, operators and attributes as the graph says. What other engines compute from them, tools/compare_with_onnxruntime.py shows. */
#include "net/network.h"
#include "tasks/model.h"

#include "formula_weights.h"
#include "weights_check.h"

#if !DLA_HAVE_ONNX

static void a_build_without_protobuf_says_so(void **state)
{
    dla_model *model = NULL;

    (void)state;
    assert_ok(dla_model_open(NULL, &model));
    assert_int_equal(dla_model_export_onnx(model, NULL, "never.onnx"), DLA_ERROR_UNSUPPORTED);
    assert_message_contains("protobuf-c");
    dla_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_build_without_protobuf_says_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include "base/file.h"
#include "export/onnx.h"

static char path[600];

/* ---- a model made in memory ---- */

static dla_model make_model(const dla_architecture *architecture)
{
    dla_model model = {.preprocessing = DLA_PREPROCESSING_IMAGENET, .class_count = architecture->num_classes};
    assert_ok(dla_network_create(architecture, &model.own_network));
    model.network = model.own_network;
    model.weights = formula_weights_create(&model.network->graph);
    return model;
}

static void free_model(dla_model *model)
{
    formula_weights_free(&model->weights);
    dla_network_destroy(model->own_network);
}

/* A network of the zoo, with a few channels only. */
static dla_architecture small_architecture(const char *name)
{
    static const int channels[DLA_LEVEL_COUNT] = {8, 8, 32, 32, 64, 64};
    dla_architecture architecture;

    assert_ok(dla_architecture_find(name, &architecture));
    memcpy(architecture.channels, channels, sizeof(channels));
    if (architecture.cardinality > 1) {
        architecture.cardinality = 8;
        architecture.base_width = 16;
    }
    architecture.num_classes = 10;
    return architecture;
}

/* ---- reading back ---- */

static Onnx__ModelProto *read_model(void)
{
    struct mapped_file file;
    assert_ok(file_map(path, &file));
    Onnx__ModelProto *proto = onnx__model_proto__unpack(NULL, file.size, file.bytes);
    assert_non_null(proto);
    file_unmap(&file);
    return proto;
}

static const Onnx__TensorProto *find_constant(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (strcmp(graph->initializer[i]->name, name) == 0)
            return graph->initializer[i];
    return NULL;
}

static const Onnx__NodeProto *find_node(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_node; i++)
        if (strcmp(graph->node[i]->name, name) == 0)
            return graph->node[i];
    fail_msg("no node %s", name);
    return NULL;
}

static const Onnx__AttributeProto *find_attribute(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++)
        if (strcmp(node->attribute[i]->name, name) == 0)
            return node->attribute[i];
    return NULL;
}

static void expect_int(const Onnx__NodeProto *node, const char *name, int64_t number)
{
    const Onnx__AttributeProto *attribute = find_attribute(node, name);
    if (attribute == NULL)
        fail_msg("%s has no %s", node->name, name);
    assert_int_equal(attribute->type, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    assert_int_equal(attribute->i, number);
}

static void expect_ints(const Onnx__NodeProto *node, const char *name, const int64_t *numbers, size_t count)
{
    const Onnx__AttributeProto *attribute = find_attribute(node, name);
    if (attribute == NULL)
        fail_msg("%s has no %s", node->name, name);
    assert_int_equal(attribute->type, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    assert_int_equal(attribute->n_ints, count);
    assert_memory_equal(attribute->ints, numbers, count * sizeof(*numbers));
}

/* How many of a graph's values `name` is: an input, a constant, the output of one of the first `before` nodes. */
static int definitions(const Onnx__GraphProto *graph, const char *name, size_t before)
{
    int count = 0;

    for (size_t i = 0; i < graph->n_input; i++)
        count += strcmp(graph->input[i]->name, name) == 0;
    count += find_constant(graph, name) != NULL;
    for (size_t i = 0; i < before; i++)
        count += strcmp(graph->node[i]->output[0], name) == 0;
    return count;
}

static void check_graph(const Onnx__GraphProto *graph)
{
    for (size_t i = 0; i < graph->n_node; i++) {
        const Onnx__NodeProto *node = graph->node[i];
        assert_int_equal(node->n_output, 1);
        assert_int_equal(definitions(graph, node->output[0], i), 0);   /* defined once */
        for (size_t k = 0; k < node->n_input; k++)
            if (node->input[k][0] != '\0' && definitions(graph, node->input[k], i) != 1)
                fail_msg("%s uses %s, which is not defined before", node->name, node->input[k]);
    }
    assert_int_equal(graph->n_output, 1);
    assert_int_equal(definitions(graph, graph->output[0]->name, graph->n_node), 1);
    for (size_t i = 0; i < graph->n_initializer; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(graph->initializer[i]->name, graph->initializer[k]->name);
}

static void check_parameters(const Onnx__GraphProto *graph, const dla_model *model)
{
    const struct graph *own = &model->network->graph;

    for (int i = 0; i < own->parameter_count; i++) {
        const struct parameter *parameter = &own->parameters[i];
        const Onnx__TensorProto *tensor = find_constant(graph, parameter->name);
        if (tensor == NULL)
            fail_msg("no constant %s", parameter->name);
        assert_int_equal(tensor->data_type, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
        assert_int_equal(tensor->n_dims, parameter->rank);
        assert_memory_equal(tensor->dims, parameter->shape, (size_t)parameter->rank * sizeof(int64_t));
        assert_int_equal(tensor->raw_data.len, parameter->elements * 4);
        assert_memory_equal(tensor->raw_data.data, model->weights.values[i], tensor->raw_data.len);
    }
}

static void check_side(const Onnx__ValueInfoProto *info, size_t index, const char *name, int64_t size)
{
    const Onnx__TensorShapeProto__Dimension *side = info->type->tensor_type->shape->dim[index];
    if (name != NULL) {
        assert_int_equal(side->value_case, ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM);
        assert_string_equal(side->dim_param, name);
    } else {
        assert_int_equal(side->value_case, ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE);
        assert_int_equal(side->dim_value, size);
    }
}

static const char *expected_operator(const struct node *node)
{
    switch (node->op) {
    case OP_CONV2D:
        return "Conv";
    case OP_BATCH_NORM:
        return "BatchNormalization";
    case OP_RELU:
        return "Relu";
    case OP_ADD:
        return "Add";
    case OP_CONCAT:
        return "Concat";
    case OP_SLICE:
    case OP_CROP:
        return "Slice";
    case OP_MAX_POOL:
        return "MaxPool";
    case OP_AVERAGE_POOL:
        return node->as.pool.dilation == 1 ? "AveragePool" : "Conv";
    case OP_GLOBAL_AVERAGE_POOL:
        return "GlobalAveragePool";
    case OP_TRANSPOSED_CONV2D:
        return "ConvTranspose";
    case OP_LOG_SOFTMAX:
        return "LogSoftmax";
    default:
        return "";
    }
}

/* Every node of the graph is there under its name, with its operator and as many data inputs. */
static void check_nodes(const Onnx__GraphProto *graph, const struct graph *own)
{
    for (value v = 0; v < own->node_count; v++) {
        const struct node *node = &own->nodes[v];
        if (node->op == OP_INPUT)
            continue;
        const Onnx__NodeProto *made = find_node(graph, node->name);
        assert_string_equal(made->op_type, expected_operator(node));
        if (node->op == OP_CROP || (node->op == OP_MAX_POOL && node->as.pool.stride == 1))
            continue;   /* have helpers before them */
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] != own->input)
                assert_string_equal(made->input[i], own->nodes[node->inputs[i]].name);
        if (node->op == OP_CONV2D) {
            const int64_t strides[2] = {node->as.conv.stride, node->as.conv.stride}, side = node->as.conv.padding;
            const int64_t pads[4] = {side, side, side, side}, dilations[2] = {node->as.conv.dilation, node->as.conv.dilation};
            expect_int(made, "group", node->as.conv.groups);
            expect_ints(made, "strides", strides, 2);
            expect_ints(made, "pads", pads, 4);
            if (node->as.conv.dilation > 1)
                expect_ints(made, "dilations", dilations, 2);
        }
    }
}

/* ---- tests ---- */

static void every_network_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        const dla_architecture architecture = small_architecture(dla_architecture_at(i)->name);
        dla_model model = make_model(&architecture);
        assert_ok(dla_model_export_onnx(&model, NULL, path));
        Onnx__ModelProto *proto = read_model();

        assert_int_equal(proto->ir_version, 8);
        assert_int_equal(proto->n_opset_import, 1);
        assert_int_equal(proto->opset_import[0]->version, 17);
        assert_string_equal(proto->producer_name, "dla");
        assert_string_equal(proto->producer_version, dla_version());
        assert_string_equal(proto->graph->name, architecture.name);
        check_graph(proto->graph);
        check_parameters(proto->graph, &model);
        check_nodes(proto->graph, &model.network->graph);
        assert_string_equal(proto->graph->input[0]->name, "input");
        check_side(proto->graph->input[0], 0, "batch", 0);
        check_side(proto->graph->input[0], 1, NULL, 3);
        check_side(proto->graph->input[0], 2, NULL, 224);
        check_side(proto->graph->input[0], 3, NULL, 224);
        assert_string_equal(proto->graph->output[0]->name, "logits");
        check_side(proto->graph->output[0], 0, "batch", 0);
        check_side(proto->graph->output[0], 1, NULL, 10);
        assert_string_equal(proto->graph->node[proto->graph->n_node - 1]->op_type, "Flatten");
        onnx__model_proto__free_unpacked(proto, NULL);
        free_model(&model);
    }
}

static void pools_keep_their_size(void **state)
{
    dla_architecture architecture = small_architecture("dla60_res2net");
    const int64_t two[2] = {2, 2}, one[2] = {1, 1}, nothing[4] = {0}, behind[8] = {0, 0, 0, 0, 0, 0, 2, 2}, around[4] = {2, 2, 2, 2};

    (void)state;
    dla_model model = make_model(&architecture);
    assert_ok(dla_model_export_onnx(&model, NULL, path));
    Onnx__ModelProto *proto = read_model();
    const Onnx__NodeProto *pool = find_node(proto->graph, "level5.downsample");
    expect_int(pool, "ceil_mode", 1);
    expect_ints(pool, "kernel_shape", two, 2);
    expect_ints(pool, "strides", two, 2);
    expect_int(find_node(proto->graph, "level5.tree1.pool"), "count_include_pad", 1);
    onnx__model_proto__free_unpacked(proto, NULL);
    free_model(&model);

    architecture.output_stride = 8;   /* level 5: nothing is dropped, pixels two apart */
    model = make_model(&architecture);
    assert_ok(dla_model_export_onnx(&model, NULL, path));
    proto = read_model();
    check_graph(proto->graph);
    check_nodes(proto->graph, &model.network->graph);
    pool = find_node(proto->graph, "level5.downsample");
    expect_ints(pool, "kernel_shape", two, 2);
    expect_ints(pool, "strides", one, 2);
    expect_ints(pool, "dilations", two, 2);
    expect_ints(pool, "pads", nothing, 4);
    assert_string_equal(pool->input[0], "level5.downsample.pad");
    assert_string_equal(find_node(proto->graph, "level5.downsample.pad")->input[0], "level4.tree2.tree2.root.relu");
    const Onnx__TensorProto *pads = find_constant(proto->graph, "level5.downsample.pads");
    assert_non_null(pads);
    assert_int_equal(pads->raw_data.len, sizeof(behind));
    assert_memory_equal(pads->raw_data.data, behind, sizeof(behind));
    pool = find_node(proto->graph, "level5.tree1.pool");
    expect_ints(pool, "pads", around, 4);
    expect_ints(pool, "dilations", two, 2);
    onnx__model_proto__free_unpacked(proto, NULL);
    free_model(&model);
}

static void sizes_embeddings_and_dense_prediction(void **state)
{
    dla_architecture architecture = small_architecture("dla34");
    dla_onnx_options options = DLA_ONNX_OPTIONS_INIT;

    (void)state;
    architecture.num_classes = 0;
    architecture.in_channels = 1;
    dla_model model = make_model(&architecture);
    options.dynamic_size = true;
    options.opset = 20;
    assert_ok(dla_model_export_onnx(&model, &options, path));
    Onnx__ModelProto *proto = read_model();
    assert_int_equal(proto->opset_import[0]->version, 20);
    assert_int_equal(proto->ir_version, 9);
    assert_string_equal(proto->graph->output[0]->name, "embedding");
    check_side(proto->graph->input[0], 1, NULL, 1);
    check_side(proto->graph->input[0], 2, "height", 0);
    check_side(proto->graph->input[0], 3, "width", 0);
    check_side(proto->graph->output[0], 1, NULL, 64);
    onnx__model_proto__free_unpacked(proto, NULL);
    free_model(&model);

    architecture.num_classes = 5;
    architecture.down_ratio = 4;
    model = make_model(&architecture);
    options = (dla_onnx_options)DLA_ONNX_OPTIONS_INIT;
    options.height = 65;
    options.width = 97;
    assert_ok(dla_model_export_onnx(&model, &options, path));
    proto = read_model();
    check_graph(proto->graph);
    check_parameters(proto->graph, &model);
    check_nodes(proto->graph, &model.network->graph);
    assert_string_equal(proto->graph->output[0]->name, "log_probabilities");
    check_side(proto->graph->output[0], 1, NULL, 5);
    check_side(proto->graph->output[0], 2, NULL, 65);
    check_side(proto->graph->output[0], 3, NULL, 97);
    onnx__model_proto__free_unpacked(proto, NULL);
    free_model(&model);
}

static void preprocessing_and_labels_travel_along(void **state)
{
    dla_onnx_options options = DLA_ONNX_OPTIONS_INIT;
    dla_model *model = NULL;
    bool labels = false, preprocessing = false;

    (void)state;
    assert_ok(dla_model_open(NULL, &model));
    options.input = DLA_ONNX_INPUT_PHOTOGRAPH;
    assert_ok(dla_model_export_onnx(model, &options, path));
    Onnx__ModelProto *proto = read_model();
    check_graph(proto->graph);
    check_parameters(proto->graph, model);
    assert_int_equal(proto->opset_import[0]->version, 18);
    assert_string_equal(proto->graph->input[0]->name, "image");
    assert_int_equal(proto->graph->input[0]->type->tensor_type->elem_type, ONNX__TENSOR_PROTO__DATA_TYPE__UINT8);
    check_side(proto->graph->input[0], 1, "height", 0);
    check_side(proto->graph->input[0], 2, "width", 0);
    check_side(proto->graph->input[0], 3, NULL, 3);
    expect_int(find_node(proto->graph, "preprocessing.resize"), "antialias", 1);
    for (size_t i = 0; i < proto->n_metadata_props; i++) {
        labels |= strcmp(proto->metadata_props[i]->key, "labels") == 0 && strstr(proto->metadata_props[i]->value, "garbage truck") != NULL;
        preprocessing |= strcmp(proto->metadata_props[i]->key, "pretrained_cfg") == 0;
    }
    assert_true(labels && preprocessing);
    onnx__model_proto__free_unpacked(proto, NULL);

    options.input = DLA_ONNX_INPUT_PIXELS;
    options.dynamic_size = true;
    assert_ok(dla_model_export_onnx(model, &options, path));
    proto = read_model();
    check_graph(proto->graph);
    assert_int_equal(proto->opset_import[0]->version, 17);
    for (size_t i = 0; i < proto->graph->n_node; i++)
        assert_string_not_equal(proto->graph->node[i]->op_type, "Resize");
    onnx__model_proto__free_unpacked(proto, NULL);
    dla_model_close(model);
}

static void wrong_options_are_named_and_nothing_is_written(void **state)
{
    dla_architecture architecture = small_architecture("dla34");
    dla_onnx_options options = DLA_ONNX_OPTIONS_INIT;

    (void)state;
    unlink(path);
    architecture.in_channels = 4;
    dla_model model = make_model(&architecture);
    options.opset = 16;
    assert_int_equal(dla_model_export_onnx(&model, &options, path), DLA_ERROR_ARGUMENT);
    assert_message_contains("opset is 16, legal is 17 to 22");
    options.opset = 0;
    options.input = DLA_ONNX_INPUT_PIXELS;
    assert_int_equal(dla_model_export_onnx(&model, &options, path), DLA_ERROR_ARGUMENT);
    assert_message_contains("4 input channels");
    free_model(&model);

    architecture.in_channels = 3;
    model = make_model(&architecture);
    options.input = DLA_ONNX_INPUT_PHOTOGRAPH;
    options.opset = 17;
    assert_int_equal(dla_model_export_onnx(&model, &options, path), DLA_ERROR_ARGUMENT);
    assert_message_contains("legal is 18 to 22 for a model that resizes");
    options.opset = 0;
    options.height = options.width = 320;
    assert_int_equal(dla_model_export_onnx(&model, &options, path), DLA_ERROR_ARGUMENT);
    assert_message_contains("224x224");
    options = (dla_onnx_options)DLA_ONNX_OPTIONS_INIT;
    options.height = 224;
    options.width = 31;
    assert_int_equal(dla_model_export_onnx(&model, &options, path), DLA_ERROR_ARGUMENT);
    assert_message_contains("224x31");
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(dla_model_export_onnx(&model, NULL, "/nonexistent/folder/m.onnx"), DLA_ERROR_NOT_FOUND);
    assert_message_contains("/nonexistent/folder/m.onnx");
    free_model(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network_comes_back),
        cmocka_unit_test(pools_keep_their_size),
        cmocka_unit_test(sizes_embeddings_and_dense_prediction),
        cmocka_unit_test(preprocessing_and_labels_travel_along),
        cmocka_unit_test(wrong_options_are_named_and_nothing_is_written),
    };
    temporary_path(path, sizeof(path), "model.onnx");
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failures;
}

#endif
