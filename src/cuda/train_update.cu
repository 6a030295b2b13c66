/* train_update.cu - the ends of a training step on the GPU: images in, loss and its gradient, weights changed.
 *
 * Losses are formed in double, a block per row (a row of classes) or a thread per pixel (a class for every pixel), and added in a fixed
 * order. The gradients of float16 maps are `loss_scale` times too large, so that small ones do not vanish (Micikevicius et al. 2018); the
 * scale is halved and the step left out where something overflowed. Nothing of that asks the host.
 */
#include "cuda/cuda_training.h"
#include "cuda/train_tile.cuh"

enum { LOSS_THREADS = 128 };

template <typename T, int V>
static __global__ void blend_kernel(int batch, int64_t elements, const float *in, bool partners, float share, T *out)
{
    int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x;
    int image = (int)blockIdx.y;
    const float *a = in + image * elements, *b = in + (partners ? batch + image : batch - 1 - image) * elements;
    for (int64_t e = first * V; e < elements; e += step * V) {
        float value[V], other[V];
        load<float, V>(a + e, value);
        if (share != 1.0f) {
            load<float, V>(b + e, other);
#pragma unroll
            for (int i = 0; i < V; i++)
                value[i] = share * value[i] + (1.0f - share) * other[i];
        }
        store<T, V>(out + image * elements + e, value);
    }
}

void cuda_blend_images(enum cuda_format format, int batch, int64_t elements, const float *in, bool partners, float share, void *out,
                       cudaStream_t stream)
{
    enum { MOST_BLOCKS = 64 };
    bool vectors = elements % MOST_VECTOR == 0;
    int64_t blocks = (elements / (vectors ? MOST_VECTOR : 1) + TILE_THREADS - 1) / TILE_THREADS;
    dim3 grid(blocks < MOST_BLOCKS ? (unsigned)blocks : (unsigned)MOST_BLOCKS, (unsigned)batch);
    FOR_FORMAT(format, vectors,
               (blend_kernel<T, V><<<grid, TILE_THREADS, 0, stream>>>(batch, elements, in, partners, share, static_cast<T *>(out))));
}

/* ---- loss ---- */

/* The sum over the block's threads, for all of them; a tree. `shared` has a number per thread. */
static __device__ double block_sum(double value, double *shared)
{
    __syncthreads();
    shared[threadIdx.x] = value;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    __syncthreads();
    return shared[0];
}

struct class_loss {
    int rows, classes;
    const int *labels;
    bool mixed, partners;
    double share, smoothing, scale;
    double *row_losses;
    int *row_hits;
    const struct cuda_step_state *state;
};

template <typename T, int V>
static __global__ void cross_entropy_kernel(struct class_loss l, const T *logits, int64_t logits_stride, T *gradient, int64_t gradient_stride)
{
    __shared__ double sums[LOSS_THREADS];
    __shared__ float largest[LOSS_THREADS];
    __shared__ int largest_at[LOSS_THREADS];
    int row = (int)blockIdx.x, thread = (int)threadIdx.x, other = l.partners ? l.rows + row : l.rows - 1 - row;
    int a = l.labels[row], b = l.mixed ? l.labels[other] : -1, best = l.classes;
    const T *in = logits + row * logits_stride;
    float most = 0.0f;
    for (int c = thread; c < l.classes; c += LOSS_THREADS) {
        float value = element_to_float(in[c]);
        if (best == l.classes || value > most) {
            most = value;
            best = c;
        }
    }
    largest[thread] = most;
    largest_at[thread] = best;
    /* Of equal ones the first; threads without a class have l.classes and lose. */
    for (int half = LOSS_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) {
            float mine = largest[thread], upper = largest[thread + half];
            int at = largest_at[thread], upper_at = largest_at[thread + half];
            if (upper_at < l.classes && (at == l.classes || upper > mine || (upper == mine && upper_at < at))) {
                largest[thread] = upper;
                largest_at[thread] = upper_at;
            }
        }
    }
    __syncthreads();
    double offset = (double)largest[0], sum = 0.0, loss = 0.0, loss_scale = (double)l.state->loss_scale;
    best = largest_at[0];
    for (int c = thread; c < l.classes; c += LOSS_THREADS)
        sum += exp((double)element_to_float(in[c]) - offset);
    double log_sum = log(block_sum(sum, sums)) + offset;
    for (int c = thread; c < l.classes; c += LOSS_THREADS) {
        double target = l.smoothing / l.classes, log_probability = (double)element_to_float(in[c]) - log_sum;
        if (c == a)
            target += (1.0 - l.smoothing) * (l.mixed ? l.share : 1.0);
        if (c == b)
            target += (1.0 - l.smoothing) * (1.0 - l.share);
        if (target != 0.0)
            loss -= target * log_probability;
        element_from_float((float)((exp(log_probability) - target) / l.rows * l.scale * loss_scale), gradient + row * gradient_stride + c);
    }
    loss = block_sum(loss, sums);
    if (thread == 0) {
        l.row_losses[row] = loss;
        l.row_hits[row] = best == a;
    }
}

