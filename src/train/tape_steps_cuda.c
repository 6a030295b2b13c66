/* tape_steps_cuda.c - one step on the GPU, forward and backward: the counterpart of tape_run.c's and tape_norm.c's.
 *
 * A convolution, forward or to the gradient of its input, goes to the plans' kernels where they take it (gemm_cuda.h), else to cuDNN, as do
 * all gradients of weights; what cuDNN does not take either, the definition's kernels do. cuDNN wants maps without gaps between pixels, so
 * what a concatenation holds is copied for it (`staged`); the others take gaps.
 */
#include "train/tape_inside_cuda.h"

#include "cuda/cuda_map.h"

/* A map without gaps: itself, or its copy in `memory`. */
static void *packed_map(struct cuda_tape *g, value v, struct cuda_view map, char *memory)
{
    int channels = channels_of(g, v);
    if (map.pixel_stride == channels)
        return map.data;
    cuda_accumulate(g->format, value_pixels(g->tape, v), channels, map, (struct cuda_view){memory, channels}, false, g->stream);
    return memory;
}

static bool run_cudnn(struct cuda_tape *g, const struct cuda_step *own, enum cudnn_direction direction, void *in, void *weight, void *out,
                      bool add)
{
    bool done = false;
    struct cudnn_conv_call call = {.conv = own->conv, .direction = direction, .in = in, .weight = weight, .out = out, .add = add};
    cudnn_session_run(g->cudnn, &call, &done);
    return done;
}

static struct cuda_conv_pass pass_of(const struct cuda_tape *g, const struct step *step, const struct cuda_step *own)
{
    struct cuda_conv_pass pass = {.format = g->format, .shape = &step->conv.shape};
    pass.weight = turned_weights(g, g->turned, own->turned);
    return pass;
}

static void conv_forward(struct cuda_tape *g, const struct step *step, const struct cuda_step *own)
{
    struct cuda_view in = map_of(g, step->in), out = map_of(g, step->out);
    int channels = step->node->channels;
    int64_t pixels = value_pixels(g->tape, step->out);
    bool done = false;
    if (own->forward.used) {
        (void)gemm_pass_run(&own->forward, &g->device, g->stream);
        return;
    }
    if (own->conv) {
        bool staged = out.pixel_stride != channels;
        void *to = staged ? g->staged_out : out.data;
        done =
            run_cudnn(g, own, CUDNN_OUT, packed_map(g, step->in, in, g->staged_in), turned_weights(g, g->turned, own->turned), to, false);
        if (done && staged)
            cuda_accumulate(g->format, pixels, channels, (struct cuda_view){to, channels}, out, false, g->stream);
    }
    if (!done) {
        struct cuda_conv_pass pass = pass_of(g, step, own);
        pass.in = in;
        pass.out = out;
        cuda_conv_direct_forward(&pass, g->stream);
    }
    const float *bias = parameter_in(g, g->values, step->node->as.conv.bias);
    if (bias)
        cuda_add_bias(g->format, pixels, channels, bias, out, g->stream);
}

static dla_status conv_weight_backward(struct cuda_tape *g, const struct step *step, const struct cuda_step *own, void *packed_gradient)
{
    struct cuda_view in = map_of(g, step->in);
    void *gradient = turned_weights(g, g->turned_gradients, own->turned);
    if (own->conv && run_cudnn(g, own, CUDNN_WEIGHT_GRADIENT, packed_map(g, step->in, in, g->staged_in), gradient, packed_gradient, false))
        return DLA_OK;
    dla_status status = DLA_OK;
    if (g->direct_sums == NULL)
        status = cuda_tape_take(g, (size_t)g->direct_sums_count * sizeof(float), "sums of weight gradients", &g->direct_sums);
    if (status != DLA_OK)
        return status;
    struct cuda_conv_pass pass = pass_of(g, step, own);
    pass.in = in;
    pass.out = gradient_of(g, step->out);
    pass.weight_gradient = gradient;
    pass.sums = g->direct_sums;
    cuda_conv_direct_weight(&pass, g->stream);
    return DLA_OK;
}

