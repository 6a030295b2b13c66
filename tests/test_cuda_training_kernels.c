/* Training's kernels on the GPU, each beside what defines it: the loops of cpu/ and train/, or loops here. Sizes, strides and addresses are
 * such that vectors and blocks do not divide them. Needs a GPU; cuDNN's convolutions are tested where cuDNN is found. */
#include "cuda_check.h"

#include "base/counter_random.h"
#include "base/memory.h"
#include "cpu/training.h"
#include "cuda/cuda_map.h"
#include "cuda/cuda_training.h"
#include "cuda/cudnn_conv.h"
#include "net/network.h"
#include "tasks/dense_target.h"
#include "train/dense_loss.h"
#include "train/loss.h"
#include "train/optimiser.h"

static cudaStream_t stream;

static const struct {
    const char *name;
    enum cuda_format format;
    double tolerance; /* of results that were rounded once */
} formats[] = {{"float32", CUDA_FLOAT32, 4e-6}, {"float16", CUDA_FLOAT16, 1e-3}, {"bfloat16", CUDA_BFLOAT16, 8e-3}};
enum { FORMATS = sizeof formats / sizeof formats[0] };

/* ---- maps on both sides ---- */

static void expect_close(const float *actual, const float *expected, int64_t count, double tolerance, const char *what)
{
    double error = cuda_largest_error(actual, expected, count);
    int64_t worst = 0;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)actual[i] - (double)expected[i]) <= fabs((double)actual[worst] - (double)expected[worst])))
            worst = i;
    cuda_expect(error <= tolerance, "%s: off by %.3g of the largest (%.3g allowed); element %lld of %lld is %.8g, expected %.8g", what,
                error, tolerance, (long long)worst, (long long)count, count ? (double)actual[worst] : 0.0,
                count ? (double)expected[worst] : 0.0);
}

/* A map here, contiguous, and on the GPU, inside pixels that are `gap` channels wider. */
struct twin {
    float *host; /* (pixels, channels), rounded to the format */
    struct cuda_view view;
    int64_t pixels;
    int channels, gap;
    enum cuda_format format;
    void *memory; /* (pixels, channels + gap) */
};

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    printf("FAILED: %s: %s; nothing more can be tested\n", what, cudaGetErrorString(error));
    exit(1);
}

static void *device_memory(size_t bytes)
{
    void *memory = NULL;
    must(cudaMalloc(&memory, bytes > 16 ? bytes : 16), "cudaMalloc");
    must(cudaMemset(memory, 0, bytes > 16 ? bytes : 16), "cudaMemset");
    must(cudaDeviceSynchronize(), "cudaMemset");
    return memory;
}

static void *to_device(const void *host, size_t bytes)
{
    void *memory = device_memory(bytes);
    must(cudaMemcpy(memory, host, bytes, cudaMemcpyHostToDevice), "copy to the GPU");
    must(cudaDeviceSynchronize(), "copy to the GPU");
    return memory;
}

static void from_device(void *host, const void *memory, size_t bytes)
{
    must(cudaStreamSynchronize(stream), "a kernel");
    must(cudaMemcpy(host, memory, bytes, cudaMemcpyDeviceToHost), "copy from the GPU");
}

/* (pixels, channels) of a view. */
static float *read_view(enum cuda_format format, struct cuda_view view, int64_t pixels, int channels)
{
    float *host = cuda_floats(pixels * channels), *memory = device_memory((size_t)(pixels * channels) * sizeof(float));
    cuda_to_float(format, view, pixels, channels, memory, stream);
    from_device(host, memory, (size_t)(pixels * channels) * sizeof(float));
    cuda_free(memory);
    return host;
}

/* values NULL: zeros. */
static struct twin make_twin(enum cuda_format format, int64_t pixels, int channels, int gap, const float *values)
{
    struct twin t = {.pixels = pixels, .channels = channels, .gap = gap, .format = format};
    t.memory = device_memory((size_t)(pixels * (channels + gap)) * cuda_format_bytes(format));
    t.view = (struct cuda_view){(char *)t.memory + (size_t)(gap / 2) * cuda_format_bytes(format), channels + gap};
    if (values) {
        float *memory = to_device(values, (size_t)(pixels * channels) * sizeof(float));
        cuda_pad_channels(memory, pixels, channels, format, t.view, channels, stream);
        must(cudaStreamSynchronize(stream), "cuda_pad_channels");
        cuda_free(memory);
    }
    t.host = read_view(format, t.view, pixels, channels);
    return t;
}

static struct twin random_twin(enum cuda_format format, int64_t pixels, int channels, int gap, uint64_t key)
{
    float *values = cuda_floats(pixels * channels);
    for (int64_t i = 0; i < pixels * channels; i++)
        values[i] = (float)(counter_uniform(key, (uint64_t)i) * 2.0 - 1.0);
    struct twin t = make_twin(format, pixels, channels, gap, values);
    free(values);
    return t;
}

static void free_twin(struct twin *t)
{
    free(t->host);
    cuda_free(t->memory);
    *t = (struct twin){0};
}

/* The GPU's map is the host's now, and what lies between its pixels was not touched. */
static void expect_twin(const struct twin *t, double tolerance, const char *what)
{
    float *actual = read_view(t->format, t->view, t->pixels, t->channels);
    expect_close(actual, t->host, t->pixels * t->channels, tolerance, what);
    free(actual);
    int wide = t->channels + t->gap;
    float *all = read_view(t->format, (struct cuda_view){t->memory, wide}, t->pixels, wide);
    int64_t touched = 0;
    for (int64_t p = 0; p < t->pixels; p++)
        for (int c = 0; c < wide; c++)
            touched += (c < t->gap / 2 || c >= t->gap / 2 + t->channels) && all[p * wide + c] != 0.0f;
    cuda_expect(touched == 0, "%s: %lld elements beside the map were written", what, (long long)touched);
    free(all);
}

static struct const_view host_view(const struct twin *t)
{
    return (struct const_view){t->host, t->channels};
}

static struct map_view host_map(const struct twin *t)
{
    return (struct map_view){t->host, t->channels};
}

