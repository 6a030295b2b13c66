/* tape_norm.c - batch norm, with the residual and the relu behind it, forward and backward.
 *
 * Forward takes two passes over the map: sums of x and x^2 per channel, then y = [relu](scale x + shift [+ residual]). Backward takes two
 * as well: with xhat = (x - mean) / deviation and dy the gradient behind the relu,
 *     d bias = sum dy,    d weight = sum dy xhat,    dx = scale (dy - d bias / n - xhat d weight / n)
 * Both sum per chunk of pixels and add the chunks in order (tape_chunk_count).
 */
#include "train/tape_steps.h"

#include <math.h>
#include <string.h>

enum norm_pass { NORM_SUMS, NORM_APPLY, NORM_BACKWARD_SUMS, NORM_BACKWARD_APPLY };

struct norm_job {
    struct tape *tape;
    struct norm_run run; /* over all pixels */
    const float *origin; /* of the sums */
    enum norm_pass pass;
    int chunks;
};

static void norm_task(void *context, int chunk, int worker)
{
    const struct norm_job *job = context;
    const struct training_kernels *k = job->tape->kernels;
    struct norm_run run = job->run;
    int64_t first = chunk_start(run.pixels, chunk, job->chunks), end = chunk_start(run.pixels, chunk + 1, job->chunks);
    double *sums = job->tape->sums + (int64_t)chunk * 2 * run.channels;
    (void)worker;
    run.pixels = end - first;
    run.in.data += first * run.in.stride;
    run.out.data += first * run.out.pixel_stride;
    if (run.residual.data)
        run.residual.data += first * run.residual.stride;
    if (job->pass == NORM_BACKWARD_SUMS || job->pass == NORM_BACKWARD_APPLY)
        run.out_gradient.data += first * run.out_gradient.stride;
    if (job->pass == NORM_BACKWARD_APPLY) {
        run.in_gradient.data += first * run.in_gradient.pixel_stride;
        if (run.residual_gradient.data)
            run.residual_gradient.data += first * run.residual_gradient.pixel_stride;
    }
    if (job->pass == NORM_SUMS || job->pass == NORM_BACKWARD_SUMS)
        memset(sums, 0, (size_t)run.channels * 2 * sizeof(*sums));
    switch (job->pass) {
    case NORM_SUMS:
        k->norm_sums(&run, job->origin, sums);
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

/* One pass over all pixels; the sums of all chunks end up in the first chunk's. */
static void norm_pass(struct norm_job *job, enum norm_pass pass)
{
    job->pass = pass;
    thread_pool_run(job->tape->pool, norm_task, job, job->chunks);
    if (pass == NORM_SUMS || pass == NORM_BACKWARD_SUMS)
        for (int chunk = 1; chunk < job->chunks; chunk++)
            for (int i = 0; i < 2 * job->run.channels; i++)
                job->tape->sums[i] += job->tape->sums[(int64_t)chunk * 2 * job->run.channels + i];
}

static struct norm_job norm_job_of(struct tape *tape, const struct step *step)
{
    struct norm_job job = {.tape = tape};
    job.run.pixels = value_pixels(tape, step->out);
    job.run.channels = step->node->channels;
    job.run.relu = step->norm.relu;
    job.run.in = constant_view(value_map(tape, step->in));
    job.run.out = value_map(tape, step->out);
    if (step->other != NO_VALUE)
        job.run.residual = constant_view(value_map(tape, step->other));
    job.run.scale = step->norm.scale;
    job.run.shift = step->norm.shift;
    job.run.mean = step->norm.mean;
    job.run.gradient_of_x = step->norm.gradient_of_x;
    job.run.gradient_constant = step->norm.gradient_constant;
    job.chunks = tape_chunk_count(job.run.pixels);
    return job;
}

void tape_norm_forward(struct tape *tape, const struct step *step, bool again)
{
    struct norm_job job = norm_job_of(tape, step);
    if (again) { /* scale and shift are those of the first time */
        norm_pass(&job, NORM_APPLY);
        return;
    }
    const struct norm_step *norm = &step->norm;
    const struct batch_norm_params *p = norm->params;
    const float *weight = tape_parameter(tape, p->weight), *bias = tape_parameter(tape, p->bias);
    float *running_mean = tape->parameters->values + tape->parameters->offsets[p->running_mean];
    float *running_var = tape->parameters->values + tape->parameters->offsets[p->running_var];
    struct comm *ranks = tape->options.norms;
    double n = (double)job.run.pixels * (ranks ? ranks->size : 1), momentum = (double)p->momentum;
    if (!norm->fixed) {
        /* Sums of x minus its value at the first pixel: a mean far from zero costs the variance no digits. Ranks, which must take
         * the same, take the running mean. */
        memcpy(norm->mean, ranks ? running_mean : job.run.in.data, (size_t)job.run.channels * sizeof(float));
        job.origin = norm->mean;
        norm_pass(&job, NORM_SUMS);
        if (ranks)
            ranks->backend->sum(ranks, tape->sums, 2 * job.run.channels);
    }
    for (int c = 0; c < job.run.channels; c++) {
        double mean = (double)running_mean[c], variance = (double)running_var[c];
        if (!norm->fixed) {
            double offset = tape->sums[c] / n;
            mean = (double)norm->mean[c] + offset;
            variance = fmax(tape->sums[job.run.channels + c] / n - offset * offset, 0.0);
            if (isnan(tape->sums[c]))
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
    norm_pass(&job, NORM_APPLY);
}

void tape_norm_backward(struct tape *tape, const struct step *step, float *gradients)
{
    struct norm_job job = norm_job_of(tape, step);
    const struct norm_step *norm = &step->norm;
    struct comm *ranks = norm->fixed ? NULL : tape->options.norms;
    double n = (double)job.run.pixels * (ranks ? ranks->size : 1);
    struct map_view out_gradient = value_gradient(tape, step->out);
    job.run.out_gradient = constant_view(out_gradient);
    job.run.in_gradient = value_gradient(tape, step->in);
    job.run.accumulate_in = step->to_in == CONTRIBUTE_ADD;
    if (step->to_other != CONTRIBUTE_NOTHING)
        job.run.residual_gradient = value_gradient(tape, step->other);
    job.run.accumulate_residual = step->to_other == CONTRIBUTE_ADD;
    norm_pass(&job, NORM_BACKWARD_SUMS);
    float *weight_gradient = gradients + tape->parameters->offsets[norm->params->weight];
    float *bias_gradient = gradients + tape->parameters->offsets[norm->params->bias];
    for (int c = 0; c < job.run.channels; c++) {
        double bias = tape->sums[c], inverse = (double)norm->deviation_inverse[c], weight = tape->sums[job.run.channels + c] * inverse;
        if (tape_trains(tape, norm->params->weight))
            weight_gradient[c] += (float)weight;
        if (tape_trains(tape, norm->params->bias))
            bias_gradient[c] += (float)bias;
    }
    if (ranks)
        ranks->backend->sum(ranks, tape->sums, 2 * job.run.channels);
    for (int c = 0; c < job.run.channels; c++) {
        double bias = tape->sums[c], inverse = (double)norm->deviation_inverse[c], weight = tape->sums[job.run.channels + c] * inverse;
        norm->gradient_of_x[c] = norm->fixed ? 0.0f : (float)(-(double)norm->scale[c] * inverse * weight / n);
        norm->gradient_constant[c] = norm->fixed ? 0.0f : (float)(-(double)norm->scale[c] * bias / n);
    }
    if (step->to_in != CONTRIBUTE_NOTHING || step->to_other != CONTRIBUTE_NOTHING)
        norm_pass(&job, NORM_BACKWARD_APPLY);
}
