/* test_config.c - config files: what is written can be read, and whatever is wrong is named with what would be right. */
#include "weights_check.h"

#include "net/network.h"

static dla_status parse(const char *json, dla_architecture *architecture)
{
    return dla_architecture_parse_config(json, strlen(json), "net.json", architecture);
}

static void what_is_written_can_be_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        const dla_architecture *original = dla_architecture_at(i);
        dla_architecture again;
        char *json = NULL, *json_again = NULL;

        memset(&again, 0xa5, sizeof(again));
        assert_ok(dla_architecture_to_config(original, &json));
        assert_ok(parse(json, &again));
        assert_string_equal(again.name, original->name);
        assert_memory_equal(again.levels, original->levels, sizeof(again.levels));
        assert_memory_equal(again.channels, original->channels, sizeof(again.channels));
        assert_int_equal(again.block, original->block);
        assert_int_equal(again.cardinality, original->cardinality);
        assert_int_equal(again.base_width, original->base_width);
        assert_int_equal(again.scale, original->scale);
        assert_int_equal(again.residual_root, original->residual_root);
        assert_int_equal(again.num_classes, original->num_classes);
        assert_int_equal(again.in_channels, original->in_channels);
        assert_int_equal(again.output_stride, original->output_stride);
        assert_int_equal(again.down_ratio, original->down_ratio);
        assert_ok(dla_architecture_to_config(&again, &json_again));
        assert_string_equal(json, json_again);
        dla_free(json);
        dla_free(json_again);
    }
}

static void what_is_left_out_has_its_default(void **state)
{
    dla_architecture architecture;

    (void)state;
    assert_ok(parse("{\"block\": \"bottle2neck\", \"levels\": [1,1,1,1,1,1], \"channels\": [8,8,32,32,32,64]}", &architecture));
    assert_string_equal(architecture.name, "custom");
    assert_int_equal(architecture.cardinality, 1);
    assert_int_equal(architecture.base_width, 64);
    assert_int_equal(architecture.scale, 4);
    assert_false(architecture.residual_root);
    assert_int_equal(architecture.num_classes, 1000);
    assert_int_equal(architecture.in_channels, 3);
    assert_int_equal(architecture.output_stride, 32);
    assert_int_equal(architecture.down_ratio, 0);
}

#define LEVELS "\"levels\": [1,1,1,2,2,1], "
#define CHANNELS "\"channels\": [16,32,64,128,256,512]"
#define BASIC "\"block\": \"basic\", "
#define BOTTLENECK "\"block\": \"bottleneck\", "

