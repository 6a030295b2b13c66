/* plan_cuda.c - see plan_cuda.h.
 *
 *     host input ──copy──▶ float32 on the device ──▶ the input's place, format and padding of the maps
 *                                                        │ steps
 *     host output ◀──copy── float32 on the device ◀──────┘
 *
 * What lies between the copies is recorded as a graph once: pass_cuda.c.
 */
#include "plan/cuda_steps.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 256 };

static size_t align_up(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- calls ------------------------------------------------------------------------------------------------------------- */

static struct cuda_view view(const struct cuda_plan *cuda, struct place place)
{
    const struct block *block = &cuda->plan->blocks[place.block];
    size_t bytes = cuda_format_bytes(cuda->format);
    return (struct cuda_view){cuda->activations + block->offset + (size_t)place.channel * bytes, block->pixel_stride};
}

static bool reads_input(const struct plan *plan, const struct step *step)
{
    return plan->graph->nodes[step->inputs[0].value].op == OP_INPUT;
}

static void prepare_conv(struct cuda_plan *cuda, struct step *step, struct cuda_step *made)
{
    made->conv = (struct cuda_conv_call){
        .shape = &step->shape,
        .arithmetic = cuda->arithmetic,
        .out = view(cuda, step->out_place),
        .relu = step->relu,
        .padded = step->input_count == 1 && reads_input(cuda->plan, step),
    };
    for (int i = 0; i < step->input_count; i++)
        made->conv.sources[i] = view(cuda, step->inputs[i].place);
    if (step->residual != NO_VALUE)
        made->conv.residual = view(cuda, step->residual_place);
}

static cuda_map_function *function_for(enum op op)
{
    switch (op) {
    case OP_BATCH_NORM:
        return cuda_scale_shift;
    case OP_RELU:
        return cuda_relu;
    case OP_ADD:
        return cuda_add;
    case OP_MAX_POOL:
        return cuda_max_pool;
    case OP_AVERAGE_POOL:
        return cuda_average_pool;
    case OP_GLOBAL_AVERAGE_POOL:
        return cuda_global_average_pool;
    case OP_TRANSPOSED_CONV2D:
        return cuda_transposed_conv;
    case OP_LOG_SOFTMAX:
        return cuda_log_softmax;
    case OP_CONCAT:
    case OP_SLICE:
    case OP_CROP:
    default:
        return cuda_copy;
    }
}

/* The numbers are those of the CPU's call, which plan.c has prepared; the memory is the device's. */
static void prepare_map(struct cuda_plan *cuda, const struct step *step, struct cuda_step *made)
{
    made->map = cuda_map_call_of(&step->map, cuda->format);
    made->map.in = view(cuda, step->inputs[0].place);
    made->map.out = view(cuda, step->out_place);
    if (step->op == OP_ADD)
        made->map.other = view(cuda, step->inputs[1].place);
    if (step->op == OP_SLICE) /* copied in the reference plan alone */
        made->map.in.data = (char *)made->map.in.data
                            + (size_t)cuda->plan->graph->nodes[step->out].as.slice.first_channel * cuda_format_bytes(cuda->format);
    made->function = function_for(step->op);
    (void)snprintf(made->name, sizeof made->name, "%s", op_name(step->op));
}

static void choose_kernels(struct cuda_plan *cuda)
{
    int count;
    const struct cuda_conv_kernel *const *kernels = cuda_conv_kernels(&count);

    for (int i = 0; i < cuda->plan->step_count; i++) {
        struct cuda_step *step = &cuda->steps[i];
        if (cuda->plan->steps[i].op != OP_CONV2D)
            continue;
        step->kernel = &cuda_conv_reference;
        for (int k = 0; k < count && !cuda->plan->options.reference; k++)
            if (kernels[k]->supports(&step->conv, &cuda->device)) {
                step->kernel = kernels[k];
                break;
            }
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

static void size_weights(struct cuda_plan *cuda)
{
    const struct plan *plan = cuda->plan;

    for (int i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        struct cuda_step *made = &cuda->steps[i];
        if (made->kernel)
            made->packed_bytes = made->kernel->packed_bytes(&made->conv);
        else if (step->op == OP_TRANSPOSED_CONV2D)
            made->packed_bytes = plan_transposed_weight_floats(plan, step) * sizeof(float);
        else if (step->op == OP_BATCH_NORM)
            made->packed_bytes = (size_t)step->channels * sizeof(float); /* its scale */
        else
            continue;
        made->packed_offset = cuda->weight_bytes;
        made->bias_offset = made->packed_offset + align_up(made->packed_bytes);
        cuda->weight_bytes = made->bias_offset + align_up((size_t)step->channels * sizeof(float));
    }
}

struct pack_job {
    const struct cuda_plan *cuda;
    const struct bound_weights *weights;
    char *packed;  /* (weight_bytes) on the host */
    float *scales; /* (threads, widest) */
    int widest;
};

static void pack_task(void *context, int task, int worker)
{
    const struct pack_job *job = context;
    const struct plan *plan = job->cuda->plan;
    const struct step *step = &plan->steps[task];
    const struct cuda_step *made = &job->cuda->steps[task];
    float *scale = job->scales + (size_t)worker * (size_t)job->widest;
    void *packed = job->packed + made->packed_offset;
    float *bias = (float *)(void *)(job->packed + made->bias_offset);

    if (made->packed_bytes == 0)
        return;
    if (step->op == OP_BATCH_NORM) {
        plan_fold(plan, job->weights, step, packed, bias);
        return;
    }
    const float *weight = job->weights->values[plan->graph->nodes[step->conv_node].as.conv.weight];
    plan_fold(plan, job->weights, step, scale, bias);
    if (made->kernel)
        made->kernel->pack(&made->conv, weight, scale, packed);
    else
        plan_pack_transposed(plan, step, weight, packed);
}

static dla_status upload_weights(struct cuda_plan *cuda, const struct bound_weights *weights)
{
    struct plan *plan = cuda->plan;
    struct pack_job job = {.cuda = cuda, .weights = weights, .widest = 1};
    size_t threads = (size_t)plan->options.threads;

    for (int i = 0; i < plan->step_count; i++)
        if (job.widest < plan->steps[i].channels)
            job.widest = plan->steps[i].channels;
    job.packed = memory_allocate_aligned(ALIGNMENT, align_up(cuda->weight_bytes + 1));
    job.scales = memory_allocate_aligned(ALIGNMENT, align_up(threads * (size_t)job.widest * sizeof(float)));
    dla_status status = job.packed && job.scales ? DLA_OK : status_out_of_memory(cuda->weight_bytes, "packed weights");
    if (status == DLA_OK) {
        thread_pool_run(plan->pool, pack_task, &job, plan->step_count);
        cudaError_t error = cudaMemcpy(cuda->weights, job.packed, cuda->weight_bytes, cudaMemcpyHostToDevice);
        if (error == cudaSuccess) /* the copy may still be under way, and our streams do not wait for the default one */
            error = cudaStreamSynchronize(NULL);
        status = cuda_status(error, "copy weights to the GPU");
    }
    memory_free(job.packed);
    memory_free(job.scales);
    return status;
}

/* Where each step finds its weights. */
static void point_to_weights(struct cuda_plan *cuda)
{
    for (int i = 0; i < cuda->plan->step_count; i++) {
        struct cuda_step *step = &cuda->steps[i];
        const void *packed = cuda->weights + step->packed_offset;
        const float *bias = (const float *)(const void *)(cuda->weights + step->bias_offset);
        if (step->packed_bytes == 0)
            continue;
        step->conv.packed = packed;
        step->conv.bias = bias;
        step->map.shift = bias;
        if (cuda->plan->steps[i].op == OP_BATCH_NORM)
            step->map.scale = packed;
        else
            step->map.weight = packed;
    }
}

/* ---- borders ----------------------------------------------------------------------------------------------------------- */

static dla_status make_border(struct cuda_plan *cuda, value v, struct border *border)
{
    const struct plan *plan = cuda->plan;
    const struct block *block = &plan->blocks[plan->places[v].block];
    size_t bytes;

    border->pixels = (int64_t)plan->options.batch * plan->sizes[v].height * plan->sizes[v].width;
    border->channels = plan->graph->nodes[v].channels;
    border->padded = (int)block->pixel_stride;
    border->view = view(cuda, plan->places[v]);
    bytes = (size_t)border->pixels * (size_t)border->channels * sizeof(float);
    void *device = NULL;
    dla_status status = cuda_status(cudaMallocHost((void **)&border->host, bytes), "take page-locked memory");
    if (status == DLA_OK && (status = cuda_allocate(bytes, "a network's input or result", &device)) == DLA_OK) {
        border->device = device;
        memset(border->host, 0, bytes);
    }
    return status;
}

static dla_status make_borders(struct cuda_plan *cuda)
{
    const struct plan *plan = cuda->plan;
    dla_status status = DLA_OK;

    cuda->outputs = memory_allocate_zeroed((size_t)plan->output_count, sizeof *cuda->outputs);
    if (!cuda->outputs)
        return status_out_of_memory((size_t)plan->output_count * sizeof *cuda->outputs, "a plan's outputs");
    cuda->output_count = plan->output_count;
    cuda->input_count = plan->graph->input_count;
    for (int i = 0; i < cuda->input_count && status == DLA_OK; i++)
        status = make_border(cuda, plan->graph->inputs[i], &cuda->inputs[i]);
    for (int i = 0; i < cuda->output_count && status == DLA_OK; i++)
        status = make_border(cuda, plan->outputs[i], &cuda->outputs[i]);
    return status;
}

/* ---- making ------------------------------------------------------------------------------------------------------------ */

static dla_status make_streams(struct cuda_plan *cuda)
{
    cudaError_t error = cudaEventCreate(&cuda->begin);

    for (int i = 0; i < STREAMS && error == cudaSuccess; i++)
        error = cudaStreamCreateWithFlags(&cuda->streams[i], cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreate(&cuda->end);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&cuda->forked, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&cuda->joined, cudaEventDisableTiming);
    return cuda_status(error, "make streams on the GPU");
}

static dla_status build(struct cuda_plan *cuda, const struct bound_weights *weights)
{
    struct plan *plan = cuda->plan;
    void *activations = NULL, *packed = NULL;
    dla_status status;

    if ((status = cuda_device_open(&cuda->device)) != DLA_OK || (status = make_streams(cuda)) != DLA_OK
        || (status = cuda_allocate(plan->activation_bytes + 1, "activations", &activations)) != DLA_OK)
        return status;
    cuda->activations = activations;
    cuda->steps = memory_allocate_zeroed((size_t)plan->step_count, sizeof *cuda->steps);
    if (!cuda->steps)
        return status_out_of_memory((size_t)plan->step_count * sizeof *cuda->steps, "the steps of a plan");
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].op == OP_CONV2D)
            prepare_conv(cuda, &plan->steps[i], &cuda->steps[i]);
        else
            prepare_map(cuda, &plan->steps[i], &cuda->steps[i]);
    }
    cuda_plan_order(cuda);
    choose_kernels(cuda);
    size_weights(cuda);
    if ((status = cuda_allocate(cuda->weight_bytes + 1, "packed weights", &packed)) != DLA_OK)
        return status;
    cuda->weights = packed;
    point_to_weights(cuda);
    if ((status = upload_weights(cuda, weights)) != DLA_OK || (status = make_borders(cuda)) != DLA_OK
        || (status = cuda_plan_make_events(cuda)) != DLA_OK || (status = cuda_plan_choose_variants(cuda)) != DLA_OK)
        return status;
    return cuda_status(cuda_plan_record(cuda, NULL, 1, &cuda->graph), "record the network for the GPU");
}

