/* draw_svg.c - a network as a picture, the way the paper draws it.
 *
 * draw_layout.h says where things stand. Edges follow from that without crossing each other:
 *
 *     path          what a block works on: straight to its neighbour, or down from the node above and right
 *     hierarchical  from every map that an aggregation node joins, up to the node's height and right into it. A tree's node
 *                   stands at the tree's end and at the tree's height, so trees of one height stand side by side
 *     iterative     from the previous level's result right along its row and down into this level's last node; in DLA-Up
 *                   along the row, and up from the row below for what is enlarged
 *
 * Every box carries its name and shape as a tooltip, every aggregation node its name as id and the number of maps it joins.
 */
#include "export/draw_layout.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text_stream.h"

#include <stdio.h>
#include <string.h>

enum { HEADER_HEIGHT = 66, MARGIN = 20, MIN_WIDTH = 640, CORNER = 7 };

static const char style[] =
    "text{font-family:Inter,'Helvetica Neue',Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#26313d}"
    ".name{font-size:26px;font-weight:600}"
    ".facts,.legend{font-size:12.5px;fill:#5d6a78}"
    ".level{font-size:13px;font-weight:600}"
    ".scale{font-size:11px;fill:#6d7987}"
    ".mark{font-size:9px;fill:#3b5678;text-anchor:middle}"
    ".count{font-size:9.5px;font-weight:600;fill:#fff;text-anchor:middle}"
    ".head{font-size:11px;text-anchor:middle}"
    ".band{fill:#f5f7f9}"
    ".conv{fill:#eef1f4;stroke:#9aa6b3;stroke-width:1.2}"
    ".block{fill:#dce7f4;stroke:#6f90b8;stroke-width:1.2}"
    ".first{fill:#b7cdea}"
    ".tree{fill:#2c9a63}"
    ".iter{fill:#e2792f}"
    ".ring{fill:none;stroke:#2c9a63;stroke-width:1.2}"
    ".end{fill:#fff;stroke:#8592a0;stroke-width:1.2}"
    ".path,.hda,.ida{fill:none;stroke-linejoin:round}"
    ".path{stroke:#8592a0;stroke-width:1.3}"
    ".hda{stroke:#2c9a63;stroke-width:1.5}"
    ".ida{stroke:#e2792f;stroke-width:1.7}";

struct drawing {
    FILE *out;
    const dla_network *network;
    const struct graph *graph;
    struct layout layout;
};

/* ---- edges ------------------------------------------------------------------------------------------------------------- */

static double half_width(const struct drawn_part *part)
{
    switch (part->kind) {
    case DRAWN_TREE_NODE:
    case DRAWN_ITERATIVE_NODE:
        return NODE_RADIUS;
    case DRAWN_HEAD:
        return HEAD_WIDTH / 2.0;
    default:
        return BLOCK_SIZE / 2.0;
    }
}

static void line(FILE *out, const char *class_name, double x1, double y1, double x2, double y2, bool arrow)
{
    fprintf(out, "<path class=\"%s\" d=\"M%.1f %.1fL%.1f %.1f\"%s/>\n", class_name, x1, y1, x2, y2, arrow ? " marker-end=\"url(#to)\"" : "");
}

/* Vertically from (x1, y1) to the height of (x2, y2), a rounded corner, horizontally to it. */
static void vertical_first(FILE *out, const char *class_name, double x1, double y1, double x2, double y2, bool arrow)
{
    double up = y2 < y1 ? -1.0 : 1.0;
    fprintf(out, "<path class=\"%s\" d=\"M%.1f %.1fV%.1fQ%.1f %.1f %.1f %.1fH%.1f\"%s/>\n", class_name, x1, y1, y2 - up * CORNER, x1, y2, x1 + CORNER,
            y2, x2, arrow ? " marker-end=\"url(#to)\"" : "");
}

/* Horizontally first, then vertically. */
static void horizontal_first(FILE *out, const char *class_name, double x1, double y1, double x2, double y2)
{
    double up = y2 < y1 ? -1.0 : 1.0;
    fprintf(out, "<path class=\"%s\" d=\"M%.1f %.1fH%.1fQ%.1f %.1f %.1f %.1fV%.1f\" marker-end=\"url(#to-ida)\"/>\n", class_name, x1, y1, x2 - CORNER, x2,
            y1, x2, y1 + up * CORNER, y2);
}

