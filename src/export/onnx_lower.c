/* onnx_lower.c - a graph's operations as ONNX operators.
 *
 * Nearly all are one to one, and a node keeps its name and gives it to its value ("level3.tree1.root.conv"); parameters keep the
 * names of the state dict. Batch norms stay: every engine folds them itself, and a file that keeps them can be trained on.
 *
 *     max-pool        windows start at every stride-th pixel. At kernel = stride that is ceil mode; at stride 1 (a lowered output
 *                     stride) the map is padded first, since engines refuse a pool's own padding where it is not less than the kernel
 *     average pool    padding counts in the divisor. ONNX has dilated ones from opset 19 on only, so they become depthwise
 *                     convolutions with equal weights
 *     crop            a slice from (0, 0) to the other map's size, which is read at run time
 */
#include "export/onnx.h"

#include "base/status.h"

#include <float.h>

struct lowering {
    struct onnx_builder *builder;
    const struct graph *graph;
    const float *const *values; /* per parameter */
    const char *input, *output;
};

static const char *value_name(const struct lowering *l, value v)
{
    return v == l->graph->input ? l->input : v == l->graph->output ? l->output : l->graph->nodes[v].name;
}

/* Declares a parameter as a constant and returns its name. */
static const char *parameter(struct lowering *l, int index)
{
    const struct parameter *p = &l->graph->parameters[index];
    return onnx_floats(l->builder, p->name, l->values[index], p->shape, p->rank);
}

/* Appends the node of value v: its own inputs, then `extra` ones. */
static Onnx__NodeProto *append(struct lowering *l, value v, const char *op_type, const char *const *extra, int extra_count)
{
    enum { MAX_INPUTS = 24 }; /* the widest aggregation node and Res2Net block have fewer */
    const struct node *node = &l->graph->nodes[v];
    const char *inputs[MAX_INPUTS];
    int count = 0;

    for (int i = 0; i < node->input_count && count < MAX_INPUTS; i++)
        inputs[count++] = value_name(l, node->inputs[i]);
    for (int i = 0; i < extra_count && count < MAX_INPUTS; i++)
        inputs[count++] = extra[i];
    return onnx_node(l->builder, op_type, node->name, inputs, count, value_name(l, v));
}

static void add_window(struct lowering *l, Onnx__NodeProto *made, int kernel, int stride, int dilation, int pad_begin, int pad_end)
{
    const int64_t kernel_shape[2] = {kernel, kernel}, strides[2] = {stride, stride}, dilations[2] = {dilation, dilation};
    const int64_t pads[4] = {pad_begin, pad_begin, pad_end, pad_end};

    onnx_attribute_ints(l->builder, made, "kernel_shape", kernel_shape, 2);
    onnx_attribute_ints(l->builder, made, "strides", strides, 2);
    onnx_attribute_ints(l->builder, made, "pads", pads, 4);
    if (dilation != 1)
        onnx_attribute_ints(l->builder, made, "dilations", dilations, 2);
}

/* ---- one function per operation that is more than a name --------------------------------------------------------------- */

static void lower_conv(struct lowering *l, value v, const char *op_type)
{
    const struct conv_params *conv = &l->graph->nodes[v].as.conv;
    const char *extra[2] = {parameter(l, conv->weight), conv->bias != NO_PARAMETER ? parameter(l, conv->bias) : NULL};
    Onnx__NodeProto *made = append(l, v, op_type, extra, extra[1] != NULL ? 2 : 1);

    add_window(l, made, conv->kernel, conv->stride, conv->dilation, conv->padding, conv->padding);
    onnx_attribute_int(l->builder, made, "group", conv->groups);
}

static void lower_batch_norm(struct lowering *l, value v, const char *op_type)
{
    const struct batch_norm_params *norm = &l->graph->nodes[v].as.batch_norm;
    const char *extra[4] = {parameter(l, norm->weight), parameter(l, norm->bias), parameter(l, norm->running_mean),
                            parameter(l, norm->running_var)};
    Onnx__NodeProto *made = append(l, v, op_type, extra, 4);

    onnx_attribute_float(l->builder, made, "epsilon", norm->epsilon);
    onnx_attribute_float(l->builder, made, "momentum", 1.0f - norm->momentum); /* ONNX: the share of the old value */
}

static void lower_same(struct lowering *l, value v, const char *op_type)
{
    append(l, v, op_type, NULL, 0);
}

static void lower_along_channels(struct lowering *l, value v, const char *op_type)
{
    onnx_attribute_int(l->builder, append(l, v, op_type, NULL, 0), "axis", 1);
}

static void lower_slice(struct lowering *l, value v, const char *op_type)
{
    const struct node *node = &l->graph->nodes[v];
    const int64_t begin = node->as.slice.first_channel, end = begin + node->channels, axis = 1;
    const char *extra[3] = {
        onnx_int64s(l->builder, onnx_text(l->builder, "%s.begin", node->name), &begin, 1),
        onnx_int64s(l->builder, onnx_text(l->builder, "%s.end", node->name), &end, 1),
        onnx_int64s(l->builder, onnx_text(l->builder, "%s.axis", node->name), &axis, 1),
    };
    append(l, v, op_type, extra, 3);
}

