/* Training on the GPU beside the CPU's tape, which is tested against PyTorch and double precision: outputs, every gradient and running
 * statistic of graphs that have all ops, of small networks of every kind and of published ones; ten steps of SGD; the same bits twice,
 * and with maps computed again. Needs a GPU, and cuDNN for all but the first part. */
#include "cuda_check.h"

#include "base/clock.h"
#include "base/memory.h"
#include "formula_random.h"
#include "net/network.h"
#include "train/loss.h"
#include "train/optimiser.h"
#include "train/tape_cuda.h"

/* ---- parameters, inputs, losses ---- */

/* Batch norms push what they give above zero, two deviations of it: rounding turns fewer relus over, and one among many that are open
 * weighs little. */
static float parameter_value(const struct parameter *p, int64_t element)
{
    double random = (double)formula_random(formula_seed(p->name), element);
    switch (p->kind) {
    case PARAMETER_CONV_WEIGHT:
        return (float)(random * sqrt(3.0 / (double)(p->shape[1] * p->shape[2] * p->shape[3])));
    case PARAMETER_RUNNING_VAR:
        return (float)(1.0 + 0.3 * random);
    case PARAMETER_NORM_WEIGHT:
        return (float)(0.5 + 0.1 * random);
    case PARAMETER_NORM_BIAS:
        return (float)(1.0 + 0.2 * random);
    default:
        return (float)(0.1 * random);
    }
}

static bool make_parameters(const struct graph *graph, struct parameter_block *parameters)
{
    if (!cuda_works(parameter_block_create(graph, parameters), "parameters"))
        return false;
    for (int i = 0; i < graph->parameter_count; i++)
        for (int64_t e = 0; e < graph->parameters[i].elements; e++)
            parameters->values[parameters->offsets[i] + e] = parameter_value(&graph->parameters[i], e);
    return true;
}

static float *make_inputs(const struct tape_options *options, int channels)
{
    int64_t count = (int64_t)options->batch * options->height * options->width * channels;
    float *inputs = cuda_floats(count);
    for (int64_t i = 0; i < count; i++)
        inputs[i] = formula_random(formula_seed("images"), i);
    return inputs;
}

/* What a pass leaves behind. */
struct outcome {
    float *output, *gradients, *values;
    int64_t output_count, floats;
};

static void free_outcome(struct outcome *o)
{
    free(o->output);
    free(o->gradients);
    free(o->values);
    *o = (struct outcome){0};
}

static float *copy_of(const float *values, int64_t count)
{
    float *copy = cuda_floats(count);
    memcpy(copy, values, (size_t)count * sizeof(float));
    return copy;
}

/* The output's gradient. Its sum over a pixel's channels is not 0, which softmax would make of a loss that is. */
static float *output_gradient(int64_t count)
{
    float *gradient = cuda_floats(count);
    for (int64_t i = 0; i < count; i++)
        gradient[i] = formula_random(formula_seed("loss"), i) / (float)count * 0.25f;
    return gradient;
}

static bool run_on_cpu(const struct graph *graph, struct tape_options options, struct outcome *outcome)
{
    struct parameter_block parameters;
    struct thread_pool *pool;
    struct tape *tape;
    struct map_size size;
    float *inputs = make_inputs(&options, graph->nodes[graph->input].channels);
    options.device = DLA_DEVICE_CPU;
    options.precision = DLA_PRECISION_FLOAT32;
    options.exact = true;
    options.reference = false;
    if (!make_parameters(graph, &parameters) || !cuda_works(isa_choose(&options.isa), "instruction set")
        || !cuda_works(thread_pool_create(4, &pool), "threads")
        || !cuda_works(tape_create(graph, &parameters, pool, &options, &tape), "tape"))
        return false;
    float *gradients = cuda_need(allocate_floats(parameters.floats));
    memcpy(tape_input(tape), inputs,
           (size_t)options.batch * (size_t)(options.height * options.width * graph->nodes[graph->input].channels) * sizeof(float));
    tape_forward(tape, 7);
    tape_output(tape, &size);
    outcome->output_count = (int64_t)options.batch * size.height * size.width * graph->nodes[graph->output].channels;
    outcome->output = copy_of(tape_output(tape, NULL), outcome->output_count);
    float *gradient = output_gradient(outcome->output_count);
    memcpy(tape_output_gradient(tape), gradient, (size_t)outcome->output_count * sizeof(float));
    tape_backward(tape, gradients);
    outcome->floats = parameters.floats;
    outcome->gradients = copy_of(gradients, parameters.floats);
    outcome->values = copy_of(parameters.values, parameters.floats);
    free(gradient);
    free(inputs);
    memory_free(gradients);
    tape_destroy(tape);
    thread_pool_destroy(pool);
    parameter_block_free(&parameters);
    return true;
}

