/* Classification gives the same by every way in: one file, decoded images, a list of files; in any batch, on any number of threads. */
#include "tasks/class_names.h"
#include "tasks/model.h"

#include <dla/dla.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PHOTOS SOURCE_ROOT "/examples/photos/"

static const char *const photos[] = {PHOTOS "garbage_truck.jpg", PHOTOS "berlin_cathedral.jpg", PHOTOS "cat.jpg"};
enum { PHOTO_COUNT = sizeof(photos) / sizeof(photos[0]), CLASSES = 10, GARBAGE_TRUCK = 6, CHURCH = 4, GOLF_BALL = 8 };

static dla_model *model; /* the built-in one */

static int open_built_in(void **state)
{
    (void)state;
    return dla_model_open(NULL, &model) == DLA_OK ? 0 : -1;
}

static int close_built_in(void **state)
{
    (void)state;
    dla_model_close(model);
    return 0;
}

static dla_classifier *create_classifier(int batch, int threads)
{
    dla_classifier_options options = DLA_CLASSIFIER_OPTIONS_INIT;
    dla_preprocessing preprocessing = *dla_model_preprocessing(model);
    dla_classifier *classifier = NULL;

    preprocessing.size = 96; /* enough for these photographs, and quicker */
    options.preprocessing = &preprocessing;
    options.batch = batch;
    options.threads = threads;
    assert_int_equal(dla_classifier_create(model, &options, &classifier), DLA_OK);
    return classifier;
}

/* Kernels may differ from batch to batch in the order of their sums, so probabilities are near, classes equal. */
static void assert_same_scores(const dla_class_score *found, const dla_class_score *expected, int count)
{
    for (int k = 0; k < count; k++) {
        assert_int_equal(found[k].index, expected[k].index);
        assert_true(fabsf(found[k].probability - expected[k].probability) < 1e-5f);
        assert_ptr_equal(found[k].label, dla_model_label(model, found[k].index));
        assert_ptr_equal(found[k].wnid, dla_model_wnid(model, found[k].index));
    }
}

static void classify_each(dla_class_score expected[PHOTO_COUNT][CLASSES])
{
    dla_classifier *classifier = create_classifier(1, 1);

    for (int i = 0; i < PHOTO_COUNT; i++)
        assert_int_equal(dla_classifier_classify_file(classifier, photos[i], CLASSES, expected[i]), DLA_OK);
    dla_classifier_destroy(classifier);
    assert_int_equal(expected[0][0].index, GARBAGE_TRUCK);
    assert_string_equal(expected[0][0].label, "garbage truck");
    assert_int_equal(expected[1][0].index, CHURCH);
    assert_string_equal(expected[1][0].wnid, "n03028079");
}

static void images_give_what_files_give(void **state)
{
    (void)state;
    static const int shapes[][2] = {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {3, 2}, {5, 3}}; /* batch, threads */
    dla_class_score expected[PHOTO_COUNT][CLASSES], found[PHOTO_COUNT * 3 * 4];
    dla_image *images[PHOTO_COUNT];
    const dla_image *list[PHOTO_COUNT * 3];

    classify_each(expected);
    for (int i = 0; i < PHOTO_COUNT; i++)
        assert_int_equal(dla_image_read(photos[i], NULL, &images[i]), DLA_OK);
    for (int i = 0; i < PHOTO_COUNT * 3; i++)
        list[i] = images[i * 2 % PHOTO_COUNT];
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        dla_classifier *classifier = create_classifier(shapes[s][0], shapes[s][1]);
        for (int count = 0; count <= PHOTO_COUNT * 3; count += 4) {
            assert_int_equal(dla_classifier_classify(classifier, list, (size_t)count, 4, found), DLA_OK);
            for (int i = 0; i < count; i++)
                assert_same_scores(found + i * 4, expected[i * 2 % PHOTO_COUNT], 4);
        }
        dla_classifier_destroy(classifier);
    }
    for (int i = 0; i < PHOTO_COUNT; i++)
        dla_image_destroy(images[i]);
}

/* ---- lists of files --------------------------------------------------------------------------------------------------- */

struct listing {
    dla_class_score (*expected)[CLASSES];
    const char *const *paths;
    size_t next, stop_after;
};

static bool check_result(void *context, const dla_photograph_result *result)
{
    struct listing *listing = context;
    int kind = -1;

    assert_int_equal(result->index, listing->next++);
    assert_ptr_equal(result->path, listing->paths[result->index]);
    for (int i = 0; i < PHOTO_COUNT; i++)
        if (strcmp(result->path, photos[i]) == 0)
            kind = i;
    if (kind >= 0) {
        assert_int_equal(result->status, DLA_OK);
        assert_string_equal(result->message, "");
        assert_same_scores(result->scores, listing->expected[kind], 3);
    } else {
        assert_int_equal(result->status, strstr(result->path, "absent") != NULL ? DLA_ERROR_NOT_FOUND : DLA_ERROR_FORMAT);
        assert_non_null(strstr(result->message, result->path));
        assert_null(result->scores);
    }
    assert_true(result->milliseconds > 0.0);
    return listing->next != listing->stop_after;
}

