/* Element types, shapes and conversion to float32. */
#include "base/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The value of a finite 16-bit float with `fraction_bits`, as its definition says. Exact in double. */
static double value_by_definition(unsigned bits, int fraction_bits, int bias)
{
    int exponent = (int)((bits & 0x7fffu) >> fraction_bits);
    double fraction = (double)(bits & ((1u << fraction_bits) - 1)) / (double)(1u << fraction_bits);
    double magnitude = exponent == 0 ? ldexp(fraction, 1 - bias) : ldexp(1.0 + fraction, exponent - bias);
    return bits & 0x8000u ? -magnitude : magnitude;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void assert_same_float(float found, float expected)
{
    assert_memory_equal(&found, &expected, sizeof(found));
}

static void every_half_widens_exactly(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 0x10000u; bits++) {
        float wide = half_to_float((uint16_t)bits);
        if ((bits & 0x7c00u) != 0x7c00u)
            assert_same_float(wide, (float)value_by_definition(bits, 10, 15));
        else if ((bits & 0x3ffu) == 0)
            assert_same_float(wide, bits & 0x8000u ? -INFINITY : INFINITY);
        else
            assert_true(isnan(wide));
    }
}

static void every_half_survives_the_way_back(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 0x10000u; bits++) {
        uint16_t back = float_to_half(half_to_float((uint16_t)bits));
        bool is_nan = (bits & 0x7fffu) > 0x7c00u;
        assert_int_equal(back, is_nan ? bits | 0x200u : bits);
    }
}

/* Rounding can only go wrong around the middle between two neighbours: that, and the floats next to it, for all of them. */
static void every_middle_between_halves_rounds_to_even(void **state)
{
    (void)state;
    for (unsigned low = 0; low < 0x7c00u; low++) {
        unsigned high = low + 1;
        double high_value = high == 0x7c00u ? 65536.0 : value_by_definition(high, 10, 15);
        float middle = (float)((value_by_definition(low, 10, 15) + high_value) / 2.0);
        unsigned even = low % 2 == 0 ? low : high;
        assert_int_equal(float_to_half(middle), even);
        assert_int_equal(float_to_half(nextafterf(middle, 0.0f)), low);
        assert_int_equal(float_to_half(nextafterf(middle, INFINITY)), high);
        assert_int_equal(float_to_half(-middle), even | 0x8000u);
        assert_int_equal(float_to_half(-nextafterf(middle, 0.0f)), low | 0x8000u);
        assert_int_equal(float_to_half(-nextafterf(middle, INFINITY)), high | 0x8000u);
    }
    assert_int_equal(float_to_half(1e30f), 0x7c00u);
    assert_int_equal(float_to_half(float_of_bits(1)), 0);
}

static void every_bfloat16_widens_exactly_and_survives(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 0x10000u; bits++) {
        float wide = bfloat16_to_float((uint16_t)bits);
        if ((bits & 0x7f80u) != 0x7f80u)
            assert_same_float(wide, (float)value_by_definition(bits, 7, 127));
        bool is_nan = (bits & 0x7fffu) > 0x7f80u;
        assert_int_equal(float_to_bfloat16(wide), is_nan ? bits | 0x40u : bits);
    }
}

static void every_middle_between_bfloat16_rounds_to_even(void **state)
{
    (void)state;
    for (unsigned low = 0; low < 0x7f80u; low++) {
        uint32_t middle = low << 16 | 0x8000u;
        unsigned even = low % 2 == 0 ? low : low + 1;
        assert_int_equal(float_to_bfloat16(float_of_bits(middle)), even);
        assert_int_equal(float_to_bfloat16(float_of_bits(middle - 1)), low);
        assert_int_equal(float_to_bfloat16(float_of_bits(middle + 1)), low + 1);
        assert_int_equal(float_to_bfloat16(float_of_bits(middle | 0x80000000u)), even | 0x8000u);
    }
    assert_int_equal(float_to_bfloat16(float_of_bits(0x7f800001u)), 0x7fc0u); /* a NaN whose payload is cut off */
}

static void shapes_that_overflow_are_refused(void **state)
{
    (void)state;
    int64_t elements = -1;

    assert_true(shape_elements(NULL, 0, &elements));
    assert_int_equal(elements, 1);
    assert_true(shape_elements((int64_t[]){64, 3, 7, 7}, 4, &elements));
    assert_int_equal(elements, 9408);
    assert_true(shape_elements((int64_t[]){INT64_MAX, 1, 1}, 3, &elements));
    assert_int_equal(elements, INT64_MAX);
    assert_true(shape_elements((int64_t[]){5, 0, 7}, 3, &elements));
    assert_int_equal(elements, 0);

    elements = 42;
    assert_false(shape_elements((int64_t[]){INT64_C(1) << 32, INT64_C(1) << 31}, 2, &elements));
    assert_false(shape_elements((int64_t[]){INT64_MAX, 2}, 2, &elements));
    assert_false(shape_elements((int64_t[]){3, -1}, 2, &elements));
    assert_false(shape_elements((int64_t[]){0, INT64_MAX, 2}, 3, &elements));
    assert_false(shape_elements((int64_t[]){0, -1}, 2, &elements));
    assert_int_equal(elements, 42);
}

