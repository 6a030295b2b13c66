/* tape_cuda.c - running a tape on the GPU: batches in, the walk over the steps, the loss, the update.
 *
 * The walk is that of tape_run.c: the schedule says what overwrites, what adds, what is zeroed before. All work goes into one stream, in
 * order; batches come in on a second one. Weights are turned into cuDNN's order, and rounded where maps are 16 bits, at the start of
 * each forward pass; their gradients are turned back and added at the end of each backward pass.
 *
 * Where batch norms are taken over all ranks, their sums travel in the midst of the walk. So it goes on behind a failure: the other ranks
 * wait for this one's sums, whatever they are worth.
 *
 * What goes wrong on the GPU is found at the next look, which may be steps later; CUDA_LAUNCH_BLOCKING=1 makes it the step itself.
 */
#include "base/memory.h"
#include "base/status.h"
#include "cuda/cuda_map.h"
#include "tasks/dense_target.h"
#include "train/tape_inside_cuda.h"

#include <stdio.h>
#include <string.h>

/* ---- blocks and batches ---- */

dla_status cuda_tape_write_state(struct cuda_tape *g, const float *values, const float *velocity, const float *average)
{
    size_t bytes = (size_t)g->tape->parameters->floats * sizeof(float);
    dla_status status = values ? cuda_tape_copy_in(g, g->values, values, bytes) : DLA_OK;
    if (status == DLA_OK && velocity)
        status = cuda_tape_copy_in(g, g->velocity, velocity, bytes);
    if (status == DLA_OK && average && g->average)
        status = cuda_tape_copy_in(g, g->average, average, bytes);
    return status;
}

dla_status cuda_tape_read_state(struct cuda_tape *g, float *values, float *velocity, float *average)
{
    size_t bytes = (size_t)g->tape->parameters->floats * sizeof(float);
    dla_status status = values ? cuda_tape_copy_out(g, values, g->values, bytes) : DLA_OK;
    if (status == DLA_OK && velocity)
        status = cuda_tape_copy_out(g, velocity, g->velocity, bytes);
    if (status == DLA_OK && average && g->average)
        status = cuda_tape_copy_out(g, average, g->average, bytes);
    return status;
}

int cuda_tape_waiting(const struct cuda_tape *g)
{
    return g->waiting;
}

dla_status cuda_tape_load(struct cuda_tape *g, const float *inputs, const int *labels, const uint8_t *maps)
{
    if (g->waiting == SLOTS)
        return status_set(DLA_ERROR_ARGUMENT, "%d batches are on the GPU already", SLOTS);
    struct slot *slot = &g->slots[(g->taken + g->waiting) % SLOTS];
    size_t input_bytes = loaded_input_bytes(g), label_bytes = loaded_label_bytes(g);
    cudaError_t error = cudaEventSynchronize(slot->loaded); /* the pinned memory's last batch has left it */
    if (error == cudaSuccess) {
        memcpy(slot->host_inputs, inputs, input_bytes);
        if (labels)
            memcpy(slot->host_labels, labels, label_bytes);
        if (maps)
            memcpy(slot->host_maps, maps, (size_t)g->label_pixels);
        error = cudaStreamWaitEvent(g->copies, slot->consumed, 0);
    }
    if (error == cudaSuccess)
        error = cudaMemcpyAsync(slot->inputs, slot->host_inputs, input_bytes, cudaMemcpyHostToDevice, g->copies);
    if (error == cudaSuccess && labels)
        error = cudaMemcpyAsync(slot->labels, slot->host_labels, label_bytes, cudaMemcpyHostToDevice, g->copies);
    if (error == cudaSuccess && maps)
        error = cudaMemcpyAsync(slot->maps, slot->host_maps, (size_t)g->label_pixels, cudaMemcpyHostToDevice, g->copies);
    if (error == cudaSuccess)
        error = cudaEventRecord(slot->loaded, g->copies);
    if (error != cudaSuccess)
        return cuda_status(error, "copy a batch to the GPU");
    g->waiting++;
    return DLA_OK;
}

/* ---- the walk ---- */

/* Whether what was put into the stream so far is known to have failed. */
static dla_status check(const struct step *step, const char *what)
{
    char text[256];
    cudaError_t error = cudaPeekAtLastError();
    if (error == cudaSuccess)
        return DLA_OK;
    snprintf(text, sizeof text, "run %s of %s '%s' on the GPU", what, op_name(step->node->op), step->node->name);
    return cuda_status(error, text);
}

static bool goes_on(const struct cuda_tape *g, dla_status status)
{
    return status == DLA_OK || g->tape->options.norms != NULL;
}

