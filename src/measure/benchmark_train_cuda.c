/* benchmark_train_cuda.c - steps of training on a GPU, measured.
 *
 * The next batch's way into the GPU's memory, which goes on beside the step, is part of it.
 */
#include "measure/benchmark_train.h"
#include "net/network.h"
#include "train/tape_cuda.h"

static void step(void *context)
{
    struct training *t = context;
    struct cuda_tape_result result;
    dla_status status = t->failure;

    if (status == DLA_OK && cuda_tape_waiting(t->gpu) == 0)
        status = cuda_tape_load(t->gpu, t->input, t->labels, NULL);
    if (status == DLA_OK)
        status = cuda_tape_clear_gradients(t->gpu);
    if (status == DLA_OK)
        status = cuda_tape_forward(t->gpu, 0, 1.0f);
    if (status == DLA_OK)
        status = cuda_tape_class_loss(t->gpu, &(struct cuda_tape_loss){.share = 1.0f, .scale = 1.0f});
    if (status == DLA_OK)
        status = cuda_tape_backward(t->gpu);
    if (status == DLA_OK)
        status = cuda_tape_load(t->gpu, t->input, t->labels, NULL);
    if (status == DLA_OK)
        status = cuda_tape_result(t->gpu, &result);
    if (status == DLA_OK)
        status = cuda_tape_update(t->gpu, &t->optimiser, t->rate, 0.0, 0.0f);
    t->failure = status;
}

dla_status training_cuda_prepare(struct training *t, const struct tape_options *options)
{
    return cuda_tape_create(&t->network->graph, &t->parameters, options, false, &t->gpu);
}

/* The first step, in which cuDNN chooses, is not measured. */
dla_status training_cuda_measure(struct training *t, const dla_benchmark_options *options, double gflop, struct benchmark *made)
{
    made->public.activation_bytes = (size_t)cuda_tape_memory(t->gpu).bytes;
    step(t);
    dla_status status = t->failure;
    if (status == DLA_OK)
        status = benchmark_time(made, &(struct benchmark_machine){0}, step, t, gflop, options->seconds);
    return status == DLA_OK ? t->failure : status;
}

void training_cuda_release(struct training *t)
{
    cuda_tape_destroy(t->gpu);
}