static void conv_data_backward(struct cuda_tape *g, const struct step *step, const struct cuda_step *own, void *packed_gradient)
{
    struct cuda_view in = gradient_of(g, step->in);
    int channels = channels_of(g, step->in);
    bool add = step->to_in == CONTRIBUTE_ADD;
    if (own->data.used) {
        (void)gemm_pass_run(&own->data, &g->device, g->stream);
        return;
    }
    if (own->conv) {
        bool staged = in.pixel_stride != channels;
        void *to = staged ? g->staged_in : in.data, *weight = turned_weights(g, g->turned, own->turned);
        bool done = run_cudnn(g, own, CUDNN_IN_GRADIENT, to, weight, packed_gradient, add && !staged);
        if (done && staged)
            cuda_accumulate(g->format, value_pixels(g->tape, step->in), channels, (struct cuda_view){to, channels}, in, add, g->stream);
        if (done)
            return;
    }
    struct cuda_conv_pass pass = pass_of(g, step, own);
    pass.in = in;
    pass.out = gradient_of(g, step->out);
    pass.add = add;
    cuda_conv_direct_data(&pass, g->stream);
}

static dla_status conv_backward(struct cuda_tape *g, const struct step *step, const struct cuda_step *own)
{
    const struct conv_params *p = &step->node->as.conv;
    struct cuda_view gradient = gradient_of(g, step->out);
    bool wanted = tape_trains(g->tape, p->weight) || (step->to_in != CONTRIBUTE_NOTHING && !own->data.used);
    void *packed = own->conv && wanted ? packed_map(g, step->out, gradient, g->staged_out) : NULL;
    float *bias = trained_gradient(g, p->bias);
    dla_status status = DLA_OK;
    if (tape_trains(g->tape, p->weight))
        status = conv_weight_backward(g, step, own, packed);
    if (bias)
        cuda_bias_gradient(g->format, value_pixels(g->tape, step->out), step->node->channels, gradient, g->sums, bias, g->stream);
    if (step->to_in != CONTRIBUTE_NOTHING)
        conv_data_backward(g, step, own, packed);
    return status;
}

/* ---- batch norms ---- */

static struct cuda_norm_call norm_call_of(const struct cuda_tape *g, const struct step *step, const struct cuda_step *own)
{
    const struct batch_norm_params *p = step->norm.params;
    int channels = step->node->channels;
    struct cuda_norm_call call = {.format = g->format, .pixels = value_pixels(g->tape, step->out), .channels = channels};
    call.relu = step->norm.relu;
    call.fixed = step->norm.fixed;
    call.momentum = p->momentum;
    call.epsilon = p->epsilon;
    call.in = map_of(g, step->in);
    call.out = map_of(g, step->out);
    if (step->other != NO_VALUE)
        call.residual = map_of(g, step->other);
    call.weight = parameter_in(g, g->values, p->weight);
    call.bias = parameter_in(g, g->values, p->bias);
    call.running_mean = parameter_in(g, g->values, p->running_mean);
    call.running_var = parameter_in(g, g->values, p->running_var);
    call.mean = own->norm;
    call.deviation_inverse = own->norm + channels;
    call.scale = own->norm + 2 * channels;
    call.shift = own->norm + 3 * channels;
    call.gradient_of_x = own->norm + 4 * channels;
    call.gradient_constant = own->norm + 5 * channels;
    call.sums = g->sums;
    if (g->tape->options.norms)
        call.ranks = &g->norm_ranks;
    return call;
}

