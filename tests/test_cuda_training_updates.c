/* Losses, optimiser and blended images on the GPU beside what defines them on the CPU. Needs a GPU. */
#include "cuda_twins.h"

#include "net/network.h"
#include "tasks/dense_target.h"
#include "train/dense_loss.h"
#include "train/loss.h"
#include "train/optimiser.h"

static struct cuda_step_state read_state(const struct cuda_step_state *state)
{
    struct cuda_step_state host;
    from_device(&host, state, sizeof host);
    return host;
}

/* partners: the other labels stand behind the rows' own. */
static void class_losses(int f, int rows, int classes, bool mixed, bool partners)
{
    enum cuda_format format = formats[f].format;
    struct cuda_step_state start = {.loss_scale = 8.0f, .factor = 0.125f, .take = 1};
    struct twin logits = random_twin(format, rows, classes, 3, 51), gradient = make_twin(format, rows, classes, 0, NULL);
    int *labels = cuda_need(calloc(2 * (size_t)rows, sizeof(int))), *others = cuda_need(calloc((size_t)rows, sizeof(int))), correct = 0;
    for (int i = 0; i < 2 * rows; i++)
        labels[i] = (int)(counter_uniform(52, (uint64_t)i) * classes);
    for (int i = 0; i < rows; i++)
        others[i] = labels[partners ? rows + i : rows - 1 - i];
    struct cuda_step_state *state = to_device(&start, sizeof start);
    struct loss_targets targets = {.a = labels, .b = mixed ? others : NULL, .share = 0.7f, .smoothing = 0.1f};
    struct cuda_loss_call call = {.format = format, .rows = rows, .classes = classes, .logits = logits.view, .gradient = gradient.view};
    call.labels = to_device(labels, 2 * (size_t)rows * sizeof(int));
    call.mixed = mixed;
    call.partners = partners;
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
    snprintf(what, sizeof what, "cross-entropy, %d rows of %d classes, %s%s%s", rows, classes, formats[f].name, mixed ? ", mixed" : "",
             partners ? " with partners" : "");
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
            class_losses(f, 5, 3, mixed, false);
            class_losses(f, 64, 1000, mixed, false);
            class_losses(f, 300, 10, mixed, false);
        }
        class_losses(f, 65, 11, true, true);
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
            for (int mixed = 0; mixed < 3; mixed++) {
                enum { BATCH = 5 };
                bool partners = mixed == 2;
                int elements = e ? 3 * 13 * 7 : 4 * 999;
                float share = mixed ? 0.3f : 1.0f;
                struct twin in = random_twin(CUDA_FLOAT32, 2 * BATCH, elements, 0, 71),
                            out = make_twin(formats[f].format, BATCH, elements, 0, NULL);
                cuda_blend_images(formats[f].format, BATCH, elements, in.view.data, partners, share, out.view.data, stream);
                for (int i = 0; i < BATCH * elements; i++) {
                    int image = i / elements, other = partners ? BATCH + image : BATCH - 1 - image;
                    out.host[i] = share * in.host[i] + (1.0f - share) * in.host[other * elements + i % elements];
                }
                expect_twin(&out, formats[f].tolerance, "blended images");
                free_twin(&in);
                free_twin(&out);
            }
}

/* Statistics of three ranks, one after the other, and what stands beside them in the block. */
static void statistics(void)
{
    enum { LINES = 1000, COUNT = LINES * CUDA_LINE, CARRIED = 77, RANKS = 3 };
    int lines[CARRIED];
    bool carried[LINES] = {false};
    float *values = cuda_floats(COUNT), *gradients = cuda_floats(COUNT), *actual = cuda_floats(COUNT);
    for (int i = 0; i < CARRIED; i++)
        carried[lines[i] = 12 * i + i % 3] = true;
    for (int i = 0; i < COUNT; i++) {
        values[i] = (float)counter_uniform(81, (uint64_t)i) - 0.5f;
        gradients[i] = (float)counter_uniform(82, (uint64_t)i) - 0.5f;
    }
    int *device_lines = to_device(lines, sizeof lines);
    float *device_values = to_device(values, COUNT * sizeof(float)), *device_gradients = to_device(gradients, COUNT * sizeof(float));
    cuda_carry_statistics(device_lines, CARRIED, RANKS, device_values, device_gradients, stream);
    for (int i = 0; i < COUNT; i++)
        gradients[i] = carried[i / CUDA_LINE] ? values[i] / RANKS : gradients[i];
    from_device(actual, device_gradients, COUNT * sizeof(float));
    cuda_expect(memcmp(actual, gradients, COUNT * sizeof(float)) == 0, "statistics are not what the gradients' block carries");
    from_device(actual, device_values, COUNT * sizeof(float));
    cuda_expect(memcmp(actual, values, COUNT * sizeof(float)) == 0, "carrying the statistics changes them");
    cuda_take_statistics(device_lines, CARRIED, device_gradients, device_values, stream);
    for (int i = 0; i < COUNT; i++)
        if (carried[i / CUDA_LINE]) {
            values[i] = gradients[i];
            gradients[i] = 0.0f;
        }
    from_device(actual, device_gradients, COUNT * sizeof(float));
    cuda_expect(memcmp(actual, gradients, COUNT * sizeof(float)) == 0, "the gradients' block is not as it was without statistics");
    from_device(actual, device_values, COUNT * sizeof(float));
    cuda_expect(memcmp(actual, values, COUNT * sizeof(float)) == 0, "statistics are not what the gradients' block carried");
    cuda_free(device_lines);
    cuda_free(device_values);
    cuda_free(device_gradients);
    free(values);
    free(gradients);
    free(actual);
}

int main(void)
{
    static const struct cuda_part parts[] = {
        {"losses", losses}, {"optimiser", optimisers}, {"blended images", blends}, {"statistics of ranks", statistics}};
    return run_parts(parts, sizeof parts / sizeof parts[0]);
}
