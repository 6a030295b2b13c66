/* tape_run.c - running a tape's steps forward and backward; convolutions have tape_conv.c and tape_images.c, batch norms tape_norm.c for
 * themselves.
 *
 * Convolutions divide their own work among threads; everything else is cut here into chunks of pixels or images. Sums are
 * taken per chunk and the chunks added in order, and the cut depends on the shape alone: any number of threads gives the
 * same bits.
 */
#include "base/clock.h"
#include "base/counter_random.h"
#include "train/tape_steps.h"

#include <string.h>

/* ---- the other maps ---- */

static struct map_call map_call_of(struct tape *tape, const struct step *step)
{
    struct map_call call = tape_map_call(tape, step);
    call.pool = tape->pool;
    call.in = value_map(tape, step->in);
    if (step->other != NO_VALUE)
        call.other = value_map(tape, step->other);
    call.out = value_map(tape, step->out);
    return call;
}

/* The weights of a depthwise transposed convolution as (kernel, kernel, channels), in scratch. */
static float *depthwise_weights(struct tape *tape, const struct step *step)
{
    const struct conv_params *p = &step->node->as.conv;
    const float *weight = tape_parameter(tape, p->weight);
    int taps = p->kernel * p->kernel, channels = step->node->channels;
    float *turned = tape->scratch;
    for (int c = 0; c < channels; c++)
        for (int tap = 0; tap < taps; tap++)
            turned[(int64_t)tap * channels + c] = weight[(int64_t)c * taps + tap];
    return turned;
}

static void transposed_forward(struct tape *tape, const struct step *step)
{
    struct map_call call = map_call_of(tape, step);
    call.weight = depthwise_weights(tape, step);
    tape->maps->transposed_conv(&call);
}

static void concat_forward(struct tape *tape, const struct step *step)
{
    struct map_view whole = value_map(tape, step->out);
    int channel = 0;
    for (int i = 0; i < step->node->input_count; i++) {
        value part = step->node->inputs[i];
        int channels = tape->graph->nodes[part].channels;
        if (step->copied_parts[i]) {
            struct map_call call = {.batch = tape->options.batch, .channels = channels, .in = value_map(tape, part), .pool = tape->pool};
            call.in_height = call.out_height = tape->sizes[part].height;
            call.in_width = call.out_width = tape->sizes[part].width;
            call.in_channels = channels;
            call.out = (struct map_view){whole.data + channel, whole.pixel_stride};
            tape->maps->copy(&call);
        }
        channel += channels;
    }
}

/* Multiplies by 0 or 1 / (1 - p), the same in both directions: the mask follows from the key and the element's index. */
static void drop(struct tape *tape, value v, struct map_view map)
{
    float kept = (float)(1.0 / (1.0 - tape->options.dropout));
    int channels = tape->graph->nodes[v].channels;
    int64_t first = value_pixels(tape, v) / tape->options.batch * tape->options.first_image;
    for (int64_t pixel = 0; pixel < value_pixels(tape, v); pixel++)
        for (int c = 0; c < channels; c++)
            map.data[pixel * map.pixel_stride + c] *=
                counter_uniform(tape->key, (uint64_t)((first + pixel) * channels + c)) < tape->options.dropout ? 0.0f : kept;
}

static void step_forward(struct tape *tape, const struct step *step, bool again)
{
    struct map_call call;
    switch (step->kind) {
    case STEP_CONV:
        if (step->conv.norm_behind)
            tape_images_forward(tape, step, again);
        else
            tape_conv_forward(tape, step);
        return;
    case STEP_NORM:
        tape_norm_forward(tape, step, again);
        return;
    case STEP_CONCAT:
        concat_forward(tape, step);
        return;
    case STEP_TRANSPOSED_CONV:
        transposed_forward(tape, step);
        return;
    case STEP_RELU:
        call = map_call_of(tape, step);
        tape->maps->relu(&call);
        return;
    case STEP_ADD:
        call = map_call_of(tape, step);
        tape->maps->add(&call);
        return;
    case STEP_MAX_POOL:
        call = map_call_of(tape, step);
        tape->maps->max_pool(&call);
        return;
    case STEP_AVERAGE_POOL:
        call = map_call_of(tape, step);
        tape->maps->average_pool(&call);
        return;
    case STEP_GLOBAL_AVERAGE_POOL:
        call = map_call_of(tape, step);
        tape->maps->global_average_pool(&call);
        if (tape->options.dropout > 0.0)
            drop(tape, step->out, call.out);
        return;
    case STEP_CROP:
        call = map_call_of(tape, step);
        tape->maps->copy(&call);
        return;
    case STEP_LOG_SOFTMAX:
        call = map_call_of(tape, step);
        tape->maps->log_softmax(&call);
        return;
    }
}

/* ---- backward of everything that goes image by image ---- */

