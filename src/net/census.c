/* census.c - how much a network has and does: parameters, multiply-adds, FLOPs, activations.
 *
 * FLOPs are the published figure, which counts a multiply-add as one and follows a common counting tool in its small terms:
 *
 *     FLOPs = MACs of convolutions and classifier + their biases
 *           + 2 x outputs of batch norms + outputs of average pools + channels x (pixels + 1) of the global pool
 *
 * Relu, additions, max-pools and concatenations count nothing. docs/census.md has the table that this reproduces.
 */
#include "net/network.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>

/* A sum that knows whether it still fits into 64 bits: a user's own network at a huge size may not. */
struct tally {
    int64_t sum;
    bool overflow;
};

static void add_product(struct tally *tally, int64_t a, int64_t b, int64_t c)
{
    int64_t product;
    bool overflow = __builtin_mul_overflow(a, b, &product) || __builtin_mul_overflow(product, c, &product);
    tally->overflow = __builtin_add_overflow(tally->sum, product, &tally->sum) || overflow || tally->overflow;
}

struct tallies {
    struct tally macs, small_flops, activations, norm_outputs;
};

static void count_node(const struct graph *graph, const struct node *node, const struct map_size *sizes, struct map_size size,
                       struct tallies *tallies)
{
    int64_t pixels = (int64_t)size.height * size.width;
    struct map_size in = node->input_count > 0 ? sizes[node->inputs[0]] : size;

    switch (node->op) {
    case OP_CONV2D:
        add_product(&tallies->macs, pixels, graph->parameters[node->as.conv.weight].elements, 1);
        if (node->as.conv.bias != NO_PARAMETER)
            add_product(&tallies->small_flops, pixels, node->channels, 1);
        add_product(&tallies->activations, pixels, node->channels, 1);
        break;
    case OP_TRANSPOSED_CONV2D:   /* every weight meets every pixel of the input */
        add_product(&tallies->macs, in.height, in.width, graph->parameters[node->as.conv.weight].elements);
        add_product(&tallies->activations, pixels, node->channels, 1);
        break;
    case OP_BATCH_NORM:
        add_product(&tallies->norm_outputs, pixels, node->channels, 1);
        add_product(&tallies->small_flops, pixels, node->channels, 2);
        break;
    case OP_AVERAGE_POOL:
        add_product(&tallies->small_flops, pixels, node->channels, 1);
        break;
    case OP_GLOBAL_AVERAGE_POOL:
        add_product(&tallies->small_flops, (int64_t)in.height * in.width + 1, node->channels, 1);
        break;
    default:
        break;
    }
}

static int64_t count_trainable(const struct parameter *parameters, int count)
{
    int64_t sum = 0;   /* cannot overflow: some thousand tensors of less than 2^33 elements each */
    for (int i = 0; i < count; i++)
        if (parameters[i].trainable)
            sum += parameters[i].elements;
    return sum;
}

dla_status dla_network_census(const dla_network *network, int height, int width, dla_census *census)
{
    const struct graph *graph = &network->graph;
    dla_status status;
    struct tallies tallies = {0};
    size_t sizes_bytes = (size_t)graph->node_count * sizeof(struct map_size), strides_bytes = (size_t)graph->node_count * sizeof(int);
    struct map_size *sizes = memory_allocate(sizes_bytes);
    int *strides = memory_allocate(strides_bytes);

    if (sizes == NULL || strides == NULL) {
        status = status_out_of_memory(sizes_bytes + strides_bytes, "a census");
        goto out;
    }
    status = graph_infer_sizes(graph, height, width, sizes);
    if (status != DLA_OK)
        goto out;
    graph_infer_strides(graph, strides);
    for (value v = 0; v < graph->node_count; v++)
        count_node(graph, &graph->nodes[v], sizes, sizes[v], &tallies);

    struct tally flops = tallies.macs;
    add_product(&flops, tallies.small_flops.sum, 1, 1);
    if (flops.overflow || tallies.small_flops.overflow || tallies.activations.overflow || tallies.norm_outputs.overflow) {
        status = status_set(DLA_ERROR_LIMIT, "the counts of %s at %dx%d do not fit into 64 bits; choose a smaller input", network->architecture.name,
                            height, width);
        goto out;
    }
    *census = (dla_census){
        .params = count_trainable(graph->parameters, graph->parameter_count),
        .unused_params = count_trainable(graph->unused, graph->unused_count),
        .macs = tallies.macs.sum,
        .flops = flops.sum,
        .activations = tallies.activations.sum,
        .batch_norm_outputs = tallies.norm_outputs.sum,
    };
    for (int level = 0; level < DLA_LEVEL_COUNT && !network->composed; level++) {
        value v = graph->levels[level];
        dla_level_info *info = &census->levels[level];
        snprintf(info->name, sizeof(info->name), "level%d", level);
        info->stride = strides[v];
        info->channels = graph->nodes[v].channels;
        info->height = sizes[v].height;
        info->width = sizes[v].width;
    }
out:
    memory_free(sizes);
    memory_free(strides);
    return status;
}
