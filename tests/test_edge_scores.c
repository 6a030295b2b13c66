/* Boundary scores: annotations out of MATLAB files, thinning, exact matching, counts and curves. */
#include "base/file.h"
#include "tasks/edge_matching.h"
#include "tasks/edge_score.h"
#include "tasks/edge_thinning.h"
#include "tasks/matlab_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void annotations_are_read_row_by_row(void **state)
{
    static const char *expected[2] = { "#######" "#.....#" "#.....#" "#.....#" "#######", ".#....." "..#...." "...#..." "....#.." ".....#." };
    struct boundary_annotations annotations;

    (void)state;
    assert_int_equal(boundary_annotations_read(TEST_DATA "/edges/two_annotators.mat", &annotations), DLA_OK);
    assert_int_equal(annotations.height, 5);
    assert_int_equal(annotations.width, 7);
    assert_int_equal(annotations.annotator_count, 2);
    for (int a = 0; a < 2; a++)
        for (int i = 0; i < 35; i++)
            assert_int_equal(annotations.maps[a][i], expected[a][i] == '#');
    boundary_annotations_free(&annotations);
    assert_int_equal(boundary_annotations_read(TEST_DATA "/edges/uncompressed.mat", &annotations), DLA_OK);
    assert_int_equal(annotations.annotator_count, 1);
    assert_int_equal(annotations.maps[0][8 + 1], 1);
    boundary_annotations_free(&annotations);
}

static void foreign_files_are_refused(void **state)
{
    struct boundary_annotations annotations;

    (void)state;
    assert_int_equal(boundary_annotations_read(TEST_DATA "/edges/no_ground_truth.mat", &annotations), DLA_ERROR_FORMAT);
    assert_non_null(strstr(dla_error_message(), "groundTruth"));
    assert_int_equal(boundary_annotations_read(TEST_DATA "/edges/thinned.txt", &annotations), DLA_ERROR_FORMAT);
    assert_non_null(strstr(dla_error_message(), "not a MATLAB 5 file"));
    assert_int_equal(boundary_annotations_read(TEST_DATA "/edges/absent.mat", &annotations), DLA_ERROR_NOT_FOUND);
}

/* Every proper prefix of a sound file is refused, and no changed byte makes the reader misbehave (sanitizers watch). */
static void damaged_files_are_refused(void **state)
{
    static const char *const files[] = { TEST_DATA "/edges/two_annotators.mat", TEST_DATA "/edges/uncompressed.mat" };

    (void)state;
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        struct mapped_file file;
        struct boundary_annotations annotations;
        uint8_t *copy;
        assert_int_equal(file_map(files[f], &file), DLA_OK);
        copy = malloc(file.size);
        assert_non_null(copy);
        for (size_t length = 0; length + 8 < file.size; length++) {
            uint8_t *prefix = malloc(length + 1); /* exactly as long, so that reading on is seen */
            assert_non_null(prefix);
            memcpy(prefix, file.bytes, length);
            assert_int_not_equal(boundary_annotations_parse(prefix, length, "prefix", &annotations), DLA_OK);
            free(prefix);
        }
        for (size_t i = 0; i < file.size; i++) {
            memcpy(copy, file.bytes, file.size);
            copy[i] ^= 0xff;
            if (boundary_annotations_parse(copy, file.size, "changed", &annotations) == DLA_OK)
                boundary_annotations_free(&annotations);
        }
        free(copy);
        file_unmap(&file);
    }
}

static void read_map(FILE *file, int height, int width, uint8_t *map)
{
    char row[256];
    for (int y = 0; y < height; y++) {
        assert_int_equal(fscanf(file, "%255s", row), 1);
        assert_int_equal(strlen(row), width);
        for (int x = 0; x < width; x++)
            map[y * width + x] = row[x] == '#';
    }
}

