/* graph.c - building and reading a network as data.
 *
 * All arrays grow by doubling inside the graph's arena: the old copy is given up, which wastes at most as much as is in use and
 * lets everything be freed at once. A memory failure sets graph->failed and turns every later call into a no-op, so builders
 * need not check each of some thousand calls.
 */
#include "net/graph.h"

#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *op_name(enum op op)
{
    static const char *const names[OP_COUNT] = {
        [OP_INPUT] = "input",
        [OP_CONV2D] = "conv2d",
        [OP_BATCH_NORM] = "batch_norm",
        [OP_RELU] = "relu",
        [OP_ADD] = "add",
        [OP_CONCAT] = "concat",
        [OP_SLICE] = "slice",
        [OP_MAX_POOL] = "max_pool",
        [OP_AVERAGE_POOL] = "average_pool",
        [OP_GLOBAL_AVERAGE_POOL] = "global_average_pool",
        [OP_TRANSPOSED_CONV2D] = "transposed_conv2d",
        [OP_CROP] = "crop",
        [OP_LOG_SOFTMAX] = "log_softmax",
    };
    return op >= 0 && op < OP_COUNT ? names[op] : "unknown";
}

/* ---- growing arrays ---------------------------------------------------------------------------------------------------- */

/* Makes room for one more element; returns the array, or NULL (and graph->failed) when memory is exhausted. */
static void *grow(struct graph *graph, void *array, int count, int *capacity, size_t element_size)
{
    if (graph->failed)
        return NULL;
    if (count < *capacity)
        return array;
    int larger_capacity = *capacity == 0 ? 64 : 2 * *capacity;
    void *larger = arena_allocate_array(&graph->arena, (size_t)larger_capacity, element_size);
    if (larger == NULL) {
        graph->failed = true;
        return NULL;
    }
    if (count > 0)
        memcpy(larger, array, (size_t)count * element_size);
    *capacity = larger_capacity;
    return larger;
}

static const char *copy_name(struct graph *graph, const char *name)
{
    const char *copy = graph->failed ? NULL : arena_copy_string(&graph->arena, name);
    if (copy == NULL) {
        graph->failed = true;
        return "";
    }
    return copy;
}

const char *graph_name(struct graph *graph, const char *format, ...)
{
    char text[256]; /* the deepest legal tree needs about 80 */
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return copy_name(graph, text);
}

static value append_node(struct graph *graph, struct node node, const value *inputs, int input_count)
{
    struct node *nodes = grow(graph, graph->nodes, graph->node_count, &graph->node_capacity, sizeof(*nodes));
    if (nodes == NULL)
        return 0;
    graph->nodes = nodes;

    value *own_inputs = NULL;
    if (input_count > 0) {
        own_inputs = arena_allocate_array(&graph->arena, (size_t)input_count, sizeof(*own_inputs));
        if (own_inputs == NULL) {
            graph->failed = true;
            return 0;
        }
        memcpy(own_inputs, inputs, (size_t)input_count * sizeof(*own_inputs));
    }
    node.name = copy_name(graph, node.name);
    node.inputs = own_inputs;
    node.input_count = input_count;
    if (graph->failed)
        return 0;
    nodes[graph->node_count] = node;
    return graph->node_count++;
}

static struct parameter make_parameter(struct graph *graph, enum parameter_kind kind, int rank, const int64_t shape[4], const char *node_name,
                                       const char *field)
{
    struct parameter parameter = {
        .name = graph_name(graph, "%s.%s", node_name, field),
        .kind = kind,
        .trainable = kind != PARAMETER_RUNNING_MEAN && kind != PARAMETER_RUNNING_VAR,
        .rank = rank,
        .elements = 1,
    };
    for (int i = 0; i < rank; i++) {
        parameter.shape[i] = shape[i];
        parameter.elements *= shape[i];
    }
    return parameter;
}

static int append_parameter(struct graph *graph, struct parameter parameter)
{
    struct parameter *parameters =
        grow(graph, graph->parameters, graph->parameter_count, &graph->parameter_capacity, sizeof(*parameters));
    if (parameters == NULL)
        return NO_PARAMETER;
    graph->parameters = parameters;
    parameters[graph->parameter_count] = parameter;
    return graph->parameter_count++;
}

