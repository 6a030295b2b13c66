/* plan.c - making a plan and running it: see plan.h for what it is and steps.h for how it comes about. */
#include "plan/plan.h"

#include "base/memory.h"
#include "base/pages.h"
#include "base/status.h"
#include "plan/device.h"
#include "plan/plan_cuda.h"
#include "plan/steps.h"

#include <stdlib.h>

static dla_status map_memory(size_t bytes, const char *purpose, char **memory)
{
    *memory = pages_map(bytes);
    return *memory ? DLA_OK : status_out_of_memory(bytes, purpose);
}

static struct map_view view(const struct plan *plan, struct place place)
{
    const struct block *block = &plan->blocks[place.block];
    return (struct map_view){(float *)(plan->activations + block->offset) + place.channel, block->pixel_stride};
}

static void prepare_conv(const struct plan *plan, struct step *step)
{
    step->conv = (struct conv_call){
        .shape = &step->shape,
        .packed = plan->weights + step->packed_offset,
        .bias = (const float *)(plan->weights + step->bias_offset),
        .out = view(plan, step->out_place),
        .relu = step->relu,
        .scratch = plan->scratch,
        .pool = plan->pool,
    };
    for (int i = 0; i < step->input_count; i++)
        step->conv.sources[i] = view(plan, step->inputs[i].place);
    if (step->residual != NO_VALUE)
        step->conv.residual = view(plan, step->residual_place);
}

static map_function *function_for(const struct map_functions *functions, enum op op)
{
    switch (op) {
    case OP_BATCH_NORM:
        return functions->scale_shift;
    case OP_RELU:
        return functions->relu;
    case OP_ADD:
        return functions->add;
    case OP_MAX_POOL:
        return functions->max_pool;
    case OP_AVERAGE_POOL:
        return functions->average_pool;
    case OP_GLOBAL_AVERAGE_POOL:
        return functions->global_average_pool;
    case OP_TRANSPOSED_CONV2D:
        return functions->transposed_conv;
    case OP_LOG_SOFTMAX:
        return functions->log_softmax;
    case OP_CONCAT:
    case OP_SLICE:
    case OP_CROP:
    default:
        return functions->copy;
    }
}

static void point_to_memory(const struct plan *plan, struct step *step)
{
    step->map.in = view(plan, step->inputs[0].place);
    step->map.out = view(plan, step->out_place);
    if (step->op == OP_ADD)
        step->map.other = view(plan, step->inputs[1].place);
    if (step->op == OP_BATCH_NORM)
        step->map.scale = (const float *)(plan->weights + step->packed_offset);
    if (step->op == OP_TRANSPOSED_CONV2D)
        step->map.weight = (const float *)(plan->weights + step->packed_offset);
    if (step->op == OP_BATCH_NORM || step->op == OP_TRANSPOSED_CONV2D)
        step->map.shift = (const float *)(plan->weights + step->bias_offset);
    if (step->op == OP_SLICE) /* copied in the reference plan alone */
        step->map.in.data += plan->graph->nodes[step->out].as.slice.first_channel;
}

static void prepare_map(const struct plan *plan, struct step *step)
{
    const struct node *node = &plan->graph->nodes[step->conv_node != NO_VALUE ? step->conv_node : step->out];
    const struct map_functions *functions = plan->options.reference ? &map_reference : map_functions_for(plan->options.isa);
    const struct map_size *in = &plan->sizes[step->inputs[0].value], *out = &plan->sizes[step->out];

    step->map = (struct map_call){
        .batch = plan->options.batch,
        .channels = step->channels,
        .in_height = in->height,
        .in_width = in->width,
        .out_height = out->height,
        .out_width = out->width,
        .in_channels = step->inputs[0].channels,
        .relu = step->relu,
        .pool = plan->pool,
    };
    step->function = function_for(functions, step->op);
    if (step->op == OP_MAX_POOL || step->op == OP_AVERAGE_POOL) {
        step->map.kernel = node->as.pool.kernel;
        step->map.stride = node->as.pool.stride;
        step->map.padding = node->as.pool.padding;
        step->map.dilation = node->as.pool.dilation;
    } else if (step->op == OP_TRANSPOSED_CONV2D) {
        step->map.kernel = node->as.conv.kernel;
        step->map.stride = node->as.conv.stride;
        step->map.padding = node->as.conv.padding;
        step->map.groups = node->as.conv.groups;
    }
    if (!plan_is_on_cuda(plan)) /* which has memory of its own */
        point_to_memory(plan, step);
}

static dla_status check_options(const struct graph *graph, const struct plan_options *options, const value *outputs, int output_count)
{
    if (options->batch < 1 || options->batch > PLAN_MAX_BATCH)
        return status_set(DLA_ERROR_ARGUMENT, "a batch of %d images; 1 to %d are possible", options->batch, PLAN_MAX_BATCH);
    if (options->threads < 1 || options->threads > 1024)
        return status_set(DLA_ERROR_ARGUMENT, "%d threads; 1 to 1024 are possible", options->threads);
    if (!isa_is_available(options->isa))
        return status_set(DLA_ERROR_UNSUPPORTED, "this processor has no %s", isa_name(options->isa));
    if (output_count < 1)
        return status_set(DLA_ERROR_ARGUMENT, "a plan needs at least one output");
    for (int i = 0; i < output_count; i++)
        if (outputs[i] < 0 || outputs[i] >= graph->node_count)
            return status_set(DLA_ERROR_ARGUMENT, "output %d is no value of the graph", i);
    return device_check(options->device, options->precision);
}