static bool run_on_gpu(const struct graph *graph, struct tape_options options, struct outcome *outcome, bool describe, const char *what)
{
    struct parameter_block parameters;
    struct cuda_tape *tape = NULL;
    struct map_size size;
    float *inputs = make_inputs(&options, graph->nodes[graph->input].channels), *gradient = NULL;
    bool works = make_parameters(graph, &parameters);
    options.device = DLA_DEVICE_CUDA;
    works = works && cuda_works(cuda_tape_create(graph, &parameters, &options, false, &tape), what)
            && cuda_works(cuda_tape_load(tape, inputs, NULL, NULL), what) && cuda_works(cuda_tape_forward(tape, 7, 1.0f), what);
    /* Enough for the largest output here: that of the input's size. */
    int64_t most = (int64_t)options.batch * options.height * options.width * graph->nodes[graph->output].channels;
    outcome->output = cuda_floats(most);
    works = works && cuda_works(cuda_tape_read_output(tape, outcome->output, &size), what);
    if (works) {
        outcome->output_count = (int64_t)options.batch * size.height * size.width * graph->nodes[graph->output].channels;
        gradient = output_gradient(outcome->output_count);
    }
    outcome->floats = parameters.floats;
    outcome->gradients = cuda_floats(parameters.floats);
    outcome->values = cuda_floats(parameters.floats);
    works = works && cuda_works(cuda_tape_write_output_gradient(tape, gradient), what) && cuda_works(cuda_tape_clear_gradients(tape), what)
            && cuda_works(cuda_tape_backward(tape), what) && cuda_works(cuda_tape_read_gradients(tape, outcome->gradients), what)
            && cuda_works(cuda_tape_read_state(tape, outcome->values, NULL, NULL), what);
    const char *words;
    for (int i = 0; describe && works && (words = cuda_tape_describe_conv(tape, i)) != NULL; i++)
        if (strstr(words, "none of") || strstr(words, "not deterministic") || strstr(words, "refused"))
            printf("  %s: %s\n", what, words);
    free(gradient);
    free(inputs);
    cuda_tape_destroy(tape);
    parameter_block_free(&parameters);
    cuda_stop_if_broken(what);
    return works;
}

static double norm_of(const float *values, int64_t count)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

/* Rounding turns over a relu here and a max pool's choice there, on one side and not on the other. What that costs a batch norm's weight,
 * whose gradient all but cancels, is much: in float32 on the CPU, weights that are changed by 5e-4 of themselves, which is float16's rounding,
 * change it by a third. So `worst` is what one parameter may be off by, `tolerance` holds for the output, for running statistics and for half of the parameters. */
