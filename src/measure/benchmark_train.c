/* benchmark_train.c - how fast a network is trained here: whole steps on a batch that is always the same.
 *
 * A step is what dla_train does between two batches: forward, loss, backward, the optimiser. Reading and augmenting photographs,
 * which dla_train does beside it, is not part of it. By definition a step takes three times the FLOPs of a pass: a convolution's
 * result, the gradient of its input, the gradient of its weights.
 */
#include "base/memory.h"
#include "base/status.h"
#include "measure/benchmark_train.h"
#include "net/network.h"
#include "train/loss.h"
#include "train/recipe.h"

#include <string.h>

enum { STEP_FLOPS_PER_MAC = 6 }; /* three products, each a multiplication and an addition */

static void step(void *context)
{
    struct training *t = context;
    int correct;

    memcpy(tape_input(t->tape), t->input, (size_t)t->input_floats * sizeof(float));
    memset(t->gradients, 0, (size_t)t->parameters.floats * sizeof(float));
    tape_forward(t->tape, 0);
    cross_entropy(t->batch, t->classes, tape_output(t->tape, NULL), &(struct loss_targets){.a = t->labels}, 1.0f,
                  tape_output_gradient(t->tape), &correct);
    tape_backward(t->tape, t->gradients);
    optimiser_step(&t->optimiser, t->pool, &t->parameters, t->velocity, t->gradients, t->rate);
}

static dla_status prepare(const dla_architecture *architecture, const dla_benchmark_options *options, enum isa isa, struct training *t)
{
    struct tape_options tape = {
        .batch = options->batch,
        .height = options->height,
        .width = options->width,
        .isa = isa,
        .exact = options->exact,
        .device = options->device,
        .precision = options->precision,
    };
    dla_status status;

    t->optimiser = (struct optimiser_options){.momentum = 0.9f, .weight_decay = 1e-4f};
    t->rate = 0.001f; /* so small that the weights stay in range */
    t->batch = options->batch;
    t->classes = architecture->num_classes;
    if ((status = dla_network_create(architecture, &t->network)) != DLA_OK
        || (status = thread_pool_create(options->threads, &t->pool)) != DLA_OK
        || (status = parameter_block_create(&t->network->graph, &t->parameters)) != DLA_OK)
        return status;
    initialise_parameters(&t->parameters, DLA_INITIALISATION_AUTHORS, 1);
    status = options->device == DLA_DEVICE_CUDA ? training_cuda_prepare(t, &tape)
                                                : tape_create(&t->network->graph, &t->parameters, t->pool, &tape, &t->tape);
    if (status != DLA_OK)
        return status;
    t->input_floats = (int64_t)options->batch * options->height * options->width * architecture->in_channels;
    t->velocity = allocate_floats(t->parameters.floats);
    t->gradients = allocate_floats(t->parameters.floats);
    t->input = allocate_floats(t->input_floats);
    t->labels = memory_allocate_zeroed((size_t)options->batch, sizeof(*t->labels));
    if (t->velocity == NULL || t->gradients == NULL || t->input == NULL || t->labels == NULL)
        return status_out_of_memory((size_t)(2 * t->parameters.floats + t->input_floats) * sizeof(float), "measuring training");
    for (int64_t i = 0; i < t->input_floats; i++)
        t->input[i] = (float)(i % 255) / 127.0f - 1.0f;
    for (int i = 0; i < options->batch; i++)
        t->labels[i] = i % t->classes;
    return DLA_OK;
}

static void release(struct training *t)
{
    memory_free(t->velocity);
    memory_free(t->gradients);
    memory_free(t->input);
    memory_free(t->labels);
    training_cuda_release(t);
    tape_destroy(t->tape);
    parameter_block_free(&t->parameters);
    thread_pool_destroy(t->pool);
    dla_network_destroy(t->network);
}

static dla_status measure(struct training *t, const dla_benchmark_options *options, enum isa isa, struct benchmark *made)
{
    dla_census census;
    dla_status status = dla_network_census(t->network, options->height, options->width, &census);

    if (status != DLA_OK)
        return status;
    double gflop = STEP_FLOPS_PER_MAC * 1e-9 * (double)census.macs * options->batch;
    made->public.weight_bytes = (size_t)t->parameters.floats * sizeof(float);
    if (t->gpu != NULL)
        return training_cuda_measure(t, options, gflop, made);
    made->public.activation_bytes = (size_t)tape_memory(t->tape).bytes;
    return benchmark_time(made, &(struct benchmark_machine){.isa = isa, .pool = t->pool}, step, t, gflop, options->seconds);
}

dla_status dla_benchmark_train(const dla_architecture *architecture, const dla_benchmark_options *given, dla_benchmark **benchmark)
{
    dla_benchmark_options options;
    struct training training = {0};
    struct benchmark *made;
    enum isa isa;
    dla_status status;

    if (architecture == NULL || benchmark == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_benchmark_train: architecture and benchmark must not be NULL");
    if (architecture->num_classes < 1 || architecture->down_ratio != 0)
        return status_set(DLA_ERROR_ARGUMENT, "%s: only the training of classifiers can be measured", architecture->name);
    if ((status = benchmark_take_options(given, 224, &options)) != DLA_OK || (status = isa_choose(&isa)) != DLA_OK)
        return status;
    if (options.layers)
        return status_set(DLA_ERROR_ARGUMENT, "layers are for inference; a training step has none");
    if ((status = benchmark_create(architecture->name, isa, &options, &made)) != DLA_OK)
        return status;
    if ((status = prepare(architecture, &options, isa, &training)) == DLA_OK)
        status = measure(&training, &options, isa, made);
    release(&training);
    if (status != DLA_OK)
        dla_benchmark_destroy(&made->public);
    else
        *benchmark = &made->public;
    return status;
}
