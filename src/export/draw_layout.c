/* draw_layout.c - rows, heights and columns from the graph, then pixels. */
#include "export/draw_layout.h"

#include "base/memory.h"
#include "base/status.h"
#include "net/text.h"

#include <string.h>

enum {
    GAP = 10,             /* between neighbours on the floor */
    GAP_BEHIND_NODE = 13,
    PADDING_X = 22,
    PADDING_Y = 15,       /* above and below what stands in a row */
    COLUMN_WIDTH = 56     /* of iterative nodes */
};

/* The level of a part of the backbone: the first whose result is not made before it. */
static int level_of(const struct graph *graph, const struct part *part)
{
    int level = 0;
    while (level < DLA_LEVEL_COUNT - 1 && part->last > graph->levels[level])
        level++;
    return level;
}

/* Depth of the tree whose result an aggregation node is: the level's, less one per subtree that its name goes down. */
static int tree_height(const struct part *part, int level_depth)
{
    size_t length = part_tree_name_length(part->name);
    int height = level_depth;

    for (size_t i = 0; i + 5 <= length; i++)
        height -= strncmp(part->name + i, ".tree", 5) == 0;
    return height;
}

int layout_source(const struct graph *graph, const struct layout *layout, value v)
{
    int index = graph_find_part(graph, v);
    while (index >= 0 && layout->parts[index].kind == DRAWN_NOT)
        index = graph_find_part(graph, graph->nodes[graph->parts[index].first].inputs[0]);
    return index;
}

/* Kinds, rows, heights and columns. */
static void arrange(const dla_network *network, struct layout *layout)
{
    const struct graph *graph = &network->graph;
    value backbone_end = graph->levels[DLA_LEVEL_COUNT - 1];

    for (int i = 0; i < graph->part_count; i++) {
        const struct part *part = &graph->parts[i];
        struct drawn_part *drawn = &layout->parts[i];
        bool backbone = part->last <= backbone_end;

        drawn->row = level_of(graph, part);
        switch (part->kind) {
        case PART_CONV:
            drawn->kind = DRAWN_CONV;
            break;
        case PART_BLOCK:
            drawn->kind = DRAWN_BLOCK;
            break;
        case PART_UPSAMPLING:
            drawn->kind = DRAWN_NOT;
            break;
        case PART_HEAD:
            drawn->kind = DRAWN_HEAD;
            if (network->architecture.down_ratio > 0)
                drawn->row = layout->parts[layout_source(graph, layout, graph->nodes[part->first].inputs[0])].row;
            break;
        case PART_AGGREGATION:
            drawn->kind = backbone ? DRAWN_TREE_NODE : DRAWN_ITERATIVE_NODE;
            if (backbone) {
                drawn->height = tree_height(part, network->architecture.levels[drawn->row]);
            } else {
                const struct node *concat = &graph->nodes[part->first];
                drawn->row = layout->parts[layout_source(graph, layout, concat->inputs[0])].row;
                drawn->column = layout->parts[layout_source(graph, layout, concat->inputs[1])].column + 1;
            }
            break;
        }
        if (drawn->height > layout->rows[drawn->row].depth)
            layout->rows[drawn->row].depth = drawn->height;
        layout->rows[drawn->row].used = true;
    }
}

static void place_rows(struct layout *layout)
{
    double y = 0.0;

    for (int row = 0; row < DLA_LEVEL_COUNT; row++) {
        struct drawn_row *r = &layout->rows[row];
        r->top = y;
        y += 2 * PADDING_Y + BLOCK_SIZE + STEP_UP * r->depth;
        r->bottom = y;
    }
    layout->height = y;
}

static void place_parts(const struct graph *graph, struct layout *layout)
{
    double x = LABEL_WIDTH + PADDING_X, right = 0.0;

    for (int i = 0; i < graph->part_count; i++) {
        struct drawn_part *drawn = &layout->parts[i];
        const struct drawn_row *row = &layout->rows[drawn->row];
        double floor = row->bottom - PADDING_Y - BLOCK_SIZE / 2.0;

        switch (drawn->kind) {
        case DRAWN_NOT:
            break;
        case DRAWN_CONV:
        case DRAWN_BLOCK:
            drawn->x = x + BLOCK_SIZE / 2.0;
            drawn->y = floor;
            x += BLOCK_SIZE + GAP;
            break;
        case DRAWN_TREE_NODE:
            drawn->x = x + NODE_RADIUS;
            drawn->y = floor - STEP_UP * drawn->height;
            x += 2 * NODE_RADIUS + GAP_BEHIND_NODE;
            break;
        case DRAWN_ITERATIVE_NODE:
            if (layout->column_zero == 0.0)
                layout->column_zero = x;
            drawn->x = layout->column_zero + COLUMN_WIDTH * drawn->column;
            drawn->y = floor - STEP_UP * row->depth;   /* in line with the level's result */
            break;
        case DRAWN_HEAD:
            drawn->x = (right > x ? right : x) + GAP + HEAD_WIDTH / 2.0;
            drawn->y = floor - STEP_UP * row->depth;
            x = drawn->x + HEAD_WIDTH / 2.0;
            break;
        }
        if (drawn->kind != DRAWN_NOT && drawn->x + BLOCK_SIZE > right)
            right = drawn->x + BLOCK_SIZE;
    }
    layout->width = (x > right ? x : right) + PADDING_X;
}

dla_status layout_create(const dla_network *network, struct layout *layout)
{
    size_t count = (size_t)network->graph.part_count;

    *layout = (struct layout){.parts = memory_allocate_zeroed(count, sizeof(*layout->parts))};
    if (layout->parts == NULL)
        return status_out_of_memory(count * sizeof(*layout->parts), "a drawing");
    arrange(network, layout);
    place_rows(layout);
    place_parts(&network->graph, layout);
    return DLA_OK;
}

void layout_free(struct layout *layout)
{
    memory_free(layout->parts);
    *layout = (struct layout){0};
}