static void norm_backward(struct cuda_tape *g, const struct step *step, const struct cuda_step *own)
{
    struct cuda_norm_call call = norm_call_of(g, step, own);
    call.out_gradient = gradient_of(g, step->out);
    if (step->to_in != CONTRIBUTE_NOTHING)
        call.in_gradient = gradient_of(g, step->in);
    if (step->to_other != CONTRIBUTE_NOTHING)
        call.residual_gradient = gradient_of(g, step->other);
    call.accumulate_in = step->to_in == CONTRIBUTE_ADD;
    call.accumulate_residual = step->to_other == CONTRIBUTE_ADD;
    call.weight_gradient = trained_gradient(g, step->norm.params->weight);
    call.bias_gradient = trained_gradient(g, step->norm.params->bias);
    cuda_norm_backward(&call, g->stream);
}

/* ---- the other maps ---- */

static struct cuda_map_call map_call_of(const struct cuda_tape *g, const struct step *step)
{
    struct map_call numbers = tape_map_call(g->tape, step);
    struct cuda_map_call call = cuda_map_call_of(&numbers, g->format);
    call.in = map_of(g, step->in);
    if (step->other != NO_VALUE)
        call.other = map_of(g, step->other);
    call.out = map_of(g, step->out);
    return call;
}

static void concat_forward(struct cuda_tape *g, const struct step *step)
{
    struct cuda_view whole = map_of(g, step->out);
    int channel = 0;
    for (int i = 0; i < step->node->input_count; i++) {
        value part = step->node->inputs[i];
        if (step->copied_parts[i])
            cuda_accumulate(g->format, value_pixels(g->tape, part), channels_of(g, part), map_of(g, part), shifted(g, whole, channel),
                            false, g->stream);
        channel += channels_of(g, part);
    }
}

static void drop(struct cuda_tape *g, const struct step *step, struct cuda_view map)
{
    const struct tape_options *o = &g->tape->options;
    int64_t pixels = value_pixels(g->tape, step->out);
    if (o->dropout > 0.0)
        cuda_drop(g->format, pixels / o->batch * o->first_image, pixels, channels_of(g, step->out), map, g->key, o->dropout, g->stream);
}

void cuda_step_forward(struct cuda_tape *g, int index, bool again)
{
    const struct step *step = &g->tape->steps[index];
    const struct cuda_step *own = &g->steps[index];
    struct cuda_norm_call norm;
    struct cuda_map_call call;
    switch (step->kind) {
    case STEP_CONV:
        conv_forward(g, step, own);
        return;
    case STEP_NORM:
        norm = norm_call_of(g, step, own);
        cuda_norm_forward(&norm, again, g->stream);
        return;
    case STEP_CONCAT:
        concat_forward(g, step);
        return;
    case STEP_TRANSPOSED_CONV:
        call = map_call_of(g, step);
        call.weight = g->taps + own->turned;
        cuda_transposed_conv(&call, g->stream);
        return;
    case STEP_RELU:
        call = map_call_of(g, step);
        cuda_relu(&call, g->stream);
        return;
    case STEP_ADD:
        call = map_call_of(g, step);
        cuda_add(&call, g->stream);
        return;
    case STEP_MAX_POOL:
        call = map_call_of(g, step);
        cuda_max_pool(&call, g->stream);
        return;
    case STEP_AVERAGE_POOL:
        call = map_call_of(g, step);
        cuda_average_pool(&call, g->stream);
        return;
    case STEP_GLOBAL_AVERAGE_POOL:
        call = map_call_of(g, step);
        cuda_global_average_pool(&call, g->stream);
        drop(g, step, call.out);
        return;
    case STEP_CROP:
        call = map_call_of(g, step);
        cuda_copy(&call, g->stream);
        return;
    case STEP_LOG_SOFTMAX:
        call = map_call_of(g, step);
        cuda_log_softmax(&call, g->stream);
        return;
    }
}

/* ---- backward ---- */

