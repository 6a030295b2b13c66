/* test_torch_files.c - PyTorch checkpoints, both formats: files that PyTorch wrote, and files that nobody should write. */
#include "weights/tensor_file.h"

#include "weights_check.h"
#include "zip_making.h"

#define CORPUS SOURCE_ROOT "/fuzz/corpus/"

/* Values as tools/make_weights_fixtures.py makes them: element i is (i - 3) * 0.5. */
static void expect_values(const struct tensor_file *file, const char *prefix, const char *name, enum dtype dtype, int rank,
                          const int64_t *shape)
{
    char full_name[64];
    float values[64];
    int64_t elements;

    snprintf(full_name, sizeof(full_name), "%s%s", prefix, name);
    const struct tensor_view *tensor = tensor_file_find(file, full_name);
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, dtype);
    assert_int_equal(tensor->rank, rank);
    for (int i = 0; i < rank; i++)
        assert_int_equal(tensor->shape[i], shape[i]);
    assert_true(shape_elements(tensor->shape, rank, &elements));
    assert_in_range(elements, 0, 64);
    tensor_to_float(tensor, values);
    for (int64_t i = 0; i < elements; i++)
        assert_true(values[i] == (float)(i - 3) * 0.5f);
}

static void expect_fixture(const char *path, const char *prefix, const char *format)
{
    static const int64_t two_three[] = {2, 3}, four_sides[] = {2, 3, 2, 2}, three[] = {3}, four[] = {4}, none[] = {0, 4};
    struct tensor_file *file = NULL;
    char name[64];
    float values[6];

    assert_ok(tensor_file_open(path, &file));
    assert_string_equal(file->format, format);
    assert_int_equal(file->tensor_count, 12);
    expect_values(file, prefix, "plain", DTYPE_F32, 2, two_three);
    expect_values(file, prefix, "turned", DTYPE_F32, 2, two_three);
    expect_values(file, prefix, "channels_last", DTYPE_F32, 4, four_sides);
    expect_values(file, prefix, "first_of_shared", DTYPE_F32, 2, two_three);
    expect_values(file, prefix, "rows_of_shared", DTYPE_F32, 1, four);
    expect_values(file, prefix, "parameter", DTYPE_F32, 1, three);
    expect_values(file, prefix, "half", DTYPE_F16, 1, four);
    expect_values(file, prefix, "brain", DTYPE_BF16, 1, four);
    expect_values(file, prefix, "double", DTYPE_F64, 1, four);
    expect_values(file, prefix, "empty", DTYPE_F32, 2, none);
    snprintf(name, sizeof(name), "%slong", prefix);
    assert_int_equal(tensor_file_find(file, name)->dtype, DTYPE_I64);
    tensor_to_float(tensor_file_find(file, name), values);
    assert_true(values[0] == 5.0f);
    snprintf(name, sizeof(name), "%srepeated", prefix);
    assert_int_equal(tensor_file_find(file, name)->strides[0], 0);
    tensor_to_float(tensor_file_find(file, name), values);
    for (int i = 0; i < 6; i++)
        assert_true(values[i] == -1.5f);
    snprintf(name, sizeof(name), "%sturned", prefix);
    assert_false(tensor_is_contiguous(tensor_file_find(file, name)));
    tensor_file_close(file);
}

static void files_of_pytorch_are_read(void **state)
{
    (void)state;
    expect_fixture(CORPUS "torch_zip/views.pth", "", "PyTorch");
    expect_fixture(CORPUS "torch_zip/checkpoint.pth", "module.", "PyTorch");
    expect_fixture(CORPUS "torch_zip/compressed.pth", "", "PyTorch");
    expect_fixture(CORPUS "torch_legacy/views.pth", "", "PyTorch (before 1.6)");
    expect_fixture(CORPUS "torch_legacy/checkpoint.pth", "module.", "PyTorch (before 1.6)");
}

