/* Training's convolutions and their gradients on the GPU, by definition and, where it is found, by cuDNN, beside the CPU's loops. Needs a GPU. */
#include "cuda_twins.h"

#include "cuda/cudnn_conv.h"

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

int main(void)
{
    static const struct cuda_part parts[] = {{"convolutions", convolutions}};
    return run_parts(parts, sizeof parts / sizeof parts[0]);
}
