/* test_pictures.c - pictures that the library makes: PNG files, heat maps, classes over photographs. */
#include "image/colour_map.h"
#include "image/encode_png.h"
#include "image/image.h"
#include "image/label_map.h"

#include "image_check.h"

#include <math.h>

static dla_image *make_image(int height, int width)
{
    uint8_t *pixels = malloc((size_t)height * (size_t)width * 3);
    dla_image *image = NULL;

    for (int i = 0; i < height * width * 3; i++)
        pixels[i] = (uint8_t)(i * 37 + i / 11);
    assert_ok(dla_image_from_pixels(pixels, height, width, (size_t)width * 3, DLA_PIXELS_RGB, &image));
    free(pixels);
    return image;
}

static void what_is_written_comes_back(void **state)
{
    static const struct {
        int height, width;
    } sizes[] = {{1, 1}, {3, 2}, {33, 57}, {1, 900}, {700, 1}};
    char path[512];

    (void)state;
    temporary_path(path, sizeof path, "picture.png");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int height = sizes[i].height, width = sizes[i].width;
        size_t pixels = (size_t)height * (size_t)width;
        dla_image *image = make_image(height, width), *back = NULL;
        struct label_map grey;

        assert_ok(dla_image_write_png(image, path));
        assert_ok(dla_image_read(path, NULL, &back));
        assert_int_equal(dla_image_height(back), height);
        assert_int_equal(dla_image_width(back), width);
        assert_memory_equal(dla_image_pixels(back), dla_image_pixels(image), pixels * 3);
        dla_image_destroy(back);

        assert_ok(dla_grey_write_png(dla_image_pixels(image), height, width, path));
        assert_ok(label_map_read(path, &grey));
        assert_memory_equal(grey.labels, dla_image_pixels(image), pixels);
        label_map_free(&grey);
        dla_image_destroy(image);
    }
    remove(path);
}

static void labels_keep_number_and_colour(void **state)
{
    static const uint8_t labels[6] = {0, 3, 255, 7, 7, 1};
    uint8_t palette[256][3];
    struct label_map numbers;
    dla_image *colours = NULL;
    char path[512];

    (void)state;
    temporary_path(path, sizeof path, "labels.png");
    dla_class_palette(palette);
    assert_ok(dla_labels_write_png(labels, 2, 3, (const uint8_t(*)[3])palette, path));
    assert_ok(label_map_read(path, &numbers));
    assert_memory_equal(numbers.labels, labels, 6);
    assert_ok(dla_image_read(path, NULL, &colours));
    for (int i = 0; i < 6; i++)
        assert_memory_equal(dla_image_pixels(colours) + i * 3, palette[labels[i]], 3);
    label_map_free(&numbers);
    dla_image_destroy(colours);
    remove(path);
}

static void what_cannot_be_written_leaves_nothing(void **state)
{
    static const uint8_t pixels[2] = {1, 2}, palette[2][3] = {{0, 0, 0}, {9, 9, 9}};
    const struct png_picture beyond = {1, 2, PNG_KIND_PALETTE, pixels, palette, 2};
    char path[512];

    (void)state;
    temporary_path(path, sizeof path, "refused.png");
    assert_int_equal(png_write(path, &beyond), DLA_ERROR_ARGUMENT);
    assert_message_contains("refused.png: cannot encode a PNG: the palette has 2 colours, a pixel asks for number 2");
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(dla_grey_write_png(pixels, 0, 2, path), DLA_ERROR_ARGUMENT);
    assert_int_equal(dla_grey_write_png(pixels, 1, 2, "/nowhere/at/all.png"), DLA_ERROR_NOT_FOUND);
    assert_message_contains("/nowhere/at/all.png");
}

static void colour_maps_run_from_end_to_end(void **state)
{
    uint8_t colour[3];

    (void)state;
    colour_of_value(DLA_COLOUR_MAP_VIRIDIS, 0.0f, colour);
    assert_memory_equal(colour, ((uint8_t[3]){68, 1, 84}), 3);
    colour_of_value(DLA_COLOUR_MAP_VIRIDIS, 1.0f, colour);
    assert_memory_equal(colour, ((uint8_t[3]){253, 231, 37}), 3);
    colour_of_value(DLA_COLOUR_MAP_TURBO, INFINITY, colour);
    assert_memory_equal(colour, ((uint8_t[3]){122, 4, 3}), 3);
    colour_of_value(DLA_COLOUR_MAP_TURBO, -1.0f, colour);
    assert_memory_equal(colour, ((uint8_t[3]){48, 18, 59}), 3);
    colour_of_value(DLA_COLOUR_MAP_TURBO, NAN, colour);
    assert_memory_equal(colour, ((uint8_t[3]){48, 18, 59}), 3);
    colour_of_value(DLA_COLOUR_MAP_TURBO, 1.0f / 30, colour); /* half way between the first two */
    assert_memory_equal(colour, ((uint8_t[3]){57, 43, 113}), 3);
}

static void class_colours_differ(void **state)
{
    uint8_t palette[256][3];

    (void)state;
    dla_class_palette(palette);
    for (int i = 0; i < 40; i++)
        for (int j = 0; j < i; j++) {
            int distance = abs(palette[i][0] - palette[j][0]) + abs(palette[i][1] - palette[j][1]) + abs(palette[i][2] - palette[j][2]);
            assert_true(distance > 20);
        }
    assert_memory_equal(palette[255], ((uint8_t[3]){0, 0, 0}), 3);
}

