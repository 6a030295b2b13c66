/* test_image_decode.c - every kind of picture decodes to the pixels it should, damaged ones say so. */
#include "image/exif.h"
#include "image/image.h"
#include "image/label_map.h"

#include "image_check.h"

static void every_kind_decodes_to_the_expected_pixels(void **state)
{
    FILE *list = open_list("decoded.txt");
    char name[64], exif[16];
    int width, height, count = 0;
    uint64_t wanted;

    (void)state;
    while (fscanf(list, "%63s %15s %d %d %" SCNx64, name, exif, &width, &height, &wanted) == 5) {
        dla_decode_options options = DLA_DECODE_OPTIONS_INIT;
        dla_image *image = NULL;
        size_t size;
        uint8_t *bytes = read_fixture(name, &size);

        options.ignore_exif = strcmp(exif, "no-exif") == 0;
        assert_ok(dla_image_decode(bytes, size, name, &options, &image));
        assert_int_equal(dla_image_width(image), width);
        assert_int_equal(dla_image_height(image), height);
        if (hash_bytes(dla_image_pixels(image), (size_t)width * (size_t)height * 3) != wanted) {
            print_error("%s (%s): other pixels than expected\n", name, exif);
            fail();
        }
        dla_image_destroy(image);
        free(bytes);
        count++;
    }
    fclose(list);
    assert_true(count > 80); /* the list was read */
}

/* However short a file is cut, it is refused or whole; most of all it never gives half a picture. The last bytes that a picture
 * does without are its end marker (JPEG: 2 bytes, and what lies before it in extraneous_bytes.jpg) or end chunk (PNG: 12). */
