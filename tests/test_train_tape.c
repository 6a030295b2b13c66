/* The tape: every op's gradient agrees with differentiation of a double-precision forward pass, running statistics follow
 * PyTorch's rule, and neither threads nor the choice of kernels nor shared memory change the result. */
#include "double_graph.h"

#include "base/counter_random.h"
#include "base/memory.h"
#include "net/network.h"
#include "train/tape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { BATCH = 3, HEIGHT = 36, WIDTH = 32 };

static double uniform(uint64_t key, int64_t i)
{
    return counter_uniform(key, (uint64_t)i) * 2.0 - 1.0;
}

/* Parameters away from the special values 0 and 1, the same in float and double. */
static float parameter_value(const struct parameter *p, int index, int64_t element)
{
    double u = uniform((uint64_t)index + 100, element);
    switch (p->kind) {
    case PARAMETER_CONV_WEIGHT:
        return (float)(u * sqrt(3.0 / (double)(p->shape[1] * p->shape[2] * p->shape[3])) * 1.5);
    case PARAMETER_NORM_WEIGHT:
    case PARAMETER_RUNNING_VAR:
        return (float)(1.0 + 0.3 * u);
    default:
        return (float)(0.3 * u);
    }
}

/* A value within rounding of zero may fall on either side of a relu, which is another gradient: these inputs lead to none. */
static float input_value(int64_t i)
{
    return (float)uniform(12, i);
}

struct fixture {
    struct parameter_block parameters;
    struct thread_pool *pool;
    struct tape *tape;
    float *gradients;
};

static void setup(const struct graph *graph, const struct tape_options *options, int threads, struct fixture *f)
{
    assert_int_equal(graph_status(graph), DLA_OK);
    assert_int_equal(thread_pool_create(threads, &f->pool), DLA_OK);
    assert_int_equal(parameter_block_create(graph, &f->parameters), DLA_OK);
    for (int i = 0; i < graph->parameter_count; i++)
        for (int64_t e = 0; e < graph->parameters[i].elements; e++)
            f->parameters.values[f->parameters.offsets[i] + e] = parameter_value(&graph->parameters[i], i, e);
    if (tape_create(graph, &f->parameters, f->pool, options, &f->tape) != DLA_OK)
        fail_msg("%s", dla_error_message());
    f->gradients = allocate_floats(f->parameters.floats);
    assert_non_null(f->gradients);
    int64_t inputs = (int64_t)options->batch * options->height * options->width * graph->nodes[graph->input].channels;
    for (int64_t i = 0; i < inputs; i++)
        tape_input(f->tape)[i] = input_value(i);
}

static void teardown(struct fixture *f)
{
    tape_destroy(f->tape);
    thread_pool_destroy(f->pool);
    parameter_block_free(&f->parameters);
    memory_free(f->gradients);
}

static int64_t output_floats(const struct graph *graph, const struct fixture *f, int batch)
{
    struct map_size size;
    tape_output(f->tape, &size);
    return (int64_t)batch * size.height * size.width * graph->nodes[graph->output].channels;
}

/* The loss is sum of output * weight; its gradient the weights. */
static float loss_weight(int64_t i)
{
    return (float)uniform(2, i);
}

static void run(const struct graph *graph, struct fixture *f, int batch)
{
    tape_forward(f->tape, 0);
    for (int64_t i = 0; i < output_floats(graph, f, batch); i++)
        tape_output_gradient(f->tape)[i] = loss_weight(i);
    tape_backward(f->tape, f->gradients);
}

/* ---- the twin: outputs and gradients in double precision, found once for all kernels that compute the same ---- */

struct twin {
    struct double_graph g;
    int probes;        /* elements of each parameter that are differentiated */
    double *gradients; /* (parameters, probes) */
};

static int64_t probed_element(const struct graph *graph, int parameter, int probe, int probes)
{
    return (int64_t)(counter_uniform(3, (uint64_t)(parameter * probes + probe)) * (double)graph->parameters[parameter].elements);
}

static double loss_of(const struct double_graph *g, value first)
{
    value out = g->graph->output;
    int64_t count = (int64_t)g->batch * g->sizes[out].height * g->sizes[out].width * g->graph->nodes[out].channels;
    double loss = 0.0;
    double_graph_forward(g, first);
    for (int64_t i = 0; i < count; i++)
        loss += g->maps[out][i] * (double)loss_weight(i);
    return loss;
}