static void stored_tensors_are_not_copied(void **state)
{
    struct tensor_file *file = NULL;

    (void)state;
    assert_ok(tensor_file_open(CORPUS "torch_zip/views.pth", &file));
    for (int i = 0; i < file->tensor_count; i++) {
        const uint8_t *data = file->tensors[i].data;
        assert_true(data >= file->mapping.bytes && data < file->mapping.bytes + file->mapping.size);
    }
    tensor_file_close(file);
}

static void other_files_of_pytorch_are_named(void **state)
{
    struct tensor_file *file = NULL;

    (void)state;
    assert_int_equal(tensor_file_open(CORPUS "torch_zip/program.pth", &file), DLA_ERROR_UNSUPPORTED);
    assert_message_contains("TorchScript");
    assert_int_equal(tensor_file_open(CORPUS "torch_zip/empty.pth", &file), DLA_ERROR_FORMAT);
    assert_message_contains("no state dict");
    assert_int_equal(tensor_file_open(CORPUS "torch_legacy/empty.pth", &file), DLA_ERROR_FORMAT);
    assert_message_contains("no state dict");
}

static void every_truncation_is_refused(void **state)
{
    static const char *const paths[] = {CORPUS "torch_zip/views.pth", CORPUS "torch_zip/compressed.pth", CORPUS "torch_legacy/views.pth"};

    (void)state;
    for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
        struct mapped_file whole;
        assert_ok(file_map(paths[k], &whole));
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

/* ---- archives made by hand --------------------------------------------------------------------------------------------- */

/* A state dict of one tensor 'w' over the storage "0" of `elements` floats, at `offset`, of `size` and `stride` (tuples as opcodes). */
#define TENSOR(elements, offset, size, stride)                                                                                             \
    "\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"                        \
    "0X\x03\0\0\0cpuK" elements "tQK" offset size stride "\x89}tRs."

static void open_archive(const char *pickle, size_t pickle_size, const char *key, size_t storage_size, dla_status wanted,
                         const char *message_part)
{
    static const uint8_t storage[64];
    char data_name[64];
    struct zip_bytes zip;
    struct tensor_file *file = NULL;

    snprintf(data_name, sizeof(data_name), "x/data/%s", key);
    const struct zip_part parts[] = {
        {.name = "x/data.pkl", .bytes = pickle, .size = pickle_size},
        {.name = data_name, .bytes = storage, .size = storage_size},
    };
    make_zip(parts, 2, &zip);
    uint8_t *bytes = malloc(zip.size);
    memcpy(bytes, zip.bytes, zip.size);
    assert_int_equal(tensor_file_open_memory(bytes, zip.size, "test", &file), wanted);
    if (wanted != DLA_OK)
        assert_message_contains(message_part);
    tensor_file_close(file);
    free(bytes);
}

#define expect_archive(pickle, storage_size, status, message_part)                                                                         \
    open_archive(pickle, sizeof(pickle) - 1, "0", storage_size, status, message_part)

static void views_must_lie_inside_of_their_storage(void **state)
{
    (void)state;
    expect_archive(TENSOR("\x06", "\0", "K\2K\3\x86", "K\3K\1\x86"), 24, DLA_OK, "");
    expect_archive(TENSOR("\x06", "\0", "K\2K\3\x86", "K\1K\2\x86"), 24, DLA_OK, "");
    expect_archive(TENSOR("\x06", "\5", ")", ")"), 24, DLA_OK, "");
    expect_archive(TENSOR("\x06", "\6", "K\0\x85", "K\1\x85"), 24, DLA_OK, "");
    expect_archive(TENSOR("\x06", "\1", "K\2K\3\x86", "K\3K\1\x86"), 24, DLA_ERROR_FORMAT, "'w' reaches element 6 of a storage that has 6");
    expect_archive(TENSOR("\x06", "\6", ")", ")"), 24, DLA_ERROR_FORMAT, "reaches element 6");
    expect_archive(TENSOR("\x06", "\7", "K\0\x85", "K\1\x85"), 24, DLA_ERROR_FORMAT, "starts outside");
    expect_archive(TENSOR("\x06", "\0", "K\2K\3\x86", "K\4K\1\x86"), 24, DLA_ERROR_FORMAT, "reaches element 6");
    expect_archive(TENSOR("\x06", "\0", "K\2K\3\x86", "K\1\x85"), 24, DLA_ERROR_FORMAT, "no sound shape");
    expect_archive(TENSOR("\x06", "\0", "J\xff\xff\xff\xff\x85", "K\1\x85"), 24, DLA_ERROR_FORMAT, "no sound shape");
    expect_archive(TENSOR("\x06", "\0", "K\2\x85", "J\xff\xff\xff\xff\x85"), 24, DLA_ERROR_FORMAT, "no sound shape");
    expect_archive(TENSOR("\x06", "\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t"), 24, DLA_ERROR_FORMAT,
                   "at most 8");
    /* 2^62 elements, and strides whose reach overflows */
    expect_archive(TENSOR("\x06", "\0", "\x8a\x08\0\0\0\0\0\0\0\x40\x85", "K\4\x85"), 24, DLA_ERROR_FORMAT, "impossible strides");
    expect_archive(TENSOR("\x06", "\0", "\x8a\x05\0\0\0\0\x01\x8a\x05\0\0\0\0\x01\x86", "K\0K\0\x86"), 24, DLA_ERROR_FORMAT,
                   "impossible shape");
    /* one float seen four thousand million times */
    expect_archive(TENSOR("\x06", "\0", "\x8a\x05\0\0\0\0\x01\x85", "K\0\x85"), 24, DLA_ERROR_LIMIT, "repeats a storage");
}

static void storages_must_be_what_they_are_said_to_be(void **state)
{
    static const char sound[] = TENSOR("\x06", "\0", "K\2K\3\x86", "K\3K\1\x86");

    (void)state;
    expect_archive(TENSOR("\x06", "\0", "K\2K\3\x86", "K\3K\1\x86"), 20, DLA_ERROR_FORMAT, "should have 24 bytes and has 20");
    expect_archive(TENSOR("\x05", "\0", "K\2K\3\x86", "K\3K\1\x86"), 24, DLA_ERROR_FORMAT, "should have 20 bytes and has 24");
    open_archive(sound, sizeof(sound) - 1, "1", 24, DLA_ERROR_FORMAT, "tensor 'w': its storage '0' is not in the archive");
    expect_archive("\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(K\1K\0))\x89}tRs.", 24, DLA_ERROR_FORMAT, "no sound storage");
    expect_archive("\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n)Rs.", 24, DLA_ERROR_FORMAT, "no sound storage");
    expect_archive("\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(K\1QK\0))\x89}tRs.", 24, DLA_ERROR_FORMAT,
                   "not one to a storage");
}

static void hostile_checkpoints_are_refused(void **state)
{
    (void)state;
    expect_archive("\x80\x02"
                   "cposix\nsystem\nX\x02\0\0\0id\x85R.",
                   24, DLA_ERROR_UNSUPPORTED, "posix.system");
    expect_archive("\x80\x02"
                   "c__main__\nNet\n)\x81.",
                   24, DLA_ERROR_UNSUPPORTED, "__main__.Net");
    expect_archive("\x80\x02K\1.", 24, DLA_ERROR_FORMAT, "no state dict");
    expect_archive("\x80\x02]q\0X\x05\0\0\0modelh\0\x86.", 24, DLA_ERROR_FORMAT, "no state dict");
    /* a dict that is its own model */
    expect_archive("\x80\x02}q\0X\x05\0\0\0modelh\0s.", 24, DLA_ERROR_FORMAT, "no state dict");
}

static void other_archives_are_named(void **state)
{
    const struct zip_part spreadsheet = {.name = "xl/workbook.xml", .bytes = "<", .size = 1};
    const struct zip_part big_endian[] = {
        {.name = "x/data.pkl", .bytes = "N.", .size = 2},
        {.name = "x/byteorder", .bytes = "big", .size = 3},
    };
    struct zip_bytes zip;
    struct tensor_file *file = NULL;

    (void)state;
    make_zip(&spreadsheet, 1, &zip);
    assert_int_equal(tensor_file_open_memory(zip.bytes, zip.size, "test", &file), DLA_ERROR_FORMAT);
    assert_message_contains("no data.pkl");
    make_zip(big_endian, 2, &zip);
    assert_int_equal(tensor_file_open_memory(zip.bytes, zip.size, "test", &file), DLA_ERROR_UNSUPPORTED);
    assert_message_contains("big-endian");
}

/* ---- the older format, by hand ----------------------------------------------------------------------------------------- */

#define LEGACY_HEAD "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s."
#define LEGACY_TENSOR(elements, view)                                                                                                      \
    "\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"                           \
    "0X\x03\0\0\0cpuK" elements view "tQK\0K\2\x85K\1\x85tRs."
#define LEGACY_KEYS                                                                                                                        \
    "\x80\x02]X\x01\0\0\0"                                                                                                                 \
    "0a."
#define LEGACY_STORAGE "\x03\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40"

static void open_legacy(const char *bytes, size_t size, dla_status wanted, const char *message_part, float first)
{
    struct tensor_file *file = NULL;
    uint8_t *copy = malloc(size);
    float values[2];

    memcpy(copy, bytes, size);
    assert_int_equal(tensor_file_open_memory(copy, size, "test", &file), wanted);
    if (wanted == DLA_OK) {
        tensor_to_float(tensor_file_find(file, "w"), values);
        assert_true(values[0] == first && values[1] == first + 1);
    } else {
        assert_message_contains(message_part);
    }
    tensor_file_close(file);
    free(copy);
}

#define expect_legacy(bytes, status, message_part, first) open_legacy(bytes, sizeof(bytes) - 1, status, message_part, first)

static void the_older_format_is_checked(void **state)
{
    (void)state;
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "N") LEGACY_KEYS LEGACY_STORAGE, DLA_OK, "", 1.0f);
    /* a storage that is a view of another, as versions before 0.4 wrote */
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "(X\1\0\0\0vK\1K\2t") LEGACY_KEYS LEGACY_STORAGE, DLA_OK, "", 2.0f);
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "(X\1\0\0\0vK\2K\2t") LEGACY_KEYS LEGACY_STORAGE, DLA_ERROR_FORMAT, "view of its storage",
                  0);
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "(X\1\0\0\0vK\2K\1t") LEGACY_KEYS LEGACY_STORAGE, DLA_ERROR_FORMAT, "reaches element 1",
                  0);
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\2", "N") LEGACY_KEYS LEGACY_STORAGE, DLA_ERROR_FORMAT, "should have 2 elements and has 3", 0);
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "N") "\x80\x02]." LEGACY_STORAGE, DLA_ERROR_FORMAT, "'0' is not in the file", 0);
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "N") "\x80\x02]X\x01\0\0\0"
                                                       "1a." LEGACY_STORAGE,
                  DLA_ERROR_FORMAT, "no tensor refers to", 0);
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "N") "\x80\x02](X\x01\0\0\0"
                                                       "0X\x01\0\0\0"
                                                       "0e." LEGACY_STORAGE LEGACY_STORAGE,
                  DLA_ERROR_FORMAT, "comes twice", 0);
    expect_legacy(LEGACY_HEAD LEGACY_TENSOR("\3", "N") "\x80\x02K\1." LEGACY_STORAGE, DLA_ERROR_FORMAT, "no list", 0);
    expect_legacy("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xea\x03.\x80\x02}.", DLA_ERROR_UNSUPPORTED,
                  "another version", 0);
    expect_legacy("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.", DLA_ERROR_UNSUPPORTED,
                  "big-endian", 0);
    expect_legacy("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02"
                  "cos\nsystem\n.",
                  DLA_ERROR_UNSUPPORTED, "os.system", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_pytorch_are_read),
        cmocka_unit_test(stored_tensors_are_not_copied),
        cmocka_unit_test(other_files_of_pytorch_are_named),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(views_must_lie_inside_of_their_storage),
        cmocka_unit_test(storages_must_be_what_they_are_said_to_be),
        cmocka_unit_test(hostile_checkpoints_are_refused),
        cmocka_unit_test(other_archives_are_named),
        cmocka_unit_test(the_older_format_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
