/* tape_make_cuda.c - making a tape on the GPU: what its steps need there, memory, cuDNN. */
#include "train/tape_inside_cuda.h"

#include "base/memory.h"
#include "base/status.h"

#include <string.h>

static const float first_loss_scale = 65536.0f;

/* The host may go on with its memory when it returns. */
dla_status cuda_tape_copy_in(struct cuda_tape *g, void *to, const void *from, size_t bytes)
{
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, g->stream);
    return cuda_status(error == cudaSuccess ? cudaStreamSynchronize(g->stream) : error, "copy to the GPU");
}

/* All that was begun is done when it returns. */
dla_status cuda_tape_copy_out(struct cuda_tape *g, void *to, const void *from, size_t bytes)
{
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, g->stream);
    return cuda_status(error == cudaSuccess ? cudaStreamSynchronize(g->stream) : error,
                       "copy from the GPU (with CUDA_LAUNCH_BLOCKING=1 in the environment it says what failed there)");
}

dla_status cuda_tape_take(struct cuda_tape *g, size_t bytes, const char *purpose, void *pointer)
{
    void *memory = NULL;
    if (g->owned_count == MOST_OWNED)
        return status_set(DLA_ERROR_MEMORY, "more than %d pieces of GPU memory", MOST_OWNED);
    dla_status status = cuda_allocate(bytes > 256 ? bytes : 256, purpose, &memory);
    if (status != DLA_OK)
        return status;
    g->owned[g->owned_count++] = memory;
    memcpy(pointer, &memory, sizeof memory);
    return DLA_OK;
}

