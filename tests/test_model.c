/* test_model.c - from weights to a model: which network, which labels, which preprocessing, and the built-in one. */
#include "tasks/model_card.h"
#include "tasks/recognise.h"

#include "weights_making.h"

#include <sys/stat.h>

static char folder[512], weights_path[600], config_path[600];

static void write_text(const char *path, const char *text)
{
    assert_ok(file_write(path, text, strlen(text)));
}

static void write_weights(const struct made_weights *made, const struct metadata_entry *metadata, int metadata_count)
{
    assert_ok(safetensors_write(weights_path, made->tensors, made->count, metadata, metadata_count, DTYPE_F16));
}

static dla_status open_weights(const dla_architecture *architecture, dla_model **model)
{
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    options.architecture = architecture;
    options.weights = weights_path;
    return dla_model_open(&options, model);
}

static void refuse(const dla_architecture *architecture, dla_status wanted, const char *message_part)
{
    dla_model *model = NULL;
    assert_int_equal(open_weights(architecture, &model), wanted);
    assert_null(model);
    assert_message_contains(message_part);
}

static int remove_files(void **state)
{
    (void)state;
    unlink(weights_path);
    unlink(config_path);
    return 0;
}

static void the_built_in_network_needs_nothing(void **state)
{
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_architecture other;
    dla_model *model = NULL;

    (void)state;
    assert_ok(dla_model_open(NULL, &model));
    assert_string_equal(dla_network_architecture(dla_model_network(model))->name, "dla46_c");
    assert_int_equal(dla_model_class_count(model), 10);
    assert_string_equal(dla_model_label(model, 6), "garbage truck");
    assert_string_equal(dla_model_wnid(model, 9), "n03888257");
    assert_null(dla_model_label(model, 10));
    assert_null(dla_model_label(model, -1));
    assert_int_equal(dla_model_preprocessing(model)->size, 160);
    assert_true(dla_model_preprocessing(model)->crop_pct == 0.95);
    assert_true(dla_model_preprocessing(model)->mean[0] == 0.485f);
    dla_model_close(model);

    model = NULL;
    assert_ok(dla_architecture_find("dla34", &other));
    options.architecture = &other;
    assert_int_equal(dla_model_open(&options, &model), DLA_ERROR_NOT_FOUND);
    assert_message_contains("only dla46_c is built in; dla34 needs a weights file");
}

static void options_must_be_initialised(void **state)
{
    dla_model_options options = {0};
    dla_model *model = NULL;

    (void)state;
    assert_int_equal(dla_model_open(&options, &model), DLA_ERROR_ARGUMENT);
    assert_message_contains("DLA_MODEL_OPTIONS_INIT");
}

static void metadata_say_everything(void **state)
{
    static const struct metadata_entry metadata[] = {
        {"architecture", "dla46_c"},
        {"num_classes", "2"},
        {"labels", "[\"cat\", \"dog\"]"},
        {"wnids", "[\"n00000001\", \"n00000002\"]"},
        {"pretrained_cfg", "{\"input_size\": [3, 128, 128], \"crop_pct\": 1.0, \"interpolation\": \"bicubic\", \"mean\": [0, 0.5, 1],"
                           " \"std\": [1, 2, 3], \"url\": \"\"}"},
    };
    struct made_weights made = make_weights("dla46_c", 2);
    dla_model *model = NULL;

    (void)state;
    write_weights(&made, metadata, 5);
    assert_ok(open_weights(NULL, &model));
    assert_string_equal(dla_model_label(model, 1), "dog");
    assert_string_equal(dla_model_wnid(model, 0), "n00000001");
    const dla_preprocessing *p = dla_model_preprocessing(model);
    assert_int_equal(p->size, 128);
    assert_int_equal(p->interpolation, DLA_INTERPOLATION_BICUBIC);
    assert_true(p->crop_pct == 1.0 && p->mean[1] == 0.5f && p->std[2] == 3.0f);
    assert_non_null(strstr(dla_model_report(model), "dla46_c (metadata), 2 classes, labels of its own"));
    dla_model_close(model);
    free_made_weights(&made);
}

