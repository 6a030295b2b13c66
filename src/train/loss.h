/* loss.h - cross-entropy of logits against soft targets, and its gradient.
 *
 * A row's target mixes two classes (mixup) and spreads `smoothing` evenly over all (label smoothing):
 *
 *     t = (1 - smoothing) * (share * [a] + (1 - share) * [b]) + smoothing / classes
 *     loss = mean over rows of  - sum over classes of t * log softmax(logits)
 *     gradient = (softmax(logits) - t) / rows
 */
#ifndef DLA_TRAIN_LOSS_H
#define DLA_TRAIN_LOSS_H

#include <dla/dla.h>

struct loss_targets {
    const int *a, *b; /* (rows) classes; b may be NULL: no mixup */
    float share;      /* of a */
    float smoothing;
};

/* logits, gradient: (rows, classes). Returns the mean loss; *correct counts rows whose largest logit is class a. The gradient
 * is multiplied by `scale` (1 over the number of passes that are accumulated). */
double cross_entropy(int rows, int classes, const float *logits, const struct loss_targets *targets, float scale, float *gradient,
                     int *correct);

#endif