static bool is_strided(const struct tape *tape, const struct place *places, value v)
{
    return places[v].buffer != NO_BUFFER && tape->buffers[places[v].buffer].channels != tape->graph->nodes[v].channels;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Sizes of what steps share, and the offsets of what they have for themselves. */
struct needs {
    int64_t turned, taps, norms, staged_in, staged_out, direct, sums;
    int convs;
};

static void need_conv(const struct tape *tape, const struct step *step, struct needs *n)
{
    int64_t in = value_pixels(tape, step->in) * tape->graph->nodes[step->in].channels,
            out = value_pixels(tape, step->out) * step->node->channels;
    if (is_strided(tape, tape->forward, step->in) || is_strided(tape, tape->backward, step->in))
        n->staged_in = larger(n->staged_in, in);
    if (is_strided(tape, tape->forward, step->out) || is_strided(tape, tape->backward, step->out))
        n->staged_out = larger(n->staged_out, out);
    n->direct = larger(n->direct, cuda_conv_direct_sums(&step->conv.shape));
    n->sums = larger(n->sums, cuda_norm_sums(value_pixels(tape, step->out), step->node->channels));
    n->convs++;
}

static struct needs find_needs(struct cuda_tape *g)
{
    const struct tape *tape = g->tape;
    struct needs n = {.sums = 2 * CUDA_NORM_BLOCKS};
    for (int k = 0; k < tape->step_count; k++) {
        const struct step *step = &tape->steps[k];
        int64_t elements = 0;
        if (step->kind == STEP_CONV || step->kind == STEP_TRANSPOSED_CONV)
            elements = (tape->graph->parameters[step->node->as.conv.weight].elements + 15) / 16 * 16;
        if (step->kind == STEP_CONV) {
            g->steps[k].turned = n.turned;
            n.turned += elements;
            need_conv(tape, step, &n);
        } else if (step->kind == STEP_TRANSPOSED_CONV) {
            g->steps[k].turned = n.taps;
            n.taps += elements;
            n.sums = larger(n.sums, cuda_transposed_sums(value_pixels(tape, step->in), step->node->channels, step->node->as.conv.kernel));
        } else if (step->kind == STEP_NORM) {
            n.norms += (int64_t)CUDA_NORM_ARRAYS * step->node->channels;
            n.sums = larger(n.sums, cuda_norm_sums(value_pixels(tape, step->out), step->node->channels));
        }
    }
    return n;
}

static dla_status make_table(struct cuda_tape *g, int convs)
{
    const struct tape *tape = g->tape;
    size_t bytes = (size_t)convs * sizeof(struct cuda_turned_weights);
    struct cuda_turned_weights *rows = memory_allocate_zeroed((size_t)convs + 1, sizeof *rows);
    if (rows == NULL)
        return status_out_of_memory(bytes, "training on the GPU");
    for (int k = 0; k < tape->step_count; k++) {
        const struct step *step = &tape->steps[k];
        if (step->kind != STEP_CONV)
            continue;
        const struct conv_params *p = &step->node->as.conv;
        struct cuda_turned_weights *row = &rows[g->conv_count++];
        *row = (struct cuda_turned_weights){.flat = tape->parameters->offsets[p->weight], .turned = g->steps[k].turned};
        row->out = step->node->channels;
        row->in = step->conv.shape.in_channels / p->groups;
        row->taps = p->kernel * p->kernel;
        row->trained = tape_trains(tape, p->weight);
        g->trains_convs = g->trains_convs || row->trained;
        g->largest_weight = larger(g->largest_weight, tape->graph->parameters[p->weight].elements);
    }
    dla_status status = cuda_tape_take(g, bytes, "the order of weights", &g->table);
    if (status == DLA_OK && convs > 0)
        status = cuda_tape_copy_in(g, g->table, rows, bytes);
    memory_free(rows);
    return status;
}

static dla_status make_slots(struct cuda_tape *g)
{
    size_t input_bytes = loaded_input_bytes(g), label_bytes = loaded_label_bytes(g);
    dla_status status = DLA_OK;
    for (int i = 0; i < SLOTS && status == DLA_OK; i++) {
        struct slot *slot = &g->slots[i];
        status = cuda_tape_take(g, input_bytes, "a batch of images", &slot->inputs);
        if (status == DLA_OK)
            status = cuda_tape_take(g, label_bytes, "labels", &slot->labels);
        if (status == DLA_OK)
            status = cuda_tape_take(g, (size_t)g->label_pixels, "labels", &slot->maps);
        if (status == DLA_OK)
            status = cuda_status(cudaMallocHost((void **)&slot->host_inputs, input_bytes), "allocate pinned memory for a batch of images");
        if (status == DLA_OK)
            status = cuda_status(cudaMallocHost((void **)&slot->host_labels, label_bytes), "allocate pinned memory for labels");
        if (status == DLA_OK)
            status = cuda_status(cudaMallocHost((void **)&slot->host_maps, (size_t)g->label_pixels), "allocate pinned memory for labels");
        if (status == DLA_OK)
            status = cuda_status(cudaEventCreateWithFlags(&slot->loaded, cudaEventDisableTiming), "make an event");
        if (status == DLA_OK)
            status = cuda_status(cudaEventCreateWithFlags(&slot->consumed, cudaEventDisableTiming), "make an event");
    }
    return status;
}

static dla_status make_memory(struct cuda_tape *g, bool average)
{
    const struct tape *tape = g->tape;
    size_t element = cuda_format_bytes(g->format), block = (size_t)tape->parameters->floats * sizeof(float);
    size_t rows = (size_t)larger(tape->options.batch, 2 * CUDA_NORM_BLOCKS);
    float *norms = NULL;
    struct needs n = find_needs(g);
    const struct {
        size_t bytes;
        const char *purpose;
        void *pointer;
    } pieces[] = {
        {(size_t)tape->block_floats * element, "activations and gradients", &g->block},
        {block, "weights", &g->values},
        {block, "gradients", &g->gradients},
        {block, "momentum", &g->velocity},
        {block / CUDA_LINE, "learning rates", &g->rate_scale},
        {block / CUDA_LINE, "weight decay", &g->decay},
        {(size_t)n.turned * element, "turned weights", &g->turned},
        {(size_t)n.turned * element, "turned weights' gradients", &g->turned_gradients},
        {(size_t)n.taps * sizeof(float), "upsampling weights", &g->taps},
        {(size_t)n.norms * sizeof(float), "batch norm statistics", &norms},
        {(size_t)n.staged_in * element, "a convolution's input", &g->staged_in},
        {(size_t)n.staged_out * element, "a convolution's output", &g->staged_out},
        {(size_t)n.sums * sizeof(double), "sums", &g->sums},
        {rows * sizeof(double), "losses", &g->row_losses},
        {rows * sizeof(int), "losses", &g->row_hits},
        {(size_t)tape->graph->nodes[tape->graph->output].channels * sizeof(float), "class weights", &g->class_weights},
        {sizeof(struct cuda_step_state), "the step's state", &g->state},
    };
    dla_status status = DLA_OK;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0] && status == DLA_OK; i++)
        status = cuda_tape_take(g, pieces[i].bytes, pieces[i].purpose, pieces[i].pointer);
    if (status == DLA_OK && average)
        status = cuda_tape_take(g, block, "averaged weights", &g->average);
    if (status != DLA_OK)
        return status;
    for (int k = 0; k < tape->step_count; k++)
        if (tape->steps[k].kind == STEP_NORM) {
            g->steps[k].norm = norms;
            norms += (int64_t)CUDA_NORM_ARRAYS * tape->steps[k].node->channels;
        }
    g->direct_sums_count = n.direct;
    g->turned_elements = n.turned;
    status = make_table(g, n.convs);
    return status == DLA_OK ? make_slots(g) : status;
}