static void damaged_metadata_are_refused(void **state)
{
    static const struct {
        const char *key, *text;
        dla_status status;
        const char *message_part;
    } cases[] = {
        {"architecture", "dla35", DLA_ERROR_NOT_FOUND, "dla34"},
        {"num_classes", "two", DLA_ERROR_FORMAT, "'num_classes' is not JSON"},
        {"num_classes", "-2", DLA_ERROR_FORMAT, "'num_classes' is not a whole number"},
        {"num_classes", "3", DLA_ERROR_MISMATCH, "'fc.weight' is (2, 256, 1, 1), dla46_c needs (3, 256, 1, 1)"},
        {"labels", "[\"cat\"]", DLA_ERROR_MISMATCH, "1 labels for 2 classes"},
        {"labels", "[1, 2]", DLA_ERROR_FORMAT, "entry 0 is not a text"},
        {"labels", "{}", DLA_ERROR_FORMAT, "not an array"},
        {"wnids", "[\"a\"]", DLA_ERROR_MISMATCH, "1 WordNet ids for 2 classes"},
        {"pretrained_cfg", "{\"input_size\": [3, 128, 160]}", DLA_ERROR_UNSUPPORTED, "128 x 160"},
        {"pretrained_cfg", "{\"input_size\": [3, 128]}", DLA_ERROR_FORMAT, "input_size"},
        {"pretrained_cfg", "{\"crop_pct\": 0}", DLA_ERROR_FORMAT, "crop_pct"},
        {"pretrained_cfg", "{\"interpolation\": \"lanczos\"}", DLA_ERROR_UNSUPPORTED, "lanczos"},
        {"pretrained_cfg", "{\"crop_mode\": \"squash\"}", DLA_ERROR_UNSUPPORTED, "squash"},
        {"pretrained_cfg", "{\"std\": [1, 0, 1]}", DLA_ERROR_FORMAT, "above 0"},
        {"pretrained_cfg", "{\"mean\": [1, 0]}", DLA_ERROR_FORMAT, "three numbers"},
    };
    struct made_weights made = make_weights("dla46_c", 2);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct metadata_entry metadata[] = {{"architecture", "dla46_c"}, {cases[i].key, cases[i].text}};
        bool replaces = strcmp(cases[i].key, "architecture") == 0;
        write_weights(&made, metadata + replaces, 2 - replaces);
        refuse(NULL, cases[i].status, cases[i].message_part);
    }
    free_made_weights(&made);
}

static void a_config_beside_the_weights_is_read(void **state)
{
    static const char config[] = "{\"architecture\": \"dla46_c\", \"num_classes\": 2, \"num_features\": 256, \"pretrained_cfg\": {"
                                 "\"tag\": \"in1k\", \"input_size\": [3, 192, 192], \"crop_pct\": 0.9, \"interpolation\": \"bilinear\","
                                 "\"label_names\": [\"n01440764\", \"n02102040\"], \"label_descriptions\": {\"n02102040\": \"spaniel\"}}}";
    struct made_weights made = make_weights("dla46_c", 2);
    dla_model *model = NULL;

    (void)state;
    write_weights(&made, NULL, 0);
    write_text(config_path, config);
    assert_ok(open_weights(NULL, &model));
    assert_int_equal(dla_model_preprocessing(model)->size, 192);
    assert_string_equal(dla_model_wnid(model, 0), "n01440764");
    assert_string_equal(dla_model_label(model, 0), "tench, Tinca tinca"); /* a WordNet id that ImageNet knows */
    assert_string_equal(dla_model_label(model, 1), "spaniel");            /* the file's own word wins */
    dla_model_close(model);

    write_text(config_path, "{\"architecture\": \"dla46_c\", \"num_classes\": 2, \"input_size\": [3, 96, 96], \"crop_pct\": null,"
                            " \"labels\": [\"cat\", \"dog\"]}"); /* as timm wrote it before 0.9 */
    assert_ok(open_weights(NULL, &model));
    assert_int_equal(dla_model_preprocessing(model)->size, 96);
    assert_true(dla_model_preprocessing(model)->crop_pct == 0.875);
    assert_string_equal(dla_model_label(model, 1), "dog");
    dla_model_close(model);

    write_text(config_path, "{\"model_type\": \"of something else\"}");
    assert_ok(open_weights(NULL, &model));
    assert_null(dla_model_label(model, 0));
    assert_int_equal(dla_model_preprocessing(model)->size, 224);
    dla_model_close(model);

    write_text(config_path, "{\"architecture\": ");
    refuse(NULL, DLA_ERROR_FORMAT, config_path);
    unlink(config_path);
    free_made_weights(&made);
}

