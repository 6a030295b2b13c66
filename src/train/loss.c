/* loss.c - softmax cross-entropy with soft targets, sums in double. */
#include "train/loss.h"

#include <math.h>

double cross_entropy(int rows, int classes, const float *logits, const struct loss_targets *targets, float scale, float *gradient,
                     int *correct)
{
    double loss = 0.0, smoothing = (double)targets->smoothing, share = targets->b ? (double)targets->share : 1.0;
    *correct = 0;
    for (int r = 0; r < rows; r++) {
        const float *row = logits + (int64_t)r * classes;
        int best = 0;
        double sum = 0.0;
        for (int c = 1; c < classes; c++)
            best = row[c] > row[best] ? c : best;
        for (int c = 0; c < classes; c++)
            sum += exp((double)row[c] - (double)row[best]);
        double log_sum = log(sum) + (double)row[best];
        for (int c = 0; c < classes; c++) {
            double target = smoothing / classes, log_probability = (double)row[c] - log_sum;
            if (c == targets->a[r])
                target += (1.0 - smoothing) * share;
            if (targets->b && c == targets->b[r])
                target += (1.0 - smoothing) * (1.0 - share);
            if (target != 0.0)
                loss -= target * log_probability;
            gradient[(int64_t)r * classes + c] = (float)((exp(log_probability) - target) / rows * (double)scale);
        }
        *correct += best == targets->a[r];
    }
    return loss / rows;
}