dla_status cuda_plan_create(struct plan *plan, const struct bound_weights *weights)
{
    struct cuda_plan *cuda = memory_allocate_zeroed(1, sizeof *cuda);

    if (!cuda)
        return status_out_of_memory(sizeof *cuda, "a plan");
    cuda->plan = plan;
    cuda->arithmetic = cuda_arithmetic_of(plan->options.precision);
    cuda->format = cuda_arithmetic_format(cuda->arithmetic);
    plan->cuda = cuda; /* plan_destroy frees it, whatever comes */
    dla_status status = build(cuda, weights);
    plan->weight_bytes = cuda->weight_bytes;
    return status;
}

static void free_border(struct border *border)
{
    (void)cudaFreeHost(border->host);
    cuda_free(border->device);
}

static void destroy_event(cudaEvent_t event)
{
    if (event)
        (void)cudaEventDestroy(event);
}

void cuda_plan_destroy(struct cuda_plan *cuda)
{
    if (!cuda)
        return;
    for (int i = 0; i < cuda->input_count; i++)
        free_border(&cuda->inputs[i]);
    for (int i = 0; i < cuda->output_count; i++)
        free_border(&cuda->outputs[i]);
    if (cuda->graph)
        (void)cudaGraphExecDestroy(cuda->graph);
    for (int i = 0; cuda->steps && i < cuda->plan->step_count; i++)
        destroy_event(cuda->steps[i].ended);
    destroy_event(cuda->begin);
    destroy_event(cuda->end);
    destroy_event(cuda->forked);
    destroy_event(cuda->joined);
    for (int i = 0; i < STREAMS; i++)
        if (cuda->streams[i])
            (void)cudaStreamDestroy(cuda->streams[i]);
    cuda_free(cuda->activations);
    cuda_free(cuda->weights);
    memory_free(cuda->outputs);
    memory_free(cuda->steps);
    memory_free(cuda);
}

