/* optimiser.c - the update as a loop over each parameter; large parameters are cut into runs for the threads. */
#include "train/optimiser.h"

#include <math.h>

struct job {
    const struct optimiser_options *options;
    struct parameter_block *parameters;
    float *velocity;
    const float *gradients;
    float rate;
};

static void update(float *restrict w, float *restrict v, const float *restrict gradient, int64_t count, float rate, float momentum,
                   float decay, bool nesterov)
{
    for (int64_t i = 0; i < count; i++) {
        float g = gradient[i] + decay * w[i];
        v[i] = momentum * v[i] + g;
        w[i] -= rate * (nesterov ? g + momentum * v[i] : v[i]);
    }
}

float optimiser_rate_scale(const struct optimiser_options *options, const struct parameter *p, int index)
{
    return !p->trainable ? 0.0f : options->rate_scale ? options->rate_scale[index] : 1.0f;
}

float optimiser_decay(const struct optimiser_options *options, const struct parameter *p)
{
    return p->kind == PARAMETER_CONV_WEIGHT || options->decay_norm_and_bias ? options->weight_decay : 0.0f;
}

static void update_task(void *context, int index, int worker)
{
    const struct job *job = context;
    const struct parameter *p = &job->parameters->graph->parameters[index];
    int64_t offset = job->parameters->offsets[index];
    float scale = optimiser_rate_scale(job->options, p, index);
    (void)worker;
    if (scale == 0.0f)
        return;
    update(job->parameters->values + offset, job->velocity + offset, job->gradients + offset, p->elements, job->rate * scale,
           job->options->momentum, optimiser_decay(job->options, p), job->options->nesterov);
}

void optimiser_step(const struct optimiser_options *options, struct thread_pool *pool, struct parameter_block *parameters, float *velocity,
                    const float *gradients, float rate)
{
    struct job job = {.options = options, .parameters = parameters, .velocity = velocity, .gradients = gradients, .rate = rate};
    thread_pool_run(pool, update_task, &job, parameters->graph->parameter_count);
}

double clip_gradients(const struct parameter_block *parameters, float *gradients, double limit)
{
    double sum = 0.0;
    for (int64_t i = 0; i < parameters->floats; i++)
        sum += (double)gradients[i] * (double)gradients[i];
    double norm = sqrt(sum);
    if (limit > 0.0 && norm > limit) {
        float scale = (float)(limit / (norm + 1e-6)); /* PyTorch's clip_grad_norm_ */
        for (int64_t i = 0; i < parameters->floats; i++)
            gradients[i] *= scale;
    }
    return norm;
}

void average_weights(const struct parameter_block *parameters, float *average, float decay)
{
    for (int64_t i = 0; i < parameters->floats; i++)
        average[i] = decay * average[i] + (1.0f - decay) * parameters->values[i];
}
