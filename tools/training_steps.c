/* training_steps.c - runs SGD steps on given weights and images and writes what came out; compare_training_with_pytorch.py
 * runs it beside PyTorch.
 *
 *     training_steps CONFIG IN OUT STEPS RATE MOMENTUM DECAY [exact]
 *
 * CONFIG is a network's name or a JSON configuration. IN (safetensors) holds the network's weights, and beside it IN.images
 * holds `images` (batch, height, width, 3) and `labels` (batch). OUT gets gradient.NAME of the first step, every parameter
 * after the last step, and `losses`.
 */
#include "base/memory.h"
#include "net/network.h"
#include "train/loss.h"
#include "train/optimiser.h"
#include "train/tape.h"
#include "weights/bind.h"
#include "weights/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(dla_status status)
{
    if (status != DLA_OK) {
        fprintf(stderr, "training_steps: %s\n", dla_error_message());
        exit(1);
    }
}

static void *need(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "training_steps: out of memory\n");
        exit(1);
    }
    return memory;
}

int main(int argc, char **argv)
{
    if (argc < 8) {
        fprintf(stderr, "usage: training_steps CONFIG IN OUT STEPS RATE MOMENTUM DECAY [exact]\n");
        return 2;
    }
    int steps = atoi(argv[4]);
    dla_architecture architecture;
    dla_network *network;
    if (strchr(argv[1], '.') != NULL)
        check(dla_architecture_read_config(argv[1], &architecture));
    else
        check(dla_architecture_find(argv[1], &architecture));
    check(dla_network_create(&architecture, &network));
    const struct graph *graph = &network->graph;

    struct tensor_file *file, *data;
    struct bound_weights weights;
    char path[4096];
    check(tensor_file_open(argv[2], &file));
    check(weights_bind(graph, architecture.name, file, &weights));
    snprintf(path, sizeof(path), "%s.images", argv[2]);
    check(tensor_file_open(path, &data));
    const struct tensor_view *images = tensor_file_find(data, "images"), *labels = tensor_file_find(data, "labels");
    if (images == NULL || labels == NULL || images->rank != 4) {
        fprintf(stderr, "training_steps: %s needs images and labels\n", path);
        return 1;
    }

    struct parameter_block parameters;
    struct thread_pool *pool;
    struct tape *tape;
    struct tape_options options = {
        .batch = (int)images->shape[0], .height = (int)images->shape[1], .width = (int)images->shape[2], .exact = argc > 8};
    options.by_image = options.exact ? BY_IMAGE_NONE : BY_IMAGE_ALL; /* the latter is what large batches do */
    check(isa_choose(&options.isa));
    check(thread_pool_create(2, &pool));
    check(parameter_block_create(graph, &parameters));
    for (int i = 0; i < graph->parameter_count; i++)
        memcpy(parameters.values + parameters.offsets[i], weights.values[i], (size_t)graph->parameters[i].elements * sizeof(float));
    check(tape_create(graph, &parameters, pool, &options, &tape));

    struct optimiser_options sgd = {.momentum = (float)atof(argv[6]), .weight_decay = (float)atof(argv[7]), .decay_norm_and_bias = true};
    float *velocity = need(allocate_floats(parameters.floats)), *gradients = need(allocate_floats(parameters.floats));
    float *first = need(allocate_floats(parameters.floats)), *losses = need(allocate_floats(steps));
    float *label_values = need(allocate_floats(options.batch));
    int *label_numbers = need(memory_allocate_zeroed((size_t)options.batch, sizeof(int)));
    tensor_to_float(labels, label_values);
    for (int i = 0; i < options.batch; i++)
        label_numbers[i] = (int)label_values[i];
    for (int step = 0; step < steps; step++) {
        int correct;
        tensor_to_float(images, tape_input(tape));
        tape_forward(tape, 0);
        losses[step] = (float)cross_entropy(options.batch, architecture.num_classes, tape_output(tape, NULL),
                                            &(struct loss_targets){.a = label_numbers}, 1.0f, tape_output_gradient(tape), &correct);
        memset(gradients, 0, (size_t)parameters.floats * sizeof(float));
        tape_backward(tape, gradients);
        if (step == 0)
            memcpy(first, gradients, (size_t)parameters.floats * sizeof(float));
        optimiser_step(&sgd, pool, &parameters, velocity, gradients, (float)atof(argv[5]));
    }

    struct tensor_view *tensors = need(memory_allocate_zeroed((size_t)graph->parameter_count * 2 + 1, sizeof(*tensors)));
    struct arena names = {0};
    int count = 0;
    for (int i = 0; i < graph->parameter_count * 2; i++) {
        const struct parameter *p = &graph->parameters[i / 2];
        bool gradient = i % 2;
        if (gradient && !p->trainable)
            continue;
        struct tensor_view *t = &tensors[count++];
        t->name = gradient ? need(arena_format(&names, "gradient.%s", p->name)) : p->name;
        t->dtype = DTYPE_F32;
        t->rank = p->rank;
        int64_t stride = 1;
        for (int k = p->rank - 1; k >= 0; k--) {
            t->shape[k] = p->shape[k];
            t->strides[k] = stride;
            stride *= p->shape[k];
        }
        t->data = (gradient ? first : parameters.values) + parameters.offsets[i / 2];
    }
    tensors[count++] =
        (struct tensor_view){.name = "losses", .dtype = DTYPE_F32, .rank = 1, .shape = {steps}, .strides = {1}, .data = losses};
    check(safetensors_write(argv[3], tensors, count, NULL, 0, DTYPE_F32));
    arena_free(&names);
    memory_free(tensors);
    memory_free(label_numbers);
    memory_free(label_values);
    memory_free(losses);
    memory_free(first);
    memory_free(gradients);
    memory_free(velocity);
    tape_destroy(tape);
    parameter_block_free(&parameters);
    thread_pool_destroy(pool);
    bound_weights_free(&weights);
    tensor_file_close(data);
    tensor_file_close(file);
    dla_network_destroy(network);
    return 0;
}
