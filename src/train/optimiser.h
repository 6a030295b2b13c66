/* optimiser.h - stochastic gradient descent with momentum, as PyTorch defines it, over flat blocks.
 *
 *     g = gradient + decay * w
 *     v = momentum * v + g
 *     w = w - rate * (nesterov ? g + momentum * v : v)
 */
#ifndef DLA_TRAIN_OPTIMISER_H
#define DLA_TRAIN_OPTIMISER_H

#include "base/thread_pool.h"
#include "train/parameter_block.h"

struct optimiser_options {
    float momentum;
    bool nesterov;
    float weight_decay;
    bool decay_norm_and_bias; /* false: weight decay on convolution weights alone */
    const float *rate_scale;  /* per parameter of the graph, 0: not trained; NULL: all 1 */
};

/* What they say of one parameter, `index` of the graph: its share of the learning rate, 0 where it is not trained, and its decay. */
float optimiser_rate_scale(const struct optimiser_options *options, const struct parameter *p, int index);
float optimiser_decay(const struct optimiser_options *options, const struct parameter *p);

/* One step; `velocity` and `gradients` are blocks of the parameters' order. */
void optimiser_step(const struct optimiser_options *options, struct thread_pool *pool, struct parameter_block *parameters, float *velocity,
                    const float *gradients, float rate);

/* Scales the gradients so that their norm over all parameters is at most `limit`; returns the norm before. Not finite where a
 * gradient is not. */
double clip_gradients(const struct parameter_block *parameters, float *gradients, double limit);

/* average = decay * average + (1 - decay) * values, over the whole block. */
void average_weights(const struct parameter_block *parameters, float *average, float decay);

#endif