static void append_unused(struct graph *graph, struct parameter parameter)
{
    struct parameter *unused = grow(graph, graph->unused, graph->unused_count, &graph->unused_capacity, sizeof(*unused));
    if (unused == NULL)
        return;
    graph->unused = unused;
    unused[graph->unused_count++] = parameter;
}

/* ---- operations -------------------------------------------------------------------------------------------------------- */

int graph_channels(const struct graph *graph, value of)
{
    return graph->failed ? 1 : graph->nodes[of].channels;
}

value graph_input_map(struct graph *graph, const char *name, int channels, int stride)
{
    struct node node = {.op = OP_INPUT, .name = name, .channels = channels};
    node.as.input.stride = stride;
    value v = append_node(graph, node, NULL, 0);
    if (graph->input_count == 0)
        graph->input = v;
    if (!graph->failed && graph->input_count < GRAPH_MAX_INPUTS)
        graph->inputs[graph->input_count++] = v;
    if (graph->smallest_side == 0)
        graph->smallest_side = 1;
    return v;
}

value graph_input(struct graph *graph, int channels)
{
    enum { SMALLEST_PHOTOGRAPH = 32 };   /* below, level 5 would see less than a pixel */

    graph->smallest_side = SMALLEST_PHOTOGRAPH;
    return graph_input_map(graph, "input", channels, 1);
}

value graph_conv(struct graph *graph, value in, int out_channels, int kernel, int stride, int dilation, int groups, bool bias, const char *name)
{
    int64_t weight_shape[4] = {out_channels, graph_channels(graph, in) / groups, kernel, kernel};
    struct node node = {.op = OP_CONV2D, .name = name, .channels = out_channels};
    node.as.conv = (struct conv_params){
        .kernel = kernel,
        .stride = stride,
        .padding = dilation * (kernel - 1) / 2,
        .dilation = dilation,
        .groups = groups,
        .weight = append_parameter(graph, make_parameter(graph, PARAMETER_CONV_WEIGHT, 4, weight_shape, name, "weight")),
        .bias = NO_PARAMETER,
    };
    if (bias)
        node.as.conv.bias = append_parameter(graph, make_parameter(graph, PARAMETER_BIAS, 1, weight_shape, name, "bias"));
    return append_node(graph, node, &in, 1);
}

value graph_transposed_conv(struct graph *graph, value in, int out_channels, int kernel, int stride, int padding, int groups, bool trainable,
                            const char *name)
{
    int64_t weight_shape[4] = {graph_channels(graph, in), out_channels / groups, kernel, kernel};
    struct parameter weight = make_parameter(graph, PARAMETER_CONV_WEIGHT, 4, weight_shape, name, "weight");
    weight.trainable = trainable;
    struct node node = {.op = OP_TRANSPOSED_CONV2D, .name = name, .channels = out_channels};
    node.as.conv = (struct conv_params){
        .kernel = kernel,
        .stride = stride,
        .padding = padding,
        .dilation = 1,
        .groups = groups,
        .weight = append_parameter(graph, weight),
        .bias = NO_PARAMETER,
    };
    return append_node(graph, node, &in, 1);
}

/* The tensors of a batch norm, with PyTorch's names, in the order of its state dict. */
enum { NORM_TENSOR_COUNT = 4 };
static const struct {
    enum parameter_kind kind;
    const char *field;
} norm_tensors[NORM_TENSOR_COUNT] = {
    {PARAMETER_NORM_WEIGHT, "weight"},
    {PARAMETER_NORM_BIAS, "bias"},
    {PARAMETER_RUNNING_MEAN, "running_mean"},
    {PARAMETER_RUNNING_VAR, "running_var"},
};

value graph_batch_norm(struct graph *graph, value in, const char *name)
{
    int channels = graph_channels(graph, in);
    int64_t shape[4] = {channels};
    int tensors[NORM_TENSOR_COUNT];

    for (int i = 0; i < NORM_TENSOR_COUNT; i++)
        tensors[i] = append_parameter(graph, make_parameter(graph, norm_tensors[i].kind, 1, shape, name, norm_tensors[i].field));
    struct node node = {.op = OP_BATCH_NORM, .name = name, .channels = channels};
    node.as.batch_norm = (struct batch_norm_params){
        .epsilon = 1e-5f,
        .momentum = 0.1f,
        .weight = tensors[0],
        .bias = tensors[1],
        .running_mean = tensors[2],
        .running_var = tensors[3],
    };
    return append_node(graph, node, &in, 1);
}

