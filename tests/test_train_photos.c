/* How photographs come to the trainer: JPEGs decoded at a fraction of their size, and the file of decoded ones. */
#include "image/decode.h"
#include "train/augment.h"
#include "train/loader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PHOTOGRAPH TEST_DATA "/../../examples/photos/berlin_cathedral.jpg" /* 640 x 427 */

static int divide(void *context, int height, int width)
{
    (void)height;
    (void)width;
    return *(int *)context;
}

/* Mean of the full picture's block that pixel (y, x) of the reduced one stands for. */
static double block_mean(const dla_image *full, int divisor, int y, int x, int channel)
{
    double sum = 0.0;
    int count = 0;
    for (int dy = 0; dy < divisor && y * divisor + dy < full->height; dy++)
        for (int dx = 0; dx < divisor && x * divisor + dx < full->width; dx++, count++)
            sum += full->pixels[((y * divisor + dy) * full->width + x * divisor + dx) * 3 + channel];
    return sum / count;
}

static void reduced_pictures_are_smaller_ones_of_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool turned; /* its blocks begin at the other end: sizes alone are compared */
    } cases[] = {{PHOTOGRAPH, false}, {TEST_DATA "/images/exif_6.jpg", true}, {TEST_DATA "/images/grey.jpg", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int divisor = 1; divisor <= 8; divisor *= 2) {
            struct image_reduction reduction = {.choose = divide, .context = &divisor};
            dla_image *full, *small;
            double difference = 0.0;
            assert_int_equal(dla_image_read(cases[i].path, NULL, &full), DLA_OK);
            assert_int_equal(image_read_reduced(cases[i].path, &reduction, &small), DLA_OK);
            assert_int_equal(reduction.full_height, full->height);
            assert_int_equal(reduction.full_width, full->width);
            assert_int_equal(small->height, (full->height + divisor - 1) / divisor);
            assert_int_equal(small->width, (full->width + divisor - 1) / divisor);
            for (int y = 0; y < small->height; y++)
                for (int x = 0; x < small->width; x++)
                    for (int c = 0; c < 3; c++) {
                        double d = small->pixels[(y * small->width + x) * 3 + c] - block_mean(full, divisor, y, x, c);
                        difference += d < 0 ? -d : d;
                    }
            difference /= 3.0 * small->height * small->width;
            if (!cases[i].turned && difference > (divisor == 1 ? 0.0 : 4.0)) /* of 255 */
                fail_msg("%s at 1/%d is off by %.2f", cases[i].path, divisor, difference);
            dla_image_destroy(full);
            dla_image_destroy(small);
        }
}

static void other_formats_stay_whole(void **state)
{
    (void)state;
    int divisor = 4;
    struct image_reduction reduction = {.choose = divide, .context = &divisor};
    dla_image *full, *same;
    assert_int_equal(dla_image_read(TEST_DATA "/images/grey_8.png", NULL, &full), DLA_OK);
    assert_int_equal(image_read_reduced(TEST_DATA "/images/grey_8.png", &reduction, &same), DLA_OK);
    assert_int_equal(reduction.full_height, full->height);
    assert_int_equal(same->width, full->width);
    dla_image_destroy(full);
    dla_image_destroy(same);
}

/* One batch of `size` pixels with one photograph under eight keys. */
enum { KEYS = 8 };
static void load(int size, bool reduced, float *out)
{
    struct sample sample = {PHOTOGRAPH, 0, NULL};
    struct sample_list list = {&sample, 1};
    dla_augmentation augmentation = DLA_AUGMENTATION_INIT;
    augmentation.min_area = 0.3;
    struct loader_options options = {.samples = &list, .augmentation = &augmentation, .batch = KEYS, .size = size, .threads = 2};
    struct loader *loader;
    const struct loaded_batch *batch;
    size_t indices[KEYS] = {0};
    uint64_t keys[KEYS];
    options.reduced = reduced;
    for (int i = 0; i < 3; i++)
        options.std[i] = 1.0f;
    for (int i = 0; i < KEYS; i++)
        keys[i] = (uint64_t)i;
    assert_int_equal(loader_create(&options, &loader), DLA_OK);
    loader_request(loader, indices, keys, size);
    assert_int_equal(loader_next(loader, &batch), DLA_OK);
    memcpy(out, batch->inputs, sizeof(float) * KEYS * (size_t)size * (size_t)size * 3);
    loader_destroy(loader);
}

