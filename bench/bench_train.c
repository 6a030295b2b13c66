/* bench_train.c - images per second of training, and where a step's time goes.
 *
 *     bench_train MODEL [BATCH [SIZE [THREADS [STEPS [exact|again|fast [DOWN_RATIO]]]]]]
 *
 * The times of convolutions and norms are each one's best of all passes: what other programs take from the machine in one pass or another
 * then hardly shows, so that their sum is what to compare where the machine is shared.
 */
#include "base/clock.h"
#include "base/memory.h"
#include "net/network.h"
#include "train/dense_loss.h"
#include "train/loss.h"
#include "train/optimiser.h"
#include "train/recipe.h"
#include "train/tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(dla_status status)
{
    if (status != DLA_OK) {
        fprintf(stderr, "bench_train: %s\n", dla_error_message());
        exit(1);
    }
}

static double shorter(double a, double b)
{
    return a < b ? a : b;
}

/* The best of each step's times so far, or `report` where there are none yet. */
static void keep_best(const struct tape *tape, struct tape_step_report *best, bool have_some)
{
    for (int i = 0; i < tape_step_count(tape); i++) {
        struct tape_step_report r = tape_step_report(tape, i);
        if (have_some) {
            double rest = shorter(r.backward_ms - r.weight_gradient_ms, best[i].backward_ms - best[i].weight_gradient_ms);
            r.forward_ms = shorter(r.forward_ms, best[i].forward_ms);
            r.weight_gradient_ms = shorter(r.weight_gradient_ms, best[i].weight_gradient_ms);
            r.backward_ms = rest + r.weight_gradient_ms;
        }
        best[i] = r;
    }
}

int main(int argc, char **argv)
{
    dla_architecture architecture;
    dla_network *network;
    struct parameter_block parameters;
    struct thread_pool *pool;
    struct tape *tape;
    struct tape_options options = {.batch = argc > 2 ? atoi(argv[2]) : 64,
                                   .exact = argc > 6 && strcmp(argv[6], "exact") == 0,
                                   .recompute = argc > 6 && strcmp(argv[6], "again") == 0};
    int threads = argc > 4 ? atoi(argv[4]) : 2, steps = argc > 5 ? atoi(argv[5]) : 4;
    options.height = options.width = argc > 3 ? atoi(argv[3]) : 128;
    check(dla_architecture_find(argc > 1 ? argv[1] : "dla34", &architecture));
    if (argc > 7)
        architecture.down_ratio = atoi(argv[7]);
    check(dla_network_create(&architecture, &network));
    check(isa_choose(&options.isa));
    check(thread_pool_create(threads, &pool));
    check(parameter_block_create(&network->graph, &parameters));
    initialise_parameters(&parameters, DLA_INITIALISATION_AUTHORS, 1);
    check(tape_create(&network->graph, &parameters, pool, &options, &tape));
    float *velocity = allocate_floats(parameters.floats), *gradients = allocate_floats(parameters.floats);
    int *labels = memory_allocate_zeroed((size_t)options.batch, sizeof(*labels)), correct;
    struct tape_step_report *reports = memory_allocate_zeroed((size_t)tape_step_count(tape), sizeof(*reports));
    if (!velocity || !gradients || !labels || !reports)
        return 1;
    int64_t inputs = (int64_t)options.batch * options.height * options.width * 3;
    for (int64_t i = 0; i < inputs; i++)
        tape_input(tape)[i] = (float)(i % 255) / 127.0f - 1.0f;
    float *input = allocate_floats(inputs);
    uint8_t *pixel_labels = memory_allocate_zeroed((size_t)inputs / 3, 1);
    if (input == NULL || pixel_labels == NULL)
        return 1;
    memcpy(input, tape_input(tape), (size_t)inputs * sizeof(float));
    double best = 1e30;
    for (int step = 0; step <= steps; step++) {
        double start = clock_milliseconds();
        memcpy(tape_input(tape), input, (size_t)inputs * sizeof(float));
        memset(gradients, 0, (size_t)parameters.floats * sizeof(float));
        tape_forward(tape, 0);
        double forward = clock_milliseconds();
        if (architecture.down_ratio > 0)
            pixel_cross_entropy(inputs / 3, architecture.num_classes, tape_output(tape, NULL), pixel_labels, NULL, (double)(inputs / 3),
                                1.0f, tape_output_gradient(tape));
        else
            cross_entropy(options.batch, architecture.num_classes, tape_output(tape, NULL), &(struct loss_targets){.a = labels}, 1.0f,
                          tape_output_gradient(tape), &correct);
        tape_backward(tape, gradients);
        double backward = clock_milliseconds();
        optimiser_step(&(struct optimiser_options){.momentum = 0.9f, .weight_decay = 1e-4f}, pool, &parameters, velocity, gradients,
                       0.001f);
        double end = clock_milliseconds();
        if (step > 0 && end - start < best)
            best = end - start;
        if (step > 0)
            keep_best(tape, reports, step > 1);
        printf("step %d: forward %.0f ms, backward %.0f ms, optimiser %.0f ms\n", step, forward - start, backward - forward,
               end - backward);
    }
    struct tape_memory memory = tape_memory(tape);
    printf("%s batch %d size %d threads %d: %.1f images/s; activations %.0f MB (%.0f with all kept, %.0f unshared)\n", architecture.name,
           options.batch, options.height, threads, 1000.0 * options.batch / best, (double)memory.bytes / 1e6, (double)memory.kept / 1e6,
           (double)memory.unshared / 1e6);
    double norm = 0.0, weights = 0.0, data = 0.0, forward = 0.0, other = 0.0;
    for (int i = 0; i < tape_step_count(tape); i++) {
        struct tape_step_report r = reports[i];
        bool conv = strstr(r.kind, "_") && strcmp(r.kind, "batch_norm") != 0 && !strstr(r.kind, "pool");
        if (r.forward_ms + r.backward_ms > 0.002 * best)
            printf("%-32s %-22s forward %6.1f  weight gradient %6.1f  the rest of backward %6.1f ms\n", r.name, r.kind, r.forward_ms,
                   r.weight_gradient_ms, r.backward_ms - r.weight_gradient_ms);
        weights += r.weight_gradient_ms;
        if (conv) {
            forward += r.forward_ms;
            data += r.backward_ms - r.weight_gradient_ms;
        } else if (strcmp(r.kind, "batch_norm") == 0) {
            norm += r.forward_ms + r.backward_ms;
        } else {
            other += r.forward_ms + r.backward_ms;
        }
    }
    double packing = tape_pack_milliseconds(tape);
    printf("packing %.0f, convolutions: forward %.0f, data gradient %.0f, weight gradient %.0f, batch norm %.0f, other %.0f, together %.0f "
           "ms\n",
           packing, forward, data, weights, norm, other, packing + forward + data + weights + norm + other);
    return 0;
}
