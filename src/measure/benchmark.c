/* benchmark.c - how fast a network runs here, and what holds each of its steps up.
 *
 * The whole network is run until its times have settled (samples.h); then, where layers are wanted, step by step with a clock.
 * A step moves its weights once, reads its sources and writes its result, and does its products; each of the three has a limit
 * that was measured on this machine, and the longest of the three times is the step's roof:
 *
 *     products  against the FMA units
 *     weights   against memory, or the last cache where all weights of the network fit in it
 *     maps      against the cache where source and result lie: L2 of the threads that work on them, L3, memory
 *
 * The three overlap in a good kernel, so no step is faster than its roof. On a GPU a run starts and ends with maps in its memory,
 * copies are not timed, and the roof of a step is that of its products alone.
 */
#include "measure/benchmark.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "cpu/conv.h"
#include "measure/limits.h"
#include "measure/samples.h"
#include "plan/plan.h"
#include "tasks/model.h"
#include "tasks/session.h"

#include <string.h>

enum { MIN_LAYER_RUNS = 5, MAX_LAYER_RUNS = 200 };

/* What is run: a session and its input. */
struct subject {
    dla_session *session;
    dla_device device;
    int repeats;   /* passes of a run_resident */
    float *input;  /* (batch, height, width, channels) */
    float *output; /* of the one output */
    int64_t input_floats;
    dla_status status; /* of the first run that failed, as a GPU's may; the message is the thread's last */
};

static void run_once(void *context)
{
    struct subject *subject = context;

    if (subject->status == DLA_OK)
        subject->status = dla_session_run(subject->session, DLA_LAYOUT_NHWC, subject->input, &subject->output);
}

/* What is measured of a GPU: its own work, on the input that the last run_once has left there. One pass after the other, so that
 * starting the first and waiting for the last do not count. */
static void run_resident(void *context)
{
    struct subject *subject = context;

    if (subject->status == DLA_OK)
        subject->status = plan_run_resident(session_plan(subject->session), subject->repeats);
}

/* Passes that take some milliseconds together. */
static int choose_repeats(struct subject *subject)
{
    enum { TRIAL = 3, MOST = 200 };
    const double wanted_ms = 5.0;

    subject->repeats = TRIAL;
    run_resident(subject); /* warms up */
    double start = clock_milliseconds();
    run_resident(subject);
    double repeats = TRIAL * wanted_ms / (clock_milliseconds() - start + 1e-3);
    return repeats < 1.0 ? 1 : repeats > MOST ? MOST : (int)repeats;
}

static dla_status prepare_subject(const dla_model *model, const dla_session_options *options, struct subject *subject)
{
    int shape[4], channels = model->network->architecture.in_channels;
    dla_status status = dla_session_create(model, options, &subject->session);

    if (status != DLA_OK)
        return status;
    dla_session_output_shape(subject->session, 0, shape);
    size_t output_bytes = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3] * sizeof(float);
    subject->input_floats = (int64_t)options->batch * options->height * options->width * channels;
    subject->input = memory_allocate((size_t)subject->input_floats * sizeof(float));
    subject->output = memory_allocate(output_bytes);
    if (subject->input == NULL || subject->output == NULL)
        return status_out_of_memory((size_t)subject->input_floats * sizeof(float) + output_bytes, "input and output of a benchmark");
    uint32_t state = 1;
    for (int64_t i = 0; i < subject->input_floats; i++) { /* noise between -2 and 2, as normalised photographs are */
        state = state * 1664525u + 1013904223u;
        subject->input[i] = (float)(int32_t)state * 0x1p-30f;
    }
    subject->device = options->device;
    subject->repeats = 1;
    if (subject->device != DLA_DEVICE_CPU) {
        run_once(subject);
        subject->repeats = choose_repeats(subject);
    }
    return subject->status;
}

