/* network.c - a whole network from its architecture (paper figure 3).
 *
 *     image -> base_layer (7x7) -> level0, level1 (3x3 convolutions) -> level2 ... level5 (trees) -> global pool -> fc
 *
 * and for dense prediction, in place of the last two, DLA-Up over the levels from the wanted stride on (paper section 4.2).
 */
#include "net/network.h"

#include "base/memory.h"
#include "base/status.h"
#include "net/aggregate.h"
#include "net/blocks.h"

#include <stdlib.h>

enum { IMAGENET_CLASSES = 1000 };

/* Convolution, batch norm, relu: modules first_index to first_index + 2 of the sequence `path`. */
static value conv_norm_relu(struct graph *graph, value in, int out_channels, int kernel, int stride, const char *path, int first_index,
                            const char *part_name)
{
    graph_begin_part(graph, PART_CONV, part_name);
    value x = graph_conv(graph, in, out_channels, kernel, stride, 1, 1, false, graph_name(graph, "%s.%d", path, first_index));
    x = graph_batch_norm(graph, x, graph_name(graph, "%s.%d", path, first_index + 1));
    x = graph_relu(graph, x, graph_name(graph, "%s.%d", path, first_index + 2));
    graph_end_part(graph, x);
    return x;
}

/* Level 0 and 1: a sequence of 3x3 convolutions, the first of which has the level's stride. */
static value conv_level(struct graph *graph, value x, int count, int out_channels, int stride, const char *path)
{
    for (int i = 0; i < count; i++)
        x = conv_norm_relu(graph, x, out_channels, 3, i == 0 ? stride : 1, path, 3 * i, count == 1 ? path : graph_name(graph, "%s.%d", path, 3 * i));
    return x;
}

/* Everything up to level 5; fills graph->levels. */
static void build_backbone(struct graph *graph, const dla_architecture *a, const char *prefix)
{
    const struct block_options block_options = {.cardinality = a->cardinality, .base_width = a->base_width, .scale = a->scale};
    const struct tree_options tree_options = {
        .block = block_builder_of(a->block),
        .block_options = &block_options,
        .residual_root = a->residual_root,
        .declare_unused_projections = true,
    };

    value x = graph_input(graph, a->in_channels);
    const char *base_layer = graph_name(graph, "%sbase_layer", prefix);
    x = conv_norm_relu(graph, x, a->channels[0], 7, 1, base_layer, 0, base_layer);
    x = graph->levels[0] = conv_level(graph, x, a->levels[0], a->channels[0], 1, graph_name(graph, "%slevel0", prefix));
    x = graph->levels[1] = conv_level(graph, x, a->levels[1], a->channels[1], 2, graph_name(graph, "%slevel1", prefix));

    struct reduction reduction = {.stride = 2, .dilation = 1, .dilated = false};
    for (int level = 2; level < DLA_LEVEL_COUNT; level++) {
        reduction.dilated = 1 << level > a->output_stride;
        x = hierarchical_tree(graph, &tree_options, x, a->levels[level], a->channels[level], reduction, level > 2,
                              graph_name(graph, "%slevel%d", prefix, level));
        graph->levels[level] = x;
        reduction.dilation = reduction_dilation_after(reduction);
    }
}

static value build_classifier(struct graph *graph, const dla_architecture *a)
{
    graph_begin_part(graph, PART_HEAD, a->num_classes > 0 ? "fc" : "global_pool");
    value x = graph_global_average_pool(graph, graph->levels[DLA_LEVEL_COUNT - 1], "global_pool");
    if (a->num_classes > 0)
        x = graph_conv(graph, x, a->num_classes, 1, 1, 1, 1, true, "fc");
    graph_end_part(graph, x);
    return x;
}

/* Log-probabilities of the classes for every pixel of the input. */
static value build_dense_prediction(struct graph *graph, const dla_architecture *a)
{
    int first_level = 0, ratio = a->down_ratio;
    while (1 << first_level < ratio)
        first_level++;
    value x = dla_up(graph, graph->levels + first_level, DLA_LEVEL_COUNT - first_level, "dla_up");

    /* The authors' checkpoints keep the classifier that the base was trained with. */
    graph_declare_unused_conv(graph, IMAGENET_CLASSES, a->channels[DLA_LEVEL_COUNT - 1], 1, true, "base.fc");

    graph_begin_part(graph, PART_HEAD, "fc.0");
    x = graph_conv(graph, x, a->num_classes, 1, 1, 1, 1, true, "fc.0");
    x = graph_transposed_conv(graph, x, a->num_classes, 2 * ratio, ratio, ratio / 2, a->num_classes, false, "up");
    x = graph_crop(graph, x, graph->input, "crop");
    x = graph_log_softmax(graph, x, "log_softmax");
    graph_end_part(graph, x);
    return x;
}

dla_status dla_network_create(const dla_architecture *architecture, dla_network **network)
{
    dla_status status = architecture_check(architecture);
    if (status != DLA_OK)
        return status;
    dla_network *made = memory_allocate_zeroed(1, sizeof(*made));
    if (made == NULL)
        return status_out_of_memory(sizeof(*made), "a network");
    made->architecture = *architecture;

    bool dense = architecture->down_ratio > 0;
    build_backbone(&made->graph, architecture, dense ? "base." : "");
    made->graph.output = dense ? build_dense_prediction(&made->graph, architecture) : build_classifier(&made->graph, architecture);
    status = graph_status(&made->graph);
    if (status != DLA_OK) {
        dla_network_destroy(made);
        return status;
    }
    *network = made;
    return DLA_OK;
}

dla_status network_check_levels(const dla_network *network, const char *what)
{
    if (!network->composed)
        return DLA_OK;
    return status_set(DLA_ERROR_UNSUPPORTED, "%s: %s was made with dla_builder; this is for networks that a dla_architecture describes", what,
                      network->architecture.name);
}

void dla_network_destroy(dla_network *network)
{
    if (network == NULL)
        return;
    graph_free(&network->graph);
    memory_free(network);
}

const dla_architecture *dla_network_architecture(const dla_network *network)
{
    return &network->architecture;
}
