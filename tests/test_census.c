/* test_census.c - parameters, multiply-adds and FLOPs of the twelve networks are the published ones, to the last digit. */
#include "weights_check.h"

#include "net/network.h"

#include <limits.h>

/* 224 x 224, 1000 classes. FLOPs as published; the parameter counts are timm's. */
static const struct {
    const char *name;
    int64_t params, unused_params, macs, flops, batch_norm_outputs, published_file_bytes;
} published[] = {
    {"dla34", 15742104, 41728, 3060043776, 3070105576, 5017600, 63228658},
    {"dla46_c", 1301400, 8448, 574269440, 583277288, 4497024, 5307963},
    {"dla46x_c", 1068440, 8448, 532723712, 544052200, 5657344, 4387641},
    {"dla60x_c", 1319832, 16896, 581294080, 593325032, 6008576, 5454396},
    {"dla60", 22036632, 297472, 4235878400, 4256251880, 10160640, 89560235},
    {"dla60x", 17352344, 297472, 3516555264, 3544204264, 13798400, 70883139},
    {"dla102", 33268888, 462848, 7164551168, 7192952808, 14174720, 135290579},
    {"dla102x", 26309272, 462848, 5847932928, 5886821352, 19418112, 107552695},
    {"dla102x2", 41282200, 462848, 9283985408, 9343847400, 29904896, 167645295},
    {"dla169", 53389720, 599296, 11557560320, 11598004200, 20195840, 216547113},
    {"dla60_res2net", 20848072, 297472, 4122681344, 4147578504, 12340160, 84886593},
    {"dla60_res2next", 17032984, 297472, 3458752512, 3485335272, 13171200, 69639245},
};
enum { PUBLISHED_COUNT = sizeof(published) / sizeof(published[0]) };

static dla_census count(const char *name, int height, int width)
{
    dla_architecture architecture;
    dla_network *network = NULL;
    dla_census census;

    assert_ok(dla_architecture_find(name, &architecture));
    assert_ok(dla_network_create(&architecture, &network));
    assert_ok(dla_network_census(network, height, width, &census));
    dla_network_destroy(network);
    return census;
}

static void counts_are_the_published_ones(void **state)
{
    (void)state;
    assert_int_equal(dla_architecture_count(), PUBLISHED_COUNT);
    for (int i = 0; i < PUBLISHED_COUNT; i++) {
        dla_census census = count(published[i].name, 224, 224);
        assert_int_equal(census.params, published[i].params);
        assert_int_equal(census.unused_params, published[i].unused_params);
        assert_int_equal(census.macs, published[i].macs);
        assert_int_equal(census.flops, published[i].flops);
        assert_int_equal(census.batch_norm_outputs, published[i].batch_norm_outputs);
        /* Every convolution but the classifier has its batch norm. */
        assert_int_equal(census.activations, published[i].batch_norm_outputs + 1000);
    }
}

/* The authors' files hold parameters, unused projections and running statistics as float32, and 26 to 156 KB of container. */
static void published_files_are_explained(void **state)
{
    (void)state;
    for (int i = 0; i < PUBLISHED_COUNT; i++) {
        dla_architecture architecture;
        dla_network *network = NULL;
        int64_t elements = 0;

        assert_ok(dla_architecture_find(published[i].name, &architecture));
        assert_ok(dla_network_create(&architecture, &network));
        for (int p = 0; p < network->graph.parameter_count; p++)
            elements += network->graph.parameters[p].elements;
        for (int p = 0; p < network->graph.unused_count; p++)
            elements += network->graph.unused[p].elements;
        assert_in_range(published[i].published_file_bytes - 4 * elements, 26000, 156999);
        dla_network_destroy(network);
    }
}

static void levels_are_described(void **state)
{
    static const int channels[] = {16, 32, 64, 128, 256, 512};
    dla_census census = count("dla34", 225, 319);

    (void)state;
    for (int level = 0; level < DLA_LEVEL_COUNT; level++) {
        char name[16];
        snprintf(name, sizeof(name), "level%d", level);
        assert_string_equal(census.levels[level].name, name);
        assert_int_equal(census.levels[level].stride, 1 << level);
        assert_int_equal(census.levels[level].channels, channels[level]);
        assert_int_equal(census.levels[level].height, (225 + (1 << level) - 1) >> level);   /* rounded up at each halving */
        assert_int_equal(census.levels[level].width, (319 + (1 << level) - 1) >> level);
    }
}

/* Doubling both sides quadruples everything but the classifier. */
static void counts_follow_the_size(void **state)
{
    dla_census small = count("dla60_res2next", 224, 160), large = count("dla60_res2next", 448, 320);
    int64_t classifier = 1024 * 1000;

    (void)state;
    assert_int_equal(small.params, large.params);
    assert_int_equal(4 * (small.macs - classifier), large.macs - classifier);
    assert_int_equal(4 * small.batch_norm_outputs, large.batch_norm_outputs);
    assert_int_equal(4 * (small.activations - 1000), large.activations - 1000);
}

static void counts_beyond_64_bits_are_an_error(void **state)
{
    dla_architecture architecture;
    dla_network *network = NULL;
    dla_census census;

    (void)state;
    assert_ok(dla_architecture_find("dla34", &architecture));
    for (int level = 0; level < DLA_LEVEL_COUNT; level++)
        architecture.channels[level] = 16384;
    assert_ok(dla_network_create(&architecture, &network));
    assert_int_equal(dla_network_census(network, 65536, 65536, &census), DLA_ERROR_LIMIT);
    assert_message_contains("64 bits");
    assert_int_equal(dla_network_census(network, 16, 224, &census), DLA_ERROR_ARGUMENT);
    dla_network_destroy(network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_the_published_ones),
        cmocka_unit_test(published_files_are_explained),
        cmocka_unit_test(levels_are_described),
        cmocka_unit_test(counts_follow_the_size),
        cmocka_unit_test(counts_beyond_64_bits_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
