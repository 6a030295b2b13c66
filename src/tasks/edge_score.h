/* edge_score.h - boundary detection scored as the BSDS benchmark does: ODS, OIS, AP.
 *
 * At every threshold a photograph's boundary map is cut, thinned, and matched with every annotator's map. Its counts are
 *
 *     precision = pixels matched with at least one annotator / pixels detected
 *     recall    = annotators' pixels matched, over all annotators / annotators' pixels
 *
 * and F = 2PR / (P + R). ODS is the best F of the counts summed over the set, between thresholds by interpolation; OIS takes
 * every photograph at its own best threshold; AP is the area under the set's precision over recall.
 */
#ifndef DLA_TASKS_EDGE_SCORE_H
#define DLA_TASKS_EDGE_SCORE_H

#include "tasks/matlab_file.h"

/* How far matched pixels may be apart, as a part of the diagonal: the benchmark's default. */
static const double edge_max_distance_fraction = 0.0075;

struct edge_counts { int64_t matched_annotated, annotated, matched_detected, detected; };

/* Counts of one photograph. probability: (height, width), 0-255 for 0-1, of the annotations' size.
 * counts: threshold_count, at the thresholds (t + 1) / (threshold_count + 1). */
dla_status edge_counts_of_image(const uint8_t *probability, const struct boundary_annotations *annotations, double max_distance_fraction,
                                int threshold_count, struct edge_counts *counts);

/* The scores of a set; the threshold of ois is 0, since every photograph has its own. counts: (image_count, threshold_count). */
dla_status edge_scores_of_set(const struct edge_counts *counts, size_t image_count, int threshold_count, dla_edge_scores *scores);

#endif