static void lists_are_reported_in_order_with_their_failures(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    static const int batches[] = {1, 3, 70};
    dla_class_score expected[PHOTO_COUNT][CLASSES];
    const char *paths[COUNT];

    classify_each(expected);
    for (int i = 0; i < COUNT; i++) /* some good ones at the ends; between them more failures than are kept waiting at a time */
        paths[i] = i < 7 || i >= COUNT - 6 ? photos[i % PHOTO_COUNT] : i % 2 == 0 ? PHOTOS "absent.jpg" : PHOTOS "README.md";
    paths[2] = PHOTOS "absent.jpg";
    for (size_t b = 0; b < sizeof(batches) / sizeof(batches[0]); b++) {
        dla_classifier *classifier = create_classifier(batches[b], 2);
        struct listing listing = {.expected = expected, .paths = paths};
        assert_int_equal(dla_classifier_classify_files(classifier, paths, COUNT, 3, check_result, &listing), DLA_OK);
        assert_int_equal(listing.next, COUNT);
        listing = (struct listing){.expected = expected, .paths = paths};
        assert_int_equal(dla_classifier_classify_files(classifier, paths, 0, 3, check_result, &listing), DLA_OK);
        assert_int_equal(listing.next, 0);
        listing.stop_after = 5;
        assert_int_equal(dla_classifier_classify_files(classifier, paths, COUNT, 3, check_result, &listing), DLA_ERROR_INTERRUPTED);
        assert_int_equal(listing.next, 5);
        dla_classifier_destroy(classifier);
    }
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    dla_classifier_options options = DLA_CLASSIFIER_OPTIONS_INIT;
    dla_preprocessing preprocessing = *dla_model_preprocessing(model);
    dla_classifier *classifier = NULL;
    dla_class_score scores[1] = {{.index = 77}};

    assert_int_equal(dla_classifier_create(NULL, NULL, &classifier), DLA_ERROR_ARGUMENT);
    options.batch = 0;
    assert_int_equal(dla_classifier_create(model, &options, &classifier), DLA_ERROR_ARGUMENT);
    options.batch = 1;
    options.threads = -1;
    assert_int_equal(dla_classifier_create(model, &options, &classifier), DLA_ERROR_ARGUMENT);
    options.threads = 1;
    options.struct_size = 0;
    assert_int_equal(dla_classifier_create(model, &options, &classifier), DLA_ERROR_ARGUMENT);
    options.struct_size = sizeof(options) + 8;
    assert_int_equal(dla_classifier_create(model, &options, &classifier), DLA_ERROR_ARGUMENT);
    options.struct_size = sizeof(options);
    options.preprocessing = &preprocessing;
    preprocessing.size = 16;
    assert_int_equal(dla_classifier_create(model, &options, &classifier), DLA_ERROR_ARGUMENT);
    preprocessing.size = 64;
    preprocessing.crop_pct = 0.0;
    assert_int_equal(dla_classifier_create(model, &options, &classifier), DLA_ERROR_ARGUMENT);
    assert_null(classifier);

    classifier = create_classifier(1, 1);
    assert_int_equal(dla_classifier_classify_file(classifier, photos[0], 0, scores), DLA_ERROR_ARGUMENT);
    assert_int_equal(dla_classifier_classify_file(classifier, photos[0], CLASSES + 1, scores), DLA_ERROR_ARGUMENT);
    assert_int_equal(dla_classifier_classify_file(classifier, NULL, 1, scores), DLA_ERROR_ARGUMENT);
    assert_int_equal(dla_classifier_classify_file(classifier, PHOTOS "absent.jpg", 1, scores), DLA_ERROR_NOT_FOUND);
    assert_int_equal(dla_classifier_classify(classifier, NULL, 1, 1, scores), DLA_ERROR_ARGUMENT);
    assert_int_equal(dla_classifier_classify_files(classifier, photos, 1, 1, NULL, NULL), DLA_ERROR_ARGUMENT);
    assert_int_equal(scores[0].index, 77);
    dla_classifier_destroy(classifier);
    dla_classifier_destroy(NULL);
}

/* ---- names of classes ------------------------------------------------------------------------------------------------- */

