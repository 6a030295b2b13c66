/* bench_conv.c - times every convolution kernel of an instruction set on the layers of the networks, side by side.
 *
 *     bench_conv [--model NAME]... [--isa NAME] [--threads N] [--batch N] [--size HxW] [--kernel PART] [--layer PART]
 *                [--weight-gradient]
 *
 * Without --model: all networks of the zoo. Layers of one shape are timed once; "uses" says how many there are. --kernel and
 * --layer keep those whose name, or whose printed shape, contains PART.
 *
 * Weights are cold, as they are in a network: every run takes another copy, and the copies together exceed the last cache.
 * Activations are warm, as if the layer before had just written them. GFLOP/s count the multiply-adds of the definition, so
 * Winograd may exceed the machine's peak.
 */
#include "cpu/conv.h"
#include "cpu/peak.h"
#include "cpu/training.h"
#include "net/network.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    MAX_LAYERS = 1024,
    COLD_BYTES = 64 << 20, /* of weight copies */
    MAX_COPIES = 64,
    MIN_RUNS = 12,
    HUGE_PAGE = 2 << 20
};

static const double min_seconds = 0.15; /* a kernel and layer */

struct options {
    enum isa isa;
    int threads, batch, height, width;
    const char *kernel, *layer;
    bool weight_gradient;
};

struct layer {
    struct conv_shape shape;
    int uses;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_conv: %s: %s\n", what, dla_error_message());
    exit(1);
}