static void cut_files_are_refused(void **state)
{
    static const struct {
        const char *name;
        size_t dispensable;
    } files[] = {
        {"base_420.jpg", 2},  {"base_444.jpg", 2},     {"progressive_420.jpg", 2},     {"restart_blocks.jpg", 2}, {"grey.jpg", 2},
        {"cmyk.jpg", 2},      {"rgb_8.png", 12},       {"rgba_16_interlaced.png", 12}, {"palette_4.png", 12},     {"lossy.webp", 0},
        {"lossless.webp", 0}, {"lossy_alpha.webp", 0}, {"animated.webp", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t size;
        uint8_t *bytes = read_fixture(files[i].name, &size);

        for (size_t length = 0; length < size; length++) {
            dla_image *image = NULL;
            uint8_t *cut = malloc(length > 0 ? length : 1);

            memcpy(cut, bytes, length);
            dla_status status = dla_image_decode(cut, length, "cut", NULL, &image);
            if (status == DLA_OK && length + files[i].dispensable < size) {
                print_error("%s: %zu of %zu bytes pass for a whole picture\n", files[i].name, length, size);
                fail();
            }
            if (status != DLA_OK) {
                assert_int_equal(status, DLA_ERROR_FORMAT);
                assert_null(image);
                assert_message_contains(length == 0 ? "cut: empty file" : "cut: ");
            }
            dla_image_destroy(image);
            free(cut);
        }
        free(bytes);
    }
}

static void a_cut_file_says_how_much_was_there(void **state)
{
    static const struct {
        const char *name;
        size_t length;
        const char *message;
    } cuts[] = {
        {"base_420.jpg", 1500, "half: cut short: 1500 bytes hold "},
        {"progressive_420.jpg", 1200, "half: cut short: 1200 bytes end within scan "},
        {"base_420.jpg", 300, "half: cut short: 300 bytes, no picture in them"},
        {"rgb_8.png", 1000, "half: cut short: 1000 bytes"},
        {"lossy.webp", 500, "half: cut short: 500 bytes of "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        size_t size;
        uint8_t *bytes = read_fixture(cuts[i].name, &size);
        dla_image *image = NULL;

        assert_true(cuts[i].length < size);
        assert_int_equal(dla_image_decode(bytes, cuts[i].length, "half", NULL, &image), DLA_ERROR_FORMAT);
        assert_message_contains(cuts[i].message);
        free(bytes);
    }
}

/* An end marker in the middle of the picture data: half a photograph that something closed properly. */
static void a_jpeg_that_ends_early_is_refused(void **state)
{
    size_t size;
    uint8_t *bytes = read_fixture("base_444.jpg", &size);
    dla_image *image = NULL;

    (void)state;
    bytes[size / 2] = 0xff;
    bytes[size / 2 + 1] = 0xd9;
    assert_int_equal(dla_image_decode(bytes, size, "early.jpg", NULL, &image), DLA_ERROR_FORMAT);
    assert_message_contains("early.jpg: cut short: ");
    free(bytes);
}

static void foreign_files_are_named(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        dla_status status;
        const char *message;
    } files[] = {
        {"Dear Sir or Madam", 17, DLA_ERROR_FORMAT, "holiday.jpg: not a JPEG, PNG or WebP file (starts with \"Dear \")"},
        {"\x00\xff\"\n", 4, DLA_ERROR_FORMAT, "(starts with \"\\x00\\xff\"\\x0a\")"},
        {"", 0, DLA_ERROR_FORMAT, "holiday.jpg: empty file"},
        {"GIF89a\x01\x00\x01\x00", 10, DLA_ERROR_UNSUPPORTED, "holiday.jpg: not a JPEG, PNG or WebP file but a GIF; convert it first"},
        {"\x00\x00\x00\x18"
         "ftypheic",
         12, DLA_ERROR_UNSUPPORTED, "but a HEIC"},
        {"\xff\xd8\xff", 3, DLA_ERROR_FORMAT, "holiday.jpg: cut short: 3 bytes, no picture in them"},
        {"\x89PNG\r\n\x1a\n", 8, DLA_ERROR_FORMAT, "holiday.jpg: cut short: 8 bytes, no picture in them"},
        {"RIFF\x04\x00\x00\x00WEBP", 12, DLA_ERROR_FORMAT, "holiday.jpg: damaged WebP: no picture in it"},
        {"RIFF\xff\xff\xff\xffWEBPVP8 ", 16, DLA_ERROR_FORMAT, "holiday.jpg: cut short: 16 bytes of 4294967303"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        dla_image *image = NULL;

        assert_int_equal(dla_image_decode(files[i].bytes, files[i].size, "holiday.jpg", NULL, &image), files[i].status);
        assert_message_contains(files[i].message);
        assert_null(image);
    }
}

static void large_claims_are_refused_before_memory(void **state)
{
    dla_decode_options options = DLA_DECODE_OPTIONS_INIT;
    dla_image *image = NULL;

    (void)state;
    assert_int_equal(dla_image_read(IMAGES "bomb_60000x60000.png", NULL, &image), DLA_ERROR_LIMIT);
    assert_message_contains("bomb_60000x60000.png: 60000 x 60000 pixels are more than the limit of 178956970 in all");
    assert_int_equal(dla_image_read(IMAGES "promise_13000x13000.png", NULL, &image), DLA_ERROR_FORMAT);
    assert_message_contains("cut short: the header claims 13000 x 13000 pixels, which ");

    options.max_pixels = 97 * 61 - 1;
    assert_int_equal(dla_image_read(IMAGES "base_420.jpg", &options, &image), DLA_ERROR_LIMIT);
    options.max_pixels = 58 * 45 - 1;
    assert_int_equal(dla_image_read(IMAGES "lossy_alpha.webp", &options, &image), DLA_ERROR_LIMIT);
    assert_int_equal(dla_image_read(IMAGES "animated.webp", &options, &image), DLA_ERROR_LIMIT);
    options.max_pixels = 58 * 45;
    assert_ok(dla_image_read(IMAGES "animated.webp", &options, &image));
    dla_image_destroy(image);
    options.max_pixels = 0;
    image = NULL;
    assert_int_equal(dla_image_read(IMAGES "lossy.webp", &options, &image), DLA_ERROR_ARGUMENT);
    assert_null(image);
}

/* A JPEG of many scans costs a pass over the picture each. */
static void endless_scans_are_refused(void **state)
{
    size_t size, header = 0, length;
    uint8_t *bytes = read_fixture("progressive_420.jpg", &size);
    dla_image *image = NULL;

    (void)state;
    while (!(bytes[header] == 0xff && bytes[header + 1] == 0xda))
        header++;
    for (length = 2; !(bytes[header + length] == 0xff && bytes[header + length + 1] != 0); length++)
        ;
    uint8_t *many = malloc(header + 600 * length); /* the first scan 600 times */
    memcpy(many, bytes, header);
    for (size_t i = 0; i < 600; i++)
        memcpy(many + header + i * length, bytes + header, length);
    assert_int_equal(dla_image_decode(many, header + 600 * length, "scans", NULL, &image), DLA_ERROR_LIMIT);
    assert_message_contains("scans: JPEG with more than 500 scans");
    free(many);
    free(bytes);
}

static void exif_is_read_within_its_bounds(void **state)
{
    uint8_t block[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0};

    (void)state;
    assert_int_equal(exif_orientation(block, sizeof block), 6);
    for (size_t length = 0; length < sizeof block; length++) {
        uint8_t *cut = malloc(length > 0 ? length : 1);

        memcpy(cut, block, length);
        assert_int_equal(exif_orientation(cut, length), 1);
        free(cut);
    }
    block[18] = 9; /* no such orientation */
    assert_int_equal(exif_orientation(block, sizeof block), 1);
    block[18] = 6;
    block[12] = 4; /* as a 32-bit number */
    assert_int_equal(exif_orientation(block, sizeof block), 6);
    block[12] = 2; /* as text */
    assert_int_equal(exif_orientation(block, sizeof block), 1);
    block[12] = 3;
    block[8] = block[9] = 0xff; /* more entries than bytes */
    assert_int_equal(exif_orientation(block, sizeof block), 6);
    block[7] = 0xff; /* a directory beyond the end */
    assert_int_equal(exif_orientation(block, sizeof block), 1);
}

static void pixels_from_memory_keep_their_colours(void **state)
{
    static const uint8_t pixels[] = {10, 20, 30, 255, 40, 50, 60, 0, 99, 99, /* row 2 */ 70, 80, 90, 128, 1, 2, 3, 255, 99, 99};
    static const struct {
        dla_pixel_order order;
        uint8_t wanted[4][3];
    } cases[] = {
        {DLA_PIXELS_RGB, {{10, 20, 30}, {255, 40, 50}, {70, 80, 90}, {128, 1, 2}}},
        {DLA_PIXELS_BGR, {{30, 20, 10}, {50, 40, 255}, {90, 80, 70}, {2, 1, 128}}},
        {DLA_PIXELS_RGBA, {{10, 20, 30}, {255, 255, 255}, {162, 167, 172}, {1, 2, 3}}},
        {DLA_PIXELS_BGRA, {{30, 20, 10}, {255, 255, 255}, {172, 167, 162}, {3, 2, 1}}},
        {DLA_PIXELS_GREY, {{10, 10, 10}, {20, 20, 20}, {70, 70, 70}, {80, 80, 80}}},
    };
    dla_image *image = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_ok(dla_image_from_pixels(pixels, 2, 2, 10, cases[i].order, &image));
        assert_memory_equal(dla_image_pixels(image), cases[i].wanted, 12);
        dla_image_destroy(image);
    }
    image = NULL;
    assert_int_equal(dla_image_from_pixels(pixels, 2, 2, 7, DLA_PIXELS_RGBA, &image), DLA_ERROR_ARGUMENT);
    assert_message_contains("rows of 7 bytes cannot hold 2 pixels of 4 bytes");
    assert_int_equal(dla_image_from_pixels(pixels, 0, 2, 10, DLA_PIXELS_RGB, &image), DLA_ERROR_ARGUMENT);
    assert_int_equal(dla_image_from_pixels(pixels, 2, 2, 10, (dla_pixel_order)7, &image), DLA_ERROR_ARGUMENT);
    assert_null(image);
}

static void labels_are_the_stored_numbers(void **state)
{
    struct label_map labels;

    (void)state;
    for (int depth = 1; depth <= 8; depth *= 2) {
        char path[512];
        int largest = 0;

        snprintf(path, sizeof path, IMAGES "palette_%d%s.png", depth, depth == 4 ? "_interlaced" : "");
        assert_ok(label_map_read(path, &labels));
        assert_int_equal(labels.width, 29);
        assert_int_equal(labels.height, 21);
        for (int i = 0; i < 29 * 21; i++)
            largest = labels.labels[i] > largest ? labels.labels[i] : largest;
        assert_true(largest < 1 << depth && largest >= (1 << depth) / 2);
        label_map_free(&labels);
    }
    assert_int_equal(label_map_read(IMAGES "rgb_8.png", &labels), DLA_ERROR_UNSUPPORTED);
    assert_int_equal(label_map_read(IMAGES "grey_16.png", &labels), DLA_ERROR_UNSUPPORTED);
    assert_int_equal(label_map_read(IMAGES "grey.jpg", &labels), DLA_ERROR_FORMAT);
    assert_message_contains("grey.jpg: not a PNG file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_decodes_to_the_expected_pixels),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(a_cut_file_says_how_much_was_there),
        cmocka_unit_test(a_jpeg_that_ends_early_is_refused),
        cmocka_unit_test(foreign_files_are_named),
        cmocka_unit_test(large_claims_are_refused_before_memory),
        cmocka_unit_test(endless_scans_are_refused),
        cmocka_unit_test(exif_is_read_within_its_bounds),
        cmocka_unit_test(pixels_from_memory_keep_their_colours),
        cmocka_unit_test(labels_are_the_stored_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