static const struct {
    int64_t pixels;
    int channels, gap;
} sizes[] = {{1, 1, 0}, {7, 3, 0}, {1000, 5, 3}, {77, 16, 0}, {5000, 20, 8}, {40, 260, 8}, {2049, 64, 6}, {131, 512, 0}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* ---- batch norm ---- */

struct norm_case {
    bool relu, residual, fixed, add_in, add_residual, in_place;
};

/* All passes beside the definition, in double. */
static void norm_items(enum cuda_format format, double tolerance, int64_t pixels, int channels, int gap, struct norm_case c,
                       const char *what)
{
    enum { WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, PARAMETERS };
    const float momentum = 0.1f, epsilon = 1e-5f;
    double n = (double)pixels;
    char text[256];
    if (pixels == 1) /* x - mean is 0 times 1 / sqrt(epsilon), of which 316 x - 316 mean is left */
        tolerance = fmax(tolerance, 1e-4);
    struct twin in = random_twin(format, pixels, channels, gap, 1), residual = random_twin(format, pixels, channels, 0, 2);
    struct twin out = make_twin(format, pixels, channels, gap, NULL), out_gradient = random_twin(format, pixels, channels, gap, 3);
    struct twin in_gradient = random_twin(format, pixels, channels, 0, 4),
                residual_gradient = random_twin(format, pixels, channels, gap, 5);
    float *parameters = cuda_floats((int64_t)PARAMETERS * channels), *gradients = cuda_floats(2 * (int64_t)channels);
    for (int i = 0; i < PARAMETERS * channels; i++)
        parameters[i] = (float)(counter_uniform(6, (uint64_t)i) + (i / channels == RUNNING_VAR ? 0.5 : -0.3));
    float *device = to_device(parameters, (size_t)(PARAMETERS * channels) * sizeof(float));
    float *device_gradients = device_memory(2 * (size_t)channels * sizeof(float)),
          *kept = device_memory(6 * (size_t)channels * sizeof(float));
    double *sums = device_memory((size_t)cuda_norm_sums(pixels, channels) * sizeof(double));

    struct cuda_norm_call call = {.format = format, .pixels = pixels, .channels = channels, .relu = c.relu, .fixed = c.fixed};
    call.momentum = momentum;
    call.epsilon = epsilon;
    call.in = in.view;
    call.out = out.view;
    if (c.residual)
        call.residual = residual.view;
    call.weight = device;
    call.bias = device + channels;
    call.running_mean = device + 2 * channels;
    call.running_var = device + 3 * channels;
    call.mean = kept;
    call.deviation_inverse = kept + channels;
    call.scale = kept + 2 * channels;
    call.shift = kept + 3 * channels;
    call.gradient_of_x = kept + 4 * channels;
    call.gradient_constant = kept + 5 * channels;
    call.sums = sums;
    cuda_norm_forward(&call, false, stream);
    float *first = read_view(format, out.view, pixels, channels);

    for (int ch = 0; ch < channels; ch++) {
        double mean = 0.0, variance = 0.0, *statistics[] = {&mean, &variance};
        for (int64_t p = 0; p < pixels; p++)
            mean += (double)in.host[p * channels + ch] / n;
        for (int64_t p = 0; p < pixels; p++)
            variance += ((double)in.host[p * channels + ch] - mean) * ((double)in.host[p * channels + ch] - mean) / n;
        for (int k = 0; k < 2; k++) {
            float *running = &parameters[(RUNNING_MEAN + k) * channels + ch];
            if (c.fixed)
                *statistics[k] = (double)*running;
            else
                *running = (float)(0.9 * (double)*running + 0.1 * *statistics[k] * (k && n > 1.0 ? n / (n - 1.0) : 1.0));
        }
        double inverse = 1.0 / sqrt(variance + (double)epsilon), weight = (double)parameters[ch], scale = weight * inverse;
        double sum = 0.0, product = 0.0;
        for (int64_t p = 0; p < pixels; p++) {
            int64_t e = p * channels + ch;
            double z =
                scale * ((double)in.host[e] - mean) + (double)parameters[channels + ch] + (c.residual ? (double)residual.host[e] : 0.0);
            out.host[e] = (float)(c.relu ? fmax(z, 0.0) : z);
            /* The mask that the GPU saw, which rounding may have turned: it is the gradient that is tested here. */
            double m = c.relu && !(first[e] > 0.0f) ? 0.0 : (double)out_gradient.host[e];
            sum += m;
            product += m * ((double)in.host[e] - mean) * inverse;
        }
        gradients[ch] = (float)product;
        gradients[channels + ch] = (float)sum;
        for (int64_t p = 0; p < pixels; p++) {
            int64_t e = p * channels + ch;
            double m = c.relu && !(first[e] > 0.0f) ? 0.0 : (double)out_gradient.host[e], x = ((double)in.host[e] - mean) * inverse;
            double d = c.fixed ? scale * m : scale * (m - sum / n - x * product / n);
            residual_gradient.host[e] = (float)((c.add_residual ? (double)residual_gradient.host[e] : 0.0) + m);
            in_gradient.host[e] = (float)((c.add_in ? (double)in_gradient.host[e] : 0.0) + d);
        }
    }
    snprintf(text, sizeof text, "%s: forward", what);
    expect_twin(&out, tolerance, text);
    float *actual = cuda_floats((int64_t)PARAMETERS * channels);
    from_device(actual, device, (size_t)(PARAMETERS * channels) * sizeof(float));
    snprintf(text, sizeof text, "%s: running statistics", what);
    expect_close(actual, parameters, (int64_t)PARAMETERS * channels, 2e-6, text);

    call.out_gradient = out_gradient.view;
    call.in_gradient = c.in_place ? out_gradient.view : in_gradient.view;
    if (c.residual)
        call.residual_gradient = residual_gradient.view;
    call.accumulate_in = c.add_in;
    call.accumulate_residual = c.add_residual;
    call.weight_gradient = device_gradients;
    call.bias_gradient = device_gradients + channels;
    cuda_norm_backward(&call, stream);
    snprintf(text, sizeof text, "%s: gradient of x", what);
    /* One pixel: the gradient is 0, what is left is rounding times 1 / sqrt(epsilon). */
    if (pixels > 1 || c.fixed) {
        if (c.in_place) {
            memcpy(out_gradient.host, in_gradient.host, (size_t)(pixels * channels) * sizeof(float));
            expect_twin(&out_gradient, 4.0 * tolerance, text);
        } else {
            expect_twin(&in_gradient, 4.0 * tolerance, text);
        }
    }
    snprintf(text, sizeof text, "%s: gradient of the residual", what);
    if (c.residual)
        expect_twin(&residual_gradient, tolerance, text);
    from_device(actual, device_gradients, 2 * (size_t)channels * sizeof(float));
    snprintf(text, sizeof text, "%s: gradients of weight and bias", what);
    expect_close(actual, gradients, 2 * (int64_t)channels, 2e-5, text);
    cuda_norm_forward(&call, true, stream);
    float *again = read_view(format, out.view, pixels, channels);
    cuda_expect(memcmp(first, again, (size_t)(pixels * channels) * sizeof(float)) == 0, "%s: the second forward pass differs", what);

    free(again);
    free(first);
    free(actual);
    free(parameters);
    free(gradients);
    cuda_free(device);
    cuda_free(device_gradients);
    cuda_free(kept);
    cuda_free(sums);
    struct twin *twins[] = {&in, &residual, &out, &out_gradient, &in_gradient, &residual_gradient};
    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++)
        free_twin(twins[i]);
}

