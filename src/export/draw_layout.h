/* draw_layout.h - where the boxes of a network stand when it is drawn.
 *
 * Networks descend like stairs: a row per level, finest on top, each level beginning where the one before has ended, so that going
 * right is going deeper and going down is going coarser. A tree's blocks stand on the floor of their row; an aggregation node
 * stands above, as high as the tree is deep whose result it is. Iterative aggregation for dense prediction (DLA-Up) fills the
 * triangle above the stairs: a node stands in the row of its scale, one column behind the maps that it joins.
 */
#ifndef DLA_EXPORT_DRAW_LAYOUT_H
#define DLA_EXPORT_DRAW_LAYOUT_H

#include "net/network.h"

enum drawn_kind {
    DRAWN_NOT,          /* upsamplings: part of the edge between two aggregation nodes */
    DRAWN_CONV,
    DRAWN_BLOCK,
    DRAWN_TREE_NODE,    /* aggregation node of hierarchical aggregation */
    DRAWN_ITERATIVE_NODE,
    DRAWN_HEAD
};

/* A part of the graph on paper; x and y are its centre. */
struct drawn_part {
    enum drawn_kind kind;
    int row;            /* 0: the input's resolution */
    int height;         /* DRAWN_TREE_NODE: depth of the tree whose result it is; otherwise 0 */
    int column;         /* DRAWN_ITERATIVE_NODE: 1 for nodes that join maps of the backbone */
    double x, y;
};

struct drawn_row {
    double top, bottom; /* of its band */
    int depth;          /* height of its highest node */
    bool used;
};

struct layout {
    struct drawn_part *parts;   /* one per part of the graph */
    struct drawn_row rows[DLA_LEVEL_COUNT];
    double column_zero;         /* x where maps of the backbone wait for iterative nodes; 0: there are none */
    double width, height;       /* of the rows together */
};

/* Sizes that the drawing and the layout share, in pixels. */
enum {
    BLOCK_SIZE = 20,
    NODE_RADIUS = 8,
    HEAD_WIDTH = 96,
    STEP_UP = 26,               /* from the floor to nodes of height 1, and from height to height */
    LABEL_WIDTH = 118           /* row labels, left of everything */
};

dla_status layout_create(const dla_network *network, struct layout *layout);
void layout_free(struct layout *layout);

/* The index of the drawn part whose map `v` is, or comes from through pools, projections and upsamplings; -1: the input. */
int layout_source(const struct graph *graph, const struct layout *layout, value v);

#endif
