/* double_graph.h - a graph walked forward in double precision, as the definitions of its ops say: the twin that gradients are
 * differentiated from. Maps are (batch, height, width, channels); batch norm uses the batch's statistics. */
#ifndef DLA_TESTS_DOUBLE_GRAPH_H
#define DLA_TESTS_DOUBLE_GRAPH_H

#include "net/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct double_graph {
    const struct graph *graph;
    int batch;
    struct map_size *sizes; /* per node */
    double **maps;          /* per node */
    double **parameters;    /* per parameter */
};

static double *double_element(const struct double_graph *g, value v, int n, int y, int x, int c)
{
    return &g->maps[v][(((int64_t)n * g->sizes[v].height + y) * g->sizes[v].width + x) * g->graph->nodes[v].channels + c];
}

/* The element, or `outside` where (y, x) lies outside the map. */
static double double_padded(const struct double_graph *g, value v, int n, int y, int x, int c, double outside)
{
    bool inside = y >= 0 && x >= 0 && y < g->sizes[v].height && x < g->sizes[v].width;
    return inside ? *double_element(g, v, n, y, x, c) : outside;
}

static double double_convolve(const struct double_graph *g, const struct node *node, int n, int y, int x, int o)
{
    const struct conv_params *p = &node->as.conv;
    value source = node->inputs[0];
    int in_group = g->graph->nodes[source].channels / p->groups, group = o / (node->channels / p->groups), area = p->kernel * p->kernel;
    double sum = p->bias == NO_PARAMETER ? 0.0 : g->parameters[p->bias][o];
    for (int ky = 0; ky < p->kernel; ky++)
        for (int kx = 0; kx < p->kernel; kx++) {
            int in_y = y * p->stride + ky * p->dilation - p->padding, in_x = x * p->stride + kx * p->dilation - p->padding;
            if (in_y < 0 || in_x < 0 || in_y >= g->sizes[source].height || in_x >= g->sizes[source].width)
                continue;
            const double *in = double_element(g, source, n, in_y, in_x, group * in_group);
            const double *weight = &g->parameters[p->weight][(int64_t)o * in_group * area + ky * p->kernel + kx];
            for (int i = 0; i < in_group; i++)
                sum += in[i] * weight[i * area];
        }
    return sum;
}

static double double_transposed(const struct double_graph *g, const struct node *node, int n, int y, int x, int c)
{
    const struct conv_params *p = &node->as.conv;
    double sum = 0.0;
    for (int ky = 0; ky < p->kernel; ky++)
        for (int kx = 0; kx < p->kernel; kx++)
            if ((y + p->padding - ky) % p->stride == 0 && (x + p->padding - kx) % p->stride == 0)
                sum += double_padded(g, node->inputs[0], n, (y + p->padding - ky) / p->stride, (x + p->padding - kx) / p->stride, c, 0.0)
                       * g->parameters[p->weight][((int64_t)c * p->kernel + ky) * p->kernel + kx];
    return sum;
}

static double double_pool(const struct double_graph *g, const struct node *node, int n, int y, int x, int c)
{
    const struct pool_params *p = &node->as.pool;
    double largest = -INFINITY, sum = 0.0;
    for (int ky = 0; ky < p->kernel; ky++)
        for (int kx = 0; kx < p->kernel; kx++) {
            int in_y = y * p->stride + ky * p->dilation - p->padding, in_x = x * p->stride + kx * p->dilation - p->padding;
            largest = fmax(largest, double_padded(g, node->inputs[0], n, in_y, in_x, c, -INFINITY));
            sum += double_padded(g, node->inputs[0], n, in_y, in_x, c, 0.0);
        }
    return node->op == OP_MAX_POOL ? largest : sum / (p->kernel * p->kernel);
}

static void double_batch_norm(const struct double_graph *g, value v)
{
    const struct node *node = &g->graph->nodes[v];
    int64_t pixels = (int64_t)g->batch * g->sizes[v].height * g->sizes[v].width;
    const double *in = g->maps[node->inputs[0]];
    for (int c = 0; c < node->channels; c++) {
        double mean = 0.0, variance = 0.0;
        for (int64_t p = 0; p < pixels; p++)
            mean += in[p * node->channels + c] / (double)pixels;
        for (int64_t p = 0; p < pixels; p++)
            variance += (in[p * node->channels + c] - mean) * (in[p * node->channels + c] - mean) / (double)pixels;
        for (int64_t p = 0; p < pixels; p++)
            g->maps[v][p * node->channels + c] = (in[p * node->channels + c] - mean) / sqrt(variance + (double)node->as.batch_norm.epsilon)
                                                     * g->parameters[node->as.batch_norm.weight][c]
                                                 + g->parameters[node->as.batch_norm.bias][c];
    }
}

