/* roofline.c - the layers of a benchmark under the roofs of the machine (Williams, Waterman and Patterson, 2009).
 *
 * Both axes are logarithmic: FLOPs per byte moved, and GFLOP/s. The multiply-add units are a horizontal roof; a memory that
 * gives B bytes a second is a slope, B times the FLOPs per byte. A dot is a layer at the products that its kernel did, its area
 * the layer's share of the time. Winograd's kernels do fewer products than a convolution has by definition: a stroke leads from
 * the dot up to the speed that a direct kernel would have needed.
 */
#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text_stream.h"

#include <dla/dla.h>

#include <math.h>
#include <string.h>

enum { WIDTH = 900, HEIGHT = 600, LEFT = 70, TOP = 74, RIGHT = 200, BOTTOM = 56, MAX_KERNELS = 16, COLOURS = 8 };

static const char *const colours[COLOURS] = {"#2c6fbb", "#2c9a63", "#e2792f", "#a4489a", "#c23b4a", "#7a6a2f", "#1f9aa8", "#5d6a78"};

static const char style[] = "text{font-family:Inter,'Helvetica Neue',Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#26313d;font-size:12px}"
                            ".name{font-size:20px;font-weight:600}"
                            ".facts{fill:#5d6a78}"
                            ".tick{font-size:11px;fill:#6d7987}"
                            ".grid{stroke:#e6eaee;stroke-width:1}"
                            ".roof{stroke:#26313d;stroke-width:1.6;fill:none}"
                            ".label{font-size:11px;fill:#26313d}";

/* Powers of ten that the axes span, and the kernels that occur. */
struct chart {
    FILE *out;
    const dla_benchmark *benchmark;
    double x_low, x_high, y_low, y_high; /* log10 */
    const char *kernels[MAX_KERNELS];
    double kernel_ms[MAX_KERNELS];
    int kernel_count;
    double total_ms;
};

static double x_of(const struct chart *c, double flops_per_byte)
{
    return LEFT + (log10(flops_per_byte) - c->x_low) / (c->x_high - c->x_low) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct chart *c, double gflops)
{
    return HEIGHT - BOTTOM - (log10(gflops) - c->y_low) / (c->y_high - c->y_low) * (HEIGHT - TOP - BOTTOM);
}

static bool is_drawn(const dla_benchmark_layer *layer)
{
    return layer->computed_gflop > 0.0 && layer->ms > 0.0;
}

static double bytes_of(const dla_benchmark_layer *layer)
{
    return layer->weight_bytes + layer->map_bytes;
}

static int kernel_index(const struct chart *c, const char *kernel)
{
    for (int i = 0; i < c->kernel_count; i++)
        if (strcmp(c->kernels[i], kernel) == 0)
            return i;
    return c->kernel_count;
}

/* Axes to whole powers of ten around all dots and the peak; kernels with their time. */
static void survey(struct chart *c)
{
    const dla_benchmark *b = c->benchmark;

    c->x_low = 0.0;
    c->x_high = 2.0;
    c->y_high = ceil(log10(b->limits.peak_gflops * 1.01));
    c->y_low = c->y_high - 2.0;
    for (size_t i = 0; i < b->layer_count; i++) {
        const dla_benchmark_layer *layer = &b->layers[i];
        c->total_ms += layer->ms;
        if (!is_drawn(layer))
            continue;
        double x = log10(layer->computed_gflop * 1e9 / bytes_of(layer)), low = log10(layer->computed_gflop / layer->ms * 1e3),
               high = log10(layer->gflop / layer->ms * 1e3);
        c->x_low = fmin(c->x_low, floor(x));
        c->x_high = fmax(c->x_high, ceil(x));
        c->y_low = fmax(fmin(c->y_low, floor(low)), c->y_high - 5.0);
        c->y_high = fmax(c->y_high, ceil(high));
        int kernel = kernel_index(c, layer->kernel);
        if (kernel == MAX_KERNELS)
            continue;
        if (kernel == c->kernel_count)
            c->kernels[c->kernel_count++] = layer->kernel;
        c->kernel_ms[kernel] += layer->ms;
    }
}

static void draw_axes(const struct chart *c)
{
    int right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;

    for (int power = (int)c->x_low; power <= (int)c->x_high; power++) {
        double x = x_of(c, pow(10.0, power));
        fprintf(c->out,
                "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", x,
                TOP, bottom, x, bottom + 16, pow(10.0, power));
    }
    for (int power = (int)c->y_low; power <= (int)c->y_high; power++) {
        double y = y_of(c, pow(10.0, power));
        fprintf(c->out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, y, right, LEFT - 6, y + 4, pow(10.0, power));
    }
    fprintf(c->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">FLOPs per byte moved</text>\n", (LEFT + right) / 2, HEIGHT - 16);
    fprintf(c->out, "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>\n", (TOP + bottom) / 2);
}

/* The slope of one memory, from where it enters the chart to where it meets the peak. */
static void draw_slope(const struct chart *c, const char *name, double gbps)
{
    double peak = c->benchmark->limits.peak_gflops, enters = pow(10.0, fmax(c->x_low, c->y_low - log10(gbps)));

    if (gbps <= 0.0 || enters >= peak / gbps)
        return;
    double x1 = x_of(c, enters), y1 = y_of(c, enters * gbps), x2 = x_of(c, peak / gbps), y2 = y_of(c, peak);
    double angle = atan2(y2 - y1, x2 - x1) * 57.29577951308232;
    fprintf(c->out, "<path class=\"roof\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", x1, y1, x2, y2);
    fprintf(c->out, "<text class=\"label\" transform=\"translate(%.1f %.1f) rotate(%.1f) translate(8 -5)\">%s %.0f GB/s</text>\n", x1, y1,
            angle, name, gbps);
}