static void norms(void)
{
    static const struct norm_case cases[] = {
        {.in_place = true},
        {.relu = true, .in_place = true},
        {.relu = true, .residual = true, .in_place = true},
        {.residual = true, .add_residual = true, .add_in = true},
        {.relu = true, .residual = true, .fixed = true, .add_residual = true},
    };
    char what[128];
    for (int f = 0; f < FORMATS; f++)
        for (size_t s = 0; s < SIZES; s++)
            for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
                snprintf(what, sizeof what, "batch norm case %zu, %s, %lld pixels of %d channels, gap %d", c, formats[f].name,
                         (long long)sizes[s].pixels, sizes[s].channels, sizes[s].gap);
                norm_items(formats[f].format, formats[f].tolerance, sizes[s].pixels, sizes[s].channels, sizes[s].gap, cases[c], what);
            }
    /* A mean a thousand times the deviation. */
    float *values = cuda_floats(3000 * 4);
    for (int i = 0; i < 3000 * 4; i++)
        values[i] = (float)(100.0 + 0.1 * counter_uniform(8, (uint64_t)i));
    struct twin in = make_twin(CUDA_FLOAT32, 3000, 4, 0, values), out = make_twin(CUDA_FLOAT32, 3000, 4, 0, NULL);
    float *memory = device_memory(10 * 4 * sizeof(float)), ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    double *sums = device_memory((size_t)cuda_norm_sums(3000, 4) * sizeof(double));
    must(cudaMemcpy(memory, ones, sizeof ones, cudaMemcpyHostToDevice), "copy to the GPU");
    struct cuda_norm_call call = {.format = CUDA_FLOAT32, .pixels = 3000, .channels = 4, .momentum = 0.1f, .in = in.view, .out = out.view};
    call.weight = memory;
    call.bias = memory + 4;
    call.running_mean = memory + 8;
    call.running_var = memory + 12;
    call.mean = memory + 16;
    call.deviation_inverse = memory + 20;
    call.scale = memory + 24;
    call.shift = memory + 28;
    call.sums = sums;
    cuda_norm_forward(&call, false, stream);
    for (int c = 0; c < 4; c++) {
        double mean = 0.0, variance = 0.0;
        for (int p = 0; p < 3000; p++)
            mean += (double)values[p * 4 + c] / 3000.0;
        for (int p = 0; p < 3000; p++)
            variance += ((double)values[p * 4 + c] - mean) * ((double)values[p * 4 + c] - mean) / 3000.0;
        for (int p = 0; p < 3000; p++)
            out.host[p * 4 + c] = (float)(((double)values[p * 4 + c] - mean) / sqrt(variance));
    }
    expect_twin(&out, 1e-3, "batch norm of values far from zero"); /* scale x + shift in float: 100 / 0.03 * 2^-24 */
    free(values);
    free_twin(&in);
    free_twin(&out);
    cuda_free(memory);
    cuda_free(sums);
}

/* ---- element by element ---- */

static void elements_of(int f, int s)
{
    enum cuda_format format = formats[f].format;
    double tolerance = formats[f].tolerance;
    int64_t pixels = sizes[s].pixels;
    int channels = sizes[s].channels, gap = sizes[s].gap;
    const struct training_kernels *k = training_kernels(ISA_GENERIC);
    char text[160], what[128];
    snprintf(what, sizeof what, "%s, %lld pixels of %d channels, gap %d", formats[f].name, (long long)pixels, channels, gap);
    struct twin a = random_twin(format, pixels, channels, gap, 11), b = random_twin(format, pixels, channels, 0, 12);
    for (int add = 0; add < 2; add++) {
        struct twin to = random_twin(format, pixels, channels, gap, 13);
        cuda_accumulate(format, pixels, channels, a.view, to.view, add, stream);
        k->map_copy(pixels, channels, host_view(&a), host_map(&to), add);
        snprintf(text, sizeof text, "%s, %s", add ? "add" : "copy", what);
        expect_twin(&to, tolerance, text);
        free_twin(&to);
        to = random_twin(format, pixels, channels, gap, 13);
        cuda_relu_backward(format, pixels, channels, a.view, b.view, to.view, add, stream);
        k->map_relu_backward(pixels, channels, host_view(&a), host_view(&b), host_map(&to), add);
        snprintf(text, sizeof text, "relu backward, %s", what);
        expect_twin(&to, tolerance, text);
        free_twin(&to);
        to = random_twin(format, pixels, channels, gap, 13);
        float *logarithms = cuda_floats(pixels * channels);
        for (int64_t i = 0; i < pixels * channels; i++)
            logarithms[i] = -2.0f - a.host[i];
        struct twin y = make_twin(format, pixels, channels, gap, logarithms);
        cuda_log_softmax_backward(format, pixels, channels, y.view, b.view, to.view, add, stream);
        k->log_softmax_backward(pixels, channels, host_view(&y), host_view(&b), host_map(&to), add);
        snprintf(text, sizeof text, "log softmax backward, %s", what);
        expect_twin(&to, 2.0 * tolerance, text);
        free(logarithms);
        free_twin(&y);
        free_twin(&to);
    }
    struct twin to = random_twin(format, pixels, channels, gap, 13);
    cuda_zero(format, pixels, channels, to.view, stream);
    memset(to.host, 0, (size_t)(pixels * channels) * sizeof(float));
    snprintf(text, sizeof text, "zero, %s", what);
    expect_twin(&to, 0.0, text);
    free_twin(&to);

    float *bias = cuda_floats(channels), *expected = cuda_floats(channels);
    for (int c = 0; c < channels; c++)
        bias[c] = expected[c] = (float)counter_uniform(14, (uint64_t)c);
    float *device_bias = to_device(bias, (size_t)channels * sizeof(float));
    double *sums = device_memory((size_t)cuda_norm_sums(pixels, channels) * sizeof(double));
    to = random_twin(format, pixels, channels, gap, 15);
    cuda_add_bias(format, pixels, channels, device_bias, to.view, stream);
    for (int64_t p = 0; p < pixels; p++)
        for (int c = 0; c < channels; c++)
            to.host[p * channels + c] += bias[c];
    snprintf(text, sizeof text, "add bias, %s", what);
    expect_twin(&to, tolerance, text);
    cuda_bias_gradient(format, pixels, channels, a.view, sums, device_bias, stream);
    for (int c = 0; c < channels; c++) {
        double sum = 0.0;
        for (int64_t p = 0; p < pixels; p++)
            sum += (double)a.host[p * channels + c];
        expected[c] += (float)sum;
    }
    from_device(bias, device_bias, (size_t)channels * sizeof(float));
    snprintf(text, sizeof text, "bias gradient, %s", what);
    expect_close(bias, expected, channels, 1e-5, text);
    free_twin(&to);

    to = random_twin(format, pixels, channels, gap, 16);
    cuda_drop(format, pixels, channels, to.view, 17, 0.3, stream);
    for (int64_t i = 0; i < pixels * channels; i++)
        to.host[i] *= counter_uniform(17, (uint64_t)i) < 0.3 ? 0.0f : (float)(1.0 / 0.7);
    snprintf(text, sizeof text, "dropout, %s", what);
    expect_twin(&to, tolerance, text);
    free_twin(&to);
    cuda_free(sums);
    cuda_free(device_bias);
    free(bias);
    free(expected);
    free_twin(&a);
    free_twin(&b);
}

