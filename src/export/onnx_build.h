/* onnx_build.h - putting an ONNX model together out of protobuf messages.
 *
 * All messages live in one arena. After a memory failure every function returns something harmless and does nothing, and
 * `failed` tells at the end, so that a lowering need not check each of some hundred calls.
 */
#ifndef DLA_EXPORT_ONNX_BUILD_H
#define DLA_EXPORT_ONNX_BUILD_H

#include "base/arena.h"

#include <onnx.pb-c.h>

#include <stdbool.h>

struct onnx_builder {
    struct arena arena;
    Onnx__NodeProto **nodes;
    size_t node_count, node_capacity;
    Onnx__TensorProto **initializers;
    size_t initializer_count, initializer_capacity;
    bool failed;
};

/* printf into the arena; "" after a memory failure. */
__attribute__((format(printf, 2, 3))) char *onnx_text(struct onnx_builder *builder, const char *format, ...);

/* Appends a node that computes the value `output` from `inputs`; texts are kept, not copied. */
Onnx__NodeProto *onnx_node(struct onnx_builder *builder, const char *op_type, const char *name, const char *const *inputs, int input_count,
                           const char *output);

/* At most ONNX_MAX_ATTRIBUTES a node. */
enum { ONNX_MAX_ATTRIBUTES = 6 };
void onnx_attribute_int(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, int64_t number);
void onnx_attribute_float(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, float number);
void onnx_attribute_text(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, const char *text);
void onnx_attribute_ints(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, const int64_t *numbers, int count);

/* Appends a constant. The floats are not copied and must outlive the builder; the whole numbers are. Both return `name`. */
const char *onnx_floats(struct onnx_builder *builder, const char *name, const float *values, const int64_t *shape, int rank);
const char *onnx_int64s(struct onnx_builder *builder, const char *name, const int64_t *values, int count);
const char *onnx_scalar(struct onnx_builder *builder, const char *name, float number);

/* Appends a node that gives sides begin .. end-1 of a map's shape; returns `name`, its value. */
const char *onnx_sides(struct onnx_builder *builder, const char *map, int64_t begin, int64_t end, const char *name);

/* A side of a graph's input or output: a name where it is free, a number where it is fixed. */
struct onnx_side {
    const char *name;
    int64_t size;
};

Onnx__ValueInfoProto *onnx_value_info(struct onnx_builder *builder, const char *name, Onnx__TensorProto__DataType type,
                                      const struct onnx_side *sides, int rank);

#endif
