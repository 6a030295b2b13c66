/* A training run as a whole: it learns, it is the same on any number of threads, it survives being stopped and killed without a
 * bit's difference, and what is wrong with its input is said in one line. */
#include <dla/dla.h>

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLASSES = 3, PHOTOGRAPHS = 16, SIDE = 40, PATH = 512 };

static char root[PATH];

/* Stays valid to the end. */
static const char *path_of(const char *name)
{
    enum { MOST = 64 };
    static char *paths[MOST];
    char path[2 * PATH];
    int i = 0;
    snprintf(path, sizeof(path), "%s/%s", root, name);
    while (i < MOST && paths[i] && strcmp(paths[i], path) != 0)
        i++;
    assert_true(i < MOST);
    if (paths[i] == NULL)
        assert_non_null(paths[i] = strdup(path));
    return paths[i];
}

static void remove_tree(const char *path)
{
    char command[3 * PATH];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

/* A noisy photograph whose colour and gradient tell its class. */
static void write_photograph(const char *path, int label, int index)
{
    uint8_t pixels[SIDE * SIDE * 3];
    uint32_t state = (uint32_t)(label * 1000 + index + 1);
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        state = state * 1664525u + 1013904223u;
        int slope = label == 1 ? i / (SIDE * 3) * 3 : label == 2 ? i / 3 % SIDE * 3 : 60;
        pixels[i] = (uint8_t)(slope + (i % 3 == label ? 60 : 20) + (int)(state >> 27));
    }
    dla_image *image;
    assert_int_equal(dla_image_from_pixels(pixels, SIDE, SIDE, SIDE * 3, DLA_PIXELS_RGB, &image), DLA_OK);
    assert_int_equal(dla_image_write_png(image, path), DLA_OK);
    dla_image_destroy(image);
}

static void make_data(const char *folder, int classes, int photographs)
{
    static const char *const names[CLASSES] = {"ash", "birch", "cedar"};
    char path[3 * PATH];
    mkdir(folder, 0777);
    for (int c = 0; c < classes; c++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[c]);
        mkdir(path, 0777);
        for (int i = 0; i < photographs; i++) {
            snprintf(path, sizeof(path), "%s/%s/%03d.png", folder, names[c], i);
            write_photograph(path, c, i);
        }
    }
}