static void thinning_equals_an_independent_one(void **state)
{
    FILE *file = fopen(TEST_DATA "/edges/thinned.txt", "r");
    int height, width, cases = 0;

    (void)state;
    assert_non_null(file);
    while (fscanf(file, "%d %d", &height, &width) == 2) {
        uint8_t map[64 * 64], expected[64 * 64];
        assert_true(height * width <= 64 * 64);
        read_map(file, height, width, map);
        read_map(file, height, width, expected);
        assert_int_equal(edge_map_thin(map, height, width), DLA_OK);
        assert_memory_equal(map, expected, (size_t)(height * width));
        cases++;
    }
    fclose(file);
    assert_int_equal(cases, 7);
}

/* The obvious solution: row after row, every set of columns taken so far, the least cost. best[set] after all rows. */
static int64_t least_cost(const uint8_t *first, const uint8_t *second, int height, int width, double max_distance)
{
    enum { MOST_COLUMNS = 14 };
    const int64_t outlier = (int64_t)ceil(100 * max_distance * 100);
    int columns[MOST_COLUMNS], column_count = 0;
    int64_t *best, least;

    for (int i = 0; i < height * width; i++)
        if (second[i]) {
            assert_true(column_count < MOST_COLUMNS);
            columns[column_count++] = i;
        }
    best = malloc(sizeof *best << column_count);
    assert_non_null(best);
    for (int set = 0; set < 1 << column_count; set++)
        best[set] = set ? INT64_MAX / 2 : 0;
    for (int i = 0; i < height * width; i++) {
        if (!first[i])
            continue;
        for (int set = (1 << column_count) - 1; set >= 0; set--) { /* larger sets first: they come from smaller ones */
            int64_t cost = best[set] + outlier;
            for (int c = 0; c < column_count; c++) {
                int dy = i / width - columns[c] / width, dx = i % width - columns[c] % width;
                if ((set >> c & 1) && dy * dy + dx * dx <= max_distance * max_distance) {
                    int64_t with = best[set & ~(1 << c)] + (int64_t)rint(100 * sqrt(dy * dy + dx * dx));
                    cost = with < cost ? with : cost;
                }
            }
            best[set] = cost;
        }
    }
    least = best[0];
    for (int set = 1; set < 1 << column_count; set++)
        least = best[set] < least ? best[set] : least;
    free(best);
    return least;
}

static uint32_t next_random(uint32_t *random)
{
    return (*random = *random * 1664525u + 1013904223u) >> 8;
}

static void matching_is_optimal(void **state)
{
    uint32_t random = 1;

    (void)state;
    for (int round = 0; round < 400; round++) {
        enum { HEIGHT = 6, WIDTH = 9, PIXELS = HEIGHT * WIDTH };
        const double max_distance = round % 4 + 0.5;
        const int first_count = 1 + (int)(next_random(&random) % 12), second_count = 1 + (int)(next_random(&random) % 12);
        uint8_t first[PIXELS] = { 0 }, second[PIXELS] = { 0 }, matched_first[PIXELS], matched_second[PIXELS];
        struct edge_matcher *matcher;
        struct edge_matching matching;
        int rows = 0, in_first = 0, in_second = 0;

        for (int i = 0; i < first_count; i++)
            first[next_random(&random) % PIXELS] = 1;
        for (int i = 0; i < second_count; i++)
            second[next_random(&random) % PIXELS] = 1;
        assert_int_equal(edge_matcher_create(HEIGHT, WIDTH, max_distance, &matcher), DLA_OK);
        assert_int_equal(edge_maps_match(matcher, first, second, matched_first, matched_second, &matching), DLA_OK);
        for (int i = 0; i < PIXELS; i++) {
            assert_true(first[i] || !matched_first[i]);
            assert_true(second[i] || !matched_second[i]);
            rows += first[i];
            in_first += matched_first[i];
            in_second += matched_second[i];
        }
        assert_int_equal(in_first, matching.pairs);
        assert_int_equal(in_second, matching.pairs);
        assert_int_equal(matching.distance + (rows - matching.pairs) * (int64_t)ceil(100 * max_distance * 100),
                         least_cost(first, second, HEIGHT, WIDTH, max_distance));
        edge_matcher_destroy(matcher);
    }
}