/* What a convolution, a block or the head works on. */
static void draw_path(const struct drawing *d, int index)
{
    const struct drawn_part *to = &d->layout.parts[index];
    int source = layout_source(d->graph, &d->layout, d->graph->nodes[d->graph->parts[index].first].inputs[0]);
    double left = to->x - half_width(to);

    if (source < 0) {
        line(d->out, "path", left - 20, to->y, left, to->y, true);
        return;
    }
    const struct drawn_part *from = &d->layout.parts[source];
    if (from->y == to->y)
        line(d->out, "path", from->x + half_width(from), from->y, left, to->y, true);
    else
        vertical_first(d->out, "path", from->x, from->y + (to->y < from->y ? -1 : 1) * half_width(from), left, to->y, true);
}

/* Whether the source is the result of another level: joined by iterative aggregation. */
static bool is_iterative(const struct drawing *d, int source, int node)
{
    return d->layout.parts[source].row != d->layout.parts[node].row;
}

static void draw_tree_edges(const struct drawing *d, int index)
{
    const struct drawn_part *to = &d->layout.parts[index];
    const struct node *concat = &d->graph->nodes[d->graph->parts[index].first];

    for (int i = 0; i < concat->input_count; i++) {
        int source = layout_source(d->graph, &d->layout, concat->inputs[i]);
        if (source < 0)
            continue;
        const struct drawn_part *from = &d->layout.parts[source];
        if (is_iterative(d, source, index))
            horizontal_first(d->out, "ida", from->x + half_width(from), from->y, to->x, to->y - NODE_RADIUS);
        else
            vertical_first(d->out, "hda", from->x, from->y - half_width(from), to->x - NODE_RADIUS, to->y, false);
    }
}

/* How many times a map is enlarged on its way to a node; 1: not at all. */
static int enlargement(const struct graph *graph, value v)
{
    for (const struct node *node = &graph->nodes[v]; node->op == OP_CROP || node->op == OP_TRANSPOSED_CONV2D; node = &graph->nodes[node->inputs[0]])
        if (node->op == OP_TRANSPOSED_CONV2D)
            return node->as.conv.stride;
    return 1;
}

static void draw_iterative_edges(const struct drawing *d, int index)
{
    const struct drawn_part *to = &d->layout.parts[index];
    const struct node *concat = &d->graph->nodes[d->graph->parts[index].first];

    for (int i = 0; i < concat->input_count; i++) {
        const struct drawn_part *from = &d->layout.parts[layout_source(d->graph, &d->layout, concat->inputs[i])];
        double x = from->x, y = from->y;   /* from centre to centre: nodes are drawn over the ends */
        int factor = enlargement(d->graph, concat->inputs[i]);

        if (from->row == to->row) {
            line(d->out, "ida", x + half_width(from), y, to->x - NODE_RADIUS, to->y, false);
            continue;
        }
        if (from->column == 0) {   /* along its row to where the columns begin */
            line(d->out, "ida", x + half_width(from), y, d->layout.column_zero, y, false);
            x = d->layout.column_zero;
        }
        line(d->out, "ida", x, y, to->x, to->y, false);
        if (factor > 1)
            fprintf(d->out, "<text class=\"scale\" x=\"%.1f\" y=\"%.1f\">×%d</text>\n", (x + to->x) / 2 + 6, (y + to->y) / 2 + 9, factor);
    }
}

/* ---- boxes ------------------------------------------------------------------------------------------------------------- */

/* "/2" for a part that reduces, "d2" for a dilated one, else "". */
static void describe_convolutions(const struct graph *graph, const struct part *part, char *text, size_t size)
{
    int stride = 1, dilation = 1;

    for (value v = part->first; v <= part->last; v++) {
        const struct node *node = &graph->nodes[v];
        if (node->op != OP_CONV2D)
            continue;
        stride = node->as.conv.stride > stride ? node->as.conv.stride : stride;
        dilation = node->as.conv.dilation > dilation ? node->as.conv.dilation : dilation;
    }
    text[0] = '\0';
    if (stride > 1)
        snprintf(text, size, "/%d", stride);
    else if (dilation > 1)
        snprintf(text, size, "d%d", dilation);
}

