/* Several ranks on GPUs, as far as one process can see: sums through the host's memory and by NCCL with a communicator of one rank; steps of
 * a rank whose neighbour is its twin, with the same images, beside those of one process that has them twice. Needs a GPU; the part with
 * NCCL needs NCCL. tests/test_cuda_ranks.sh has real ranks. */
#include "cuda_check.h"

#include "base/memory.h"
#include "formula_random.h"
#include "net/graph.h"
#include "train/reducer_cuda.h"
#include "train/tape_cuda.h"

/* ---- a comm of two ranks, the second the twin of this one ---- */

static void twin_start_sum(struct comm *comm, float *values, int64_t count)
{
    (void)comm;
    for (int64_t i = 0; i < count; i++)
        values[i] *= 2.0f;
}

static void twin_nothing(struct comm *comm)
{
    (void)comm;
}

enum { IDENTITIES = 8 }; /* how many numbers tell the GPUs of two ranks: this rank's half stands first, the other is the twin's to fill */

static void twin_sum(struct comm *comm, double *values, int count)
{
    (void)comm;
    for (int i = 0; i < count; i++)
        if (count == IDENTITIES)
            values[i] = values[i % (IDENTITIES / 2)];
        else
            values[i] *= 2.0;
}

static void twin_broadcast(struct comm *comm, void *bytes, size_t size)
{
    (void)comm;
    (void)bytes;
    (void)size;
}

static const struct comm_backend twin_backend = {"twins",  twin_start_sum, twin_nothing, twin_nothing,
                                                 twin_sum, twin_broadcast, twin_nothing};
static struct comm twins = {.backend = &twin_backend, .rank = 0, .size = 2};

/* ---- sums ---- */

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    printf("FAILED: %s: %s; nothing more can be tested\n", what, cudaGetErrorString(error));
    exit(1);
}

/* factor: what a number is multiplied with by its sum over the ranks. */
static void expect_sums(struct cuda_reducer *reducer, float factor, const char *what)
{
    static const int64_t counts[] = {1, 5, 3 * 1024 * 1024 + 7};
    cudaStream_t stream;
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        int64_t count = counts[c], wrong = 0;
        size_t bytes = (size_t)count * sizeof(float);
        float *host = cuda_floats(count), *actual = cuda_floats(count), *device;
        for (int64_t i = 0; i < count; i++)
            host[i] = formula_random(formula_seed("sums"), i);
        must(cudaMalloc((void **)&device, bytes), "cudaMalloc");
        must(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copy to the GPU");
        cuda_works(cuda_reducer_sum_floats(reducer, device, count, stream), what);
        must(cudaMemcpyAsync(actual, device, bytes, cudaMemcpyDeviceToHost, stream), "copy from the GPU");
        must(cudaStreamSynchronize(stream), "sums");
        for (int64_t i = 0; i < count; i++)
            wrong += actual[i] != factor * host[i];
        cuda_expect(wrong == 0, "%s: %lld of %lld floats are wrong", what, (long long)wrong, (long long)count);
        cudaFree(device);
        free(host);
        free(actual);
    }
    enum { DOUBLES = 77 };
    double numbers[DOUBLES], sums[DOUBLES], *device;
    int wrong = 0;
    for (int i = 0; i < DOUBLES; i++)
        numbers[i] = 1.0 + (double)formula_random(formula_seed("doubles"), i) * 1e-12;
    must(cudaMalloc((void **)&device, sizeof numbers), "cudaMalloc");
    must(cudaMemcpyAsync(device, numbers, sizeof numbers, cudaMemcpyHostToDevice, stream), "copy to the GPU");
    cuda_works(cuda_reducer_sum_doubles(reducer, device, DOUBLES, stream), what);
    must(cudaMemcpyAsync(sums, device, sizeof sums, cudaMemcpyDeviceToHost, stream), "copy from the GPU");
    must(cudaStreamSynchronize(stream), "sums");
    for (int i = 0; i < DOUBLES; i++)
        wrong += sums[i] != (double)factor * numbers[i];
    cuda_expect(wrong == 0, "%s: %d of %d doubles are wrong", what, wrong, DOUBLES);
    cudaFree(device);
    cudaStreamDestroy(stream);
}

