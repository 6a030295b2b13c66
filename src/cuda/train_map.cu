/* train_map.cu - gradients of copies, relu, pools and the upsampling of dense networks on the GPU.
 *
 * A window's gradient is gathered, not scattered: a thread takes a pixel of the gradient that is made and looks for the windows that
 * the pixel lies in. So nothing is added from two sides at once, and sums have an order. Of a max pool's windows the maximum is
 * looked for again; neighbours share those reads in the cache.
 */
#include "base/counter_random.h"
#include "cuda/cuda_training.h"
#include "cuda/train_tile.cuh"

enum { MAP_BLOCKS = 4096, WARP = 32 };

/* ---- element by element ---- */

template <typename T, int V>
static __global__ void accumulate_kernel(int64_t pixels, int channels, const T *in, int64_t in_stride, T *out, int64_t out_stride, bool add)
{
    int channel = tile_channel(V);
    for (int64_t pixel = tile_pixel(); channel < channels && pixel < pixels; pixel += tile_step()) {
        float value[V], before[V];
        load<T, V>(in + pixel * in_stride + channel, value);
        if (add) {
            load<T, V>(out + pixel * out_stride + channel, before);
#pragma unroll
            for (int i = 0; i < V; i++)
                value[i] += before[i];
        }
        store<T, V>(out + pixel * out_stride + channel, value);
    }
}

template <typename T, int V> static __global__ void zero_kernel(int64_t pixels, int channels, T *out, int64_t out_stride)
{
    int channel = tile_channel(V);
    float zeros[V];
#pragma unroll
    for (int i = 0; i < V; i++)
        zeros[i] = 0.0f;
    for (int64_t pixel = tile_pixel(); channel < channels && pixel < pixels; pixel += tile_step())
        store<T, V>(out + pixel * out_stride + channel, zeros);
}

template <typename T, int V>
static __global__ void add_bias_kernel(int64_t pixels, int channels, const float *bias, T *out, int64_t out_stride)
{
    int channel = tile_channel(V);
    for (int64_t pixel = tile_pixel(); channel < channels && pixel < pixels; pixel += tile_step()) {
        float value[V];
        load<T, V>(out + pixel * out_stride + channel, value);
#pragma unroll
        for (int i = 0; i < V; i++)
            value[i] += bias[channel + i];
        store<T, V>(out + pixel * out_stride + channel, value);
    }
}

template <typename T, int V>
static __global__ void relu_backward_kernel(int64_t pixels, int channels, const T *out, int64_t out_stride, const T *out_gradient,
                                            int64_t out_gradient_stride, T *in_gradient, int64_t in_gradient_stride, bool add)
{
    int channel = tile_channel(V);
    for (int64_t pixel = tile_pixel(); channel < channels && pixel < pixels; pixel += tile_step()) {
        float z[V], gradient[V], before[V];
        T *to = in_gradient + pixel * in_gradient_stride + channel;
        load<T, V>(out + pixel * out_stride + channel, z);
        load<T, V>(out_gradient + pixel * out_gradient_stride + channel, gradient);
        if (add)
            load<T, V>(to, before);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float masked = z[i] > 0.0f ? gradient[i] : 0.0f;
            gradient[i] = add ? before[i] + masked : masked;
        }
        store<T, V>(to, gradient);
    }
}

template <typename T, int V>
static __global__ void drop_kernel(int64_t first, int64_t pixels, int channels, T *map, int64_t stride, uint64_t key, double probability,
                                   float kept)
{
    int channel = tile_channel(V);
    for (int64_t pixel = tile_pixel(); channel < channels && pixel < pixels; pixel += tile_step()) {
        float value[V];
        load<T, V>(map + pixel * stride + channel, value);
#pragma unroll
        for (int i = 0; i < V; i++)
            value[i] *= counter_uniform(key, (uint64_t)((first + pixel) * channels + channel + i)) < probability ? 0.0f : kept;
        store<T, V>(map + pixel * stride + channel, value);
    }
}

/* A warp takes a pixel, its lanes the channels. V is there for FOR_FORMAT. */
template <typename T, int V>
static __global__ void log_softmax_backward_kernel(int64_t pixels, int channels, const T *out, int64_t out_stride, const T *out_gradient,
                                                   int64_t out_gradient_stride, T *in_gradient, int64_t in_gradient_stride, bool add)
{
    int lane = (int)(threadIdx.x % WARP);
    int64_t warp = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP, warps = (int64_t)gridDim.x * blockDim.x / WARP;
    for (int64_t pixel = warp; pixel < pixels; pixel += warps) {
        const T *y = out + pixel * out_stride, *gradient = out_gradient + pixel * out_gradient_stride;
        T *to = in_gradient + pixel * in_gradient_stride;
        float sum = 0.0f;
        for (int c = lane; c < channels; c += WARP)
            sum += element_to_float(gradient[c]);
        for (int half = WARP / 2; half > 0; half /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, half);
        for (int c = lane; c < channels; c += WARP) {
            float result = element_to_float(gradient[c]) - expf(element_to_float(y[c])) * sum;
            element_from_float(add ? element_to_float(to[c]) + result : result, &to[c]);
        }
    }
}

