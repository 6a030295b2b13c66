/* test_safetensors.c - what a safetensors file may be, what it may not be, and that writing and reading agree. */
#include "base/file.h"
#include "weights/safetensors.h"

#include "weights_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file with this header and data, opened from memory that is exactly as large (so that a sanitizer sees every overrun). */
static dla_status open_parts(const char *header, uint64_t declared_header_bytes, const void *data, size_t data_bytes,
                             struct tensor_file **file, uint8_t **bytes)
{
    size_t header_bytes = strlen(header), size = 8 + header_bytes + data_bytes;
    *bytes = malloc(size);
    for (int i = 0; i < 8; i++)
        (*bytes)[i] = (uint8_t)(declared_header_bytes >> (8 * i));
    memcpy(*bytes + 8, header, header_bytes);
    if (data_bytes > 0)
        memcpy(*bytes + 8 + header_bytes, data, data_bytes);
    return tensor_file_open_memory(*bytes, size, "test", file);
}

static void expect_refused(const char *header, uint64_t declared, size_t data_bytes, dla_status wanted, const char *message_part)
{
    static const uint8_t data[64];
    struct tensor_file *file = NULL;
    uint8_t *bytes;

    assert_int_equal(open_parts(header, declared, data, data_bytes, &file, &bytes), wanted);
    assert_null(file);
    assert_message_contains(message_part);
    free(bytes);
}

static void refuse(const char *header, size_t data_bytes, dla_status wanted, const char *message_part)
{
    expect_refused(header, strlen(header), data_bytes, wanted, message_part);
}

static void a_sound_file_is_read(void **state)
{
    static const char header[] = "{\"__metadata__\":{\"architecture\":\"dla34\",\"note\":\"\"},"
                                 "\"b\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[8,12]},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                 "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[12,12]},"
                                 "\"n\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[12,13]}}   ";
    static const uint8_t data[13] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0x00, 0x3c, 0x00, 0xb8, 7};
    struct tensor_file *file = NULL;
    uint8_t *bytes;
    float values[2];

    (void)state;
    assert_int_equal(open_parts(header, strlen(header), data, sizeof(data), &file, &bytes), DLA_OK);
    assert_string_equal(file->format, "safetensors");
    assert_int_equal(file->tensor_count, 4);
    assert_string_equal(file->tensors[0].name, "b");
    assert_string_equal(tensor_file_metadata(file, "architecture"), "dla34");
    assert_string_equal(tensor_file_metadata(file, "note"), "");
    assert_null(tensor_file_metadata(file, "absent"));
    tensor_to_float(tensor_file_find(file, "a"), values);
    assert_true(values[0] == 1.0f && values[1] == -2.0f);
    tensor_to_float(tensor_file_find(file, "b"), values);
    assert_true(values[0] == 1.0f && values[1] == -0.5f);
    tensor_to_float(tensor_file_find(file, "n"), values);
    assert_true(values[0] == 7.0f);
    assert_int_equal(tensor_file_find(file, "empty")->shape[1], 4);
    assert_null(tensor_file_find(file, "absent"));
    tensor_file_close(file);
    free(bytes);
}

static void damaged_headers_are_refused(void **state)
{
    char *deep = malloc(200002);

    (void)state;
    expect_refused("{}", 4294967296u, 0, DLA_ERROR_LIMIT, "header of 4294967296 bytes");
    expect_refused("{}", UINT64_MAX >> 8, 0, DLA_ERROR_LIMIT, "header of");
    expect_refused("{}", 3, 0, DLA_ERROR_FORMAT, "truncated");
    refuse("{\"a\":", 0, DLA_ERROR_FORMAT, "header, byte");
    refuse("{} x", 0, DLA_ERROR_FORMAT, "header, byte");
    refuse("{\"a\":1}", 0, DLA_ERROR_FORMAT, "'a' is not a JSON object");
    refuse("{\"__metadata__\":[]}", 0, DLA_ERROR_FORMAT, "__metadata__");
    refuse("{\"__metadata__\":{\"k\":1}}", 0, DLA_ERROR_FORMAT, "metadata 'k'");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
           1, DLA_ERROR_FORMAT, "duplicate");
    memset(deep, '[', 200000);
    memcpy(deep, "{\"a\":", 5);
    deep[200000] = '\0';
    refuse(deep, 0, DLA_ERROR_FORMAT, "depth");
    free(deep);
}

static void damaged_tensors_are_refused(void **state)
{
    (void)state;
    refuse("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, DLA_ERROR_FORMAT, "no dtype");
    refuse("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, DLA_ERROR_UNSUPPORTED, "F8_E4M3");
    refuse("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, DLA_ERROR_FORMAT, "no shape");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, DLA_ERROR_FORMAT, "whole number");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, DLA_ERROR_FORMAT, "whole number");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, DLA_ERROR_UNSUPPORTED, "9 dimensions");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, DLA_ERROR_FORMAT, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, DLA_ERROR_FORMAT, "lies at 4 to 0");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, DLA_ERROR_FORMAT, "lies at -4");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, DLA_ERROR_FORMAT, "the file has 4 bytes");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, DLA_ERROR_FORMAT, "cannot have 4 bytes");
    /* 2^62 elements of 4 bytes are 2^64, which wraps to 0; and a product that wraps by itself */
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, DLA_ERROR_FORMAT,
           "cannot have 0 bytes");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, DLA_ERROR_FORMAT,
           "cannot have 0 bytes");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]}}", 0, DLA_ERROR_FORMAT, "header, byte");
}

