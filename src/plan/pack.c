/* pack.c - a kernel for every convolution (tune.c), and the weights in the form that it wants.
 *
 * Batch norm after a convolution without relu in between is one more scale and shift per channel:
 *
 *     scale = weight_bn / sqrt(running_var + epsilon),   bias = bias_bn + (bias_conv - running_mean) * scale
 *
 * The kernel's pack multiplies the scale into the weights. Steps are packed in parallel, and each parameter's pages are handed
 * back as soon as it is packed, so a network's weights are never in memory twice. The largest are packed first: at the end, when
 * nearly all of the plan's weights are in memory, the parameters being read are small.
 */
#include "base/status.h"
#include "plan/steps.h"
#include "plan/tune.h"

#include <math.h>
#include <string.h>

enum { WEIGHT_ALIGNMENT = 64 };

static size_t align_up(size_t size)
{
    return (size + WEIGHT_ALIGNMENT - 1) / WEIGHT_ALIGNMENT * WEIGHT_ALIGNMENT;
}

struct conv_shape plan_conv_shape(const struct plan *plan, const struct step *step)
{
    const struct conv_params *conv = &plan->graph->nodes[step->conv_node].as.conv;
    const struct map_size *in = &plan->sizes[step->inputs[0].value], *out = &plan->sizes[step->out];
    struct conv_shape shape = {
        .batch = plan->options.batch,
        .in_height = in->height,
        .in_width = in->width,
        .out_height = out->height,
        .out_width = out->width,
        .out_channels = step->channels,
        .kernel = conv->kernel,
        .stride = conv->stride,
        .padding = conv->padding,
        .dilation = conv->dilation,
        .groups = conv->groups,
        .source_count = step->input_count,
    };
    for (int i = 0; i < step->input_count; i++) {
        shape.source_channels[i] = step->inputs[i].channels;
        shape.in_channels += step->inputs[i].channels;
    }
    return shape;
}

size_t plan_transposed_weight_floats(const struct plan *plan, const struct step *step)
{
    const struct conv_params *conv = &plan->graph->nodes[step->conv_node].as.conv;
    return (size_t)plan->graph->parameters[conv->weight].elements;
}

/* The kernel and shape of every convolution. Remembered times are read once a plan, and not at all where nobody wants them. */
static dla_status choose_kernels(struct plan *plan)
{
    struct kernel_times times = {0};
    dla_status status = DLA_OK;

    if (!plan->options.reference && plan->options.tune != DLA_TUNE_NEVER)
        kernel_times_load(&times);
    for (int i = 0; i < plan->step_count && status == DLA_OK; i++) {
        struct step *step = &plan->steps[i];
        if (step->op != OP_CONV2D)
            continue;
        step->shape = plan_conv_shape(plan, step);
        step->kernel = &conv_reference;
        if (!plan->options.reference)
            status = choose_kernel(&plan->options, plan->pool, &step->shape, &times, &step->kernel);
    }
    kernel_times_save(&times);
    kernel_times_free(&times);
    return status;
}

dla_status plan_choose_kernels(struct plan *plan)
{
    dla_status status = choose_kernels(plan);

    if (status != DLA_OK)
        return status;
    for (int i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        size_t packed = 0;
        if (step->op == OP_CONV2D) {
            packed = step->kernel->packed_bytes(&step->shape);
            size_t scratch = step->kernel->scratch_bytes(&step->shape, plan->options.threads);
            if (plan->scratch_bytes < scratch)
                plan->scratch_bytes = scratch;
        } else if (step->op == OP_TRANSPOSED_CONV2D) {
            packed = plan_transposed_weight_floats(plan, step) * sizeof(float);
        } else if (step->op == OP_BATCH_NORM) {
            packed = (size_t)step->channels * sizeof(float); /* its scale */
        } else {
            continue;
        }
        step->packed_offset = plan->weight_bytes;
        step->bias_offset = step->packed_offset + align_up(packed);
        plan->weight_bytes = step->bias_offset + align_up((size_t)step->channels * sizeof(float));
    }
    return DLA_OK;
}

struct pack_job {
    struct plan *plan;
    const int *order; /* the steps, largest weights first */
    const struct bound_weights *weights;
    float *scales; /* (threads, widest) */
    int widest;
};

