/* What training does to maps on the GPU, batch norms, sums and windows and their gradients, beside the CPU's loops or loops here, at sizes,
 * strides and addresses that vectors and blocks do not divide. Needs a GPU. */
#include "cuda_twins.h"

struct norm_case {
    bool relu, residual, fixed, add_in, add_residual, in_place;
    bool ranks; /* two, with the same map */
};

/* What two ranks with the same sums have together. */
static void double_sums(void *context, double *values, int count, cudaStream_t on)
{
    double *host = cuda_need(calloc((size_t)count, sizeof(double)));
    (void)context;
    must(cudaStreamSynchronize(on), "sums");
    must(cudaMemcpy(host, values, (size_t)count * sizeof(double), cudaMemcpyDeviceToHost), "copy from the GPU");
    for (int i = 0; i < count; i++)
        host[i] *= 2.0;
    must(cudaMemcpy(values, host, (size_t)count * sizeof(double), cudaMemcpyHostToDevice), "copy to the GPU");
    must(cudaDeviceSynchronize(), "copy to the GPU");
    free(host);
}

static const struct cuda_norm_ranks twice = {.count = 2, .sum = double_sums};

/* All passes beside the definition, in double. */
static void norm_items(enum cuda_format format, double tolerance, int64_t pixels, int channels, int gap, struct norm_case c,
                       const char *what)
{
    enum { WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, PARAMETERS };
    const float momentum = 0.1f, epsilon = 1e-5f;
    double n = (double)pixels, all = c.ranks ? 2.0 * n : n;
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
    if (c.ranks)
        call.ranks = &twice;
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
                *running = (float)(0.9 * (double)*running + 0.1 * *statistics[k] * (k && all > 1.0 ? all / (all - 1.0) : 1.0));
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
    expect_close(actual, gradients, 2 * (int64_t)channels, pixels == 1 ? 1e-4 : 2e-5, text);
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
        {.relu = true, .in_place = true, .ranks = true},
        {.residual = true, .fixed = true, .ranks = true},
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

    int64_t before = s % 2 ? 3 * pixels : 0; /* pixels of other ranks */
    to = random_twin(format, pixels, channels, gap, 16);
    cuda_drop(format, before, pixels, channels, to.view, 17, 0.3, stream);
    for (int64_t i = 0; i < pixels * channels; i++)
        to.host[i] *= counter_uniform(17, (uint64_t)(before * channels + i)) < 0.3 ? 0.0f : (float)(1.0 / 0.7);
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

int main(void)
{
    static const struct cuda_part parts[] = {{"batch norms", norms}, {"elements", elements}, {"windows", window_gradients}};
    return run_parts(parts, sizeof parts / sizeof parts[0]);
}
