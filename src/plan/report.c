/* report.c - what a plan decided, and how long each of its steps takes. */
#include "base/clock.h"
#include "plan/device.h"
#include "plan/plan_cuda.h"
#include "plan/steps.h"

int plan_step_count(const struct plan *plan)
{
    return plan->step_count;
}

static double products_of(const struct conv_kernel *kernel, const struct conv_shape *s)
{
    if (kernel->products)
        return kernel->products(s);
    return (double)s->batch * s->out_height * s->out_width * s->kernel * s->kernel * s->in_channels / s->groups * s->out_channels;
}

struct plan_step_report plan_step_report(const struct plan *plan, int index)
{
    const struct step *step = &plan->steps[index];
    const struct map_call *map = &step->map;
    struct plan_step_report report = {.name = step->name, .op = step->op, .kernel = op_name(step->op)};
    double images = plan->options.batch, bytes = (double)precision_bytes(plan->options.precision);

    if (step->op == OP_CONV2D) {
        const struct conv_shape *s = &step->shape;
        double out_pixels = images * s->out_height * s->out_width, in_pixels = images * s->in_height * s->in_width;
        double products = (double)s->kernel * s->kernel * s->in_channels / s->groups * s->out_channels;
        report.kernel = plan->cuda ? cuda_plan_kernel(plan->cuda, index) : step->kernel->name;
        report.in_height = s->in_height;
        report.in_width = s->in_width;
        report.in_channels = s->in_channels;
        report.height = s->out_height;
        report.width = s->out_width;
        report.channels = s->out_channels;
        report.shape = s;
        report.multiply_adds = out_pixels * products;
        report.products = plan->cuda ? report.multiply_adds : products_of(step->kernel, s);
        report.weight_bytes = (double)(plan->cuda ? cuda_plan_weight_bytes(plan->cuda, index) : step->kernel->packed_bytes(s));
        report.map_bytes = bytes * (in_pixels * s->in_channels + out_pixels * s->out_channels * (step->residual != NO_VALUE ? 2.0 : 1.0));
        return report;
    }
    double in_elements = images * map->in_height * map->in_width * map->in_channels;
    double out_elements = images * map->out_height * map->out_width * map->channels;
    report.in_height = map->in_height;
    report.in_width = map->in_width;
    report.in_channels = map->in_channels;
    report.height = map->out_height;
    report.width = map->out_width;
    report.channels = map->channels;
    report.map_bytes = bytes * (in_elements * (step->op == OP_ADD ? 2.0 : 1.0) + out_elements);
    if (step->op == OP_TRANSPOSED_CONV2D)
        report.multiply_adds = report.products = in_elements * map->kernel * map->kernel * map->channels / map->groups;
    return report;
}

static dla_status time_on_cuda(struct plan *plan, double *seconds)
{
    dla_status status = DLA_OK;

    for (int i = 0; i < plan->step_count && status == DLA_OK; i++)
        status = cuda_plan_time_step(plan->cuda, i, &seconds[i]);
    return status;
}

dla_status plan_run_timed(struct plan *plan, double *seconds)
{
    int64_t begin = clock_nanoseconds();

    if (plan->cuda)
        return time_on_cuda(plan, seconds);
    for (int i = 0; i < plan->step_count; i++) {
        plan_run_step(plan, i);
        int64_t end = clock_nanoseconds();
        seconds[i] = 1e-9 * (double)(end - begin);
        begin = end;
    }
    return DLA_OK;
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