/* One block: the mean over the rows. */
static __global__ void add_rows_kernel(int rows, const double *row_losses, const int *row_hits, struct cuda_step_state *state)
{
    __shared__ double sums[TILE_THREADS];
    double loss = 0.0, hits = 0.0;
    for (int row = (int)threadIdx.x; row < rows; row += TILE_THREADS) {
        loss += row_losses[row];
        hits += row_hits[row];
    }
    loss = block_sum(loss, sums);
    hits = block_sum(hits, sums);
    if (threadIdx.x == 0) {
        state->loss = loss / rows;
        state->correct = (int64_t)hits;
    }
}

void cuda_cross_entropy(const struct cuda_loss_call *call, cudaStream_t stream)
{
    struct class_loss l;
    l.rows = call->rows;
    l.classes = call->classes;
    l.labels = call->labels;
    l.mixed = call->mixed;
    l.partners = call->partners;
    l.share = (double)call->share;
    l.smoothing = (double)call->smoothing;
    l.scale = (double)call->scale;
    l.row_losses = call->row_losses;
    l.row_hits = call->row_hits;
    l.state = call->state;
    FOR_FORMAT(call->format, false,
               (cross_entropy_kernel<T, V><<<(unsigned)call->rows, LOSS_THREADS, 0, stream>>>(l, ELEMENTS(const T, call->logits),
                                                                                             ELEMENTS(T, call->gradient))));
    add_rows_kernel<<<1, TILE_THREADS, 0, stream>>>(call->rows, call->row_losses, call->row_hits, call->state);
}

struct pixel_loss {
    int64_t pixels;
    int classes;
    const uint8_t *labels;
    const float *weights;
    uint8_t ignored;
    double total, scale;
    double *sums; /* (gridDim.x, 2): loss, correct */
    const struct cuda_step_state *state;
};

template <typename T, int V>
static __global__ void pixel_cross_entropy_kernel(struct pixel_loss l, const T *log_probabilities, int64_t stride, T *gradient,
                                                  int64_t gradient_stride)
{
    __shared__ double sums[TILE_THREADS];
    double loss = 0.0, correct = 0.0, scale = l.scale * (double)l.state->loss_scale;
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t pixel = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; pixel < l.pixels; pixel += step) {
        const T *row = log_probabilities + pixel * stride;
        T *to = gradient + pixel * gradient_stride;
        int label = l.labels[pixel], best = 0;
        bool counts = label != l.ignored && label < l.classes;
        double share = counts && l.total > 0.0 ? (double)l.weights[label] / l.total : 0.0;
        for (int c = 0; c < l.classes; c++) {
            best = element_to_float(row[c]) > element_to_float(row[best]) ? c : best;
            element_from_float(counts && c == label ? (float)(-share * scale) : 0.0f, to + c);
        }
        if (counts) {
            loss -= share * (double)element_to_float(row[label]);
            correct += best == label;
        }
    }
    loss = block_sum(loss, sums);
    correct = block_sum(correct, sums);
    if (threadIdx.x == 0) {
        l.sums[2 * blockIdx.x] = loss;
        l.sums[2 * blockIdx.x + 1] = correct;
    }
}

