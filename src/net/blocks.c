/* blocks.c - basic, bottleneck and bottle2neck (Res2Net) blocks.
 *
 *     basic        conv3x3 bn relu, conv3x3 bn, + shortcut, relu
 *     bottleneck   conv1x1 bn relu, conv3x3 bn relu, conv1x1 bn, + shortcut, relu
 *     bottle2neck  conv1x1 bn relu, slices -> a chain of conv3x3 bn relu -> concat, conv1x1 bn, + shortcut, relu
 *
 * The reducing convolution comes first in basic, in the middle of the others. Names are those of the reference's modules.
 */
#include "net/blocks.h"

enum { EXPANSION = 2 };   /* a bottleneck's middle is half as wide as its output, at cardinality 1 and base width 64 */

int64_t block_middle_channels(const struct block_options *options, int out_channels)
{
    return (int64_t)out_channels * options->base_width / 64 * options->cardinality / EXPANSION;
}

/* conv, batch norm: `conv` and `norm` name them below `name`, as in ("level2.tree1", "conv1", "bn1"). */
static value conv_norm(struct graph *graph, value in, int out_channels, int kernel, int stride, int dilation, int groups, const char *name,
                       const char *conv, const char *norm)
{
    value x = graph_conv(graph, in, out_channels, kernel, stride, dilation, groups, false, graph_name(graph, "%s.%s", name, conv));
    return graph_batch_norm(graph, x, graph_name(graph, "%s.%s", name, norm));
}

/* Closes a block: relu(x + shortcut). */
static value add_shortcut(struct graph *graph, value x, value shortcut, const char *name)
{
    x = graph_add(graph, x, shortcut, graph_name(graph, "%s.add", name));
    x = graph_relu(graph, x, graph_name(graph, "%s.relu", name));
    graph_end_part(graph, x);
    return x;
}

value basic_block(struct graph *graph, const void *options, value in, value shortcut, int out_channels, struct reduction reduction, const char *name)
{
    (void)options;
    graph_begin_part(graph, PART_BLOCK, name);
    value x = conv_norm(graph, in, out_channels, 3, reduction_stride(reduction), reduction.dilation, 1, name, "conv1", "bn1");
    x = graph_relu(graph, x, graph_name(graph, "%s.relu1", name));
    x = conv_norm(graph, x, out_channels, 3, 1, reduction_dilation_after(reduction), 1, name, "conv2", "bn2");
    return add_shortcut(graph, x, shortcut == NO_VALUE ? in : shortcut, name);
}

value bottleneck_block(struct graph *graph, const void *options, value in, value shortcut, int out_channels, struct reduction reduction,
                       const char *name)
{
    const struct block_options *o = options;
    int middle = (int)block_middle_channels(o, out_channels);

    graph_begin_part(graph, PART_BLOCK, name);
    value x = conv_norm(graph, in, middle, 1, 1, 1, 1, name, "conv1", "bn1");
    x = graph_relu(graph, x, graph_name(graph, "%s.relu1", name));
    x = conv_norm(graph, x, middle, 3, reduction_stride(reduction), reduction.dilation, o->cardinality, name, "conv2", "bn2");
    x = graph_relu(graph, x, graph_name(graph, "%s.relu2", name));
    x = conv_norm(graph, x, out_channels, 1, 1, 1, 1, name, "conv3", "bn3");
    return add_shortcut(graph, x, shortcut == NO_VALUE ? in : shortcut, name);
}

/* All slices but the last go through a 3x3 convolution each; from the second on, a slice is fed the previous result added to it.
 * In the first block of a level, where the convolutions reduce, slices stay apart and the last one is pooled to the new size. */
value bottle2neck_block(struct graph *graph, const void *options, value in, value shortcut, int out_channels, struct reduction reduction,
                        const char *name)
{
    const struct block_options *o = options;
    int width = (int)block_middle_channels(o, out_channels);
    int stride = reduction_stride(reduction);
    bool first_of_level = reduction.stride > 1;
    value outputs[BOTTLE2NECK_MAX_SCALE];

    graph_begin_part(graph, PART_BLOCK, name);
    value x = conv_norm(graph, in, width * o->scale, 1, 1, 1, 1, name, "conv1", "bn1");
    x = graph_relu(graph, x, graph_name(graph, "%s.relu1", name));
    for (int i = 0; i < o->scale; i++) {
        value slice = graph_slice(graph, x, i * width, width, graph_name(graph, "%s.slices.%d", name, i));
        if (i == o->scale - 1) {
            if (first_of_level)
                slice = graph_average_pool(graph, slice, 3, stride, reduction.dilation, reduction.dilation, graph_name(graph, "%s.pool", name));
            outputs[i] = slice;
            break;
        }
        if (i > 0 && !first_of_level)
            slice = graph_add(graph, outputs[i - 1], slice, graph_name(graph, "%s.adds.%d", name, i));
        value y = conv_norm(graph, slice, width, 3, stride, reduction.dilation, o->cardinality, name, graph_name(graph, "convs.%d", i),
                            graph_name(graph, "bns.%d", i));
        outputs[i] = graph_relu(graph, y, graph_name(graph, "%s.relus.%d", name, i));
    }
    x = graph_concat(graph, outputs, o->scale, graph_name(graph, "%s.concat", name));
    x = conv_norm(graph, x, out_channels, 1, 1, 1, 1, name, "conv3", "bn3");
    return add_shortcut(graph, x, shortcut == NO_VALUE ? in : shortcut, name);
}

block_builder *block_builder_of(dla_block block)
{
    static block_builder *const builders[] = {
        [DLA_BLOCK_BASIC] = basic_block,
        [DLA_BLOCK_BOTTLENECK] = bottleneck_block,
        [DLA_BLOCK_BOTTLE2NECK] = bottle2neck_block,
    };
    return builders[block];
}
