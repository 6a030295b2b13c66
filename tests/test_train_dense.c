/* Training a class for every pixel: labels stay with their pixels through augmentation, the loss has the gradient it says, runs
 * learn and resume without a bit's difference, and what is wrong with the data is said in one line. */
#include "base/counter_random.h"
#include "image/image.h"
#include "tasks/dense_files.h"
#include "tasks/dense_target.h"
#include "train/augment_dense.h"
#include "train/dense_loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { HEIGHT = 40, WIDTH = 48, PHOTOGRAPHS = 8, PATH = 512 };

static char root[PATH];

static const char *path_of(const char *format, ...)
{
    enum { MOST = 8 };
    static char paths[MOST][2 * PATH];
    static int next;
    char *path = paths[next++ % MOST];
    va_list arguments;
    int length = snprintf(path, sizeof(paths[0]), "%s/", root);
    va_start(arguments, format);
    vsnprintf(path + length, sizeof(paths[0]) - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

static void assert_ok(dla_status status)
{
    if (status != DLA_OK)
        fail_msg("%s", dla_error_message());
}

static void assert_error(dla_status status, dla_status expected, const char *text)
{
    assert_int_equal(status, expected);
    if (strstr(dla_error_message(), text) == NULL)
        fail_msg("no '%s' in: %s", text, dla_error_message());
}

/* ---- data: a bright rectangle on dark ground, different in each photograph ---- */

enum { GROUND = 40, BRIGHT = 200 };

static bool in_rectangle(int index, int y, int x)
{
    return y >= 6 + index && y < 24 + index && x >= 8 + 2 * index && x < 26 + 2 * index;
}

static void make_photograph(int index, uint8_t *pixels, uint8_t *labels)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            bool inside = in_rectangle(index, y, x);
            labels[y * WIDTH + x] = inside ? 1 : y < 2 ? 9 : 0; /* 9: does not count */
            for (int c = 0; c < 3; c++)
                pixels[(y * WIDTH + x) * 3 + c] = (uint8_t)((inside ? BRIGHT : GROUND) + (x * 7 + y * 13 + c * 5) % 11);
        }
}

static void write_photograph(const uint8_t *pixels, int height, int width, const char *path)
{
    dla_image *image;
    assert_ok(dla_image_from_pixels(pixels, height, width, (size_t)width * 3, DLA_PIXELS_RGB, &image));
    assert_ok(dla_image_write_png(image, path));
    dla_image_destroy(image);
}

static void write_labels(const uint8_t *labels, int height, int width, const char *path)
{
    uint8_t palette[256][3];
    dla_class_palette(palette);
    assert_ok(dla_labels_write_png(labels, height, width, (const uint8_t(*)[3])palette, path));
}

