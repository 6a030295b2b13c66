/* tensor.c - shapes, and conversion of any element type to float32. */
#include "base/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size; /* bytes of one element */
} dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {"float32", 4}, [DTYPE_F16] = {"float16", 2}, [DTYPE_BF16] = {"bfloat16", 2}, [DTYPE_F64] = {"float64", 8},
    [DTYPE_I64] = {"int64", 8},   [DTYPE_I32] = {"int32", 4},   [DTYPE_I16] = {"int16", 2},     [DTYPE_I8] = {"int8", 1},
    [DTYPE_U8] = {"uint8", 1},    [DTYPE_BOOL] = {"bool", 1},
};

size_t dtype_size(enum dtype dtype)
{
    return dtypes[dtype].size;
}

const char *dtype_name(enum dtype dtype)
{
    return dtypes[dtype].name;
}

bool shape_elements(const int64_t *shape, int rank, int64_t *elements)
{
    int64_t product = 1;
    bool empty = false;

    for (int axis = 0; axis < rank; axis++) {
        if (shape[axis] < 0)
            return false;
        if (shape[axis] == 0) {
            empty = true; /* the others must still be sound: (0, 2^62, 2^62) would overflow for one who skips the 0 */
            continue;
        }
        if (__builtin_mul_overflow(product, shape[axis], &product))
            return false;
    }
    *elements = empty ? 0 : product;
    return true;
}

bool tensor_is_contiguous(const struct tensor_view *tensor)
{
    int64_t expected = 1;

    for (int axis = 0; axis < tensor->rank; axis++)
        if (tensor->shape[axis] == 0)
            return true; /* no element, no order */
    for (int axis = tensor->rank - 1; axis >= 0; axis--) {
        if (tensor->shape[axis] != 1 && tensor->strides[axis] != expected)
            return false;
        expected *= tensor->shape[axis];
    }
    return true;
}

/* ---- elements --------------------------------------------------------------------------------------------------------- */

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* binary16: sign 1, exponent 5 (bias 15), fraction 10. binary32: sign 1, exponent 8 (bias 127), fraction 23. Without branches,
 * so that a loop over it becomes vector code. */
float half_to_float(uint16_t half)
{
    enum { REBIAS = (127 - 15) << 23 };
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t magnitude = half & 0x7fffu;
    uint32_t normal = (magnitude << 13) + REBIAS;
    uint32_t infinite = normal + REBIAS;                                   /* exponent 31 to 255: infinity, NaN */
    uint32_t subnormal = float_bits((float)(int32_t)magnitude * 0x1p-24f); /* and zero; exact */
    uint32_t bits = magnitude < 0x0400u ? subnormal : magnitude < 0x7c00u ? normal : infinite;
    return float_from_bits(sign | bits);
}

uint16_t float_to_half(float value)
{
    uint32_t bits = float_bits(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;

    if (magnitude > 0x7f800000u) /* NaN: made quiet, the upper payload kept */
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* from 65520, halfway past the largest, to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x33000001u) /* up to 2^-25, half the smallest: ties go to even, zero */
        return sign;

    uint32_t shift = 13; /* fraction bits that binary16 has no room for */
    uint32_t scaled = magnitude - ((127u - 15u) << 23);
    if (magnitude < 0x38800000u) { /* below 2^-14: subnormal, counted in steps of 2^-24 */
        shift = 126 - (magnitude >> 23);
        scaled = (magnitude & 0x7fffffu) | 0x800000u;
    }
    uint32_t kept = scaled >> shift;
    uint32_t rest = scaled & ((1u << shift) - 1);
    uint32_t middle = 1u << (shift - 1);
    if (rest > middle || (rest == middle && (kept & 1u) != 0))
        kept++; /* may carry into the exponent, which is then right */
    return (uint16_t)(sign | kept);
}

float bfloat16_to_float(uint16_t value)
{
    return float_from_bits((uint32_t)value << 16);
}

uint16_t float_to_bfloat16(float value)
{
    uint32_t bits = float_bits(value);

    if ((bits & 0x7fffffffu) > 0x7f800000u) /* NaN: rounding could carry it to infinity */
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* The element at `address`, which need not be aligned. */
static float element_to_float(const unsigned char *address, enum dtype dtype)
{
    union {
        float f32;
        double f64;
        uint16_t u16;
        int64_t i64;
        int32_t i32;
        int16_t i16;
        int8_t i8;
        uint8_t u8;
    } element;

    memcpy(&element, address, dtypes[dtype].size);
    switch (dtype) {
    case DTYPE_F32:
        return element.f32;
    case DTYPE_F16:
        return half_to_float(element.u16);
    case DTYPE_BF16:
        return bfloat16_to_float(element.u16);
    case DTYPE_F64:
        return (float)element.f64;
    case DTYPE_I64:
        return (float)element.i64;
    case DTYPE_I32:
        return (float)element.i32;
    case DTYPE_I16:
        return (float)element.i16;
    case DTYPE_I8:
        return (float)element.i8;
    case DTYPE_U8:
        return (float)element.u8;
    case DTYPE_BOOL:
        return element.u8 != 0 ? 1.0f : 0.0f;
    case DTYPE_COUNT:
        break;
    }
    return 0.0f;
}

void tensor_to_float(const struct tensor_view *tensor, float *out)
{
    const unsigned char *data = tensor->data;
    size_t size = dtypes[tensor->dtype].size;
    int64_t elements = 0;

    if (!shape_elements(tensor->shape, tensor->rank, &elements) || elements == 0)
        return;
    if (tensor_is_contiguous(tensor)) {
        if (tensor->dtype == DTYPE_F32) {
            memcpy(out, data, (size_t)elements * sizeof(float));
            return;
        }
        if (tensor->dtype == DTYPE_F16) { /* half a network's weights, read at every start */
            for (int64_t i = 0; i < elements; i++) {
                uint16_t half;
                memcpy(&half, data + (size_t)i * sizeof(half), sizeof(half));
                out[i] = half_to_float(half);
            }
            return;
        }
        for (int64_t i = 0; i < elements; i++)
            out[i] = element_to_float(data + (size_t)i * size, tensor->dtype);
        return;
    }
    /* An odometer over the indices, the last axis fastest; `offset` follows it in elements. */
    int64_t index[TENSOR_MAX_RANK] = {0};
    int64_t offset = 0;
    for (int64_t i = 0; i < elements; i++) {
        out[i] = element_to_float(data + offset * (int64_t)size, tensor->dtype);
        for (int axis = tensor->rank - 1; axis >= 0; axis--) {
            offset += tensor->strides[axis];
            if (++index[axis] < tensor->shape[axis])
                break;
            offset -= tensor->strides[axis] * tensor->shape[axis];
            index[axis] = 0;
        }
    }
}

char *shape_to_text(const int64_t *shape, int rank, char *text, size_t size)
{
    size_t used = 0;

    if (size == 0)
        return text;
    text[0] = '\0';
    for (int axis = 0; axis < rank && used < size; axis++) {
        int length = snprintf(text + used, size - used, "%s%lld", axis == 0 ? "(" : ", ", (long long)shape[axis]);
        used += length > 0 ? (size_t)length : 0;
    }
    if (used < size)
        snprintf(text + used, size - used, "%s", rank == 0 ? "()" : ")");
    return text;
}