/* ---- windows ---- */

/* A call with maps in elements of T. Pixel (image, y, x) of the large map, or of a transposed convolution's small one, is what a thread
 * takes. */
template <typename T> struct window_maps {
    int channels, in_height, in_width, out_height, out_width, kernel, stride, padding, dilation;
    int64_t pixels; /* batch * in_height * in_width */
    bool add;
    const T *in, *out_gradient;
    T *in_gradient;
    int64_t in_stride, out_gradient_stride, in_gradient_stride;
    const float *weight;
};

template <typename T> static window_maps<T> maps_of(const struct cuda_window_call *call)
{
    window_maps<T> w;
    w.channels = call->channels;
    w.in_height = call->in_height;
    w.in_width = call->in_width;
    w.out_height = call->out_height;
    w.out_width = call->out_width;
    w.kernel = call->kernel;
    w.stride = call->stride;
    w.padding = call->padding;
    w.dilation = call->dilation;
    w.pixels = (int64_t)call->batch * call->in_height * call->in_width;
    w.add = call->add;
    w.in = static_cast<const T *>(call->in.data);
    w.out_gradient = static_cast<const T *>(call->out_gradient.data);
    w.in_gradient = static_cast<T *>(call->in_gradient.data);
    w.in_stride = call->in.pixel_stride;
    w.out_gradient_stride = call->out_gradient.pixel_stride;
    w.in_gradient_stride = call->in_gradient.pixel_stride;
    w.weight = call->weight;
    return w;
}

struct pixel_place {
    int64_t image;
    int y, x;
};

static __device__ __forceinline__ struct pixel_place place_of(int64_t pixel, int height, int width)
{
    struct pixel_place place;
    int64_t row = pixel / width;
    place.x = (int)(pixel - row * width);
    place.image = row / height;
    place.y = (int)(row - place.image * height);
    return place;
}

/* The output coordinate whose window has tap `tap` on coordinate `in`, or -1. */
template <typename W> static __device__ __forceinline__ int window_of(const W &w, int in, int tap, int out_size)
{
    int start = in + w.padding - tap * w.dilation;
    if (start < 0 || start % w.stride != 0)
        return -1;
    int out = start / w.stride;
    return out < out_size ? out : -1;
}

/* Which tap of the window at (oy, ox) has the maximum of each channel: of equal ones the first in reading order. */
template <typename T, int V>
static __device__ __forceinline__ void window_maximum(const window_maps<T> &w, int64_t image, int oy, int ox, int channel, int (&best_tap)[V])
{
    float best[V];
    bool started = false;
    for (int ky = 0; ky < w.kernel; ky++)
        for (int kx = 0; kx < w.kernel; kx++) {
            int y = oy * w.stride - w.padding + ky * w.dilation, x = ox * w.stride - w.padding + kx * w.dilation;
            if (y < 0 || y >= w.in_height || x < 0 || x >= w.in_width)
                continue;
            float value[V];
            load<T, V>(w.in + ((image * w.in_height + y) * w.in_width + x) * w.in_stride + channel, value);
#pragma unroll
            for (int i = 0; i < V; i++)
                if (!started || value[i] > best[i]) {
                    best[i] = value[i];
                    best_tap[i] = ky * w.kernel + kx;
                }
            started = true;
        }
}

template <typename T, int V> static __global__ void max_pool_backward_kernel(window_maps<T> w)
{
    int channel = tile_channel(V);
    for (int64_t pixel = tile_pixel(); channel < w.channels && pixel < w.pixels; pixel += tile_step()) {
        struct pixel_place at = place_of(pixel, w.in_height, w.in_width);
        T *to = w.in_gradient + pixel * w.in_gradient_stride + channel;
        float sum[V], gradient[V];
        load<T, V>(to, sum);
        for (int ky = 0; ky < w.kernel; ky++)
            for (int kx = 0; kx < w.kernel; kx++) {
                int oy = window_of(w, at.y, ky, w.out_height), ox = window_of(w, at.x, kx, w.out_width), best_tap[V];
                if (oy < 0 || ox < 0)
                    continue;
                window_maximum<T, V>(w, at.image, oy, ox, channel, best_tap);
                load<T, V>(w.out_gradient + ((at.image * w.out_height + oy) * w.out_width + ox) * w.out_gradient_stride + channel, gradient);
#pragma unroll
                for (int i = 0; i < V; i++)
                    sum[i] += best_tap[i] == ky * w.kernel + kx ? gradient[i] : 0.0f;
            }
        store<T, V>(to, sum);
    }
}

