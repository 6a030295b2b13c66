/* test_npy.c - NumPy files: what is read, what is refused, and that what is written comes back. */
#include "base/file.h"
#include "weights/npy.h"

#include "weights_check.h"

#include <zip.h>

/* A .npy file of this version, header text and data, in memory of exactly its size. */
static uint8_t *make_npy(int version, const char *header, const void *data, size_t data_bytes, size_t *size)
{
    size_t header_bytes = strlen(header), start = version == 1 ? 10 : 12;
    *size = start + header_bytes + data_bytes;
    uint8_t *bytes = calloc(1, *size);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (uint8_t)version;
    bytes[8] = (uint8_t)header_bytes;
    bytes[9] = (uint8_t)(header_bytes >> 8);
    memcpy(bytes + start, header, header_bytes);
    if (data_bytes > 0)
        memcpy(bytes + start + header_bytes, data, data_bytes);
    return bytes;
}

static void refuse(const char *header, size_t data_bytes, dla_status wanted, const char *message_part)
{
    static const uint8_t data[64];
    struct tensor_view tensor;
    size_t size;
    uint8_t *bytes = make_npy(1, header, data, data_bytes, &size);

    assert_int_equal(npy_parse(bytes, size, &tensor), wanted);
    assert_message_contains(message_part);
    free(bytes);
}

static void every_version_and_spelling_is_read(void **state)
{
    static const char *const headers[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n",
        "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<f4\"}",
        "{'shape': (2, 3,), 'descr': '<f4', 'fortran_order': False}\n",
    };
    static const float values[6] = {1, 2, 3, 4, 5, 6};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (int version = 1; version <= 3; version++) {
            struct tensor_view tensor;
            float read[6];
            size_t size;
            uint8_t *bytes = make_npy(version, headers[i], values, sizeof(values), &size);

            assert_ok(npy_parse(bytes, size, &tensor));
            assert_int_equal(tensor.rank, 2);
            assert_int_equal(tensor.shape[0], 2);
            assert_int_equal(tensor.shape[1], 3);
            tensor_to_float(&tensor, read);
            assert_memory_equal(read, values, sizeof(values));
            free(bytes);
        }
}

static void fortran_order_is_turned(void **state)
{
    static const uint8_t columns[6] = {1, 4, 2, 5, 3, 6}; /* [[1 2 3] [4 5 6]], the first index fastest */
    struct tensor_view tensor;
    float read[6];
    size_t size;
    uint8_t *bytes = make_npy(1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n", columns, sizeof(columns), &size);

    (void)state;
    assert_ok(npy_parse(bytes, size, &tensor));
    tensor_to_float(&tensor, read);
    for (int i = 0; i < 6; i++)
        assert_true(read[i] == (float)(i + 1));
    free(bytes);
}

static void element_types_are_converted(void **state)
{
    static const int64_t longs[2] = {-3, 70000};
    static const double doubles[2] = {0.25, -1e10};
    struct tensor_view tensor;
    float read[2];
    size_t size;

    (void)state;
    uint8_t *bytes = make_npy(1, "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", longs, sizeof(longs), &size);
    assert_ok(npy_parse(bytes, size, &tensor));
    tensor_to_float(&tensor, read);
    assert_true(read[0] == -3.0f && read[1] == 70000.0f);
    free(bytes);
    bytes = make_npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", doubles, sizeof(doubles), &size);
    assert_ok(npy_parse(bytes, size, &tensor));
    tensor_to_float(&tensor, read);
    assert_true(read[0] == 0.25f && read[1] == -1e10f);
    free(bytes);
    bytes = make_npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", doubles, sizeof(double), &size);
    assert_ok(npy_parse(bytes, size, &tensor));
    assert_int_equal(tensor.rank, 0);
    free(bytes);
}

static void foreign_headers_are_refused(void **state)
{
    (void)state;
    refuse("", 4, DLA_ERROR_FORMAT, "not a dictionary");
    refuse("{'descr': '<f4', 'fortran_order': False}", 4, DLA_ERROR_FORMAT, "must hold descr");
    refuse("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", 4, DLA_ERROR_FORMAT, "repeated key 'descr'");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", 4, DLA_ERROR_FORMAT, "unexpected");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", 4, DLA_ERROR_FORMAT, "nothing else");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (1", 4, DLA_ERROR_FORMAT, "does not end");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, DLA_ERROR_FORMAT, "not a whole number");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': 1}", 4, DLA_ERROR_FORMAT, "not a tuple");
    refuse("{'descr': '<f4', 'fortran_order': Maybe, 'shape': ()}", 4, DLA_ERROR_FORMAT, "neither True nor False");
    refuse("{'descr': '|O', 'fortran_order': False, 'shape': ()}", 8, DLA_ERROR_UNSUPPORTED, "'|O'");
    refuse("{'descr': '>f4', 'fortran_order': False, 'shape': ()}", 4, DLA_ERROR_UNSUPPORTED, "'>f4'");
    refuse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", 4, DLA_ERROR_UNSUPPORTED, "plain type");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4, DLA_ERROR_UNSUPPORTED, "more than 8");
}

