/* onnx_build.c - protobuf messages from an arena. */
#include "export/onnx_build.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Zeroed memory from the arena, or NULL and builder->failed. */
static void *take(struct onnx_builder *builder, size_t count, size_t size)
{
    void *memory = builder->failed ? NULL : arena_allocate_array(&builder->arena, count, size);
    if (memory == NULL)
        builder->failed = true;
    return memory;
}

/* Makes room for one more pointer by doubling; returns the array, or NULL and builder->failed. */
static void *grow(struct onnx_builder *builder, void *array, size_t count, size_t *capacity)
{
    if (builder->failed || count < *capacity)
        return builder->failed ? NULL : array;
    size_t larger_capacity = *capacity == 0 ? 256 : 2 * *capacity;
    void *larger = take(builder, larger_capacity, sizeof(void *));
    if (larger != NULL && count > 0)
        memcpy(larger, array, count * sizeof(void *));
    *capacity = larger_capacity;
    return larger;
}

char *onnx_text(struct onnx_builder *builder, const char *format, ...)
{
    static char nothing[1];
    char text[512]; /* names of nodes and values: none is longer than about 150 */
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    char *copy = builder->failed ? NULL : arena_copy_string(&builder->arena, text);
    if (copy == NULL) {
        builder->failed = true;
        return nothing;
    }
    return copy;
}

/* ---- nodes and attributes ---------------------------------------------------------------------------------------------- */

Onnx__NodeProto *onnx_node(struct onnx_builder *builder, const char *op_type, const char *name, const char *const *inputs, int input_count,
                           const char *output)
{
    Onnx__NodeProto *node = take(builder, 1, sizeof(*node));
    char **input_names = take(builder, (size_t)input_count, sizeof(*input_names));
    char **output_names = take(builder, 1, sizeof(*output_names));
    Onnx__AttributeProto **attributes = take(builder, ONNX_MAX_ATTRIBUTES, sizeof(*attributes));
    Onnx__NodeProto **nodes = grow(builder, builder->nodes, builder->node_count, &builder->node_capacity);

    if (builder->failed)
        return NULL;
    for (int i = 0; i < input_count; i++)
        input_names[i] = onnx_text(builder, "%s", inputs[i]);
    output_names[0] = onnx_text(builder, "%s", output);
    onnx__node_proto__init(node);
    node->op_type = onnx_text(builder, "%s", op_type);
    node->name = onnx_text(builder, "%s", name);
    node->n_input = (size_t)input_count;
    node->input = input_names;
    node->n_output = 1;
    node->output = output_names;
    node->attribute = attributes;
    builder->nodes = nodes;
    nodes[builder->node_count++] = node;
    return node;
}

/* A new attribute of the node, or NULL after a failure. */
static Onnx__AttributeProto *add_attribute(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *attribute = take(builder, 1, sizeof(*attribute));

    if (builder->failed || node->n_attribute == ONNX_MAX_ATTRIBUTES) {
        builder->failed = true;
        return NULL;
    }
    onnx__attribute_proto__init(attribute);
    attribute->name = onnx_text(builder, "%s", name);
    attribute->has_type = true;
    attribute->type = type;
    node->attribute[node->n_attribute++] = attribute;
    return attribute;
}

