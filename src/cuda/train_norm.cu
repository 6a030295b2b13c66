/* train_norm.cu - batch norm, with the residual and the relu behind it, forward and backward (cpu/training.h has the equations).
 *
 * Each direction takes two passes over the map: sums per channel, then the map itself. A thread sums its pixels, SUM_PIXELS at a time in
 * float and those sums in double; a block adds its threads up, a warp a channel's blocks, all in a fixed order. Sums of x are
 * taken of x minus its value at the first pixel: a mean far from zero costs the variance no digits. All passes are bound by
 * memory and touch every map once; relu, residual and the residual's gradient ride along.
 *
 * Where several ranks share a norm, their sums are added up between the passes; the sums of x are then taken of x minus the running mean,
 * which is the same on all of them.
 */
#include "cuda/cuda_training.h"
#include "cuda/train_tile.cuh"

enum { SUM_PIXELS = 32, SUM_BLOCKS = 1024, PIXELS_PER_THREAD = 8, APPLY_BLOCKS = 4096, WARP = 32, FINISH_THREADS = 256 };

/* What the kernels need of a call, maps in elements of T. */
template <typename T> struct norm_maps {
    int64_t pixels;
    int channels;
    bool relu, accumulate_in, accumulate_residual;
    const T *in, *residual, *out_read, *out_gradient;
    T *out, *in_gradient, *residual_gradient;
    int64_t in_stride, residual_stride, out_stride, out_gradient_stride, in_gradient_stride, residual_gradient_stride;
};

template <typename T> static norm_maps<T> maps_of(const struct cuda_norm_call *call)
{
    norm_maps<T> m;
    m.pixels = call->pixels;
    m.channels = call->channels;
    m.relu = call->relu;
    m.accumulate_in = call->accumulate_in;
    m.accumulate_residual = call->accumulate_residual;
    m.in = static_cast<const T *>(call->in.data);
    m.in_stride = call->in.pixel_stride;
    m.residual = static_cast<const T *>(call->residual.data);
    m.residual_stride = call->residual.pixel_stride;
    m.out = static_cast<T *>(call->out.data);
    m.out_read = m.out;
    m.out_stride = call->out.pixel_stride;
    m.out_gradient = static_cast<const T *>(call->out_gradient.data);
    m.out_gradient_stride = call->out_gradient.pixel_stride;
    m.in_gradient = static_cast<T *>(call->in_gradient.data);
    m.in_gradient_stride = call->in_gradient.pixel_stride;
    m.residual_gradient = static_cast<T *>(call->residual_gradient.data);
    m.residual_gradient_stride = call->residual_gradient.pixel_stride;
    return m;
}

template <int V> static __device__ __forceinline__ void load_channels(const float *from, int channel, float (&to)[V])
{
#pragma unroll
    for (int i = 0; i < V; i++)
        to[i] = from[channel + i];
}

/* Adds up what the threads of a column of the block hold for their channels, in a fixed order, and writes
 * partial[blockIdx.x][kind][channel], kind 0 or 1. Every thread of the block comes here. */
template <int V> static __device__ void add_block(double (&first)[V], double (&second)[V], int channel, int channels, double *partial)
{
    __shared__ double sums[2 * V][TILE_THREADS];
    int thread = (int)(threadIdx.y * blockDim.x + threadIdx.x);
#pragma unroll
    for (int i = 0; i < V; i++) {
        sums[i][thread] = first[i];
        sums[V + i][thread] = second[i];
    }
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
#pragma unroll
            for (int i = 0; i < 2 * V; i++)
                sums[i][thread] += sums[i][thread + (int)(half * blockDim.x)];
    }
    if (threadIdx.y == 0 && channel < channels)
#pragma unroll
        for (int i = 0; i < V; i++) {
            partial[(int64_t)blockIdx.x * 2 * channels + channel + i] = sums[i][thread];
            partial[((int64_t)blockIdx.x * 2 + 1) * channels + channel + i] = sums[V + i][thread];
        }
}

/* partial: (gridDim.x, 2, channels), sums of x - origin and of its square; origin, (channels), is written: `given`, or where that is NULL
 * the first pixel. */