struct tolerance {
    double tolerance, worst, share; /* share: of all gradients' norm, that a parameter's is taken for at least */
};

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Every parameter by itself, in the Euclidean norm: of the difference over that of the expected. */
static void compare(const struct graph *graph, const struct outcome *actual, const struct outcome *expected, struct tolerance t,
                    const char *what)
{
    struct parameter_block layout;
    if (!cuda_works(parameter_block_create(graph, &layout), what))
        return;
    float *difference = cuda_floats(expected->floats > expected->output_count ? expected->floats : expected->output_count);
    double *errors = cuda_need(calloc((size_t)graph->parameter_count + 1, sizeof(double)));
    double worst = 0.0, all = norm_of(expected->gradients, expected->floats);
    const char *worst_name = "";
    for (int64_t i = 0; i < expected->output_count; i++)
        difference[i] = actual->output[i] - expected->output[i];
    double output = norm_of(difference, expected->output_count) / (norm_of(expected->output, expected->output_count) + 1e-30);
    cuda_expect(output <= t.tolerance, "%s: output off by %.3g, %.3g allowed", what, output, t.tolerance);
    for (int i = 0; i < graph->parameter_count; i++) {
        const struct parameter *p = &graph->parameters[i];
        const float *gradient = expected->gradients + layout.offsets[i], *kept = expected->values + layout.offsets[i];
        bool statistics = p->kind == PARAMETER_RUNNING_MEAN || p->kind == PARAMETER_RUNNING_VAR;
        for (int64_t e = 0; e < p->elements; e++)
            difference[e] =
                statistics ? actual->values[layout.offsets[i] + e] - kept[e] : actual->gradients[layout.offsets[i] + e] - gradient[e];
        double size = statistics ? norm_of(kept, p->elements) : fmax(norm_of(gradient, p->elements), t.share * all);
        double error = norm_of(difference, p->elements) / (size + 1e-30), most = statistics ? t.tolerance : t.worst;
        errors[i] = isfinite(error) ? error : INFINITY;
        cuda_expect(error <= most, "%s: %s of %s off by %.3g, %.3g allowed", what, statistics ? "value" : "gradient", p->name, error, most);
        if (!(error <= worst)) {
            worst = error;
            worst_name = p->name;
        }
    }
    qsort(errors, (size_t)graph->parameter_count, sizeof *errors, by_size);
    double median = errors[graph->parameter_count / 2];
    cuda_expect(median <= t.tolerance, "%s: half of the parameters are off by %.3g and more, %.3g allowed", what, median, t.tolerance);
    printf("%s: output off by %.2g, parameters by %.2g (half of them) to %.2g (%s)\n", what, output, median, worst, worst_name);
    fflush(stdout);
    free(errors);
    free(difference);
    parameter_block_free(&layout);
}

/* ---- graphs with every op ---- */

static value entry(struct graph *g, int channels)
{
    return graph_conv(g, graph_input(g, 3), channels, 1, 1, 1, 1, false, "entry");
}

static value build_concatenations(struct graph *g)
{
    value a = entry(g, 5), b = graph_relu(g, a, "b");
    value slice = graph_slice(g, a, 1, 3, "slice"), first[] = {a, b}, inner = graph_concat(g, first, 2, "first");
    value second[] = {b, inner, slice, b, g->input};
    value c = graph_conv(g, graph_concat(g, second, 5, "second"), 4, 3, 1, 1, 1, false, "after");
    return graph_add(g, c, graph_slice(g, inner, 2, 4, "tail"), "add");
}

/* A convolution writes into, and reads from, a wider map; so do its gradients. */
static value build_convolution_in_concatenation(struct graph *g)
{
    value a = graph_conv(g, graph_input(g, 3), 8, 3, 1, 1, 1, false, "first"), b = graph_conv(g, a, 16, 3, 1, 1, 4, false, "second");
    value both[] = {a, b};
    return graph_conv(g, graph_concat(g, both, 2, "concat"), 8, 1, 1, 1, 1, false, "after");
}

static value build_residual_root(struct graph *g)
{
    value a = graph_batch_norm(g, entry(g, 5), "a"), b = graph_relu(g, a, "b"), both[] = {b, a};
    value norm = graph_batch_norm(g, graph_conv(g, graph_concat(g, both, 2, "concat"), 5, 1, 1, 1, 1, false, "root"), "op");
    return graph_relu(g, graph_add(g, norm, b, "add"), "relu");
}