static dla_status build_on_cpu(struct plan *plan, const struct bound_weights *weights)
{
    dla_status status;

    if ((status = map_memory(plan->activation_bytes, "activations", &plan->activations)) != DLA_OK
        || (status = map_memory(plan->weight_bytes, "packed weights", &plan->weights)) != DLA_OK
        || (status = map_memory(plan->scratch_bytes, "scratch", &plan->scratch)) != DLA_OK
        || (status = plan_pack_weights(plan, weights)) != DLA_OK)
        return status;
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].op == OP_CONV2D)
            prepare_conv(plan, &plan->steps[i]);
        else
            prepare_map(plan, &plan->steps[i]);
    }
    return DLA_OK;
}

static dla_status build_on_cuda(struct plan *plan, const struct bound_weights *weights)
{
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].op == OP_CONV2D)
            plan->steps[i].shape = plan_conv_shape(plan, &plan->steps[i]);
        else
            prepare_map(plan, &plan->steps[i]);
    }
    return cuda_plan_create(plan, weights);
}

/* The steps of plan.h's promise, in order. */
static dla_status build(struct plan *plan, const struct graph *graph, const struct bound_weights *weights, const value *outputs)
{
    dla_status status;

    plan->sizes = arena_allocate_array(&plan->arena, (size_t)graph->node_count, sizeof *plan->sizes);
    value *kept = arena_allocate_array(&plan->arena, (size_t)plan->output_count, sizeof *kept);
    plan->output_channels = arena_allocate_array(&plan->arena, (size_t)plan->output_count, sizeof *plan->output_channels);
    int *order = arena_allocate_array(&plan->arena, (size_t)graph->node_count, sizeof *order);
    if (!plan->sizes || !kept || !plan->output_channels || !order)
        return status_out_of_memory((size_t)graph->node_count * sizeof *plan->sizes, "a plan");
    for (int i = 0; i < plan->output_count; i++) {
        kept[i] = outputs[i];
        plan->output_channels[i] = graph->nodes[outputs[i]].channels;
    }
    plan->outputs = kept;

    if ((status = graph_infer_sizes(graph, plan->options.height, plan->options.width, plan->sizes)) != DLA_OK
        || (status = plan_lower(plan)) != DLA_OK || (status = plan_locate(plan)) != DLA_OK
        || (status = thread_pool_create(plan->options.threads, &plan->pool)) != DLA_OK)
        return status;
    if (!plan_is_on_cuda(plan) && (status = plan_choose_kernels(plan)) != DLA_OK)
        return status;
    if (plan->options.reference) { /* shares no memory, so that nothing can overwrite what it should not */
        for (int i = 0; i < plan->block_count; i++) {
            plan->blocks[i].first_step = -1;
            plan->blocks[i].last_step = plan->step_count;
        }
    }
    plan->activation_bytes = place_blocks(plan->blocks, order, plan->block_count, &plan->activation_bound);
    for (int i = 0; i < graph->input_count; i++)
        plan->input_places[i] = plan->places[graph->inputs[i]];
    return plan_is_on_cuda(plan) ? build_on_cuda(plan, weights) : build_on_cpu(plan, weights);
}

dla_status plan_create(const struct graph *graph, const struct bound_weights *weights, const struct plan_options *options,
                       const value *outputs, int output_count, struct plan **plan)
{
    dla_status status = check_options(graph, options, outputs, output_count);
    if (status != DLA_OK)
        return status;
    struct plan *made = memory_allocate_zeroed(1, sizeof *made);
    if (!made)
        return status_out_of_memory(sizeof *made, "a plan");
    made->graph = graph;
    made->options = *options;
    made->output_count = output_count;
    status = build(made, graph, weights, outputs);
    made->graph = NULL;
    if (status != DLA_OK) {
        plan_destroy(made);
        return status;
    }
    *plan = made;
    return DLA_OK;
}

void plan_destroy(struct plan *plan)
{
    if (!plan)
        return;
    cuda_plan_destroy(plan->cuda);
    thread_pool_destroy(plan->pool);
    pages_unmap(plan->activations, plan->activation_bytes);
    pages_unmap(plan->weights, plan->weight_bytes);
    pages_unmap(plan->scratch, plan->scratch_bytes);
    arena_free(&plan->arena);
    memory_free(plan);
}

float *plan_input_at(struct plan *plan, int index)
{
    return plan->cuda ? cuda_plan_input(plan->cuda, index) : view(plan, plan->input_places[index]).data;
}

float *plan_input(struct plan *plan)
{
    return plan_input_at(plan, 0);
}

void plan_run_step(struct plan *plan, int index)
{
    const struct step *step = &plan->steps[index];

    if (step->kernel)
        step->kernel->run(&step->conv);
    else
        step->function(&step->map);
}

dla_status plan_run(struct plan *plan)
{
    if (plan->cuda)
        return cuda_plan_run(plan->cuda);
    for (int i = 0; i < plan->step_count; i++)
        plan_run_step(plan, i);
    return DLA_OK;
}

dla_status plan_run_resident(struct plan *plan, int passes)
{
    dla_status status = DLA_OK;

    if (plan->cuda)
        return cuda_plan_run_resident(plan->cuda, passes);
    for (int i = 0; i < passes && status == DLA_OK; i++)
        status = plan_run(plan);
    return status;
}

double plan_peak_gflops(const struct plan *plan)
{
    return plan->cuda ? cuda_plan_peak_gflops(plan->cuda) : 0.0;
}

const float *plan_output(const struct plan *plan, int index, int64_t *pixel_stride)
{
    if (plan->cuda) {
        *pixel_stride = plan->output_channels[index];
        return cuda_plan_output(plan->cuda, index);
    }
    struct map_view output = view(plan, plan->places[plan->outputs[index]]);
    *pixel_stride = output.pixel_stride;
    return output.data;
}

struct thread_pool *plan_thread_pool(const struct plan *plan)
{
    return plan->pool;
}