/* In huge pages where the system has them, as a plan's memory is. */
static void *allocate(size_t size)
{
    size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : 64;
    void *memory = aligned_alloc(alignment, (size + 64 + alignment - 1) / alignment * alignment);
    if (!memory) {
        fprintf(stderr, "bench_conv: no memory for %zu bytes\n", size);
        exit(1);
    }
    if (size >= HUGE_PAGE)
        (void)madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

static float *random_floats(int64_t count)
{
    static uint32_t state = 1;
    float *values = allocate((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)(state >> 8) / (float)(1 << 23) - 1.0f;
    }
    return values;
}

/* Laid out as the planner does. */
static struct map_view random_map(int64_t pixels, int channels)
{
    int stride = map_stride(channels);
    return (struct map_view){random_floats(pixels * stride), stride};
}

/* Adds the convolutions of a network that are not yet listed. */
static int add_layers(const struct graph *graph, const struct options *o, struct layer *layers, int count)
{
    struct map_size *sizes = malloc((size_t)graph->node_count * sizeof *sizes);

    if (!sizes || graph_infer_sizes(graph, o->height, o->width, sizes) != DLA_OK)
        fail("sizes");
    for (int i = 0; i < graph->node_count; i++) {
        const struct node *node = &graph->nodes[i];
        if (node->op != OP_CONV2D)
            continue;
        const struct node *in = &graph->nodes[node->inputs[0]];
        const struct conv_params *conv = &node->as.conv;
        struct conv_shape shape = {
            .batch = o->batch,
            .in_height = sizes[node->inputs[0]].height,
            .in_width = sizes[node->inputs[0]].width,
            .in_channels = in->channels,
            .out_height = sizes[i].height,
            .out_width = sizes[i].width,
            .out_channels = node->channels,
            .kernel = conv->kernel,
            .stride = conv->stride,
            .padding = conv->padding,
            .dilation = conv->dilation,
            .groups = conv->groups,
            .source_count = 1,
            .source_channels = {in->channels},
        };
        if (in->op == OP_CONCAT && in->input_count <= CONV_MAX_SOURCES) {
            shape.source_count = in->input_count;
            for (int source = 0; source < in->input_count; source++)
                shape.source_channels[source] = graph->nodes[in->inputs[source]].channels;
        }
        int at = 0;
        while (at < count && memcmp(&layers[at].shape, &shape, sizeof shape) != 0)
            at++;
        if (at == MAX_LAYERS)
            continue;
        if (at == count)
            layers[count++] = (struct layer){.shape = shape};
        layers[at].uses++;
    }
    free(sizes);
    return count;
}

static void describe(const struct conv_shape *s, char *text, size_t size)
{
    snprintf(text, size, "%dx%d %d>%d k%d s%d g%d", s->in_height, s->in_width, s->in_channels, s->out_channels, s->kernel, s->stride,
             s->groups);
}

struct times {
    double best, median; /* seconds of a run */
};

/* Runs `run` with 0, 1, 2, ... until enough is known. */
static struct times time_runs(void (*run)(void *context, int index), void *context)
{
    static double times[4096];
    int runs = 0;

    for (double begin = now(); runs < MIN_RUNS || (now() - begin < min_seconds && runs < 4096); runs++) {
        double start = now();
        run(context, runs);
        times[runs] = now() - start;
    }
    for (int i = 1; i < runs; i++) /* sorted by insertion */
        for (int k = i; k > 0 && times[k] < times[k - 1]; k--) {
            double swap = times[k];
            times[k] = times[k - 1];
            times[k - 1] = swap;
        }
    return (struct times){times[0], times[runs / 2]};
}

struct conv_runs {
    const struct conv_kernel *kernel;
    struct conv_call call;
    void *packed[MAX_COPIES];
    int copies;
};

static void run_conv(void *context, int index)
{
    struct conv_runs *runs = context;
    runs->call.packed = runs->packed[index % runs->copies];
    runs->kernel->run(&runs->call);
}

static struct times measure(const struct conv_kernel *kernel, const struct conv_shape *s, struct thread_pool *pool)
{
    size_t packed_bytes = kernel->packed_bytes(s);
    int64_t in_pixels = (int64_t)s->batch * s->in_height * s->in_width, out_pixels = (int64_t)s->batch * s->out_height * s->out_width;
    struct conv_runs runs = {
        .kernel = kernel, .call = {.shape = s, .relu = true, .pool = pool}, .copies = (int)((size_t)COLD_BYTES / (packed_bytes + 1)) + 1};
    struct conv_call *call = &runs.call;

    if (runs.copies > MAX_COPIES)
        runs.copies = MAX_COPIES;
    float *weight = random_floats((int64_t)s->out_channels * (s->in_channels / s->groups) * s->kernel * s->kernel);
    float *scale = random_floats(s->out_channels), *bias = random_floats(s->out_channels);
    for (int i = 0; i < runs.copies; i++) {
        runs.packed[i] = allocate(packed_bytes);
        if (i == 0)
            kernel->pack(s, weight, scale, runs.packed[0]);
        else
            memcpy(runs.packed[i], runs.packed[0], packed_bytes);
    }
    for (int i = 0; i < s->source_count; i++)
        call->sources[i] = random_map(in_pixels, s->source_channels[i]);
    call->out = random_map(out_pixels, s->out_channels);
    call->bias = bias;
    call->scratch = allocate(kernel->scratch_bytes(s, thread_pool_size(pool)));
    struct times times = time_runs(run_conv, &runs);
    for (int i = 0; i < runs.copies; i++)
        free(runs.packed[i]);
    for (int i = 0; i < s->source_count; i++)
        free(call->sources[i].data);
    free(call->out.data);
    free(call->scratch);
    free(weight);
    free(scale);
    free(bias);
    return times;
}

struct gradient_runs {
    const struct training_kernels *kernels;
    struct conv_weight_gradient_call call;
};

static void run_gradient(void *context, int index)
{
    const struct gradient_runs *runs = context;
    (void)index;
    runs->kernels->conv_weight_gradient(&runs->call);
}

static struct times measure_weight_gradient(const struct training_kernels *kernels, const struct conv_shape *s, struct thread_pool *pool)
{
    int64_t in_pixels = (int64_t)s->batch * s->in_height * s->in_width, out_pixels = (int64_t)s->batch * s->out_height * s->out_width;
    struct gradient_runs runs = {kernels, {.shape = s, .pool = pool}};
    struct conv_weight_gradient_call *call = &runs.call;

    call->in = random_map(in_pixels, s->in_channels);
    call->out_gradient = random_map(out_pixels, s->out_channels);
    call->weight_gradient = random_floats((int64_t)s->out_channels * (s->in_channels / s->groups) * s->kernel * s->kernel);
    call->scratch = allocate(kernels->conv_weight_gradient_scratch_bytes(s, thread_pool_size(pool)));
    struct times times = time_runs(run_gradient, &runs);
    free(call->in.data);
    free(call->out_gradient.data);
    free(call->weight_gradient);
    free(call->scratch);
    return times;
}

static void print_line(const struct layer *layer, const char *name, const char *kernel, struct times times, double model_ms, double peak)
{
    const struct conv_shape *s = &layer->shape;
    double flops =
        2.0 * s->batch * s->out_height * s->out_width * (double)s->out_channels * (s->in_channels / s->groups) * s->kernel * s->kernel;

    printf("%-32s %4d  %-22s %9.3f %9.3f %9.3f %8.1f %6.0f %%\n", name, layer->uses, kernel, times.median * 1e3, times.best * 1e3, model_ms,
           flops / times.median * 1e-9, 100.0 * flops / times.median * 1e-9 / peak);
    fflush(stdout);
}

static void report(const struct layer *layer, const struct options *o, struct thread_pool *pool, double peak)
{
    const struct conv_shape *s = &layer->shape;
    char name[96];
    int count;

    describe(s, name, sizeof name);
    if (o->layer && !strstr(name, o->layer))
        return;
    if (o->weight_gradient) {
        print_line(layer, name, "weight gradient", measure_weight_gradient(training_kernels(o->isa), s, pool), 0.0, peak);
        return;
    }
    const struct conv_kernel *const *kernels = conv_kernels(o->isa, &count);
    for (int i = 0; i < count - 1; i++) /* the last is the reference */
        if (kernels[i]->supports(s) && (!o->kernel || strstr(kernels[i]->name, o->kernel)))
            print_line(layer, name, kernels[i]->name, measure(kernels[i], s, pool), kernels[i]->cost(s, o->threads) * 1e-3, peak);
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"model", required_argument, NULL, 'm'}, {"isa", required_argument, NULL, 'i'},       {"threads", required_argument, NULL, 't'},
        {"batch", required_argument, NULL, 'b'}, {"size", required_argument, NULL, 's'},      {"kernel", required_argument, NULL, 'k'},
        {"layer", required_argument, NULL, 'l'}, {"weight-gradient", no_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
    static struct layer layers[MAX_LAYERS];
    struct options o = {.threads = 1, .batch = 1, .height = 224, .width = 224};
    const char *models[64];
    int model_count = 0, layer_count = 0, option;
    struct thread_pool *pool;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (option == 'm' && model_count < 64)
            models[model_count++] = optarg;
        else if (option == 'i')
            setenv("DLA_ISA", optarg, 1);
        else if (option == 't')
            o.threads = atoi(optarg);
        else if (option == 'b')
            o.batch = atoi(optarg);
        else if (option == 's' && sscanf(optarg, "%dx%d", &o.height, &o.width) == 2)
            continue;
        else if (option == 'k')
            o.kernel = optarg;
        else if (option == 'l')
            o.layer = optarg;
        else if (option == 'w')
            o.weight_gradient = true;
        else {
            fprintf(
                stderr,
                "usage: bench_conv [--model NAME]... [--isa NAME] [--threads N] [--batch N] [--size HxW] [--kernel PART] [--layer PART] "
                "[--weight-gradient]\n");
            return 2;
        }
    }
    if (isa_choose(&o.isa) != DLA_OK)
        fail("instruction set");
    if (thread_pool_create(o.threads, &pool) != DLA_OK)
        fail("threads");
    if (model_count == 0)
        for (size_t i = 0; i < dla_architecture_count() && model_count < 64; i++)
            models[model_count++] = dla_architecture_at(i)->name;
    for (int i = 0; i < model_count; i++) {
        dla_network *network = NULL;
        dla_architecture architecture;
        if (dla_architecture_find(models[i], &architecture) != DLA_OK || dla_network_create(&architecture, &network) != DLA_OK)
            fail(models[i]);
        layer_count = add_layers(&network->graph, &o, layers, layer_count);
        dla_network_destroy(network);
    }
    double peak = peak_gflops(o.isa, pool);
    printf("%s, %d thread%s, batch %d: FMA peak %.0f GFLOP/s\n", isa_name(o.isa), o.threads, o.threads == 1 ? "" : "s", o.batch, peak);
    printf("%-32s %4s  %-22s %9s %9s %9s %8s %8s\n", "layer", "uses", "kernel", "median ms", "best ms", "model ms", "GFLOP/s", "of peak");
    for (int i = 0; i < layer_count; i++)
        report(&layers[i], &o, pool, peak);
    thread_pool_destroy(pool);
    return 0;
}