static value build_norms(struct graph *g)
{
    value in = entry(g, 8), shortcut = graph_batch_norm(g, graph_conv(g, in, 8, 1, 1, 1, 1, false, "project"), "project_norm");
    value norm = graph_batch_norm(g, graph_conv(g, in, 8, 3, 1, 1, 1, false, "conv"), "norm");
    value sum = graph_add(g, norm, shortcut, "sum"), twice = graph_add(g, sum, sum, "twice");
    return graph_relu(g, graph_batch_norm(g, twice, "last"), "relu");
}

static value build_slices(struct graph *g)
{
    value in = graph_relu(g, graph_batch_norm(g, entry(g, 8), "norm"), "relu");
    value first = graph_slice(g, in, 1, 3, "first"), second = graph_slice(g, in, 2, 3, "second");
    graph_slice(g, in, 6, 2, "unread");
    return graph_add(g, first, second, "add");
}

static value build_pools(struct graph *g)
{
    value strided = graph_conv(g, entry(g, 5), 5, 3, 2, 1, 1, false, "odd");
    value max = graph_max_pool(g, graph_max_pool(g, strided, 2, 2, 1, "even"), 2, 1, 2, "dilated");
    return graph_average_pool(g, graph_average_pool(g, max, 3, 1, 2, 2, "dilated_average"), 3, 2, 1, 1, "average");
}

static value build_classifier(struct graph *g)
{
    value norm = graph_relu(g, graph_batch_norm(g, entry(g, 6), "norm"), "relu");
    return graph_log_softmax(g, graph_conv(g, graph_global_average_pool(g, norm, "pool"), 4, 1, 1, 1, 1, true, "fc"), "result");
}

static value build_upsampling(struct graph *g)
{
    value in = graph_max_pool(g, entry(g, 5), 2, 2, 1, "pool");
    value up = graph_transposed_conv(g, in, 5, 4, 2, 1, 5, true, "up");
    return graph_transposed_conv(g, graph_max_pool(g, up, 2, 2, 1, "again"), 5, 4, 2, 1, 5, false, "fixed");
}

static value build_crop(struct graph *g)
{
    value small = graph_conv(g, graph_input(g, 3), 5, 2, 1, 1, 1, false, "small");
    return graph_crop(g, graph_conv(g, g->input, 4, 1, 1, 1, 1, false, "large"), small, "op");
}

static const struct {
    const char *name;
    value (*build)(struct graph *g);
} graphs[] = {
    {"concatenations", build_concatenations},
    {"convolution in a concatenation", build_convolution_in_concatenation},
    {"residual aggregation node", build_residual_root},
    {"batch norms", build_norms},
    {"slices", build_slices},
    {"pools", build_pools},
    {"classifier", build_classifier},
    {"upsampling", build_upsampling},
    {"crop", build_crop},
};

static const struct {
    const char *name;
    dla_precision precision;
    struct tolerance tolerance;
} precisions[] = {
    {"float32", DLA_PRECISION_FLOAT32, {1e-4, 1e-1, 1e-3}},
    {"tf32", DLA_PRECISION_TF32, {3e-2, 6e-1, 3e-2}},
    {"float16", DLA_PRECISION_FLOAT16, {3e-2, 6e-1, 3e-2}},
    {"bfloat16", DLA_PRECISION_BFLOAT16, {2e-1, 1.5, 3e-2}},
};
enum { PRECISIONS = sizeof precisions / sizeof precisions[0] };