void onnx_attribute_int(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, int64_t number)
{
    Onnx__AttributeProto *attribute = add_attribute(builder, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (attribute == NULL)
        return;
    attribute->has_i = true;
    attribute->i = number;
}

void onnx_attribute_float(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, float number)
{
    Onnx__AttributeProto *attribute = add_attribute(builder, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (attribute == NULL)
        return;
    attribute->has_f = true;
    attribute->f = number;
}

void onnx_attribute_text(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, const char *text)
{
    Onnx__AttributeProto *attribute = add_attribute(builder, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    if (attribute == NULL)
        return;
    attribute->has_s = true;
    attribute->s.len = strlen(text);
    attribute->s.data = (uint8_t *)onnx_text(builder, "%s", text);
}

void onnx_attribute_ints(struct onnx_builder *builder, Onnx__NodeProto *node, const char *name, const int64_t *numbers, int count)
{
    Onnx__AttributeProto *attribute = add_attribute(builder, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *copy = take(builder, (size_t)count, sizeof(*copy));
    if (builder->failed)
        return;
    memcpy(copy, numbers, (size_t)count * sizeof(*copy));
    attribute->n_ints = (size_t)count;
    attribute->ints = copy;
}

/* ---- constants --------------------------------------------------------------------------------------------------------- */

/* raw_data is little-endian by definition, as is every machine that this library supports. */
static const char *add_tensor(struct onnx_builder *builder, const char *name, Onnx__TensorProto__DataType type, const void *data, size_t bytes,
                              const int64_t *shape, int rank)
{
    Onnx__TensorProto *tensor = take(builder, 1, sizeof(*tensor));
    int64_t *dims = take(builder, rank > 0 ? (size_t)rank : 1, sizeof(*dims));
    Onnx__TensorProto **initializers = grow(builder, builder->initializers, builder->initializer_count, &builder->initializer_capacity);

    if (builder->failed)
        return name;
    for (int i = 0; i < rank; i++)
        dims[i] = shape[i];
    onnx__tensor_proto__init(tensor);
    tensor->name = onnx_text(builder, "%s", name);
    tensor->has_data_type = true;
    tensor->data_type = (int32_t)type;
    tensor->n_dims = (size_t)rank;
    tensor->dims = dims;
    tensor->has_raw_data = true;
    tensor->raw_data.len = bytes;
    tensor->raw_data.data = (uint8_t *)(uintptr_t)data; /* packing only reads it */
    builder->initializers = initializers;
    initializers[builder->initializer_count++] = tensor;
    return name;
}

const char *onnx_floats(struct onnx_builder *builder, const char *name, const float *values, const int64_t *shape, int rank)
{
    size_t elements = 1;
    for (int i = 0; i < rank; i++)
        elements *= (size_t)shape[i];
    return add_tensor(builder, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, values, elements * sizeof(float), shape, rank);
}

const char *onnx_int64s(struct onnx_builder *builder, const char *name, const int64_t *values, int count)
{
    int64_t *copy = take(builder, (size_t)count, sizeof(*copy)), shape[1] = {count};
    if (copy != NULL)
        memcpy(copy, values, (size_t)count * sizeof(*copy));
    return add_tensor(builder, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, copy, (size_t)count * sizeof(*copy), shape, 1);
}

const char *onnx_scalar(struct onnx_builder *builder, const char *name, float number)
{
    float *copy = take(builder, 1, sizeof(*copy));
    if (copy != NULL)
        *copy = number;
    return add_tensor(builder, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, copy, sizeof(*copy), NULL, 0);
}

const char *onnx_sides(struct onnx_builder *builder, const char *map, int64_t begin, int64_t end, const char *name)
{
    Onnx__NodeProto *node = onnx_node(builder, "Shape", name, &map, 1, name);
    onnx_attribute_int(builder, node, "start", begin);
    onnx_attribute_int(builder, node, "end", end);
    return name;
}

/* ---- inputs and outputs ------------------------------------------------------------------------------------------------ */

Onnx__ValueInfoProto *onnx_value_info(struct onnx_builder *builder, const char *name, Onnx__TensorProto__DataType type,
                                      const struct onnx_side *sides, int rank)
{
    Onnx__ValueInfoProto *info = take(builder, 1, sizeof(*info));
    Onnx__TypeProto *type_proto = take(builder, 1, sizeof(*type_proto));
    Onnx__TypeProto__Tensor *tensor = take(builder, 1, sizeof(*tensor));
    Onnx__TensorShapeProto *shape = take(builder, 1, sizeof(*shape));
    Onnx__TensorShapeProto__Dimension **dims = take(builder, (size_t)rank, sizeof(*dims));

    if (builder->failed)
        return NULL;
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type_proto);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    for (int i = 0; i < rank; i++) {
        dims[i] = take(builder, 1, sizeof(*dims[i]));
        if (builder->failed)
            return NULL;
        onnx__tensor_shape_proto__dimension__init(dims[i]);
        if (sides[i].name != NULL) {
            dims[i]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            dims[i]->dim_param = onnx_text(builder, "%s", sides[i].name);
        } else {
            dims[i]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            dims[i]->dim_value = sides[i].size;
        }
    }
    shape->n_dim = (size_t)rank;
    shape->dim = dims;
    tensor->has_elem_type = true;
    tensor->elem_type = (int32_t)type;
    tensor->shape = shape;
    type_proto->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type_proto->tensor_type = tensor;
    info->name = onnx_text(builder, "%s", name);
    info->type = type_proto;
    return info;
}