static const struct {
    const char *json;
    dla_status status;
    const char *message_part;
} wrong[] = {
    {"", DLA_ERROR_FORMAT, "net.json:1:0: not a JSON object"},
    {"{" LEVELS CHANNELS ",}", DLA_ERROR_FORMAT, "net.json:1:"},
    {"[1]", DLA_ERROR_FORMAT, "net.json: is an array, must be an object"},
    {"{} {}", DLA_ERROR_FORMAT, "net.json:1:"},
    {"{}", DLA_ERROR_FORMAT, "'block' is missing"},
    {"{\"block\": 1}", DLA_ERROR_FORMAT, "block is a whole number, must be text"},
    {"{\"block\": \"basics\"}", DLA_ERROR_ARGUMENT, "block is \"basics\", legal is \"basic\", \"bottleneck\" or \"bottle2neck\""},
    {"{" BASIC CHANNELS "}", DLA_ERROR_FORMAT, "'levels' is missing: it must be an array of 6 whole numbers"},
    {"{" BASIC LEVELS CHANNELS ", \"cardinality\": 1}", DLA_ERROR_FORMAT, "'cardinality' means nothing for block \"basic\""},
    {"{" BASIC LEVELS CHANNELS ", \"chanels\": 1}", DLA_ERROR_FORMAT, "unknown key 'chanels'; did you mean 'channels'?"},
    {"{" BASIC LEVELS CHANNELS ", \"optimizer\": 1}", DLA_ERROR_FORMAT, "unknown key 'optimizer'; `dla info MODEL --print-config`"},
    {"{" BASIC BASIC LEVELS CHANNELS "}", DLA_ERROR_FORMAT, "duplicate"},
    {"{" BASIC LEVELS CHANNELS ", \"name\": 5}", DLA_ERROR_FORMAT, "name is a whole number, must be text"},
    {"{" BASIC LEVELS CHANNELS ", \"name\": \"\"}", DLA_ERROR_ARGUMENT, "legal are 1 to 63 letters"},
    {"{" BASIC LEVELS CHANNELS ", \"name\": \"a\\u001b[2J\"}", DLA_ERROR_ARGUMENT, "name is 'a?[2J'"},
    {"{" BASIC LEVELS CHANNELS ", \"residual_root\": 1}", DLA_ERROR_FORMAT, "residual_root is a whole number, must be true or false"},
    {"{" BASIC LEVELS "\"channels\": 16}", DLA_ERROR_FORMAT, "channels is a whole number, must be an array of 6"},
    {"{" BASIC LEVELS "\"channels\": [16,32,64,128,256]}", DLA_ERROR_FORMAT, "channels has 5 numbers, must have 6"},
    {"{" BASIC LEVELS "\"channels\": [16,32,64,128,256,512.0]}", DLA_ERROR_FORMAT, "channels[5] is a number with a fraction"},
    {"{" BASIC LEVELS "\"channels\": [16,32,64,128,256,0]}", DLA_ERROR_ARGUMENT, "channels[5] is 0, legal is 1 to 16384"},
    {"{" BASIC CHANNELS ", \"levels\": [1,1,1,2,9,1]}", DLA_ERROR_ARGUMENT, "levels[4] is 9, legal is 1 to 8"},
    {"{" BASIC LEVELS CHANNELS ", \"num_classes\": -1}", DLA_ERROR_ARGUMENT, "num_classes is -1, legal is 0 to 1000000"},
    {"{" BASIC LEVELS CHANNELS ", \"num_classes\": 4294967297}", DLA_ERROR_ARGUMENT, "num_classes is 4294967297, legal is"},
    {"{" BASIC LEVELS CHANNELS ", \"num_classes\": null}", DLA_ERROR_FORMAT, "num_classes is null, must be a whole number"},
    {"{" BASIC LEVELS CHANNELS ", \"in_channels\": 0}", DLA_ERROR_ARGUMENT, "in_channels is 0, legal is 1 to 1024"},
    {"{" BASIC LEVELS CHANNELS ", \"output_stride\": 12}", DLA_ERROR_ARGUMENT, "output_stride is 12, legal is 32, 16 or 8"},
    {"{" BASIC LEVELS CHANNELS ", \"down_ratio\": 3}", DLA_ERROR_ARGUMENT, "down_ratio is 3, legal is 0, 2, 4, 8 or 16"},
    {"{" BASIC LEVELS CHANNELS ", \"down_ratio\": 4, \"num_classes\": 0}", DLA_ERROR_ARGUMENT, "num_classes is 0, but dense prediction"},
    {"{" BASIC LEVELS CHANNELS ", \"down_ratio\": 4, \"output_stride\": 16}", DLA_ERROR_ARGUMENT, "output_stride is 16, but dense prediction"},
    {"{" BOTTLENECK LEVELS CHANNELS ", \"cardinality\": 0}", DLA_ERROR_ARGUMENT, "cardinality is 0, legal is 1 to 1024"},
    {"{" BOTTLENECK LEVELS CHANNELS ", \"base_width\": 1025}", DLA_ERROR_ARGUMENT, "base_width is 1025, legal is 1 to 1024"},
    {"{" BOTTLENECK LEVELS CHANNELS ", \"scale\": 4}", DLA_ERROR_FORMAT, "'scale' means nothing for block \"bottleneck\""},
    {"{" BOTTLENECK LEVELS "\"channels\": [16,32,64,72,256,512], \"cardinality\": 32, \"base_width\": 8}", DLA_ERROR_ARGUMENT,
     "channels[3] = 72 with base_width 8 and cardinality 32 gives 3x3 convolutions of 144 channels"},
    {"{" BOTTLENECK LEVELS "\"channels\": [16,32,64,1,256,512]}", DLA_ERROR_ARGUMENT, "gives 3x3 convolutions of 0 channels"},
};