static int setup(void **state)
{
    (void)state;
    const char *folder = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/dla_train_XXXXXX", folder ? folder : "/tmp");
    if (mkdtemp(root) == NULL)
        return 1;
    make_data(path_of("data"), CLASSES, PHOTOGRAPHS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

static const dla_architecture small = {
    .name = "small",
    .levels = {1, 1, 1, 1, 1, 1},
    .channels = {4, 4, 8, 8, 8, 16},
    .block = DLA_BLOCK_BASIC,
    .cardinality = 1,
    .base_width = 64,
    .scale = 4,
    .num_classes = 10,
    .in_channels = 3,
    .output_stride = 32,
};

/* Everything at once that could differ between a whole and an interrupted run. */
static dla_train_options options_for(const char *output)
{
    dla_train_options o = DLA_TRAIN_OPTIONS_INIT;
    o.architecture = &small;
    o.output = output;
    o.size = 40;
    o.first_size = 32;
    o.first_epochs = 1;
    o.validation_size = 32;
    o.batch = 6;
    o.accumulate = 2;
    o.epochs = 3;
    o.threads = 2;
    o.rate = 0.05;
    o.schedule = DLA_SCHEDULE_COSINE;
    o.warmup_epochs = 1;
    o.label_smoothing = 0.1;
    o.mixup = 0.2;
    o.dropout = 0.1;
    o.clip = 5.0;
    o.ema = 0.9;
    o.augmentation.brightness = o.augmentation.contrast = o.augmentation.saturation = o.augmentation.sharpness = 0.2;
    o.augmentation.lighting = 0.1;
    o.seed = 7;
    o.validation = 0.2;
    o.checkpoint_steps = 1;
    return o;
}

struct watch {
    int64_t stop_at; /* step; 0: never */
    int64_t resumed, steps;
    double first_loss, last_loss, val_top1;
    size_t skipped;
    char message[1024];
};

static bool watch_event(void *context, const dla_train_event *e)
{
    struct watch *w = context;
    if (e->kind == DLA_TRAIN_STARTED)
        w->resumed = e->resumed_step;
    if (e->kind == DLA_TRAIN_STEP) {
        w->steps++;
        w->last_loss = e->loss;
        if (w->steps == 1)
            w->first_loss = e->loss;
    }
    if (e->kind == DLA_TRAIN_EPOCH)
        w->val_top1 = e->val_top1;
    if (e->kind == DLA_TRAIN_SKIPPED) {
        w->skipped++;
        snprintf(w->message, sizeof(w->message), "%s", e->message);
    }
    return !(w->stop_at && e->kind == DLA_TRAIN_STEP && e->step >= w->stop_at);
}

static char *read_all(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s is missing", path);
    char *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    *size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static void assert_same_file(const char *a, const char *b)
{
    size_t a_size, b_size;
    char *a_bytes = read_all(a, &a_size), *b_bytes = read_all(b, &b_size);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a_bytes, b_bytes, a_size);
    free(a_bytes);
    free(b_bytes);
}

/* The run that nobody disturbs; what the others are compared with. */
static const char *undisturbed(void)
{
    static bool made;
    static char output[2 * PATH];
    snprintf(output, sizeof(output), "%s", path_of("undisturbed"));
    if (!made) {
        dla_train_options o = options_for(output);
        if (dla_train(path_of("data"), &o, NULL, NULL) != DLA_OK)
            fail_msg("%s", dla_error_message());
        made = true;
    }
    return output;
}

static void assert_same_run(const char *output)
{
    static const char *const files[] = {"last.safetensors", "best.safetensors"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char a[3 * PATH], b[3 * PATH];
        snprintf(a, sizeof(a), "%s/%s", undisturbed(), files[i]);
        snprintf(b, sizeof(b), "%s/%s", output, files[i]);
        assert_same_file(a, b);
    }
}

static void it_learns_and_the_result_is_a_model(void **state)
{
    (void)state;
    dla_train_options o = options_for(path_of("learning"));
    struct watch w = {0};
    o.size = 32;
    o.first_epochs = 0;
    o.epochs = 30;
    o.mixup = o.dropout = 0.0;
    o.accumulate = 1;
    o.augmentation = (dla_augmentation)DLA_AUGMENTATION_INIT;
    o.augmentation.min_area = 0.5;
    o.augmentation.flip = 0.0;
    o.checkpoint_steps = 0;
    if (dla_train(path_of("data"), &o, watch_event, &w) != DLA_OK)
        fail_msg("%s", dla_error_message());
    assert_int_equal(w.steps, 30 * 6);
    assert_true(w.last_loss < 0.8 * w.first_loss);
    assert_true(w.val_top1 >= 0.75);

    dla_model_options model_options = DLA_MODEL_OPTIONS_INIT;
    dla_model *model;
    model_options.weights = path_of("learning/best.safetensors");
    if (dla_model_open(&model_options, &model) != DLA_OK)
        fail_msg("%s", dla_error_message());
    assert_int_equal(dla_model_class_count(model), CLASSES);
    assert_string_equal(dla_model_label(model, 1), "birch");
    assert_int_equal(dla_model_preprocessing(model)->size, 32);
    dla_model_close(model);

    size_t size;
    char *svg = read_all(path_of("learning/curves.svg"), &size);
    assert_memory_equal(svg, "<svg", 4);
    free(svg);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    dla_train_options o = options_for(path_of("threads"));
    o.threads = 1;
    o.cache = true;
    assert_int_equal(dla_train(path_of("data"), &o, NULL, NULL), DLA_OK);
    assert_same_run(o.output);
}

/* The first run fills the file, the second reads it. */
static void photographs_on_disk_change_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        dla_train_options o = options_for(path_of(i == 0 ? "disk" : "disk2"));
        o.cache_file = path_of("photographs.cache");
        if (dla_train(path_of("data"), &o, NULL, NULL) != DLA_OK)
            fail_msg("%s", dla_error_message());
        assert_same_run(o.output);
    }
}