static void lower_max_pool(struct lowering *l, value v, const char *op_type)
{
    const struct node *node = &l->graph->nodes[v];
    const struct pool_params *pool = &node->as.pool;

    if (pool->stride > 1) {
        Onnx__NodeProto *made = append(l, v, op_type, NULL, 0);
        add_window(l, made, pool->kernel, pool->stride, pool->dilation, 0, 0);
        onnx_attribute_int(l->builder, made, "ceil_mode", 1);
        return;
    }
    const int64_t behind = pool->dilation * (pool->kernel - 1), pads[8] = {0, 0, 0, 0, 0, 0, behind, behind};
    const char *padded = onnx_text(l->builder, "%s.pad", node->name);
    const char *inputs[3] = {
        value_name(l, node->inputs[0]),
        onnx_int64s(l->builder, onnx_text(l->builder, "%s.pads", node->name), pads, 8),
        onnx_scalar(l->builder, onnx_text(l->builder, "%s.lowest", node->name), -FLT_MAX),
    };
    onnx_node(l->builder, "Pad", padded, inputs, 3, padded);
    add_window(l, onnx_node(l->builder, op_type, node->name, &padded, 1, value_name(l, v)), pool->kernel, 1, pool->dilation, 0, 0);
}

static void lower_average_pool(struct lowering *l, value v, const char *op_type)
{
    const struct node *node = &l->graph->nodes[v];
    const struct pool_params *pool = &node->as.pool;

    if (pool->dilation == 1) {
        Onnx__NodeProto *made = append(l, v, op_type, NULL, 0);
        add_window(l, made, pool->kernel, pool->stride, 1, pool->padding, pool->padding);
        onnx_attribute_int(l->builder, made, "count_include_pad", 1);
        return;
    }
    int64_t shape[4] = {node->channels, 1, pool->kernel, pool->kernel};
    size_t taps = (size_t)node->channels * (size_t)pool->kernel * (size_t)pool->kernel;
    float *weight = arena_allocate_array(&l->builder->arena, taps, sizeof(*weight));
    if (weight == NULL) {
        l->builder->failed = true;
        return;
    }
    for (size_t i = 0; i < taps; i++)
        weight[i] = 1.0f / (float)(pool->kernel * pool->kernel);
    const char *extra[1] = {onnx_floats(l->builder, onnx_text(l->builder, "%s.weight", node->name), weight, shape, 4)};
    Onnx__NodeProto *made = append(l, v, "Conv", extra, 1);
    add_window(l, made, pool->kernel, pool->stride, pool->dilation, pool->padding, pool->padding);
    onnx_attribute_int(l->builder, made, "group", node->channels);
}

static void lower_crop(struct lowering *l, value v, const char *op_type)
{
    static const int64_t origin[2] = {0, 0}, sides[2] = {2, 3};
    const struct node *node = &l->graph->nodes[v];
    const char *inputs[4] = {
        value_name(l, node->inputs[0]),
        onnx_int64s(l->builder, onnx_text(l->builder, "%s.begin", node->name), origin, 2),
        onnx_sides(l->builder, value_name(l, node->inputs[1]), 2, 4, onnx_text(l->builder, "%s.size", node->name)),
        onnx_int64s(l->builder, onnx_text(l->builder, "%s.axes", node->name), sides, 2),
    };
    onnx_node(l->builder, op_type, node->name, inputs, 4, value_name(l, v));
}

/* The operator of every operation, and how its node is made; OP_INPUT has none. */
static const struct {
    const char *op_type;
    void (*lower)(struct lowering *l, value v, const char *op_type);
} operators[OP_COUNT] = {
    [OP_CONV2D] = {"Conv", lower_conv},
    [OP_BATCH_NORM] = {"BatchNormalization", lower_batch_norm},
    [OP_RELU] = {"Relu", lower_same},
    [OP_ADD] = {"Add", lower_same},
    [OP_CONCAT] = {"Concat", lower_along_channels},
    [OP_SLICE] = {"Slice", lower_slice},
    [OP_MAX_POOL] = {"MaxPool", lower_max_pool},
    [OP_AVERAGE_POOL] = {"AveragePool", lower_average_pool},
    [OP_GLOBAL_AVERAGE_POOL] = {"GlobalAveragePool", lower_same},
    [OP_TRANSPOSED_CONV2D] = {"ConvTranspose", lower_conv},
    [OP_CROP] = {"Slice", lower_crop},
    [OP_LOG_SOFTMAX] = {"LogSoftmax", lower_along_channels},
};

dla_status onnx_lower_graph(struct onnx_builder *builder, const struct graph *graph, const float *const *values, const char *input,
                            const char *output)
{
    struct lowering lowering = {.builder = builder, .graph = graph, .values = values, .input = input, .output = output};

    for (value v = 0; v < graph->node_count; v++) {
        enum op op = graph->nodes[v].op;
        if (operators[op].lower != NULL)
            operators[op].lower(&lowering, v, operators[op].op_type);
    }
    return builder->failed ? status_set(DLA_ERROR_MEMORY, "out of memory while making an ONNX model") : DLA_OK;
}
