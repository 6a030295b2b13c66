/* builder.c - networks of a user's own, out of this library's parts: see dla.h for what each part is.
 *
 * A builder is a graph under construction and the list of the maps that its user knows, with name and stride. Strides make the
 * factors of iterative aggregation, so nobody has to say by how much a map is enlarged. The first mistake is kept and turns all
 * later calls into no-ops, as a failed allocation does in graph.c; dla_builder_finish reports it.
 */
#include "base/memory.h"
#include "base/status.h"
#include "net/aggregate.h"
#include "net/architecture.h"
#include "net/blocks.h"
#include "net/network.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_MAPS = 1024,
    MAX_SOURCES = 64, /* of an aggregation */
    MAX_CHANNELS = 16384,
    MAX_STRIDE = 1 << 16,
    MAX_KERNEL = 31,
    MAX_DEPTH = 8 /* as in an architecture's levels */
};

struct built_map {
    value value;
    int stride; /* pixels of the session's height and width a pixel of this map, along a side */
    const char *name;
};

struct dla_builder {
    dla_network *network;
    struct built_map maps[MAX_MAPS];
    int map_count;
    dla_status status; /* of the first mistake */
    char *message;
};

dla_status dla_builder_create(const char *name, dla_builder **builder)
{
    dla_status status = architecture_check_name(name, strlen(name));
    if (status != DLA_OK)
        return status;
    dla_builder *made = memory_allocate_zeroed(1, sizeof *made);
    dla_network *network = memory_allocate_zeroed(1, sizeof *network);
    if (made == NULL || network == NULL) {
        memory_free(made);
        memory_free(network);
        return status_out_of_memory(sizeof *made, "a builder");
    }
    network->composed = true;
    snprintf(network->architecture.name, sizeof network->architecture.name, "%s", name);
    for (int level = 0; level < DLA_LEVEL_COUNT; level++)
        network->graph.levels[level] = NO_VALUE;
    made->network = network;
    *builder = made;
    return DLA_OK;
}

void dla_builder_destroy(dla_builder *builder)
{
    if (builder == NULL)
        return;
    dla_network_destroy(builder->network);
    memory_free(builder->message);
    memory_free(builder);
}

/* ---- mistakes ---------------------------------------------------------------------------------------------------------- */

/* Keeps what status_set has just recorded, unless there is something already. */
static dla_map keep(dla_builder *b, dla_status status)
{
    if (b->status == DLA_OK) {
        b->status = status;
        b->message = memory_copy_string(dla_error_message());
    }
    return DLA_NO_MAP;
}

static bool check_range(dla_builder *b, const char *name, const char *what, int number, int smallest, int largest)
{
    if (number >= smallest && number <= largest)
        return true;
    keep(b, status_set(DLA_ERROR_ARGUMENT, "%s: %s is %d, legal is %d to %d", name, what, number, smallest, largest));
    return false;
}

/* Whether the part `name` may be begun. */
static bool begin(dla_builder *b, const char *name)
{
    if (b->status != DLA_OK)
        return false;
    dla_status status = architecture_check_name(name, strlen(name));
    for (int i = 0; i < b->map_count && status == DLA_OK; i++)
        if (strcmp(b->maps[i].name, name) == 0)
            status = status_set(DLA_ERROR_ARGUMENT, "there are two parts called %s; names tell whose the weights are", name);
    if (status == DLA_OK && b->map_count == MAX_MAPS)
        status = status_set(DLA_ERROR_LIMIT, "%s: a network may have %d parts", name, MAX_MAPS);
    if (status != DLA_OK)
        keep(b, status);
    return status == DLA_OK;
}

/* The map that a part reads; NULL after a mistake. */
static const struct built_map *source(dla_builder *b, const char *name, dla_map map)
{
    if (map >= 0 && map < b->map_count)
        return &b->maps[map];
    keep(b, status_set(DLA_ERROR_ARGUMENT, "%s: its input is no map of this builder", name));
    return NULL;
}

static dla_map add_map(dla_builder *b, value v, int stride, const char *name)
{
    b->maps[b->map_count] = (struct built_map){.value = v, .stride = stride, .name = graph_name(&b->network->graph, "%s", name)};
    return b->map_count++;
}

/* ---- parts ------------------------------------------------------------------------------------------------------------- */