/* Names and shapes alone: no two of the twelve have the same. */
static void the_tensors_tell_each_of_the_twelve(void **state)
{
    (void)state;
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        dla_architecture listed = *dla_architecture_at(i), recognised;
        struct tensor_file file = {.path = "test"};
        dla_network *network = NULL;

        listed.num_classes = 7;
        assert_ok(dla_network_create(&listed, &network));
        const struct graph *graph = &network->graph;
        file.tensors = calloc((size_t)graph->parameter_count, sizeof(*file.tensors));
        for (int p = 0; p < graph->parameter_count; p++) {
            file.tensors[p] = (struct tensor_view){.name = graph->parameters[p].name, .rank = graph->parameters[p].rank};
            memcpy(file.tensors[p].shape, graph->parameters[p].shape, sizeof(graph->parameters[p].shape));
        }
        file.tensor_count = graph->parameter_count;
        assert_ok(recognise_architecture(&file, &recognised));
        assert_string_equal(recognised.name, listed.name);
        assert_int_equal(recognised.num_classes, 7);
        free(file.tensors);
        dla_network_destroy(network);
    }
}

static void tensors_alone_are_enough(void **state)
{
    struct made_weights made = make_weights("dla46_c", 7);
    dla_model *model = NULL;

    (void)state;
    write_weights(&made, NULL, 0);
    assert_ok(open_weights(NULL, &model));
    assert_string_equal(dla_network_architecture(dla_model_network(model))->name, "dla46_c");
    assert_int_equal(dla_model_class_count(model), 7);
    assert_null(dla_model_label(model, 0));
    assert_non_null(strstr(dla_model_report(model), "recognised by its tensors"));
    dla_model_close(model);
    free_made_weights(&made);
}

static void unrecognised_tensors_are_refused(void **state)
{
    struct made_weights made = make_weights("dla46_c", 7);

    (void)state;
    add_tensor(&made, "extra", 1, (const int64_t[]){1});
    write_weights(&made, NULL, 0);
    refuse(NULL, DLA_ERROR_MISMATCH, "its tensors fit none");
    free_made_weights(&made);
}

static void a_thousand_classes_are_imagenets(void **state)
{
    struct made_weights made = make_weights("dla46_c", 1000);
    dla_model *model = NULL;

    (void)state;
    write_weights(&made, NULL, 0);
    assert_ok(open_weights(NULL, &model));
    assert_string_equal(dla_model_wnid(model, 0), "n01440764");
    assert_string_equal(dla_model_label(model, 0), "tench, Tinca tinca");
    assert_string_equal(dla_model_label(model, 569), "garbage truck, dustcart");
    assert_string_equal(dla_model_label(model, 999), "toilet tissue, toilet paper, bathroom tissue");
    for (int i = 1; i < 1000; i++)
        assert_true(strcmp(dla_model_wnid(model, i - 1), dla_model_wnid(model, i)) < 0);
    dla_model_close(model);
    free_made_weights(&made);
}

static void an_architecture_asked_for_wins(void **state)
{
    struct made_weights made = make_weights("dla46_c", 7);
    dla_architecture architecture;
    dla_model *model = NULL;

    (void)state;
    write_weights(&made, NULL, 0);
    assert_ok(dla_architecture_find("dla46_c", &architecture));
    refuse(&architecture, DLA_ERROR_MISMATCH, "'fc.weight' is (7, 256, 1, 1), dla46_c needs (1000, 256, 1, 1)");
    architecture.num_classes = DLA_CLASSES_OF_WEIGHTS;
    assert_ok(open_weights(&architecture, &model));
    assert_int_equal(dla_model_class_count(model), 7);
    dla_model_close(model);
    architecture.num_classes = 0;
    assert_ok(open_weights(&architecture, &model));
    assert_int_equal(dla_model_class_count(model), 0);
    dla_model_close(model);
    free_made_weights(&made);
}