struct image_job {
    struct tape *tape;
    const struct step *step;
    value from, to; /* whose gradient flows into whose */
    enum contribution contribution;
    struct map_view from_gradient;
    const float *weight;     /* transposed convolution, channels last */
    float *weight_gradients; /* the same per image, or NULL */
};

static struct map_view image_of(const struct tape *tape, value v, struct map_view map, int image)
{
    int64_t pixels = (int64_t)tape->sizes[v].height * tape->sizes[v].width;
    return (struct map_view){map.data + image * pixels * map.pixel_stride, map.pixel_stride};
}

static void crop_backward(struct map_size from_size, struct map_size to_size, int channels, const struct training_kernels *k,
                          struct const_view from, struct map_view to)
{
    for (int y = 0; y < from_size.height; y++)
        k->map_copy(from_size.width, channels, (struct const_view){from.data + (int64_t)y * from_size.width * from.stride, from.stride},
                    (struct map_view){to.data + (int64_t)y * to_size.width * to.pixel_stride, to.pixel_stride}, true);
}

static void image_task(void *context, int image, int worker)
{
    const struct image_job *job = context;
    struct tape *tape = job->tape;
    const struct step *step = job->step;
    const struct training_kernels *k = tape->kernels;
    struct map_size from_size = tape->sizes[job->from], to_size = tape->sizes[job->to];
    int64_t pixels = (int64_t)from_size.height * from_size.width, to_pixels = (int64_t)to_size.height * to_size.width;
    bool add = job->contribution == CONTRIBUTE_ADD;
    struct const_view from = constant_view(image_of(tape, job->from, job->from_gradient, image));
    struct map_view to = image_of(tape, job->to, value_gradient(tape, job->to), image);
    int channels = tape->graph->nodes[job->to].channels;
    (void)worker;
    struct window_shape window = {.channels = channels,
                                  .in_height = to_size.height,
                                  .in_width = to_size.width,
                                  .out_height = from_size.height,
                                  .out_width = from_size.width};
    if (step->kind == STEP_MAX_POOL || step->kind == STEP_AVERAGE_POOL) {
        window.kernel = step->node->as.pool.kernel;
        window.stride = step->node->as.pool.stride;
        window.padding = step->node->as.pool.padding;
        window.dilation = step->node->as.pool.dilation;
    }
    switch (step->kind) {
    case STEP_ADD:
    case STEP_CONCAT:
        k->map_copy(pixels, channels, from, to, add);
        return;
    case STEP_RELU:
        k->map_relu_backward(pixels, channels, constant_view(image_of(tape, step->out, value_map(tape, step->out), image)), from, to, add);
        return;
    case STEP_MAX_POOL:
        k->max_pool_backward(&window, constant_view(image_of(tape, step->in, value_map(tape, step->in), image)), from, to);
        return;
    case STEP_AVERAGE_POOL:
        k->average_pool_backward(&window, from, to);
        return;
    case STEP_GLOBAL_AVERAGE_POOL:
        for (int64_t p = 0; p < to_pixels; p++)
            for (int c = 0; c < channels; c++) {
                float *element = to.data + p * to.pixel_stride + c, share = from.data[c] / (float)to_pixels;
                *element = add ? *element + share : share;
            }
        return;
    case STEP_CROP:
        crop_backward(from_size, to_size, channels, k, from, to);
        return;
    case STEP_LOG_SOFTMAX:
        k->log_softmax_backward(pixels, channels, constant_view(image_of(tape, step->out, value_map(tape, step->out), image)), from, to,
                                add);
        return;
    case STEP_CONV:
    case STEP_NORM:
    case STEP_TRANSPOSED_CONV:
        return; /* they have backward passes of their own */
    }
}

static void flow(struct tape *tape, const struct step *step, value to, enum contribution contribution, struct map_view from_gradient)
{
    if (contribution == CONTRIBUTE_NOTHING)
        return;
    struct image_job job = {
        .tape = tape, .step = step, .from = step->out, .to = to, .contribution = contribution, .from_gradient = from_gradient};
    thread_pool_run(tape->pool, image_task, &job, tape->options.batch);
}

static void transposed_task(void *context, int image, int worker)
{
    const struct image_job *job = context;
    struct tape *tape = job->tape;
    const struct conv_params *conv = &job->step->node->as.conv;
    struct map_size from_size = tape->sizes[job->from], to_size = tape->sizes[job->to];
    struct map_view none = {0};
    struct window_shape window = {.channels = tape->graph->nodes[job->to].channels,
                                  .in_height = to_size.height,
                                  .in_width = to_size.width,
                                  .out_height = from_size.height,
                                  .out_width = from_size.width,
                                  .kernel = conv->kernel,
                                  .stride = conv->stride,
                                  .padding = conv->padding};
    (void)worker;
    tape->kernels->transposed_conv_backward(
        &window, job->weight, constant_view(image_of(tape, job->to, value_map(tape, job->to), image)),
        constant_view(image_of(tape, job->from, job->from_gradient, image)),
        job->contribution == CONTRIBUTE_NOTHING ? none : image_of(tape, job->to, value_gradient(tape, job->to), image),
        job->weight_gradients ? job->weight_gradients + image * (int64_t)window.kernel * window.kernel * window.channels : NULL);
}