/* Of a whole walk, whose sums over ranks are checked at its end. */
static dla_status end_of_walk(const struct cuda_tape *g, dla_status status)
{
    return status == DLA_OK ? g->norm_status : status;
}

static void prepare_weights(struct cuda_tape *g)
{
    const struct tape *tape = g->tape;
    if (g->conv_count > 0)
        cuda_turn_weights(g->format, g->table, g->conv_count, g->largest_weight, g->values, g->turned, g->stream);
    for (int k = 0; k < tape->step_count; k++) {
        const struct step *step = &tape->steps[k];
        struct cuda_step *own = &g->steps[k];
        const void *weight = step->kind == STEP_CONV ? turned_weights(g, g->turned, own->turned) : NULL;
        if (own->forward.used)
            (void)gemm_pass_pack(&own->forward, weight, g->packed, g->stream);
        if (own->data.used)
            (void)gemm_pass_pack(&own->data, weight, g->packed, g->stream);
        if (step->kind == STEP_TRANSPOSED_CONV)
            cuda_taps_first(step->node->channels, step->node->as.conv.kernel * step->node->as.conv.kernel,
                            parameter_in(g, g->values, step->node->as.conv.weight), g->taps + g->steps[k].turned, g->stream);
    }
}

dla_status cuda_tape_forward(struct cuda_tape *g, uint64_t key, float share)
{
    const struct tape *tape = g->tape;
    if (g->waiting == 0)
        return status_set(DLA_ERROR_ARGUMENT, "no batch was loaded onto the GPU");
    struct slot *slot = &g->slots[g->taken % SLOTS];
    int batch = tape->options.batch;
    g->key = key;
    cudaError_t error = cudaStreamWaitEvent(g->stream, slot->loaded, 0);
    if (error == cudaSuccess) {
        prepare_weights(g); /* before a kernel that begins when all before it has ended: gemms read weights earlier than maps */
        cuda_blend_images(g->format, batch, g->input_elements / batch, slot->inputs, tape->options.partners, share,
                          map_of(g, tape->graph->input).data, g->stream);
        error = cudaEventRecord(slot->consumed, g->stream);
    }
    if (error == cudaSuccess)
        error = cudaPeekAtLastError();
    dla_status status = cuda_status(error, "prepare a forward pass on the GPU");
    for (int k = 0; k < tape->step_count && goes_on(g, status); k++) {
        cuda_step_forward(g, k, false);
        if (status == DLA_OK)
            status = check(&tape->steps[k], "the forward pass");
    }
    g->taken++;
    g->waiting--;
    return end_of_walk(g, status);
}

dla_status cuda_tape_class_loss(struct cuda_tape *g, const struct cuda_tape_loss *loss)
{
    value output = g->tape->graph->output;
    struct slot *slot = &g->slots[(g->taken + SLOTS - 1) % SLOTS];
    struct cuda_loss_call call = {.format = g->format, .rows = (int)g->label_pixels, .classes = channels_of(g, output)};
    call.logits = map_of(g, output);
    call.gradient = gradient_of(g, output);
    call.labels = slot->labels;
    call.mixed = loss->share != 1.0f;
    call.partners = g->tape->options.partners;
    call.share = loss->share;
    call.smoothing = loss->smoothing;
    call.scale = loss->scale;
    call.row_losses = g->row_losses;
    call.row_hits = g->row_hits;
    call.state = g->state;
    if (call.rows != g->tape->options.batch)
        return status_set(DLA_ERROR_UNSUPPORTED, "a class for each of %d images, but the network has %d results", g->tape->options.batch,
                          call.rows);
    cuda_cross_entropy(&call, g->stream);
    cudaError_t error = cudaEventRecord(slot->consumed, g->stream);
    return cuda_status(error == cudaSuccess ? cudaPeekAtLastError() : error, "compute the loss on the GPU");
}

dla_status cuda_tape_pixel_loss(struct cuda_tape *g, const float *class_weights, double total, float scale)
{
    value output = g->tape->graph->output;
    struct slot *slot = &g->slots[(g->taken + SLOTS - 1) % SLOTS];
    struct cuda_pixel_loss_call call = {.format = g->format, .pixels = g->label_pixels, .classes = channels_of(g, output)};
    call.log_probabilities = map_of(g, output);
    call.gradient = gradient_of(g, output);
    call.labels = slot->maps;
    call.weights = g->class_weights;
    call.ignored = TARGET_IGNORED;
    call.total = total;
    call.scale = scale;
    call.sums = g->row_losses;
    call.state = g->state;
    dla_status status = DLA_OK;
    if (!g->has_class_weights)
        status = cuda_tape_copy_in(g, g->class_weights, class_weights, (size_t)call.classes * sizeof(float));
    g->has_class_weights = status == DLA_OK;
    if (status != DLA_OK)
        return status;
    cuda_pixel_cross_entropy(&call, g->stream);
    cudaError_t error = cudaEventRecord(slot->consumed, g->stream);
    return cuda_status(error == cudaSuccess ? cudaPeekAtLastError() : error, "compute the loss on the GPU");
}