static void copy_file(const char *from, const char *to)
{
    char command[4 * PATH];
    snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

/* folder/images and folder/labels, folder/groundTruth, folder/train.txt and val.txt in CamVid's form. */
static void make_data(const char *folder)
{
    uint8_t pixels[HEIGHT * WIDTH * 3], labels[HEIGHT * WIDTH];
    mkdir(path_of("%s", folder), 0777);
    mkdir(path_of("%s/images", folder), 0777);
    mkdir(path_of("%s/labels", folder), 0777);
    mkdir(path_of("%s/groundTruth", folder), 0777);
    for (int i = 0; i < PHOTOGRAPHS; i++) {
        make_photograph(i, pixels, labels);
        write_photograph(pixels, HEIGHT, WIDTH, path_of("%s/images/%d.png", folder, i));
        write_labels(labels, HEIGHT, WIDTH, path_of("%s/labels/%d.png", folder, i));
        copy_file(TEST_DATA "/edges/square.mat", path_of("%s/groundTruth/%d.mat", folder, i));
    }
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    (void)state;
    const char *folder = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/dla_dense_XXXXXX", folder ? folder : "/tmp");
    if (mkdtemp(root) == NULL)
        return 1;
    make_data("data");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[2 * PATH];
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

/* ---- augmentation ---- */

static const float no_mean[3] = {0.0f, 0.0f, 0.0f}, unit_std[3] = {1.0f / 255.0f, 1.0f / 255.0f, 1.0f / 255.0f}; /* colours stay 0 .. 255 */
static const dla_augmentation no_colours = {.flip = 0.5};

static void augment_one(const struct dense_augmentation *options, int size, uint64_t key, float *output, uint8_t *labels)
{
    uint8_t pixels[HEIGHT * WIDTH * 3], truth[HEIGHT * WIDTH];
    float *colours = malloc((size_t)size * (size_t)size * 3 * sizeof(*colours));
    dla_image *image;
    assert_non_null(colours);
    make_photograph(2, pixels, truth);
    for (int i = 0; i < HEIGHT * WIDTH; i++)
        truth[i] = truth[i] == 9 ? 0 : truth[i];
    assert_ok(dla_image_from_pixels(pixels, HEIGHT, WIDTH, WIDTH * 3, DLA_PIXELS_RGB, &image));
    struct label_map target = {HEIGHT, WIDTH, truth};
    assert_ok(augment_dense(image, &target, options, size, no_mean, unit_std, key, colours, output, labels));
    dla_image_destroy(image);
    free(colours);
}

static void labels_stay_with_their_pixels(void **state)
{
    (void)state;
    static const struct {
        double min_scale, max_scale, rotation;
        int size;
    } cases[] = {{1.0, 1.0, 0.0, 32}, {0.5, 2.0, 10.0, 33}, {1.0, 1.0, 180.0, 64}, {0.3, 0.3, 30.0, 128}, {3.0, 3.0, 5.0, 32}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dense_augmentation o = {&no_colours, cases[i].min_scale, cases[i].max_scale, cases[i].rotation};
        int size = cases[i].size, pixels = size * size, counted = 0, wrong = 0, inside = 0;
        float *output = malloc((size_t)pixels * 3 * sizeof(*output));
        uint8_t *labels = malloc((size_t)pixels);
        assert_non_null(output);
        assert_non_null(labels);
        for (uint64_t key = 0; key < 40; key++) {
            augment_one(&o, size, counter_key(key, i), output, labels);
            for (int p = 0; p < pixels; p++) {
                float value = output[3 * p];
                assert_true(value > GROUND - 1 && value < BRIGHT + 12);
                bool clear = value < GROUND + 30 || value > BRIGHT - 20; /* no mixture of inside and outside */
                if (labels[p] == TARGET_IGNORED || !clear)
                    continue;
                counted++;
                inside += labels[p];
                wrong += (value > 120.0f) != (labels[p] == 1);
            }
        }
        assert_true(inside > counted / 50);
        if (wrong > counted / 200)
            fail_msg("case %zu: %d of %d labels are not their pixels'", i, wrong, counted);
        free(output);
        free(labels);
    }
}

static void without_changes_it_is_a_crop(void **state)
{
    (void)state;
    enum { SIZE = 32 };
    struct dense_augmentation o = {&(dla_augmentation){.flip = 0.0}, 1.0, 1.0, 0.0};
    uint8_t pixels[HEIGHT * WIDTH * 3], truth[HEIGHT * WIDTH], labels[SIZE * SIZE];
    float output[SIZE * SIZE * 3];
    make_photograph(2, pixels, truth);
    for (uint64_t key = 0; key < 20; key++) {
        bool found = false;
        augment_one(&o, SIZE, key, output, labels);
        for (int top = 0; top <= HEIGHT - SIZE && !found; top++)
            for (int left = 0; left <= WIDTH - SIZE && !found; left++) {
                found = true;
                for (int y = 0; y < SIZE && found; y++)
                    for (int x = 0; x < SIZE * 3 && found; x++)
                        found = fabsf(output[y * SIZE * 3 + x] - (float)pixels[((top + y) * WIDTH + left) * 3 + x]) < 1e-3f;
            }
        assert_true(found);
    }
}

static void what_lies_outside_does_not_count(void **state)
{
    (void)state;
    enum { SIZE = 96 };
    struct dense_augmentation o = {&no_colours, 1.0, 1.0, 0.0};
    uint8_t labels[SIZE * SIZE];
    float output[SIZE * SIZE * 3];
    int counted = 0;
    augment_one(&o, SIZE, 3, output, labels);
    for (int p = 0; p < SIZE * SIZE; p++)
        counted += labels[p] != TARGET_IGNORED;
    assert_int_equal(counted, HEIGHT * WIDTH);
}

/* ---- targets ---- */

static void annotators_are_agreed(void **state)
{
    (void)state;
    struct dense_target_options o = {.task = DLA_TASK_EDGES, .classes = 2, .ignore = 255, .annotators = 3};
    struct label_map map;
    assert_ok(dense_target_read(&o, TEST_DATA "/edges/square.mat", "photo.jpg", 40, 48, &map));
    assert_int_equal(map.labels[10 * 48 + 20], 1);              /* three drew the square */
    assert_int_equal(map.labels[35 * 48 + 20], TARGET_IGNORED); /* two the line */
    assert_int_equal(map.labels[20 * 48 + 20], 0);
    label_map_free(&map);
    o.annotators = 2;
    assert_ok(dense_target_read(&o, TEST_DATA "/edges/square.mat", "photo.jpg", 40, 48, &map));
    assert_int_equal(map.labels[35 * 48 + 20], 1);
    label_map_free(&map);
    assert_error(dense_target_read(&o, TEST_DATA "/edges/square.mat", "photo.jpg", 48, 40, &map), DLA_ERROR_MISMATCH,
                 "its photograph photo.jpg is 48x40");
    assert_error(dense_target_read(&o, TEST_DATA "/edges/thinned.txt", "photo.jpg", 40, 48, &map), DLA_ERROR_FORMAT, "not a MATLAB 5 file");
}

/* ---- loss ---- */

static void the_gradient_is_the_difference_quotient(void **state)
{
    (void)state;
    enum { PIXELS = 7, CLASSES = 3 };
    const uint8_t labels[PIXELS] = {0, 2, TARGET_IGNORED, 1, 2, TARGET_IGNORED, 0};
    const float weights[CLASSES] = {1.0f, 0.5f, 4.0f};
    float log_p[PIXELS * CLASSES], gradient[PIXELS * CLASSES], *no_gradient = NULL;
    for (int i = 0; i < PIXELS * CLASSES; i++)
        log_p[i] = -0.1f - (float)counter_uniform(1, (uint64_t)i);
    double total = pixel_weight(PIXELS, labels, weights);
    assert_true(fabs(total - 10.5) < 1e-6); /* classes 0, 2, 1, 2, 0 weigh 1, 4, 0.5, 4, 1 */
    struct dense_loss loss = pixel_cross_entropy(PIXELS, CLASSES, log_p, labels, weights, total, 0.5f, gradient);
    assert_int_equal(loss.labelled, 5);
    for (int i = 0; i < PIXELS * CLASSES; i++) {
        float kept = log_p[i], step = 0.01f;
        log_p[i] = kept + step;
        double above = pixel_cross_entropy(PIXELS, CLASSES, log_p, labels, weights, total, 1.0f, no_gradient).loss;
        log_p[i] = kept - step;
        double below = pixel_cross_entropy(PIXELS, CLASSES, log_p, labels, weights, total, 1.0f, no_gradient).loss;
        log_p[i] = kept;
        assert_true(fabs((above - below) / (2.0 * (double)step) * 0.5 - (double)gradient[i]) < 1e-5);
    }
    /* Two ranks with 3 and 4 of the pixels: what each finds adds up to the whole. */
    struct dense_loss first = pixel_cross_entropy(3, CLASSES, log_p, labels, weights, total, 1.0f, NULL);
    struct dense_loss second = pixel_cross_entropy(PIXELS - 3, CLASSES, log_p + 3 * CLASSES, labels + 3, weights, total, 1.0f, NULL);
    assert_true(fabs(first.loss + second.loss - loss.loss) < 1e-12);
    assert_int_equal(first.labelled + second.labelled, 5);
    uint8_t nothing[PIXELS];
    memset(nothing, TARGET_IGNORED, sizeof(nothing));
    loss = pixel_cross_entropy(PIXELS, CLASSES, log_p, nothing, weights, pixel_weight(PIXELS, nothing, weights), 1.0f, gradient);
    assert_true(loss.loss == 0.0 && loss.labelled == 0);
    for (int i = 0; i < PIXELS * CLASSES; i++)
        assert_true(gradient[i] == 0.0f);
}

/* ---- runs ---- */

static const dla_architecture small = {
    .name = "small_up",
    .levels = {1, 1, 1, 1, 1, 1},
    .channels = {4, 8, 8, 12, 16, 16},
    .block = DLA_BLOCK_BASIC,
    .cardinality = 1,
    .base_width = 64,
    .scale = 4,
    .num_classes = 19,
    .in_channels = 3,
    .output_stride = 32,
    .down_ratio = 2,
};

static dla_dense_recipe recipe_for_tests(void)
{
    dla_dense_recipe recipe = DLA_DENSE_RECIPE_INIT;
    recipe.ignore = 9;
    recipe.min_scale = 0.8;
    recipe.max_scale = 1.3;
    return recipe;
}

static dla_train_options options_for(const char *output, const dla_dense_recipe *recipe)
{
    dla_train_options o = DLA_TRAIN_OPTIONS_INIT;
    o.architecture = &small;
    o.task = DLA_TASK_SEGMENT;
    o.dense = recipe;
    o.output = output;
    o.size = 32;
    o.batch = 3;
    o.epochs = 3;
    o.threads = 2;
    o.rate = 0.05;
    o.schedule = DLA_SCHEDULE_POLY;
    o.ema = 0.9;
    o.augmentation.brightness = o.augmentation.contrast = 0.2;
    o.seed = 3;
    o.validation = 0.25;
    o.checkpoint_steps = 1;
    return o;
}

struct watch {
    int64_t stop_at;
    double val_score;
    int validations;
    char score[32];
};

static bool watch_event(void *context, const dla_train_event *e)
{
    struct watch *w = context;
    if (e->kind == DLA_TRAIN_EPOCH && !isnan(e->val_top1)) {
        w->val_score = e->val_top1;
        w->validations++;
        snprintf(w->score, sizeof(w->score), "%s", e->val_score_name);
    }
    return !(w->stop_at && e->kind == DLA_TRAIN_STEP && e->step >= w->stop_at);
}

static void segmentation_learns_and_the_result_segments(void **state)
{
    (void)state;
    char output[2 * PATH], names[2 * PATH], weights[3 * PATH];
    dla_dense_recipe recipe = recipe_for_tests();
    snprintf(output, sizeof(output), "%s", path_of("learned"));
    snprintf(names, sizeof(names), "%s", path_of("names.txt"));
    write_text(names, "ground\nrectangle\n");
    recipe.class_names = names;
    dla_train_options o = options_for(output, &recipe);
    struct watch w = {0};
    o.epochs = 60;
    o.batch = 6; /* with three the score depends on how sums are rounded */
    o.rate = 0.2;
    o.validation_epochs = 25;
    o.checkpoint_steps = 0;
    assert_ok(dla_train(path_of("data"), &o, watch_event, &w));
    assert_string_equal(w.score, "mean IoU");
    assert_int_equal(w.validations, 3); /* 25, 50, and the last */
    if (!(w.val_score > 0.9))
        fail_msg("mean IoU is %g", w.val_score);

    dla_model_options model_options = DLA_MODEL_OPTIONS_INIT;
    dla_model *model;
    dla_dense *dense;
    dla_image *image;
    uint8_t labels[HEIGHT * WIDTH];
    int right = 0;
    snprintf(weights, sizeof(weights), "%s/best.safetensors", output);
    model_options.weights = weights;
    assert_ok(dla_model_open(&model_options, &model));
    assert_int_equal(dla_model_class_count(model), 2);
    assert_string_equal(dla_model_label(model, 1), "rectangle");
    assert_null(dla_model_wnid(model, 1));
    assert_ok(dla_dense_create(model, NULL, &dense));
    assert_ok(dla_image_read(path_of("data/images/4.png"), NULL, &image));
    assert_ok(dla_dense_classes(dense, image, labels));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            right += (labels[y * WIDTH + x] == 1) == in_rectangle(4, y, x);
    assert_true(right > HEIGHT * WIDTH * 9 / 10);
    dla_image_destroy(image);

    /* And is scored by its own predictions: data of this form have no splits, so all of them. */
    dla_segmentation_scores scores;
    dla_edge_scores edge_scores;
    assert_ok(dla_dense_evaluate_segmentation(dense, path_of("data"), NULL, 9, NULL, &scores));
    assert_int_equal(scores.images, PHOTOGRAPHS);
    assert_int_equal(scores.classes, 2);
    assert_true(scores.mean_iou > 0.85 && scores.pixel_accuracy > 0.9);
    dla_free(scores.confusion);
    assert_error(dla_dense_evaluate_segmentation(dense, path_of("data"), NULL, 255, NULL, &scores), DLA_ERROR_MISMATCH, "has label 9");
    assert_error(dla_dense_evaluate_segmentation(dense, path_of("data"), "test", 9, NULL, &scores), DLA_ERROR_NOT_FOUND, "test.txt");
    assert_ok(dla_dense_evaluate_edges(dense, path_of("data"), NULL, 3, NULL, &edge_scores)); /* class 1 taken for boundaries */
    assert_int_equal(edge_scores.images, PHOTOGRAPHS);
    assert_true(edge_scores.ods.recall > 0.0 && edge_scores.ods.recall <= 1.0);
    assert_error(dla_dense_evaluate_edges(dense, path_of("data"), NULL, 0, NULL, &edge_scores), DLA_ERROR_ARGUMENT, "0 thresholds");
    dla_dense_destroy(dense);
    dla_model_close(model);
}

static void there_are_built_in_networks(void **state)
{
    (void)state;
    static const dla_task tasks[] = {DLA_TASK_SEGMENT, DLA_TASK_EDGES};
    static const int classes[] = {11, 2};
    for (int i = 0; i < 2; i++) {
        dla_model_options options = DLA_MODEL_OPTIONS_INIT;
        dla_model *model;
        dla_dense *dense;
        options.task = tasks[i];
        assert_ok(dla_model_open(&options, &model));
        assert_ok(dla_dense_create(model, NULL, &dense));
        assert_int_equal(dla_dense_class_count(dense), classes[i]);
        assert_non_null(dla_model_label(model, 1));
        dla_dense_destroy(dense);
        dla_model_close(model);
    }
}

static void assert_same_file(const char *a, const char *b)
{
    char command[5 * PATH];
    snprintf(command, sizeof(command), "cmp '%s' '%s'", a, b);
    assert_int_equal(system(command), 0);
}

static void stopping_and_threads_change_nothing(void **state)
{
    (void)state;
    char whole[2 * PATH], stopped[2 * PATH];
    dla_dense_recipe recipe = recipe_for_tests();
    snprintf(whole, sizeof(whole), "%s", path_of("whole"));
    snprintf(stopped, sizeof(stopped), "%s", path_of("stopped"));
    dla_train_options o = options_for(whole, &recipe);
    assert_ok(dla_train(path_of("data"), &o, NULL, NULL));
    o = options_for(stopped, &recipe);
    o.threads = 1;
    o.cache = true;
    struct watch w = {.stop_at = 3};
    assert_int_equal(dla_train(path_of("data"), &o, watch_event, &w), DLA_ERROR_INTERRUPTED);
    o.resume = true;
    o.threads = 3;
    assert_ok(dla_train(path_of("data"), &o, NULL, NULL));
    assert_same_file(path_of("whole/last.safetensors"), path_of("stopped/last.safetensors"));
    assert_same_file(path_of("whole/best.safetensors"), path_of("stopped/best.safetensors"));
}

static void boundaries_are_trained_from_annotations(void **state)
{
    (void)state;
    char output[2 * PATH], base[2 * PATH];
    dla_dense_recipe recipe = recipe_for_tests();
    snprintf(output, sizeof(output), "%s", path_of("edges"));
    dla_train_options o = options_for(output, &recipe);
    struct watch w = {0};
    o.task = DLA_TASK_EDGES;
    o.epochs = 2;
    assert_ok(dla_train(path_of("data"), &o, watch_event, &w));
    assert_string_equal(w.score, "pixel F");
    assert_true(w.val_score > 0.0);

    /* Its own base does not fit, being a dense network's; a classifier's does. */
    dla_train_options classify = DLA_TRAIN_OPTIONS_INIT;
    dla_architecture classifier = small;
    char classes[2 * PATH];
    classifier.down_ratio = 0;
    snprintf(classes, sizeof(classes), "%s", path_of("classes"));
    mkdir(path_of("classes"), 0777);
    for (int c = 0; c < 2; c++) {
        mkdir(path_of("classes/%d", c), 0777);
        for (int i = 0; i < 2; i++)
            copy_file(path_of("data/images/%d.png", i + c), path_of("classes/%d/%d.png", c, i));
    }
    snprintf(base, sizeof(base), "%s", path_of("base"));
    classify.architecture = &classifier;
    classify.output = base;
    classify.size = 32;
    classify.batch = 2;
    classify.epochs = 1;
    assert_ok(dla_train(classes, &classify, NULL, NULL));
    char weights[3 * PATH];
    snprintf(weights, sizeof(weights), "%s/last.safetensors", base);
    snprintf(output, sizeof(output), "%s", path_of("edges_on_base"));
    o.base_weights = weights;
    o.freeze = "level5"; /* so that the base can be found in the result */
    o.ema = 0.0;
    o.validation = 0.0;
    assert_ok(dla_train(path_of("data"), &o, NULL, NULL));
    dla_weights *from, *to;
    dla_tensor_info info;
    dla_tensor_statistics a, b;
    int compared = 0;
    assert_ok(dla_weights_open(weights, &from));
    assert_ok(dla_weights_open(path_of("edges_on_base/last.safetensors"), &to));
    for (size_t i = 0; i < dla_weights_tensor_count(from); i++) {
        char name[256];
        dla_weights_tensor(from, i, &info);
        snprintf(name, sizeof(name), "base.%s", info.name);
        assert_ok(dla_weights_statistics(from, i, &a));
        for (size_t k = 0; k < dla_weights_tensor_count(to); k++) {
            dla_weights_tensor(to, k, &info);
            if (strcmp(info.name, name) != 0)
                continue;
            assert_ok(dla_weights_statistics(to, k, &b));
            assert_memory_equal(&a, &b, sizeof(a));
            compared++;
        }
    }
    assert_true(compared > 20);
    dla_weights_close(from);
    dla_weights_close(to);
    snprintf(output, sizeof(output), "%s", path_of("never"));
    o.base_weights = path_of("edges/last.safetensors");
    assert_error(dla_train(path_of("data"), &o, NULL, NULL), DLA_ERROR_MISMATCH, "edges/last.safetensors");
}

/* ---- bad input ---- */

/* Each in a run of its own: what went well before may have left checkpoints. */
static void assert_run_fails(const char *data, dla_train_options o, dla_status expected, const char *text)
{
    static int count;
    char output[2 * PATH];
    snprintf(output, sizeof(output), "%s", path_of("bad_run_%d", count++));
    o.output = output;
    assert_error(dla_train(data, &o, NULL, NULL), expected, text);
}

static void bad_data_is_named(void **state)
{
    (void)state;
    uint8_t wrong[HEIGHT * WIDTH] = {0}, pixels[16 * WIDTH * 3] = {0};
    dla_dense_recipe recipe = recipe_for_tests();
    char names[2 * PATH];
    snprintf(names, sizeof(names), "%s", path_of("names.txt"));
    write_text(names, "ground\nrectangle\n");
    recipe.class_names = names;
    dla_train_options o = options_for(NULL, &recipe);

    make_data("bad");
    unlink(path_of("bad/labels/3.png"));
    assert_run_fails(path_of("bad"), o, DLA_ERROR_MISMATCH, "bad/images/3.png: has no partner");
    write_labels(wrong, HEIGHT - 1, WIDTH, path_of("bad/labels/3.png"));
    assert_run_fails(path_of("bad"), o, DLA_ERROR_MISMATCH, "bad/labels/3.png: is 39x48 (height x width), its photograph");
    wrong[5 * WIDTH + 7] = 4;
    write_labels(wrong, HEIGHT, WIDTH, path_of("bad/labels/3.png"));
    assert_run_fails(path_of("bad"), o, DLA_ERROR_MISMATCH, "has label 4 at row 5, column 7, but there are 2 classes");
    unlink(path_of("bad/images/3.png"));
    assert_run_fails(path_of("bad"), o, DLA_ERROR_MISMATCH, "bad/labels/3.png: has no photograph of the same name");

    make_data("bad_edges");
    write_text(path_of("bad_edges/groundTruth/5.mat"), "Dear Sir");
    o.task = DLA_TASK_EDGES;
    assert_run_fails(path_of("bad_edges"), o, DLA_ERROR_FORMAT, "5.mat: not a MATLAB 5 file");
    o.task = DLA_TASK_SEGMENT;

    write_text(path_of("bad/train.txt"), "images/1.png labels/1.png\nimages/2.png\n");
    assert_run_fails(path_of("bad"), o, DLA_ERROR_FORMAT, "train.txt: line 2");
    write_text(path_of("bad/train.txt"), "images/0.png labels/0.png\nimages/1.png labels/1.png\nimages/2.png labels/2.png\n");
    write_photograph(pixels, 16, WIDTH, path_of("bad/small.png"));
    write_labels(wrong, 16, WIDTH, path_of("bad/small_labels.png"));
    write_text(path_of("bad/val.txt"), "small.png small_labels.png\n");
    assert_run_fails(path_of("bad"), o, DLA_ERROR_ARGUMENT, "small.png: is 16x48");
    write_text(path_of("bad/val.txt"), "\n");
    assert_run_fails(path_of("bad"), o, DLA_ERROR_NOT_FOUND, "val.txt: lists no photograph");
    assert_run_fails(path_of("nowhere"), o, DLA_ERROR_NOT_FOUND, "holds neither");
}

static void bad_options_are_named(void **state)
{
    (void)state;
    dla_dense_recipe recipe = recipe_for_tests();
    char output[2 * PATH];
    double weights[3] = {1.0, 1.0, 1.0};
    snprintf(output, sizeof(output), "%s", path_of("never"));
    dla_train_options o = options_for(output, &recipe);
    recipe.rotation = 200.0;
    assert_error(dla_train(path_of("data"), &o, NULL, NULL), DLA_ERROR_ARGUMENT, "rotation is 200");
    recipe.rotation = 10.0;
    recipe.class_weights = weights;
    recipe.class_weight_count = 3;
    assert_error(dla_train(path_of("data"), &o, NULL, NULL), DLA_ERROR_ARGUMENT, "3 class weights for 2 classes");
    recipe.class_weights = NULL;
    o.mixup = 0.2;
    assert_error(dla_train(path_of("data"), &o, NULL, NULL), DLA_ERROR_ARGUMENT, "mixup");
    o.mixup = 0.0;
    o.fast_decode = true;
    assert_error(dla_train(path_of("data"), &o, NULL, NULL), DLA_ERROR_ARGUMENT, "fast decoding is for classes of whole photographs");
    o.fast_decode = false;
    dla_architecture classifier = small;
    classifier.down_ratio = 0;
    o.architecture = &classifier;
    assert_error(dla_train(path_of("data"), &o, NULL, NULL), DLA_ERROR_ARGUMENT, "needs a network with DLA-Up");
    o.architecture = &small;
    o.task = DLA_TASK_CLASSIFY;
    assert_error(dla_train(path_of("data"), &o, NULL, NULL), DLA_ERROR_ARGUMENT, "that is trained by the tasks segment and edges");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_stay_with_their_pixels),
        cmocka_unit_test(without_changes_it_is_a_crop),
        cmocka_unit_test(what_lies_outside_does_not_count),
        cmocka_unit_test(annotators_are_agreed),
        cmocka_unit_test(the_gradient_is_the_difference_quotient),
        cmocka_unit_test(segmentation_learns_and_the_result_segments),
        cmocka_unit_test(there_are_built_in_networks),
        cmocka_unit_test(stopping_and_threads_change_nothing),
        cmocka_unit_test(boundaries_are_trained_from_annotations),
        cmocka_unit_test(bad_data_is_named),
        cmocka_unit_test(bad_options_are_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