static void transposed_backward(struct tape *tape, const struct step *step, float *gradients)
{
    const struct conv_params *p = &step->node->as.conv;
    int channels = step->node->channels, taps = p->kernel * p->kernel;
    struct image_job job = {.tape = tape,
                            .step = step,
                            .from = step->out,
                            .to = step->in,
                            .contribution = step->to_in,
                            .from_gradient = value_gradient(tape, step->out)};
    job.weight = depthwise_weights(tape, step);
    if (tape_trains(tape, p->weight)) {
        job.weight_gradients = (float *)tape->scratch + (int64_t)taps * channels;
        memset(job.weight_gradients, 0, (size_t)tape->options.batch * (size_t)(taps * channels) * sizeof(float));
    }
    thread_pool_run(tape->pool, transposed_task, &job, tape->options.batch);
    if (job.weight_gradients)
        for (int c = 0; c < channels; c++)
            for (int tap = 0; tap < taps; tap++)
                for (int image = 0; image < tape->options.batch; image++)
                    gradients[tape->parameters->offsets[p->weight] + (int64_t)c * taps + tap] +=
                        job.weight_gradients[((int64_t)image * taps + tap) * channels + c];
}

static void step_backward(struct tape *tape, struct step *step, float *gradients)
{
    struct map_view gradient = value_gradient(tape, step->out);
    switch (step->kind) {
    case STEP_CONV:
        if (step->conv.norm_behind)
            tape_images_backward(tape, step, gradients);
        else
            tape_conv_backward(tape, step, gradients);
        return;
    case STEP_NORM:
        tape_norm_backward(tape, step, gradients);
        return;
    case STEP_TRANSPOSED_CONV:
        transposed_backward(tape, step, gradients);
        return;
    case STEP_CONCAT: {
        int channel = 0;
        for (int i = 0; i < step->node->input_count; i++) {
            value part = step->node->inputs[i];
            if (step->copied_parts[i])
                flow(tape, step, part, step->to_parts[i], (struct map_view){gradient.data + channel, gradient.pixel_stride});
            channel += tape->graph->nodes[part].channels;
        }
        return;
    }
    case STEP_GLOBAL_AVERAGE_POOL:
        if (tape->options.dropout > 0.0)
            drop(tape, step->out, gradient);
        break;
    default:
        break;
    }
    flow(tape, step, step->in, step->to_in, gradient);
    if (step->other != NO_VALUE)
        flow(tape, step, step->other, step->to_other, gradient);
}

/* ---- the walk ---- */

void tape_forward(struct tape *tape, uint64_t key)
{
    tape->key = key;
    double start = clock_milliseconds();
    tape_pack_weights(tape);
    tape->pack_ms = clock_milliseconds() - start;
    for (int k = 0; k < tape->step_count; k++) {
        start = clock_milliseconds();
        step_forward(tape, &tape->steps[k], false);
        tape->steps[k].forward_ms = clock_milliseconds() - start;
    }
}

static void zero(struct tape *tape, const struct zeroing *z)
{
    const struct buffer *b = &tape->buffers[z->buffer];
    float *data = tape->block + b->offset + z->channel;
    for (int64_t pixel = 0; pixel < b->pixels; pixel++)
        memset(data + pixel * b->pixel_stride, 0, (size_t)z->channels * sizeof(float));
}

void tape_backward(struct tape *tape, float *gradients)
{
    int next = 0;
    for (int s = tape->segment_count - 1; s >= 0; s--) {
        const struct segment *segment = &tape->segments[s];
        bool wanted = false; /* not in frozen parts */
        for (int k = segment->first; k < segment->end; k++)
            wanted = wanted || tape->steps[k].has_backward;
        for (int k = segment->first; k < segment->end && wanted; k++)
            if (tape->steps[k].again)
                step_forward(tape, &tape->steps[k], true);
        for (int k = segment->end - 1; k >= segment->first; k--) {
            double start = clock_milliseconds();
            for (; next < tape->zeroing_count && tape->zeroings[next].step == k; next++)
                zero(tape, &tape->zeroings[next]);
            if (tape->steps[k].has_backward)
                step_backward(tape, &tape->steps[k], gradients);
            tape->steps[k].backward_ms = clock_milliseconds() - start;
            if (tape->ready)
                tape->ready(tape->ready_context, tape->steps[k].earlier_end);
        }
    }
}