dla_status cuda_tape_clear_gradients(struct cuda_tape *g)
{
    size_t bytes = (size_t)g->tape->parameters->floats * sizeof(float);
    return cuda_status(cudaMemsetAsync(g->gradients, 0, bytes, g->stream), "clear the gradients on the GPU");
}

static void zero(struct cuda_tape *g, const struct zeroing *z)
{
    const struct buffer *b = &g->tape->buffers[z->buffer];
    cuda_zero(g->format, b->pixels, z->channels, place_view(g, (struct place){z->buffer, z->channel}), g->stream);
}

dla_status cuda_tape_backward(struct cuda_tape *g)
{
    const struct tape *tape = g->tape;
    dla_status status = DLA_OK;
    int next = 0;
    for (int s = tape->segment_count - 1; s >= 0; s--) {
        const struct segment *segment = &tape->segments[s];
        bool wanted = false; /* not in frozen parts */
        for (int k = segment->first; k < segment->end; k++)
            wanted = wanted || tape->steps[k].has_backward;
        for (int k = segment->first; k < segment->end && wanted && status == DLA_OK; k++)
            if (tape->steps[k].again) {
                cuda_step_forward(g, k, true);
                status = check(&tape->steps[k], "the repeated forward pass");
            }
        for (int k = segment->end - 1; k >= segment->first && goes_on(g, status); k--) {
            for (; next < tape->zeroing_count && tape->zeroings[next].step == k; next++)
                zero(g, &tape->zeroings[next]);
            dla_status done = tape->steps[k].has_backward ? cuda_step_backward(g, k) : DLA_OK;
            if (status == DLA_OK)
                status = done == DLA_OK ? check(&tape->steps[k], "the backward pass") : done;
        }
    }
    if (status == DLA_OK && g->trains_convs) {
        cuda_turn_gradients(g->format, g->table, g->conv_count, g->largest_weight, g->turned_gradients, g->gradients, g->stream);
        status = cuda_status(cudaPeekAtLastError(), "collect the weights' gradients on the GPU");
    }
    return end_of_walk(g, status);
}

dla_status cuda_tape_reduce(struct cuda_tape *g)
{
    struct cuda_reducer *ranks = g->tape->options.ranks;
    if (ranks == NULL)
        return DLA_OK;
    cuda_carry_statistics(g->statistics, g->statistics_count, cuda_reducer_ranks(ranks), g->values, g->gradients, g->stream);
    dla_status status = cuda_reducer_sum_floats(ranks, g->gradients, g->tape->parameters->floats, g->stream);
    cuda_take_statistics(g->statistics, g->statistics_count, g->gradients, g->values, g->stream);
    return status == DLA_OK ? cuda_status(cudaPeekAtLastError(), "add up over the ranks") : status;
}

dla_status cuda_tape_result(struct cuda_tape *g, struct cuda_tape_result *result)
{
    dla_status status = cuda_tape_copy_out(g, g->host_state, g->state, sizeof *g->state);
    *result = (struct cuda_tape_result){.loss = g->host_state->loss, .correct = g->host_state->correct};
    result->loss_scale = g->host_state->loss_scale;
    result->skipped = g->host_state->skipped;
    return status;
}

/* ---- update ---- */

/* A parameter's rate and decay for each line of the block; the gaps behind it are zero and stay so. */
static dla_status set_optimiser(struct cuda_tape *g, const struct optimiser_options *options)
{
    const struct parameter_block *parameters = g->tape->parameters;
    size_t lines = (size_t)parameters->floats / CUDA_LINE;
    float *rates = memory_allocate_zeroed(2 * lines + 1, sizeof *rates);
    if (rates == NULL)
        return status_out_of_memory(2 * lines * sizeof *rates, "learning rates");
    float *decays = rates + lines;
    for (int i = 0; i < parameters->graph->parameter_count; i++) {
        const struct parameter *p = &parameters->graph->parameters[i];
        float rate = optimiser_rate_scale(options, p, i), decay = optimiser_decay(options, p);
        size_t first = (size_t)parameters->offsets[i] / CUDA_LINE, end = first + ((size_t)p->elements + CUDA_LINE - 1) / CUDA_LINE;
        for (size_t line = first; line < end; line++) {
            rates[line] = rate;
            decays[line] = decay;
        }
    }
    dla_status status = cuda_tape_copy_in(g, g->rate_scale, rates, lines * sizeof *rates);
    if (status == DLA_OK)
        status = cuda_tape_copy_in(g, g->decay, decays, lines * sizeof *decays);
    memory_free(rates);
    g->has_optimiser = status == DLA_OK;
    return status;
}