static void draw_square(const struct drawing *d, int index)
{
    const struct part *part = &d->graph->parts[index];
    const struct drawn_part *drawn = &d->layout.parts[index];
    const struct node *first = &d->graph->nodes[part->first];
    int in_channels = d->graph->nodes[first->inputs[0]].channels, out_channels = d->graph->nodes[part->last].channels;
    char mark[16];

    describe_convolutions(d->graph, part, mark, sizeof(mark));
    fprintf(d->out, "<g id=\"%s\"><title>%s: ", part->name, part->name);
    if (drawn->kind == DRAWN_CONV)
        fprintf(d->out, "convolution %d×%d", first->as.conv.kernel, first->as.conv.kernel);
    else
        fprintf(d->out, "%s block", dla_block_name(d->network->architecture.block));
    fprintf(d->out, ", %d → %d channels%s%s</title>", in_channels, out_channels, mark[0] != '\0' ? ", " : "", mark);
    fprintf(d->out, "<rect class=\"%s%s\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%d\" rx=\"4\"/>", drawn->kind == DRAWN_CONV ? "conv" : "block",
            mark[0] == '/' && drawn->kind == DRAWN_BLOCK ? " first" : "", drawn->x - BLOCK_SIZE / 2.0, drawn->y - BLOCK_SIZE / 2.0, BLOCK_SIZE, BLOCK_SIZE);
    if (mark[0] != '\0')
        fprintf(d->out, "<text class=\"mark\" x=\"%.1f\" y=\"%.1f\">%s</text>", drawn->x, drawn->y + 3.2, mark);
    fputs("</g>\n", d->out);
}

static void draw_circle(const struct drawing *d, int index)
{
    const struct part *part = &d->graph->parts[index];
    const struct drawn_part *drawn = &d->layout.parts[index];
    const struct node *concat = &d->graph->nodes[part->first];

    fprintf(d->out, "<g id=\"%s\"><title>%s: joins %d maps, %d → %d channels</title>", part->name, part->name, concat->input_count, concat->channels,
            d->graph->nodes[part->last].channels);
    if (drawn->kind == DRAWN_TREE_NODE && d->network->architecture.residual_root)
        fprintf(d->out, "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", drawn->x, drawn->y, NODE_RADIUS + 2.6);
    fprintf(d->out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/>", drawn->kind == DRAWN_TREE_NODE ? "tree" : "iter", drawn->x, drawn->y,
            NODE_RADIUS);
    fprintf(d->out, "<text class=\"count\" x=\"%.1f\" y=\"%.1f\">%d</text></g>\n", drawn->x, drawn->y + 3.4, concat->input_count);
}

static void draw_head(const struct drawing *d, int index)
{
    const struct drawn_part *drawn = &d->layout.parts[index];
    const dla_architecture *architecture = &d->network->architecture;
    char lines[2][48];

    if (architecture->down_ratio > 0) {
        snprintf(lines[0], sizeof(lines[0]), "%d class%s", architecture->num_classes, architecture->num_classes == 1 ? "" : "es");
        snprintf(lines[1], sizeof(lines[1]), "enlarged ×%d", architecture->down_ratio);
    } else {
        snprintf(lines[0], sizeof(lines[0]), "global pool");
        if (architecture->num_classes > 0)
            snprintf(lines[1], sizeof(lines[1]), "%d class%s", architecture->num_classes, architecture->num_classes == 1 ? "" : "es");
        else
            snprintf(lines[1], sizeof(lines[1]), "%d numbers", architecture->channels[DLA_LEVEL_COUNT - 1]);
    }
    fprintf(d->out, "<g id=\"%s\"><rect class=\"end\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"36\" rx=\"6\"/>", d->graph->parts[index].name,
            drawn->x - HEAD_WIDTH / 2.0, drawn->y - 18, HEAD_WIDTH);
    fprintf(d->out, "<text class=\"head\" x=\"%.1f\" y=\"%.1f\">%s</text>", drawn->x, drawn->y - 3, lines[0]);
    fprintf(d->out, "<text class=\"head\" x=\"%.1f\" y=\"%.1f\">%s</text></g>\n", drawn->x, drawn->y + 11, lines[1]);
}

/* ---- header, rows, legend ---------------------------------------------------------------------------------------------- */