static __global__ void add_pixels_kernel(int blocks, const double *partial, struct cuda_step_state *state)
{
    __shared__ double sums[TILE_THREADS];
    double loss = 0.0, correct = 0.0;
    for (int block = (int)threadIdx.x; block < blocks; block += TILE_THREADS) {
        loss += partial[2 * block];
        correct += partial[2 * block + 1];
    }
    loss = block_sum(loss, sums);
    correct = block_sum(correct, sums);
    if (threadIdx.x == 0) {
        state->loss = loss;
        state->correct = (int64_t)correct;
    }
}

void cuda_pixel_cross_entropy(const struct cuda_pixel_loss_call *call, cudaStream_t stream)
{
    struct pixel_loss l;
    l.pixels = call->pixels;
    l.classes = call->classes;
    l.labels = call->labels;
    l.weights = call->weights;
    l.ignored = call->ignored;
    l.total = call->total;
    l.scale = (double)call->scale;
    l.sums = call->sums;
    l.state = call->state;
    int64_t blocks = (call->pixels + TILE_THREADS - 1) / TILE_THREADS;
    unsigned grid = blocks < CUDA_NORM_BLOCKS ? (unsigned)blocks : (unsigned)CUDA_NORM_BLOCKS;
    FOR_FORMAT(call->format, false,
               (pixel_cross_entropy_kernel<T, V><<<grid, TILE_THREADS, 0, stream>>>(l, ELEMENTS(const T, call->log_probabilities),
                                                                                  ELEMENTS(T, call->gradient))));
    add_pixels_kernel<<<1, TILE_THREADS, 0, stream>>>((int)grid, call->sums, call->state);
}

/* ---- statistics of several ranks ---- */

/* A thread takes a float of a line. */
static __global__ void carry_kernel(const int *lines, int count, float ranks, const float *values, float *gradients)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)count * CUDA_LINE)
        return;
    int64_t e = (int64_t)lines[i / CUDA_LINE] * CUDA_LINE + i % CUDA_LINE;
    gradients[e] = values[e] / ranks;
}

static __global__ void take_kernel(const int *lines, int count, float *gradients, float *values)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)count * CUDA_LINE)
        return;
    int64_t e = (int64_t)lines[i / CUDA_LINE] * CUDA_LINE + i % CUDA_LINE;
    values[e] = gradients[e];
    gradients[e] = 0.0f;
}

static unsigned blocks_of_lines(int count)
{
    return (unsigned)(((int64_t)count * CUDA_LINE + TILE_THREADS - 1) / TILE_THREADS);
}

void cuda_carry_statistics(const int *lines, int count, int ranks, const float *values, float *gradients, cudaStream_t stream)
{
    if (count > 0)
        carry_kernel<<<blocks_of_lines(count), TILE_THREADS, 0, stream>>>(lines, count, (float)ranks, values, gradients);
}

void cuda_take_statistics(const int *lines, int count, float *gradients, float *values, cudaStream_t stream)
{
    if (count > 0)
        take_kernel<<<blocks_of_lines(count), TILE_THREADS, 0, stream>>>(lines, count, gradients, values);
}

/* ---- optimiser ---- */