static void stopping_and_resuming_changes_nothing(void **state)
{
    (void)state;
    dla_train_options o = options_for(path_of("stopped"));
    o.checkpoint_steps = 0;
    for (int64_t stop_at = 1; stop_at < 9; stop_at += 2) {
        struct watch w = {.stop_at = stop_at};
        o.resume = stop_at > 1;
        assert_int_equal(dla_train(path_of("data"), &o, watch_event, &w), DLA_ERROR_INTERRUPTED);
        assert_non_null(strstr(dla_error_message(), "--resume"));
        assert_int_equal(w.resumed, stop_at > 1 ? stop_at - 2 : 0);
    }
    o.resume = true;
    assert_int_equal(dla_train(path_of("data"), &o, NULL, NULL), DLA_OK);
    assert_same_run(o.output);
    assert_int_equal(dla_train(path_of("data"), &o, NULL, NULL), DLA_OK); /* nothing is left to do */
    assert_same_run(o.output);
}

static void being_killed_changes_nothing(void **state)
{
    (void)state;
    dla_train_options o = options_for(path_of("killed"));
    uint32_t random = 12345;
    enum { MOST_KILLS = 60 };
    int kills = 0;
    o.resume = true;
    bool ended = false;
    for (int attempt = 0; !ended; attempt++) {
        pid_t child = fork();
        if (child == 0)
            _exit(dla_train(path_of("data"), &o, NULL, NULL) == DLA_OK ? 0 : 1);
        random = random * 1664525u + 1013904223u;
        usleep(5000 + (random >> 16) % 60000 + (useconds_t)attempt * 1000);
        if (attempt < MOST_KILLS) /* a slow machine may not get anywhere between two; then the last one is left alone */
            kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        ended = WIFEXITED(status);
        if (ended)
            assert_int_equal(WEXITSTATUS(status), 0);
        kills += !ended;
    }
    assert_true(kills > 0);
    assert_same_run(o.output);
}

/* ---- bad input ---- */

static void assert_fails(const char *data, const dla_train_options *o, dla_status status, const char *words)
{
    assert_int_equal(dla_train(data, o, NULL, NULL), status);
    if (strstr(dla_error_message(), words) == NULL)
        fail_msg("the message '%s' does not say '%s'", dla_error_message(), words);
}

static void bad_input_is_named(void **state)
{
    (void)state;
    dla_train_options o = options_for(path_of("bad"));
    make_data(path_of("one"), 1, 8);
    assert_fails(path_of("one"), &o, DLA_ERROR_ARGUMENT, "at least two");
    make_data(path_of("empty"), 2, 8);
    mkdir(path_of("empty/zelkova"), 0777);
    assert_fails(path_of("empty"), &o, DLA_ERROR_ARGUMENT, "zelkova");
    o.batch = 64;
    assert_fails(path_of("data"), &o, DLA_ERROR_ARGUMENT, "--batch");
    o = options_for(path_of("bad"));
    assert_fails(path_of("nothing"), &o, DLA_ERROR_NOT_FOUND, "nothing");
    o.freeze = "level9";
    assert_fails(path_of("data"), &o, DLA_ERROR_ARGUMENT, "level9");
    o = options_for(path_of("data/ash/000.png"));
    assert_fails(path_of("data"), &o, DLA_ERROR_ARGUMENT, "not a folder");
    o = options_for(undisturbed());
    assert_fails(path_of("data"), &o, DLA_ERROR_ARGUMENT, "--resume");
}