/* The node that a parameter belongs to. */
static value first_user(const struct graph *graph, int parameter)
{
    for (value v = 0; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        if ((node->op == OP_CONV2D || node->op == OP_TRANSPOSED_CONV2D)
            && (node->as.conv.weight == parameter || node->as.conv.bias == parameter))
            return v;
        if (node->op == OP_BATCH_NORM && (node->as.batch_norm.weight == parameter || node->as.batch_norm.bias == parameter))
            return v;
    }
    return 0;
}

static void twin_create(const struct graph *graph, int probes, struct twin *twin)
{
    *twin = (struct twin){.probes = probes};
    struct double_graph *g = &twin->g;
    assert_true(double_graph_create(graph, BATCH, HEIGHT, WIDTH, g));
    twin->gradients = calloc((size_t)graph->parameter_count * (size_t)probes, sizeof(double));
    assert_non_null(twin->gradients);
    for (int i = 0; i < graph->parameter_count; i++)
        for (int64_t e = 0; e < graph->parameters[i].elements; e++)
            g->parameters[i][e] = (double)parameter_value(&graph->parameters[i], i, e);
    for (int64_t i = 0; i < (int64_t)BATCH * HEIGHT * WIDTH * graph->nodes[graph->input].channels; i++)
        g->maps[graph->input][i] = (double)input_value(i);
    double_graph_forward(g, 0);
    for (int i = 0; i < graph->parameter_count; i++) {
        if (!graph->parameters[i].trainable)
            continue;
        value user = first_user(graph, i);
        for (int probe = 0; probe < probes; probe++) {
            double *element = &g->parameters[i][probed_element(graph, i, probe, probes)], before = *element, step = 1e-8;
            *element = before + step;
            double up = loss_of(g, user);
            *element = before - step;
            double down = loss_of(g, user);
            *element = before;
            twin->gradients[i * probes + probe] = (up - down) / (2.0 * step);
        }
        double_graph_forward(g, user);
    }
}

static void twin_free(struct twin *twin)
{
    double_graph_free(&twin->g);
    free(twin->gradients);
}

static void check_outputs(const struct twin *twin, const struct fixture *f, double tolerance, const char *what)
{
    const struct graph *graph = twin->g.graph;
    const double *expected = twin->g.maps[graph->output];
    const float *output = tape_output(f->tape, NULL);
    double largest = 1e-20;
    for (int64_t i = 0; i < output_floats(graph, f, BATCH); i++)
        largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; i < output_floats(graph, f, BATCH); i++)
        if (!(fabs((double)output[i] - expected[i]) <= tolerance * largest))
            fail_msg("%s: output %lld is %g, in double %g", what, (long long)i, (double)output[i], expected[i]);
}

/* tolerance: relative to the parameter's largest gradient; a whole network ends in batch norms over a handful of pixels, which magnify
 * float's rounding: its outputs are off by 2e-6 to 3e-5 of the largest, as a kernel's order of summation has it. Outputs have a twentieth
 * of the tolerance. */
static void check_gradients(const struct twin *twin, struct tape_options options, double tolerance, const char *what)
{
    const struct graph *graph = twin->g.graph;
    struct fixture f;
    options.batch = BATCH;
    options.height = HEIGHT;
    options.width = WIDTH;
    options.exact = true;
    setup(graph, &options, 2, &f);
    run(graph, &f, BATCH);
    check_outputs(twin, &f, tolerance / 20.0, what);
    for (int i = 0; i < graph->parameter_count; i++) {
        const struct parameter *p = &graph->parameters[i];
        const float *gradient = f.gradients + f.parameters.offsets[i];
        double scale = 1e-3;
        for (int64_t e = 0; e < p->elements; e++)
            scale = fmax(scale, fabs((double)gradient[e]));
        for (int probe = 0; probe < twin->probes && p->trainable; probe++) {
            int64_t e = probed_element(graph, i, probe, twin->probes);
            double expected = twin->gradients[i * twin->probes + probe];
            if (!(fabs((double)gradient[e] - expected) < tolerance * scale))
                fail_msg("%s: gradient of %s[%lld] is %.8g, differentiated %.8g", what, p->name, (long long)e, (double)gradient[e],
                         expected);
        }
        for (int64_t e = 0; e < p->elements && !p->trainable; e++)
            assert_true(gradient[e] == 0.0f);
    }
    teardown(&f);
}