static void elements(void)
{
    for (int f = 0; f < FORMATS; f++)
        for (int s = 0; s < (int)SIZES; s++)
            elements_of(f, s);
}

/* ---- windows ---- */

static const struct {
    int batch, height, width, channels, kernel, stride, padding, dilation, gap;
} windows[] = {
    {2, 8, 6, 16, 2, 2, 0, 1, 0}, {3, 9, 7, 5, 2, 2, 0, 1, 3},   {2, 7, 7, 20, 3, 2, 1, 1, 8},
    {1, 6, 9, 3, 2, 1, 0, 2, 0},  {2, 5, 5, 260, 3, 1, 1, 1, 4}, {2, 6, 5, 8, 3, 1, 2, 2, 0},
};

/* One image of a contiguous map here. */
static struct const_view image_of(const struct twin *t, int image, int64_t pixels)
{
    return (struct const_view){t->host + image * pixels * t->channels, t->channels};
}

static struct map_view image_map(const struct twin *t, int image, int64_t pixels)
{
    return (struct map_view){t->host + image * pixels * t->channels, t->channels};
}

static void pools(int f, size_t w)
{
    const struct training_kernels *k = training_kernels(ISA_GENERIC);
    enum cuda_format format = formats[f].format;
    int batch = windows[w].batch, channels = windows[w].channels, gap = windows[w].gap;
    struct window_shape shape = {.channels = channels, .in_height = windows[w].height, .in_width = windows[w].width};
    shape.kernel = windows[w].kernel;
    shape.stride = windows[w].stride;
    shape.padding = windows[w].padding;
    shape.dilation = windows[w].dilation;
    for (int average = 0; average < 2; average++) {
        int reach = (shape.kernel - 1) * shape.dilation + 1 - 2 * shape.padding;
        if (!average && shape.padding > 0)
            continue; /* the networks' max pools have none */
        /* Max pools take incomplete windows at the end, too. */
        shape.out_height = average ? (shape.in_height - reach) / shape.stride + 1 : (shape.in_height + shape.stride - 1) / shape.stride;
        shape.out_width = average ? (shape.in_width - reach) / shape.stride + 1 : (shape.in_width + shape.stride - 1) / shape.stride;
        int64_t in_pixels = (int64_t)shape.in_height * shape.in_width, out_pixels = (int64_t)shape.out_height * shape.out_width;
        char what[128];
        snprintf(what, sizeof what, "%s pool backward, window %zu, %s", average ? "average" : "max", w, formats[f].name);
        struct twin in = random_twin(format, batch * in_pixels, channels, gap, 21),
                    out = random_twin(format, batch * out_pixels, channels, 0, 22);
        struct twin to = random_twin(format, batch * in_pixels, channels, gap, 23);
        for (int64_t i = 0; i < batch * in_pixels * channels; i += 3) /* ties: the first has the say */
            in.host[i] = 1.0f;
        struct twin tied = make_twin(format, batch * in_pixels, channels, gap, in.host);
        struct cuda_window_call call = {.format = format, .batch = batch, .channels = channels};
        call.in_height = shape.in_height;
        call.in_width = shape.in_width;
        call.out_height = shape.out_height;
        call.out_width = shape.out_width;
        call.kernel = shape.kernel;
        call.stride = shape.stride;
        call.padding = shape.padding;
        call.dilation = shape.dilation;
        call.in = tied.view;
        call.out_gradient = out.view;
        call.in_gradient = to.view;
        (average ? cuda_average_pool_backward : cuda_max_pool_backward)(&call, stream);
        for (int image = 0; image < batch; image++)
            if (average)
                k->average_pool_backward(&shape, image_of(&out, image, out_pixels), image_map(&to, image, in_pixels));
            else
                k->max_pool_backward(&shape, image_of(&tied, image, in_pixels), image_of(&out, image, out_pixels),
                                     image_map(&to, image, in_pixels));
        expect_twin(&to, formats[f].tolerance, what);
        free_twin(&in);
        free_twin(&out);
        free_twin(&to);
        free_twin(&tied);
    }
}

/* Global average and crop: loops of a line. */
static void whole_map_gradients(int f, size_t w)
{
    enum cuda_format format = formats[f].format;
    int batch = windows[w].batch, channels = windows[w].channels, height = windows[w].height, width = windows[w].width;
    int64_t pixels = (int64_t)height * width;
    char what[128];
    for (int add = 0; add < 2; add++) {
        struct twin out = random_twin(format, batch, channels, 0, 24),
                    to = random_twin(format, batch * pixels, channels, windows[w].gap, 25);
        struct cuda_window_call call = {.format = format, .batch = batch, .channels = channels, .in_height = height, .in_width = width};
        call.out_height = call.out_width = 1;
        call.out_gradient = out.view;
        call.in_gradient = to.view;
        call.add = add;
        cuda_global_average_pool_backward(&call, stream);
        for (int64_t p = 0; p < batch * pixels; p++)
            for (int c = 0; c < channels; c++)
                to.host[p * channels + c] = (add ? to.host[p * channels + c] : 0.0f) + out.host[p / pixels * channels + c] / (float)pixels;
        snprintf(what, sizeof what, "global average pool backward, window %zu, %s", w, formats[f].name);
        expect_twin(&to, formats[f].tolerance, what);
        free_twin(&out);
        free_twin(&to);
    }
    int out_height = height - 1, out_width = width - 2;
    struct twin out = random_twin(format, (int64_t)batch * out_height * out_width, channels, 0, 26);
    struct twin to = random_twin(format, batch * pixels, channels, windows[w].gap, 27);
    struct cuda_window_call call = {.format = format, .batch = batch, .channels = channels, .in_height = height, .in_width = width};
    call.out_height = out_height;
    call.out_width = out_width;
    call.out_gradient = out.view;
    call.in_gradient = to.view;
    cuda_crop_backward(&call, stream);
    for (int image = 0; image < batch; image++)
        for (int y = 0; y < out_height; y++)
            for (int x = 0; x < out_width; x++)
                for (int c = 0; c < channels; c++)
                    to.host[((image * pixels) + y * width + x) * channels + c] +=
                        out.host[(((int64_t)image * out_height + y) * out_width + x) * channels + c];
    snprintf(what, sizeof what, "crop backward, window %zu, %s", w, formats[f].name);
    expect_twin(&to, formats[f].tolerance, what);
    free_twin(&out);
    free_twin(&to);
}

