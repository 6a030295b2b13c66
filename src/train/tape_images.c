/* tape_images.c - convolutions with the batch norms on both sides, image by image.
 *
 * Where maps are large a step finds in memory, no longer in the caches, what the step before has written. Of the passes that
 * surround a convolution,
 *
 *     forward     z = [relu](scale x + shift)  |  y = w * z  |  sums of y and y^2
 *     backward    dy from dz', y (the norm behind)  |  dw from z, dy  |  dz = w' * dy  |  sums of dz and dz x (the norm before)
 *
 * none needs another image, so that a thread does all of them for one image, then for the next, with what lies between them (z, dy) in
 * memory of its own that stays in the caches. Then z need not be kept at all, if nobody else reads it: backward makes it again. Only the
 * sums go over all images; the steps of the batch norms, in between, turn them into scale and shift (tape_norm.c).
 *
 * Images come in chunks, a task each, with sums and weight gradients of their own, which are added in order: the same bits for any number
 * of threads.
 */
#include "train/tape_steps.h"

#include <string.h>

struct images_job {
    struct tape *tape;
    const struct step *step;
    bool take_sums; /* forward */
    int chunks;
    int64_t weight_floats;   /* of one gradient */
    float *weight_gradients; /* (chunks, weight_floats), or NULL: not wanted */
    float *weight_gradient;  /* all chunks' sum is added to it */
};

static int64_t image_pixels(const struct tape *tape, value v)
{
    return (int64_t)tape->sizes[v].height * tape->sizes[v].width;
}

static int64_t weight_floats(const struct tape *tape, const struct step *step)
{
    return whole_lines(tape->graph->parameters[step->node->as.conv.weight].elements);
}

size_t tape_images_scratch_bytes(const struct tape *tape, struct step *step, size_t kernel_bytes)
{
    struct conv_step *conv = &step->conv;
    conv->kernel_floats = whole_lines((int64_t)(kernel_bytes / sizeof(float)) + 1);
    conv->image_floats = conv->kernel_floats + whole_lines(image_pixels(tape, step->in) * conv->shape.in_channels)
                         + whole_lines(image_pixels(tape, step->out) * conv->shape.out_channels);
    return (size_t)(conv->image_floats * thread_pool_size(tape->pool)
                    + weight_floats(tape, step) * tape_image_chunk_count(tape->options.batch))
           * sizeof(float);
}

/* Pixels of one image in the maps on both sides, and a worker's memory. */
struct image {
    int64_t in_first, in_end, out_first, out_end;
    float *kernel_scratch, *z, *dy;
};

static struct image start_image(const struct images_job *job, int index, int worker)
{
    const struct step *step = job->step;
    int64_t in = image_pixels(job->tape, step->in), out = image_pixels(job->tape, step->out);
    float *scratch = (float *)job->tape->scratch + worker * step->conv.image_floats, *z = scratch + step->conv.kernel_floats;
    return (struct image){.in_first = index * in,
                          .in_end = (index + 1) * in,
                          .out_first = index * out,
                          .out_end = (index + 1) * out,
                          .kernel_scratch = scratch,
                          .z = z,
                          .dy = z + whole_lines(in * step->conv.shape.in_channels)};
}

static struct map_view from_pixel(struct map_view map, int64_t first)
{
    return (struct map_view){map.data + first * map.pixel_stride, map.pixel_stride};
}

/* The convolution's input: the map, or what the norm before it makes of its own. */
static struct map_view make_input(const struct images_job *job, const struct image *image)
{
    const struct step *step = job->step, *before = step->conv.norm_before;
    if (before == NULL)
        return from_pixel(value_map(job->tape, step->in), image->in_first);
    struct norm_run run = tape_norm_run(job->tape, before, image->in_first, image->in_end);
    run.out = (struct map_view){image->z, run.channels};
    job->tape->kernels->norm_apply(&run);
    return run.out;
}

/* Where a chunk's sums for a norm go, cleared. */
static double *start_sums(const struct tape *tape, const struct step *norm, int chunk)
{
    int count = 2 * norm->node->channels;
    return memset(tape->sums + (int64_t)chunk * count, 0, (size_t)count * sizeof(double));
}

/* ---- forward ---- */