/* ---- one op at a time, each behind a convolution, so that its gradient must pass on ---- */

static value entry(struct graph *g, int channels)
{
    return graph_conv(g, graph_input(g, 3), channels, 1, 1, 1, 1, false, "entry");
}

static value build_dense_conv(struct graph *g)
{
    return graph_conv(g, entry(g, 5), 7, 3, 1, 1, 1, true, "op");
}

static value build_strided_conv(struct graph *g)
{
    return graph_conv(g, entry(g, 6), 5, 3, 2, 1, 1, false, "op");
}

static value build_dilated_conv(struct graph *g)
{
    return graph_conv(g, entry(g, 6), 5, 3, 1, 2, 1, false, "op");
}

static value build_grouped_conv(struct graph *g)
{
    return graph_conv(g, graph_conv(g, entry(g, 16), 16, 3, 1, 1, 4, false, "first"), 16, 3, 2, 1, 4, false, "op");
}

static value build_stem(struct graph *g)
{
    return graph_conv(g, graph_conv(g, graph_input(g, 3), 6, 7, 1, 1, 1, false, "stem"), 4, 7, 1, 1, 1, false, "op");
}

static value build_batch_norm(struct graph *g)
{
    return graph_batch_norm(g, entry(g, 5), "op");
}

/* The normalised map has two readers, one of them before its relu. */
static value build_norm_read_twice(struct graph *g)
{
    value norm = graph_batch_norm(g, entry(g, 5), "op");
    return graph_add(g, graph_relu(g, norm, "relu"), graph_conv(g, norm, 5, 1, 1, 1, 1, false, "other"), "add");
}

static value build_residual(struct graph *g)
{
    value in = entry(g, 5), norm = graph_batch_norm(g, graph_conv(g, in, 5, 3, 1, 1, 1, false, "conv"), "op");
    return graph_relu(g, graph_add(g, norm, in, "add"), "relu");
}

/* Both sides of the add are batch norms, as in a tree with a projection. */
static value build_projection(struct graph *g)
{
    value in = entry(g, 5), shortcut = graph_batch_norm(g, graph_conv(g, in, 6, 1, 1, 1, 1, false, "project"), "project_norm");
    value norm = graph_batch_norm(g, graph_conv(g, in, 6, 3, 1, 1, 1, false, "conv"), "op");
    return graph_relu(g, graph_add(g, norm, shortcut, "add"), "relu");
}

static value build_norm_and_add_without_relu(struct graph *g)
{
    value in = entry(g, 5), norm = graph_batch_norm(g, graph_conv(g, in, 5, 3, 1, 1, 1, false, "conv"), "op");
    return graph_conv(g, graph_add(g, norm, in, "add"), 4, 1, 1, 1, 1, false, "after");
}

static value build_add_of_one_value(struct graph *g)
{
    value in = graph_batch_norm(g, entry(g, 5), "norm");
    return graph_add(g, in, in, "op");
}

static value build_relu(struct graph *g)
{
    return graph_relu(g, entry(g, 5), "op");
}

/* One input twice, one that another concatenation has, a concatenation, the network's input and a slice. */
static value build_concat(struct graph *g)
{
    value a = entry(g, 5), b = graph_relu(g, a, "b");
    value slice = graph_slice(g, a, 1, 3, "slice"), first[] = {a, b}, inner = graph_concat(g, first, 2, "first");
    value second[] = {b, inner, slice, b, g->input};
    value c = graph_conv(g, graph_concat(g, second, 5, "second"), 4, 3, 1, 1, 1, false, "after");
    return graph_add(g, c, graph_slice(g, inner, 2, 4, "tail"), "add");
}

/* A value whose concatenation gets its gradient after another reader has contributed. */
static value build_residual_root(struct graph *g)
{
    value a = graph_batch_norm(g, entry(g, 5), "a"), b = graph_relu(g, a, "b"), both[] = {b, a};
    value norm = graph_batch_norm(g, graph_conv(g, graph_concat(g, both, 2, "concat"), 5, 1, 1, 1, 1, false, "root"), "op");
    return graph_relu(g, graph_add(g, norm, b, "add"), "relu");
}