static void upsampling(int f, int factor, int height, int width, int channels, int gap)
{
    const struct training_kernels *k = training_kernels(ISA_GENERIC);
    enum cuda_format format = formats[f].format;
    enum { BATCH = 3 };
    struct window_shape shape = {.channels = channels, .in_height = height, .in_width = width, .kernel = 2 * factor, .stride = factor};
    shape.padding = factor / 2;
    shape.out_height = height * factor;
    shape.out_width = width * factor;
    int taps = shape.kernel * shape.kernel;
    int64_t in_pixels = (int64_t)height * width, out_pixels = in_pixels * factor * factor;
    struct twin in = random_twin(format, BATCH * in_pixels, channels, gap, 31),
                out = random_twin(format, BATCH * out_pixels, channels, 0, 32);
    struct twin to = random_twin(format, BATCH * in_pixels, channels, gap, 33);
    float *weight = cuda_floats(taps * channels), *turned = cuda_floats(taps * channels), *gradient = cuda_floats(taps * channels);
    float *expected = cuda_floats(taps * channels), *actual = cuda_floats(taps * channels);
    for (int i = 0; i < taps * channels; i++)
        weight[i] = (float)counter_uniform(34, (uint64_t)i);
    float *device_weight = to_device(weight, (size_t)(taps * channels) * sizeof(float));
    float *device_turned = device_memory((size_t)(taps * channels) * sizeof(float));
    float *device_gradient = device_memory((size_t)(taps * channels) * sizeof(float));
    double *sums = device_memory((size_t)cuda_transposed_sums(BATCH * in_pixels, channels, shape.kernel) * sizeof(double));
    cuda_taps_first(channels, taps, device_weight, device_turned, stream);
    for (int c = 0; c < channels; c++)
        for (int tap = 0; tap < taps; tap++)
            turned[tap * channels + c] = weight[c * taps + tap];
    from_device(actual, device_turned, (size_t)(taps * channels) * sizeof(float));
    expect_close(actual, turned, taps * channels, 0.0, "taps first");
    struct cuda_window_call call = {.format = format, .batch = BATCH, .channels = channels, .in_height = height, .in_width = width};
    call.out_height = shape.out_height;
    call.out_width = shape.out_width;
    call.kernel = shape.kernel;
    call.stride = shape.stride;
    call.padding = shape.padding;
    call.in = in.view;
    call.out_gradient = out.view;
    call.in_gradient = to.view;
    call.weight = device_turned;
    call.weight_gradient = device_gradient;
    call.sums = sums;
    cuda_transposed_conv_backward(&call, stream);
    for (int image = 0; image < BATCH; image++)
        k->transposed_conv_backward(&shape, turned, image_of(&in, image, in_pixels), image_of(&out, image, out_pixels),
                                    image_map(&to, image, in_pixels), gradient);
    for (int c = 0; c < channels; c++)
        for (int tap = 0; tap < taps; tap++)
            expected[c * taps + tap] = gradient[tap * channels + c];
    char what[128];
    snprintf(what, sizeof what, "upsampling by %d backward, %dx%dx%d, %s", factor, height, width, channels, formats[f].name);
    expect_twin(&to, 2.0 * formats[f].tolerance, what);
    from_device(actual, device_gradient, (size_t)(taps * channels) * sizeof(float));
    expect_close(actual, expected, taps * channels, 2e-5, what);
    free(weight);
    free(turned);
    free(gradient);
    free(expected);
    free(actual);
    cuda_free(device_weight);
    cuda_free(device_turned);
    cuda_free(device_gradient);
    cuda_free(sums);
    free_twin(&in);
    free_twin(&out);
    free_twin(&to);
}

static void window_gradients(void)
{
    for (int f = 0; f < FORMATS; f++) {
        for (size_t w = 0; w < sizeof windows / sizeof windows[0]; w++) {
            pools(f, w);
            whole_map_gradients(f, w);
        }
        upsampling(f, 2, 5, 7, 6, 2);
        upsampling(f, 2, 9, 16, 64, 0);
        upsampling(f, 4, 3, 2, 20, 8);
    }
}

/* ---- convolutions ---- */

static const struct {
    const char *why;
    int batch, height, width, in, out, kernel, stride, padding, dilation, groups, gap;
} convs[] = {
    {"the stem: three channels, 7x7", 2, 20, 18, 3, 16, 7, 1, 3, 1, 1, 0},
    {"3x3", 2, 14, 14, 16, 32, 3, 1, 1, 1, 1, 0},
    {"3x3 in wider maps", 2, 14, 14, 16, 32, 3, 1, 1, 1, 1, 8},
    {"stride 2 on odd sizes", 3, 15, 13, 32, 24, 3, 2, 1, 1, 1, 0},
    {"1x1", 2, 7, 9, 48, 40, 1, 1, 0, 1, 1, 0},
    {"odd channels", 2, 9, 8, 5, 7, 3, 1, 1, 1, 1, 3},
    {"dilated", 1, 12, 12, 16, 16, 3, 1, 2, 2, 1, 0},
    {"grouped", 2, 10, 10, 64, 64, 3, 1, 1, 1, 8, 0},
    {"grouped, stride 2", 2, 11, 10, 32, 64, 3, 2, 1, 1, 4, 0},
    {"the classifier", 5, 1, 1, 64, 10, 1, 1, 0, 1, 1, 0},
    {"an even kernel without padding", 2, 9, 9, 8, 8, 2, 1, 0, 1, 1, 0},
};

/* Weights (out, in, taps) and (out, taps, in). */
struct conv_weights {
    float *flat;
    void *turned, *turned_gradient; /* device, in the format */
    float *device_flat;
    struct cuda_turned_weights row, *table;
    int64_t elements;
};