template <typename T, int V>
static __global__ void norm_sums_kernel(norm_maps<T> m, const float *given, float *origin, double *partial)
{
    int channel = tile_channel(V);
    double sums[V], squares[V];
    float shift[V];
#pragma unroll
    for (int i = 0; i < V; i++)
        sums[i] = squares[i] = 0.0;
    if (channel < m.channels) {
        if (given)
            load_channels<V>(given, channel, shift);
        else
            load<T, V>(m.in + channel, shift);
        if (blockIdx.x == 0 && threadIdx.y == 0)
#pragma unroll
            for (int i = 0; i < V; i++)
                origin[channel + i] = shift[i];
        for (int64_t pixel = tile_pixel(); pixel < m.pixels;) {
            float sum[V], square[V];
#pragma unroll
            for (int i = 0; i < V; i++)
                sum[i] = square[i] = 0.0f;
#pragma unroll 4
            for (int k = 0; k < SUM_PIXELS && pixel < m.pixels; k++, pixel += tile_step()) {
                float x[V];
                load<T, V>(m.in + pixel * m.in_stride + channel, x);
#pragma unroll
                for (int i = 0; i < V; i++) {
                    float offset = x[i] - shift[i];
                    sum[i] += offset;
                    square[i] = fmaf(offset, offset, square[i]);
                }
            }
#pragma unroll
            for (int i = 0; i < V; i++) {
                sums[i] += (double)sum[i];
                squares[i] += (double)square[i];
            }
        }
    }
    add_block<V>(sums, squares, channel, m.channels, partial);
}

/* What of a call belongs to channels. */
struct norm_channels {
    int channels, chunks; /* chunks of partial sums */
    double pixels;
    bool fixed;
    double momentum, epsilon;
    const float *weight, *bias;
    float *running_mean, *running_var;
    float *mean, *deviation_inverse, *scale, *shift, *gradient_of_x, *gradient_constant;
    float *weight_gradient, *bias_gradient;
    const double *partial;
};

static struct norm_channels channels_of(const struct cuda_norm_call *call, int chunks)
{
    struct norm_channels c;
    c.channels = call->channels;
    c.chunks = chunks;
    c.pixels = (double)call->pixels;
    c.fixed = call->fixed;
    c.momentum = (double)call->momentum;
    c.epsilon = (double)call->epsilon;
    c.weight = call->weight;
    c.bias = call->bias;
    c.running_mean = call->running_mean;
    c.running_var = call->running_var;
    c.mean = call->mean;
    c.deviation_inverse = call->deviation_inverse;
    c.scale = call->scale;
    c.shift = call->shift;
    c.gradient_of_x = call->gradient_of_x;
    c.gradient_constant = call->gradient_constant;
    c.weight_gradient = call->weight_gradient;
    c.bias_gradient = call->bias_gradient;
    c.partial = call->sums;
    return c;
}

/* The chunks' sums of one channel; a warp's lanes take every 32nd and are added as a tree. Right in lane 0. */
static __device__ double sum_of_chunks(const double *partial, int chunks, int channels, int kind, int channel)
{
    double sum = 0.0;
    for (int chunk = (int)(threadIdx.x % WARP); chunk < chunks; chunk += WARP)
        sum += partial[((int64_t)chunk * 2 + kind) * channels + channel];
    for (int half = WARP / 2; half > 0; half /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, half);
    return sum;
}

/* A warp takes one channel. */
static __device__ __forceinline__ int warp_channel(void)
{
    return (int)((blockIdx.x * blockDim.x + threadIdx.x) / WARP);
}

/* The sums of all chunks into the first one's place. A warp takes one kind of one channel, and no other reads that place. */
static __global__ void add_chunks_kernel(int channels, int chunks, double *partial)
{
    int column = warp_channel();
    if (column >= 2 * channels)
        return; /* the whole warp */
    double sum = sum_of_chunks(partial, chunks, channels, column / channels, column % channels);
    if (threadIdx.x % WARP == 0)
        partial[column] = sum;
}

static __global__ void norm_statistics_kernel(struct norm_channels n)
{
    int c = warp_channel();
    if (c >= n.channels)
        return; /* the whole warp */
    double sum = 0.0, square = 0.0;
    if (!n.fixed) {
        sum = sum_of_chunks(n.partial, n.chunks, n.channels, 0, c);
        square = sum_of_chunks(n.partial, n.chunks, n.channels, 1, c);
    }
    if (threadIdx.x % WARP != 0)
        return;
    double mean = (double)n.running_mean[c], variance = (double)n.running_var[c];
    if (!n.fixed) {
        double offset = sum / n.pixels;
        mean = (double)n.mean[c] + offset;
        variance = fmax(square / n.pixels - offset * offset, 0.0);
        if (isnan(sum))
            variance = sum;
        n.running_mean[c] = (float)((1.0 - n.momentum) * (double)n.running_mean[c] + n.momentum * mean);
        n.running_var[c] = (float)((1.0 - n.momentum) * (double)n.running_var[c]
                                   + n.momentum * variance * (n.pixels > 1.0 ? n.pixels / (n.pixels - 1.0) : 1.0));
    }
    double inverse = 1.0 / sqrt(variance + n.epsilon);
    n.mean[c] = (float)mean;
    n.deviation_inverse[c] = (float)inverse;
    n.scale[c] = (float)((double)n.weight[c] * inverse);
    n.shift[c] = (float)((double)n.bias[c] - mean * (double)n.scale[c]);
}

