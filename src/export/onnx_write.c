/* onnx_write.c - dla_model_export_onnx: the whole ONNX model, streamed into a file.
 *
 * The model is never serialised in memory: protobuf-c hands over piece after piece, weights straight from the mapped weights
 * file, and small pieces are gathered into blocks. Without protobuf-c at build time the function says so and does nothing else.
 */
#include "base/options.h"
#include "base/status.h"

#include <dla/dla.h>

#if !DLA_HAVE_ONNX

dla_status dla_model_export_onnx(const dla_model *model, const dla_onnx_options *options, const char *path)
{
    (void)model;
    (void)options;
    return status_set(DLA_ERROR_UNSUPPORTED, "%s: this build has no ONNX export; install protobuf-c and its compiler (protoc-c) and build again", path);
}

#else

#include "base/file.h"
#include "export/onnx.h"
#include "tasks/model.h"
#include "tasks/model_card.h"

#include <string.h>

enum { OLDEST_OPSET = 17, OLDEST_OPSET_WITH_ANTIALIAS = 18, NEWEST_OPSET = 22 };

/* The first version of the file format that has the opset, as the release table of ONNX pairs them. */
static int64_t ir_version_for(int opset)
{
    return opset <= 18 ? 8 : opset <= 20 ? 9 : 10;
}

/* ---- options ----------------------------------------------------------------------------------------------------------- */

static dla_status settle_options(const dla_model *model, const dla_onnx_options *given, dla_onnx_options *settled)
{
    const dla_architecture *architecture = &model->network->architecture;

    *settled = (dla_onnx_options)DLA_ONNX_OPTIONS_INIT;
    dla_status status = options_take(settled, sizeof(*settled), given, "DLA_ONNX_OPTIONS_INIT");
    if (status != DLA_OK)
        return status;
    bool resizes = settled->input == DLA_ONNX_INPUT_PHOTOGRAPH;
    int oldest = resizes ? OLDEST_OPSET_WITH_ANTIALIAS : OLDEST_OPSET;
    if (settled->opset == 0)
        settled->opset = oldest;
    if (settled->opset < oldest || settled->opset > NEWEST_OPSET)
        return status_set(DLA_ERROR_ARGUMENT, "opset is %d, legal is %d to %d%s", settled->opset, oldest, NEWEST_OPSET,
                          resizes ? " for a model that resizes photographs" : "");
    if (settled->input != DLA_ONNX_INPUT_TENSOR && settled->input != DLA_ONNX_INPUT_PIXELS && !resizes)
        return status_set(DLA_ERROR_ARGUMENT, "input is %d, legal is 0 to 2 (dla_onnx_input)", (int)settled->input);
    if (settled->input != DLA_ONNX_INPUT_TENSOR && architecture->in_channels != 3)
        return status_set(DLA_ERROR_ARGUMENT, "preprocessing is for RGB, but %s has %d input channels", architecture->name, architecture->in_channels);
    if (settled->height == 0 && settled->width == 0)
        settled->height = settled->width = model->preprocessing.size;
    if (settled->height < 32 || settled->width < 32)
        return status_set(DLA_ERROR_ARGUMENT, "an input of %dx%d (height x width) is out of range: each side must be at least 32 pixels",
                          settled->height, settled->width);
    if (resizes && (settled->dynamic_size || settled->height != model->preprocessing.size || settled->width != model->preprocessing.size))
        return status_set(DLA_ERROR_ARGUMENT, "a model that resizes photographs crops them to the preprocessing's %dx%d: no other size can be set",
                          model->preprocessing.size, model->preprocessing.size);
    return DLA_OK;
}

/* ---- the model --------------------------------------------------------------------------------------------------------- */

struct texts {
    const char *input, *output;
};