template <typename T, int V> static __global__ void average_pool_backward_kernel(window_maps<T> w)
{
    int channel = tile_channel(V);
    float share = 1.0f / (float)(w.kernel * w.kernel);
    for (int64_t pixel = tile_pixel(); channel < w.channels && pixel < w.pixels; pixel += tile_step()) {
        struct pixel_place at = place_of(pixel, w.in_height, w.in_width);
        T *to = w.in_gradient + pixel * w.in_gradient_stride + channel;
        float sum[V], gradient[V];
        load<T, V>(to, sum);
        for (int ky = 0; ky < w.kernel; ky++)
            for (int kx = 0; kx < w.kernel; kx++) {
                int oy = window_of(w, at.y, ky, w.out_height), ox = window_of(w, at.x, kx, w.out_width);
                if (oy < 0 || ox < 0)
                    continue;
                load<T, V>(w.out_gradient + ((at.image * w.out_height + oy) * w.out_width + ox) * w.out_gradient_stride + channel, gradient);
#pragma unroll
                for (int i = 0; i < V; i++)
                    sum[i] = fmaf(gradient[i], share, sum[i]);
            }
        store<T, V>(to, sum);
    }
}

template <typename T, int V> static __global__ void global_average_backward_kernel(window_maps<T> w)
{
    int channel = tile_channel(V);
    int64_t image_pixels = (int64_t)w.in_height * w.in_width;
    for (int64_t pixel = tile_pixel(); channel < w.channels && pixel < w.pixels; pixel += tile_step()) {
        T *to = w.in_gradient + pixel * w.in_gradient_stride + channel;
        float gradient[V], before[V];
        load<T, V>(w.out_gradient + pixel / image_pixels * w.out_gradient_stride + channel, gradient);
        if (w.add)
            load<T, V>(to, before);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float share = gradient[i] / (float)image_pixels;
            gradient[i] = w.add ? before[i] + share : share;
        }
        store<T, V>(to, gradient);
    }
}

/* Over the pixels of the small map, out_height x out_width, which is the top left of the large one. */
template <typename T, int V> static __global__ void crop_backward_kernel(window_maps<T> w, int64_t out_pixels)
{
    int channel = tile_channel(V);
    for (int64_t pixel = tile_pixel(); channel < w.channels && pixel < out_pixels; pixel += tile_step()) {
        struct pixel_place at = place_of(pixel, w.out_height, w.out_width);
        T *to = w.in_gradient + ((at.image * w.in_height + at.y) * w.in_width + at.x) * w.in_gradient_stride + channel;
        float gradient[V], before[V];
        load<T, V>(w.out_gradient + pixel * w.out_gradient_stride + channel, gradient);
        load<T, V>(to, before);
#pragma unroll
        for (int i = 0; i < V; i++)
            gradient[i] += before[i];
        store<T, V>(to, gradient);
    }
}

/* The small map's gradient: input pixel (y, x) reached output y * stride - padding + ky through weight ky. */
template <typename T, int V> static __global__ void transposed_data_kernel(window_maps<T> w)
{
    int channel = tile_channel(V);
    for (int64_t pixel = tile_pixel(); channel < w.channels && pixel < w.pixels; pixel += tile_step()) {
        struct pixel_place at = place_of(pixel, w.in_height, w.in_width);
        T *to = w.in_gradient + pixel * w.in_gradient_stride + channel;
        float sum[V], gradient[V];
        load<T, V>(to, sum);
        for (int tap = 0; tap < w.kernel * w.kernel; tap++) {
            int oy = at.y * w.stride - w.padding + tap / w.kernel, ox = at.x * w.stride - w.padding + tap % w.kernel;
            if (oy < 0 || ox < 0 || oy >= w.out_height || ox >= w.out_width)
                continue;
            load<T, V>(w.out_gradient + ((at.image * w.out_height + oy) * w.out_width + ox) * w.out_gradient_stride + channel, gradient);
#pragma unroll
            for (int i = 0; i < V; i++)
                sum[i] = fmaf(gradient[i], w.weight[(int64_t)tap * w.channels + channel + i], sum[i]);
        }
        store<T, V>(to, sum);
    }
}