static void another_run_is_not_resumed(void **state)
{
    (void)state;
    dla_train_options o = options_for(undisturbed());
    dla_architecture other = small;
    o.resume = true;
    strcpy(other.name, "other");
    o.architecture = &other;
    assert_fails(path_of("data"), &o, DLA_ERROR_MISMATCH, "small");
    o.architecture = &small;
    o.seed++;
    assert_fails(path_of("data"), &o, DLA_ERROR_MISMATCH, "seed");
    o.seed--;
    assert_int_equal(rename(path_of("data/birch"), path_of("data/beech")), 0);
    assert_fails(path_of("data"), &o, DLA_ERROR_MISMATCH, "birch");
    assert_int_equal(rename(path_of("data/beech"), path_of("data/birch")), 0);
}

static void a_damaged_photograph_is_skipped(void **state)
{
    (void)state;
    make_data(path_of("damaged"), CLASSES, 8);
    FILE *file = fopen(path_of("damaged/ash/003.png"), "wb");
    assert_non_null(file);
    fputs("Dear ", file);
    fclose(file);
    dla_train_options o = options_for(path_of("damaged_run"));
    struct watch w = {0};
    o.validation = 0.0;
    assert_int_equal(dla_train(path_of("damaged"), &o, watch_event, &w), DLA_OK);
    assert_int_equal(w.skipped, 1);
    assert_non_null(strstr(w.message, "003.png"));
    assert_true(isnan(w.val_top1));
}

static void divergence_is_told(void **state)
{
    (void)state;
    dla_train_options o = options_for(path_of("diverged"));
    o.rate = 1000.0;
    o.clip = o.warmup_epochs = 0.0;
    o.momentum = 0.99;
    o.epochs = 200;
    o.weight_decay = 1.0;
    assert_fails(path_of("data"), &o, DLA_ERROR_ARGUMENT, "not a number any more at step");
}

/* A write that fails halfway, as on a full disk: one line, and the checkpoint before it is whole. */
static void a_full_disk_leaves_the_last_checkpoint(void **state)
{
    (void)state;
    dla_train_options o = options_for(path_of("full"));
    struct watch w = {.stop_at = 2};
    assert_int_equal(dla_train(path_of("data"), &o, watch_event, &w), DLA_ERROR_INTERRUPTED);
    o.resume = true;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {8192, 8192};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(dla_train(path_of("data"), &o, NULL, NULL) == DLA_ERROR_IO && strstr(dla_error_message(), "safetensors") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(dla_train(path_of("data"), &o, watch_event, &(struct watch){0}), DLA_OK);
    assert_same_run(o.output);
}

static void fine_tuning_starts_from_weights(void **state)
{
    (void)state;
    char weights[3 * PATH];
    snprintf(weights, sizeof(weights), "%s/last.safetensors", undisturbed());
    make_data(path_of("two"), 2, PHOTOGRAPHS);
    dla_train_options o = options_for(path_of("tuned"));
    o.weights = weights;
    assert_fails(path_of("two"), &o, DLA_ERROR_MISMATCH, "--reset-head");
    o = options_for(path_of("tuned2"));
    o.weights = weights;
    o.reset_head = true;
    o.freeze = "level3";
    o.backbone_rate = 0.1;
    if (dla_train(path_of("two"), &o, NULL, NULL) != DLA_OK)
        fail_msg("%s", dla_error_message());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_learns_and_the_result_is_a_model),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(photographs_on_disk_change_nothing),
        cmocka_unit_test(stopping_and_resuming_changes_nothing),
        cmocka_unit_test(being_killed_changes_nothing),
        cmocka_unit_test(bad_input_is_named),
        cmocka_unit_test(another_run_is_not_resumed),
        cmocka_unit_test(a_damaged_photograph_is_skipped),
        cmocka_unit_test(divergence_is_told),
        cmocka_unit_test(a_full_disk_leaves_the_last_checkpoint),
        cmocka_unit_test(fine_tuning_starts_from_weights),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