static void contiguity_ignores_sides_of_one(void **state)
{
    (void)state;
    struct tensor_view dense = {.rank = 3, .shape = {2, 3, 4}, .strides = {12, 4, 1}};
    struct tensor_view turned = {.rank = 2, .shape = {3, 4}, .strides = {1, 3}};
    struct tensor_view single = {.rank = 3, .shape = {2, 1, 4}, .strides = {4, 999, 1}};
    struct tensor_view empty = {.rank = 2, .shape = {0, 4}, .strides = {7, 7}};
    struct tensor_view scalar = {.rank = 0};

    assert_true(tensor_is_contiguous(&dense));
    assert_false(tensor_is_contiguous(&turned));
    assert_true(tensor_is_contiguous(&single));
    assert_true(tensor_is_contiguous(&empty));
    assert_true(tensor_is_contiguous(&scalar));
}

/* Each element type at an odd address, three values. */
static void every_type_converts_unaligned(void **state)
{
    (void)state;
    static const float f32[] = {1.5f, -2.25f, 0.0f};
    static const double f64[] = {1.5, -2.25, 0.0};
    static const int64_t i64[] = {-3, 1LL << 40, 7};
    static const int32_t i32[] = {-3, 1 << 20, 7};
    static const int16_t i16[] = {-3, 30000, 7};
    static const int8_t i8[] = {-3, 100, 7};
    static const uint8_t u8[] = {253, 100, 7}, boolean[] = {0, 1, 2};
    static const uint16_t f16[] = {0x3e00, 0xc080, 0}, bf16[] = {0x3fc0, 0xc010, 0};
    static const struct {
        enum dtype dtype;
        const void *data;
        float expected[3];
    } cases[] = {
        {DTYPE_F32, f32, {1.5f, -2.25f, 0.0f}},    {DTYPE_F64, f64, {1.5f, -2.25f, 0.0f}},   {DTYPE_F16, f16, {1.5f, -2.25f, 0.0f}},
        {DTYPE_BF16, bf16, {1.5f, -2.25f, 0.0f}},  {DTYPE_I64, i64, {-3.0f, 0x1p40f, 7.0f}}, {DTYPE_I32, i32, {-3.0f, 0x1p20f, 7.0f}},
        {DTYPE_I16, i16, {-3.0f, 30000.0f, 7.0f}}, {DTYPE_I8, i8, {-3.0f, 100.0f, 7.0f}},    {DTYPE_U8, u8, {253.0f, 100.0f, 7.0f}},
        {DTYPE_BOOL, boolean, {0.0f, 1.0f, 1.0f}},
    };
    bool seen[DTYPE_COUNT] = {false};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char bytes[1 + 3 * sizeof(double)];
        float out[3];
        memcpy(bytes + 1, cases[i].data, 3 * dtype_size(cases[i].dtype));
        struct tensor_view tensor = {.dtype = cases[i].dtype, .rank = 1, .shape = {3}, .strides = {1}, .data = bytes + 1};
        tensor_to_float(&tensor, out);
        for (int k = 0; k < 3; k++)
            assert_same_float(out[k], cases[i].expected[k]);
        seen[cases[i].dtype] = true;
    }
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++)
        assert_true(seen[dtype]);
}

static void strided_views_convert_in_row_major_order(void **state)
{
    (void)state;
    float data[2 * 3 * 4], out[24];
    for (int i = 0; i < 24; i++)
        data[i] = (float)i;

    /* A (2, 3, 4) block seen as (4, 2, 3), and with its first axis backwards. */
    struct tensor_view turned = {.dtype = DTYPE_F32, .rank = 3, .shape = {4, 2, 3}, .strides = {1, 12, 4}, .data = data};
    tensor_to_float(&turned, out);
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 2; b++)
            for (int c = 0; c < 3; c++)
                assert_true(out[(a * 2 + b) * 3 + c] == data[b * 12 + c * 4 + a]);
    struct tensor_view backwards = {.dtype = DTYPE_F32, .rank = 2, .shape = {2, 12}, .strides = {-12, 1}, .data = data + 12};
    tensor_to_float(&backwards, out);
    assert_true(out[0] == 12.0f && out[11] == 23.0f && out[12] == 0.0f && out[23] == 11.0f);
    /* A broadcast: stride 0. */
    struct tensor_view repeated = {.dtype = DTYPE_F32, .rank = 2, .shape = {3, 2}, .strides = {0, 1}, .data = data};
    tensor_to_float(&repeated, out);
    assert_true(out[4] == 0.0f && out[5] == 1.0f);
}

static void shapes_print_as_tuples(void **state)
{
    (void)state;
    char text[64], small[8];

    assert_string_equal(shape_to_text((int64_t[]){64, 3, 7, 7}, 4, text, sizeof(text)), "(64, 3, 7, 7)");
    assert_string_equal(shape_to_text((int64_t[]){64}, 1, text, sizeof(text)), "(64)");
    assert_string_equal(shape_to_text(NULL, 0, text, sizeof(text)), "()");
    shape_to_text((int64_t[]){64, 3, 7, 7}, 4, small, sizeof(small));
    assert_string_equal(small, "(64, 3,");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_widens_exactly),
        cmocka_unit_test(every_half_survives_the_way_back),
        cmocka_unit_test(every_middle_between_halves_rounds_to_even),
        cmocka_unit_test(every_bfloat16_widens_exactly_and_survives),
        cmocka_unit_test(every_middle_between_bfloat16_rounds_to_even),
        cmocka_unit_test(shapes_that_overflow_are_refused),
        cmocka_unit_test(contiguity_ignores_sides_of_one),
        cmocka_unit_test(every_type_converts_unaligned),
        cmocka_unit_test(strided_views_convert_in_row_major_order),
        cmocka_unit_test(shapes_print_as_tuples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
