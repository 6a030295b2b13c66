/* aggregate.c - hierarchical and iterative deep aggregation (paper sections 3.1 and 3.2).
 *
 * A tree of depth L runs two subtrees of depth L-1 and merges what they and its children give:
 *
 *     depth 1:  x1 = block(x), x2 = block(x1), result = node(x2, x1, children...)
 *     depth L:  x1 = tree(x),                  result = tree(x1, children + x1)
 *
 * Only the innermost right subtree owns the node, so one node sees every ancestor: that is the "hierarchical" in HDA.
 * Iterative aggregation merges a pyramid pair by pair instead, from fine to coarse: x = node(x, next layer enlarged).
 * Nothing here knows what a block is; the caller passes a builder.
 */
#include "net/aggregate.h"

value aggregation_node(struct graph *graph, const value *sources, int source_count, int out_channels, bool residual, const char *name)
{
    graph_begin_part(graph, PART_AGGREGATION, name);
    value x = graph_concat(graph, sources, source_count, graph_name(graph, "%s.concat", name));
    x = graph_conv(graph, x, out_channels, 1, 1, 1, 1, false, graph_name(graph, "%s.conv", name));
    x = graph_batch_norm(graph, x, graph_name(graph, "%s.bn", name));
    if (residual)
        x = graph_add(graph, x, sources[0], graph_name(graph, "%s.add", name));
    x = graph_relu(graph, x, graph_name(graph, "%s.relu", name));
    graph_end_part(graph, x);
    return x;
}

/* Values that wait for the node of the innermost right subtree, in order of birth. A subtree that is a left child starts
 * with none. At most one per depth, and the level's own reduced input. */
enum { MAX_DEPTH = 16 };
struct children {
    value values[MAX_DEPTH + 1];
    int count;
};

/* `bottom`: the tree's input at the reduced size if an ancestor made it already, or NO_VALUE. */
static value build_tree(struct graph *graph, const struct tree_options *options, value in, value bottom, int depth, int out_channels,
                        struct reduction reduction, bool level_root, struct children children, const char *name)
{
    int in_channels = graph_channels(graph, in);
    const char *project = graph_name(graph, "%s.project", name);

    if (bottom == NO_VALUE && (depth == 1 || level_root)) {
        bottom = in;
        if (reduction.stride > 1)
            bottom = graph_max_pool(graph, in, reduction.stride, reduction_stride(reduction), reduction.dilation,
                                    graph_name(graph, "%s.downsample", name));
    }
    if (level_root)
        children.values[children.count++] = bottom;

    if (depth == 1) {
        value shortcut = bottom;
        if (in_channels != out_channels) {
            shortcut = graph_conv(graph, bottom, out_channels, 1, 1, 1, 1, false, graph_name(graph, "%s.0", project));
            shortcut = graph_batch_norm(graph, shortcut, graph_name(graph, "%s.1", project));
        }
        value x1 = options->block(graph, options->block_options, in, shortcut, out_channels, reduction, graph_name(graph, "%s.tree1", name));
        value x2 = options->block(graph, options->block_options, x1, NO_VALUE, out_channels, reduction_none_after(reduction),
                                  graph_name(graph, "%s.tree2", name));
        value sources[MAX_DEPTH + 3] = {x2, x1};
        for (int i = 0; i < children.count; i++)
            sources[2 + i] = children.values[i];
        return aggregation_node(graph, sources, 2 + children.count, out_channels, options->residual_root, graph_name(graph, "%s.root", name));
    }

    if (in_channels != out_channels && options->declare_unused_projections) {
        graph_declare_unused_conv(graph, out_channels, in_channels, 1, false, graph_name(graph, "%s.0", project));
        graph_declare_unused_batch_norm(graph, out_channels, graph_name(graph, "%s.1", project));
    }
    value x1 = build_tree(graph, options, in, bottom, depth - 1, out_channels, reduction, false, (struct children){.count = 0},
                          graph_name(graph, "%s.tree1", name));
    children.values[children.count++] = x1;
    return build_tree(graph, options, x1, NO_VALUE, depth - 1, out_channels, reduction_none_after(reduction), false, children,
                      graph_name(graph, "%s.tree2", name));
}

value hierarchical_tree(struct graph *graph, const struct tree_options *options, value in, int depth, int out_channels, struct reduction reduction,
                        bool level_root, const char *name)
{
    return build_tree(graph, options, in, NO_VALUE, depth, out_channels, reduction, level_root, (struct children){.count = 0}, name);
}

value ida_up(struct graph *graph, value *layers, int count, int out_channels, const int *factors, const char *name)
{
    for (int k = 0; k < count; k++) {
        value x = layers[k];
        bool projected = graph_channels(graph, x) != out_channels;
        if (!projected && factors[k] == 1)
            continue;
        graph_begin_part(graph, PART_UPSAMPLING, graph_name(graph, "%s.up_%d", name, k));
        if (projected) {
            x = graph_conv(graph, x, out_channels, 1, 1, 1, 1, false, graph_name(graph, "%s.proj_%d.0", name, k));
            x = graph_batch_norm(graph, x, graph_name(graph, "%s.proj_%d.1", name, k));
            x = graph_relu(graph, x, graph_name(graph, "%s.proj_%d.2", name, k));
        }
        if (factors[k] > 1) {
            int f = factors[k];
            x = graph_transposed_conv(graph, x, out_channels, 2 * f, f, f / 2, out_channels, true, graph_name(graph, "%s.up_%d", name, k));
            if (k > 0)
                x = graph_crop(graph, x, layers[0], graph_name(graph, "%s.crop_%d", name, k));
        }
        graph_end_part(graph, x);
        layers[k] = x;
    }

    for (int k = 1; k < count; k++) {
        value pair[2] = {layers[k - 1], layers[k]};
        const char *node = graph_name(graph, "%s.node_%d", name, k);
        graph_begin_part(graph, PART_AGGREGATION, node);
        value x = graph_concat(graph, pair, 2, graph_name(graph, "%s.concat", node));
        x = graph_conv(graph, x, out_channels, 3, 1, 1, 1, false, graph_name(graph, "%s.0", node));
        x = graph_batch_norm(graph, x, graph_name(graph, "%s.1", node));
        layers[k] = graph_relu(graph, x, graph_name(graph, "%s.2", node));
        graph_end_part(graph, layers[k]);
    }
    return layers[count - 1];
}

value dla_up(struct graph *graph, const value *layers, int count, const char *name)
{
    value pyramid[DLA_LEVEL_COUNT];
    int channels[DLA_LEVEL_COUNT], scales[DLA_LEVEL_COUNT], factors[DLA_LEVEL_COUNT];

    for (int k = 0; k < count; k++) {
        pyramid[k] = layers[k];
        channels[k] = graph_channels(graph, layers[k]);
        scales[k] = 1 << k;
    }
    /* Step i aggregates the last i + 2 layers at the scale of the finest of them, layer j; its intermediate results take the
     * places of the last i + 1, and so have layer j's scale from now on. */
    for (int i = 0; i + 1 < count; i++) {
        int j = count - 2 - i;
        for (int k = j; k < count; k++)
            factors[k - j] = scales[k] / scales[j];
        ida_up(graph, pyramid + j, count - j, channels[j], factors, graph_name(graph, "%s.ida_%d", name, i));
        for (int k = j + 1; k < count; k++)
            scales[k] = scales[j];
    }
    return pyramid[count - 1];
}