/* By the definition of convolution on the GPU, which needs no cuDNN, in float32; and by cuDNN, in all precisions or, `large`, two. */
static void check_graph(const struct graph *graph, struct tape_options options, bool large, const char *name, bool have_cudnn)
{
    struct outcome expected = {0}, actual = {0};
    char what[128];
    if (!run_on_cpu(graph, options, &expected))
        return;
    options.exact = true;
    options.reference = true;
    snprintf(what, sizeof what, "%s, by definition", name);
    if (run_on_gpu(graph, options, &actual, false, what))
        compare(graph, &actual, &expected, precisions[0].tolerance, what);
    free_outcome(&actual);
    options.reference = false;
    for (int p = 0; p < PRECISIONS && have_cudnn; p++) {
        options.precision = precisions[p].precision;
        options.exact = options.precision == DLA_PRECISION_FLOAT32;
        if (large && options.precision != DLA_PRECISION_FLOAT32 && options.precision != DLA_PRECISION_FLOAT16)
            continue; /* time */
        snprintf(what, sizeof what, "%s, %s", name, precisions[p].name);
        if (run_on_gpu(graph, options, &actual, true, what))
            compare(graph, &actual, &expected, precisions[p].tolerance, what);
        free_outcome(&actual);
    }
    free_outcome(&expected);
}

static void every_op(bool have_cudnn)
{
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        struct graph graph = {0};
        graph.output = graphs[i].build(&graph);
        if (cuda_works(graph_status(&graph), graphs[i].name))
            check_graph(&graph, (struct tape_options){.batch = 3, .height = 36, .width = 32, .dropout = 0.2}, false, graphs[i].name,
                        have_cudnn);
        graph_free(&graph);
    }
}

/* ---- networks ---- */

/* name: a published network, or what one of one's own is called. */
static const struct {
    dla_architecture architecture;
    int batch, side;
} networks[] = {
    {{.name = "basic", .levels = {1, 1, 1, 2, 1, 1}, .channels = {4, 6, 8, 8, 10, 12}, .block = DLA_BLOCK_BASIC}, 4, 64},
    {{.name = "residual_roots",
      .levels = {1, 2, 1, 3, 1, 1},
      .channels = {4, 4, 8, 8, 8, 8},
      .block = DLA_BLOCK_BOTTLENECK,
      .residual_root = true},
     4,
     64},
    {{.name = "dense_prediction", .levels = {1, 1, 1, 1, 1, 1}, .channels = {4, 4, 6, 6, 8, 8}, .block = DLA_BLOCK_BASIC, .down_ratio = 4},
     2,
     64},
    {{.name = "dla46_c"}, 4, 64},
    {{.name = "dla46x_c"}, 4, 64},
    {{.name = "dla60_res2net"}, 4, 64},
    {{.name = "dla34up"}, 2, 64},
};
enum { NETWORKS = sizeof networks / sizeof networks[0] };

static dla_network *make_network(int index)
{
    dla_architecture a = networks[index].architecture;
    dla_network *network = NULL;
    if (a.levels[0] == 0) {
        if (!cuda_works(dla_architecture_find(networks[index].architecture.name, &a), networks[index].architecture.name))
            return NULL;
    } else {
        a.cardinality = 1;
        a.base_width = 64;
        a.scale = 4;
        a.in_channels = 3;
        a.output_stride = 32;
    }
    a.num_classes = 10;
    return cuda_works(dla_network_create(&a, &network), networks[index].architecture.name) ? network : NULL;
}

static void whole_networks(bool have_cudnn)
{
    for (int i = 0; i < NETWORKS; i++) {
        dla_network *network = make_network(i);
        struct tape_options options = {.batch = networks[i].batch, .height = networks[i].side, .width = networks[i].side};
        if (network)
            check_graph(&network->graph, options, networks[i].architecture.levels[0] == 0, networks[i].architecture.name, have_cudnn);
        dla_network_destroy(network);
    }
}

/* ---- the same bits ---- */