/* Slices that nobody reads: their gradient is zero, not whatever lay there. */
static value build_slices(struct graph *g)
{
    value in = graph_relu(g, graph_batch_norm(g, entry(g, 8), "norm"), "relu");
    value first = graph_slice(g, in, 1, 3, "first"), second = graph_slice(g, in, 2, 3, "second");
    graph_slice(g, in, 6, 2, "unread");
    return graph_add(g, first, second, "add");
}

/* Maps of 512 channels have gaps between their pixels (map_stride), but not the result, which callers read. */
static value build_wide_maps(struct graph *g)
{
    value wide = graph_relu(g, graph_batch_norm(g, entry(g, 512), "norm"), "relu");
    value parts[] = {graph_conv(g, wide, 4, 3, 1, 1, 1, false, "op"), graph_slice(g, wide, 500, 6, "slice")};
    return graph_conv(g, graph_concat(g, parts, 2, "concat"), 512, 1, 1, 1, 1, true, "result");
}

static value build_max_pool(struct graph *g)
{
    value strided = graph_conv(g, entry(g, 5), 5, 3, 2, 1, 1, false, "odd"); /* 18 x 16, then 9 x 8, then 5 x 4 */
    return graph_max_pool(g, graph_max_pool(g, strided, 2, 2, 1, "even"), 2, 2, 1, "op");
}

static value build_dilated_max_pool(struct graph *g)
{
    return graph_max_pool(g, entry(g, 5), 2, 1, 2, "op");
}

static value build_average_pool(struct graph *g)
{
    return graph_average_pool(g, entry(g, 5), 3, 2, 1, 1, "op");
}

static value build_dilated_average_pool(struct graph *g)
{
    return graph_average_pool(g, entry(g, 5), 3, 1, 2, 2, "op");
}

static value build_global_average_pool(struct graph *g)
{
    return graph_conv(g, graph_global_average_pool(g, entry(g, 5), "op"), 4, 1, 1, 1, 1, true, "fc");
}

static value build_transposed_conv(struct graph *g)
{
    value in = graph_max_pool(g, entry(g, 5), 2, 2, 1, "pool");
    value up = graph_transposed_conv(g, in, 5, 4, 2, 1, 5, true, "op");
    return graph_transposed_conv(g, graph_max_pool(g, up, 2, 2, 1, "again"), 5, 4, 2, 1, 5, false, "fixed");
}

static value build_crop(struct graph *g)
{
    value small = graph_conv(g, graph_input(g, 3), 5, 2, 1, 1, 1, false, "small"); /* 35 x 31: no padding fits an even kernel */
    return graph_crop(g, graph_conv(g, g->input, 4, 1, 1, 1, 1, false, "large"), small, "op");
}

static value build_log_softmax(struct graph *g)
{
    return graph_log_softmax(g, entry(g, 5), "op");
}

static const struct {
    const char *name;
    value (*build)(struct graph *g);
} ops[] = {
    {"dense convolution", build_dense_conv},
    {"strided convolution", build_strided_conv},
    {"dilated convolution", build_dilated_conv},
    {"grouped convolution", build_grouped_conv},
    {"7x7 convolution", build_stem},
    {"batch norm", build_batch_norm},
    {"batch norm read twice", build_norm_read_twice},
    {"batch norm, residual, relu", build_residual},
    {"two batch norms added", build_projection},
    {"batch norm and residual", build_norm_and_add_without_relu},
    {"a value added to itself", build_add_of_one_value},
    {"relu", build_relu},
    {"concatenations", build_concat},
    {"residual aggregation node", build_residual_root},
    {"slices", build_slices},
    {"maps of 512 channels", build_wide_maps},
    {"max pool", build_max_pool},
    {"dilated max pool", build_dilated_max_pool},
    {"average pool", build_average_pool},
    {"dilated average pool", build_dilated_average_pool},
    {"global average pool", build_global_average_pool},
    {"transposed convolution", build_transposed_conv},
    {"crop", build_crop},
    {"log softmax", build_log_softmax},
};