/* ---- running ----------------------------------------------------------------------------------------------------------- */

float *cuda_plan_input(struct cuda_plan *cuda, int index)
{
    return cuda->inputs[index].host;
}

const float *cuda_plan_output(const struct cuda_plan *cuda, int index)
{
    return cuda->outputs[index].host;
}

static size_t border_bytes(const struct border *border)
{
    return (size_t)border->pixels * (size_t)border->channels * sizeof(float);
}

dla_status cuda_plan_run(struct cuda_plan *cuda)
{
    cudaError_t error = cudaSuccess;

    for (int i = 0; i < cuda->input_count && error == cudaSuccess; i++)
        error = cudaMemcpyAsync(cuda->inputs[i].device, cuda->inputs[i].host, border_bytes(&cuda->inputs[i]), cudaMemcpyHostToDevice,
                                cuda->streams[0]);
    if (error == cudaSuccess)
        error = cudaGraphLaunch(cuda->graph, cuda->streams[0]);
    for (int i = 0; i < cuda->output_count && error == cudaSuccess; i++)
        error = cudaMemcpyAsync(cuda->outputs[i].host, cuda->outputs[i].device, border_bytes(&cuda->outputs[i]), cudaMemcpyDeviceToHost,
                                cuda->streams[0]);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->streams[0]);
    return cuda_status(error, "run the network on the GPU");
}

