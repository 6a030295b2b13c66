/* test_zip_directory.c - zip archives: what is found, and every way in which a directory can lie. */
#include "weights/zip_directory.h"

#include "weights_check.h"
#include "zip_making.h"

#include <zlib.h>

static struct arena arena;
static struct zip_directory directory;
static struct zip_bytes zip;

static int free_arena(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

/* Reads the archive from memory of exactly its size; the copy lives as long as the arena. */
static dla_status read_zip(void)
{
    uint8_t *copy = arena_allocate(&arena, zip.size + 1);
    memcpy(copy, zip.bytes, zip.size);
    return zip_directory_read(copy, zip.size, &arena, &directory);
}

static void refuse(const struct zip_part *parts, size_t count, dla_status wanted, const char *message_part)
{
    make_zip(parts, count, &zip);
    assert_int_equal(read_zip(), wanted);
    assert_message_contains(message_part);
}

static void stored_entries_are_used_in_place(void **state)
{
    const struct zip_part parts[] = {
        {.name = "b", .bytes = "second", .size = 6}, {.name = "a", .bytes = "first", .size = 5}, {.name = "c"}};
    const uint8_t *content;

    (void)state;
    make_zip(parts, 3, &zip);
    assert_ok(read_zip());
    assert_int_equal(directory.entry_count, 3);
    struct zip_entry *entry = zip_directory_find(&directory, "a");
    assert_int_equal(entry->size, 5);
    assert_ok(zip_entry_content(&directory, entry, &arena, &content));
    assert_memory_equal(content, "first", 5);
    assert_ptr_equal(content, entry->bytes);
    assert_int_equal(zip_directory_find(&directory, "c")->size, 0);
    assert_null(zip_directory_find(&directory, "d"));
}

static size_t deflate_into(const void *bytes, size_t size, uint8_t *packed, size_t room)
{
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)bytes;
    stream.avail_in = (uInt)size;
    stream.next_out = packed;
    stream.avail_out = (uInt)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t used = room - stream.avail_out;
    deflateEnd(&stream);
    return used;
}

static void deflated_entries_are_unpacked_and_checked(void **state)
{
    static const char text[] = "weights weights weights weights weights weights";
    uint8_t packed[256];
    size_t packed_size = deflate_into(text, sizeof(text), packed, sizeof(packed));
    uint32_t crc = (uint32_t)crc32(0, (const Bytef *)text, sizeof(text));
    struct zip_part part = {.name = "a", .bytes = packed, .size = packed_size, .method = 8, .full_size = sizeof(text), .crc = crc};
    const uint8_t *content, *again;

    (void)state;
    make_zip(&part, 1, &zip);
    assert_ok(read_zip());
    assert_ok(zip_entry_content(&directory, &directory.entries[0], &arena, &content));
    assert_memory_equal(content, text, sizeof(text));
    assert_ok(zip_entry_content(&directory, &directory.entries[0], &arena, &again));
    assert_ptr_equal(content, again);

    const struct zip_part lies[] = {
        {.name = "a", .bytes = packed, .size = packed_size, .method = 8, .full_size = sizeof(text), .crc = crc ^ 1},
        {.name = "a", .bytes = packed, .size = packed_size, .method = 8, .full_size = sizeof(text) - 1, .crc = crc},
        {.name = "a", .bytes = packed, .size = packed_size, .method = 8, .full_size = sizeof(text) + 1, .crc = crc},
        {.name = "a", .bytes = packed, .size = packed_size - 3, .method = 8, .full_size = sizeof(text), .crc = crc},
        {.name = "a", .bytes = text, .size = sizeof(text), .method = 8, .full_size = sizeof(text), .crc = crc},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        make_zip(&lies[i], 1, &zip);
        assert_ok(read_zip());
        assert_int_equal(zip_entry_content(&directory, &directory.entries[0], &arena, &content), DLA_ERROR_FORMAT);
        assert_message_contains("damaged");
    }
}

/* 4 GB from 50 bytes is impossible; 3 GB from 3 MB is possible and refused all the same, before the memory is taken. */
static void bombs_are_refused_before_they_unpack(void **state)
{
    struct zip_part part = {.name = "a", .bytes = "x", .size = 1, .method = 8, .full_size = 4000000000u};
    struct zip_entry large = {.name = "a", .bytes = (const uint8_t *)"x", .stored_size = 3u << 20, .size = 3u << 30, .deflated = true};
    const uint8_t *content;

    (void)state;
    make_zip(&part, 1, &zip);
    assert_ok(read_zip());
    assert_int_equal(zip_entry_content(&directory, &directory.entries[0], &arena, &content), DLA_ERROR_FORMAT);
    assert_message_contains("cannot unpack from 1 to 4000000000 bytes");
    assert_int_equal(zip_entry_content(&directory, &large, &arena, &content), DLA_ERROR_LIMIT);
    assert_message_contains("at most 2147483648");
}

