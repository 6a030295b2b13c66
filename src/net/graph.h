/* graph.h - a network as data.
 *
 * A graph is an array of nodes in topological order; every node gives one value, a feature map, and a value is the index of
 * its node. Parameters are listed once, with the name that every checkpoint uses for them; nodes refer to them by index.
 * The census, the weight binder, the planner, the trainer, the exporters and the drawing are walks over these two arrays.
 *
 * A graph knows channels, not heights and widths: those follow from the input's size (graph_infer_sizes), so one graph
 * serves every size. Batch normalisation and relu are nodes of their own; fusing them is the planner's business.
 */
#ifndef DLA_NET_GRAPH_H
#define DLA_NET_GRAPH_H

#include "base/arena.h"

#include <dla/dla.h>

typedef int value;                 /* index of the node that gives it */
enum { NO_VALUE = -1, NO_PARAMETER = -1, GRAPH_MAX_INPUTS = 16 };

enum op {
    OP_INPUT,                 /* the photograph, or a map that the caller has */
    OP_CONV2D,
    OP_BATCH_NORM,
    OP_RELU,
    OP_ADD,                   /* two inputs of one shape */
    OP_CONCAT,                /* channels of all inputs, one after the other */
    OP_SLICE,                 /* a run of channels */
    OP_MAX_POOL,              /* ceil mode: a window that hangs over the edge takes the maximum of what lies inside */
    OP_AVERAGE_POOL,          /* padding counts in the divisor */
    OP_GLOBAL_AVERAGE_POOL,   /* to 1 x 1 */
    OP_TRANSPOSED_CONV2D,     /* depthwise upsampling of IDA */
    OP_CROP,                  /* input 0 cut at the bottom and right to the size of input 1 */
    OP_LOG_SOFTMAX,           /* over channels */
    OP_COUNT
};

const char *op_name(enum op op);   /* "conv2d" */

struct conv_params {
    int kernel, stride, padding, dilation, groups;
    int weight;                /* parameter (out_channels, in_channels / groups, kernel, kernel);
                                * transposed: (in_channels, out_channels / groups, kernel, kernel) */
    int bias;                  /* parameter (out_channels), or NO_PARAMETER */
};

struct batch_norm_params {
    float epsilon, momentum;   /* running = (1 - momentum) * running + momentum * batch, as PyTorch */
    int weight, bias, running_mean, running_var;   /* parameters (channels) */
};

/* Windows start every `stride` pixels from -padding on; their pixels are `dilation` apart (1 but in a network whose output
 * stride was lowered). A max-pool's result has ceil(size / stride) pixels a side. */
struct pool_params { int kernel, stride, padding, dilation; };
struct input_params { int stride; };               /* pixels of the session's height and width per pixel of the map */
struct slice_params { int first_channel; };        /* the node's channels say how many */

struct node {
    enum op op;
    const char *name;          /* path in the reference's module tree: "level3.tree1.root.conv"; unique */
    const value *inputs;
    int input_count;
    int channels;              /* of the value it gives */
    union {
        struct conv_params conv;             /* OP_CONV2D, OP_TRANSPOSED_CONV2D */
        struct batch_norm_params batch_norm;
        struct pool_params pool;             /* OP_MAX_POOL, OP_AVERAGE_POOL */
        struct slice_params slice;
        struct input_params input;
    } as;
};

enum parameter_kind { PARAMETER_CONV_WEIGHT, PARAMETER_BIAS, PARAMETER_NORM_WEIGHT, PARAMETER_NORM_BIAS, PARAMETER_RUNNING_MEAN, PARAMETER_RUNNING_VAR };

struct parameter {
    const char *name;          /* state-dict name: "level3.tree1.root.conv.weight" */
    enum parameter_kind kind;
    bool trainable;            /* running statistics and fixed upsampling are not */
    int rank;
    int64_t shape[4];
    int64_t elements;
};

/* What the paper draws as one box. A part's nodes follow one another, `last` gives its value; nodes outside of every part
 * (the input, shortcut projections, pools) are wiring between boxes. */
enum part_kind {
    PART_CONV,                 /* convolution, batch norm, relu: the first levels */
    PART_BLOCK,                /* convolutional block */
    PART_AGGREGATION,          /* aggregation node of a tree, or node of iterative aggregation */
    PART_UPSAMPLING,           /* projection and transposed convolution of iterative aggregation */
    PART_HEAD                  /* pooling and classifier, or the dense prediction's last layers */
};

