/* edge_score.c - counts of one photograph, scores of a set; edge_score.h says what they mean.
 *
 * The rules for ties and gaps are those of the benchmark's own program (collect_eval_bdry in BSDS500's bench folder): a ratio
 * without a denominator is 0, the first of equal F values is a photograph's best, the optimum between two thresholds is sought
 * at a hundred steps of linear interpolation, and precision is interpolated over recall at 0, 0.01 .. 1, zero outside.
 */
#include "tasks/edge_score.h"

#include "base/memory.h"
#include "base/status.h"
#include "tasks/edge_matching.h"
#include "tasks/edge_thinning.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double threshold_at(int index, int threshold_count)
{
    return (double)(index + 1) / (threshold_count + 1);
}

/* Memory for one photograph's maps, each (height, width). */
struct workspace {
    struct edge_matcher *matcher;
    uint8_t *detected, *matched_detected, *matched_annotated, *matched_by_anyone;
};

static int64_t count_set(const uint8_t *map, size_t pixels)
{
    int64_t count = 0;
    for (size_t i = 0; i < pixels; i++)
        count += map[i] != 0;
    return count;
}

static dla_status count_at_threshold(const uint8_t *probability, double threshold, const struct boundary_annotations *annotations,
                                     struct workspace *work, struct edge_counts *counts)
{
    const size_t pixels = (size_t)annotations->height * (size_t)annotations->width;
    dla_status status;

    for (size_t i = 0; i < pixels; i++)
        work->detected[i] = probability[i] / 255.0 >= threshold;
    status = edge_map_thin(work->detected, annotations->height, annotations->width);
    if (status != DLA_OK)
        return status;
    memset(work->matched_by_anyone, 0, pixels);
    *counts = (struct edge_counts){ .detected = count_set(work->detected, pixels) };
    for (int a = 0; a < annotations->annotator_count; a++) {
        status = edge_maps_match(work->matcher, work->detected, annotations->maps[a], work->matched_detected, work->matched_annotated, NULL);
        if (status != DLA_OK)
            return status;
        for (size_t i = 0; i < pixels; i++)
            work->matched_by_anyone[i] |= work->matched_detected[i];
        counts->annotated += count_set(annotations->maps[a], pixels);
        counts->matched_annotated += count_set(work->matched_annotated, pixels);
    }
    counts->matched_detected = count_set(work->matched_by_anyone, pixels);
    return DLA_OK;
}

dla_status edge_counts_of_image(const uint8_t *probability, const struct boundary_annotations *annotations, double max_distance_fraction,
                                int threshold_count, struct edge_counts *counts)
{
    const int height = annotations->height, width = annotations->width;
    const size_t pixels = (size_t)height * (size_t)width;
    uint8_t *maps = memory_allocate(4 * pixels);
    struct workspace work = { NULL, maps, maps + pixels, maps + 2 * pixels, maps + 3 * pixels };
    dla_status status;

    if (!maps)
        return status_out_of_memory(4 * pixels, "scoring boundaries");
    status = edge_matcher_create(height, width, max_distance_fraction * sqrt((double)height * height + (double)width * width), &work.matcher);
    for (int t = 0; status == DLA_OK && t < threshold_count; t++)
        status = count_at_threshold(probability, threshold_at(t, threshold_count), annotations, &work, &counts[t]);
    edge_matcher_destroy(work.matcher);
    memory_free(maps);
    return status;
}

static double ratio(int64_t part, int64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static double f_measure(double recall, double precision)
{
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

static dla_edge_score score_of(const struct edge_counts *counts, double threshold)
{
    double recall = ratio(counts->matched_annotated, counts->annotated), precision = ratio(counts->matched_detected, counts->detected);
    return (dla_edge_score){ f_measure(recall, precision), precision, recall, threshold };
}

static void add_counts(struct edge_counts *sum, const struct edge_counts *counts)
{
    sum->matched_annotated += counts->matched_annotated;
    sum->annotated += counts->annotated;
    sum->matched_detected += counts->matched_detected;
    sum->detected += counts->detected;
}

/* The best point on the curve, also between neighbouring thresholds. curve: threshold_count points. */
static dla_edge_score best_on_curve(const dla_edge_score *curve, int threshold_count)
{
    enum { STEPS = 100 };
    dla_edge_score best = curve[0];

    for (int t = 1; t < threshold_count; t++)
        for (int step = 0; step < STEPS; step++) {
            double d = (double)step / (STEPS - 1);
            double recall = curve[t].recall * d + curve[t - 1].recall * (1 - d);
            double precision = curve[t].precision * d + curve[t - 1].precision * (1 - d);
            double f = f_measure(recall, precision);
            if (f > best.f)
                best = (dla_edge_score){ f, precision, recall, curve[t].threshold * d + curve[t - 1].threshold * (1 - d) };
        }
    return best;
}

static int by_recall(const void *a, const void *b)
{
    const dla_edge_score *p = a, *q = b;
    if (p->recall != q->recall)
        return p->recall < q->recall ? -1 : 1;
    return (p->threshold > q->threshold) - (p->threshold < q->threshold);
}

/* Area under precision over recall. Sorts the curve; of points of equal recall the one with the lowest threshold counts. */
static double average_precision(dla_edge_score *curve, int threshold_count)
{
    enum { STEPS = 100 };
    int distinct = 1, low = 0;
    double area = 0;

    qsort(curve, (size_t)threshold_count, sizeof *curve, by_recall);
    for (int t = 1; t < threshold_count; t++)
        if (curve[t].recall != curve[distinct - 1].recall)
            curve[distinct++] = curve[t];
    if (distinct < 2)
        return 0;
    for (int step = 0; step <= STEPS; step++) {
        double recall = (double)step / STEPS, part;
        if (recall < curve[0].recall || recall > curve[distinct - 1].recall)
            continue;
        while (low < distinct - 2 && recall > curve[low + 1].recall)
            low++;
        part = (recall - curve[low].recall) / (curve[low + 1].recall - curve[low].recall);
        area += (curve[low].precision + (curve[low + 1].precision - curve[low].precision) * part) / STEPS;
    }
    return area;
}

dla_status edge_scores_of_set(const struct edge_counts *counts, size_t image_count, int threshold_count, dla_edge_scores *scores)
{
    dla_edge_score *curve = memory_allocate((size_t)threshold_count * sizeof *curve);
    struct edge_counts at_own_best = { 0 };

    if (!curve)
        return status_out_of_memory((size_t)threshold_count * sizeof *curve, "a precision-recall curve");
    for (int t = 0; t < threshold_count; t++) {
        struct edge_counts sum = { 0 };
        for (size_t image = 0; image < image_count; image++)
            add_counts(&sum, &counts[image * (size_t)threshold_count + (size_t)t]);
        curve[t] = score_of(&sum, threshold_at(t, threshold_count));
    }
    for (size_t image = 0; image < image_count; image++) {
        const struct edge_counts *of_image = counts + image * (size_t)threshold_count, *best = of_image;
        for (int t = 1; t < threshold_count; t++)
            if (score_of(&of_image[t], 0).f > score_of(best, 0).f)
                best = &of_image[t];
        add_counts(&at_own_best, best);
    }
    scores->images = image_count;
    scores->thresholds = threshold_count;
    scores->ods = best_on_curve(curve, threshold_count);
    scores->ois = score_of(&at_own_best, 0);
    scores->ap = average_precision(curve, threshold_count);
    memory_free(curve);
    return DLA_OK;
}