dla_status cuda_tape_update(struct cuda_tape *g, const struct optimiser_options *options, float rate, double clip, float average_decay)
{
    int64_t count = g->tape->parameters->floats;
    bool scaling = g->format == CUDA_FLOAT16;
    struct cuda_optimiser_call call = {.count = count, .values = g->values, .velocity = g->velocity, .gradients = g->gradients};
    dla_status status = g->has_optimiser ? DLA_OK : set_optimiser(g, options);
    if (status != DLA_OK)
        return status;
    call.rate_scale = g->rate_scale;
    call.decay = g->decay;
    call.rate = rate;
    call.momentum = options->momentum;
    call.nesterov = options->nesterov;
    call.state = g->state;
    if (scaling || clip > 0.0)
        cuda_judge_gradients(g->gradients, count, clip, scaling, g->row_losses, g->state, g->stream);
    cuda_optimiser_step(&call, g->stream);
    if (g->average)
        cuda_average_weights(count, g->values, g->average, average_decay, g->stream);
    return cuda_status(cudaPeekAtLastError(), "change the weights on the GPU");
}

/* ---- for tests ---- */

static int64_t output_elements(const struct cuda_tape *g)
{
    return g->label_pixels * channels_of(g, g->tape->graph->output);
}

static dla_status make_output(struct cuda_tape *g)
{
    return g->output ? DLA_OK : cuda_tape_take(g, (size_t)output_elements(g) * sizeof(float), "the output", &g->output);
}

dla_status cuda_tape_read_output(struct cuda_tape *g, float *output, struct map_size *size)
{
    value v = g->tape->graph->output;
    dla_status status = make_output(g);
    if (status != DLA_OK)
        return status;
    if (size)
        *size = g->tape->sizes[v];
    cuda_to_float(g->format, map_of(g, v), g->label_pixels, channels_of(g, v), g->output, g->stream);
    return cuda_tape_copy_out(g, output, g->output, (size_t)output_elements(g) * sizeof(float));
}

dla_status cuda_tape_write_output_gradient(struct cuda_tape *g, const float *gradient)
{
    value v = g->tape->graph->output;
    int channels = channels_of(g, v);
    int64_t count = output_elements(g);
    float scale = g->host_state->loss_scale, *scaled = allocate_floats(count);
    dla_status status = make_output(g);
    if (scaled == NULL)
        return status_out_of_memory((size_t)count * sizeof *scaled, "a gradient");
    for (int64_t i = 0; i < count; i++)
        scaled[i] = scale * gradient[i];
    if (status == DLA_OK)
        status = cuda_tape_copy_in(g, g->output, scaled, (size_t)count * sizeof *scaled);
    if (status == DLA_OK)
        cuda_pad_channels(g->output, g->label_pixels, channels, g->format, gradient_of(g, v), channels, g->stream);
    memory_free(scaled);
    return status == DLA_OK ? cuda_status(cudaPeekAtLastError(), "set a gradient on the GPU") : status;
}

dla_status cuda_tape_read_gradients(struct cuda_tape *g, float *gradients)
{
    int64_t count = g->tape->parameters->floats;
    dla_status status = cuda_tape_copy_out(g, gradients, g->gradients, (size_t)count * sizeof *gradients);
    for (int64_t i = 0; i < count && status == DLA_OK; i++)
        gradients[i] /= g->host_state->loss_scale;
    return status;
}

const char *cuda_tape_describe_conv(struct cuda_tape *g, int index)
{
    static const char *const directions[CUDNN_DIRECTIONS] = {"forward", "data", "weights"};
    for (int k = 0; k < g->tape->step_count; k++) {
        const struct step *step = &g->tape->steps[k];
        const struct conv_shape *s = &step->conv.shape;
        if (step->kind != STEP_CONV || index-- > 0)
            continue;
        int length = snprintf(g->text, sizeof g->text, "%s: %dx%dx%d to %d, kernel %d, stride %d, groups %d", step->node->name,
                              s->in_height, s->in_width, s->in_channels, s->out_channels, s->kernel, s->stride, s->groups);
        for (int d = 0; d < CUDNN_DIRECTIONS && length < (int)sizeof g->text; d++) {
            char words[128] = "by definition";
            if (g->steps[k].conv)
                cudnn_conv_describe(g->steps[k].conv, (enum cudnn_direction)d, words, sizeof words);
            length += snprintf(g->text + length, sizeof g->text - (size_t)length, "; %s %s", directions[d], words);
        }
        return g->text;
    }
    return NULL;
}