/* Names of the model's input and output, as users of the file see them. */
static struct texts border_names(const dla_architecture *architecture, const dla_onnx_options *options)
{
    return (struct texts){
        .input = options->input == DLA_ONNX_INPUT_TENSOR ? "input" : "image",
        .output = architecture->down_ratio > 0 ? "log_probabilities" : architecture->num_classes > 0 ? "logits" : "embedding",
    };
}

static Onnx__ValueInfoProto *describe_input(struct onnx_builder *builder, const dla_architecture *architecture, const dla_onnx_options *options,
                                            const char *name)
{
    bool any_size = options->dynamic_size || options->input == DLA_ONNX_INPUT_PHOTOGRAPH;
    const struct onnx_side batch = {.name = "batch"}, channels = {.size = architecture->in_channels};
    const struct onnx_side height = {any_size ? "height" : NULL, options->height}, width = {any_size ? "width" : NULL, options->width};
    const struct onnx_side nchw[4] = {batch, channels, height, width}, nhwc[4] = {batch, height, width, channels};
    bool pixels = options->input != DLA_ONNX_INPUT_TENSOR;

    return onnx_value_info(builder, name, pixels ? ONNX__TENSOR_PROTO__DATA_TYPE__UINT8 : ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
                           pixels ? nhwc : nchw, 4);
}

static Onnx__ValueInfoProto *describe_output(struct onnx_builder *builder, const dla_model *model, const dla_onnx_options *options,
                                             const char *name)
{
    const struct graph *graph = &model->network->graph;
    bool dense = model->network->architecture.down_ratio > 0, any_size = options->dynamic_size;
    const struct onnx_side sides[4] = {
        {.name = "batch"},
        {.size = graph->nodes[graph->output].channels},
        {any_size ? "height" : NULL, options->height},
        {any_size ? "width" : NULL, options->width},
    };
    return onnx_value_info(builder, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, sides, dense ? 4 : 2);
}

/* All nodes and constants, from the model's input to its output. */
static dla_status lower_model(struct onnx_builder *builder, const dla_model *model, const dla_onnx_options *options, struct texts names)
{
    const dla_architecture *architecture = &model->network->architecture;
    const struct graph *graph = &model->network->graph;
    bool flat = architecture->down_ratio == 0;   /* (batch, channels, 1, 1) leaves as (batch, channels) */
    const char *network_input = names.input, *network_output = flat ? graph->nodes[graph->output].name : names.output;

    if (options->input != DLA_ONNX_INPUT_TENSOR) {
        network_input = "input";
        onnx_lower_preprocessing(builder, &model->preprocessing, options->input == DLA_ONNX_INPUT_PHOTOGRAPH, names.input, network_input);
    }
    dla_status status = onnx_lower_graph(builder, graph, model->weights.values, network_input, network_output);
    if (flat)
        onnx_attribute_int(builder, onnx_node(builder, "Flatten", "flatten", &network_output, 1, names.output), "axis", 1);
    return status;
}

