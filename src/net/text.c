/* text.c - a network's trees drawn in text.
 *
 * Every part of the graph is a line, its place in the tree given by its path: "level3.tree1.root" hangs below "tree1" below
 * "level3". Parts are in the order of a depth-first walk, so the drawing is one pass with a look at the neighbours:
 *
 *     level3
 *     ├─ tree1
 *     │  ├─ tree1       basic          128   1/8
 *     │  ├─ tree2       basic          128   1/8
 *     │  └─ root        aggregation    128   1/8   <- tree2, tree1
 *
 * An aggregation node says what it joins: siblings by their own name, others by the path of the tree whose result they are.
 */
#include "net/text.h"

#include "base/memory.h"
#include "base/status.h"
#include "base/text_stream.h"
#include "net/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the first `depth` components of a path, without the dot behind them; the whole path if it has fewer. */
static size_t prefix_length(const char *path, int depth)
{
    size_t length = 0;

    for (; path[length] != '\0'; length++)
        if (path[length] == '.' && --depth == 0)
            break;
    return length;
}

static int path_depth(const char *path)
{
    int depth = 1;
    for (; *path != '\0'; path++)
        depth += *path == '.';
    return depth;
}

/* Whether two paths agree in their first `depth` components. */
static bool share_prefix(const char *a, const char *b, int depth)
{
    size_t length = depth == 0 ? 0 : prefix_length(a, depth);
    return depth == 0 || (length == prefix_length(b, depth) && strncmp(a, b, length) == 0);
}

static const char *last_component(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot == NULL ? path : dot + 1;
}

/* Whether another part follows below the same parent as component `depth` (counted from 1) of part `index`. */
static bool has_later_sibling(const struct graph *graph, int index, int depth)
{
    const char *path = graph->parts[index].name;

    for (int i = index + 1; i < graph->part_count && share_prefix(path, graph->parts[i].name, depth - 1); i++)
        if (path_depth(graph->parts[i].name) >= depth && !share_prefix(path, graph->parts[i].name, depth))
            return true;
    return false;
}

/* The branches left of component `depth` of part `index`; returns the columns they take. */
static int draw_branches(FILE *stream, const struct graph *graph, int index, int depth)
{
    for (int d = 2; d <= depth; d++) {
        bool later = has_later_sibling(graph, index, d);
        fputs(d < depth ? (later ? "│  " : "   ") : (later ? "├─ " : "└─ "), stream);
    }
    return 3 * (depth - 1);
}

size_t part_tree_name_length(const char *name)
{
    size_t length = strlen(name);
    static const char root[] = ".root", right[] = ".tree2";
    const size_t root_length = sizeof(root) - 1, right_length = sizeof(right) - 1;

    if (length <= root_length || strcmp(name + length - root_length, root) != 0)
        return length;
    length -= root_length;
    while (length > right_length && strncmp(name + length - right_length, right, right_length) == 0)
        length -= right_length;
    return length;
}

/* What an aggregation node joins, in the order of its channels. */
static void draw_sources(FILE *stream, const struct graph *graph, const struct part *part)
{
    const struct node *concat = &graph->nodes[part->first];
    size_t parent_length = (size_t)(last_component(part->name) - part->name);

    for (int i = 0; i < concat->input_count; i++) {
        value source = concat->inputs[i];
        int index = graph_find_part(graph, source);
        const char *pooled = graph->nodes[source].op == OP_MAX_POOL ? " pooled" : "";

        fputs(i == 0 ? "  <- " : ", ", stream);
        if (index < 0) {
            fprintf(stream, "input%s", pooled);
            continue;
        }
        const char *name = graph->parts[index].name;
        size_t length = part_tree_name_length(name);
        if (length > parent_length && strncmp(name, part->name, parent_length) == 0) {
            name += parent_length;
            length -= parent_length;
        }
        fprintf(stream, "%.*s%s", (int)length, name, pooled);
    }
}

static void describe_part(const struct part *part, const dla_network *network, char *text, size_t size)
{
    const struct node *first = &network->graph.nodes[part->first];
    static const char *const kinds[] = {
        [PART_CONV] = "conv",
        [PART_BLOCK] = "",
        [PART_AGGREGATION] = "aggregation",
        [PART_UPSAMPLING] = "upsampling",
        [PART_HEAD] = "classifier",
    };

    if (part->kind == PART_CONV)
        snprintf(text, size, "conv %dx%d", first->as.conv.kernel, first->as.conv.kernel);
    else if (part->kind == PART_BLOCK)
        snprintf(text, size, "%s", network->composed ? "block" : dla_block_name(network->architecture.block));
    else
        snprintf(text, size, "%s", kinds[part->kind]);
}

enum { INDENT_PER_LEVEL = 3, LONGEST_COMPONENT = 12, GAP = 2 };

static void draw(FILE *stream, const dla_network *network, const int *strides)
{
    const struct graph *graph = &network->graph;
    int name_columns = 0;

    for (int i = 0; i < graph->part_count; i++) {
        int depth = path_depth(graph->parts[i].name);
        int columns = INDENT_PER_LEVEL * (depth - 1) + LONGEST_COMPONENT;
        name_columns = columns > name_columns ? columns : name_columns;
    }
    for (int i = 0; i < graph->part_count; i++) {
        const struct part *part = &graph->parts[i];
        int depth = path_depth(part->name);
        char kind[32];

        for (int d = 1; d < depth; d++) {   /* the trees that begin here */
            if (i > 0 && path_depth(graph->parts[i - 1].name) >= d && share_prefix(part->name, graph->parts[i - 1].name, d))
                continue;
            size_t from = d == 1 ? 0 : prefix_length(part->name, d - 1) + 1;
            draw_branches(stream, graph, i, d);
            fprintf(stream, "%.*s\n", (int)(prefix_length(part->name, d) - from), part->name + from);
        }
        int columns = draw_branches(stream, graph, i, depth);
        describe_part(part, network, kind, sizeof(kind));
        fprintf(stream, "%-*s%*s%-12s %6d", name_columns - columns, last_component(part->name), GAP, "", kind,
                graph->nodes[part->last].channels);
        if (strides[part->last] > 0)
            fprintf(stream, "  %*s1/%d", strides[part->last] < 10, "", strides[part->last]);
        if (part->kind == PART_AGGREGATION)
            draw_sources(stream, graph, part);
        fputc('\n', stream);
    }
}

dla_status dla_network_to_text(const dla_network *network, char **text)
{
    size_t strides_bytes = (size_t)network->graph.node_count * sizeof(int);
    int *strides = memory_allocate(strides_bytes);
    struct text_stream stream;

    if (strides == NULL)
        return status_out_of_memory(strides_bytes, "a drawing");
    graph_infer_strides(&network->graph, strides);
    text_stream_open(&stream);
    if (stream.file != NULL)
        draw(stream.file, network, strides);
    memory_free(strides);
    char *drawn = text_stream_close(&stream);
    if (drawn == NULL)
        return status_out_of_memory(64 * 1024, "a drawing");
    *text = drawn;
    return DLA_OK;
}
