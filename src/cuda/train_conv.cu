/* train_conv.cu - convolutions and their gradients by definition, and weights from one order into the other.
 *
 *     out[q][o]          = sum over taps t, channels i of in[q * stride + t * dilation - padding][i] * weight[o][t][i]
 *     in'[p][i]          = sum over (q, t) that reach p, and o, of out'[q][o] * weight[o][t][i]
 *     weight'[o][t][i]   = sum over q of out'[q][o] * in[q * stride + t * dilation - padding][i]
 *
 * A thread computes one element. They are the twins that cuDNN's convolutions are tested against, and take over where cuDNN has no
 * algorithm for a shape: correct, and many times slower. The weights' gradient is summed in chunks of pixels that are then added in order.
 */
#include "cuda/cuda_training.h"
#include "cuda/train_tile.cuh"

enum { MOST_CHUNKS = 128, PIXELS_PER_CHUNK = 64, MOST_SUMS = 1 << 25, MOST_BLOCKS = 1 << 20 };

/* Maps and weights in elements of T. */
template <typename T> struct conv_maps {
    struct conv_shape shape;
    T *in, *out; /* each is only read where it is not what is computed */
    int64_t in_stride, out_stride;
    const T *weight;
    bool add;
};

template <typename T> static conv_maps<T> maps_of(const struct cuda_conv_pass *pass)
{
    conv_maps<T> m;
    m.shape = *pass->shape;
    m.in = static_cast<T *>(pass->in.data);
    m.out = static_cast<T *>(pass->out.data);
    m.in_stride = pass->in.pixel_stride;
    m.out_stride = pass->out.pixel_stride;
    m.weight = static_cast<const T *>(pass->weight);
    m.add = pass->add;
    return m;
}