static void forward_task(void *context, int chunk, int worker)
{
    const struct images_job *job = context;
    const struct tape *tape = job->tape;
    const struct step *step = job->step, *behind = step->conv.norm_behind;
    int64_t first = chunk_start(tape->options.batch, chunk, job->chunks), end = chunk_start(tape->options.batch, chunk + 1, job->chunks);
    const float *origin = from_pixel(value_map(tape, step->out), first * image_pixels(tape, step->out)).data;
    double *sums = start_sums(tape, behind, chunk);

    for (int index = (int)first; index < end; index++) {
        struct image image = start_image(job, index, worker);
        struct conv_maps maps = {make_input(job, &image), from_pixel(value_map(tape, step->out), image.out_first), image.kernel_scratch,
                                 tape->alone};
        tape_conv_run(tape, step, &maps);
        if (job->take_sums) {
            struct norm_run run = tape_norm_run(tape, behind, image.out_first, image.out_end);
            tape->kernels->norm_sums(&run, origin, sums);
        }
    }
}

void tape_images_forward(struct tape *tape, const struct step *step, bool again)
{
    struct images_job job = {.tape = tape,
                             .step = step,
                             .take_sums = !again && !step->conv.norm_behind->norm.fixed,
                             .chunks = tape_image_chunk_count(tape->options.batch)};
    thread_pool_run(tape->pool, forward_task, &job, job.chunks);
}

/* ---- backward ---- */

static void backward_image(const struct images_job *job, int index, int worker, float *weight_gradient, double *sums)
{
    const struct tape *tape = job->tape;
    const struct step *step = job->step, *before = step->conv.norm_before;
    struct image image = start_image(job, index, worker);
    struct norm_run behind = tape_norm_backward_run(tape, step->conv.norm_behind, image.out_first, image.out_end);
    struct conv_maps maps = {.out = {image.dy, behind.channels}, .scratch = image.kernel_scratch, .pool = tape->alone};

    behind.in_gradient = maps.out;
    behind.accumulate_in = false;
    tape->kernels->norm_backward_apply(&behind);
    if (weight_gradient) {
        maps.in = make_input(job, &image);
        tape_conv_weight_gradient(tape, step, &maps, weight_gradient);
    }
    if (step->to_in == CONTRIBUTE_NOTHING)
        return;
    maps.in = from_pixel(value_gradient(tape, step->in), image.in_first);
    tape_conv_data_gradient(tape, step, &maps);
    if (before) {
        struct norm_run run = tape_norm_backward_run(tape, before, image.in_first, image.in_end);
        tape->kernels->norm_backward_sums(&run, sums);
    }
}

static void backward_task(void *context, int chunk, int worker)
{
    const struct images_job *job = context;
    const struct tape *tape = job->tape;
    const struct step *before = job->step->conv.norm_before;
    int64_t first = chunk_start(tape->options.batch, chunk, job->chunks), end = chunk_start(tape->options.batch, chunk + 1, job->chunks);
    float *weight_gradient = job->weight_gradients ? job->weight_gradients + chunk * job->weight_floats : NULL;
    double *sums = before ? start_sums(tape, before, chunk) : NULL;

    if (weight_gradient)
        memset(weight_gradient, 0, (size_t)job->weight_floats * sizeof(float));
    for (int index = (int)first; index < end; index++)
        backward_image(job, index, worker, weight_gradient, sums);
}

/* A part of the weights: the chunks' gradients are added, in order. */
static void add_task(void *context, int part, int worker)
{
    const struct images_job *job = context;
    int64_t count = job->tape->graph->parameters[job->step->node->as.conv.weight].elements;
    (void)worker;
    for (int64_t i = chunk_start(count, part, job->chunks); i < chunk_start(count, part + 1, job->chunks); i++) {
        float sum = 0.0f;
        for (int chunk = 0; chunk < job->chunks; chunk++)
            sum += job->weight_gradients[chunk * job->weight_floats + i];
        job->weight_gradient[i] += sum;
    }
}

void tape_images_backward(struct tape *tape, const struct step *step, float *gradients)
{
    int weight = step->node->as.conv.weight;
    struct images_job job = {.tape = tape,
                             .step = step,
                             .chunks = tape_image_chunk_count(tape->options.batch),
                             .weight_floats = weight_floats(tape, step),
                             .weight_gradient = gradients + tape->parameters->offsets[weight]};
    if (tape_trains(tape, weight))
        job.weight_gradients = (float *)tape->scratch + step->conv.image_floats * thread_pool_size(tape->pool);
    thread_pool_run(tape->pool, backward_task, &job, job.chunks);
    if (job.weight_gradients)
        thread_pool_run(tape->pool, add_task, &job, job.chunks);
    if (step->conv.norm_before && step->to_in != CONTRIBUTE_NOTHING)
        tape_norm_add_image_sums(tape, step->conv.norm_before);
}