/* z = [relu](scale x + shift [+ residual]); a NaN passes, so that a run that diverged is noticed. */
template <typename T, int V> static __global__ void norm_apply_kernel(norm_maps<T> m, const float *scale_of, const float *shift_of)
{
    int channel = tile_channel(V);
    if (channel >= m.channels)
        return;
    float scale[V], shift[V];
    load_channels<V>(scale_of, channel, scale);
    load_channels<V>(shift_of, channel, shift);
    for (int64_t pixel = tile_pixel(); pixel < m.pixels; pixel += tile_step()) {
        float z[V], residual[V];
        load<T, V>(m.in + pixel * m.in_stride + channel, z);
        if (m.residual)
            load<T, V>(m.residual + pixel * m.residual_stride + channel, residual);
#pragma unroll
        for (int i = 0; i < V; i++) {
            z[i] = fmaf(scale[i], z[i], shift[i]);
            if (m.residual)
                z[i] += residual[i];
            if (m.relu && z[i] < 0.0f)
                z[i] = 0.0f;
        }
        store<T, V>(m.out + pixel * m.out_stride + channel, z);
    }
}

/* The gradient behind the relu: where z > 0. Without a residual z follows from x, as in forward, and is not read. */
template <typename T, int V>
static __device__ __forceinline__ void masked_gradient(const norm_maps<T> &m, int64_t pixel, int channel, const float (&x)[V],
                                                       const float (&scale)[V], const float (&shift)[V], float (&gradient)[V])
{
    load<T, V>(m.out_gradient + pixel * m.out_gradient_stride + channel, gradient);
    if (!m.relu)
        return;
    float z[V];
    if (m.residual)
        load<T, V>(m.out_read + pixel * m.out_stride + channel, z);
#pragma unroll
    for (int i = 0; i < V; i++) {
        float value = m.residual ? z[i] : fmaf(scale[i], x[i], shift[i]);
        gradient[i] = value > 0.0f ? gradient[i] : 0.0f;
    }
}

/* partial: (gridDim.x, 2, channels), sums of the masked gradient and of its product with x - mean. */
template <typename T, int V>
static __global__ void norm_backward_sums_kernel(norm_maps<T> m, const float *scale_of, const float *shift_of, const float *mean_of,
                                                 double *partial)
{
    int channel = tile_channel(V);
    double sums[V], products[V];
#pragma unroll
    for (int i = 0; i < V; i++)
        sums[i] = products[i] = 0.0;
    if (channel < m.channels) {
        float scale[V], shift[V], mean[V];
        load_channels<V>(scale_of, channel, scale);
        load_channels<V>(shift_of, channel, shift);
        load_channels<V>(mean_of, channel, mean);
        for (int64_t pixel = tile_pixel(); pixel < m.pixels;) {
            float sum[V], product[V];
#pragma unroll
            for (int i = 0; i < V; i++)
                sum[i] = product[i] = 0.0f;
#pragma unroll 4
            for (int k = 0; k < SUM_PIXELS && pixel < m.pixels; k++, pixel += tile_step()) {
                float x[V], gradient[V];
                load<T, V>(m.in + pixel * m.in_stride + channel, x);
                masked_gradient<T, V>(m, pixel, channel, x, scale, shift, gradient);
#pragma unroll
                for (int i = 0; i < V; i++) {
                    sum[i] += gradient[i];
                    product[i] = fmaf(gradient[i], x[i] - mean[i], product[i]);
                }
            }
#pragma unroll
            for (int i = 0; i < V; i++) {
                sums[i] += (double)sum[i];
                products[i] += (double)product[i];
            }
        }
    }
    add_block<V>(sums, products, channel, m.channels, partial);
}

static __global__ void norm_gradients_kernel(struct norm_channels n)
{
    int c = warp_channel();
    if (c >= n.channels)
        return; /* the whole warp */
    double bias = sum_of_chunks(n.partial, n.chunks, n.channels, 0, c);
    double product = sum_of_chunks(n.partial, n.chunks, n.channels, 1, c);
    if (threadIdx.x % WARP != 0)
        return;
    double inverse = (double)n.deviation_inverse[c], weight = product * inverse, scale = (double)n.scale[c];
    if (n.weight_gradient)
        n.weight_gradient[c] += (float)weight;
    if (n.bias_gradient)
        n.bias_gradient[c] += (float)bias;
    n.gradient_of_x[c] = n.fixed ? 0.0f : (float)(-scale * inverse * weight / n.pixels);
    n.gradient_constant[c] = n.fixed ? 0.0f : (float)(-scale * bias / n.pixels);
}

