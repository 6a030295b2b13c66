/* cuda_map.cu - pooling, sums, copies and upsampling on the GPU.
 *
 * Everything here is bound by memory. What makes a result's element from elements at the same channel goes one way: a thread
 * computes WIDTH neighbouring channels of one pixel, which it loads and stores as one vector of up to 16 bytes, so a warp
 * moves whole 128-byte lines; WIDTH falls to 8 bytes or one element where channels, strides or addresses ask for it. The
 * rows of the result are laid out over blockIdx.x and the images over blockIdx.y: divisions are 32-bit ones and few, offsets
 * in memory 64-bit. A thread reads an element before it writes the same one and nobody else touches it, which is what lets
 * add, scale_shift and relu work in place.
 *
 * The global average takes a block per image and 32 vectors of channels, log_softmax a warp per pixel. All sums are formed
 * in an order that depends on the shape alone.
 */
#include "cuda/cuda_map.h"

#include "cuda/cuda_element.cuh"
#include "cuda/cuda_launch.h"
#include "cuda/ptx.cuh"

#include <math.h>

/* What every kernel here begins with: cuda_launch.h. */
static __device__ __forceinline__ void take_turn()
{
    wait_for_kernel_before();
    let_next_kernel_begin();
}

/* What a thread of map_kernel does. DEPTHWISE_TRANSPOSED: transposed convolution where every channel is its own group. */
enum operation { MAX_POOL, AVERAGE_POOL, ADD, SCALE_SHIFT, RELU, COPY, DEPTHWISE_TRANSPOSED, TRANSPOSED };

enum {
    BLOCK = 256,
    WARP = 32,
    WARPS = BLOCK / WARP,
    MOST_BLOCKS_DOWN = 65535 /* gridDim.y */
};

/* A pixel of the result and the first of the channels that a thread computes. */
struct place {
    int image, y, x, channel;
};

/* WIDTH elements that are loaded and stored at once. */
template <typename T, int WIDTH> struct alignas(sizeof(T) * WIDTH) vector {
    T element[WIDTH];
};

template <typename T, int WIDTH> static __device__ __forceinline__ void load(const T *from, float (&to)[WIDTH])
{
    vector<T, WIDTH> loaded = *(const vector<T, WIDTH> *)from;

#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        to[i] = element_to_float(loaded.element[i]);
}

template <typename T, int WIDTH> static __device__ __forceinline__ void store(const float (&from)[WIDTH], T *to)
{
    vector<T, WIDTH> rounded;

#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        element_from_float(from[i], &rounded.element[i]);
    *(vector<T, WIDTH> *)to = rounded;
}

/* The first channel of a pixel. */
template <typename T>
static __device__ __forceinline__ T *map_pixel_of(const struct cuda_view &view, int height, int width, int image, int y, int x)
{
    return (T *)view.data + (((int64_t)image * height + y) * width + x) * view.pixel_stride;
}

template <typename T>
static __device__ __forceinline__ const T *in_element(const struct cuda_map_call &c, const struct place &at, int y, int x)
{
    return map_pixel_of<const T>(c.in, c.in_height, c.in_width, at.image, y, x) + at.channel;
}

static __device__ __forceinline__ float relu_if(bool relu, float x)
{
    return relu && x < 0.0f ? 0.0f : x;
}

template <typename T, int WIDTH>
static __device__ void max_pool(const struct cuda_map_call &c, const struct place &at, float (&result)[WIDTH])
{
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        result[i] = -INFINITY;
    for (int ky = 0; ky < c.kernel; ky++)
        for (int kx = 0; kx < c.kernel; kx++) {
            int y = at.y * c.stride - c.padding + ky * c.dilation, x = at.x * c.stride - c.padding + kx * c.dilation;
            if (y < 0 || y >= c.in_height || x < 0 || x >= c.in_width)
                continue;
            float value[WIDTH];
            load<T, WIDTH>(in_element<T>(c, at, y, x), value);
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                if (value[i] > result[i] || isnan(value[i]))
                    result[i] = value[i];
        }
}

/* What lies outside counts as zero. */
template <typename T, int WIDTH>
static __device__ void average_pool(const struct cuda_map_call &c, const struct place &at, float (&result)[WIDTH])
{
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        result[i] = 0.0f;
    for (int ky = 0; ky < c.kernel; ky++)
        for (int kx = 0; kx < c.kernel; kx++) {
            int y = at.y * c.stride - c.padding + ky * c.dilation, x = at.x * c.stride - c.padding + kx * c.dilation;
            if (y < 0 || y >= c.in_height || x < 0 || x >= c.in_width)
                continue;
            float value[WIDTH];
            load<T, WIDTH>(in_element<T>(c, at, y, x), value);
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                result[i] += value[i];
        }
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        result[i] /= (float)(c.kernel * c.kernel);
}