dla_map dla_builder_input(dla_builder *b, const char *name, int channels, int stride)
{
    struct graph *graph = &b->network->graph;

    if (!begin(b, name) || !check_range(b, name, "its number of channels", channels, 1, MAX_CHANNELS)
        || !check_range(b, name, "its stride", stride, 1, MAX_STRIDE))
        return DLA_NO_MAP;
    if (graph->input_count == GRAPH_MAX_INPUTS)
        return keep(b, status_set(DLA_ERROR_LIMIT, "%s: a network may have %d inputs", name, GRAPH_MAX_INPUTS));
    return add_map(b, graph_input_map(graph, name, channels, stride), stride, name);
}

dla_map dla_builder_conv(dla_builder *b, dla_map in, int channels, int kernel, int stride, const char *name)
{
    struct graph *graph = &b->network->graph;
    const struct built_map *from;

    if (!begin(b, name) || (from = source(b, name, in)) == NULL
        || !check_range(b, name, "its number of channels", channels, 1, MAX_CHANNELS)
        || !check_range(b, name, "its kernel", kernel, 1, MAX_KERNEL)
        || !check_range(b, name, "its stride", stride, 1, MAX_STRIDE / from->stride))
        return DLA_NO_MAP;
    if (kernel % 2 == 0)
        return keep(b, status_set(DLA_ERROR_ARGUMENT, "%s: its kernel is %d; an odd one has a middle", name, kernel));
    graph_begin_part(graph, PART_CONV, name);
    value x = graph_conv(graph, from->value, channels, kernel, stride, 1, 1, false, graph_name(graph, "%s.0", name));
    x = graph_batch_norm(graph, x, graph_name(graph, "%s.1", name));
    x = graph_relu(graph, x, graph_name(graph, "%s.2", name));
    graph_end_part(graph, x);
    return add_map(b, x, from->stride * stride, name);
}

dla_map dla_builder_scores(dla_builder *b, dla_map in, int channels, const char *name)
{
    struct graph *graph = &b->network->graph;
    const struct built_map *from;

    if (!begin(b, name) || (from = source(b, name, in)) == NULL
        || !check_range(b, name, "its number of channels", channels, 1, MAX_CHANNELS))
        return DLA_NO_MAP;
    graph_begin_part(graph, PART_HEAD, name);
    value x = graph_conv(graph, from->value, channels, 1, 1, 1, 1, true, name);
    graph_end_part(graph, x);
    return add_map(b, x, from->stride, name);
}

/* The groups of a bottleneck's middle must divide it. */
static bool check_block(dla_builder *b, const char *name, const dla_tree *tree, const struct block_options *options)
{
    if (tree->block == DLA_BLOCK_BASIC)
        return true;
    int64_t middle = block_middle_channels(options, tree->channels);
    if (middle >= 1 && middle % options->cardinality == 0
        && middle * (tree->block == DLA_BLOCK_BOTTLE2NECK ? options->scale : 1) <= 4 * MAX_CHANNELS)
        return true;
    keep(b, status_set(DLA_ERROR_ARGUMENT,
                       "%s: %d channels with base_width %d and cardinality %d give 3x3 convolutions of %lld channels, which must be "
                       "a positive multiple of the cardinality",
                       name, tree->channels, options->base_width, options->cardinality, (long long)middle));
    return false;
}

dla_map dla_builder_tree(dla_builder *b, dla_map in, const dla_tree *tree, const char *name)
{
    struct graph *graph = &b->network->graph;
    const struct built_map *from;

    if (!begin(b, name) || (from = source(b, name, in)) == NULL || !check_range(b, name, "its block", (int)tree->block, 0, BLOCK_COUNT - 1)
        || !check_range(b, name, "its depth", tree->depth, 1, MAX_DEPTH)
        || !check_range(b, name, "its number of channels", tree->channels, 1, MAX_CHANNELS)
        || !check_range(b, name, "its stride", tree->stride, 1, 2) || !check_range(b, name, "its cardinality", tree->cardinality, 1, 1024)
        || !check_range(b, name, "its base width", tree->base_width, 1, 1024)
        || !check_range(b, name, "its scale", tree->scale, 2, BOTTLE2NECK_MAX_SCALE))
        return DLA_NO_MAP;
    const struct block_options block_options = {.cardinality = tree->cardinality, .base_width = tree->base_width, .scale = tree->scale};
    const struct tree_options options = {
        .block = block_builder_of(tree->block), .block_options = &block_options, .residual_root = tree->residual_node};
    const struct reduction reduction = {.stride = tree->stride, .dilation = 1, .dilated = false};
    if (!check_block(b, name, tree, &block_options))
        return DLA_NO_MAP;
    value x = hierarchical_tree(graph, &options, from->value, tree->depth, tree->channels, reduction, tree->joins_input, name);
    return add_map(b, x, from->stride * tree->stride, name);
}