static void draw_roofs(const struct chart *c)
{
    const dla_machine_limits *limits = &c->benchmark->limits;
    double y = y_of(c, limits->peak_gflops), fastest = fmax(limits->memory_gbps, fmax(limits->l3_gbps, limits->l2_gbps));
    double ridge = fastest > 0.0 ? x_of(c, fmax(limits->peak_gflops / fastest, pow(10.0, c->x_low))) : LEFT;

    fprintf(c->out,
            "<path class=\"roof\" d=\"M%.1f %.1fH%d\"/><text class=\"label\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">multiply-adds %.0f "
            "GFLOP/s</text>\n",
            ridge, y, WIDTH - RIGHT, WIDTH - RIGHT - 4, y - 5, limits->peak_gflops);
    draw_slope(c, "memory", limits->memory_gbps);
    draw_slope(c, "L3", limits->l3_gbps);
    draw_slope(c, "L2", limits->l2_gbps);
}

static void draw_layer(const struct chart *c, const dla_benchmark_layer *layer)
{
    double flops_per_byte = layer->computed_gflop * 1e9 / bytes_of(layer), lowest = pow(10.0, c->y_low);
    double x = x_of(c, flops_per_byte), y = y_of(c, fmax(lowest, layer->computed_gflop / layer->ms * 1e3));
    double radius = 2.0 + 60.0 * sqrt(layer->ms / c->total_ms / 3.141592653589793);
    const char *colour = colours[kernel_index(c, layer->kernel) % COLOURS];

    fprintf(c->out,
            "<g fill=\"%s\" stroke=\"%s\"><title>%s: %dx%dx%d to %dx%dx%d, window %d, stride %d, %d group%s; %s, %.3f ms, %.0f GFLOP/s, "
            "bound by %s</title>",
            colour, colour, layer->name, layer->in_height, layer->in_width, layer->in_channels, layer->height, layer->width,
            layer->channels, layer->window, layer->stride, layer->groups, layer->groups == 1 ? "" : "s", layer->kernel, layer->ms,
            layer->gflop / layer->ms * 1e3, layer->bound);
    if (layer->gflop > layer->computed_gflop)
        fprintf(c->out, "<path stroke-width=\"1.2\" d=\"M%.1f %.1fV%.1fm-3 0h6\"/>", x, y, y_of(c, layer->gflop / layer->ms * 1e3));
    fprintf(c->out, "<circle fill-opacity=\".55\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/></g>\n", x, y, radius);
}

static void draw_legend(const struct chart *c)
{
    int x = WIDTH - RIGHT + 20, y = TOP + 12;

    for (int i = 0; i < c->kernel_count; i++, y += 34)
        fprintf(c->out,
                "<circle cx=\"%d\" cy=\"%d\" r=\"5\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">%s</text><text class=\"tick\" x=\"%d\" "
                "y=\"%d\">%.2f ms, %.0f %%</text>\n",
                x, y - 4, colours[i % COLOURS], x + 12, y, c->kernels[i], x + 12, y + 14, c->kernel_ms[i],
                100.0 * c->kernel_ms[i] / c->total_ms);
}

static void draw(struct chart *c)
{
    const dla_benchmark *b = c->benchmark;

    survey(c);
    fprintf(c->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n<title>%s: "
            "roofline</title>\n<style>%s</style>\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, b->model, style, WIDTH, HEIGHT);
    fprintf(c->out,
            "<text class=\"name\" x=\"%d\" y=\"32\">%s</text><text class=\"facts\" x=\"%d\" y=\"54\">%dx%d, batch %d, %d thread%s, %s: "
            "%.2f ms, "
            "%.0f GFLOP/s, %.0f %% of the peak</text>\n",
            LEFT, b->model, LEFT, b->height, b->width, b->batch, b->threads, b->threads == 1 ? "" : "s", b->isa, b->median_ms, b->gflops,
            b->percent_of_peak);
    draw_axes(c);
    draw_roofs(c);
    for (size_t i = 0; i < b->layer_count; i++)
        if (is_drawn(&b->layers[i]))
            draw_layer(c, &b->layers[i]);
    draw_legend(c);
    fputs("</svg>\n", c->out);
}

dla_status dla_benchmark_draw_roofline(const dla_benchmark *benchmark, const char *path)
{
    struct chart chart = {.benchmark = benchmark};
    struct text_stream stream;

    if (benchmark == NULL || path == NULL || benchmark->layer_count == 0)
        return status_set(DLA_ERROR_ARGUMENT, "a roofline needs a path and a benchmark with layers (dla_benchmark_options.layers)");
    if (!(benchmark->limits.peak_gflops > 0.0))
        return status_set(DLA_ERROR_UNSUPPORTED, "%s: no roofline, for it is not known how many multiply-adds %s can do", path,
                          benchmark->device);
    text_stream_open(&stream);
    chart.out = stream.file;
    if (stream.file != NULL)
        draw(&chart);
    char *text = text_stream_close(&stream);
    dla_status status = text != NULL ? file_write(path, text, strlen(text)) : status_out_of_memory(64 * 1024, "a drawing");
    memory_free(text);
    return status;
}