static struct conv_weights make_weights(enum cuda_format format, const struct conv_shape *s)
{
    struct conv_weights w = {
        .row = {.out = s->out_channels, .in = s->in_channels / s->groups, .taps = s->kernel * s->kernel, .trained = true}};
    w.elements = (int64_t)w.row.out * w.row.in * w.row.taps;
    w.flat = cuda_floats(w.elements);
    for (int64_t i = 0; i < w.elements; i++)
        w.flat[i] = (float)(counter_uniform(41, (uint64_t)i) * 2.0 - 1.0);
    w.table = to_device(&w.row, sizeof w.row);
    w.device_flat = to_device(w.flat, (size_t)w.elements * sizeof(float));
    w.turned = device_memory((size_t)w.elements * cuda_format_bytes(format));
    w.turned_gradient = device_memory((size_t)w.elements * cuda_format_bytes(format));
    cuda_turn_weights(format, w.table, 1, w.elements, w.device_flat, w.turned, stream);
    /* What they are after rounding: turned back onto zeros. */
    must(cudaMemsetAsync(w.device_flat, 0, (size_t)w.elements * sizeof(float), stream), "cudaMemset");
    cuda_turn_gradients(format, w.table, 1, w.elements, w.turned, w.device_flat, stream);
    float *rounded = cuda_floats(w.elements);
    from_device(rounded, w.device_flat, (size_t)w.elements * sizeof(float));
    expect_close(rounded, w.flat, w.elements, format == CUDA_FLOAT32 ? 0.0 : 4e-3, "weights turned there and back");
    memcpy(w.flat, rounded, (size_t)w.elements * sizeof(float));
    free(rounded);
    return w;
}

static void free_weights(struct conv_weights *w)
{
    free(w->flat);
    cuda_free(w->table);
    cuda_free(w->device_flat);
    cuda_free(w->turned);
    cuda_free(w->turned_gradient);
}

static float *reference_forward(const struct conv_shape *s, const struct twin *in, const float *weight, int64_t count)
{
    float *out = cuda_floats(count), *ones = cuda_floats(s->out_channels), *zeros = cuda_floats(s->out_channels);
    void *packed = cuda_need(malloc(conv_reference.packed_bytes(s)));
    for (int c = 0; c < s->out_channels; c++)
        ones[c] = 1.0f;
    conv_reference.pack(s, weight, ones, packed);
    size_t scratch_bytes = conv_reference.scratch_bytes(s, 1);
    struct thread_pool *pool = NULL;
    if (thread_pool_create(1, &pool) != DLA_OK)
        exit(1);
    struct conv_call call = {.shape = s, .packed = packed, .bias = zeros, .pool = pool, .scratch = cuda_need(malloc(scratch_bytes + 64))};
    call.sources[0] = host_map(in);
    call.out = (struct map_view){out, s->out_channels};
    conv_reference.run(&call);
    thread_pool_destroy(pool);
    free(call.scratch);
    free(packed);
    free(ones);
    free(zeros);
    return out;
}