/* partial: (gridDim.x, taps, channels); blockIdx.z is the tap. */
template <typename T, int V> static __global__ void transposed_weight_kernel(window_maps<T> w, double *partial)
{
    __shared__ double sums[TILE_THREADS];
    int channel = tile_channel(1), thread = (int)(threadIdx.y * blockDim.x + threadIdx.x), tap = (int)blockIdx.z;
    double sum = 0.0;
    for (int64_t pixel = tile_pixel(); channel < w.channels && pixel < w.pixels; pixel += tile_step()) {
        struct pixel_place at = place_of(pixel, w.in_height, w.in_width);
        int oy = at.y * w.stride - w.padding + tap / w.kernel, ox = at.x * w.stride - w.padding + tap % w.kernel;
        if (oy < 0 || ox < 0 || oy >= w.out_height || ox >= w.out_width)
            continue;
        const T *gradient = w.out_gradient + ((at.image * w.out_height + oy) * w.out_width + ox) * w.out_gradient_stride + channel;
        sum += (double)(element_to_float(*gradient) * element_to_float(w.in[pixel * w.in_stride + channel]));
    }
    sums[thread] = sum;
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            sums[thread] += sums[thread + (int)(half * blockDim.x)];
    }
    if (threadIdx.y == 0 && channel < w.channels)
        partial[((int64_t)blockIdx.x * gridDim.z + tap) * w.channels + channel] = sums[thread];
}

/* gradient: (channels, taps) */
static __global__ void transposed_gradient_kernel(int channels, int taps, int chunks, const double *partial, float *gradient)
{
    int element = (int)(blockIdx.x * blockDim.x + threadIdx.x), channel = element % channels, tap = element / channels;
    if (tap >= taps)
        return;
    double sum = 0.0;
    for (int chunk = 0; chunk < chunks; chunk++)
        sum += partial[((int64_t)chunk * taps + tap) * channels + channel];
    gradient[(int64_t)channel * taps + tap] += (float)sum;
}

static __global__ void taps_first_kernel(int channels, int taps, const float *weight, float *turned)
{
    int element = (int)(blockIdx.x * blockDim.x + threadIdx.x), channel = element % channels, tap = element / channels;
    if (tap < taps)
        turned[(int64_t)tap * channels + channel] = weight[(int64_t)channel * taps + tap];
}

/* ---- the calls ---- */

static struct tile tile_for(int64_t pixels, int channels, bool vectors)
{
    return tile_of(pixels, channels, vectors ? MOST_VECTOR : 1, MAP_BLOCKS, 1);
}

void cuda_accumulate(enum cuda_format format, int64_t pixels, int channels, struct cuda_view in, struct cuda_view out, bool add,
                     cudaStream_t stream)
{
    bool vectors = takes_vectors(format, channels, in) && takes_vectors(format, channels, out);
    struct tile tile = tile_for(pixels, channels, vectors);
    FOR_FORMAT(format, vectors,
               (accumulate_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(pixels, channels, ELEMENTS(T, in), ELEMENTS(T, out), add)));
}

void cuda_zero(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out, cudaStream_t stream)
{
    bool vectors = takes_vectors(format, channels, out);
    struct tile tile = tile_for(pixels, channels, vectors);
    FOR_FORMAT(format, vectors, (zero_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(pixels, channels, ELEMENTS(T, out))));
}

void cuda_add_bias(enum cuda_format format, int64_t pixels, int channels, const float *bias, struct cuda_view out, cudaStream_t stream)
{
    bool vectors = takes_vectors(format, channels, out);
    struct tile tile = tile_for(pixels, channels, vectors);
    FOR_FORMAT(format, vectors, (add_bias_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(pixels, channels, bias, ELEMENTS(T, out))));
}

void cuda_relu_backward(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out, struct cuda_view out_gradient,
                        struct cuda_view in_gradient, bool add, cudaStream_t stream)
{
    bool vectors = takes_vectors(format, channels, out) && takes_vectors(format, channels, out_gradient)
                   && takes_vectors(format, channels, in_gradient);
    struct tile tile = tile_for(pixels, channels, vectors);
    FOR_FORMAT(format, vectors,
               (relu_backward_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(pixels, channels, ELEMENTS(T, out), ELEMENTS(T, out_gradient),
                                                                              ELEMENTS(T, in_gradient), add)));
}