static value append_elementwise(struct graph *graph, enum op op, const value *inputs, int input_count, const char *name)
{
    struct node node = {.op = op, .name = name, .channels = graph_channels(graph, inputs[0])};
    return append_node(graph, node, inputs, input_count);
}

value graph_relu(struct graph *graph, value in, const char *name)
{
    return append_elementwise(graph, OP_RELU, &in, 1, name);
}

value graph_add(struct graph *graph, value a, value b, const char *name)
{
    value inputs[2] = {a, b};
    return append_elementwise(graph, OP_ADD, inputs, 2, name);
}

value graph_global_average_pool(struct graph *graph, value in, const char *name)
{
    return append_elementwise(graph, OP_GLOBAL_AVERAGE_POOL, &in, 1, name);
}

value graph_crop(struct graph *graph, value in, value like, const char *name)
{
    value inputs[2] = {in, like};
    return append_elementwise(graph, OP_CROP, inputs, 2, name);
}

value graph_log_softmax(struct graph *graph, value in, const char *name)
{
    return append_elementwise(graph, OP_LOG_SOFTMAX, &in, 1, name);
}

value graph_concat(struct graph *graph, const value *inputs, int count, const char *name)
{
    struct node node = {.op = OP_CONCAT, .name = name, .channels = 0};
    for (int i = 0; i < count; i++)
        node.channels += graph_channels(graph, inputs[i]);
    return append_node(graph, node, inputs, count);
}

value graph_slice(struct graph *graph, value in, int first_channel, int channels, const char *name)
{
    struct node node = {.op = OP_SLICE, .name = name, .channels = channels};
    node.as.slice.first_channel = first_channel;
    return append_node(graph, node, &in, 1);
}

static value append_pool(struct graph *graph, enum op op, value in, struct pool_params pool, const char *name)
{
    struct node node = {.op = op, .name = name, .channels = graph_channels(graph, in)};
    node.as.pool = pool;
    return append_node(graph, node, &in, 1);
}

value graph_max_pool(struct graph *graph, value in, int kernel, int stride, int dilation, const char *name)
{
    struct pool_params pool = {.kernel = kernel, .stride = stride, .padding = 0, .dilation = dilation};
    return append_pool(graph, OP_MAX_POOL, in, pool, name);
}

value graph_average_pool(struct graph *graph, value in, int kernel, int stride, int padding, int dilation, const char *name)
{
    struct pool_params pool = {.kernel = kernel, .stride = stride, .padding = padding, .dilation = dilation};
    return append_pool(graph, OP_AVERAGE_POOL, in, pool, name);
}

/* ---- parts and unused tensors ------------------------------------------------------------------------------------------ */

void graph_begin_part(struct graph *graph, enum part_kind kind, const char *name)
{
    struct part *parts = grow(graph, graph->parts, graph->part_count, &graph->part_capacity, sizeof(*parts));
    if (parts == NULL)
        return;
    graph->parts = parts;
    parts[graph->part_count++] = (struct part){.kind = kind, .name = copy_name(graph, name), .first = graph->node_count, .last = NO_VALUE};
}

void graph_end_part(struct graph *graph, value last)
{
    if (!graph->failed)
        graph->parts[graph->part_count - 1].last = last;
}

void graph_declare_unused_conv(struct graph *graph, int out_channels, int in_channels, int kernel, bool bias, const char *name)
{
    int64_t shape[4] = {out_channels, in_channels, kernel, kernel};
    append_unused(graph, make_parameter(graph, PARAMETER_CONV_WEIGHT, 4, shape, name, "weight"));
    if (bias)
        append_unused(graph, make_parameter(graph, PARAMETER_BIAS, 1, shape, name, "bias"));
}

void graph_declare_unused_batch_norm(struct graph *graph, int channels, const char *name)
{
    int64_t shape[4] = {channels};
    for (int i = 0; i < NORM_TENSOR_COUNT; i++)
        append_unused(graph, make_parameter(graph, norm_tensors[i].kind, 1, shape, name, norm_tensors[i].field));
}

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

