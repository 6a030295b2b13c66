/* test_explain.c - the evidence adds up to the logit, and the sheet shows it. */
#include "image/draw_text.h"
#include "image/image.h"
#include "tasks/model.h"

#include "image_check.h"

#include <math.h>

struct fixture {
    dla_model *model;
    dla_image *photograph;
};

static int open_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    *state = fixture;
    return fixture == NULL || dla_model_open(NULL, &fixture->model) != DLA_OK
           || dla_image_read(IMAGES "base_444.jpg", NULL, &fixture->photograph) != DLA_OK;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;

    dla_image_destroy(fixture->photograph);
    dla_model_close(fixture->model);
    free(fixture);
    return 0;
}

static void evidence_adds_up_to_the_logit(void **state)
{
    const struct fixture *fixture = *state;
    int classes = dla_model_class_count(fixture->model);
    double sum_of_probabilities = 0.0;

    for (int i = 0; i < classes; i++) {
        dla_explain_options options = DLA_EXPLAIN_OPTIONS_INIT;
        dla_explanation *explanation = NULL;
        double sum = 0.0;

        options.class_index = i;
        options.threads = 1;
        assert_ok(dla_explain(fixture->model, fixture->photograph, &options, &explanation));
        assert_int_equal(explanation->score.index, i);
        assert_string_equal(explanation->score.label, dla_model_label(fixture->model, i));
        for (int k = 0; k < explanation->height * explanation->width; k++)
            sum += (double)explanation->evidence[k];
        double logit = (double)explanation->bias + sum / (explanation->height * explanation->width);
        assert_true(fabs(logit - (double)explanation->logit) < 1e-4 * fmax(1.0, fabs(logit)));
        sum_of_probabilities += (double)explanation->score.probability;
        dla_explanation_destroy(explanation);
    }
    assert_true(fabs(sum_of_probabilities - 1.0) < 1e-5);
}

static void the_most_probable_class_is_the_classifiers(void **state)
{
    const struct fixture *fixture = *state;
    dla_classifier *classifier = NULL;
    dla_explanation *explanation = NULL;
    dla_class_score best;

    assert_ok(dla_classifier_create(fixture->model, NULL, &classifier));
    assert_ok(dla_classifier_classify(classifier, (const dla_image *const *)&fixture->photograph, 1, 1, &best));
    assert_ok(dla_explain(fixture->model, fixture->photograph, NULL, &explanation));
    assert_int_equal(explanation->score.index, best.index);
    assert_true(fabsf(explanation->score.probability - best.probability) < 1e-5f);
    dla_explanation_destroy(explanation);
    dla_classifier_destroy(classifier);
}

/* 97 x 61 pixels become 267 x 168, of which the middle 160 x 160 are used. */
static void the_crop_is_found_in_the_photograph(void **state)
{
    const struct fixture *fixture = *state;
    dla_preprocessing padded = *dla_model_preprocessing(fixture->model);
    dla_explain_options options = DLA_EXPLAIN_OPTIONS_INIT;
    dla_explanation *explanation = NULL;

    assert_ok(dla_explain(fixture->model, fixture->photograph, &options, &explanation));
    assert_int_equal(explanation->seen.top, 1);
    assert_int_equal(explanation->seen.left, 20);
    assert_int_equal(explanation->seen.height, 59);
    assert_int_equal(explanation->seen.width, 58);
    dla_explanation_destroy(explanation);

    padded.crop_pct = 2.0; /* 80 rows in the middle of 160 */
    options.preprocessing = &padded;
    assert_ok(dla_explain(fixture->model, fixture->photograph, &options, &explanation));
    assert_int_equal(explanation->seen.top, -31);
    assert_int_equal(explanation->seen.height, 123);
    dla_image *picture = NULL;
    assert_ok(dla_explanation_draw(explanation, fixture->photograph, &picture));
    dla_image_destroy(picture);
    dla_explanation_destroy(explanation);
}

static void levels_are_those_of_the_census(void **state)
{
    const struct fixture *fixture = *state;
    int size = dla_model_preprocessing(fixture->model)->size;
    dla_explanation *explanation = NULL;
    dla_census census;

    assert_ok(dla_network_census(dla_model_network(fixture->model), size, size, &census));
    assert_ok(dla_explain(fixture->model, fixture->photograph, NULL, &explanation));
    for (int i = 0; i < DLA_LEVEL_COUNT; i++) {
        const dla_level_activity *level = &explanation->levels[i];
        float largest = 0.0f;

        assert_string_equal(level->name, census.levels[i].name);
        assert_int_equal(level->channels, census.levels[i].channels);
        assert_int_equal(level->height, census.levels[i].height);
        assert_int_equal(level->width, census.levels[i].width);
        for (int k = 0; k < level->height * level->width; k++) {
            assert_true(level->activity[k] >= 0.0f);
            largest = fmaxf(largest, level->activity[k]);
        }
        assert_true(largest > 0.0f);
    }
    dla_explanation_destroy(explanation);
}

