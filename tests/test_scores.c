/* Softmax and the best classes, against sorting all of them. */
#include "tasks/scores.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_CLASSES = 1000 };

/* The obvious way: the largest logit that is left, `count` times; each probability from its definition. */
static void best_by_definition(const float *logits, int class_count, int count, dla_class_score *scores)
{
    bool taken[MOST_CLASSES] = {false};

    for (int k = 0; k < count; k++) {
        int best = -1;
        for (int c = 0; c < class_count; c++)
            if (!taken[c] && (best < 0 || logits[c] > logits[best]))
                best = c;
        taken[best] = true;
        double sum = 0.0;
        for (int c = 0; c < class_count; c++)
            sum += exp((double)logits[c] - (double)logits[best]);
        scores[k] = (dla_class_score){.index = best, .probability = (float)(1.0 / sum)};
    }
}

static void assert_as_defined(const float *logits, int class_count, int count)
{
    dla_class_score found[MOST_CLASSES], expected[MOST_CLASSES];

    assert_int_equal(softmax_top(logits, class_count, count, found), DLA_OK);
    best_by_definition(logits, class_count, count, expected);
    for (int k = 0; k < count; k++) {
        assert_int_equal(found[k].index, expected[k].index);
        assert_true(fabsf(found[k].probability - expected[k].probability) <= 1e-6f * expected[k].probability + 1e-38f);
        assert_null(found[k].label);
    }
}

static void best_classes_are_those_of_a_full_sort(void **state)
{
    (void)state;
    static const int class_counts[] = {1, 2, 5, 10, 1000};
    float logits[MOST_CLASSES];
    uint32_t random = 1;

    for (size_t i = 0; i < sizeof(class_counts) / sizeof(class_counts[0]); i++) {
        for (int repetition = 0; repetition < 20; repetition++) {
            for (int c = 0; c < class_counts[i]; c++) {
                random = random * 1664525u + 1013904223u;
                logits[c] = (float)(random >> 24) / 8.0f - 16.0f; /* 256 values: many equal ones among 1000 */
            }
            int counts[] = {1, 5 < class_counts[i] ? 5 : class_counts[i], class_counts[i]};
            for (int k = 0; k < 3; k++)
                assert_as_defined(logits, class_counts[i], counts[k]);
        }
    }
}

static void equal_logits_come_in_the_order_of_their_classes(void **state)
{
    (void)state;
    float logits[7] = {0};
    dla_class_score scores[3];

    assert_int_equal(softmax_top(logits, 7, 3, scores), DLA_OK);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(scores[k].index, k);
        assert_true(fabsf(scores[k].probability - 1.0f / 7.0f) < 1e-7f);
    }
}

static void large_logits_do_not_overflow(void **state)
{
    (void)state;
    float logits[3] = {3e38f, -3e38f, 3e38f};
    dla_class_score scores[3];

    assert_int_equal(softmax_top(logits, 3, 3, scores), DLA_OK);
    assert_true(scores[0].probability == 0.5f && scores[1].probability == 0.5f && scores[2].probability == 0.0f);
    assert_int_equal(scores[2].index, 1);
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const float no_numbers[] = {NAN, INFINITY, -INFINITY};
    dla_class_score scores[2] = {{.index = 77}};

    for (int i = 0; i < 3; i++) {
        float logits[4] = {0.0f, 1.0f, no_numbers[i], 2.0f};
        assert_int_equal(softmax_top(logits, 4, 2, scores), DLA_ERROR_MISMATCH);
        assert_non_null(strstr(dla_error_message(), "class 2"));
        assert_int_equal(scores[0].index, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_classes_are_those_of_a_full_sort),
        cmocka_unit_test(equal_logits_come_in_the_order_of_their_classes),
        cmocka_unit_test(large_logits_do_not_overflow),
        cmocka_unit_test(what_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