static void draw_header(const struct drawing *d)
{
    const dla_architecture *architecture = &d->network->architecture;
    dla_census census;

    fprintf(d->out, "<text class=\"name\" x=\"0\" y=\"24\">%s</text>\n<text class=\"facts\" x=\"1\" y=\"46\">%s blocks", architecture->name,
            dla_block_name(architecture->block));
    if (architecture->block != DLA_BLOCK_BASIC && architecture->cardinality > 1)
        fprintf(d->out, ", %d groups", architecture->cardinality);
    if (dla_network_census(d->network, 224, 224, &census) == DLA_OK)
        fprintf(d->out, "  ·  %.1f M parameters  ·  %.2f GFLOPs at 224×224", (double)census.params / 1e6, (double)census.flops / 1e9);
    fputs("</text>\n", d->out);
}

static void draw_rows(const struct drawing *d, const int *strides)
{
    for (int row = 0; row < DLA_LEVEL_COUNT; row++) {
        const struct drawn_row *r = &d->layout.rows[row];
        value v = d->graph->levels[row];
        double middle = (r->top + r->bottom) / 2.0;

        fprintf(d->out, "<rect class=\"band\" x=\"0\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"6\"/>\n", r->top + 2, d->layout.width,
                r->bottom - r->top - 4);
        fprintf(d->out, "<text class=\"level\" x=\"14\" y=\"%.1f\">level %d</text>\n", middle - 3, row);
        fprintf(d->out, "<text class=\"scale\" x=\"14\" y=\"%.1f\">1/%d · %d ch</text>\n", middle + 12, strides[v], d->graph->nodes[v].channels);
    }
}

struct legend_item {
    const char *symbol;      /* drawn with its middle at (12, 0), 24 wide */
    const char *text;
    double x;
    int line;
};

struct legend {
    struct legend_item items[8];
    int count, lines;
};

enum { LEGEND_TEXT_X = 30, LEGEND_GAP = 18, LEGEND_LINE = 24 };

/* Appends an item where there is room. Text cannot be measured here: a letter is taken as wide as in DejaVu Sans, the widest of
 * the fonts asked for. */
static void add_to_legend(struct legend *legend, double width, const char *symbol, const char *text)
{
    static const double letter_width = 7.0;
    struct legend_item *item = &legend->items[legend->count];
    double item_width = LEGEND_TEXT_X + letter_width * (double)strlen(text);

    *item = (struct legend_item){.symbol = symbol, .text = text, .x = 0.0, .line = 0};
    if (legend->count > 0) {
        const struct legend_item *before = item - 1;
        item->line = before->line;
        item->x = before->x + LEGEND_TEXT_X + letter_width * (double)strlen(before->text) + LEGEND_GAP;
        if (item->x + item_width > width) {
            item->x = 0.0;
            item->line++;
        }
    }
    legend->lines = item->line + 1;
    legend->count++;
}

static struct legend make_legend(const dla_architecture *architecture, double width)
{
    struct legend legend = {.count = 0};

    add_to_legend(&legend, width, "<rect class=\"conv\" x=\"4\" y=\"-8\" width=\"16\" height=\"16\" rx=\"3\"/>", "convolution");
    add_to_legend(&legend, width, "<rect class=\"block\" x=\"4\" y=\"-8\" width=\"16\" height=\"16\" rx=\"3\"/>", "block");
    add_to_legend(&legend, width,
                  "<rect class=\"block first\" x=\"4\" y=\"-8\" width=\"16\" height=\"16\" rx=\"3\"/>"
                  "<text class=\"mark\" x=\"12\" y=\"3\">/2</text>",
                  "halves the map");
    if (architecture->output_stride < 32)
        add_to_legend(&legend, width,
                      "<rect class=\"block\" x=\"4\" y=\"-8\" width=\"16\" height=\"16\" rx=\"3\"/>"
                      "<text class=\"mark\" x=\"12\" y=\"3\">d2</text>",
                      "dilated");
    add_to_legend(&legend, width, "<circle class=\"tree\" cx=\"12\" cy=\"0\" r=\"7\"/><text class=\"count\" x=\"12\" y=\"3.4\">n</text>",
                  "aggregation node, joins n maps");
    if (architecture->residual_root)
        add_to_legend(&legend, width,
                      "<circle class=\"tree\" cx=\"12\" cy=\"0\" r=\"6\"/><circle class=\"ring\" cx=\"12\" cy=\"0\" r=\"8.6\"/>", "residual");
    add_to_legend(&legend, width, "<path class=\"hda\" d=\"M1 0H23\"/>", "hierarchical (HDA)");
    add_to_legend(&legend, width, "<path class=\"ida\" d=\"M1 0H23\"/>",
                  architecture->down_ratio > 0 ? "iterative (IDA), pooled or enlarged" : "iterative (IDA), pooled");
    return legend;
}