/* A network of the user's own travels with its weights, through converting too. */
static void converted_weights_bring_their_network(void **state)
{
    struct made_weights made = make_weights("dla46_c", 2);
    dla_architecture own = *dla_network_architecture(made.network);
    const char *const labels[] = {"cat \"A\"", "dog"}, *const wnids[] = {"n1", "n2"};
    const dla_preprocessing preprocessing = {96, 0.9, DLA_INTERPOLATION_BICUBIC, {0.1f, 0.2f, 0.3f}, {0.4f, 0.5f, 0.6f}};
    struct arena arena = {0};
    struct metadata_entry *entries;
    char converted[620], *report = NULL;
    int entry_count;
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_model *model = NULL;

    (void)state;
    snprintf(own.name, sizeof(own.name), "mine");
    own.residual_root = true; /* no shape tells this */
    assert_ok(model_card_to_metadata(&own, &preprocessing, labels, wnids, &arena, &entries, &entry_count));
    for (int i = 0; i < made.count; i++)
        made.tensors[i].name = arena_format(&made.arena, "module.%s", made.tensors[i].name);
    add_tensor(&made, "module.base_layer.1.num_batches_tracked", 0, NULL);
    write_weights(&made, entries, entry_count);
    snprintf(converted, sizeof(converted), "%s/converted.safetensors", folder);
    assert_ok(dla_weights_convert(weights_path, converted, DLA_BFLOAT16, &report));
    assert_non_null(strstr(report, "prefix 'module.' removed"));
    dla_free(report);
    options.weights = converted;
    assert_ok(dla_model_open(&options, &model));
    const dla_architecture *read = dla_network_architecture(dla_model_network(model));
    assert_string_equal(read->name, "mine");
    assert_true(read->residual_root);
    assert_string_equal(dla_model_label(model, 0), labels[0]);
    assert_string_equal(dla_model_wnid(model, 1), wnids[1]);
    const dla_preprocessing *p = dla_model_preprocessing(model);
    assert_true(p->size == preprocessing.size && p->crop_pct == preprocessing.crop_pct && p->interpolation == preprocessing.interpolation);
    assert_memory_equal(p->mean, preprocessing.mean, sizeof(p->mean));
    assert_memory_equal(p->std, preprocessing.std, sizeof(p->std));
    assert_non_null(strstr(dla_model_report(model), "242 tensors used, 193 of float32, 49 of bfloat16"));
    assert_null(strstr(dla_model_report(model), "left out"));
    dla_model_close(model);
    unlink(converted);
    arena_free(&arena);
    free_made_weights(&made);
}

static void inspection_counts_and_compares(void **state)
{
    struct made_weights made = make_weights("dla46_c", 7);
    dla_weights *weights = NULL;
    dla_tensor_info info;
    dla_tensor_statistics statistics;
    dla_weights_fit fit;
    dla_architecture architecture;
    size_t stem = 0;

    (void)state;
    write_weights(&made, NULL, 0);
    assert_ok(dla_weights_open(weights_path, &weights));
    assert_string_equal(dla_weights_format(weights), "safetensors");
    assert_int_equal(dla_weights_tensor_count(weights), 242);
    do
        dla_weights_tensor(weights, stem++, &info);
    while (strcmp(info.name, "base_layer.1.weight") != 0);
    assert_string_equal(info.dtype, "float32");
    assert_int_equal(info.elements, 16);
    assert_ok(dla_weights_statistics(weights, stem - 1, &statistics));
    assert_true(statistics.minimum == 1 / 1024.0 && statistics.maximum == 16 / 1024.0 && statistics.mean == 8.5 / 1024.0);
    assert_float_equal(statistics.standard_deviation * 1024, 4.609772, 1e-5);
    assert_int_equal(statistics.nan_count + statistics.infinite_count, 0);
    assert_ok(dla_architecture_find("dla46_c", &architecture));
    assert_ok(dla_weights_check_fit(weights, &architecture, &fit));
    assert_int_equal(fit.missing + fit.unknown + fit.misshapen, 0);
    assert_string_equal(fit.problem, "");
    assert_ok(dla_architecture_find("dla34", &architecture));
    assert_ok(dla_weights_check_fit(weights, &architecture, &fit));
    assert_true(fit.missing > 0 && fit.unknown > 0 && fit.misshapen > 0);
    assert_non_null(strstr(fit.problem, "dla34 needs"));
    dla_weights_close(weights);
    free_made_weights(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_network_needs_nothing),
        cmocka_unit_test(options_must_be_initialised),
        cmocka_unit_test_teardown(metadata_say_everything, remove_files),
        cmocka_unit_test_teardown(damaged_metadata_are_refused, remove_files),
        cmocka_unit_test_teardown(a_config_beside_the_weights_is_read, remove_files),
        cmocka_unit_test(the_tensors_tell_each_of_the_twelve),
        cmocka_unit_test_teardown(tensors_alone_are_enough, remove_files),
        cmocka_unit_test_teardown(unrecognised_tensors_are_refused, remove_files),
        cmocka_unit_test_teardown(a_thousand_classes_are_imagenets, remove_files),
        cmocka_unit_test_teardown(an_architecture_asked_for_wins, remove_files),
        cmocka_unit_test_teardown(converted_weights_bring_their_network, remove_files),
        cmocka_unit_test_teardown(inspection_counts_and_compares, remove_files),
    };
    temporary_path(folder, sizeof(folder), "model");
    mkdir(folder, 0700);
    snprintf(weights_path, sizeof(weights_path), "%s/model.safetensors", folder);
    snprintf(config_path, sizeof(config_path), "%s/config.json", folder);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failures;
}
