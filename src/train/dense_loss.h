/* dense_loss.h - cross-entropy per pixel of log-probabilities, and its gradient.
 *
 *     loss = sum over labelled pixels of -w[label] * log p[label]  /  sum over labelled pixels of w[label]
 *
 * as PyTorch's NLLLoss with class weights and ignore_index. The boundary loss is the same with two classes: of a softmax over two
 * log-odds a and b, p[1] is the sigmoid of b - a, and w[1] the weight of edges.
 */
#ifndef DLA_TRAIN_DENSE_LOSS_H
#define DLA_TRAIN_DENSE_LOSS_H

#include <dla/dla.h>

struct dense_loss {
    double loss;               /* these pixels' part of it; 0 where no pixel is labelled */
    int64_t labelled, correct; /* pixels; of these, most probably what they are */
};

/* The loss's divisor. labels: (pixels), a class or TARGET_IGNORED; weights: (classes), NULL: 1. */
double pixel_weight(int64_t pixels, const uint8_t *labels, const float *weights);

/* log_probabilities, gradient: (pixels, classes). total: pixel_weight of all pixels of the batch, those of other ranks included,
 * whose losses then add up. The gradient, which may be NULL, is multiplied by `scale`. */
struct dense_loss pixel_cross_entropy(int64_t pixels, int classes, const float *log_probabilities, const uint8_t *labels,
                                      const float *weights, double total, float scale, float *gradient);

#endif