void cuda_log_softmax_backward(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out, struct cuda_view out_gradient,
                               struct cuda_view in_gradient, bool add, cudaStream_t stream)
{
    int64_t blocks = (pixels * WARP + TILE_THREADS - 1) / TILE_THREADS;
    unsigned grid = blocks < MAP_BLOCKS ? (unsigned)blocks : (unsigned)MAP_BLOCKS;
    FOR_FORMAT(format, false,
               (log_softmax_backward_kernel<T, V><<<grid, TILE_THREADS, 0, stream>>>(
                   pixels, channels, ELEMENTS(T, out), ELEMENTS(T, out_gradient), ELEMENTS(T, in_gradient), add)));
}

void cuda_drop(enum cuda_format format, int64_t first, int64_t pixels, int channels, struct cuda_view map, uint64_t key,
               double probability, cudaStream_t stream)
{
    bool vectors = takes_vectors(format, channels, map);
    struct tile tile = tile_for(pixels, channels, vectors);
    float kept = (float)(1.0 / (1.0 - probability));
    FOR_FORMAT(format, vectors,
               (drop_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(first, pixels, channels, ELEMENTS(T, map), key, probability, kept)));
}

static bool vectors_of(const struct cuda_window_call *call)
{
    return takes_vectors(call->format, call->channels, call->in) && takes_vectors(call->format, call->channels, call->out_gradient)
           && takes_vectors(call->format, call->channels, call->in_gradient);
}

static int64_t in_pixels(const struct cuda_window_call *call)
{
    return (int64_t)call->batch * call->in_height * call->in_width;
}

void cuda_max_pool_backward(const struct cuda_window_call *call, cudaStream_t stream)
{
    bool vectors = vectors_of(call);
    struct tile tile = tile_for(in_pixels(call), call->channels, vectors);
    FOR_FORMAT(call->format, vectors, (max_pool_backward_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(maps_of<T>(call))));
}

void cuda_average_pool_backward(const struct cuda_window_call *call, cudaStream_t stream)
{
    bool vectors = vectors_of(call);
    struct tile tile = tile_for(in_pixels(call), call->channels, vectors);
    FOR_FORMAT(call->format, vectors, (average_pool_backward_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(maps_of<T>(call))));
}

void cuda_global_average_pool_backward(const struct cuda_window_call *call, cudaStream_t stream)
{
    bool vectors = vectors_of(call);
    struct tile tile = tile_for(in_pixels(call), call->channels, vectors);
    FOR_FORMAT(call->format, vectors, (global_average_backward_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(maps_of<T>(call))));
}

void cuda_crop_backward(const struct cuda_window_call *call, cudaStream_t stream)
{
    bool vectors = vectors_of(call);
    int64_t pixels = (int64_t)call->batch * call->out_height * call->out_width;
    struct tile tile = tile_for(pixels, call->channels, vectors);
    FOR_FORMAT(call->format, vectors, (crop_backward_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(maps_of<T>(call), pixels)));
}

/* The grid of the weights' gradient, a column of blocks per tap. */
static struct tile transposed_tile(int64_t pixels, int channels, int kernel)
{
    enum { MOST_CHUNKS = 256, PIXELS_PER_THREAD = 8 };
    struct tile tile = tile_of(pixels, channels, 1, MOST_CHUNKS, PIXELS_PER_THREAD);
    tile.grid.z = (unsigned)(kernel * kernel);
    return tile;
}

int64_t cuda_transposed_sums(int64_t pixels, int channels, int kernel)
{
    return (int64_t)transposed_tile(pixels, channels, kernel).grid.x * kernel * kernel * channels;
}

void cuda_transposed_conv_backward(const struct cuda_window_call *call, cudaStream_t stream)
{
    int taps = call->kernel * call->kernel, elements = taps * call->channels;
    if (call->in_gradient.data) {
        bool vectors = vectors_of(call);
        struct tile tile = tile_for(in_pixels(call), call->channels, vectors);
        FOR_FORMAT(call->format, vectors, (transposed_data_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(maps_of<T>(call))));
    }
    if (call->weight_gradient) {
        struct tile tile = transposed_tile(in_pixels(call), call->channels, call->kernel);
        FOR_FORMAT(call->format, false,
                   (transposed_weight_kernel<T, V><<<tile.grid, tile.block, 0, stream>>>(maps_of<T>(call), call->sums)));
        transposed_gradient_kernel<<<(elements + TILE_THREADS - 1) / TILE_THREADS, TILE_THREADS, 0, stream>>>(
            call->channels, taps, (int)tile.grid.x, call->sums, call->weight_gradient);
    }
}

void cuda_taps_first(int channels, int taps, const float *weight, float *turned, cudaStream_t stream)
{
    taps_first_kernel<<<(channels * taps + TILE_THREADS - 1) / TILE_THREADS, TILE_THREADS, 0, stream>>>(channels, taps, weight, turned);
}