template <typename T, int WIDTH> static __device__ void add(const struct cuda_map_call &c, const struct place &at, float (&result)[WIDTH])
{
    float other[WIDTH];

    load<T, WIDTH>(in_element<T>(c, at, at.y, at.x), result);
    load<T, WIDTH>(map_pixel_of<const T>(c.other, c.in_height, c.in_width, at.image, at.y, at.x) + at.channel, other);
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        result[i] = relu_if(c.relu, result[i] + other[i]);
}

template <typename T, int WIDTH>
static __device__ void scale_shift(const struct cuda_map_call &c, const struct place &at, float (&result)[WIDTH])
{
    load<T, WIDTH>(in_element<T>(c, at, at.y, at.x), result);
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        result[i] = relu_if(c.relu, result[i] * c.scale[at.channel + i] + c.shift[at.channel + i]);
}

template <typename T, int WIDTH> static __device__ void relu(const struct cuda_map_call &c, const struct place &at, float (&result)[WIDTH])
{
    load<T, WIDTH>(in_element<T>(c, at, at.y, at.x), result);
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        result[i] = relu_if(true, result[i]);
}

template <typename T, int WIDTH> static __device__ void copy(const struct cuda_map_call &c, const struct place &at, float (&result)[WIDTH])
{
    load<T, WIDTH>(in_element<T>(c, at, at.y, at.x), result);
}

/* Gathered: output y receives the input pixels that some tap ky leads from: in_y * stride = y + padding - ky. The first such tap
 * is the remainder of the division, each further one is a stride further and leads from the pixel before. */
template <typename T, int WIDTH>
static __device__ void depthwise_transposed(const struct cuda_map_call &c, const struct place &at, float (&result)[WIDTH])
{
    int down = at.y + c.padding, right = at.x + c.padding;

#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        result[i] = c.shift ? c.shift[at.channel + i] : 0.0f;
    for (int ky = down % c.stride, y = down / c.stride; ky < c.kernel && y >= 0; ky += c.stride, y--) {
        if (y >= c.in_height)
            continue;
        for (int kx = right % c.stride, x = right / c.stride; kx < c.kernel && x >= 0; kx += c.stride, x--) {
            if (x >= c.in_width)
                continue;
            const float *weight = c.weight + (int64_t)(ky * c.kernel + kx) * c.channels + at.channel; /* (WIDTH) */
            float value[WIDTH];
            load<T, WIDTH>(in_element<T>(c, at, y, x), value);
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                result[i] += value[i] * weight[i];
        }
    }
}

/* The same with sums over the input channels of the output channel's group. */
template <typename T> static __device__ void transposed(const struct cuda_map_call &c, const struct place &at, float (&result)[1])
{
    int down = at.y + c.padding, right = at.x + c.padding;
    int group_inputs = c.in_channels / c.groups, group_outputs = c.channels / c.groups;
    int first = at.channel / group_outputs * group_inputs;
    float sum = c.shift ? c.shift[at.channel] : 0.0f;

    for (int ky = down % c.stride, y = down / c.stride; ky < c.kernel && y >= 0; ky += c.stride, y--) {
        if (y >= c.in_height)
            continue;
        for (int kx = right % c.stride, x = right / c.stride; kx < c.kernel && x >= 0; kx += c.stride, x--) {
            if (x >= c.in_width)
                continue;
            const T *in = map_pixel_of<const T>(c.in, c.in_height, c.in_width, at.image, y, x); /* (in_channels) */
            const float *weight =
                c.weight + (int64_t)(ky * c.kernel + kx) * c.in_channels * group_outputs; /* (in_channels, group_outputs) */
            for (int i = first; i < first + group_inputs; i++)
                sum += element_to_float(in[i]) * weight[(int64_t)i * group_outputs + at.channel % group_outputs];
        }
    }
    result[0] = sum;
}