static dla_status make_state(struct cuda_tape *g)
{
    float scale = g->format == CUDA_FLOAT16 ? first_loss_scale : 1.0f;
    dla_status status = cuda_status(cudaMallocHost((void **)&g->host_state, sizeof *g->host_state), "allocate pinned memory");
    if (status != DLA_OK)
        return status;
    *g->host_state = (struct cuda_step_state){.loss_scale = scale, .factor = 1.0f / scale, .take = 1};
    status = cuda_tape_copy_in(g, g->state, g->host_state, sizeof *g->state);
    return status == DLA_OK ? cuda_tape_write_state(g, g->tape->parameters->values, NULL, g->average ? g->tape->parameters->values : NULL)
                            : status;
}

/* The passes that the plans' kernels take, and their memory. */
static dla_status make_gemms(struct cuda_tape *g)
{
    const struct tape *tape = g->tape;
    size_t packed = 0;
    int widest = 1;
    for (int k = 0; k < tape->step_count; k++)
        widest = (int)larger(widest, larger(channels_of(g, tape->steps[k].in), channels_of(g, tape->steps[k].out)));
    dla_status status = cuda_tape_take(g, (size_t)widest * sizeof(float), "biases", &g->zeros);
    for (int k = 0; k < tape->step_count && status == DLA_OK; k++) {
        const struct step *step = &tape->steps[k];
        struct cuda_step *own = &g->steps[k];
        if (step->kind != STEP_CONV)
            continue;
        const float *bias = parameter_in(g, g->values, step->node->as.conv.bias);
        gemm_pass_prepare(&own->forward, &step->conv.shape, g->arithmetic, false, map_of(g, step->in), map_of(g, step->out), false,
                          bias ? bias : g->zeros, &g->device);
        if (step->to_in != CONTRIBUTE_NOTHING)
            gemm_pass_prepare(&own->data, &step->conv.shape, g->arithmetic, true, gradient_of(g, step->out), gradient_of(g, step->in),
                              step->to_in == CONTRIBUTE_ADD, g->zeros, &g->device);
        own->forward.packed_offset = packed;
        own->data.packed_offset = packed + own->forward.packed_bytes;
        packed = own->data.packed_offset + own->data.packed_bytes;
    }
    return status == DLA_OK ? cuda_tape_take(g, packed, "packed weights", &g->packed) : status;
}

static dla_status make_convs(struct cuda_tape *g)
{
    const struct tape *tape = g->tape;
    dla_status status = DLA_OK;
    if (tape->options.reference)
        return DLA_OK;
    status = cudnn_session_open(g->arithmetic, tape->options.exact, g->stream, &g->cudnn);
    for (int k = 0; k < tape->step_count && status == DLA_OK; k++)
        if (tape->steps[k].kind == STEP_CONV) {
            status = cudnn_session_conv(g->cudnn, &tape->steps[k].conv.shape, &g->steps[k].conv);
            if (status != DLA_OK)
                status = status_prefix(status, "convolution '%s': ", tape->steps[k].node->name);
        }
    return status == DLA_OK ? make_gemms(g) : status;
}