static void draw_legend(FILE *out, const struct legend *legend, double top)
{
    for (int i = 0; i < legend->count; i++) {
        const struct legend_item *item = &legend->items[i];
        fprintf(out, "<g transform=\"translate(%.1f %.1f)\">%s<text class=\"legend\" x=\"%d\" y=\"4.3\">%s</text></g>\n", item->x,
                top + LEGEND_LINE * item->line, item->symbol, LEGEND_TEXT_X, item->text);
    }
}

static void draw(const struct drawing *d, const int *strides)
{
    double content = d->layout.width > MIN_WIDTH ? d->layout.width : MIN_WIDTH;
    const struct legend legend = make_legend(&d->network->architecture, content);
    double legend_top = d->layout.height + LEGEND_LINE + 4.0;
    double width = content + 2 * MARGIN, height = HEADER_HEIGHT + legend_top + LEGEND_LINE * (legend.lines - 0.5) + 2 * MARGIN;

    fprintf(d->out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n"
            "<title>%s</title>\n<style>%s</style>\n",
            width, height, width, height, d->network->architecture.name, style);
    fputs("<defs>"
          "<marker id=\"to\" viewBox=\"0 0 6 6\" refX=\"5.4\" refY=\"3\" markerWidth=\"4.6\" markerHeight=\"4.6\" orient=\"auto\">"
          "<path d=\"M0 0L6 3L0 6z\" fill=\"#8592a0\"/></marker>"
          "<marker id=\"to-ida\" viewBox=\"0 0 6 6\" refX=\"5.4\" refY=\"3\" markerWidth=\"4\" markerHeight=\"4\" orient=\"auto\">"
          "<path d=\"M0 0L6 3L0 6z\" fill=\"#e2792f\"/></marker>"
          "</defs>\n",
          d->out);
    fprintf(d->out, "<rect width=\"%.0f\" height=\"%.0f\" fill=\"#fff\"/>\n<g transform=\"translate(%d %d)\">\n", width, height, MARGIN, MARGIN);
    draw_header(d);
    fprintf(d->out, "<g transform=\"translate(0 %d)\">\n", HEADER_HEIGHT);
    draw_rows(d, strides);
    for (int i = 0; i < d->graph->part_count; i++) {
        enum drawn_kind kind = d->layout.parts[i].kind;
        if (kind == DRAWN_TREE_NODE)
            draw_tree_edges(d, i);
        else if (kind == DRAWN_ITERATIVE_NODE)
            draw_iterative_edges(d, i);
        else if (kind != DRAWN_NOT)
            draw_path(d, i);
    }
    for (int i = 0; i < d->graph->part_count; i++) {
        enum drawn_kind kind = d->layout.parts[i].kind;
        if (kind == DRAWN_TREE_NODE || kind == DRAWN_ITERATIVE_NODE)
            draw_circle(d, i);
        else if (kind == DRAWN_HEAD)
            draw_head(d, i);
        else if (kind != DRAWN_NOT)
            draw_square(d, i);
    }
    draw_legend(d->out, &legend, legend_top);
    fputs("</g></g></svg>\n", d->out);
}

dla_status dla_network_draw_svg(const dla_network *network, const char *path)
{
    size_t strides_bytes = (size_t)network->graph.node_count * sizeof(int);
    int *strides = memory_allocate(strides_bytes);
    struct drawing drawing = {.network = network, .graph = &network->graph};
    struct text_stream stream;
    char *text = NULL;
    dla_status status = network_check_levels(network, "a picture");

    if (status != DLA_OK || strides == NULL) {
        memory_free(strides);
        return status != DLA_OK ? status : status_out_of_memory(strides_bytes, "a drawing");
    }
    graph_infer_strides(&network->graph, strides);
    status = layout_create(network, &drawing.layout);
    if (status == DLA_OK) {
        text_stream_open(&stream);
        drawing.out = stream.file;
        if (stream.file != NULL)
            draw(&drawing, strides);
        text = text_stream_close(&stream);
        status = text != NULL ? file_write(path, text, strlen(text)) : status_out_of_memory(64 * 1024, "a drawing");
    }
    memory_free(text);
    memory_free(strides);
    layout_free(&drawing.layout);
    return status;
}