static void lies_are_refused(void **state)
{
    (void)state;
    refuse((const struct zip_part[]){{.name = "a", .bytes = "x", .size = 1, .header_shift = 1}}, 1, DLA_ERROR_FORMAT, "does not start");
    refuse((const struct zip_part[]){{.name = "a", .bytes = "x", .size = 1, .header_shift = 100000}}, 1, DLA_ERROR_FORMAT,
           "does not start");
    refuse((const struct zip_part[]){{.name = "a", .bytes = "x", .size = 1, .stored_shift = 100000}}, 1, DLA_ERROR_FORMAT,
           "outside of the file");
    refuse((const struct zip_part[]){{.name = "a", .bytes = "x", .size = 1, .full_size = 2}}, 1, DLA_ERROR_FORMAT, "two sizes");
    refuse((const struct zip_part[]){{.name = "a", .flags = 1}}, 1, DLA_ERROR_UNSUPPORTED, "encrypted");
    refuse((const struct zip_part[]){{.name = "a", .method = 93}}, 1, DLA_ERROR_UNSUPPORTED, "method 93");
    refuse((const struct zip_part[]){{.name = "a"}, {.name = "a"}}, 2, DLA_ERROR_FORMAT, "two entries 'a'");
    refuse(
        (const struct zip_part[]){{.name = "a", .bytes = "xxxx", .size = 4, .stored_shift = 40}, {.name = "b", .bytes = "yyyy", .size = 4}},
        2, DLA_ERROR_FORMAT, "'a' and 'b' overlap");
}

static void sixty_four_bit_sizes_are_read(void **state)
{
    struct zip_part part = {.name = "a", .bytes = "hello", .size = 5, .extra = {1, 0, 24, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5}, .extra_bytes = 28};
    uint8_t *record;

    (void)state;
    make_zip(&part, 1, &zip);
    record = zip.bytes + zip.directory;
    memset(record + 20, 0xff, 8);
    memset(record + 42, 0xff, 4);
    assert_ok(read_zip());
    assert_int_equal(directory.entries[0].size, 5);
    assert_memory_equal(directory.entries[0].bytes, "hello", 5);

    record[46 + 1 + 2] = 8; /* the field is too short for three numbers */
    assert_int_equal(read_zip(), DLA_ERROR_FORMAT);
    assert_message_contains("64-bit sizes");
    record[46 + 1 + 2] = 24;
    record[46 + 1 + 4 + 7] = 0x80; /* 2^63 + 5 bytes */
    record[46 + 1 + 4 + 15] = 0x80;
    assert_int_equal(read_zip(), DLA_ERROR_FORMAT);
    assert_message_contains("outside of the file");
}

static void a_sixty_four_bit_directory_is_read(void **state)
{
    const struct zip_part part = {.name = "a", .bytes = "hello", .size = 5};
    size_t directory_bytes, record;

    (void)state;
    make_zip(&part, 1, &zip);
    zip.size -= 22;
    directory_bytes = zip.size - zip.directory;
    record = zip.size;
    zip_put(&zip, 0x06064b50, 4);
    zip_put(&zip, 44, 8);
    zip_put(&zip, 0, 4);
    zip_put(&zip, 0, 8);
    zip_put(&zip, 1, 8);
    zip_put(&zip, 1, 8);
    zip_put(&zip, directory_bytes, 8);
    zip_put(&zip, zip.directory, 8);
    zip_put(&zip, 0x07064b50, 4);
    zip_put(&zip, 0, 4);
    zip_put(&zip, record, 8);
    zip_put(&zip, 1, 4);
    zip.directory = UINT32_MAX;
    zip_put_end(&zip, UINT16_MAX, UINT32_MAX);
    assert_ok(read_zip());
    assert_int_equal(directory.entry_count, 1);
    assert_memory_equal(directory.entries[0].bytes, "hello", 5);

    zip.bytes[record + 56 + 8] ^= 1; /* the locator points beside the record */
    assert_int_equal(read_zip(), DLA_ERROR_FORMAT);
    assert_message_contains("64-bit directory");
    zip.bytes[record + 56 + 8] ^= 1;
    memset(zip.bytes + record + 32, 0xff, 8); /* 2^64 - 1 entries */
    assert_int_equal(read_zip(), DLA_ERROR_FORMAT);
    assert_message_contains("claims 18446744073709551615 entries");
}

static void a_comment_may_follow(void **state)
{
    const struct zip_part part = {.name = "a", .bytes = "hello", .size = 5};

    (void)state;
    make_zip(&part, 1, &zip);
    zip.bytes[zip.size - 2] = 4;
    zip_put_bytes(&zip, "note", 4);
    assert_ok(read_zip());
    assert_int_equal(directory.entry_count, 1);
}

static void truncated_archives_are_refused(void **state)
{
    const struct zip_part parts[] = {{.name = "a", .bytes = "hello", .size = 5}, {.name = "b", .bytes = "you", .size = 3}};
    size_t whole;

    (void)state;
    make_zip(parts, 2, &zip);
    whole = zip.size;
    for (zip.size = 0; zip.size < whole; zip.size++)
        assert_int_equal(read_zip(), DLA_ERROR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(stored_entries_are_used_in_place, free_arena),
        cmocka_unit_test_teardown(deflated_entries_are_unpacked_and_checked, free_arena),
        cmocka_unit_test_teardown(bombs_are_refused_before_they_unpack, free_arena),
        cmocka_unit_test_teardown(lies_are_refused, free_arena),
        cmocka_unit_test_teardown(sixty_four_bit_sizes_are_read, free_arena),
        cmocka_unit_test_teardown(a_sixty_four_bit_directory_is_read, free_arena),
        cmocka_unit_test_teardown(a_comment_may_follow, free_arena),
        cmocka_unit_test_teardown(truncated_archives_are_refused, free_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