/* The entries that a safetensors file would carry: network, labels, preprocessing. */
static dla_status add_metadata(struct onnx_builder *builder, const dla_model *model, Onnx__ModelProto *proto)
{
    struct metadata_entry *entries = NULL;
    int count = 0;

    dla_status status = model_card_to_metadata(&model->network->architecture, &model->preprocessing, (const char *const *)model->labels,
                                               (const char *const *)model->wnids, &builder->arena, &entries, &count);
    if (status != DLA_OK)
        return status;
    Onnx__StringStringEntryProto *messages = arena_allocate_array(&builder->arena, (size_t)count, sizeof(*messages));
    Onnx__StringStringEntryProto **pointers = arena_allocate_array(&builder->arena, (size_t)count, sizeof(*pointers));
    if (messages == NULL || pointers == NULL)
        return status_out_of_memory((size_t)count * sizeof(*messages), "ONNX metadata");
    for (int i = 0; i < count; i++) {
        onnx__string_string_entry_proto__init(&messages[i]);
        messages[i].key = (char *)(uintptr_t)entries[i].key;
        messages[i].value = (char *)(uintptr_t)entries[i].text;
        pointers[i] = &messages[i];
    }
    proto->n_metadata_props = (size_t)count;
    proto->metadata_props = pointers;
    return DLA_OK;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */

struct file_sink {
    ProtobufCBuffer base;      /* what protobuf-c sees: must come first */
    struct atomic_file *file;
    dla_status status;         /* of the first write that failed */
    size_t used;
    uint8_t gathered[64 * 1024];
};

static void flush_sink(struct file_sink *sink)
{
    if (sink->status == DLA_OK && sink->used > 0)
        sink->status = atomic_file_write(sink->file, sink->gathered, sink->used);
    sink->used = 0;
}

static void append_to_sink(ProtobufCBuffer *buffer, size_t size, const uint8_t *bytes)
{
    struct file_sink *sink = (struct file_sink *)buffer;

    if (size > sizeof(sink->gathered) - sink->used)
        flush_sink(sink);
    if (size > sizeof(sink->gathered)) {
        if (sink->status == DLA_OK)
            sink->status = atomic_file_write(sink->file, bytes, size);
        return;
    }
    memcpy(sink->gathered + sink->used, bytes, size);
    sink->used += size;
}

static dla_status write_model(const Onnx__ModelProto *proto, const char *path)
{
    static const size_t largest = 0x7fffffff;   /* protobuf's own limit */
    struct file_sink sink = {.base.append = append_to_sink, .status = DLA_OK};

    size_t bytes = onnx__model_proto__get_packed_size(proto);
    if (bytes > largest)
        return status_set(DLA_ERROR_LIMIT, "%s: the model would have %zu bytes, but an ONNX file can have at most %zu", path, bytes, largest);
    dla_status status = atomic_file_open(path, &sink.file);
    if (status != DLA_OK)
        return status;
    onnx__model_proto__pack_to_buffer(proto, &sink.base);
    flush_sink(&sink);
    if (sink.status != DLA_OK) {
        atomic_file_discard(sink.file);
        return sink.status;
    }
    return atomic_file_commit(sink.file);
}

dla_status dla_model_export_onnx(const dla_model *model, const dla_onnx_options *given, const char *path)
{
    const dla_architecture *architecture = &model->network->architecture;
    struct onnx_builder builder = {0};
    dla_onnx_options options;
    Onnx__ModelProto proto = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[1] = {&opset};
    Onnx__ValueInfoProto *inputs[1], *outputs[1];

    dla_status status = network_check_levels(model->network, "ONNX");
    if (status == DLA_OK)
        status = settle_options(model, given, &options);
    if (status != DLA_OK)
        return status;
    struct texts names = border_names(architecture, &options);
    status = lower_model(&builder, model, &options, names);
    if (status == DLA_OK)
        status = add_metadata(&builder, model, &proto);
    if (status != DLA_OK)
        goto out;
    inputs[0] = describe_input(&builder, architecture, &options, names.input);
    outputs[0] = describe_output(&builder, model, &options, names.output);
    graph.name = onnx_text(&builder, "%s", architecture->name);
    proto.producer_version = onnx_text(&builder, "%s", dla_version());
    proto.producer_name = onnx_text(&builder, "dla");
    if (builder.failed) {
        status = status_set(DLA_ERROR_MEMORY, "out of memory while making an ONNX model");
        goto out;
    }
    graph.n_node = builder.node_count;
    graph.node = builder.nodes;
    graph.n_initializer = builder.initializer_count;
    graph.initializer = builder.initializers;
    graph.n_input = 1;
    graph.input = inputs;
    graph.n_output = 1;
    graph.output = outputs;
    opset.has_version = true;
    opset.version = options.opset;
    proto.has_ir_version = true;
    proto.ir_version = ir_version_for(options.opset);
    proto.n_opset_import = 1;
    proto.opset_import = opsets;
    proto.graph = &graph;
    status = write_model(&proto, path);
out:
    arena_free(&builder.arena);
    return status;
}

#endif
