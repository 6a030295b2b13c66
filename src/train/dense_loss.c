/* dense_loss.c - cross-entropy per pixel, sums in double. */
#include "train/dense_loss.h"

#include "tasks/dense_target.h"

#include <string.h>

double pixel_weight(int64_t pixels, const uint8_t *labels, const float *weights)
{
    double total = 0.0;
    for (int64_t p = 0; p < pixels; p++)
        if (labels[p] != TARGET_IGNORED)
            total += weights ? (double)weights[labels[p]] : 1.0;
    return total;
}

struct dense_loss pixel_cross_entropy(int64_t pixels, int classes, const float *log_probabilities, const uint8_t *labels,
                                      const float *weights, double total, float scale, float *gradient)
{
    struct dense_loss result = {0};
    if (gradient)
        memset(gradient, 0, (size_t)(pixels * classes) * sizeof(*gradient));
    for (int64_t p = 0; p < pixels; p++) {
        const float *row = log_probabilities + p * classes;
        int label = labels[p], best = 0;
        if (label == TARGET_IGNORED)
            continue;
        for (int c = 1; c < classes; c++)
            best = row[c] > row[best] ? c : best;
        result.labelled++;
        result.correct += best == label;
        double share = total > 0.0 ? (weights ? (double)weights[label] : 1.0) / total : 0.0;
        result.loss -= share * (double)row[label];
        if (gradient)
            gradient[p * classes + label] = (float)(-share * (double)scale);
    }
    return result;
}