static void every_op_has_its_gradient(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct graph graph = {0};
        struct twin twin;
        graph.output = ops[i].build(&graph);
        twin_create(&graph, 2, &twin);
        for (int isa = 0; isa < ISA_COUNT; isa++)
            if (isa_is_available((enum isa)isa))
                check_gradients(&twin, (struct tape_options){.isa = (enum isa)isa}, 1e-4, ops[i].name);
        check_gradients(&twin, (struct tape_options){.isa = ISA_GENERIC, .by_image = BY_IMAGE_ALL}, 1e-4, ops[i].name);
        check_gradients(&twin, (struct tape_options){.isa = ISA_GENERIC, .reference = true}, 1e-4, ops[i].name);
        twin_free(&twin);
        graph_free(&graph);
    }
}

/* ---- whole networks ---- */

static const dla_architecture small_networks[] = {
    {.name = "basic", .levels = {1, 1, 1, 2, 1, 1}, .channels = {4, 6, 8, 8, 10, 12}, .block = DLA_BLOCK_BASIC},
    {.name = "residual_roots",
     .levels = {1, 2, 1, 3, 1, 1},
     .channels = {4, 4, 8, 8, 8, 8},
     .block = DLA_BLOCK_BOTTLENECK,
     .residual_root = true},
    {.name = "grouped",
     .levels = {1, 1, 1, 2, 1, 1},
     .channels = {4, 4, 16, 16, 16, 32},
     .block = DLA_BLOCK_BOTTLENECK,
     .cardinality = 4,
     .base_width = 32},
    {.name = "Res2Net",
     .levels = {1, 1, 1, 2, 1, 1},
     .channels = {4, 4, 16, 16, 16, 16},
     .block = DLA_BLOCK_BOTTLE2NECK,
     .base_width = 28,
     .scale = 4},
    {.name = "dense_prediction", .levels = {1, 1, 1, 1, 1, 1}, .channels = {4, 4, 6, 6, 8, 8}, .block = DLA_BLOCK_BASIC, .down_ratio = 4},
};

static dla_network *small_network(int index)
{
    dla_architecture a = small_networks[index];
    dla_network *network = NULL;
    a.cardinality = a.cardinality ? a.cardinality : 1;
    a.base_width = a.base_width ? a.base_width : 64;
    a.scale = a.scale ? a.scale : 4;
    a.num_classes = 5;
    a.in_channels = 3;
    a.output_stride = 32;
    if (dla_network_create(&a, &network) != DLA_OK)
        fail_msg("%s", dla_error_message());
    return network;
}
enum { NETWORK_COUNT = sizeof small_networks / sizeof small_networks[0] };

static void whole_networks_have_their_gradient(void **state)
{
    (void)state;
    enum isa isa;
    assert_int_equal(isa_choose(&isa), DLA_OK);
    for (int i = 0; i < NETWORK_COUNT; i++) {
        dla_network *network = small_network(i);
        struct twin twin;
        twin_create(&network->graph, 1, &twin);
        check_gradients(&twin, (struct tape_options){.isa = isa}, 2e-3, small_networks[i].name);
        twin_free(&twin);
        dla_network_destroy(network);
    }
}

/* Two runs of a network that must have the same gradients, parameters and outputs, bit for bit. */
static void check_same(const struct graph *graph, const struct fixture f[2], int batch)
{
    assert_memory_equal(f[0].gradients, f[1].gradients, (size_t)f[0].parameters.floats * sizeof(float));
    assert_memory_equal(f[0].parameters.values, f[1].parameters.values, (size_t)f[0].parameters.floats * sizeof(float));
    assert_memory_equal(tape_output(f[0].tape, NULL), tape_output(f[1].tape, NULL),
                        (size_t)output_floats(graph, &f[0], batch) * sizeof(float));
}

static void threads_change_nothing(void **state)
{
    static const struct {
        int batch, height, width;
        enum tape_by_image by_image;
    } cases[] = {{5, 64, 96, BY_IMAGE_NONE}, {5, 64, 96, BY_IMAGE_ALL}, {70, 32, 36, BY_IMAGE_ALL} /* chunks of two images */};
    (void)state;
    enum isa isa;
    assert_int_equal(isa_choose(&isa), DLA_OK);
    for (int i = 0; i < NETWORK_COUNT; i++) {
        dla_network *network = small_network(i);
        for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
            struct tape_options options = {
                .batch = cases[n].batch, .height = cases[n].height, .width = cases[n].width, .isa = isa, .by_image = cases[n].by_image};
            struct fixture f[2];
            for (int k = 0; k < 2; k++) {
                setup(&network->graph, &options, k ? 3 : 1, &f[k]);
                run(&network->graph, &f[k], options.batch);
            }
            check_same(&network->graph, f, options.batch);
            teardown(&f[0]);
            teardown(&f[1]);
        }
        dla_network_destroy(network);
    }
}

