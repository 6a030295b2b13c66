/* test_paddle.c - PaddlePaddle's weights: files that it wrote, and files that nobody should write. */
#include "weights/tensor_file.h"

#include "weights_check.h"

#define CORPUS SOURCE_ROOT "/fuzz/corpus/paddle/"

/* Element i is (i - 3) * 0.5, as tools/make_weights_fixtures.py makes them. */
static void expect_values(const struct tensor_file *file, const char *name, enum dtype dtype, int rank, int64_t rows, int64_t columns)
{
    const struct tensor_view *tensor = tensor_file_find(file, name);
    float values[16];

    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, dtype);
    assert_int_equal(tensor->rank, rank);
    assert_int_equal(tensor->shape[0], rows);
    assert_true(rank < 2 || tensor->shape[1] == columns);
    tensor_to_float(tensor, values);
    for (int64_t i = 0; i < rows * (rank < 2 ? 1 : columns); i++)
        assert_true(values[i] == (float)(i - 3) * 0.5f);
}

static void files_of_paddle_are_read(void **state)
{
    (void)state;
    for (int protocol = 2; protocol <= 4; protocol++) {
        struct tensor_file *file = NULL;
        char path[512];
        float value;

        snprintf(path, sizeof(path), CORPUS "protocol%d.pdparams", protocol);
        assert_ok(tensor_file_open(path, &file));
        assert_string_equal(file->format, "PaddlePaddle");
        assert_int_equal(file->tensor_count, 7);
        expect_values(file, "plain", DTYPE_F32, 2, 2, 3);
        expect_values(file, "bn.running_mean", DTYPE_F32, 1, 4, 0);
        expect_values(file, "bn.running_var", DTYPE_F32, 1, 4, 0);
        expect_values(file, "half", DTYPE_F16, 1, 4, 0);
        expect_values(file, "double", DTYPE_F64, 1, 4, 0);
        expect_values(file, "empty", DTYPE_F32, 2, 0, 4);
        tensor_to_float(tensor_file_find(file, "long"), &value);
        assert_true(value == 5.0f);
        /* from protocol 3 on the bytes are used where they lie */
        const uint8_t *data = tensor_file_find(file, "plain")->data;
        assert_int_equal(data >= file->mapping.bytes && data < file->mapping.bytes + file->mapping.size, protocol >= 3);
        tensor_file_close(file);
    }
}

static void sliced_and_turned_arrays_are_read(void **state)
{
    struct tensor_file *file = NULL;

    (void)state;
    assert_ok(tensor_file_open(CORPUS "sliced.pdparams", &file));
    assert_int_equal(file->tensor_count, 2);
    expect_values(file, "big", DTYPE_F32, 2, 2, 5);
    expect_values(file, "small", DTYPE_F32, 1, 3, 0);
    tensor_file_close(file);
    assert_ok(tensor_file_open(CORPUS "fortran.pdparams", &file));
    expect_values(file, "fortran", DTYPE_F32, 2, 2, 3);
    assert_false(tensor_is_contiguous(&file->tensors[0]));
    tensor_file_close(file);
}

static void every_truncation_is_refused(void **state)
{
    static const char *const names[] = {"protocol2", "protocol4", "sliced"};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct mapped_file whole;
        char path[512];

        snprintf(path, sizeof(path), CORPUS "%s.pdparams", names[k]);
        assert_ok(file_map(path, &whole));
        for (size_t size = 0; size < whole.size; size++) {
            struct tensor_file *file = NULL;
            uint8_t *part = malloc(size + 1);
            memcpy(part, whole.bytes, size);
            assert_int_not_equal(tensor_file_open_memory(part, size, "test", &file), DLA_OK);
            free(part);
        }
        file_unmap(&whole);
    }
}

/* ---- by hand: {"w": array} with this shape, dtype, order and data -------------------------------------------------------- */

#define RECONSTRUCT                                                                                                                        \
    "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85"                                                                       \
    "C\1b\x87R"
#define DTYPE(code, order) "cnumpy\ndtype\nX\2\0\0\0" code "\x89\x88\x87R(K\3X\1\0\0\0" order "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
#define ARRAY(shape, dtype, data) RECONSTRUCT "(K\1" shape dtype "\x89" data "tb"
#define FILE_OF(items) "\x80\x04}" items "."
#define NAMED(array) "X\1\0\0\0w" array "s"
#define EIGHT_BYTES "C\x08\0\0\x80\x3f\0\0\0\x40"

static void open_bytes(const char *bytes, size_t size, dla_status wanted, const char *message_part)
{
    struct tensor_file *file = NULL;
    uint8_t *copy = malloc(size);
    float values[2];

    memcpy(copy, bytes, size);
    assert_int_equal(tensor_file_open_memory(copy, size, "test", &file), wanted);
    if (wanted == DLA_OK) {
        tensor_to_float(tensor_file_find(file, "w"), values);
        assert_true(values[0] == 1.0f && values[1] == 2.0f);
    } else {
        assert_message_contains(message_part);
    }
    tensor_file_close(file);
    free(copy);
}

#define expect(bytes, status, message_part) open_bytes(bytes, sizeof(bytes) - 1, status, message_part)