static void names_find_their_class(void **state)
{
    (void)state;
    static const char *labels[] = {"tench, Tinca tinca", "crane", "Model T", "crane", "black-and-tan coonhound", "tinca tinca", NULL};
    static const char *wnids[] = {"n01440764", "n02012849", "n03777568", "n03126707", NULL, NULL, "n99999999"};
    struct dla_model named = {.class_count = 7, .labels = labels, .wnids = wnids};
    static const struct {
        const char *name;
        int expected;
    } cases[] = {
        {"n01440764", 0},
        {"N03777568", 2},
        {"tench", 0},
        {"Tench", 0},
        {"model_t", 2},
        {"black and tan coonhound", 4},
        {"n99999999", 6},
        {"zebra", NO_CLASS},
        {"", NO_CLASS},
        {"ten", NO_CLASS},
        {"tench,", NO_CLASS},
        {"tench, tinca tinca", 0},
        {"crane", AMBIGUOUS_CLASS},
        {"n03126707", 3},
        {"Tinca-Tinca", 5}, /* a whole label before a part of another */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(class_by_name(&named, cases[i].name), cases[i].expected);
    struct dla_model nameless = {.class_count = 7};
    assert_int_equal(class_by_name(&nameless, "tench"), NO_CLASS);
}

/* ---- evaluation ------------------------------------------------------------------------------------------------------- */

static char tree[] = "/tmp/dla_test_tree_XXXXXX";

static void add_photo(const char *folder, const char *name, const char *photo)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", tree, folder);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/%s/%s", tree, folder, name);
    assert_int_equal(symlink(photo, path), 0);
}

static bool stop_at_once(void *context, size_t done, size_t total)
{
    *(size_t *)context = total;
    return done == 0;
}

static void evaluation_counts_what_was_classified(void **state)
{
    (void)state;
    dla_classifier *classifier = create_classifier(2, 2);
    dla_evaluation *evaluation = NULL;
    char command[128];
    size_t total = 0;

    assert_non_null(mkdtemp(tree));
    add_photo("n03028079", "1.jpg", photos[1]);
    add_photo("n03028079", "2.jpg", photos[0]); /* a truck among the churches */
    add_photo("n03028079", "3.jpg", PHOTOS "README.md");
    add_photo("garbage_truck", "1.jpg", photos[0]);
    add_photo("garbage_truck", "2.jpg", photos[0]);
    add_photo("parachute", "1.jpg", photos[1]); /* a church among the parachutes: fifth or better */
    add_photo("zebra", "1.jpg", photos[2]);

    assert_int_equal(dla_classifier_evaluate(classifier, tree, NULL, NULL, &evaluation), DLA_OK);
    assert_int_equal(evaluation->class_count, CLASSES);
    assert_int_equal(evaluation->count, 5);
    assert_int_equal(evaluation->top1, 3);
    assert_int_equal(evaluation->confusion[CHURCH * CLASSES + CHURCH], 1);
    assert_int_equal(evaluation->confusion[CHURCH * CLASSES + GARBAGE_TRUCK], 1);
    assert_int_equal(evaluation->confusion[GARBAGE_TRUCK * CLASSES + GARBAGE_TRUCK], 2);
    int64_t sum = 0, top1 = 0, top5 = 0;
    for (int c = 0; c < CLASSES; c++) {
        top1 += evaluation->classes[c].top1;
        top5 += evaluation->classes[c].top5;
        assert_true(evaluation->classes[c].top1 <= evaluation->classes[c].top5
                    && evaluation->classes[c].top5 <= evaluation->classes[c].count);
        for (int guess = 0; guess < CLASSES; guess++)
            sum += evaluation->confusion[c * CLASSES + guess];
    }
    assert_int_equal(sum, 5);
    assert_int_equal(top1, evaluation->top1);
    assert_int_equal(top5, evaluation->top5);
    assert_int_equal(evaluation->classes[CHURCH].count, 2);
    assert_string_equal(evaluation->classes[CHURCH].label, "church");
    assert_int_equal(evaluation->skipped_count, 2);
    assert_non_null(strstr(evaluation->skipped[0].path, "zebra"));
    assert_non_null(strstr(evaluation->skipped[1].reason, "3.jpg"));
    dla_evaluation_destroy(evaluation);
    dla_evaluation_destroy(NULL);

    evaluation = NULL;
    assert_int_equal(dla_classifier_evaluate(classifier, tree, stop_at_once, &total, &evaluation), DLA_ERROR_INTERRUPTED);
    assert_int_equal(total, 6);
    assert_null(evaluation);
    snprintf(command, sizeof(command), "rm -r '%s'", tree);
    assert_int_equal(system(command), 0);
    assert_int_equal(dla_classifier_evaluate(classifier, tree, NULL, NULL, &evaluation), DLA_ERROR_NOT_FOUND);
    dla_classifier_destroy(classifier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_give_what_files_give),           cmocka_unit_test(lists_are_reported_in_order_with_their_failures),
        cmocka_unit_test(wrong_arguments_are_refused),           cmocka_unit_test(names_find_their_class),
        cmocka_unit_test(evaluation_counts_what_was_classified),
    };
    return cmocka_run_group_tests(tests, open_built_in, close_built_in);
}