static void through_host(void)
{
    struct cuda_reducer *reducer;
    if (!cuda_works(cuda_reducer_create(&twins, 4 * 1024 * 1024, &reducer), "two ranks"))
        return;
    printf("two ranks: %s\n", cuda_reducer_name(reducer));
    cuda_expect(strstr(cuda_reducer_name(reducer), "ranks share a GPU") != NULL, "two ranks with one GPU take '%s'",
                cuda_reducer_name(reducer));
    expect_sums(reducer, 2.0f, "through the host's memory");
    cuda_reducer_destroy(reducer);
}

static void by_nccl(void)
{
    struct comm *alone;
    struct cuda_reducer *reducer;
    if (!cuda_works(comm_open(&alone), "a comm"))
        return;
    if (cuda_works(cuda_reducer_create(alone, 4 * 1024 * 1024, &reducer), "one rank")) {
        printf("one rank: %s\n", cuda_reducer_name(reducer));
        bool found = strncmp(cuda_reducer_name(reducer), "NCCL ", 5) == 0;
        cuda_expect(strstr(cuda_reducer_name(reducer), "NCCL cannot") == NULL, "NCCL was found, and does not connect one rank: %s",
                    cuda_reducer_name(reducer));
        expect_sums(reducer, 1.0f, found ? "by NCCL" : "through the host's memory, alone");
        cuda_reducer_destroy(reducer);
    }
    comm_close(alone);
}

/* ---- steps ---- */

enum { BATCH = 3, SIDE = 36, CLASSES = 5, STEPS = 3 };

static value build(struct graph *g)
{
    value first = graph_relu(g, graph_batch_norm(g, graph_conv(g, graph_input(g, 3), 8, 3, 2, 1, 1, false, "first"), "first_norm"), "a");
    value second = graph_batch_norm(g, graph_conv(g, first, 8, 3, 1, 1, 1, false, "second"), "second_norm");
    value sum = graph_relu(g, graph_add(g, second, first, "sum"), "b");
    return graph_conv(g, graph_global_average_pool(g, sum, "pool"), CLASSES, 1, 1, 1, 1, true, "fc");
}

static float parameter_value(const struct parameter *p, int64_t element)
{
    float random = formula_random(formula_seed(p->name), element);
    switch (p->kind) {
    case PARAMETER_RUNNING_VAR:
    case PARAMETER_NORM_WEIGHT:
        return 1.0f + 0.3f * random;
    default:
        return 0.3f * random;
    }
}

/* Weights, averages and statistics after some steps, and the gradients of the first. */
struct outcome {
    float *gradients, *values, *average;
    double losses[STEPS];
};