static struct cuda_window_call window_call_of(const struct cuda_tape *g, const struct step *step)
{
    struct cuda_map_call map = map_call_of(g, step);
    struct cuda_window_call call = {.format = g->format, .batch = map.batch, .channels = map.channels};
    call.in_height = map.in_height;
    call.in_width = map.in_width;
    call.out_height = map.out_height;
    call.out_width = map.out_width;
    call.kernel = map.kernel;
    call.stride = map.stride;
    call.padding = map.padding;
    call.dilation = map.dilation;
    call.in = map.in;
    call.out_gradient = gradient_of(g, step->out);
    if (step->to_in != CONTRIBUTE_NOTHING)
        call.in_gradient = gradient_of(g, step->in);
    call.add = step->to_in == CONTRIBUTE_ADD;
    return call;
}

/* A gradient that goes on as it is. */
static void pass_on(struct cuda_tape *g, value to, enum contribution contribution, struct cuda_view gradient)
{
    if (contribution != CONTRIBUTE_NOTHING)
        cuda_accumulate(g->format, value_pixels(g->tape, to), channels_of(g, to), gradient, gradient_of(g, to),
                        contribution == CONTRIBUTE_ADD, g->stream);
}

static void concat_backward(struct cuda_tape *g, const struct step *step)
{
    struct cuda_view gradient = gradient_of(g, step->out);
    int channel = 0;
    for (int i = 0; i < step->node->input_count; i++) {
        value part = step->node->inputs[i];
        if (step->copied_parts[i])
            pass_on(g, part, step->to_parts[i], shifted(g, gradient, channel));
        channel += channels_of(g, part);
    }
}

static void transposed_backward(struct cuda_tape *g, const struct step *step, const struct cuda_step *own)
{
    struct cuda_window_call call = window_call_of(g, step);
    call.weight = g->taps + own->turned;
    call.weight_gradient = trained_gradient(g, step->node->as.conv.weight);
    call.sums = g->sums;
    cuda_transposed_conv_backward(&call, g->stream);
}

dla_status cuda_step_backward(struct cuda_tape *g, int index)
{
    const struct step *step = &g->tape->steps[index];
    const struct cuda_step *own = &g->steps[index];
    struct cuda_view gradient = gradient_of(g, step->out);
    struct cuda_window_call window;
    bool wanted = step->to_in != CONTRIBUTE_NOTHING, add = step->to_in == CONTRIBUTE_ADD;
    int64_t pixels = value_pixels(g->tape, step->out);
    int channels = channels_of(g, step->out);
    switch (step->kind) {
    case STEP_CONV:
        return conv_backward(g, step, own);
    case STEP_NORM:
        norm_backward(g, step, own);
        return DLA_OK;
    case STEP_TRANSPOSED_CONV:
        transposed_backward(g, step, own);
        return DLA_OK;
    case STEP_CONCAT:
        concat_backward(g, step);
        return DLA_OK;
    case STEP_ADD:
        pass_on(g, step->in, step->to_in, gradient);
        pass_on(g, step->other, step->to_other, gradient);
        return DLA_OK;
    case STEP_GLOBAL_AVERAGE_POOL:
        drop(g, step, gradient);
        break;
    default:
        break;
    }
    if (!wanted)
        return DLA_OK;
    window = window_call_of(g, step);
    switch (step->kind) {
    case STEP_RELU:
        cuda_relu_backward(g->format, pixels, channels, map_of(g, step->out), gradient, gradient_of(g, step->in), add, g->stream);
        break;
    case STEP_LOG_SOFTMAX:
        cuda_log_softmax_backward(g->format, pixels, channels, map_of(g, step->out), gradient, gradient_of(g, step->in), add, g->stream);
        break;
    case STEP_MAX_POOL:
        cuda_max_pool_backward(&window, g->stream);
        break;
    case STEP_AVERAGE_POOL:
        cuda_average_pool_backward(&window, g->stream);
        break;
    case STEP_GLOBAL_AVERAGE_POOL:
        cuda_global_average_pool_backward(&window, g->stream);
        break;
    case STEP_CROP:
        cuda_crop_backward(&window, g->stream);
        break;
    default:
        break;
    }
    return DLA_OK;
}