static void overlaps_and_holes_are_refused(void **state)
{
    (void)state;
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
           7, DLA_ERROR_FORMAT, "'a' and 'b' overlap");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}",
           9, DLA_ERROR_FORMAT, "1 unused bytes before tensor 'b'");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 6, DLA_ERROR_FORMAT, "2 unused bytes after");
}

static void look_alikes_are_named(void **state)
{
    static const struct {
        const char *bytes, *message_part;
    } cases[] = {
        {"", "empty"},
        {"Dear Sir or Madam, I", "starts with \"Dear Sir or Mada\""},
        {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
        {"<!DOCTYPE html>", "web page"},
        {"\x1f\x8b\x08", "gzip"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tensor_file *file = NULL;
        assert_int_equal(tensor_file_open_memory((const uint8_t *)cases[i].bytes, strlen(cases[i].bytes), "test", &file), DLA_ERROR_FORMAT);
        assert_message_contains("test: ");
        assert_message_contains(cases[i].message_part);
    }
}

/* Values as stored: exact for float32, rounded for the halves; transposed views come out row-major; integers stay. */
static void writing_and_reading_agree(void **state)
{
    static const float values[6] = {1.0f, -2.5f, 0.333333333f, 65504.0f, 1e-7f, 0.0f};
    static const int64_t steps = 123456789012;
    const struct tensor_view tensors[] = {
        {.name = "steps", .dtype = DTYPE_I64, .rank = 0, .data = &steps},
        {.name = "plain", .dtype = DTYPE_F32, .rank = 2, .shape = {2, 3}, .strides = {3, 1}, .data = values},
        {.name = "turned", .dtype = DTYPE_F32, .rank = 2, .shape = {3, 2}, .strides = {1, 3}, .data = values},
        {.name = "vector", .dtype = DTYPE_F32, .rank = 1, .shape = {6}, .strides = {1}, .data = values},
    };
    const struct metadata_entry metadata[] = {{"architecture", "dla34"}, {"labels", "[\"a \\\"b\\\"\"]"}};
    static const enum dtype stored[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    char path[512];

    (void)state;
    temporary_path(path, sizeof(path), "weights.safetensors");
    for (size_t d = 0; d < 3; d++) {
        struct tensor_file *file = NULL;
        float plain[6], turned[6];

        assert_ok(safetensors_write(path, tensors, 4, metadata, 2, stored[d]));
        assert_ok(tensor_file_open(path, &file));
        assert_int_equal(file->tensor_count, 4);
        assert_string_equal(tensor_file_metadata(file, "labels"), metadata[1].text);
        const struct tensor_view *read = tensor_file_find(file, "plain");
        assert_int_equal(read->dtype, stored[d]);
        assert_int_equal((uintptr_t)read->data % dtype_size(read->dtype), 0);
        tensor_to_float(read, plain);
        tensor_to_float(tensor_file_find(file, "turned"), turned);
        for (int i = 0; i < 6; i++) {
            float wanted = stored[d] == DTYPE_F32   ? values[i]
                           : stored[d] == DTYPE_F16 ? half_to_float(float_to_half(values[i]))
                                                    : bfloat16_to_float(float_to_bfloat16(values[i]));
            assert_true(plain[i] == wanted);
            assert_true(turned[i % 3 * 2 + i / 3] == wanted);
        }
        const struct tensor_view *vector = tensor_file_find(file, "vector");
        assert_int_equal(vector->dtype, DTYPE_F32);
        assert_memory_equal(vector->data, values, sizeof(values));
        int64_t read_steps;
        memcpy(&read_steps, tensor_file_find(file, "steps")->data, sizeof(read_steps));
        assert_true(read_steps == steps);
        tensor_file_close(file);
    }
    unlink(path);
}

static void overflowing_half_is_refused_and_leaves_nothing(void **state)
{
    static const float values[2] = {1.0f, 70000.0f};
    const struct tensor_view tensor = {.name = "big", .dtype = DTYPE_F32, .rank = 2, .shape = {1, 2}, .strides = {2, 1}, .data = values};
    char path[512];

    (void)state;
    temporary_path(path, sizeof(path), "half.safetensors");
    assert_int_equal(safetensors_write(path, &tensor, 1, NULL, 0, DTYPE_F16), DLA_ERROR_UNSUPPORTED);
    assert_message_contains("'big' holds 70000");
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(safetensors_write(path, &tensor, 1, NULL, 0, DTYPE_BF16));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_file_is_read),
        cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(damaged_tensors_are_refused),
        cmocka_unit_test(overlaps_and_holes_are_refused),
        cmocka_unit_test(look_alikes_are_named),
        cmocka_unit_test(writing_and_reading_agree),
        cmocka_unit_test(overflowing_half_is_refused_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