static void double_log_softmax(const struct double_graph *g, value v)
{
    const struct node *node = &g->graph->nodes[v];
    int64_t pixels = (int64_t)g->batch * g->sizes[v].height * g->sizes[v].width;
    for (int64_t p = 0; p < pixels; p++) {
        double sum = 0.0;
        for (int c = 0; c < node->channels; c++)
            sum += exp(g->maps[node->inputs[0]][p * node->channels + c]);
        for (int c = 0; c < node->channels; c++)
            g->maps[v][p * node->channels + c] = g->maps[node->inputs[0]][p * node->channels + c] - log(sum);
    }
}

static double double_value(const struct double_graph *g, value v, int n, int y, int x, int c)
{
    const struct node *node = &g->graph->nodes[v];
    const value *in = node->inputs;
    switch (node->op) {
    case OP_CONV2D:
        return double_convolve(g, node, n, y, x, c);
    case OP_TRANSPOSED_CONV2D:
        return double_transposed(g, node, n, y, x, c);
    case OP_RELU:
        return fmax(*double_element(g, in[0], n, y, x, c), 0.0);
    case OP_ADD:
        return *double_element(g, in[0], n, y, x, c) + *double_element(g, in[1], n, y, x, c);
    case OP_CONCAT:
        while (c >= g->graph->nodes[*in].channels)
            c -= g->graph->nodes[*in++].channels;
        return *double_element(g, *in, n, y, x, c);
    case OP_SLICE:
        return *double_element(g, in[0], n, y, x, c + node->as.slice.first_channel);
    case OP_MAX_POOL:
    case OP_AVERAGE_POOL:
        return double_pool(g, node, n, y, x, c);
    case OP_GLOBAL_AVERAGE_POOL: {
        double sum = 0.0;
        for (int iy = 0; iy < g->sizes[in[0]].height; iy++)
            for (int ix = 0; ix < g->sizes[in[0]].width; ix++)
                sum += *double_element(g, in[0], n, iy, ix, c);
        return sum / (g->sizes[in[0]].height * g->sizes[in[0]].width);
    }
    case OP_CROP:
        return *double_element(g, in[0], n, y, x, c);
    default:
        return 0.0;
    }
}

/* All maps from value `first` on, from those before it (the caller fills the input's) and the parameters. */
static void double_graph_forward(const struct double_graph *g, value first)
{
    for (value v = first; v < g->graph->node_count; v++) {
        enum op op = g->graph->nodes[v].op;
        if (op == OP_BATCH_NORM)
            double_batch_norm(g, v);
        else if (op == OP_LOG_SOFTMAX)
            double_log_softmax(g, v);
        else if (op != OP_INPUT)
            for (int n = 0; n < g->batch; n++)
                for (int y = 0; y < g->sizes[v].height; y++)
                    for (int x = 0; x < g->sizes[v].width; x++)
                        for (int c = 0; c < g->graph->nodes[v].channels; c++)
                            *double_element(g, v, n, y, x, c) = double_value(g, v, n, y, x, c);
    }
}

static bool double_graph_create(const struct graph *graph, int batch, int height, int width, struct double_graph *g)
{
    *g = (struct double_graph){.graph = graph, .batch = batch};
    g->sizes = calloc((size_t)graph->node_count, sizeof(*g->sizes));
    g->maps = calloc((size_t)graph->node_count, sizeof(*g->maps));
    g->parameters = calloc((size_t)graph->parameter_count, sizeof(*g->parameters));
    if (!g->sizes || !g->maps || !g->parameters || graph_infer_sizes(graph, height, width, g->sizes) != DLA_OK)
        return false;
    for (value v = 0; v < graph->node_count; v++)
        if (!(g->maps[v] =
                  calloc((size_t)batch * (size_t)(g->sizes[v].height * g->sizes[v].width * graph->nodes[v].channels), sizeof(double))))
            return false;
    for (int i = 0; i < graph->parameter_count; i++)
        if (!(g->parameters[i] = calloc((size_t)graph->parameters[i].elements, sizeof(double))))
            return false;
    return true;
}

static void double_graph_free(struct double_graph *g)
{
    for (value v = 0; v < g->graph->node_count; v++)
        free(g->maps[v]);
    for (int i = 0; i < g->graph->parameter_count; i++)
        free(g->parameters[i]);
    free(g->maps);
    free(g->parameters);
    free(g->sizes);
}

#endif