static void free_subject(struct subject *subject)
{
    dla_session_destroy(subject->session);
    memory_free(subject->input);
    memory_free(subject->output);
}

/* ---- layers ------------------------------------------------------------------------------------------------------------ */

/* Milliseconds that bytes take at gbps; 0 where that limit was not measured. */
static double transfer_ms(double bytes, double gbps)
{
    return gbps > 0.0 ? bytes / gbps * 1e-6 : 0.0;
}

/* The fastest memory that holds so many bytes, and its name. */
static double bandwidth_for(const dla_machine_limits *limits, double bytes, bool in_l2, const char **name)
{
    if (in_l2 && bytes <= (double)limits->l2_bytes) {
        *name = "L2";
        return limits->l2_gbps;
    }
    if (bytes <= (double)limits->l3_bytes) {
        *name = "L3";
        return limits->l3_gbps;
    }
    *name = "memory";
    return limits->memory_gbps;
}

static void find_roof(const dla_benchmark *b, dla_benchmark_layer *layer)
{
    const char *weights_from, *maps_in;
    double weight_gbps = bandwidth_for(&b->limits, (double)b->weight_bytes, false, &weights_from);
    double map_gbps = bandwidth_for(&b->limits, layer->map_bytes, true, &maps_in);
    double weights = transfer_ms(layer->weight_bytes, weight_gbps), maps = transfer_ms(layer->map_bytes, map_gbps);

    layer->roof_ms = b->limits.peak_gflops > 0.0 ? layer->computed_gflop / b->limits.peak_gflops * 1e3 : 0.0;
    layer->bound = "FMA";
    if (weights > layer->roof_ms) {
        layer->roof_ms = weights;
        layer->bound = weights_from;
    }
    if (maps > layer->roof_ms) {
        layer->roof_ms = maps;
        layer->bound = maps_in;
    }
}

/* A layer of the whole batch, for which the plan runs `passes` times. */
static dla_status describe_layer(struct benchmark *made, const struct plan_step_report *step, int passes, dla_benchmark_layer *layer)
{
    *layer = (dla_benchmark_layer){
        .name = arena_copy_string(&made->arena, step->name),
        .operation = op_name(step->op),
        .kernel = step->kernel,
        .in_height = step->in_height,
        .in_width = step->in_width,
        .in_channels = step->in_channels,
        .height = step->height,
        .width = step->width,
        .channels = step->channels,
        .window = step->shape != NULL ? step->shape->kernel : 0,
        .stride = step->shape != NULL ? step->shape->stride : 0,
        .groups = step->shape != NULL ? step->shape->groups : 0,
        .gflop = 2e-9 * step->multiply_adds * passes,
        .computed_gflop = 2e-9 * step->products * passes,
        .weight_bytes = step->weight_bytes * passes,
        .map_bytes = step->map_bytes * passes,
    };
    if (layer->name == NULL)
        return status_out_of_memory(strlen(step->name) + 1, "the layers of a benchmark");
    find_roof(&made->public, layer);
    return DLA_OK;
}