/* The values of an aggregation's sources; false after a mistake. */
static bool sources(dla_builder *b, const char *name, const dla_map *maps, int count, int least, value *values, int *strides)
{
    if (!begin(b, name) || !check_range(b, name, "its number of maps", count, least, MAX_SOURCES))
        return false;
    for (int i = 0; i < count; i++) {
        const struct built_map *from = source(b, name, maps[i]);
        if (from == NULL)
            return false;
        values[i] = from->value;
        strides[i] = from->stride;
    }
    return true;
}

dla_map dla_builder_node(dla_builder *b, const dla_map *maps, int count, int channels, bool residual, const char *name)
{
    value values[MAX_SOURCES];
    int strides[MAX_SOURCES];
    struct graph *graph = &b->network->graph;

    if (!sources(b, name, maps, count, 1, values, strides) || !check_range(b, name, "its number of channels", channels, 1, MAX_CHANNELS))
        return DLA_NO_MAP;
    for (int i = 1; i < count; i++)
        if (strides[i] != strides[0])
            return keep(b,
                        status_set(DLA_ERROR_ARGUMENT, "%s: joins maps of strides %d and %d; dla_builder_ida joins maps of different sizes",
                                   name, strides[0], strides[i]));
    if (residual && graph_channels(graph, values[0]) != channels)
        return keep(b, status_set(DLA_ERROR_ARGUMENT, "%s: cannot add its first map of %d channels to a result of %d", name,
                                  graph_channels(graph, values[0]), channels));
    return add_map(b, aggregation_node(graph, values, count, channels, residual, name), strides[0], name);
}

/* How much larger each map must become for the first one's size; false after a mistake. */
static bool enlargements(dla_builder *b, const char *name, const int *strides, int count, int *factors)
{
    for (int i = 0; i < count; i++) {
        factors[i] = strides[i] / strides[0];
        if (strides[i] % strides[0] != 0 || (factors[i] & (factors[i] - 1)) != 0) {
            keep(b, status_set(DLA_ERROR_ARGUMENT,
                               "%s: map %d has stride %d, which must be the first one's, %d, times a power of two (finest map first)", name,
                               i, strides[i], strides[0]));
            return false;
        }
    }
    return true;
}

dla_map dla_builder_ida(dla_builder *b, const dla_map *maps, int count, int channels, const char *name)
{
    value values[MAX_SOURCES];
    int strides[MAX_SOURCES], factors[MAX_SOURCES];

    if (!sources(b, name, maps, count, 2, values, strides) || !check_range(b, name, "its number of channels", channels, 1, MAX_CHANNELS)
        || !enlargements(b, name, strides, count, factors))
        return DLA_NO_MAP;
    return add_map(b, ida_up(&b->network->graph, values, count, channels, factors, name), strides[0], name);
}

dla_map dla_builder_dla_up(dla_builder *b, const dla_map *maps, int count, const char *name)
{
    value values[MAX_SOURCES];
    int strides[MAX_SOURCES];

    if (!sources(b, name, maps, count, 2, values, strides) || !check_range(b, name, "its number of maps", count, 2, DLA_LEVEL_COUNT))
        return DLA_NO_MAP;
    for (int i = 1; i < count; i++)
        if (strides[i] != 2 * strides[i - 1])
            return keep(b, status_set(DLA_ERROR_ARGUMENT, "%s: map %d has stride %d, which must be twice that of the one before, %d", name,
                                      i, strides[i], strides[i - 1]));
    return add_map(b, dla_up(&b->network->graph, values, count, name), strides[0], name);
}

dla_status dla_builder_finish(dla_builder *b, dla_map output, dla_network **network)
{
    const struct built_map *last = b->status == DLA_OK ? source(b, "the output", output) : NULL;

    dla_status status = b->status;

    if (status != DLA_OK) {
        status = status_set(status, "%s: %s", b->network->architecture.name, b->message != NULL ? b->message : "out of memory");
    } else if ((status = graph_status(&b->network->graph)) == DLA_OK) {
        b->network->graph.output = last->value;
        *network = b->network;
        b->network = NULL;
    }
    dla_builder_destroy(b);
    return status;
}