template <typename T, int V>
static __global__ void norm_backward_apply_kernel(norm_maps<T> m, const float *scale_of, const float *shift_of, const float *mean_of,
                                                  const float *gradient_of_x_of, const float *gradient_constant_of)
{
    int channel = tile_channel(V);
    if (channel >= m.channels)
        return;
    float scale[V], shift[V], mean[V], gradient_of_x[V], gradient_constant[V];
    load_channels<V>(scale_of, channel, scale);
    load_channels<V>(shift_of, channel, shift);
    load_channels<V>(mean_of, channel, mean);
    load_channels<V>(gradient_of_x_of, channel, gradient_of_x);
    load_channels<V>(gradient_constant_of, channel, gradient_constant);
    for (int64_t pixel = tile_pixel(); pixel < m.pixels; pixel += tile_step()) {
        float x[V], gradient[V], before[V];
        load<T, V>(m.in + pixel * m.in_stride + channel, x);
        masked_gradient<T, V>(m, pixel, channel, x, scale, shift, gradient);
        if (m.residual_gradient) {
            T *to = m.residual_gradient + pixel * m.residual_gradient_stride + channel;
            float sum[V];
            if (m.accumulate_residual)
                load<T, V>(to, before);
#pragma unroll
            for (int i = 0; i < V; i++)
                sum[i] = m.accumulate_residual ? before[i] + gradient[i] : gradient[i];
            store<T, V>(to, sum);
        }
        if (m.in_gradient) {
            T *to = m.in_gradient + pixel * m.in_gradient_stride + channel;
            if (m.accumulate_in)
                load<T, V>(to, before);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float result = fmaf(gradient_of_x[i], x[i] - mean[i], gradient_constant[i]);
                result = fmaf(scale[i], gradient[i], result);
                gradient[i] = m.accumulate_in ? before[i] + result : result;
            }
            store<T, V>(to, gradient);
        }
    }
}

/* Just the sums of a gradient per channel, the second kind is zero. */
template <typename T, int V> static __global__ void channel_sums_kernel(norm_maps<T> m, double *partial)
{
    int channel = tile_channel(V);
    double sums[V], none[V];
#pragma unroll
    for (int i = 0; i < V; i++)
        sums[i] = none[i] = 0.0;
    for (int64_t pixel = tile_pixel(); channel < m.channels && pixel < m.pixels; pixel += tile_step()) {
        float gradient[V];
        load<T, V>(m.out_gradient + pixel * m.out_gradient_stride + channel, gradient);
#pragma unroll
        for (int i = 0; i < V; i++)
            sums[i] += (double)gradient[i];
    }
    add_block<V>(sums, none, channel, m.channels, partial);
}

static __global__ void add_channel_sums_kernel(int channels, int chunks, const double *partial, float *gradient)
{
    int c = warp_channel();
    if (c >= channels)
        return; /* the whole warp */
    double sum = sum_of_chunks(partial, chunks, channels, 0, c);
    if (threadIdx.x % WARP == 0)
        gradient[c] += (float)sum;
}

static bool vectors_of(const struct cuda_norm_call *call)
{
    const struct cuda_view views[] = {call->in, call->out, call->residual, call->out_gradient, call->in_gradient, call->residual_gradient};
    bool vectors = true;
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
        vectors = vectors && takes_vectors(call->format, call->channels, views[i]);
    return vectors;
}

/* The grid of the kernels that sum; with vectors there are fewer columns, and at most as many chunks. */
static struct tile sum_tile(int64_t pixels, int channels, bool vectors)
{
    return tile_of(pixels, channels, vectors ? MOST_VECTOR : 1, SUM_BLOCKS, PIXELS_PER_THREAD);
}

static struct tile apply_tile(const struct cuda_norm_call *call, bool vectors)
{
    return tile_of(call->pixels, call->channels, vectors ? MOST_VECTOR : 1, APPLY_BLOCKS, 1);
}

static int finish_blocks(int channels)
{
    return (channels * WARP + FINISH_THREADS - 1) / FINISH_THREADS;
}

int64_t cuda_norm_sums(int64_t pixels, int channels)
{
    unsigned with = sum_tile(pixels, channels, true).grid.x, without = sum_tile(pixels, channels, false).grid.x;
    return (int64_t)(with > without ? with : without) * 2 * channels;
}