struct part {
    enum part_kind kind;
    const char *name;          /* path: "level3.tree1.root" */
    value first, last;
};

struct graph {
    struct arena arena;        /* owns everything below */
    struct node *nodes;
    int node_count;
    struct parameter *parameters;
    int parameter_count;
    struct parameter *unused;  /* tensors of the authors' checkpoints that no forward pass uses; exact names, same form */
    int unused_count;
    struct part *parts;
    int part_count;
    value inputs[GRAPH_MAX_INPUTS];
    int input_count;
    value input;               /* the first */
    int smallest_side;         /* of what graph_infer_sizes takes */
    value output;              /* logits, embedding or log-probabilities */
    value levels[DLA_LEVEL_COUNT];   /* NO_VALUE each where there are none */
    /* builder state */
    int node_capacity, parameter_capacity, unused_capacity, part_capacity;
    bool failed;               /* memory ran out while building; graph_status reports it */
};

/* ---- building: every function appends a node and returns its value. `name` is copied. After a memory failure they
 *      return value 0 and do nothing, and the builder's caller learns it once, from graph_status. ---- */
value graph_input(struct graph *graph, int channels);   /* the photograph, each side at least 32 */
value graph_input_map(struct graph *graph, const char *name, int channels, int stride);
value graph_conv(struct graph *graph, value in, int out_channels, int kernel, int stride, int dilation, int groups, bool bias,
                 const char *name);   /* padding dilation * (kernel - 1) / 2 */
value graph_batch_norm(struct graph *graph, value in, const char *name);
value graph_relu(struct graph *graph, value in, const char *name);
value graph_add(struct graph *graph, value a, value b, const char *name);
value graph_concat(struct graph *graph, const value *inputs, int count, const char *name);
value graph_slice(struct graph *graph, value in, int first_channel, int channels, const char *name);
value graph_max_pool(struct graph *graph, value in, int kernel, int stride, int dilation, const char *name);
value graph_average_pool(struct graph *graph, value in, int kernel, int stride, int padding, int dilation, const char *name);
value graph_global_average_pool(struct graph *graph, value in, const char *name);
value graph_transposed_conv(struct graph *graph, value in, int out_channels, int kernel, int stride, int padding, int groups, bool trainable, const char *name);
value graph_crop(struct graph *graph, value in, value like, const char *name);
value graph_log_softmax(struct graph *graph, value in, const char *name);

/* printf into the graph's arena, for names below other names; "" after a memory failure. */
__attribute__((format(printf, 2, 3))) const char *graph_name(struct graph *graph, const char *format, ...);

int graph_channels(const struct graph *graph, value of);   /* of a value; 1 after a memory failure */

/* The nodes appended between the two calls are one part, whose value is `last`. */
void graph_begin_part(struct graph *graph, enum part_kind kind, const char *name);
void graph_end_part(struct graph *graph, value last);

/* Declares a convolution weight or the tensors of a batch norm as known and unused. */
void graph_declare_unused_conv(struct graph *graph, int out_channels, int in_channels, int kernel, bool bias, const char *name);
void graph_declare_unused_batch_norm(struct graph *graph, int channels, const char *name);

dla_status graph_status(const struct graph *graph);   /* DLA_OK, or DLA_ERROR_MEMORY */
void graph_free(struct graph *graph);

/* ---- reading ---- */
struct map_size { int height, width; };

/* Size of every value for an input of height x width; `sizes` has node_count elements. DLA_ERROR_ARGUMENT below smallest_side. */
dla_status graph_infer_sizes(const struct graph *graph, int height, int width, struct map_size *sizes);

/* Pixels of the input per pixel of every value, along a side; `strides` has node_count elements. 0 after a global pool. */
void graph_infer_strides(const struct graph *graph, int *strides);

/* The part that gives `v`, following wiring (pools, projections) back to it; -1 for the input. */
int graph_find_part(const struct graph *graph, value v);

/* A value by node name, level name ("level2") or "output"; NO_VALUE if there is none. */
value graph_find_value(const struct graph *graph, const char *name);
int graph_find_parameter(const struct graph *graph, const char *name);   /* or NO_PARAMETER */

#endif