static void expect_same_bits(const struct outcome *a, const struct outcome *b, const char *what)
{
    cuda_expect(memcmp(a->output, b->output, (size_t)a->output_count * sizeof(float)) == 0, "%s: the output differs", what);
    cuda_expect(memcmp(a->gradients, b->gradients, (size_t)a->floats * sizeof(float)) == 0, "%s: gradients differ by %.3g of the largest",
                what, cuda_largest_error(a->gradients, b->gradients, a->floats));
    cuda_expect(memcmp(a->values, b->values, (size_t)a->floats * sizeof(float)) == 0, "%s: running statistics differ", what);
}

static void same_bits(bool have_cudnn)
{
    dla_network *network = make_network(3);
    char what[96];
    for (int p = 0; p < PRECISIONS && network; p++) {
        struct tape_options options = {.batch = 6, .height = 64, .width = 96, .precision = precisions[p].precision, .dropout = 0.2};
        struct outcome first = {0}, second = {0}, again = {0};
        options.reference = !have_cudnn;
        snprintf(what, sizeof what, "dla46_c twice, %s", precisions[p].name);
        bool works =
            run_on_gpu(&network->graph, options, &first, false, what) && run_on_gpu(&network->graph, options, &second, false, what);
        if (works)
            expect_same_bits(&first, &second, what);
        options.recompute = true;
        snprintf(what, sizeof what, "dla46_c with maps computed again, %s", precisions[p].name);
        if (works && run_on_gpu(&network->graph, options, &again, false, what))
            expect_same_bits(&first, &again, what);
        free_outcome(&first);
        free_outcome(&second);
        free_outcome(&again);
    }
    dla_network_destroy(network);
}

/* Frozen levels: fixed batch norms, no gradients, and what lies behind them as on the CPU. */
static void frozen_levels(bool have_cudnn)
{
    dla_network *network = make_network(3);
    if (network == NULL)
        return;
    bool *frozen = cuda_need(calloc((size_t)network->graph.parameter_count, sizeof(bool)));
    for (int i = 0; i < network->graph.parameter_count; i++)
        frozen[i] = strncmp(network->graph.parameters[i].name, "level4", 6) < 0;
    check_graph(&network->graph, (struct tape_options){.batch = 4, .height = 64, .width = 64, .frozen = frozen}, true, "frozen dla46_c",
                have_cudnn);
    free(frozen);
    dla_network_destroy(network);
}

/* ---- steps ---- */

enum { STEPS = 10, STEP_BATCH = 8, STEP_SIDE = 64, CLASSES = 10 };

static const double clip = 2.0, ema = 0.9;
static const float rate = 0.005f, share = 0.8f;

static void fill_batch(int step, float *inputs, int *labels)
{
    char name[32];
    snprintf(name, sizeof name, "images%d", step);
    uint32_t seed = formula_seed(name);
    for (int64_t i = 0; i < (int64_t)STEP_BATCH * STEP_SIDE * STEP_SIDE * 3; i++)
        inputs[i] = formula_random(seed, i) + (float)(i / (STEP_SIDE * STEP_SIDE * 3) % CLASSES) * 0.1f;
    for (int i = 0; i < STEP_BATCH; i++)
        labels[i] = (i + step) % CLASSES;
}

static const struct optimiser_options sgd = {.momentum = 0.9f, .nesterov = true, .weight_decay = 1e-3f, .decay_norm_and_bias = false};