/* Threads cover a row's vectors of channels, pixel by pixel; gridDim.x is a multiple of out_height. */
template <typename T, int WIDTH, enum operation OPERATION>
static __global__ void __launch_bounds__(BLOCK) map_kernel(const __grid_constant__ struct cuda_map_call c)
{
    take_turn();
    unsigned vectors = (unsigned)(c.channels / WIDTH), blocks_a_row = gridDim.x / (unsigned)c.out_height;
    unsigned position = blockIdx.x % blocks_a_row * blockDim.x + threadIdx.x;
    struct place at;

    at.y = (int)(blockIdx.x / blocks_a_row);
    at.x = (int)(position / vectors);
    at.channel = (int)(position % vectors) * WIDTH;
    if (at.x >= c.out_width)
        return;
    for (at.image = (int)blockIdx.y; at.image < c.batch; at.image += (int)gridDim.y) {
        float result[WIDTH];
        if constexpr (OPERATION == MAX_POOL)
            max_pool<T, WIDTH>(c, at, result);
        else if constexpr (OPERATION == AVERAGE_POOL)
            average_pool<T, WIDTH>(c, at, result);
        else if constexpr (OPERATION == ADD)
            add<T, WIDTH>(c, at, result);
        else if constexpr (OPERATION == SCALE_SHIFT)
            scale_shift<T, WIDTH>(c, at, result);
        else if constexpr (OPERATION == RELU)
            relu<T, WIDTH>(c, at, result);
        else if constexpr (OPERATION == COPY)
            copy<T, WIDTH>(c, at, result);
        else if constexpr (OPERATION == DEPTHWISE_TRANSPOSED)
            depthwise_transposed<T, WIDTH>(c, at, result);
        else
            transposed<T>(c, at, result);
        store<T, WIDTH>(result, map_pixel_of<T>(c.out, c.out_height, c.out_width, at.image, at.y, at.x) + at.channel);
    }
}

/* Warps share the pixels of an image, lanes are neighbouring vectors of channels; then the warps' sums are added in their order. */
template <typename T, int WIDTH> static __global__ void __launch_bounds__(BLOCK) global_average_kernel(const struct cuda_map_call c)
{
    __shared__ float sums[WARPS][WARP * WIDTH];
    take_turn();
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int channel = ((int)blockIdx.x * WARP + lane) * WIDTH, pixels = c.in_height * c.in_width;

    for (int image = (int)blockIdx.y; image < c.batch; image += (int)gridDim.y) {
        const T *in = map_pixel_of<const T>(c.in, c.in_height, c.in_width, image, 0, 0) + channel;
        float sum[WIDTH] = {0.0f};
        if (channel < c.channels) {
#pragma unroll 4
            for (int pixel = warp; pixel < pixels; pixel += WARPS) {
                float value[WIDTH];
                load<T, WIDTH>(in + pixel * c.in.pixel_stride, value);
#pragma unroll
                for (int i = 0; i < WIDTH; i++)
                    sum[i] += value[i];
            }
        }
#pragma unroll
        for (int i = 0; i < WIDTH; i++)
            sums[warp][i * WARP + lane] = sum[i]; /* lanes side by side: no two in one bank */
        __syncthreads();
        if (warp == 0 && channel < c.channels) {
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                for (int w = 1; w < WARPS; w++)
                    sum[i] += sums[w][i * WARP + lane];
                sum[i] /= (float)pixels;
            }
            store<T, WIDTH>(sum, map_pixel_of<T>(c.out, 1, 1, image, 0, 0) + channel);
        }
        __syncthreads(); /* before the next image's sums */
    }
}

