/* test_image_resize.c - resized pixels equal Pillow's bit for bit, preprocessed values torchvision's. */
#include "image/image.h"
#include "image/preprocess.h"
#include "image/resize.h"

#include "image_check.h"

#include <math.h>

/* Noise by a formula that tools/make_image_fixtures.py knows, too; `hard`: black and white alone. */
static uint8_t *make_source(int height, int width, int channels, bool hard)
{
    size_t size = (size_t)height * (size_t)width * (size_t)channels;
    uint8_t *pixels = malloc(size);

    for (uint64_t i = 0; i < size; i++) {
        uint64_t noise = (i * 2654435761u & 0xffffffffu) ^ i >> 3;
        uint8_t value = (uint8_t)(noise * 40503 >> 11);

        pixels[i] = !hard ? value : value & 128 ? 255 : 0;
    }
    return pixels;
}

static size_t result_size(const struct resize_shape *shape)
{
    return (size_t)shape->window.height * (size_t)shape->window.width * (size_t)shape->channels;
}

/* Any part of the result, computed alone, is that part of the whole. */
static void check_windows(const struct resize_shape *whole, const uint8_t *source, const uint8_t *result)
{
    for (int k = 1; k < 4; k++) {
        struct resize_shape part = *whole;
        int width = (int)whole->out_width, height = (int)whole->out_height, channels = whole->channels;

        part.window = (struct resize_window){.left = width * k / 7, .top = height * (4 - k) / 9};
        part.window.width = (width - (int)part.window.left + k) / (k + 1);
        part.window.height = (height - (int)part.window.top + 1) / 2;
        if (part.window.width < 1 || part.window.height < 1)
            continue;
        uint8_t *cut = malloc(result_size(&part));
        assert_ok(image_resize(&part, source, cut));
        size_t row = (size_t)part.window.width * (size_t)channels;
        for (int y = 0; y < part.window.height; y++) {
            int64_t start = ((part.window.top + y) * width + part.window.left) * channels;
            assert_memory_equal(cut + (size_t)y * row, result + start, row);
        }
        free(cut);
    }
}

static void resizing_equals_pillow_bit_for_bit(void **state)
{
    FILE *list = open_list("resized.txt");
    int in_height, in_width, channels, hard, out_height, out_width, count = 0;
    char interpolation[16];
    struct resize_box box;
    uint64_t wanted;

    (void)state;
    while (fscanf(list, "%d %d %d %d %d %d %15s %f %f %f %f %" SCNx64, &in_height, &in_width, &channels, &hard, &out_height, &out_width,
                  interpolation, &box.left, &box.top, &box.right, &box.bottom, &wanted)
           == 12) {
        dla_interpolation filter = strcmp(interpolation, "bicubic") == 0 ? DLA_INTERPOLATION_BICUBIC : DLA_INTERPOLATION_BILINEAR;
        struct resize_shape shape = resize_whole(in_height, in_width, channels, out_height, out_width, filter);
        uint8_t *source = make_source(in_height, in_width, channels, hard != 0);

        shape.box = box;
        uint8_t *plain = malloc(result_size(&shape)), *fast = malloc(result_size(&shape));
        assert_ok(image_resize_reference(&shape, source, plain));
        assert_ok(image_resize(&shape, source, fast));
        if (hash_bytes(plain, result_size(&shape)) != wanted) {
            print_error("%d x %d to %d x %d, %s, box %g %g %g %g: other pixels than Pillow's\n", in_width, in_height, out_width, out_height,
                        interpolation, (double)box.left, (double)box.top, (double)box.right, (double)box.bottom);
            fail();
        }
        assert_memory_equal(fast, plain, result_size(&shape));
        check_windows(&shape, source, plain);
        free(source);
        free(plain);
        free(fast);
        count++;
    }
    fclose(list);
    assert_true(count > 90); /* the list was read */
}