dla_status graph_status(const struct graph *graph)
{
    return graph->failed ? status_set(DLA_ERROR_MEMORY, "out of memory while building a network") : DLA_OK;
}

void graph_free(struct graph *graph)
{
    arena_free(&graph->arena);
    *graph = (struct graph){0};
}

/* Pixels a side of a node's map, from that of its inputs; the rules are the same for rows and columns. */
static int output_side(const struct node *node, int in_side, int like_side)
{
    const struct conv_params *conv = &node->as.conv;
    const struct pool_params *pool = &node->as.pool;

    switch (node->op) {
    case OP_CONV2D:
        return (in_side + 2 * conv->padding - conv->dilation * (conv->kernel - 1) - 1) / conv->stride + 1;
    case OP_TRANSPOSED_CONV2D:
        return (in_side - 1) * conv->stride - 2 * conv->padding + conv->kernel;
    case OP_MAX_POOL:
        return (in_side + pool->stride - 1) / pool->stride;
    case OP_AVERAGE_POOL:
        return (in_side + 2 * pool->padding - pool->dilation * (pool->kernel - 1) - 1) / pool->stride + 1;
    case OP_GLOBAL_AVERAGE_POOL:
        return 1;
    case OP_CROP:
        return in_side < like_side ? in_side : like_side;
    default:
        return in_side;
    }
}

dla_status graph_infer_sizes(const struct graph *graph, int height, int width, struct map_size *sizes)
{
    enum { MAXIMUM_SIDE = 65536 };   /* above, offsets overflow */

    if (height < graph->smallest_side || width < graph->smallest_side || height > MAXIMUM_SIDE || width > MAXIMUM_SIDE)
        return status_set(DLA_ERROR_ARGUMENT, "an input of %dx%d (height x width) is out of range: each side may be %d to %d pixels", height, width,
                          graph->smallest_side, MAXIMUM_SIDE);
    for (value v = 0; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        if (node->op == OP_INPUT) {
            int stride = node->as.input.stride;
            sizes[v] = (struct map_size){(height + stride - 1) / stride, (width + stride - 1) / stride};
            continue;
        }
        struct map_size in = sizes[node->inputs[0]], like = sizes[node->inputs[node->input_count - 1]];
        sizes[v] = (struct map_size){output_side(node, in.height, like.height), output_side(node, in.width, like.width)};
    }
    return DLA_OK;
}

void graph_infer_strides(const struct graph *graph, int *strides)
{
    for (value v = 0; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        int in = node->op == OP_INPUT ? node->as.input.stride : strides[node->inputs[node->input_count - 1]];   /* a crop has the stride of what it is cut to */
        switch (node->op) {
        case OP_CONV2D:
            strides[v] = in * node->as.conv.stride;
            break;
        case OP_TRANSPOSED_CONV2D:
            strides[v] = in / node->as.conv.stride;
            break;
        case OP_MAX_POOL:
        case OP_AVERAGE_POOL:
            strides[v] = in * node->as.pool.stride;
            break;
        case OP_GLOBAL_AVERAGE_POOL:
            strides[v] = 0;
            break;
        default:
            strides[v] = in;
        }
    }
}

int graph_find_part(const struct graph *graph, value v)
{
    for (;;) {
        for (int i = 0; i < graph->part_count; i++)
            if (v >= graph->parts[i].first && v <= graph->parts[i].last)
                return i;
        if (graph->nodes[v].input_count == 0)
            return -1;
        v = graph->nodes[v].inputs[0];
    }
}

value graph_find_value(const struct graph *graph, const char *name)
{
    if (strcmp(name, "output") == 0)
        return graph->output;
    if (strncmp(name, "level", 5) == 0 && name[5] >= '0' && name[5] < '0' + DLA_LEVEL_COUNT && name[6] == '\0')
        return graph->levels[name[5] - '0'];
    for (value v = 0; v < graph->node_count; v++)
        if (strcmp(graph->nodes[v].name, name) == 0)
            return v;
    return NO_VALUE;
}

int graph_find_parameter(const struct graph *graph, const char *name)
{
    for (int i = 0; i < graph->parameter_count; i++)
        if (strcmp(graph->parameters[i].name, name) == 0)
            return i;
    return NO_PARAMETER;
}