/* The sums of all chunks and of all ranks, in the first chunk's place. */
static void add_ranks(const struct cuda_norm_call *call, int chunks, cudaStream_t stream)
{
    add_chunks_kernel<<<finish_blocks(2 * call->channels), FINISH_THREADS, 0, stream>>>(call->channels, chunks, call->sums);
    call->ranks->sum(call->ranks->context, call->sums, 2 * call->channels, stream);
}

/* What of a call belongs to channels once its ranks have added up. */
static struct norm_channels channels_of_ranks(const struct cuda_norm_call *call)
{
    struct norm_channels c = channels_of(call, 1);
    c.pixels *= (double)call->ranks->count;
    return c;
}

template <typename T, int V> static void norm_forward(const struct cuda_norm_call *call, bool again, cudaStream_t stream)
{
    norm_maps<T> m = maps_of<T>(call);
    struct tile sum = sum_tile(call->pixels, call->channels, V > 1), apply = apply_tile(call, V > 1);
    if (!again) {
        struct norm_channels channels = channels_of(call, (int)sum.grid.x);
        if (!call->fixed)
            norm_sums_kernel<T, V><<<sum.grid, sum.block, 0, stream>>>(m, call->ranks ? call->running_mean : NULL, call->mean, call->sums);
        if (!call->fixed && call->ranks) {
            add_ranks(call, channels.chunks, stream);
            channels = channels_of_ranks(call);
        }
        norm_statistics_kernel<<<finish_blocks(call->channels), FINISH_THREADS, 0, stream>>>(channels);
    }
    norm_apply_kernel<T, V><<<apply.grid, apply.block, 0, stream>>>(m, call->scale, call->shift);
}

template <typename T, int V> static void norm_backward(const struct cuda_norm_call *call, cudaStream_t stream)
{
    norm_maps<T> m = maps_of<T>(call);
    struct tile sum = sum_tile(call->pixels, call->channels, V > 1), apply = apply_tile(call, V > 1);
    norm_backward_sums_kernel<T, V><<<sum.grid, sum.block, 0, stream>>>(m, call->scale, call->shift, call->mean, call->sums);
    norm_gradients_kernel<<<finish_blocks(call->channels), FINISH_THREADS, 0, stream>>>(channels_of(call, (int)sum.grid.x));
    if (!call->fixed && call->ranks) { /* once more, for the gradient of x alone: that of weight and bias is this rank's */
        add_ranks(call, (int)sum.grid.x, stream);
        struct norm_channels channels = channels_of_ranks(call);
        channels.weight_gradient = channels.bias_gradient = NULL;
        norm_gradients_kernel<<<finish_blocks(call->channels), FINISH_THREADS, 0, stream>>>(channels);
    }
    if (m.in_gradient || m.residual_gradient)
        norm_backward_apply_kernel<T, V><<<apply.grid, apply.block, 0, stream>>>(m, call->scale, call->shift, call->mean,
                                                                               call->gradient_of_x, call->gradient_constant);
}

void cuda_norm_forward(const struct cuda_norm_call *given, bool again, cudaStream_t stream)
{
    struct cuda_norm_call call = *given;
    call.out_gradient.data = call.in_gradient.data = call.residual_gradient.data = NULL;
    FOR_FORMAT(call.format, vectors_of(&call), (norm_forward<T, V>(&call, again, stream)));
}

void cuda_norm_backward(const struct cuda_norm_call *call, cudaStream_t stream)
{
    FOR_FORMAT(call->format, vectors_of(call), (norm_backward<T, V>(call, stream)));
}

template <typename T, int V>
static void bias_gradient(int64_t pixels, int channels, struct cuda_view out_gradient, double *sums, float *gradient, cudaStream_t stream)
{
    norm_maps<T> m = {};
    m.pixels = pixels;
    m.channels = channels;
    m.out_gradient = static_cast<const T *>(out_gradient.data);
    m.out_gradient_stride = out_gradient.pixel_stride;
    struct tile sum = sum_tile(pixels, channels, V > 1);
    channel_sums_kernel<T, V><<<sum.grid, sum.block, 0, stream>>>(m, sums);
    add_channel_sums_kernel<<<finish_blocks(channels), FINISH_THREADS, 0, stream>>>(channels, (int)sum.grid.x, sums, gradient);
}

void cuda_bias_gradient(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out_gradient, double *sums, float *gradient,
                        cudaStream_t stream)
{
    FOR_FORMAT(format, takes_vectors(format, channels, out_gradient), (bias_gradient<T, V>(pixels, channels, out_gradient, sums, gradient, stream)));
}