static void steps_on_cpu(const struct graph *graph, double *losses, float **values, float **average)
{
    enum { IMAGE = STEP_SIDE * STEP_SIDE * 3 };
    struct parameter_block parameters;
    struct thread_pool *pool;
    struct tape *tape;
    struct tape_options options = {.batch = STEP_BATCH, .height = STEP_SIDE, .width = STEP_SIDE, .exact = true, .dropout = 0.2};
    float *inputs = cuda_floats((int64_t)STEP_BATCH * IMAGE);
    int labels[STEP_BATCH], mirrored[STEP_BATCH], correct;
    if (!make_parameters(graph, &parameters) || !cuda_works(isa_choose(&options.isa), "instruction set")
        || !cuda_works(thread_pool_create(4, &pool), "threads")
        || !cuda_works(tape_create(graph, &parameters, pool, &options, &tape), "tape"))
        exit(1);
    float *velocity = cuda_need(allocate_floats(parameters.floats)), *gradients = cuda_need(allocate_floats(parameters.floats));
    *average = copy_of(parameters.values, parameters.floats);
    for (int step = 0; step < STEPS; step++) {
        fill_batch(step, inputs, labels);
        for (int i = 0; i < STEP_BATCH; i++) {
            mirrored[i] = labels[STEP_BATCH - 1 - i];
            for (int k = 0; k < IMAGE; k++)
                tape_input(tape)[i * IMAGE + k] = share * inputs[i * IMAGE + k] + (1.0f - share) * inputs[(STEP_BATCH - 1 - i) * IMAGE + k];
        }
        memset(gradients, 0, (size_t)parameters.floats * sizeof(float));
        tape_forward(tape, (uint64_t)step);
        losses[step] = cross_entropy(STEP_BATCH, CLASSES, tape_output(tape, NULL),
                                     &(struct loss_targets){.a = labels, .b = mirrored, .share = share, .smoothing = 0.1f}, 1.0f,
                                     tape_output_gradient(tape), &correct);
        tape_backward(tape, gradients);
        clip_gradients(&parameters, gradients, clip);
        optimiser_step(&sgd, pool, &parameters, velocity, gradients, rate);
        average_weights(&parameters, *average, (float)ema);
    }
    *values = copy_of(parameters.values, parameters.floats);
    free(inputs);
    memory_free(velocity);
    memory_free(gradients);
    tape_destroy(tape);
    thread_pool_destroy(pool);
    parameter_block_free(&parameters);
}

/* Two batches are on their way at a time, as in a run. */
static bool steps_on_gpu(const struct graph *graph, dla_precision precision, bool reference, double *losses, float **values,
                         float **average)
{
    struct parameter_block parameters;
    struct cuda_tape *tape = NULL;
    struct tape_options options = {.batch = STEP_BATCH, .height = STEP_SIDE, .width = STEP_SIDE, .exact = true, .dropout = 0.2};
    float *inputs = cuda_floats((int64_t)STEP_BATCH * STEP_SIDE * STEP_SIDE * 3);
    int labels[STEP_BATCH];
    options.device = DLA_DEVICE_CUDA;
    options.precision = precision;
    options.reference = reference;
    bool works = make_parameters(graph, &parameters) && cuda_works(cuda_tape_create(graph, &parameters, &options, true, &tape), "steps");
    for (int step = 0; step < STEPS && works; step++) {
        struct cuda_tape_result result = {0};
        if (step == 0) {
            fill_batch(0, inputs, labels);
            works = cuda_works(cuda_tape_load(tape, inputs, labels, NULL), "steps");
        }
        works =
            works && cuda_works(cuda_tape_clear_gradients(tape), "steps")
            && cuda_works(cuda_tape_forward(tape, (uint64_t)step, share), "steps")
            && cuda_works(cuda_tape_class_loss(tape, &(struct cuda_tape_loss){.share = share, .smoothing = 0.1f, .scale = 1.0f}), "steps")
            && cuda_works(cuda_tape_backward(tape), "steps");
        if (works && step + 1 < STEPS) {
            fill_batch(step + 1, inputs, labels);
            works = cuda_works(cuda_tape_load(tape, inputs, labels, NULL), "steps");
        }
        works = works && cuda_works(cuda_tape_result(tape, &result), "steps")
                && cuda_works(cuda_tape_update(tape, &sgd, rate, clip, (float)ema), "steps");
        losses[step] = result.loss;
        cuda_expect(result.skipped == 0, "step %d: %d steps were left out", step, result.skipped);
    }
    *values = cuda_floats(parameters.floats);
    *average = cuda_floats(parameters.floats);
    works = works && cuda_works(cuda_tape_read_state(tape, *values, NULL, *average), "steps");
    free(inputs);
    cuda_tape_destroy(tape);
    parameter_block_free(&parameters);
    return works;
}