/* Any shape of photograph fits onto the sheet. */
static void a_sheet_is_drawn_of_any_photograph(void **state)
{
    static const char *const names[] = {"tiny_1x1.jpg", "wide.jpg", "tall.jpg", "grey.jpg"};
    const struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        dla_image *photograph = NULL, *picture = NULL;
        dla_explanation *explanation = NULL;
        char path[512];

        snprintf(path, sizeof path, IMAGES "%s", names[i]);
        assert_ok(dla_image_read(path, NULL, &photograph));
        assert_ok(dla_explain(fixture->model, photograph, NULL, &explanation));
        assert_ok(dla_explanation_draw(explanation, photograph, &picture));
        assert_int_equal(dla_image_width(picture), 976);
        assert_true(dla_image_height(picture) > 200 && dla_image_height(picture) < 1000);
        dla_image_destroy(picture);
        dla_explanation_destroy(explanation);
        dla_image_destroy(photograph);
    }
}

static void what_cannot_be_explained_is_said(void **state)
{
    const struct fixture *fixture = *state;
    dla_explain_options options = DLA_EXPLAIN_OPTIONS_INIT;
    dla_explanation *explanation = NULL;

    options.class_index = 10;
    assert_int_equal(dla_explain(fixture->model, fixture->photograph, &options, &explanation), DLA_ERROR_ARGUMENT);
    assert_message_contains("class 10; dla46_c has classes 0 to 9");
    options.class_index = -2;
    assert_int_equal(dla_explain(fixture->model, fixture->photograph, &options, &explanation), DLA_ERROR_ARGUMENT);
    assert_null(explanation);
}

static void text_is_cut_to_fit(void **state)
{
    char fitted[16];

    (void)state;
    fit_text("garbage truck", 13 * LETTER_WIDTH, 1, fitted, sizeof fitted);
    assert_string_equal(fitted, "garbage truck");
    fit_text("garbage truck", 12 * LETTER_WIDTH, 1, fitted, sizeof fitted);
    assert_string_equal(fitted, "garbage t...");
    fit_text("garbage truck", 12 * LETTER_WIDTH * 2, 2, fitted, sizeof fitted);
    assert_string_equal(fitted, "garbage t...");
    fit_text("m\xc3\xbcllwagen", 7 * LETTER_WIDTH, 1, fitted, sizeof fitted); /* one letter of two bytes */
    assert_string_equal(fitted, "m\xc3\xbcll...");
    fit_text("garbage truck, dustcart", 1000, 1, fitted, sizeof fitted); /* the memory is the limit */
    assert_string_equal(fitted, "garbage truc...");
    fit_text("garbage truck", 2 * LETTER_WIDTH, 1, fitted, sizeof fitted);
    assert_string_equal(fitted, "");
}

static void letters_stay_within_the_picture(void **state)
{
    static const uint8_t black[20 * 10], white[3] = {255, 255, 255};
    dla_image *image = NULL;
    int lit = 0;

    (void)state;
    assert_ok(dla_image_from_pixels(black, 10, 20, 20, DLA_PIXELS_GREY, &image));
    draw_text(image, -3, -2, 1, white, "dla \xc3\xbc~");
    draw_text(image, 15, 6, 3, white, "dla");
    for (int i = 0; i < 20 * 10; i++)
        lit += dla_image_pixels(image)[i * 3] == 255;
    assert_true(lit > 10 && lit < 200);
    dla_image_destroy(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evidence_adds_up_to_the_logit),
        cmocka_unit_test(the_most_probable_class_is_the_classifiers),
        cmocka_unit_test(the_crop_is_found_in_the_photograph),
        cmocka_unit_test(levels_are_those_of_the_census),
        cmocka_unit_test(a_sheet_is_drawn_of_any_photograph),
        cmocka_unit_test(what_cannot_be_explained_is_said),
        cmocka_unit_test(text_is_cut_to_fit),
        cmocka_unit_test(letters_stay_within_the_picture),
    };

    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
