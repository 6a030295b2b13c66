/* bench_report.c - see bench_report.h. */
#include "bench_report.h"

#include "common_options.h"
#include "json_output.h"

#include <stdio.h>
#include <string.h>

static bool on_gpu(const dla_benchmark *b)
{
    return strcmp(b->isa, "cuda") == 0;
}

/* Where the CPU's table has the threads, a GPU's has the precision. */
void print_bench_header(const dla_benchmark *b)
{
    if (on_gpu(b))
        printf("%s\n", b->device);
    printf("%-16s %9s %8s %6s %8s %10s %10s %8s %10s %9s %8s\n", "model", "params, M", "GFLOPs", "batch", on_gpu(b) ? "as" : "threads",
           "median ms", "min ms", "spread", "images/s", "GFLOP/s", "of peak");
}

void print_bench_row(const dla_benchmark *b, const dla_census *census)
{
    char threads[16], of_peak[32] = "       -";

    snprintf(threads, sizeof(threads), "%d", b->threads);
    if (b->limits.peak_gflops > 0.0)
        snprintf(of_peak, sizeof(of_peak), "%6.0f %%", b->percent_of_peak);
    printf("%-16s %9.1f %8.2f %6d %8s %10.3f %10.3f %6.1f %% %10.1f %9.1f %s%s\n", b->model, (double)census->params / 1e6,
           (double)census->flops / 1e9, b->batch, on_gpu(b) ? precision_name(b->precision) : threads, b->median_ms, b->min_ms,
           100.0 * b->spread, b->images_per_second, b->gflops, of_peak, b->noisy ? "  noisy" : "");
}

/* ---- layers ------------------------------------------------------------------------------------------------------------ */

static void print_layer(const dla_benchmark_layer *layer)
{
    char in[48], out[48], window[64] = "";

    snprintf(in, sizeof(in), "%dx%dx%d", layer->in_height, layer->in_width, layer->in_channels);
    snprintf(out, sizeof(out), "%dx%dx%d", layer->height, layer->width, layer->channels);
    if (layer->window > 0)
        snprintf(window, sizeof(window), "%dx%d/%d g%d", layer->window, layer->window, layer->stride, layer->groups);
    printf("%-34s %-14s %-14s %-11s %-26s %8.3f %9.1f %9.2f %9.2f  %-6s %4.0f %%\n", layer->name, in, out, window, layer->kernel, layer->ms,
           layer->gflop / layer->ms * 1e3, layer->weight_bytes / 1e6, layer->map_bytes / 1e6, layer->bound,
           100.0 * layer->roof_ms / layer->ms);
}

static void print_kernels(const dla_benchmark *b, double total)
{
    printf("\n%-26s %6s %8s %7s %9s %9s %11s\n", "kernel", "steps", "ms", "share", "GFLOP/s", "roof ms", "roof share");
    for (size_t i = 0; i < b->layer_count; i++) {
        const char *kernel = b->layers[i].kernel;
        double ms = 0.0, gflop = 0.0, roof = 0.0;
        int steps = 0;
        bool seen = false;

        for (size_t k = 0; k < i; k++)
            seen = seen || strcmp(b->layers[k].kernel, kernel) == 0;
        for (size_t k = i; k < b->layer_count && !seen; k++)
            if (strcmp(b->layers[k].kernel, kernel) == 0) {
                ms += b->layers[k].ms;
                gflop += b->layers[k].gflop;
                roof += b->layers[k].roof_ms;
                steps++;
            }
        if (!seen)
            printf("%-26s %6d %8.3f %5.1f %% %9.1f %9.3f %9.0f %%\n", kernel, steps, ms, 100.0 * ms / total, gflop / ms * 1e3, roof,
                   100.0 * roof / ms);
    }
}

static void print_bandwidth(const char *name, double gbps, size_t bytes)
{
    if (gbps > 0.0)
        printf(", %s %.0f GB/s", name, gbps);
    if (gbps > 0.0 && bytes > 0)
        printf(" (%.0f MB)", (double)bytes / 1e6);
}