static void preprocessing_equals_torchvision(void **state)
{
    FILE *list = open_list("preprocessed.txt");
    dla_preprocessing preprocessing = DLA_PREPROCESSING_IMAGENET;
    char name[64], path[512], interpolation[16];
    int count = 0;

    (void)state;
    while (fscanf(list, "%63s %d %lf %15s", name, &preprocessing.size, &preprocessing.crop_pct, interpolation) == 4) {
        enum { VALUES = 60 };
        size_t side = (size_t)preprocessing.size, elements = 3 * side * side;
        float *nchw = malloc(elements * sizeof(float)), *nhwc = malloc(elements * sizeof(float));
        dla_image *image = NULL;

        preprocessing.interpolation = strcmp(interpolation, "bicubic") == 0 ? DLA_INTERPOLATION_BICUBIC : DLA_INTERPOLATION_BILINEAR;
        snprintf(path, sizeof path, IMAGES "%s", name);
        assert_ok(dla_image_read(path, NULL, &image));
        assert_ok(dla_image_preprocess(image, &preprocessing, DLA_LAYOUT_NCHW, nchw));
        assert_ok(dla_image_preprocess(image, &preprocessing, DLA_LAYOUT_NHWC, nhwc));
        for (size_t k = 0; k < VALUES; k++) {
            size_t position = k * (elements - 1) / (VALUES - 1);
            float wanted;

            assert_int_equal(fscanf(list, "%f", &wanted), 1);
            if (fabsf(nchw[position] - wanted) > 1e-6f) {
                print_error("%s at %d, crop_pct %g, %s: value %zu is %.9g, torchvision has %.9g\n", name, preprocessing.size,
                            preprocessing.crop_pct, interpolation, position, (double)nchw[position], (double)wanted);
                fail();
            }
        }
        for (size_t i = 0; i < side * side; i++)
            for (size_t c = 0; c < 3; c++)
                assert_true(nhwc[i * 3 + c] == nchw[c * side * side + i]);
        dla_image_destroy(image);
        free(nchw);
        free(nhwc);
        count++;
    }
    fclose(list);
    assert_int_equal(count, 14);
}

/* Resized as a whole it would have 12.8 million columns. */
static void a_line_of_pixels_costs_no_more_than_the_crop(void **state)
{
    enum { WIDTH = 50000, SIZE = 64 };
    dla_preprocessing preprocessing = DLA_PREPROCESSING_IMAGENET;
    uint8_t *pixels = make_source(1, WIDTH, 1, false);
    float *output = malloc(3 * SIZE * SIZE * sizeof(float));
    dla_image *image = NULL;

    (void)state;
    preprocessing.size = SIZE;
    assert_ok(dla_image_from_pixels(pixels, 1, WIDTH, WIDTH, DLA_PIXELS_GREY, &image));
    assert_ok(dla_image_preprocess(image, &preprocessing, DLA_LAYOUT_NHWC, output));
    for (int i = 0; i < SIZE; i++) /* one row of source: all rows are equal */
        assert_memory_equal(output + (size_t)i * SIZE * 3, output, SIZE * 3 * sizeof(float));
    dla_image_destroy(image);
    free(pixels);
    free(output);
}

static void crop_starts_are_rounded_as_python_rounds(void **state)
{
    (void)state;
    assert_int_equal(centre_crop_start(256, 224), 16);
    assert_int_equal(centre_crop_start(225, 224), 0); /* 0.5 */
    assert_int_equal(centre_crop_start(227, 224), 2); /* 1.5 */
    assert_int_equal(centre_crop_start(229, 224), 2); /* 2.5 */
    assert_int_equal(centre_crop_start(231, 224), 4); /* 3.5 */
    assert_int_equal(centre_crop_start(10, 13), -1);  /* padded: the odd pixel goes behind */
}

static void nonsense_is_refused(void **state)
{
    static const uint8_t pixel[3];
    const dla_preprocessing sound = DLA_PREPROCESSING_IMAGENET;
    dla_preprocessing bad[6] = {sound, sound, sound, sound, sound, sound};
    static const char *const messages[6] = {"size is 0", "crop_pct is 0", "crop_pct is nan", "42 is not a dla_interpolation",
                                            "std 0",     "mean inf"};
    dla_image *image = NULL;
    float output[3];

    (void)state;
    bad[0].size = 0;
    bad[1].crop_pct = 0;
    bad[2].crop_pct = NAN;
    bad[3].interpolation = (dla_interpolation)42;
    bad[4].std[1] = 0;
    bad[5].mean[2] = INFINITY;
    assert_ok(dla_image_from_pixels(pixel, 1, 1, 3, DLA_PIXELS_RGB, &image));
    for (int i = 0; i < 6; i++) {
        assert_int_equal(dla_image_preprocess(image, &bad[i], DLA_LAYOUT_NCHW, output), DLA_ERROR_ARGUMENT);
        assert_message_contains(messages[i]);
    }
    dla_image_destroy(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resizing_equals_pillow_bit_for_bit),
        cmocka_unit_test(preprocessing_equals_torchvision),
        cmocka_unit_test(a_line_of_pixels_costs_no_more_than_the_crop),
        cmocka_unit_test(crop_starts_are_rounded_as_python_rounds),
        cmocka_unit_test(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