static void ten_steps(bool have_cudnn)
{
    static const double tolerances[PRECISIONS] = {1e-3, 2e-2, 2e-2, 1e-1}; /* rounding grows from step to step */
    double expected[STEPS], actual[STEPS];
    float *values, *average, *gpu_values, *gpu_average;
    dla_network *network = make_network(3);
    struct parameter_block layout;
    if (network == NULL || !cuda_works(parameter_block_create(&network->graph, &layout), "steps"))
        return;
    steps_on_cpu(&network->graph, expected, &values, &average);
    for (int p = 0; p < (have_cudnn ? (int)PRECISIONS : 1); p++) {
        double worst = 0.0;
        if (steps_on_gpu(&network->graph, precisions[p].precision, !have_cudnn, actual, &gpu_values, &gpu_average)) {
            for (int step = 0; step < STEPS; step++) {
                double error = fabs(actual[step] - expected[step]) / expected[step];
                worst = error <= worst ? worst : error;
                cuda_expect(error <= tolerances[p], "loss of step %d, %s: %.8g, the CPU's is %.8g", step, precisions[p].name, actual[step],
                            expected[step]);
            }
            for (int64_t i = 0; i < layout.floats; i++) {
                gpu_values[i] -= values[i];
                gpu_average[i] -= average[i];
            }
            double off = norm_of(gpu_values, layout.floats) / norm_of(values, layout.floats);
            double average_off = norm_of(gpu_average, layout.floats) / norm_of(average, layout.floats);
            printf("ten steps, %s: losses %.6f to %.6f, off by %.2g; parameters off by %.2g, averages by %.2g\n", precisions[p].name,
                   actual[0], actual[STEPS - 1], worst, off, average_off);
            cuda_expect(off <= tolerances[p] && average_off <= tolerances[p],
                        "%s: parameters after ten steps are off by %.3g, averages by %.3g", precisions[p].name, off, average_off);
        }
        free(gpu_values);
        free(gpu_average);
    }
    free(values);
    free(average);
    parameter_block_free(&layout);
    dla_network_destroy(network);
}

/* Whether cuDNN is to be had; a tape of any convolution tells. */
static bool find_cudnn(void)
{
    struct graph graph = {0};
    struct parameter_block parameters;
    struct cuda_tape *tape = NULL;
    struct tape_options options = {.batch = 2, .height = 32, .width = 32, .device = DLA_DEVICE_CUDA};
    graph.output = entry(&graph, 4);
    bool made = make_parameters(&graph, &parameters) && cuda_tape_create(&graph, &parameters, &options, false, &tape) == DLA_OK;
    cuda_expect(made, "training with cuDNN cannot be tested: %s", made ? "" : dla_error_message());
    cuda_tape_destroy(tape);
    parameter_block_free(&parameters);
    graph_free(&graph);
    return made;
}

int main(void)
{
    cuda_device_or_skip();
    bool have_cudnn = find_cudnn();
    static const struct {
        const char *name;
        void (*run)(bool have_cudnn);
    } tests[] = {{"every op", every_op},
                 {"whole networks", whole_networks},
                 {"frozen levels", frozen_levels},
                 {"the same bits", same_bits},
                 {"ten steps", ten_steps}};
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        int failed = cuda_failures, items = cuda_items;
        double start = clock_milliseconds();
        tests[i].run(have_cudnn);
        cuda_stop_if_broken(tests[i].name);
        printf("%s: %d of %d items failed, %.1f s\n", tests[i].name, cuda_failures - failed, cuda_items - items,
               1e-3 * (clock_milliseconds() - start));
        fflush(stdout);
    }
    return cuda_summary();
}