void print_bench_layers(const dla_benchmark *b)
{
    double total = 0.0, roof = 0.0;

    printf("\n%s, %dx%d, batch %d, ", b->model, b->height, b->width, b->batch);
    if (on_gpu(b))
        printf("%s, %s\n", b->device, precision_name(b->precision));
    else
        printf("%d thread%s, %s\n", b->threads, b->threads == 1 ? "" : "s", b->isa);
    printf("%-34s %-14s %-14s %-11s %-26s %8s %9s %9s %9s  %-6s %6s\n", "step", "in", "out", "window", "kernel", "ms", "GFLOP/s",
           "weight MB", "map MB", "bound", "roof");
    for (size_t i = 0; i < b->layer_count; i++) {
        print_layer(&b->layers[i]);
        total += b->layers[i].ms;
        roof += b->layers[i].roof_ms;
    }
    print_kernels(b, total);
    printf("\nsteps together %.3f ms, their roofs %.3f ms; the whole network %.3f ms\n", total, roof, b->median_ms);
    printf("%s: multiply-adds ", on_gpu(b) ? b->device : "this machine");
    if (b->limits.peak_gflops > 0.0)
        printf("%.0f GFLOP/s", b->limits.peak_gflops);
    else
        printf("at an unknown speed");
    print_bandwidth("L2", b->limits.l2_gbps, b->limits.l2_bytes);
    print_bandwidth("L3", b->limits.l3_gbps, b->limits.l3_bytes);
    print_bandwidth("memory", b->limits.memory_gbps, 0);
    printf("\nmemory: activations %.2f MB (at least %.2f MB are alive at one step), weights %.2f MB, scratch %.2f MB\n\n",
           (double)b->activation_bytes / 1e6, (double)b->activation_bound / 1e6, (double)b->weight_bytes / 1e6,
           (double)b->scratch_bytes / 1e6);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------- */

static json_t *shape_json(int height, int width, int channels)
{
    json_t *shape = json_array();

    json_add(shape, json_integer(height));
    json_add(shape, json_integer(width));
    json_add(shape, json_integer(channels));
    return shape;
}

static json_t *layer_json(const dla_benchmark_layer *layer)
{
    json_t *object = json_object();

    json_put(object, "name", json_text(layer->name));
    json_put(object, "operation", json_text(layer->operation));
    json_put(object, "kernel", json_text(layer->kernel));
    json_put(object, "input", shape_json(layer->in_height, layer->in_width, layer->in_channels));
    json_put(object, "output", shape_json(layer->height, layer->width, layer->channels));
    if (layer->window > 0) {
        json_put(object, "window", json_integer(layer->window));
        json_put(object, "stride", json_integer(layer->stride));
        json_put(object, "groups", json_integer(layer->groups));
    }
    json_put(object, "ms", json_real(layer->ms));
    json_put(object, "gflops", json_real(layer->gflop / layer->ms * 1e3));
    json_put(object, "computed_gflops", json_real(layer->computed_gflop / layer->ms * 1e3));
    json_put(object, "weight_bytes", json_real(layer->weight_bytes));
    json_put(object, "map_bytes", json_real(layer->map_bytes));
    json_put(object, "roof_ms", json_real(layer->roof_ms));
    json_put(object, "bound", json_text(layer->bound));
    return object;
}

static json_t *limits_json(const dla_machine_limits *limits)
{
    json_t *object = json_object();

    json_put(object, "peak_gflops", json_real(limits->peak_gflops));
    json_put(object, "l2_gbps", json_real(limits->l2_gbps));
    json_put(object, "l3_gbps", json_real(limits->l3_gbps));
    json_put(object, "memory_gbps", json_real(limits->memory_gbps));
    json_put(object, "l2_bytes", json_integer((json_int_t)limits->l2_bytes));
    json_put(object, "l3_bytes", json_integer((json_int_t)limits->l3_bytes));
    return object;
}

json_t *bench_json(const dla_benchmark *b, const dla_census *census)
{
    json_t *object = json_object();

    json_put(object, "model", json_text(b->model));
    json_put(object, "batch", json_integer(b->batch));
    json_put(object, "threads", json_integer(b->threads));
    json_put(object, "height", json_integer(b->height));
    json_put(object, "width", json_integer(b->width));
    json_put(object, "isa", json_text(b->isa));
    json_put(object, "device", json_text(b->device));
    json_put(object, "precision", json_text(precision_name(b->precision)));
    json_put(object, "median_ms", json_real(b->median_ms));
    json_put(object, "min_ms", json_real(b->min_ms));
    json_put(object, "spread", json_real(b->spread));
    json_put(object, "images_per_second", json_real(b->images_per_second));
    json_put(object, "gflops", json_real(b->gflops));
    json_put(object, "percent_of_peak", json_real(b->percent_of_peak));
    json_put(object, "peak_gflops", json_real(b->limits.peak_gflops));
    json_put(object, "noisy", json_boolean(b->noisy));
    json_put(object, "runs", json_integer(b->runs));
    json_put(object, "params", json_integer(census->params));
    json_put(object, "flops", json_integer(census->flops));
    json_put(object, "activation_bytes", json_integer((json_int_t)b->activation_bytes));
    json_put(object, "activation_bound", json_integer((json_int_t)b->activation_bound));
    json_put(object, "weight_bytes", json_integer((json_int_t)b->weight_bytes));
    json_put(object, "scratch_bytes", json_integer((json_int_t)b->scratch_bytes));
    if (b->layers == NULL)
        return object;
    json_t *layers = json_array();
    for (size_t i = 0; i < b->layer_count; i++)
        json_add(layers, layer_json(&b->layers[i]));
    json_put(object, "limits", limits_json(&b->limits));
    json_put(object, "layers", layers);
    return object;
}