static void crops_of_reduced_pictures_are_nearly_the_same(void **state)
{
    (void)state;
    static const struct {
        int size;
        bool reduces;
    } cases[] = {{32, true}, {64, true}, {230, false}};
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        size_t floats = (size_t)KEYS * (size_t)cases[k].size * (size_t)cases[k].size * 3;
        float *whole = malloc(floats * sizeof(float)), *reduced = malloc(floats * sizeof(float));
        double difference = 0.0;
        assert_true(whole && reduced);
        load(cases[k].size, false, whole);
        load(cases[k].size, true, reduced);
        for (size_t i = 0; i < floats; i++)
            difference += (double)(whole[i] > reduced[i] ? whole[i] - reduced[i] : reduced[i] - whole[i]) / (double)floats;
        if (difference > (cases[k].reduces ? 0.02 : 0.0) || (cases[k].reduces && difference == 0.0))
            fail_msg("size %d: mean difference %.4f", cases[k].size, difference);
        free(whole);
        free(reduced);
    }
}

/* ---- the file of decoded photographs ---- */

static void assert_same_picture(dla_image *a, dla_image *b)
{
    assert_true(a && b);
    assert_int_equal(a->height, b->height);
    assert_int_equal(a->width, b->width);
    assert_memory_equal(a->pixels, b->pixels, (size_t)a->height * (size_t)a->width * 3);
}

static void a_file_of_photographs_survives(void **state)
{
    (void)state;
    char folder[] = "/tmp/dla_photos_XXXXXX", path[64], copy[64], command[256];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/cache", folder);
    snprintf(copy, sizeof(copy), "%s/copy.jpg", folder);
    snprintf(command, sizeof(command), "cp '%s' '%s'", TEST_DATA "/images/base_444.jpg", copy);
    assert_int_equal(system(command), 0);
    struct sample samples[] = {{PHOTOGRAPH, 0, NULL}, {copy, 1, NULL}, {TEST_DATA "/images/grey.jpg", 0, NULL}};
    struct sample_list list = {samples, 3};
    dla_image *pictures[3];
    struct photo_cache *cache, *second;
    for (int i = 0; i < 3; i++)
        assert_int_equal(dla_image_read(samples[i].path, NULL, &pictures[i]), DLA_OK);

    assert_int_equal(photo_cache_open(path, &list, &cache), DLA_OK);
    assert_null(photo_cache_get(cache, 0));
    for (size_t i = 0; i < 3; i++)
        assert_true(photo_cache_put(cache, i, pictures[i]));
    assert_int_equal(photo_cache_open(path, &list, &second), DLA_ERROR_ARGUMENT); /* while it is open */
    photo_cache_close(cache);

    /* The last record is torn, the second photograph has changed. */
    snprintf(command, sizeof(command), "truncate -s -5 '%s' && cp '%s' '%s'", path, TEST_DATA "/images/rgb.jpg", copy);
    assert_int_equal(system(command), 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(photo_cache_open(path, &list, &cache), DLA_OK);
        dla_image *back = photo_cache_get(cache, 0);
        assert_same_picture(back, pictures[0]);
        dla_image_destroy(back);
        assert_null(photo_cache_get(cache, 1));
        if (round == 0) {
            assert_null(photo_cache_get(cache, 2));
            assert_true(photo_cache_put(cache, 2, pictures[2]));
        }
        back = photo_cache_get(cache, 2);
        assert_same_picture(back, pictures[2]);
        dla_image_destroy(back);
        photo_cache_close(cache);
    }
    assert_int_equal(photo_cache_open(copy, &list, &cache), DLA_ERROR_FORMAT); /* a JPEG is not overwritten */
    for (int i = 0; i < 3; i++)
        dla_image_destroy(pictures[i]);
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reduced_pictures_are_smaller_ones_of_the_same),
        cmocka_unit_test(other_formats_stay_whole),
        cmocka_unit_test(crops_of_reduced_pictures_are_nearly_the_same),
        cmocka_unit_test(a_file_of_photographs_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