/* Convolutions image by image, with the batch norms around them: what comes out differs by rounding alone, and takes less memory. */
static void running_by_image_changes_rounding_alone(void **state)
{
    (void)state;
    enum isa isa;
    assert_int_equal(isa_choose(&isa), DLA_OK);
    for (int i = 0; i < NETWORK_COUNT; i++) {
        dla_network *network = small_network(i);
        const struct graph *graph = &network->graph;
        struct tape_options options = {.batch = 5, .height = 64, .width = 96, .isa = isa, .exact = true};
        struct fixture f[2];
        for (int k = 0; k < 2; k++) {
            options.by_image = k ? BY_IMAGE_ALL : BY_IMAGE_NONE;
            setup(graph, &options, 2, &f[k]);
            run(graph, &f[k], options.batch);
        }
        for (int p = 0; p < graph->parameter_count; p++) {
            const struct parameter *parameter = &graph->parameters[p];
            const float *trained = parameter->trainable ? f[0].gradients : f[0].parameters.values,
                        *other = parameter->trainable ? f[1].gradients : f[1].parameters.values;
            double largest = 1e-3;
            for (int64_t e = 0; e < parameter->elements; e++)
                largest = fmax(largest, fabs((double)trained[f[0].parameters.offsets[p] + e]));
            for (int64_t e = f[0].parameters.offsets[p]; e < f[0].parameters.offsets[p] + parameter->elements; e++)
                if (!(fabs((double)trained[e] - (double)other[e]) < 2e-4 * largest))
                    fail_msg("%s: %s is %g, by image %g", small_networks[i].name, parameter->name, (double)trained[e], (double)other[e]);
        }
        assert_true(tape_memory(f[1].tape).unshared < tape_memory(f[0].tape).unshared);
        teardown(&f[0]);
        teardown(&f[1]);
        dla_network_destroy(network);
    }
}

/* A second pass on the same tape gives the same gradients again, added to the first: nothing stale, nothing lost. */
static void gradients_accumulate(void **state)
{
    (void)state;
    dla_network *network = small_network(3);
    struct tape_options options = {.batch = 2, .height = 64, .width = 64, .isa = ISA_GENERIC, .by_image = BY_IMAGE_ALL};
    struct fixture f;
    setup(&network->graph, &options, 1, &f);
    run(&network->graph, &f, options.batch);
    float *once = allocate_floats(f.parameters.floats);
    assert_non_null(once);
    memcpy(once, f.gradients, (size_t)f.parameters.floats * sizeof(float));
    run(&network->graph, &f, options.batch);
    for (int64_t i = 0; i < f.parameters.floats; i++)
        assert_true(f.gradients[i] == 2.0f * once[i]);
    assert_true(tape_memory(f.tape).bytes < tape_memory(f.tape).unshared);
    assert_true(tape_memory(f.tape).bytes == tape_memory(f.tape).kept);
    memory_free(once);
    teardown(&f);
    dla_network_destroy(network);
}

/* Computing maps again instead of keeping them: less memory, and not a bit's difference, dropout and running statistics included. */
static void computing_again_changes_nothing(void **state)
{
    (void)state;
    enum isa isa;
    assert_int_equal(isa_choose(&isa), DLA_OK);
    for (int i = 0; i < 2 * NETWORK_COUNT; i++) {
        dla_network *network = small_network(i / 2);
        struct tape_options options = {.batch = 5, .height = 64, .width = 96, .isa = isa, .dropout = 0.2};
        struct fixture f[2];
        options.by_image = i % 2 ? BY_IMAGE_ALL : BY_IMAGE_NONE;
        for (int k = 0; k < 2; k++) {
            options.recompute = k;
            setup(&network->graph, &options, 2, &f[k]);
            for (int step = 0; step < 2; step++)
                run(&network->graph, &f[k], options.batch);
        }
        check_same(&network->graph, f, options.batch);
        struct tape_memory kept = tape_memory(f[0].tape), again = tape_memory(f[1].tape);
        assert_true(again.kept == kept.bytes);
        if (again.bytes * 10 > kept.bytes * 9)
            fail_msg("%s: %lld bytes instead of %lld", small_networks[i / 2].name, (long long)again.bytes, (long long)kept.bytes);
        teardown(&f[0]);
        teardown(&f[1]);
        dla_network_destroy(network);
    }
}

