/* timing.c - see benchmark.h. */
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "cpu/peak.h"
#include "measure/benchmark.h"
#include "measure/samples.h"
#include "plan/device.h"

#include <math.h>

static const double noisy_peak = 0.10; /* share by which the peak before and after may differ */

dla_status benchmark_take_options(const dla_benchmark_options *given, int size, dla_benchmark_options *options)
{
    *options = (dla_benchmark_options)DLA_BENCHMARK_OPTIONS_INIT;
    dla_status status = options_take(options, sizeof *options, given, "DLA_BENCHMARK_OPTIONS_INIT");
    if (status != DLA_OK)
        return status;
    if (!(options->seconds > 0.0))
        return status_set(DLA_ERROR_ARGUMENT, "a benchmark of %g seconds; more than 0 are needed", options->seconds);
    if (options->batch < 1 || options->threads < 0)
        return status_set(DLA_ERROR_ARGUMENT,
                          "a benchmark of %d images on %d threads; a batch has at least 1, and 0 threads stand for one per core",
                          options->batch, options->threads);
    if (options->threads == 0)
        options->threads = cpu_core_count();
    if (options->height == 0)
        options->height = size;
    if (options->width == 0)
        options->width = size;
    return device_check(options->device, options->precision);
}

dla_status benchmark_create(const char *model, enum isa isa, const dla_benchmark_options *options, struct benchmark **made)
{
    char device[64];
    dla_status status = dla_device_name(options->device, device);
    struct benchmark *benchmark = status == DLA_OK ? memory_allocate_zeroed(1, sizeof *benchmark) : NULL;

    if (status != DLA_OK)
        return status;
    if (benchmark == NULL)
        return status_out_of_memory(sizeof *benchmark, "a benchmark");
    benchmark->public = (dla_benchmark){
        .model = arena_copy_string(&benchmark->arena, model),
        .isa = options->device == DLA_DEVICE_CPU ? isa_name(isa) : "cuda",
        .device = arena_copy_string(&benchmark->arena, device),
        .precision = options->precision,
        .batch = options->batch,
        .threads = options->threads,
        .height = options->height,
        .width = options->width,
    };
    if (benchmark->public.model == NULL || benchmark->public.device == NULL) {
        dla_benchmark_destroy(&benchmark->public);
        return status_out_of_memory(128, "the names of a benchmark's network and device");
    }
    *made = benchmark;
    return DLA_OK;
}

static double peak_of(const struct benchmark_machine *machine)
{
    return machine->pool != NULL ? peak_gflops(machine->isa, machine->pool) : machine->peak_gflops;
}

dla_status benchmark_time(struct benchmark *made, const struct benchmark_machine *machine, void (*work)(void *context), void *context,
                          double gflop, double seconds)
{
    dla_benchmark *b = &made->public;
    struct samples samples;
    double before = peak_of(machine), repeats = machine->repeats > 0 ? machine->repeats : 1;
    dla_status status = samples_take(&samples, work, context, seconds);

    if (status != DLA_OK)
        return status;
    double after = peak_of(machine);
    b->limits.peak_gflops = before > after ? before : after;
    b->runs = samples.count;
    b->median_ms = samples.median / repeats;
    b->min_ms = samples.minimum / repeats;
    b->spread = samples.spread;
    b->noisy = samples_are_noisy(&samples) || fabs(before - after) > noisy_peak * b->limits.peak_gflops;
    b->images_per_second = 1e3 * b->batch / b->median_ms;
    b->gflops = gflop / b->median_ms * 1e3;
    b->percent_of_peak = b->limits.peak_gflops > 0.0 ? 100.0 * b->gflops / b->limits.peak_gflops : 0.0;
    samples_free(&samples);
    return DLA_OK;
}

void dla_benchmark_destroy(dla_benchmark *benchmark)
{
    struct benchmark *made = (struct benchmark *)benchmark;

    if (made == NULL)
        return;
    arena_free(&made->arena);
    memory_free(made);
}
