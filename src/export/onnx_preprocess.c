/* onnx_preprocess.c - evaluation preprocessing as ONNX nodes: 8-bit RGB pixels in, the network's input out.
 *
 *     image (batch, height, width, 3) uint8
 *       -> channels first
 *       -> the shorter side resized to floor(size / crop_pct), the longer one in proportion, rounded down,
 *          with a filter whose support grows with the reduction (antialias), as Pillow does it
 *       -> the centre size x size, from pixel round((side - size) / 2), halves to even
 *       -> pixel * (1 / (255 std)) + (-mean / std)
 *
 * Sizes are computed in the graph from the image's own, so that one model takes photographs of any size; those of one batch
 * must have one size.
 */
#include "export/onnx.h"

#include <math.h>

static const char *one_to_one(struct onnx_builder *builder, const char *op_type, const char *in, const char *out)
{
    onnx_node(builder, op_type, out, &in, 1, out);
    return out;
}

static const char *two_to_one(struct onnx_builder *builder, const char *op_type, const char *a, const char *b, const char *out)
{
    const char *inputs[2] = {a, b};
    onnx_node(builder, op_type, out, inputs, 2, out);
    return out;
}

static const char *cast(struct onnx_builder *builder, const char *in, Onnx__TensorProto__DataType type, const char *out)
{
    Onnx__NodeProto *node = onnx_node(builder, "Cast", out, &in, 1, out);
    onnx_attribute_int(builder, node, "to", type);
    return out;
}

/* Height and width after resizing. */
static const char *resized_sides(struct onnx_builder *builder, const dla_preprocessing *preprocessing, const char *image)
{
    const int64_t shorter_side = (int64_t)floor((double)preprocessing->size / preprocessing->crop_pct);
    const char *sides = onnx_sides(builder, image, 1, 3, "preprocessing.sides");
    const char *shorter = one_to_one(builder, "ReduceMin", sides, "preprocessing.shorter_side");
    const char *wanted = onnx_int64s(builder, "preprocessing.wanted_shorter_side", &shorter_side, 1);
    const char *scaled = two_to_one(builder, "Mul", sides, wanted, "preprocessing.scaled_sides");
    return two_to_one(builder, "Div", scaled, shorter, "preprocessing.resized_sides");   /* rounds down */
}

static const char *resize(struct onnx_builder *builder, const dla_preprocessing *preprocessing, const char *map, const char *sides)
{
    /* All four sides, although opset 18 can name the two that change: ONNX Runtime 1.31 forgets that when it moves transpositions. */
    const char *others = onnx_sides(builder, map, 0, 2, "preprocessing.resize.batch_and_channels"), *out = "preprocessing.resize";
    const char *parts[2] = {others, sides}, *all_sides = "preprocessing.resize.sides";
    const char *inputs[4] = {map, "", "", all_sides};

    onnx_attribute_int(builder, onnx_node(builder, "Concat", all_sides, parts, 2, all_sides), "axis", 0);
    Onnx__NodeProto *node = onnx_node(builder, "Resize", out, inputs, 4, out);
    bool cubic = preprocessing->interpolation == DLA_INTERPOLATION_BICUBIC;
    onnx_attribute_int(builder, node, "antialias", 1);
    onnx_attribute_text(builder, node, "mode", cubic ? "cubic" : "linear");
    if (cubic)
        onnx_attribute_float(builder, node, "cubic_coeff_a", -0.5f);   /* Pillow's */
    return out;
}

static const char *centre_crop(struct onnx_builder *builder, const dla_preprocessing *preprocessing, const char *map, const char *sides)
{
    const int64_t size[1] = {preprocessing->size}, axes[2] = {2, 3};
    const char *wanted = onnx_int64s(builder, "preprocessing.crop.wanted", size, 1);
    const char *margin = two_to_one(builder, "Sub", sides, wanted, "preprocessing.crop.margin");
    const char *exact = cast(builder, margin, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, "preprocessing.crop.margin_exact");
    const char *half = onnx_scalar(builder, "preprocessing.crop.one_half", 0.5f);
    const char *halved = two_to_one(builder, "Mul", exact, half, "preprocessing.crop.half_margin");
    const char *rounded = one_to_one(builder, "Round", halved, "preprocessing.crop.rounded");   /* halves to even */
    const char *begin = cast(builder, rounded, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, "preprocessing.crop.begin");
    const char *end = two_to_one(builder, "Add", begin, wanted, "preprocessing.crop.end"), *out = "preprocessing.crop";
    const char *inputs[4] = {map, begin, end, onnx_int64s(builder, "preprocessing.crop.axes", axes, 2)};

    onnx_node(builder, "Slice", out, inputs, 4, out);
    return out;
}

void onnx_lower_preprocessing(struct onnx_builder *builder, const dla_preprocessing *preprocessing, bool with_resize, const char *image,
                              const char *output)
{
    const int64_t channels_first[4] = {0, 3, 1, 2}, per_channel[4] = {1, 3, 1, 1};
    const char *map = "preprocessing.channels_first";

    Onnx__NodeProto *transpose = onnx_node(builder, "Transpose", map, &image, 1, map);
    onnx_attribute_ints(builder, transpose, "perm", channels_first, 4);
    if (with_resize) {
        const char *sides = resized_sides(builder, preprocessing, image);
        map = resize(builder, preprocessing, map, sides);
        map = centre_crop(builder, preprocessing, map, sides);
    }
    map = cast(builder, map, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, "preprocessing.pixels");

    float *scale = arena_allocate_array(&builder->arena, 6, sizeof(*scale));
    if (scale == NULL) {
        builder->failed = true;
        return;
    }
    float *shift = scale + 3;
    for (int c = 0; c < 3; c++) {
        scale[c] = (float)(1.0 / (255.0 * (double)preprocessing->std[c]));
        shift[c] = (float)(-(double)preprocessing->mean[c] / (double)preprocessing->std[c]);
    }
    map = two_to_one(builder, "Mul", map, onnx_floats(builder, "preprocessing.scale", scale, per_channel, 4), "preprocessing.scaled");
    two_to_one(builder, "Add", map, onnx_floats(builder, "preprocessing.shift", shift, per_channel, 4), output);
}