/* running = 0.9 * running + 0.1 * batch, the variance unbiased. */
static void running_statistics_follow_the_batch(void **state)
{
    (void)state;
    struct graph graph = {0};
    graph.output = build_batch_norm(&graph);
    struct tape_options options = {.batch = BATCH, .height = HEIGHT, .width = WIDTH, .isa = ISA_GENERIC};
    struct fixture f;
    struct twin twin;
    setup(&graph, &options, 1, &f);
    twin_create(&graph, 1, &twin);
    tape_forward(f.tape, 0);
    const struct batch_norm_params *p = &graph.nodes[graph.output].as.batch_norm;
    const double *map = twin.g.maps[graph.nodes[graph.output].inputs[0]];
    int64_t n = (int64_t)BATCH * HEIGHT * WIDTH;
    for (int c = 0; c < 5; c++) {
        double mean = 0.0, variance = 0.0;
        for (int64_t i = 0; i < n; i++)
            mean += map[i * 5 + c] / (double)n;
        for (int64_t i = 0; i < n; i++)
            variance += (map[i * 5 + c] - mean) * (map[i * 5 + c] - mean) / (double)(n - 1);
        double expected_mean = 0.9 * (double)parameter_value(&graph.parameters[p->running_mean], p->running_mean, c) + 0.1 * mean;
        double expected_var = 0.9 * (double)parameter_value(&graph.parameters[p->running_var], p->running_var, c) + 0.1 * variance;
        assert_true(fabs(expected_mean - (double)f.parameters.values[f.parameters.offsets[p->running_mean] + c]) < 1e-6);
        assert_true(fabs(expected_var - (double)f.parameters.values[f.parameters.offsets[p->running_var] + c]) < 1e-6);
    }
    twin_free(&twin);
    teardown(&f);
    graph_free(&graph);
}

/* What is frozen gets no gradient and keeps its running statistics; what lies behind it still learns, as before. */
static void check_frozen(enum tape_by_image by_image)
{
    dla_network *network = small_network(0);
    const struct graph *graph = &network->graph;
    bool *frozen = calloc((size_t)graph->parameter_count, sizeof(bool));
    assert_non_null(frozen);
    for (int i = 0; i < graph->parameter_count; i++)
        frozen[i] = strncmp(graph->parameters[i].name, "level4", 6) < 0;
    struct tape_options options = {.batch = BATCH, .height = 64, .width = 64, .isa = ISA_GENERIC, .frozen = frozen, .by_image = by_image};
    struct fixture f;
    setup(graph, &options, 1, &f);
    run(graph, &f, BATCH);
    for (int i = 0; i < graph->parameter_count; i++) {
        const struct parameter *p = &graph->parameters[i];
        double sum = 0.0;
        for (int64_t e = 0; e < p->elements; e++)
            sum += fabs((double)f.gradients[f.parameters.offsets[i] + e]);
        if (frozen[i] || !p->trainable)
            assert_true(sum == 0.0);
        else if (p->kind == PARAMETER_CONV_WEIGHT && p->shape[2] == 1)
            assert_true(sum > 0.0);
        for (int64_t e = 0; e < p->elements && frozen[i]; e++)
            assert_true(f.parameters.values[f.parameters.offsets[i] + e] == parameter_value(p, i, e));
    }
    free(frozen);
    teardown(&f);
    dla_network_destroy(network);
}

static void frozen_parameters_stay(void **state)
{
    (void)state;
    check_frozen(BY_IMAGE_NONE);
    check_frozen(BY_IMAGE_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_its_gradient),
        cmocka_unit_test(whole_networks_have_their_gradient),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(running_by_image_changes_rounding_alone),
        cmocka_unit_test(gradients_accumulate),
        cmocka_unit_test(computing_again_changes_nothing),
        cmocka_unit_test(running_statistics_follow_the_batch),
        cmocka_unit_test(frozen_parameters_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