/* reducer NULL: one process, whose batch is BATCH images twice. Else one of two ranks that have them once; norms: batch norms over both. */
static bool run_steps(const struct graph *graph, struct cuda_reducer *reducer, bool norms, float share, struct outcome *outcome,
                      const char *what)
{
    enum { PIXELS = SIDE * SIDE * 3 };
    bool partners = reducer && share != 1.0f;
    int batch = reducer ? BATCH : 2 * BATCH, loaded = partners ? 2 * BATCH : batch, labels[2 * BATCH];
    struct tape_options options = {.batch = batch, .height = SIDE, .width = SIDE, .reference = true, .device = DLA_DEVICE_CUDA};
    struct parameter_block parameters;
    struct cuda_tape *tape = NULL;
    float *inputs = cuda_floats((int64_t)loaded * PIXELS);
    options.ranks = reducer;
    options.norms = norms ? &twins : NULL;
    options.partners = partners;
    for (int i = 0; i < loaded; i++) {
        /* A partner stands at the mirrored place of the whole batch, whose halves are alike. */
        int image = partners && i >= BATCH ? 2 * BATCH - 1 - i : i % BATCH;
        labels[i] = image * 2 % CLASSES;
        for (int e = 0; e < PIXELS; e++)
            inputs[i * PIXELS + e] = formula_random(formula_seed("images"), image * PIXELS + e);
    }
    if (!cuda_works(parameter_block_create(graph, &parameters), what))
        return false;
    for (int i = 0; i < graph->parameter_count; i++)
        for (int64_t e = 0; e < graph->parameters[i].elements; e++)
            parameters.values[parameters.offsets[i] + e] = parameter_value(&graph->parameters[i], e);
    outcome->gradients = cuda_floats(parameters.floats);
    outcome->values = cuda_floats(parameters.floats);
    outcome->average = cuda_floats(parameters.floats);
    const struct cuda_tape_loss loss = {.share = share, .smoothing = 0.1f, .scale = reducer ? 0.5f : 1.0f};
    const struct optimiser_options sgd = {.momentum = 0.9f, .weight_decay = 1e-3f, .decay_norm_and_bias = true};
    bool works = cuda_works(cuda_tape_create(graph, &parameters, &options, true, &tape), what);
    for (int step = 0; step < STEPS && works; step++) {
        struct cuda_tape_result result;
        works = cuda_works(cuda_tape_clear_gradients(tape), what) && cuda_works(cuda_tape_load(tape, inputs, labels, NULL), what)
                && cuda_works(cuda_tape_forward(tape, 7, share), what) && cuda_works(cuda_tape_class_loss(tape, &loss), what)
                && cuda_works(cuda_tape_backward(tape), what) && cuda_works(cuda_tape_result(tape, &result), what)
                && cuda_works(cuda_tape_reduce(tape), what)
                && (step > 0 || cuda_works(cuda_tape_read_gradients(tape, outcome->gradients), what))
                && cuda_works(cuda_tape_update(tape, &sgd, 0.05f, 0.5, 0.5f), what);
        outcome->losses[step] = works ? result.loss : 0.0;
    }
    works = works && cuda_works(cuda_tape_read_state(tape, outcome->values, NULL, outcome->average), what);
    cuda_tape_destroy(tape);
    parameter_block_free(&parameters);
    free(inputs);
    cuda_stop_if_broken(what);
    return works;
}

static void free_outcome(struct outcome *outcome)
{
    free(outcome->gradients);
    free(outcome->values);
    free(outcome->average);
}

static void expect_steps(const struct graph *graph, struct cuda_reducer *reducer, float share, const char *what)
{
    struct outcome one = {0}, rank = {0};
    struct parameter_block layout;
    if (!cuda_works(parameter_block_create(graph, &layout), what))
        return;
    if (run_steps(graph, NULL, false, share, &one, what) && run_steps(graph, reducer, true, share, &rank, what)) {
        double gradients = cuda_largest_error(rank.gradients, one.gradients, layout.floats);
        double values = cuda_largest_error(rank.values, one.values, layout.floats);
        double average = cuda_largest_error(rank.average, one.average, layout.floats);
        printf("%s: gradients off by %.2g, weights by %.2g, averages by %.2g\n", what, gradients, values, average);
        cuda_expect(gradients <= 1e-4, "%s: gradients are off by %.3g", what, gradients);
        cuda_expect(values <= 1e-4 && average <= 1e-4, "%s: weights are off by %.3g, averages by %.3g", what, values, average);
        for (int step = 0; step < STEPS; step++)
            cuda_expect(fabs(rank.losses[step] - one.losses[step]) <= 1e-4 * one.losses[step], "%s: loss %d is %.7g, one process has %.7g",
                        what, step, rank.losses[step], one.losses[step]);
    }
    free_outcome(&one);
    free_outcome(&rank);
    parameter_block_free(&layout);
}

static void steps(void)
{
    struct graph graph = {0};
    struct cuda_reducer *reducer = NULL;
    graph.output = build(&graph);
    if (cuda_works(graph_status(&graph), "a network") && cuda_works(cuda_reducer_create(&twins, 1 << 20, &reducer), "two ranks")) {
        expect_steps(&graph, reducer, 1.0f, "steps of two ranks");
        expect_steps(&graph, reducer, 0.7f, "the same, blended with the other rank's images");
    }
    cuda_reducer_destroy(reducer);
    graph_free(&graph);
}

int main(void)
{
    cuda_device_or_skip();
    through_host();
    by_nccl();
    steps();
    return cuda_summary();
}
