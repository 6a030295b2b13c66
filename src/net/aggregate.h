/* aggregate.h - hierarchical and iterative deep aggregation as builders that take any block (paper sections 3.1 and 3.2). */
#ifndef DLA_NET_AGGREGATE_H
#define DLA_NET_AGGREGATE_H

#include "net/graph.h"

/* How a block, a tree or a level reduces its input by `stride` (1: not at all).
 *
 * A network whose output stride is lowered keeps all pixels where the reduction would have dropped some, and spreads the
 * windows of everything behind instead ("a trous"): the convolutions and pools that reduce run at stride 1, and what follows
 * is dilated `stride` times as wide. Every stride-th pixel of the result is then exactly the pixel of the original network. */
struct reduction {
    int stride;       /* nominal: what the architecture says, and what makes a bottle2neck the first of its level */
    int dilation;     /* of the map that comes in */
    bool dilated;     /* keep all pixels */
};

static inline int reduction_stride(struct reduction r)     /* of the convolutions and pools that reduce */
{
    return r.dilated ? 1 : r.stride;
}

static inline int reduction_dilation_after(struct reduction r)
{
    return r.dilated ? r.dilation * r.stride : r.dilation;
}

static inline struct reduction reduction_none_after(struct reduction r)   /* for what follows at the reduced size */
{
    return (struct reduction){.stride = 1, .dilation = reduction_dilation_after(r), .dilated = false};
}

/* Appends a block (in, shortcut) -> out_channels, its nodes named below `name`. shortcut NO_VALUE: the block's own input. */
typedef value block_builder(struct graph *graph, const void *options, value in, value shortcut, int out_channels, struct reduction reduction,
                            const char *name);

struct tree_options {
    block_builder *block;
    const void *block_options;
    bool residual_root;
    bool declare_unused_projections;   /* the authors' checkpoints carry them */
};

/* tree(depth, in -> out_channels, reduction, level_root) of the paper; the result is its innermost right aggregation node. */
value hierarchical_tree(struct graph *graph, const struct tree_options *options, value in, int depth, int out_channels, struct reduction reduction,
                        bool level_root, const char *name);

/* relu(bn(conv1x1(concat(sources))) [+ sources[0]]) */
value aggregation_node(struct graph *graph, const value *sources, int source_count, int out_channels, bool residual, const char *name);

/* Iterative deep aggregation of layers[0 .. count-1], finest first: each layer k is projected to out_channels, enlarged
 * factors[k] times (a power of two; 1: not at all) and cut to the size of layer 0; then x = layer 0, x = node_k(concat(x, layer k)).
 * layers[k] is replaced by the x after step k; returns the last. */
value ida_up(struct graph *graph, value *layers, int count, int out_channels, const int *factors, const char *name);

/* The paper's DLA-Up: iterative aggregations from the coarsest pair to the whole pyramid. layers[0 .. count-1] are finest first,
 * each twice as coarse as the one before; count at most DLA_LEVEL_COUNT. Returns the finest, aggregated map. */
value dla_up(struct graph *graph, const value *layers, int count, const char *name);

#endif