/* Where in the blocks the statistics lie that change; a line holds those of one parameter, and gaps that are zero. */
static dla_status make_statistics(struct cuda_tape *g)
{
    const struct parameter_block *parameters = g->tape->parameters;
    const bool *frozen = g->tape->options.frozen;
    size_t most = (size_t)parameters->floats / CUDA_LINE;
    int *lines = memory_allocate_zeroed(most + 1, sizeof *lines);
    if (lines == NULL)
        return status_out_of_memory(most * sizeof *lines, "the places of statistics");
    for (int i = 0; i < parameters->graph->parameter_count; i++) {
        const struct parameter *p = &parameters->graph->parameters[i];
        bool is_statistic = p->kind == PARAMETER_RUNNING_MEAN || p->kind == PARAMETER_RUNNING_VAR;
        for (int64_t e = 0; e < p->elements && is_statistic && !(frozen && frozen[i]); e += CUDA_LINE)
            lines[g->statistics_count++] = (int)((parameters->offsets[i] + e) / CUDA_LINE);
    }
    size_t bytes = (size_t)g->statistics_count * sizeof *lines;
    dla_status status = cuda_tape_take(g, bytes, "the places of statistics", &g->statistics);
    if (status == DLA_OK && bytes > 0)
        status = cuda_tape_copy_in(g, g->statistics, lines, bytes);
    memory_free(lines);
    return status;
}

static void add_norm_sums(void *context, double *values, int count, cudaStream_t stream)
{
    struct cuda_tape *g = context;
    dla_status status = cuda_reducer_sum_doubles(g->tape->options.ranks, values, count, stream);
    if (g->norm_status == DLA_OK)
        g->norm_status = status;
}

static dla_status make_ranks(struct cuda_tape *g)
{
    if (g->tape->options.ranks == NULL)
        return DLA_OK;
    g->norm_ranks = (struct cuda_norm_ranks){.count = cuda_reducer_ranks(g->tape->options.ranks), .sum = add_norm_sums, .context = g};
    return make_statistics(g);
}

dla_status cuda_tape_create(const struct graph *graph, struct parameter_block *parameters, const struct tape_options *options, bool average,
                            struct cuda_tape **tape)
{
    struct cuda_device device;
    dla_status status = cuda_device_open(&device);
    if (status != DLA_OK)
        return status;
    struct cuda_tape *g = memory_allocate_zeroed(1, sizeof *g);
    if (g == NULL)
        return status_out_of_memory(sizeof *g, "training on the GPU");
    g->device = device;
    g->arithmetic = cuda_arithmetic_of(options->precision);
    g->format = cuda_arithmetic_format(g->arithmetic);
    status = tape_create(graph, parameters, NULL, options, &g->tape);
    if (status == DLA_OK && (g->steps = memory_allocate_zeroed((size_t)g->tape->step_count, sizeof *g->steps)) == NULL)
        status = status_out_of_memory((size_t)g->tape->step_count * sizeof *g->steps, "training on the GPU");
    if (status == DLA_OK) {
        g->input_elements = value_pixels(g->tape, graph->input) * graph->nodes[graph->input].channels;
        g->label_pixels = value_pixels(g->tape, graph->output);
        g->loaded = options->partners ? 2 * options->batch : options->batch;
        status = cuda_status(cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking), "make a stream");
    }
    if (status == DLA_OK)
        status = cuda_status(cudaStreamCreateWithFlags(&g->copies, cudaStreamNonBlocking), "make a stream");
    if (status == DLA_OK)
        status = make_memory(g, average);
    if (status == DLA_OK)
        status = make_state(g);
    if (status == DLA_OK)
        status = make_ranks(g);
    if (status == DLA_OK)
        status = make_convs(g);
    if (status != DLA_OK) {
        cuda_tape_destroy(g);
        return status;
    }
    *tape = g;
    return DLA_OK;
}

void cuda_tape_destroy(struct cuda_tape *g)
{
    if (g == NULL)
        return;
    if (g->stream)
        cudaStreamSynchronize(g->stream);
    if (g->copies)
        cudaStreamSynchronize(g->copies);
    cudnn_session_close(g->cudnn);
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &g->slots[i];
        cudaFreeHost(slot->host_inputs);
        cudaFreeHost(slot->host_labels);
        cudaFreeHost(slot->host_maps);
        if (slot->loaded)
            cudaEventDestroy(slot->loaded);
        if (slot->consumed)
            cudaEventDestroy(slot->consumed);
    }
    cudaFreeHost(g->host_state);
    for (int i = 0; i < g->owned_count; i++)
        cuda_free(g->owned[i]);
    if (g->stream)
        cudaStreamDestroy(g->stream);
    if (g->copies)
        cudaStreamDestroy(g->copies);
    cudaGetLastError(); /* what went wrong has been told */
    memory_free(g->steps);
    tape_destroy(g->tape);
    memory_free(g);
}

struct tape_memory cuda_tape_memory(const struct cuda_tape *g)
{
    return tape_memory(g->tape);
}