void plan_fold(const struct plan *plan, const struct bound_weights *weights, const struct step *step, float *scale, float *bias)
{
    const struct graph *graph = plan->graph;
    const float *conv_bias = NULL;

    if (step->conv_node != NO_VALUE && graph->nodes[step->conv_node].as.conv.bias != NO_PARAMETER)
        conv_bias = weights->values[graph->nodes[step->conv_node].as.conv.bias];
    for (int c = 0; c < step->channels; c++) {
        scale[c] = 1.0f;
        bias[c] = conv_bias ? conv_bias[c] : 0.0f;
    }
    if (step->batch_norm_node == NO_VALUE)
        return;
    const struct batch_norm_params *norm = &graph->nodes[step->batch_norm_node].as.batch_norm;
    const float *weight = weights->values[norm->weight], *shift = weights->values[norm->bias];
    const float *mean = weights->values[norm->running_mean], *variance = weights->values[norm->running_var];
    for (int c = 0; c < step->channels; c++) {
        double factor = (double)weight[c] / sqrt((double)variance[c] + (double)norm->epsilon);
        scale[c] = (float)factor;
        bias[c] = (float)((double)shift[c] + ((double)bias[c] - (double)mean[c]) * factor);
    }
}

void plan_pack_transposed(const struct plan *plan, const struct step *step, const float *weight, float *packed)
{
    const struct conv_params *conv = &plan->graph->nodes[step->conv_node].as.conv;
    size_t taps = (size_t)conv->kernel * (size_t)conv->kernel, pairs = plan_transposed_weight_floats(plan, step) / taps;

    for (size_t tap = 0; tap < taps; tap++)
        for (size_t pair = 0; pair < pairs; pair++)
            packed[tap * pairs + pair] = weight[pair * taps + tap];
}

static void release(const struct pack_job *job, const struct step *step)
{
    const struct graph *graph = job->plan->graph;

    if (step->conv_node != NO_VALUE)
        bound_weights_release(job->weights, graph, graph->nodes[step->conv_node].as.conv.weight);
}

static void pack_step(void *context, int task, int worker)
{
    const struct pack_job *job = context;
    const struct plan *plan = job->plan;
    const struct step *step = &plan->steps[job->order[task]];
    float *scale = job->scales + (size_t)worker * (size_t)job->widest;
    float *bias = (float *)(plan->weights + step->bias_offset);
    void *packed = plan->weights + step->packed_offset;

    if (step->op == OP_CONV2D) {
        plan_fold(plan, job->weights, step, scale, bias);
        step->kernel->pack(&step->shape, job->weights->values[plan->graph->nodes[step->conv_node].as.conv.weight], scale, packed);
    } else if (step->op == OP_TRANSPOSED_CONV2D) {
        plan_fold(plan, job->weights, step, scale, bias);
        plan_pack_transposed(plan, step, job->weights->values[plan->graph->nodes[step->conv_node].as.conv.weight], packed);
    } else if (step->op == OP_BATCH_NORM) {
        plan_fold(plan, job->weights, step, packed, bias);
    }
    release(job, step);
}

static size_t packed_size(const struct step *step)
{
    return step->bias_offset - step->packed_offset;
}

/* order: room for all steps. */
static void sort_largest_first(const struct plan *plan, int *order)
{
    for (int i = 0; i < plan->step_count; i++) {
        int at = i;
        for (; at > 0 && packed_size(&plan->steps[order[at - 1]]) < packed_size(&plan->steps[i]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

dla_status plan_pack_weights(struct plan *plan, const struct bound_weights *weights)
{
    struct pack_job job = {.plan = plan, .weights = weights, .widest = 1};

    for (int i = 0; i < plan->step_count; i++)
        if (job.widest < plan->steps[i].channels)
            job.widest = plan->steps[i].channels;
    job.scales = arena_allocate_array(&plan->arena, (size_t)plan->options.threads * (size_t)job.widest, sizeof(float));
    int *order = arena_allocate_array(&plan->arena, (size_t)plan->step_count, sizeof *order);
    if (!job.scales || !order)
        return status_out_of_memory((size_t)plan->options.threads * (size_t)job.widest * sizeof(float), "batch norm scales");
    sort_largest_first(plan, order);
    job.order = order;
    thread_pool_run(plan->pool, pack_step, &job, plan->step_count);
    return DLA_OK;
}