static void impossible_maps_are_refused(void **state)
{
    struct edge_matcher *matcher;

    (void)state;
    assert_int_equal(edge_matcher_create(0, 5, 1, &matcher), DLA_ERROR_ARGUMENT);
    assert_int_equal(edge_matcher_create(1 << 14, 1 << 14, 1, &matcher), DLA_ERROR_ARGUMENT);
    assert_int_equal(edge_matcher_create(5, 5, NAN, &matcher), DLA_ERROR_ARGUMENT);
}

/* An annotator's own map, given back, is perfect for her and as good as they agree for the others. */
static void perfect_predictions_score_one(void **state)
{
    struct boundary_annotations annotations;
    struct edge_counts counts[3];
    uint8_t probability[35];
    dla_edge_scores scores;

    (void)state;
    assert_int_equal(boundary_annotations_read(TEST_DATA "/edges/uncompressed.mat", &annotations), DLA_OK);
    for (int i = 0; i < 35; i++)
        probability[i] = annotations.maps[0][i] ? 255 : 0;
    assert_int_equal(edge_counts_of_image(probability, &annotations, 0.0075, 3, counts), DLA_OK);
    for (int t = 0; t < 3; t++) {
        assert_int_equal(counts[t].annotated, 5);
        assert_int_equal(counts[t].matched_annotated, 5);
        assert_int_equal(counts[t].detected, 5);
        assert_int_equal(counts[t].matched_detected, 5);
    }
    assert_int_equal(edge_scores_of_set(counts, 1, 3, &scores), DLA_OK);
    assert_float_equal(scores.ods.f, 1, 1e-12);
    assert_float_equal(scores.ois.f, 1, 1e-12);
    assert_float_equal(scores.ods.threshold, 0.25, 1e-12);
    boundary_annotations_free(&annotations);
}

/* Two photographs, three thresholds, worked out by hand. */
static void curves_are_summed_over_the_set(void **state)
{
    static const struct edge_counts counts[2][3] = {
        { { 8, 10, 8, 20 }, { 6, 10, 6, 8 }, { 0, 10, 0, 0 } },
        { { 9, 10, 9, 12 }, { 2, 10, 2, 2 }, { 0, 10, 0, 0 } },
    };
    dla_edge_scores scores;

    (void)state;
    assert_int_equal(edge_scores_of_set(counts[0], 2, 3, &scores), DLA_OK);
    /* recall 0.85, 0.4, 0; precision 17/32, 0.8, 0: the best F is at the first threshold or between it and the second */
    assert_true(scores.ods.f >= 2 * 0.85 * 0.53125 / (0.85 + 0.53125) - 1e-12);
    assert_true(scores.ods.threshold >= 0.25 && scores.ods.threshold <= 0.5);
    /* each at its own best: 6 of 10, 6 of 8 (F 2/3) and 9 of 10, 9 of 12 */
    assert_float_equal(scores.ois.recall, 15.0 / 20, 1e-12);
    assert_float_equal(scores.ois.precision, 15.0 / 20, 1e-12);
    /* straight lines (0, 0) - (0.4, 0.8) - (0.85, 0.53125), sampled at 0, 0.01 .. 0.85 */
    double area = 0;
    for (int i = 0; i <= 85; i++)
        area += (i <= 40 ? 2 * i / 100.0 : 0.8 + (0.53125 - 0.8) * (i / 100.0 - 0.4) / 0.45) / 100;
    assert_float_equal(scores.ap, area, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(annotations_are_read_row_by_row), cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(damaged_files_are_refused),       cmocka_unit_test(thinning_equals_an_independent_one),
        cmocka_unit_test(matching_is_optimal),             cmocka_unit_test(impossible_maps_are_refused),
        cmocka_unit_test(perfect_predictions_score_one),   cmocka_unit_test(curves_are_summed_over_the_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