static __device__ __forceinline__ int64_t first_element(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ int64_t element_step(void)
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* The pixel of the input under a tap of output pixel (oy, ox) of an image; -1 outside. */
static __device__ __forceinline__ int64_t tapped_pixel(const struct conv_shape &s, int64_t image, int oy, int ox, int tap)
{
    int y = oy * s.stride - s.padding + tap / s.kernel * s.dilation, x = ox * s.stride - s.padding + tap % s.kernel * s.dilation;
    if (y < 0 || y >= s.in_height || x < 0 || x >= s.in_width)
        return -1;
    return (image * s.in_height + y) * s.in_width + x;
}

template <typename T, int V> static __global__ void forward_kernel(conv_maps<T> m, int64_t elements)
{
    const struct conv_shape &s = m.shape;
    int in_channels = s.in_channels / s.groups, out_channels = s.out_channels / s.groups, taps = s.kernel * s.kernel;
    for (int64_t e = first_element(); e < elements; e += element_step()) {
        int64_t pixel = e / s.out_channels, row = pixel / s.out_width, image = row / s.out_height;
        int o = (int)(e - pixel * s.out_channels), ox = (int)(pixel - row * s.out_width), oy = (int)(row - image * s.out_height);
        float sum = 0.0f;
        for (int tap = 0; tap < taps; tap++) {
            int64_t from = tapped_pixel(s, image, oy, ox, tap);
            if (from < 0)
                continue;
            const T *in = m.in + from * m.in_stride + o / out_channels * in_channels;
            const T *weight = m.weight + ((int64_t)o * taps + tap) * in_channels;
            for (int i = 0; i < in_channels; i++)
                sum = fmaf(element_to_float(in[i]), element_to_float(weight[i]), sum);
        }
        element_from_float(sum, m.out + pixel * m.out_stride + o);
    }
}

template <typename T, int V> static __global__ void data_kernel(conv_maps<T> m, int64_t elements)
{
    const struct conv_shape &s = m.shape;
    int in_channels = s.in_channels / s.groups, out_channels = s.out_channels / s.groups, taps = s.kernel * s.kernel;
    for (int64_t e = first_element(); e < elements; e += element_step()) {
        int64_t pixel = e / s.in_channels, row = pixel / s.in_width, image = row / s.in_height;
        int i = (int)(e - pixel * s.in_channels), x = (int)(pixel - row * s.in_width), y = (int)(row - image * s.in_height);
        int group = i / in_channels;
        float sum = 0.0f;
        for (int tap = 0; tap < taps; tap++) {
            int down = y + s.padding - tap / s.kernel * s.dilation, right = x + s.padding - tap % s.kernel * s.dilation;
            if (down < 0 || right < 0 || down % s.stride != 0 || right % s.stride != 0)
                continue;
            int oy = down / s.stride, ox = right / s.stride;
            if (oy >= s.out_height || ox >= s.out_width)
                continue;
            const T *out = m.out + ((image * s.out_height + oy) * s.out_width + ox) * m.out_stride + group * out_channels;
            const T *weight = m.weight + ((int64_t)group * out_channels * taps + tap) * in_channels + i % in_channels;
            for (int o = 0; o < out_channels; o++)
                sum = fmaf(element_to_float(out[o]), element_to_float(weight[(int64_t)o * taps * in_channels]), sum);
        }
        T *to = m.in + pixel * m.in_stride + i;
        element_from_float(m.add ? element_to_float(*to) + sum : sum, to);
    }
}

/* sums: (gridDim.y, elements); chunk blockIdx.y of the output pixels. */
template <typename T, int V> static __global__ void weight_kernel(conv_maps<T> m, int64_t elements, float *sums)
{
    const struct conv_shape &s = m.shape;
    int in_channels = s.in_channels / s.groups, out_channels = s.out_channels / s.groups, taps = s.kernel * s.kernel;
    int64_t pixels = (int64_t)s.batch * s.out_height * s.out_width;
    int64_t first = pixels * blockIdx.y / gridDim.y, end = pixels * (blockIdx.y + 1) / gridDim.y;
    for (int64_t e = first_element(); e < elements; e += element_step()) {
        int i = (int)(e % in_channels), tap = (int)(e / in_channels % taps), o = (int)(e / in_channels / taps);
        float sum = 0.0f;
        for (int64_t pixel = first; pixel < end; pixel++) {
            int64_t row = pixel / s.out_width, image = row / s.out_height;
            int64_t from = tapped_pixel(s, image, (int)(row - image * s.out_height), (int)(pixel - row * s.out_width), tap);
            if (from >= 0)
                sum = fmaf(element_to_float(m.out[pixel * m.out_stride + o]),
                           element_to_float(m.in[from * m.in_stride + o / out_channels * in_channels + i]), sum);
        }
        sums[blockIdx.y * elements + e] = sum;
    }
}

template <typename T, int V> static __global__ void add_chunks_kernel(int64_t elements, int chunks, const float *sums, T *gradient)
{
    for (int64_t e = first_element(); e < elements; e += element_step()) {
        double sum = 0.0;
        for (int chunk = 0; chunk < chunks; chunk++)
            sum += (double)sums[chunk * elements + e];
        element_from_float((float)sum, gradient + e);
    }
}

static unsigned blocks_for(int64_t elements)
{
    int64_t blocks = (elements + TILE_THREADS - 1) / TILE_THREADS;
    return blocks < MOST_BLOCKS ? (unsigned)blocks : (unsigned)MOST_BLOCKS;
}

void cuda_conv_direct_forward(const struct cuda_conv_pass *pass, cudaStream_t stream)
{
    const struct conv_shape *s = pass->shape;
    int64_t elements = (int64_t)s->batch * s->out_height * s->out_width * s->out_channels;
    FOR_FORMAT(pass->format, false, (forward_kernel<T, V><<<blocks_for(elements), TILE_THREADS, 0, stream>>>(maps_of<T>(pass), elements)));
}

void cuda_conv_direct_data(const struct cuda_conv_pass *pass, cudaStream_t stream)
{
    const struct conv_shape *s = pass->shape;
    int64_t elements = (int64_t)s->batch * s->in_height * s->in_width * s->in_channels;
    FOR_FORMAT(pass->format, false, (data_kernel<T, V><<<blocks_for(elements), TILE_THREADS, 0, stream>>>(maps_of<T>(pass), elements)));
}

static int64_t weight_elements(const struct conv_shape *s)
{
    return (int64_t)s->out_channels * s->kernel * s->kernel * (s->in_channels / s->groups);
}

static int weight_chunks(const struct conv_shape *s)
{
    int64_t pixels = (int64_t)s->batch * s->out_height * s->out_width, chunks = (pixels + PIXELS_PER_CHUNK - 1) / PIXELS_PER_CHUNK;
    int64_t most = MOST_SUMS / weight_elements(s);
    most = most > MOST_CHUNKS ? (int64_t)MOST_CHUNKS : most < 1 ? 1 : most;
    return (int)(chunks > most ? most : chunks);
}

int64_t cuda_conv_direct_sums(const struct conv_shape *shape)
{
    return weight_chunks(shape) * weight_elements(shape);
}

void cuda_conv_direct_weight(const struct cuda_conv_pass *pass, cudaStream_t stream)
{
    int64_t elements = weight_elements(pass->shape);
    int chunks = weight_chunks(pass->shape);
    dim3 grid(blocks_for(elements), (unsigned)chunks);
    FOR_FORMAT(pass->format, false, (weight_kernel<T, V><<<grid, TILE_THREADS, 0, stream>>>(maps_of<T>(pass), elements, pass->sums)));
    FOR_FORMAT(pass->format, false,
               (add_chunks_kernel<T, V><<<blocks_for(elements), TILE_THREADS, 0, stream>>>(elements, chunks, pass->sums,
                                                                                         static_cast<T *>(pass->weight_gradient))));
}

/* ---- weights ---- */

/* blockIdx.y is the convolution. The flat block is walked in the order in which the turned one lies: its reads are scattered, and few. */
template <typename T, int V> static __global__ void turn_weights_kernel(const struct cuda_turned_weights *table, const float *values, T *turned)
{
    struct cuda_turned_weights w = table[blockIdx.y];
    int64_t elements = (int64_t)w.out * w.in * w.taps;
    for (int64_t e = first_element(); e < elements; e += element_step()) {
        int64_t row = e / w.in, o = row / w.taps;
        int i = (int)(e - row * w.in), tap = (int)(row - o * w.taps);
        element_from_float(values[w.flat + (o * w.in + i) * w.taps + tap], turned + w.turned + e);
    }
}

template <typename T, int V>
static __global__ void turn_gradients_kernel(const struct cuda_turned_weights *table, const T *turned, float *gradients)
{
    struct cuda_turned_weights w = table[blockIdx.y];
    int64_t elements = w.trained ? (int64_t)w.out * w.in * w.taps : 0;
    for (int64_t e = first_element(); e < elements; e += element_step()) {
        int64_t row = e / w.taps, o = row / w.in;
        int tap = (int)(e - row * w.taps), i = (int)(row - o * w.in);
        gradients[w.flat + e] += element_to_float(turned[w.turned + (o * w.taps + tap) * w.in + i]);
    }
}

static dim3 turning_grid(int count, int64_t largest)
{
    enum { BLOCKS_PER_WEIGHT = 512 };
    unsigned blocks = blocks_for(largest);
    return dim3(blocks < BLOCKS_PER_WEIGHT ? blocks : (unsigned)BLOCKS_PER_WEIGHT, (unsigned)count);
}

void cuda_turn_weights(enum cuda_format format, const struct cuda_turned_weights *table, int count, int64_t largest, const float *values,
                       void *turned, cudaStream_t stream)
{
    FOR_FORMAT(format, false,
               (turn_weights_kernel<T, V><<<turning_grid(count, largest), TILE_THREADS, 0, stream>>>(table, values, static_cast<T *>(turned))));
}

void cuda_turn_gradients(enum cuda_format format, const struct cuda_turned_weights *table, int count, int64_t largest, const void *turned,
                         float *gradients, cudaStream_t stream)
{
    FOR_FORMAT(format, false,
               (turn_gradients_kernel<T, V><<<turning_grid(count, largest), TILE_THREADS, 0, stream>>>(
                   table, static_cast<const T *>(turned), gradients)));
}