static void sizes_must_agree(void **state)
{
    struct tensor_view tensor;
    size_t size;
    uint8_t *bytes;

    (void)state;
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 4, DLA_ERROR_FORMAT, "does not fill");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 12, DLA_ERROR_FORMAT, "does not fill");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}", 0, DLA_ERROR_FORMAT, "does not fill");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 0, DLA_ERROR_FORMAT, "does not fill");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 0, DLA_ERROR_FORMAT, "not a whole number");

    bytes = make_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", NULL, 0, &size);
    for (size_t cut = 0; cut < size; cut++) { /* every truncation is refused, none overruns */
        uint8_t *part = malloc(cut > 0 ? cut : 1);
        memcpy(part, bytes, cut);
        assert_int_not_equal(npy_parse(part, cut, &tensor), DLA_OK);
        free(part);
    }
    bytes[6] = 4;
    assert_int_equal(npy_parse(bytes, size, &tensor), DLA_ERROR_UNSUPPORTED);
    free(bytes);
}

static void what_is_written_comes_back(void **state)
{
    float values[24];
    dla_array array = {.rank = 4, .shape = {1, 2, 3, 4}, .values = values}, read;
    char path[512];

    (void)state;
    for (int i = 0; i < 24; i++)
        values[i] = (float)i * 0.1f;
    temporary_path(path, sizeof(path), "array.npy");
    for (int rank = 4; rank >= 0; rank--) {
        array.rank = rank;
        assert_ok(dla_npy_write(path, &array));
        assert_ok(dla_npy_read(path, &read));
        assert_int_equal(read.rank, rank);
        int64_t elements = 1;
        for (int i = 0; i < rank; i++) {
            assert_int_equal(read.shape[i], array.shape[i]);
            elements *= array.shape[i];
        }
        assert_memory_equal(read.values, values, (size_t)elements * sizeof(float));
        dla_free(read.values);
    }
    unlink(path);
    assert_int_equal(dla_npy_read(path, &read), DLA_ERROR_NOT_FOUND);
    array.rank = 9;
    assert_int_equal(dla_npy_write(path, &array), DLA_ERROR_ARGUMENT);
    assert_int_equal(access(path, F_OK), -1);
}

/* The archive's entries are whole .npy files, stored. */
static void an_archive_holds_every_array(void **state)
{
    float first[3] = {1, 2, 3}, second[2] = {-1, 0.5f};
    const dla_array arrays[2] = {{.rank = 1, .shape = {3}, .values = first}, {.rank = 2, .shape = {2, 1}, .values = second}};
    const char *const names[2] = {"level2", "level5"}, *const twice[2] = {"a", "a"};
    const float *const values[2] = {first, second};
    char path[512];

    (void)state;
    temporary_path(path, sizeof(path), "arrays.npz");
    assert_ok(dla_npz_write(path, names, arrays, 2));
    zip_t *archive = zip_open(path, ZIP_RDONLY, NULL);
    assert_non_null(archive);
    assert_int_equal(zip_get_num_entries(archive, 0), 2);
    for (zip_uint64_t i = 0; i < 2; i++) {
        struct tensor_view tensor;
        zip_stat_t stat;
        char entry[32];
        float read[3];

        snprintf(entry, sizeof(entry), "%s.npy", names[i]);
        assert_int_equal(zip_stat(archive, entry, 0, &stat), 0);
        assert_int_equal(stat.comp_method, ZIP_CM_STORE);
        uint8_t *bytes = malloc(stat.size);
        zip_file_t *file = zip_fopen(archive, entry, 0);
        assert_int_equal(zip_fread(file, bytes, stat.size), (zip_int64_t)stat.size);
        assert_ok(npy_parse(bytes, stat.size, &tensor));
        assert_int_equal(tensor.rank, arrays[i].rank);
        tensor_to_float(&tensor, read);
        assert_memory_equal(read, values[i], (i == 0 ? 3 : 2) * sizeof(float));
        zip_fclose(file);
        free(bytes);
    }
    zip_discard(archive);
    unlink(path);

    assert_int_equal(dla_npz_write(path, names, arrays, 0), DLA_ERROR_ARGUMENT);
    assert_int_equal(dla_npz_write(path, twice, arrays, 2), DLA_ERROR_ARGUMENT);
    assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_and_spelling_is_read),
        cmocka_unit_test(fortran_order_is_turned),
        cmocka_unit_test(element_types_are_converted),
        cmocka_unit_test(foreign_headers_are_refused),
        cmocka_unit_test(sizes_must_agree),
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(an_archive_holds_every_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