dla_status cuda_plan_run_resident(struct cuda_plan *cuda, int passes)
{
    cudaError_t error = cudaSuccess;

    for (int i = 0; i < passes && error == cudaSuccess; i++)
        error = cudaGraphLaunch(cuda->graph, cuda->streams[0]);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->streams[0]);
    return cuda_status(error, "run the network on the GPU");
}

const char *cuda_plan_kernel(const struct cuda_plan *cuda, int step)
{
    return cuda->steps[step].name;
}

size_t cuda_plan_weight_bytes(const struct cuda_plan *cuda, int step)
{
    return cuda->steps[step].packed_bytes;
}

dla_status cuda_plan_time_step(struct cuda_plan *cuda, int step, double *seconds)
{
    return cuda_status(cuda_plan_time_launches(cuda, &cuda->steps[step], seconds), "time a step on the GPU");
}

/* FLOPs a cycle of one multiprocessor: of float32's own units, or of the tensor cores with float32 sums (vendor's figures). 0: not known,
 * as of the tensor cores of 8.6 and 8.9, which do half as many in a GeForce as in a card for servers, and of what is newer than 9.0. */
static double flops_a_cycle(const struct cuda_device *device, enum cuda_arithmetic arithmetic)
{
    bool ampere = device->major == 8 && device->minor == 0, hopper = device->major == 9;
    double half = ampere ? 2048.0 : hopper ? 4096.0 : 0.0;

    if (arithmetic == CUDA_EXACT)
        return ampere ? 128.0 : device->major <= 9 ? 256.0 : 0.0;
    return arithmetic == CUDA_TF32 ? half / 2.0 : half;
}

double cuda_plan_peak_gflops(const struct cuda_plan *cuda)
{
    int kilohertz = 0;

    if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, 0) != cudaSuccess)
        return 0.0;
    return 1e-6 * kilohertz * cuda->device.multiprocessors * flops_a_cycle(&cuda->device, cuda->arithmetic);
}
