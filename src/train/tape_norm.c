/* tape_norm.c - batch norm, with the residual and the relu behind it, forward and backward.
 *
 * Forward takes two passes over the map: sums of x and x^2 per channel, then y = [relu](scale x + shift [+ residual]). Backward takes two
 * as well: with xhat = (x - mean) / deviation and dy the gradient behind the relu,
 *     d bias = sum dy,    d weight = sum dy xhat,    dx = scale (dy - d bias / n - xhat d weight / n)
 * Both sum per chunk of pixels and add the chunks in order. Chunks depend on the shape alone. Where a convolution runs image by image
 * (tape_images.c) it takes some of the passes along.
 */
#include "train/tape_steps.h"

#include <math.h>
#include <string.h>

enum norm_pass { NORM_SUMS, NORM_APPLY, NORM_BACKWARD_SUMS, NORM_BACKWARD_APPLY };

/* How a map's pixels are cut: into chunks of pixels, or of images where a convolution runs image by image. */
struct chunks {
    int count;
    int64_t grains, grain; /* that are not cut, and the pixels of one */
};

struct norm_job {
    struct tape *tape;
    const struct step *step;
    enum norm_pass pass;
    struct chunks chunks;
};

static struct chunks chunks_of(const struct tape *tape, const struct step *step, bool images)
{
    int64_t pixels = value_pixels(tape, step->in);
    int batch = tape->options.batch;
    if (images)
        return (struct chunks){.count = tape_image_chunk_count(batch), .grains = batch, .grain = pixels / batch};
    return (struct chunks){.count = tape_chunk_count(pixels), .grains = pixels, .grain = 1};
}

static int64_t chunk_pixel(const struct chunks *chunks, int chunk)
{
    return chunk_start(chunks->grains, chunk, chunks->count) * chunks->grain;
}

struct norm_run tape_norm_run(const struct tape *tape, const struct step *step, int64_t first, int64_t end)
{
    struct norm_run run = {.pixels = end - first,
                           .channels = step->node->channels,
                           .relu = step->norm.relu,
                           .in = constant_view(value_map(tape, step->in)),
                           .out = value_map(tape, step->out),
                           .scale = step->norm.scale,
                           .shift = step->norm.shift,
                           .mean = step->norm.mean,
                           .gradient_of_x = step->norm.gradient_of_x,
                           .gradient_constant = step->norm.gradient_constant};
    run.in.data += first * run.in.stride;
    run.out.data += first * run.out.pixel_stride;
    if (step->other != NO_VALUE) {
        run.residual = constant_view(value_map(tape, step->other));
        run.residual.data += first * run.residual.stride;
    }
    return run;
}

struct norm_run tape_norm_backward_run(const struct tape *tape, const struct step *step, int64_t first, int64_t end)
{
    struct norm_run run = tape_norm_run(tape, step, first, end);
    run.out_gradient = constant_view(value_gradient(tape, step->out));
    run.out_gradient.data += first * run.out_gradient.stride;
    run.in_gradient = value_gradient(tape, step->in);
    run.in_gradient.data += first * run.in_gradient.pixel_stride;
    run.accumulate_in = step->to_in == CONTRIBUTE_ADD;
    if (step->to_other != CONTRIBUTE_NOTHING) {
        run.residual_gradient = value_gradient(tape, step->other);
        run.residual_gradient.data += first * run.residual_gradient.pixel_stride;
    }
    run.accumulate_residual = step->to_other == CONTRIBUTE_ADD;
    return run;
}

static void norm_task(void *context, int chunk, int worker)
{
    const struct norm_job *job = context;
    const struct training_kernels *k = job->tape->kernels;
    int64_t first = chunk_pixel(&job->chunks, chunk), end = chunk_pixel(&job->chunks, chunk + 1);
    bool backward = job->pass == NORM_BACKWARD_SUMS || job->pass == NORM_BACKWARD_APPLY;
    struct norm_run run = (backward ? tape_norm_backward_run : tape_norm_run)(job->tape, job->step, first, end);
    double *sums = job->tape->sums + (int64_t)chunk * 2 * run.channels;
    (void)worker;
    if (job->pass == NORM_SUMS || job->pass == NORM_BACKWARD_SUMS)
        memset(sums, 0, (size_t)run.channels * 2 * sizeof(*sums));
    switch (job->pass) {
    case NORM_SUMS:
        k->norm_sums(&run, run.in.data, sums);
        break;
    case NORM_APPLY:
        k->norm_apply(&run);
        break;
    case NORM_BACKWARD_SUMS:
        k->norm_backward_sums(&run, sums);
        break;
    case NORM_BACKWARD_APPLY:
        k->norm_backward_apply(&run);
        break;
    }
}

/* One pass over all pixels. */
static void norm_pass(struct tape *tape, const struct step *step, enum norm_pass pass)
{
    struct norm_job job = {.tape = tape, .step = step, .pass = pass, .chunks = chunks_of(tape, step, false)};
    thread_pool_run(tape->pool, norm_task, &job, job.chunks.count);
}

/* ---- forward ---- */