static void arrays_must_agree_with_their_bytes(void **state)
{
    (void)state;
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), EIGHT_BYTES))), DLA_OK, "");
    /* later versions: the pair (its name, the array), plain or as a call of tuple */
    expect(FILE_OF(NAMED("X\1\0\0\0n" ARRAY("K\2\x85", DTYPE("f4", "<"), EIGHT_BYTES) "\x86")), DLA_OK, "");
    expect(FILE_OF(NAMED("cbuiltins\ntuple\nX\1\0\0\0n" ARRAY("K\2\x85", DTYPE("f4", "<"), EIGHT_BYTES) "\x86\x85R")), DLA_OK, "");
    expect(FILE_OF(NAMED(ARRAY("K\3\x85", DTYPE("f4", "<"), EIGHT_BYTES))), DLA_ERROR_FORMAT,
           "'w': the array's 8 bytes do not fit its shape");
    expect(FILE_OF(NAMED(ARRAY("K\1\x85", DTYPE("f4", "<"), EIGHT_BYTES))), DLA_ERROR_FORMAT, "do not fit");
    expect(FILE_OF(NAMED(ARRAY("\x8a\x08\2\0\0\0\0\0\0\x40\x85", DTYPE("f4", "<"), EIGHT_BYTES))), DLA_ERROR_FORMAT, "do not fit");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), "C\x09\0\0\x80\x3f\0\0\0\x40\0"))), DLA_ERROR_FORMAT, "do not fit");
    expect(FILE_OF(NAMED(ARRAY("J\xff\xff\xff\xff\x85", DTYPE("f4", "<"), EIGHT_BYTES))), DLA_ERROR_FORMAT, "no sound shape");
    expect(FILE_OF(NAMED(ARRAY("N", DTYPE("f4", "<"), EIGHT_BYTES))), DLA_ERROR_FORMAT, "no sound shape");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", ">"), EIGHT_BYTES))), DLA_ERROR_UNSUPPORTED, "not little-endian");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("c8", "<"), EIGHT_BYTES))), DLA_ERROR_UNSUPPORTED, "type that is not read");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", "N", EIGHT_BYTES))), DLA_ERROR_UNSUPPORTED, "not little-endian");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), "N"))), DLA_ERROR_FORMAT, "no bytes");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), "c_codecs\nencode\nX\2\0\0\0\xc4\x80X\6\0\0\0latin1\x86R"))), DLA_ERROR_FORMAT,
           "characters 0 to 255");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), "c_codecs\nencode\nX\1\0\0\0\xc3X\6\0\0\0latin1\x86R"))), DLA_ERROR_FORMAT,
           "characters 0 to 255");
}

static void hostile_files_are_refused(void **state)
{
    (void)state;
    expect("\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", DLA_ERROR_UNSUPPORTED, "posix.system");
    expect("\x80\x02"
           "cnumpy\nload\n.",
           DLA_ERROR_UNSUPPORTED, "numpy.load");
    expect("\x80\x04}.", DLA_ERROR_FORMAT, "no state dict");
    expect(FILE_OF(NAMED("K\1")), DLA_ERROR_FORMAT, "no state dict");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), EIGHT_BYTES))) "x", DLA_ERROR_FORMAT, "1 bytes after the pickle");
    expect(FILE_OF(NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), EIGHT_BYTES)) NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), EIGHT_BYTES))),
           DLA_ERROR_FORMAT, "two tensors are called 'w'");
}

#define SLICES(info) "X\x15\0\0\0UnpackBigParamInfor@@}X\3\0\0\0big" info "ss"
#define INFO(shape, names) "}X\x0b\0\0\0OriginShape" shape "sX\6\0\0\0slices](" names "es"

static void slices_must_fit_together(void **state)
{
#define W NAMED(ARRAY("K\2\x85", DTYPE("f4", "<"), EIGHT_BYTES))
    (void)state;
    expect(FILE_OF(W SLICES("N")), DLA_ERROR_FORMAT, "does not say how");
    expect(FILE_OF(W SLICES("}")), DLA_ERROR_FORMAT, "does not say how");
    expect(FILE_OF(W SLICES(INFO("K\2\x85", ""))), DLA_ERROR_FORMAT, "does not say how");
    expect(FILE_OF(W SLICES(INFO("K\2\x85", "X\1\0\0\0v"))), DLA_ERROR_FORMAT, "slice of the array is missing");
    expect(FILE_OF(W SLICES(INFO("K\2\x85", "K\1"))), DLA_ERROR_FORMAT, "slice of the array is missing");
    expect(FILE_OF(W SLICES(INFO("K\3\x85", "X\1\0\0\0w"))), DLA_ERROR_FORMAT, "2 of its 3 elements");
    expect(FILE_OF(W SLICES(INFO("K\2\x85", "X\1\0\0\0wX\1\0\0\0w"))), DLA_ERROR_FORMAT, "do not fit together");
    /* 2^40 elements claimed, 8 bytes there */
    expect(FILE_OF(W SLICES(INFO("\x8a\x06\0\0\0\0\0\1\x85", "X\1\0\0\0w"))), DLA_ERROR_FORMAT, "2 of its 1099511627776 elements");
    expect(FILE_OF(W "X\x15\0\0\0UnpackBigParamInfor@@K\1s"), DLA_ERROR_FORMAT, "lists 0 arrays");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_paddle_are_read),    cmocka_unit_test(sliced_and_turned_arrays_are_read),
        cmocka_unit_test(every_truncation_is_refused), cmocka_unit_test(arrays_must_agree_with_their_bytes),
        cmocka_unit_test(hostile_files_are_refused),   cmocka_unit_test(slices_must_fit_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
