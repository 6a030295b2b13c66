/* report.c - what a plan decided, and how long each of its steps takes. */
#include "plan/steps.h"

#include <time.h>

int plan_step_count(const struct plan *plan)
{
    return plan->step_count;
}

struct plan_step_report plan_step_report(const struct plan *plan, int index)
{
    const struct step *step = &plan->steps[index];
    const struct map_call *map = &step->map;
    struct plan_step_report report = {.name = step->name, .op = step->op, .kernel = op_name(step->op)};
    double images = plan->options.batch;

    if (step->kernel) {
        const struct conv_shape *s = &step->shape;
        double out_pixels = images * s->out_height * s->out_width, in_pixels = images * s->in_height * s->in_width;
        double products = (double)s->kernel * s->kernel * s->in_channels / s->groups * s->out_channels;
        report.kernel = step->kernel->name;
        report.height = s->out_height;
        report.width = s->out_width;
        report.channels = s->out_channels;
        report.shape = s;
        report.multiply_adds = out_pixels * products;
        report.weight_bytes = (double)step->kernel->packed_bytes(s);
        report.map_bytes = 4.0 * (in_pixels * s->in_channels + out_pixels * s->out_channels * (step->residual != NO_VALUE ? 2.0 : 1.0));
        return report;
    }
    double in_elements = images * map->in_height * map->in_width * map->in_channels;
    double out_elements = images * map->out_height * map->out_width * map->channels;
    report.height = map->out_height;
    report.width = map->out_width;
    report.channels = map->channels;
    report.map_bytes = 4.0 * (in_elements * (step->op == OP_ADD ? 2.0 : 1.0) + out_elements);
    if (step->op == OP_TRANSPOSED_CONV2D)
        report.multiply_adds = in_elements * map->kernel * map->kernel * map->channels / map->groups;
    return report;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void plan_run_timed(struct plan *plan, double *seconds)
{
    double begin = now();

    for (int i = 0; i < plan->step_count; i++) {
        plan_run_step(plan, i);
        double end = now();
        seconds[i] = end - begin;
        begin = end;
    }
}

struct plan_memory plan_memory(const struct plan *plan)
{
    return (struct plan_memory){
        .activation_bytes = plan->activation_bytes,
        .activation_bound = plan->activation_bound,
        .weight_bytes = plan->weight_bytes,
        .scratch_bytes = plan->scratch_bytes,
    };
}