/* The chunks' sums, of x minus its value at the chunk's first pixel, to sums of x minus what `mean` holds for now. */
static void add_sums(const struct tape *tape, const struct step *step)
{
    int channels = step->node->channels;
    double *total = step->norm.sums, *squares = total + channels;
    struct chunks chunks = chunks_of(tape, step, step->norm.summed);
    struct map_view in = value_map(tape, step->in);
    memset(total, 0, (size_t)channels * 2 * sizeof(*total));
    for (int chunk = 0; chunk < chunks.count; chunk++) {
        const double *sums = tape->sums + (int64_t)chunk * 2 * channels;
        const float *first = in.data + chunk_pixel(&chunks, chunk) * in.pixel_stride;
        double n = (double)(chunk_pixel(&chunks, chunk + 1) - chunk_pixel(&chunks, chunk));
        for (int c = 0; c < channels; c++) {
            double offset = (double)first[c] - (double)step->norm.mean[c];
            total[c] += sums[c] + n * offset;
            squares[c] += sums[channels + c] + offset * (2.0 * sums[c] + n * offset);
        }
    }
}

/* Sums of x minus its value at the first pixel, put into `mean`: a mean far from zero costs the variance no digits. Ranks, which must
 * take the same, take the running mean. */
static void take_sums(struct tape *tape, const struct step *step)
{
    const struct norm_step *norm = &step->norm;
    struct comm *ranks = tape->options.norms;
    memcpy(norm->mean, ranks ? tape_parameter(tape, norm->params->running_mean) : value_map(tape, step->in).data,
           (size_t)step->node->channels * sizeof(float));
    if (!norm->summed)
        norm_pass(tape, step, NORM_SUMS);
    add_sums(tape, step);
    if (ranks)
        ranks->backend->sum(ranks, norm->sums, 2 * step->node->channels);
}

void tape_norm_forward(struct tape *tape, const struct step *step, bool again)
{
    const struct norm_step *norm = &step->norm;
    const struct batch_norm_params *p = norm->params;
    int channels = step->node->channels;
    const float *weight = tape_parameter(tape, p->weight), *bias = tape_parameter(tape, p->bias);
    float *running_mean = tape->parameters->values + tape->parameters->offsets[p->running_mean];
    float *running_var = tape->parameters->values + tape->parameters->offsets[p->running_var];
    struct comm *ranks = tape->options.norms;
    double n = (double)value_pixels(tape, step->in) * (ranks ? ranks->size : 1), momentum = (double)p->momentum;
    if (!again && !norm->fixed)
        take_sums(tape, step);
    for (int c = 0; c < channels && !again; c++) { /* again, scale and shift are those of the first time */
        double mean = (double)running_mean[c], variance = (double)running_var[c];
        if (!norm->fixed) {
            double offset = norm->sums[c] / n;
            mean = (double)norm->mean[c] + offset;
            variance = fmax(norm->sums[channels + c] / n - offset * offset, 0.0);
            if (isnan(norm->sums[c]))
                variance = NAN;
            running_mean[c] = (float)((1.0 - momentum) * (double)running_mean[c] + momentum * mean);
            running_var[c] = (float)((1.0 - momentum) * (double)running_var[c] + momentum * variance * (n > 1.0 ? n / (n - 1.0) : 1.0));
        }
        double inverse = 1.0 / sqrt(variance + (double)p->epsilon);
        norm->mean[c] = (float)mean;
        norm->deviation_inverse[c] = (float)inverse;
        norm->scale[c] = (float)((double)weight[c] * inverse);
        norm->shift[c] = (float)((double)bias[c] - mean * (double)norm->scale[c]);
    }
    if (!norm->deferred)
        norm_pass(tape, step, NORM_APPLY);
}

/* ---- backward ---- */

static void add_backward_sums(const struct tape *tape, const struct step *step, int chunks)
{
    int count = 2 * step->node->channels;
    memcpy(step->norm.sums, tape->sums, (size_t)count * sizeof(double));
    for (int chunk = 1; chunk < chunks; chunk++)
        for (int i = 0; i < count; i++)
            step->norm.sums[i] += tape->sums[(int64_t)chunk * count + i];
}

void tape_norm_add_image_sums(const struct tape *tape, const struct step *step)
{
    add_backward_sums(tape, step, chunks_of(tape, step, true).count);
}

void tape_norm_backward(struct tape *tape, const struct step *step, float *gradients)
{
    const struct norm_step *norm = &step->norm;
    struct comm *ranks = norm->fixed ? NULL : tape->options.norms;
    int channels = step->node->channels;
    double n = (double)value_pixels(tape, step->in) * (ranks ? ranks->size : 1);
    if (!norm->deferred) {
        norm_pass(tape, step, NORM_BACKWARD_SUMS);
        add_backward_sums(tape, step, chunks_of(tape, step, false).count);
    }
    float *weight_gradient = gradients + tape->parameters->offsets[norm->params->weight];
    float *bias_gradient = gradients + tape->parameters->offsets[norm->params->bias];
    for (int c = 0; c < channels; c++) {
        double bias = norm->sums[c], weight = norm->sums[channels + c] * (double)norm->deviation_inverse[c];
        if (tape_trains(tape, norm->params->weight))
            weight_gradient[c] += (float)weight;
        if (tape_trains(tape, norm->params->bias))
            bias_gradient[c] += (float)bias;
    }
    if (ranks)
        ranks->backend->sum(ranks, norm->sums, 2 * channels);
    for (int c = 0; c < channels; c++) {
        double bias = norm->sums[c], inverse = (double)norm->deviation_inverse[c], weight = norm->sums[channels + c] * inverse;
        norm->gradient_of_x[c] = norm->fixed ? 0.0f : (float)(-(double)norm->scale[c] * inverse * weight / n);
        norm->gradient_constant[c] = norm->fixed ? 0.0f : (float)(-(double)norm->scale[c] * bias / n);
    }
    if (!norm->applied && (step->to_in != CONTRIBUTE_NOTHING || step->to_other != CONTRIBUTE_NOTHING))
        norm_pass(tape, step, NORM_BACKWARD_APPLY);
}
