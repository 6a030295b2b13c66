/* recipe.c - initialisation, learning rate, order, mixup's share. */
#include "train/recipe.h"

#include "base/counter_random.h"

#include <math.h>
#include <string.h>

static const double pi = 3.141592653589793;

static uint64_t name_key(const char *name, uint64_t seed)
{
    uint64_t key = seed;
    for (; *name; name++)
        key = counter_key(key, (uint64_t)(unsigned char)*name);
    return key;
}

static double normal_draw(uint64_t key, uint64_t i)
{
    double u = 1.0 - counter_uniform(key, 2 * i), v = counter_uniform(key, 2 * i + 1);
    return sqrt(-2.0 * log(u)) * cos(2.0 * pi * v);
}

bool is_classifier_parameter(const struct parameter *p)
{
    return strncmp(p->name, "fc.", 3) == 0 || strncmp(p->name, "up.", 3) == 0; /* up: enlarges the classes' maps */
}

/* Bilinear interpolation, one channel's kernel: what every upsampling starts from (paper section 4.2). */
static void fill_bilinear(const struct parameter *p, float *values)
{
    int kernel = (int)p->shape[2], half = (kernel + 1) / 2;
    double centre = (double)(2 * half - 1 - half % 2) / (2.0 * half);
    for (int64_t e = 0; e < p->elements; e++) {
        int y = (int)(e / kernel % kernel), x = (int)(e % kernel);
        values[e] = (float)((1.0 - fabs((double)y / half - centre)) * (1.0 - fabs((double)x / half - centre)));
    }
}

static bool is_upsampling(const struct graph *graph, int parameter)
{
    for (value v = 0; v < graph->node_count; v++)
        if (graph->nodes[v].op == OP_TRANSPOSED_CONV2D && graph->nodes[v].as.conv.weight == parameter)
            return true;
    return false;
}

static void initialise(struct parameter_block *block, int index, dla_initialisation kind, uint64_t seed)
{
    const struct parameter *p = &block->graph->parameters[index];
    float *values = block->values + block->offsets[index];
    uint64_t key = name_key(p->name, seed);
    double fan_out = (double)(p->shape[0] * p->shape[2] * p->shape[3]), fan_in = (double)(p->shape[1] * p->shape[2] * p->shape[3]);
    for (int64_t e = 0; e < p->elements; e++)
        switch (p->kind) {
        case PARAMETER_CONV_WEIGHT:
            if (kind == DLA_INITIALISATION_TIMM && is_classifier_parameter(p))
                values[e] = (float)((2.0 * counter_uniform(key, (uint64_t)e) - 1.0) / sqrt(fan_in));
            else
                values[e] = (float)(normal_draw(key, (uint64_t)e) * sqrt(2.0 / fan_out));
            break;
        case PARAMETER_NORM_WEIGHT:
        case PARAMETER_RUNNING_VAR:
            values[e] = 1.0f;
            break;
        default:
            values[e] = 0.0f;
            break;
        }
    if (p->kind == PARAMETER_CONV_WEIGHT && is_upsampling(block->graph, index))
        fill_bilinear(p, values);
}

void initialise_parameters(struct parameter_block *block, dla_initialisation kind, uint64_t seed)
{
    for (int i = 0; i < block->graph->parameter_count; i++)
        initialise(block, i, kind, seed);
}

void initialise_classifier(struct parameter_block *block, dla_initialisation kind, uint64_t seed)
{
    for (int i = 0; i < block->graph->parameter_count; i++)
        if (is_classifier_parameter(&block->graph->parameters[i]))
            initialise(block, i, kind, seed);
}

double learning_rate(const dla_train_options *o, int64_t step, int64_t steps, int64_t epoch_steps)
{
    double warmup = o->warmup_epochs * (double)epoch_steps, done = (double)step;
    if (done < warmup)
        return o->rate * (done + 1.0) / warmup;
    double progress = (double)steps > warmup ? (done - warmup) / ((double)steps - warmup) : 1.0;
    switch (o->schedule) {
    case DLA_SCHEDULE_POLY:
        return o->rate * pow(1.0 - progress, o->poly_power);
    case DLA_SCHEDULE_COSINE:
        return o->rate * 0.5 * (1.0 + cos(pi * progress));
    default:
        return o->rate * pow(o->step_factor, floor(done / (double)epoch_steps / o->step_epochs));
    }
}

void shuffle(size_t *order, size_t count, uint64_t key)
{
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)(counter_bits(key, i) % i), swap = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swap;
    }
}

/* Joehnk's method: u^(1/a) and v^(1/a), taken again until their sum is at most 1. */
double beta_draw(double alpha, uint64_t key)
{
    for (uint64_t i = 0; i < 1000; i++) {
        double u = pow(counter_uniform(key, 2 * i), 1.0 / alpha), v = pow(counter_uniform(key, 2 * i + 1), 1.0 / alpha);
        if (u + v <= 1.0 && u + v > 0.0)
            return u / (u + v);
    }
    return 0.5;
}