static void what_is_wrong_is_named(void **state)
{
    dla_architecture untouched, architecture;

    (void)state;
    memset(&untouched, 0x5a, sizeof(untouched));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        architecture = untouched;
        dla_status status = parse(wrong[i].json, &architecture);
        if (status != wrong[i].status)
            print_error("%s: status %s: %s\n", wrong[i].json, dla_status_name(status), dla_error_message());
        assert_int_equal(status, wrong[i].status);
        assert_message_contains(wrong[i].message_part);
        assert_message_contains("net.json");
        assert_memory_equal(&architecture, &untouched, sizeof(architecture));
    }
}

static void a_text_with_a_nul_is_refused(void **state)
{
    static const char json[] = "{\"name\": \"a\0b\", " BASIC LEVELS CHANNELS "}";
    static const char escaped[] = "{\"name\": \"a\\u0000b\", " BASIC LEVELS CHANNELS "}";
    dla_architecture architecture;

    (void)state;
    assert_int_equal(dla_architecture_parse_config(json, sizeof(json) - 1, "net.json", &architecture), DLA_ERROR_FORMAT);
    assert_int_equal(dla_architecture_parse_config(escaped, sizeof(escaped) - 1, "net.json", &architecture), DLA_ERROR_FORMAT);
}

/* The same ranges hold for an architecture that a program fills in. */
static void architectures_from_programs_are_checked(void **state)
{
    dla_architecture architecture;
    dla_network *network = NULL;

    (void)state;
    assert_ok(dla_architecture_find("dla34", &architecture));
    architecture.levels[2] = 0;
    assert_int_equal(dla_network_create(&architecture, &network), DLA_ERROR_ARGUMENT);
    assert_message_contains("levels[2] is 0, legal is 1 to 8");
    assert_ok(dla_architecture_find("dla34", &architecture));
    architecture.block = (dla_block)7;
    assert_int_equal(dla_network_create(&architecture, &network), DLA_ERROR_ARGUMENT);
    assert_message_contains("block is 7");
    assert_ok(dla_architecture_find("dla34", &architecture));
    memset(architecture.name, 'x', sizeof(architecture.name));
    assert_int_equal(dla_network_create(&architecture, &network), DLA_ERROR_ARGUMENT);
    assert_message_contains("1 to 63 letters");
    assert_ok(dla_architecture_find("dla34", &architecture));
    architecture.cardinality = 0;   /* means nothing for basic blocks, so it may be anything */
    architecture.base_width = 0;
    assert_ok(dla_network_create(&architecture, &network));
    dla_network_destroy(network);
}

/* The largest trees that a config can ask for can be built, named and drawn. */
static void the_largest_legal_network_can_be_built(void **state)
{
    dla_architecture architecture;
    dla_network *network = NULL;
    char *text = NULL;

    (void)state;
    assert_ok(parse("{\"block\": \"bottle2neck\", \"scale\": 16, \"levels\": [8,8,8,8,8,8], \"channels\": [16,16,32,32,32,64]}", &architecture));
    assert_ok(dla_network_create(&architecture, &network));
    assert_int_not_equal(graph_find_value(&network->graph, "level5.tree2.tree2.tree2.tree2.tree2.tree2.tree2.tree2.convs.14"), NO_VALUE);
    assert_ok(dla_network_to_text(network, &text));
    assert_non_null(strstr(text, "root"));
    dla_free(text);
    dla_network_destroy(network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_text_with_a_nul_is_refused),
        cmocka_unit_test(architectures_from_programs_are_checked),
        cmocka_unit_test(the_largest_legal_network_can_be_built),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