static void heat_covers_its_rectangle_alone(void **state)
{
    static const float heat[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    const dla_rectangle where = {2, 3, 4, 5};
    dla_image *photograph = make_image(9, 11), *picture = NULL;
    uint8_t colour[3];

    (void)state;
    colour_of_value(DLA_COLOUR_MAP_TURBO, 0.5f, colour);
    assert_ok(dla_image_overlay_heat(photograph, heat, 2, 2, &where, DLA_COLOUR_MAP_TURBO, 1.0, &picture));
    for (int y = 0; y < 9; y++)
        for (int x = 0; x < 11; x++) {
            const uint8_t *pixel = dla_image_pixels(picture) + (y * 11 + x) * 3, *before = dla_image_pixels(photograph) + (y * 11 + x) * 3;
            bool inside = y >= 2 && y < 6 && x >= 3 && x < 8;
            for (int c = 0; c < 3; c++)
                assert_in_range(pixel[c] + 1, inside ? colour[c] : before[c] + 1, inside ? colour[c] + 2 : before[c] + 1);
        }
    dla_image_destroy(picture);

    picture = NULL;
    const dla_rectangle beyond = {7, -4, 5, 7}, empty = {0, 0, 0, 5}; /* 2 rows of 3 pixels lie within */
    int changed = 0;
    assert_ok(dla_image_overlay_heat(photograph, heat, 2, 2, &beyond, DLA_COLOUR_MAP_TURBO, 1.0, &picture));
    for (int i = 0; i < 9 * 11; i++)
        changed += memcmp(dla_image_pixels(picture) + i * 3, dla_image_pixels(photograph) + i * 3, 3) != 0;
    assert_int_equal(changed, 6);
    assert_memory_not_equal(dla_image_pixels(picture) + 7 * 11 * 3, dla_image_pixels(photograph) + 7 * 11 * 3, 3);
    dla_image_destroy(picture);

    picture = NULL;
    assert_int_equal(dla_image_overlay_heat(photograph, heat, 2, 2, &empty, DLA_COLOUR_MAP_TURBO, 1.0, &picture), DLA_ERROR_ARGUMENT);
    assert_message_contains("a rectangle of 5 x 0");
    assert_int_equal(dla_image_overlay_heat(photograph, heat, 2, 2, NULL, DLA_COLOUR_MAP_TURBO, 1.5, &picture), DLA_ERROR_ARGUMENT);
    assert_null(picture);
    dla_image_destroy(photograph);
}

/* The heat's maximum lies where the hottest cell lies, and the enlargement neither overshoots nor has jumps. */
static void heat_is_enlarged_smoothly(void **state)
{
    static const float heat[12] = {0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}; /* (3, 4) */
    static const uint8_t black[60 * 80];
    dla_image *photograph = NULL, *picture = NULL, *same = NULL;

    (void)state;
    assert_ok(dla_image_from_pixels(black, 60, 80, 80, DLA_PIXELS_GREY, &photograph));
    assert_ok(dla_image_overlay_heat(photograph, heat, 3, 4, NULL, DLA_COLOUR_MAP_VIRIDIS, 1.0, &picture));
    const uint8_t *pixels = dla_image_pixels(picture);
    for (int y = 0; y < 60; y++)
        for (int x = 1; x < 80; x++) {
            assert_true(abs(pixels[(y * 80 + x) * 3 + 1] - pixels[(y * 80 + x - 1) * 3 + 1]) < 25);
            assert_true(pixels[(y * 80 + x) * 3 + 1] <= pixels[(30 * 80 + 50) * 3 + 1]);
        }
    assert_ok(dla_image_overlay_heat(photograph, heat, 3, 4, NULL, DLA_COLOUR_MAP_VIRIDIS, 0.0, &same));
    assert_memory_equal(dla_image_pixels(same), dla_image_pixels(photograph), 60 * 80 * 3);
    dla_image_destroy(same);
    dla_image_destroy(picture);
    dla_image_destroy(photograph);
}

static void classes_tint_the_photograph(void **state)
{
    static const uint8_t white[2] = {255, 255}, labels[2] = {0, 1}, palette[256][3] = {{0, 0, 0}, {255, 0, 55}};
    dla_image *photograph = NULL, *picture = NULL;

    (void)state;
    assert_ok(dla_image_from_pixels(white, 1, 2, 2, DLA_PIXELS_GREY, &photograph));
    assert_ok(dla_image_overlay_labels(photograph, labels, palette, 0.2, &picture));
    assert_memory_equal(dla_image_pixels(picture), ((uint8_t[6]){204, 204, 204, 255, 204, 215}), 6);
    dla_image_destroy(picture);
    dla_image_destroy(photograph);
}

static void a_map_becomes_a_picture(void **state)
{
    static const float values[2] = {0, 1};
    dla_image *picture = NULL;

    (void)state;
    assert_ok(dla_image_from_map(values, 2, 1, DLA_COLOUR_MAP_VIRIDIS, &picture));
    assert_int_equal(dla_image_height(picture), 2);
    assert_memory_equal(dla_image_pixels(picture), ((uint8_t[6]){68, 1, 84, 253, 231, 37}), 6);
    dla_image_destroy(picture);
    picture = NULL;
    assert_int_equal(dla_image_from_map(values, 2, 1, (dla_colour_map)9, &picture), DLA_ERROR_ARGUMENT);
    assert_null(picture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(labels_keep_number_and_colour),
        cmocka_unit_test(what_cannot_be_written_leaves_nothing),
        cmocka_unit_test(colour_maps_run_from_end_to_end),
        cmocka_unit_test(class_colours_differ),
        cmocka_unit_test(heat_covers_its_rectangle_alone),
        cmocka_unit_test(heat_is_enlarged_smoothly),
        cmocka_unit_test(classes_tint_the_photograph),
        cmocka_unit_test(a_map_becomes_a_picture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