/* sums: (gridDim.x), of squares. count is a multiple of four. */
static __global__ void squares_kernel(const float *gradients, int64_t count, double *partial)
{
    __shared__ double sums[TILE_THREADS];
    int64_t step = (int64_t)gridDim.x * blockDim.x * MOST_VECTOR;
    double sum = 0.0;
    for (int64_t e = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * MOST_VECTOR; e < count; e += step) {
        float gradient[MOST_VECTOR];
        load<float, MOST_VECTOR>(gradients + e, gradient);
#pragma unroll
        for (int i = 0; i < MOST_VECTOR; i++)
            sum += (double)gradient[i] * (double)gradient[i];
    }
    sum = block_sum(sum, sums);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

/* One block. */
static __global__ void judge_kernel(int blocks, const double *partial, double limit, bool scaling, struct cuda_step_state *state)
{
    __shared__ double sums[TILE_THREADS];
    const float most_scale = 16777216.0f; /* 2^24 */
    double sum = 0.0;
    for (int block = (int)threadIdx.x; block < blocks; block += TILE_THREADS)
        sum += partial[block];
    sum = block_sum(sum, sums);
    if (threadIdx.x != 0)
        return;
    float scale = state->loss_scale;
    double norm = sqrt(sum) / (double)scale, factor = limit > 0.0 && norm > limit ? limit / (norm + 1e-6) : 1.0;
    bool finite = isfinite(norm);
    state->norm = norm;
    state->factor = (float)(factor / (double)scale);
    state->take = finite || !scaling;
    if (!scaling)
        return;
    if (!finite) {
        state->loss_scale = scale > 1.0f ? 0.5f * scale : scale;
        state->good_steps = 0;
        state->skipped++;
    } else if (++state->good_steps >= CUDA_GOOD_STEPS) {
        state->loss_scale = scale < most_scale ? 2.0f * scale : scale;
        state->good_steps = 0;
    }
}

static unsigned blocks_for(int64_t count)
{
    int64_t blocks = (count / MOST_VECTOR + TILE_THREADS - 1) / TILE_THREADS;
    return blocks < 1 ? 1u : blocks < CUDA_NORM_BLOCKS ? (unsigned)blocks : (unsigned)CUDA_NORM_BLOCKS;
}

void cuda_judge_gradients(const float *gradients, int64_t count, double limit, bool scaling, double *sums, struct cuda_step_state *state,
                          cudaStream_t stream)
{
    unsigned blocks = blocks_for(count);
    squares_kernel<<<blocks, TILE_THREADS, 0, stream>>>(gradients, count, sums);
    judge_kernel<<<1, TILE_THREADS, 0, stream>>>((int)blocks, sums, limit, scaling, state);
}

/* g = factor * gradient + decay * w,  v = momentum * v + g,  w = w - rate * (nesterov ? g + momentum * v : v) */
static __global__ void optimiser_kernel(struct cuda_optimiser_call o)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x * MOST_VECTOR;
    float factor = o.state->factor;
    if (!o.state->take)
        return;
    for (int64_t e = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * MOST_VECTOR; e < o.count; e += step) {
        float scale = o.rate_scale[e / CUDA_LINE], decay = o.decay[e / CUDA_LINE], w[MOST_VECTOR], v[MOST_VECTOR], gradient[MOST_VECTOR];
        if (scale == 0.0f)
            continue;
        load<float, MOST_VECTOR>(o.values + e, w);
        load<float, MOST_VECTOR>(o.velocity + e, v);
        load<float, MOST_VECTOR>(o.gradients + e, gradient);
#pragma unroll
        for (int i = 0; i < MOST_VECTOR; i++) {
            float g = factor * gradient[i] + decay * w[i];
            v[i] = o.momentum * v[i] + g;
            w[i] -= o.rate * scale * (o.nesterov ? g + o.momentum * v[i] : v[i]);
        }
        store<float, MOST_VECTOR>(o.values + e, w);
        store<float, MOST_VECTOR>(o.velocity + e, v);
    }
}

void cuda_optimiser_step(const struct cuda_optimiser_call *call, cudaStream_t stream)
{
    enum { MOST_BLOCKS = 2048 };
    int64_t blocks = (call->count / MOST_VECTOR + TILE_THREADS - 1) / TILE_THREADS;
    optimiser_kernel<<<blocks < MOST_BLOCKS ? (unsigned)blocks : (unsigned)MOST_BLOCKS, TILE_THREADS, 0, stream>>>(*call);
}

static __global__ void average_kernel(int64_t count, const float *values, float *average, float decay)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; e < count; e += step)
        average[e] = decay * average[e] + (1.0f - decay) * values[e];
}

void cuda_average_weights(int64_t count, const float *values, float *average, float decay, cudaStream_t stream)
{
    average_kernel<<<blocks_for(count * MOST_VECTOR), TILE_THREADS, 0, stream>>>(count, values, average, decay);
}