/* Runs the plan step by step, as often as a third of `seconds` allows. */
static dla_status measure_layers(struct benchmark *made, const struct subject *subject, double seconds)
{
    struct plan *plan = session_plan(subject->session);
    int steps = plan_step_count(plan), passes = session_passes(subject->session);
    double wanted = seconds / 3.0 * 1e3 / made->public.median_ms;
    int runs = wanted < MIN_LAYER_RUNS ? MIN_LAYER_RUNS : wanted > MAX_LAYER_RUNS ? MAX_LAYER_RUNS : (int)wanted;
    dla_benchmark_layer *layers = arena_allocate_array(&made->arena, (size_t)steps, sizeof *layers);
    double *times = arena_allocate_array(&made->arena, (size_t)(steps + 1) * (size_t)runs, sizeof *times), *step_times = NULL;

    if (layers == NULL || times == NULL)
        return status_out_of_memory((size_t)steps * (size_t)runs * sizeof *times, "the times of layers");
    for (int run = 0; run < runs; run++) {
        memcpy(plan_input(plan), subject->input, (size_t)(subject->input_floats / passes) * sizeof(float));
        dla_status status = plan_run_timed(plan, times + (size_t)run * (size_t)steps);
        if (status != DLA_OK)
            return status;
    }
    step_times = times + (size_t)runs * (size_t)steps;
    for (int i = 0; i < steps; i++) {
        struct plan_step_report step = plan_step_report(plan, i);
        dla_status status = describe_layer(made, &step, passes, &layers[i]);
        if (status != DLA_OK)
            return status;
        for (int run = 0; run < runs; run++)
            step_times[run] = times[(size_t)run * (size_t)steps + (size_t)i];
        layers[i].ms = 1e3 * passes * median_of(step_times, runs);
    }
    made->public.layers = layers;
    made->public.layer_count = (size_t)steps;
    return DLA_OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static double gflop_of(const struct plan *plan)
{
    double multiply_adds = 0.0;

    for (int i = 0; i < plan_step_count(plan); i++)
        multiply_adds += plan_step_report(plan, i).multiply_adds;
    return 2e-9 * multiply_adds;
}

static dla_status measure(struct subject *subject, const dla_benchmark_options *options, enum isa isa, struct benchmark *made)
{
    dla_benchmark *b = &made->public;
    struct plan *plan = session_plan(subject->session);
    bool cpu = subject->device == DLA_DEVICE_CPU;
    struct benchmark_machine machine = {
        .isa = isa,
        .pool = cpu ? session_thread_pool(subject->session) : NULL,
        .peak_gflops = plan_peak_gflops(plan),
        .repeats = subject->repeats,
    };
    struct plan_memory memory = plan_memory(plan);
    double gflop = session_passes(subject->session) * gflop_of(plan);
    dla_status status;

    b->activation_bytes = memory.activation_bytes;
    b->activation_bound = memory.activation_bound;
    b->weight_bytes = memory.weight_bytes;
    b->scratch_bytes = memory.scratch_bytes;
    if ((options->layers && cpu && (status = measure_bandwidths(isa, machine.pool, &b->limits)) != DLA_OK)
        || (status = benchmark_time(made, &machine, cpu ? run_once : run_resident, subject, gflop, options->seconds)) != DLA_OK
        || (status = subject->status) != DLA_OK)
        return status;
    return options->layers ? measure_layers(made, subject, options->seconds) : DLA_OK;
}

dla_status dla_benchmark_run(const dla_model *model, const dla_benchmark_options *given, dla_benchmark **benchmark)
{
    dla_benchmark_options options;
    dla_session_options session = DLA_SESSION_OPTIONS_INIT;
    struct subject subject = {0};
    struct benchmark *made;
    enum isa isa;
    dla_status status;

    if (model == NULL || benchmark == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_benchmark_run: model and benchmark must not be NULL");
    if ((status = network_check_levels(model->network, "a benchmark")) != DLA_OK
        || (status = benchmark_take_options(given, model->preprocessing.size, &options)) != DLA_OK || (status = isa_choose(&isa)) != DLA_OK
        || (status = benchmark_create(model->network->architecture.name, isa, &options, &made)) != DLA_OK)
        return status;
    session.batch = options.batch;
    session.height = options.height;
    session.width = options.width;
    session.threads = options.threads;
    session.exact = options.exact;
    session.half_weights = options.half_weights;
    session.tune = options.tune;
    session.device = options.device;
    session.precision = options.precision;
    if ((status = prepare_subject(model, &session, &subject)) == DLA_OK)
        status = measure(&subject, &options, isa, made);
    free_subject(&subject);
    if (status != DLA_OK)
        dla_benchmark_destroy(&made->public);
    else
        *benchmark = &made->public;
    return status;
}