/* All three directions by the definition on the GPU, and by cuDNN where there is a session and the maps have no gaps. */
static void conv_items(int f, size_t index, struct cudnn_session *session)
{
    enum cuda_format format = formats[f].format;
    struct conv_shape s = {
        .batch = convs[index].batch, .in_height = convs[index].height, .in_width = convs[index].width, .source_count = 1};
    s.in_channels = s.source_channels[0] = convs[index].in;
    s.out_channels = convs[index].out;
    s.kernel = convs[index].kernel;
    s.stride = convs[index].stride;
    s.padding = convs[index].padding;
    s.dilation = convs[index].dilation;
    s.groups = convs[index].groups;
    s.out_height = (s.in_height + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
    s.out_width = (s.in_width + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
    int gap = convs[index].gap;
    int64_t in_pixels = (int64_t)s.batch * s.in_height * s.in_width, out_pixels = (int64_t)s.batch * s.out_height * s.out_width;
    struct conv_weights w = make_weights(format, &s);
    const struct cudnn_conv *conv = NULL;
    /* Sums of some hundred products that float16's rounding of the result follows. */
    double tolerance = 2.0 * formats[f].tolerance;
    char what[160];
    if (session && gap == 0)
        cuda_works(cudnn_session_conv(session, &s, &conv), convs[index].why);
    float *sums = device_memory((size_t)cuda_conv_direct_sums(&s) * sizeof(float));
    for (int by_cudnn = 0; by_cudnn <= (conv != NULL); by_cudnn++)
        for (int add = 0; add < 2; add++) {
            struct twin in = random_twin(format, in_pixels, s.in_channels, gap, 42),
                        out = make_twin(format, out_pixels, s.out_channels, gap, NULL);
            struct twin gradient = random_twin(format, out_pixels, s.out_channels, gap, 43);
            struct twin to = random_twin(format, in_pixels, s.in_channels, gap, 44);
            struct cuda_conv_pass pass = {.format = format, .shape = &s, .in = in.view, .out = out.view, .weight = w.turned, .sums = sums};
            bool done[CUDNN_DIRECTIONS] = {true, true, true};
            pass.weight_gradient = w.turned_gradient;
            if (by_cudnn) {
                struct cudnn_conv_call call = {.conv = conv, .in = in.view.data, .weight = w.turned, .out = out.view.data};
                cudnn_session_run(session, &call, &done[CUDNN_OUT]);
                call.direction = CUDNN_WEIGHT_GRADIENT;
                call.out = gradient.view.data;
                call.weight = w.turned_gradient;
                cudnn_session_run(session, &call, &done[CUDNN_WEIGHT_GRADIENT]);
                call.direction = CUDNN_IN_GRADIENT;
                call.weight = w.turned;
                call.in = to.view.data;
                call.add = add;
                cudnn_session_run(session, &call, &done[CUDNN_IN_GRADIENT]);
            } else {
                cuda_conv_direct_forward(&pass, stream);
                pass.out = gradient.view;
                cuda_conv_direct_weight(&pass, stream);
                pass.in = to.view;
                pass.add = add;
                cuda_conv_direct_data(&pass, stream);
            }
            static const char *const directions[CUDNN_DIRECTIONS] = {"forward", "gradient of the input", "gradient of the weights"};
            for (int d = 0; d < CUDNN_DIRECTIONS && by_cudnn; d++) {
                char words[128];
                cudnn_conv_describe(conv, (enum cudnn_direction)d, words, sizeof words);
                if (add == 0)
                    printf("cuDNN, %s, %s, %s: %s\n", formats[f].name, convs[index].why, directions[d], words);
            }
            const char *who = by_cudnn ? "cuDNN" : "definition";
            free(out.host);
            out.host = reference_forward(&s, &in, w.flat, out_pixels * s.out_channels);
            snprintf(what, sizeof what, "%s by %s, %s: forward", convs[index].why, who, formats[f].name);
            if (done[CUDNN_OUT])
                expect_twin(&out, tolerance, what);
            struct conv_data_gradient_call data = {.shape = &s, .weight = w.flat, .accumulate = add};
            data.out_gradient = host_map(&gradient);
            data.in_gradient = host_map(&to);
            conv_data_gradient_reference(&data);
            snprintf(what, sizeof what, "%s by %s, %s: gradient of the input", convs[index].why, who, formats[f].name);
            if (done[CUDNN_IN_GRADIENT])
                expect_twin(&to, tolerance, what);
            float *expected = cuda_floats(w.elements), *actual = cuda_floats(w.elements);
            struct conv_weight_gradient_call weights = {.shape = &s, .in = host_map(&in), .out_gradient = host_map(&gradient)};
            weights.weight_gradient = expected;
            conv_weight_gradient_reference(&weights);
            must(cudaMemsetAsync(w.device_flat, 0, (size_t)w.elements * sizeof(float), stream), "cudaMemset");
            cuda_turn_gradients(format, w.table, 1, w.elements, w.turned_gradient, w.device_flat, stream);
            from_device(actual, w.device_flat, (size_t)w.elements * sizeof(float));
            snprintf(what, sizeof what, "%s by %s, %s: gradient of the weights", convs[index].why, who, formats[f].name);
            if (done[CUDNN_WEIGHT_GRADIENT])
                expect_close(actual, expected, w.elements, 2.0 * tolerance, what);
            free(expected);
            free(actual);
            free_twin(&in);
            free_twin(&out);
            free_twin(&gradient);
            free_twin(&to);
        }
    cuda_free(sums);
    free_weights(&w);
}

static void convolutions(void)
{
    static const enum cuda_arithmetic arithmetics[FORMATS] = {CUDA_EXACT, CUDA_HALF, CUDA_BRAIN};
    for (int f = 0; f < FORMATS; f++) {
        struct cudnn_session *session = NULL;
        if (cudnn_session_open(arithmetics[f], true, stream, &session) != DLA_OK) {
            printf("without cuDNN: %s\n", dla_error_message());
            session = NULL;
        }
        for (size_t i = 0; i < sizeof convs / sizeof convs[0]; i++)
            conv_items(f, i, session);
        cudnn_session_close(session);
    }
}

/* ---- loss and optimiser ---- */

static struct cuda_step_state read_state(const struct cuda_step_state *state)
{
    struct cuda_step_state host;
    from_device(&host, state, sizeof host);
    return host;
}

static void class_losses(int f, int rows, int classes, bool mixed)
{
    enum cuda_format format = formats[f].format;
    struct cuda_step_state start = {.loss_scale = 8.0f, .factor = 0.125f, .take = 1};
    struct twin logits = random_twin(format, rows, classes, 3, 51), gradient = make_twin(format, rows, classes, 0, NULL);
    int *labels = cuda_need(calloc((size_t)rows, sizeof(int))), *others = cuda_need(calloc((size_t)rows, sizeof(int))), correct = 0;
    for (int i = 0; i < rows; i++)
        labels[i] = (int)(counter_uniform(52, (uint64_t)i) * classes);
    for (int i = 0; i < rows; i++)
        others[i] = labels[rows - 1 - i];
    struct cuda_step_state *state = to_device(&start, sizeof start);
    struct loss_targets targets = {.a = labels, .b = mixed ? others : NULL, .share = 0.7f, .smoothing = 0.1f};
    struct cuda_loss_call call = {.format = format, .rows = rows, .classes = classes, .logits = logits.view, .gradient = gradient.view};
    call.labels = to_device(labels, (size_t)rows * sizeof(int));
    call.mixed = mixed;
    call.share = 0.7f;
    call.smoothing = 0.1f;
    call.scale = 0.5f;
    call.row_losses = device_memory((size_t)rows * sizeof(double));
    call.row_hits = device_memory((size_t)rows * sizeof(int));
    call.state = state;
    cuda_cross_entropy(&call, stream);
    double expected = cross_entropy(rows, classes, logits.host, &targets, 0.5f * start.loss_scale, gradient.host, &correct);
    struct cuda_step_state end = read_state(state);
    char what[128];
    snprintf(what, sizeof what, "cross-entropy, %d rows of %d classes, %s%s", rows, classes, formats[f].name, mixed ? ", mixed" : "");
    cuda_expect(fabs(end.loss - expected) <= 1e-9 * expected, "%s: loss %.12g, expected %.12g", what, end.loss, expected);
    cuda_expect(end.correct == correct, "%s: %lld right, expected %d", what, (long long)end.correct, correct);
    expect_twin(&gradient, formats[f].tolerance, what);
    cuda_free((void *)(uintptr_t)call.labels);
    cuda_free(call.row_losses);
    cuda_free(call.row_hits);
    cuda_free(state);
    free(labels);
    free(others);
    free_twin(&logits);
    free_twin(&gradient);
}

static void pixel_losses(int f, int64_t pixels, int classes)
{
    enum cuda_format format = formats[f].format;
    struct cuda_step_state start = {.loss_scale = 4.0f, .factor = 0.25f, .take = 1};
    struct twin logits = random_twin(format, pixels, classes, 0, 53), gradient = random_twin(format, pixels, classes, 0, 54);
    uint8_t *labels = cuda_need(calloc((size_t)pixels, 1));
    float weights[32];
    for (int64_t i = 0; i < pixels; i++)
        labels[i] = counter_uniform(55, (uint64_t)i) < 0.2 ? TARGET_IGNORED : (uint8_t)(counter_uniform(56, (uint64_t)i) * classes);
    for (int c = 0; c < classes; c++)
        weights[c] = 0.5f + (float)c;
    struct cuda_pixel_loss_call call = {.format = format, .pixels = pixels, .classes = classes, .ignored = TARGET_IGNORED};
    struct cuda_step_state *state = to_device(&start, sizeof start);
    void *device_labels = to_device(labels, (size_t)pixels), *device_weights = to_device(weights, (size_t)classes * sizeof(float));
    call.log_probabilities = logits.view;
    call.gradient = gradient.view;
    call.labels = device_labels;
    call.weights = device_weights;
    call.total = pixel_weight(pixels, labels, weights);
    call.scale = 1000.0f; /* of a loss that many pixels share: keeps float16's gradients in range */
    call.sums = device_memory(2 * CUDA_NORM_BLOCKS * sizeof(double));
    call.state = state;
    cuda_pixel_cross_entropy(&call, stream);
    struct dense_loss expected =
        pixel_cross_entropy(pixels, classes, logits.host, labels, weights, call.total, call.scale * start.loss_scale, gradient.host);
    struct cuda_step_state end = read_state(state);
    char what[128];
    snprintf(what, sizeof what, "pixels' cross-entropy, %lld pixels of %d classes, %s", (long long)pixels, classes, formats[f].name);
    cuda_expect(fabs(end.loss - expected.loss) <= 1e-9 * fabs(expected.loss) + 1e-12, "%s: loss %.12g, expected %.12g", what, end.loss,
                expected.loss);
    cuda_expect(end.correct == expected.correct, "%s: %lld right, expected %lld", what, (long long)end.correct,
                (long long)expected.correct);
    expect_twin(&gradient, formats[f].tolerance, what);
    cuda_free(device_labels);
    cuda_free(device_weights);
    cuda_free(call.sums);
    cuda_free(state);
    free(labels);
    free_twin(&logits);
    free_twin(&gradient);
}

static void losses(void)
{
    for (int f = 0; f < FORMATS; f++) {
        for (int mixed = 0; mixed < 2; mixed++) {
            class_losses(f, 5, 3, mixed);
            class_losses(f, 64, 1000, mixed);
            class_losses(f, 300, 10, mixed);
        }
        pixel_losses(f, 3, 2);
        pixel_losses(f, 5000, 19);
        pixel_losses(f, 300000, 2);
    }
}

/* Steps on a block: clipped, unclipped, and with a gradient that overflowed. */
static void optimisers(void)
{
    enum { COUNT = 16 * 1001, LINES = COUNT / CUDA_LINE };
    float *values = cuda_floats(COUNT), *velocity = cuda_floats(COUNT), *gradients = cuda_floats(COUNT), *average = cuda_floats(COUNT);
    float *scaled = cuda_floats(COUNT), *rates = cuda_floats(LINES), *decays = cuda_floats(LINES), *actual = cuda_floats(COUNT);
    struct cuda_step_state start = {.loss_scale = 1024.0f, .factor = 1.0f / 1024.0f, .take = 1};
    for (int i = 0; i < COUNT; i++) {
        values[i] = average[i] = (float)counter_uniform(61, (uint64_t)i) - 0.5f;
        velocity[i] = (float)counter_uniform(62, (uint64_t)i) - 0.5f;
        gradients[i] = (float)counter_uniform(63, (uint64_t)i) - 0.5f;
        scaled[i] = gradients[i] * start.loss_scale;
    }
    for (int line = 0; line < LINES; line++) {
        rates[line] = line % 3 == 0 ? 0.0f : line % 3 == 1 ? 1.0f : 0.1f;
        decays[line] = line % 2 ? 0.01f : 0.0f;
    }
    struct cuda_step_state *state = to_device(&start, sizeof start);
    double *sums = device_memory(CUDA_NORM_BLOCKS * sizeof(double));
    float *device_average = to_device(average, COUNT * sizeof(float));
    struct cuda_optimiser_call call = {.count = COUNT, .rate = 0.3f, .momentum = 0.9f, .state = state};
    call.values = to_device(values, COUNT * sizeof(float));
    call.velocity = to_device(velocity, COUNT * sizeof(float));
    call.rate_scale = to_device(rates, LINES * sizeof(float));
    call.decay = to_device(decays, LINES * sizeof(float));
    float *device_gradients = to_device(scaled, COUNT * sizeof(float));
    call.gradients = device_gradients;
    double norm = 0.0;
    for (int i = 0; i < COUNT; i++)
        norm += (double)gradients[i] * (double)gradients[i];
    norm = sqrt(norm);
    for (int step = 0; step < 4; step++) {
        double limit = step == 1 ? 0.25 * norm : step == 2 ? 2.0 * norm : 0.0;
        float factor = step == 1 ? (float)(limit / (norm + 1e-6)) : 1.0f;
        bool overflowed = step == 3;
        call.nesterov = step == 2;
        if (overflowed) {
            scaled[77] = INFINITY;
            must(cudaMemcpy(device_gradients, scaled, COUNT * sizeof(float), cudaMemcpyHostToDevice), "copy to the GPU");
        }
        cuda_judge_gradients(call.gradients, COUNT, limit, true, sums, state, stream);
        cuda_optimiser_step(&call, stream);
        cuda_average_weights(COUNT, call.values, device_average, 0.75f, stream);
        for (int i = 0; i < COUNT; i++) {
            float rate = rates[i / CUDA_LINE], g = factor * gradients[i] + decays[i / CUDA_LINE] * values[i];
            if (rate != 0.0f && !overflowed) {
                velocity[i] = 0.9f * velocity[i] + g;
                values[i] -= 0.3f * rate * (call.nesterov ? g + 0.9f * velocity[i] : velocity[i]);
            }
            average[i] = 0.75f * average[i] + 0.25f * values[i];
        }
        char what[64];
        struct cuda_step_state end = read_state(state);
        snprintf(what, sizeof what, "optimiser, step %d", step);
        from_device(actual, call.values, COUNT * sizeof(float));
        expect_close(actual, values, COUNT, 1e-6, what);
        from_device(actual, call.velocity, COUNT * sizeof(float));
        expect_close(actual, velocity, COUNT, 1e-6, what);
        from_device(actual, device_average, COUNT * sizeof(float));
        expect_close(actual, average, COUNT, 1e-6, what);
        if (!overflowed)
            cuda_expect(fabs(end.norm - norm) <= 1e-6 * norm, "%s: norm %.9g, expected %.9g", what, end.norm, norm);
        cuda_expect(end.loss_scale == (overflowed ? 512.0f : 1024.0f) && end.skipped == overflowed, "%s: loss scale %g, %d steps left out",
                    what, (double)end.loss_scale, end.skipped);
    }
    cuda_free(state);
    cuda_free(sums);
    cuda_free(device_average);
    cuda_free(call.values);
    cuda_free(call.velocity);
    cuda_free((void *)(uintptr_t)call.rate_scale);
    cuda_free((void *)(uintptr_t)call.decay);
    cuda_free(device_gradients);
    free(values);
    free(velocity);
    free(gradients);
    free(average);
    free(scaled);
    free(rates);
    free(decays);
    free(actual);
}

static void blends(void)
{
    for (int f = 0; f < FORMATS; f++)
        for (int e = 0; e < 2; e++)
            for (int mixed = 0; mixed < 2; mixed++) {
                enum { BATCH = 5 };
                int elements = e ? 3 * 13 * 7 : 4 * 999;
                float share = mixed ? 0.3f : 1.0f;
                struct twin in = random_twin(CUDA_FLOAT32, BATCH, elements, 0, 71),
                            out = make_twin(formats[f].format, BATCH, elements, 0, NULL);
                cuda_blend_images(formats[f].format, BATCH, elements, in.view.data, share, out.view.data, stream);
                for (int i = 0; i < BATCH * elements; i++)
                    out.host[i] = share * in.host[i] + (1.0f - share) * in.host[(BATCH - 1 - i / elements) * elements + i % elements];
                expect_twin(&out, formats[f].tolerance, "blended images");
                free_twin(&in);
                free_twin(&out);
            }
}

int main(void)
{
    cuda_device_or_skip();
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {{"batch norms", norms},    {"elements", elements},     {"windows", window_gradients}, {"losses", losses},
                 {"optimiser", optimisers}, {"blended images", blends}, {"convolutions", convolutions}};
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        int failed = cuda_failures, items = cuda_items;
        tests[i].run();
        cuda_stop_if_broken(tests[i].name);
        must(cudaGetLastError(), tests[i].name);
        printf("%s: %d of %d items failed\n", tests[i].name, cuda_failures - failed, cuda_items - items);
        fflush(stdout);
    }
    cudaStreamDestroy(stream);
    return cuda_summary();
}