static __device__ __forceinline__ float warp_maximum(float x)
{
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

static __device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

/* out = in - max - log(sum(exp(in - max))): a lane has every 32nd channel, reads it thrice (twice from the cache) and alone writes it. */
template <typename T> static __global__ void __launch_bounds__(BLOCK) log_softmax_kernel(const struct cuda_map_call c)
{
    take_turn();
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int64_t pixel = (int64_t)blockIdx.x * WARPS + warp;

    if (pixel >= (int64_t)c.batch * c.out_height * c.out_width)
        return;                                                     /* the whole warp */
    const T *in = (const T *)c.in.data + pixel * c.in.pixel_stride; /* (channels) */
    T *out = (T *)c.out.data + pixel * c.out.pixel_stride;          /* (channels) */
    float largest = -INFINITY, sum = 0.0f;
    for (int i = lane; i < c.channels; i += WARP)
        largest = fmaxf(largest, element_to_float(in[i]));
    largest = warp_maximum(largest);
    for (int i = lane; i < c.channels; i += WARP)
        sum += expf(element_to_float(in[i]) - largest);
    float logarithm = logf(warp_sum(sum));
    for (int i = lane; i < c.channels; i += WARP)
        element_from_float(element_to_float(in[i]) - largest - logarithm, &out[i]);
}

/* A thread makes WIDTH elements of a padded pixel. */
template <typename T, int WIDTH>
static __global__ void __launch_bounds__(BLOCK)
    pad_kernel(const float *in, /* (pixels, channels) */
               int64_t pixels, int channels, struct cuda_view out /* (pixels, padded) */, int padded)
{
    take_turn();
    int64_t index = (int64_t)blockIdx.x * BLOCK + threadIdx.x, vectors = padded / WIDTH, pixel = index / vectors;
    int channel = (int)(index % vectors) * WIDTH;
    float value[WIDTH];

    if (pixel >= pixels)
        return;
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        value[i] = channel + i < channels ? in[pixel * channels + channel + i] : 0.0f;
    store<T, WIDTH>(value, (T *)out.data + pixel * out.pixel_stride + channel);
}

template <typename T, int WIDTH>
static __global__ void __launch_bounds__(BLOCK)
    to_float_kernel(struct cuda_view in /* (pixels, channels) */, int64_t pixels, int channels, float *out /* (pixels, channels) */)
{
    take_turn();
    int64_t index = (int64_t)blockIdx.x * BLOCK + threadIdx.x, vectors = channels / WIDTH, pixel = index / vectors;
    int channel = (int)(index % vectors) * WIDTH;
    float value[WIDTH];

    if (pixel >= pixels)
        return;
    load<T, WIDTH>((const T *)in.data + pixel * in.pixel_stride + channel, value);
    store<float, WIDTH>(value, out + pixel * channels + channel);
}

/* Errors show in cudaPeekAtLastError, as with any launch. */
template <typename... PARAMETERS, typename... ARGUMENTS>
static void start(void (*kernel)(PARAMETERS...), dim3 blocks, unsigned threads, cudaStream_t stream, const ARGUMENTS &...given)
{
    void *arguments[] = {(void *)&given...};
    struct cuda_grid grid = {blocks.x, blocks.y, blocks.z, threads, 0, 1};

    (void)cuda_launch((const void *)kernel, &grid, arguments, stream);
}

static unsigned divide_up(int64_t count, int64_t by)
{
    return (unsigned)((count + by - 1) / by);
}

/* Whether vectors of `width` elements lie at multiples of their size in every pixel. */
static bool is_aligned(const struct cuda_view *view, enum cuda_format format, int width)
{
    return view->pixel_stride % width == 0 && (uintptr_t)view->data % (cuda_format_bytes(format) * (size_t)width) == 0;
}

/* The widest vector, in elements, that all of the call's maps allow; other may be NULL. */
static int vector_width(const struct cuda_map_call *c, const struct cuda_view *other)
{
    for (int width = c->format == CUDA_FLOAT32 ? 4 : 8; width >= 4; width /= 2)
        if (c->channels % width == 0 && is_aligned(&c->in, c->format, width) && is_aligned(&c->out, c->format, width)
            && (!other || is_aligned(other, c->format, width)))
            return width;
    return 1;
}

static unsigned grid_images(const struct cuda_map_call *c)
{
    return c->batch < MOST_BLOCKS_DOWN ? (unsigned)c->batch : (unsigned)MOST_BLOCKS_DOWN;
}

template <typename T, int WIDTH, enum operation OPERATION> static void launch(const struct cuda_map_call *c, cudaStream_t stream)
{
    int64_t row = (int64_t)c->out_width * (c->channels / WIDTH); /* threads */
    unsigned block = row < BLOCK ? divide_up(row, WARP) * WARP : (unsigned)BLOCK;
    dim3 grid(divide_up(row, block) * (unsigned)c->out_height, grid_images(c));

    start(map_kernel<T, WIDTH, OPERATION>, grid, block, stream, *c);
}

template <typename T, enum operation OPERATION> static void launch_widest(const struct cuda_map_call *c, cudaStream_t stream)
{
    if constexpr (OPERATION == TRANSPOSED) {
        launch<T, 1, OPERATION>(c, stream);
    } else {
        int width = vector_width(c, OPERATION == ADD ? &c->other : NULL);
        if constexpr (sizeof(T) == 2)
            if (width == 8) {
                launch<T, 8, OPERATION>(c, stream);
                return;
            }
        if (width == 4)
            launch<T, 4, OPERATION>(c, stream);
        else
            launch<T, 1, OPERATION>(c, stream);
    }
}

template <enum operation OPERATION> static void launch_format(const struct cuda_map_call *c, cudaStream_t stream)
{
    FOR_ELEMENT(c->format, (launch_widest<T, OPERATION>(c, stream)));
}

void cuda_max_pool(const struct cuda_map_call *call, cudaStream_t stream)
{
    launch_format<MAX_POOL>(call, stream);
}

void cuda_average_pool(const struct cuda_map_call *call, cudaStream_t stream)
{
    launch_format<AVERAGE_POOL>(call, stream);
}

void cuda_add(const struct cuda_map_call *call, cudaStream_t stream)
{
    launch_format<ADD>(call, stream);
}

void cuda_scale_shift(const struct cuda_map_call *call, cudaStream_t stream)
{
    launch_format<SCALE_SHIFT>(call, stream);
}

void cuda_relu(const struct cuda_map_call *call, cudaStream_t stream)
{
    launch_format<RELU>(call, stream);
}

void cuda_copy(const struct cuda_map_call *call, cudaStream_t stream)
{
    launch_format<COPY>(call, stream);
}

void cuda_transposed_conv(const struct cuda_map_call *call, cudaStream_t stream)
{
    if (call->groups == call->channels && call->in_channels == call->channels)
        launch_format<DEPTHWISE_TRANSPOSED>(call, stream);
    else
        launch_format<TRANSPOSED>(call, stream);
}

template <typename T, int WIDTH> static void launch_global_average(const struct cuda_map_call *c, cudaStream_t stream)
{
    dim3 grid(divide_up(c->channels, WARP * WIDTH), grid_images(c));

    start(global_average_kernel<T, WIDTH>, grid, BLOCK, stream, *c);
}

template <typename T> static void launch_widest_global_average(const struct cuda_map_call *c, cudaStream_t stream)
{
    int width = vector_width(c, NULL);

    if constexpr (sizeof(T) == 2)
        if (width == 8) {
            launch_global_average<T, 8>(c, stream);
            return;
        }
    if (width == 4)
        launch_global_average<T, 4>(c, stream);
    else
        launch_global_average<T, 1>(c, stream);
}

void cuda_global_average_pool(const struct cuda_map_call *call, cudaStream_t stream)
{
    FOR_ELEMENT(call->format, (launch_widest_global_average<T>(call, stream)));
}

void cuda_log_softmax(const struct cuda_map_call *call, cudaStream_t stream)
{
    unsigned blocks = divide_up((int64_t)call->batch * call->out_height * call->out_width, WARPS);

    FOR_ELEMENT(call->format, (start(log_softmax_kernel<T>, dim3(blocks), BLOCK, stream, *call)));
}

/* Four elements at a time: 16 bytes on the float32 side. */
template <typename T>
static void launch_pad(const float *in, int64_t pixels, int channels, enum cuda_format format, const struct cuda_view *out, int padded,
                       cudaStream_t stream)
{
    if (padded % 4 == 0 && is_aligned(out, format, 4))
        start(pad_kernel<T, 4>, dim3(divide_up(pixels * (padded / 4), BLOCK)), BLOCK, stream, in, pixels, channels, *out, padded);
    else
        start(pad_kernel<T, 1>, dim3(divide_up(pixels * padded, BLOCK)), BLOCK, stream, in, pixels, channels, *out, padded);
}

void cuda_pad_channels(const float *in, int64_t pixels, int channels, enum cuda_format format, struct cuda_view out, int padded,
                       cudaStream_t stream)
{
    FOR_ELEMENT(format, (launch_pad<T>(in, pixels, channels, format, &out, padded, stream)));
}

template <typename T>
static void launch_to_float(const struct cuda_view *in, enum cuda_format format, int64_t pixels, int channels, float *out,
                            cudaStream_t stream)
{
    if (channels % 4 == 0 && is_aligned(in, format, 4) && (uintptr_t)out % sizeof(float4) == 0)
        start(to_float_kernel<T, 4>, dim3(divide_up(pixels * (channels / 4), BLOCK)), BLOCK, stream, *in, pixels, channels, out);
    else
        start(to_float_kernel<T, 1>, dim3(divide_up(pixels * channels, BLOCK)), BLOCK, stream, *in, pixels, channels, out);
}

void cuda_to_float(enum cuda_format format, struct cuda_view in, int64_t pixels, int channels, float *out, cudaStream_t stream)
{
    FOR_ELEMENT(format, (launch_to_float<T>(&in, format, pixels, channels, out, stream)));
}
