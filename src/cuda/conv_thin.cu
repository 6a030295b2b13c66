/* conv_thin.cu - convolutions of few channels, which move many bytes for few products: a network's first three, and those of many groups.
 *
 * As matrix products (gemm_params.h) they would read every pixel once per tap, 49 times. Here a block copies the pixels under
 * TILE_HEIGHT x TILE_WIDTH results into shared memory once and takes the operands of all taps from there: a fragment's rows are
 * sixteen neighbouring results, whose pixels of one tap lie STRIDE pixels apart, wherever the tap is. Weights stay in shared memory
 * while a block works through its tiles.
 *
 * Chunks are 16 bytes of a pixel; chunk q of the sum is chunk q % CHUNKS of tap q / CHUNKS. Pixels and rows of weights are an odd
 * number of chunks apart in shared memory, so that the eight rows of a fragment fall on different banks (at stride 2, on every other).
 *
 * Neighbouring groups of a grouped convolution are joined to sets of sixteen channels, as in gemm_params.h; a block works on one set.
 *
 * Outputs are packed in such an order that a thread's sums are neighbouring channels: column 2t + i of fragment j is channel
 * t * OUTPUTS / 4 + 2j + i.
 */
#include "cuda/gemm_warp.cuh"
#include "cuda/thin_params.h"

enum { WARPS = 8, THREADS = 32 * WARPS };

/* Blocks of a multiprocessor, so that one loads while others compute; exact sums and their totals take too many registers for three. */
static constexpr int blocks_of(cuda_arithmetic arithmetic)
{
    return arithmetic == CUDA_EXACT ? 2 : 3;
}

static constexpr int odd(int x)
{
    return x | 1;
}

static constexpr int steps_of(int kernel, int chunks)
{
    return (kernel * kernel * chunks + 1) / 2;
}

template <int KERNEL, int STRIDE, int CHUNKS, int OUTPUTS, int TILE_HEIGHT, int TILE_WIDTH> struct thin_layout {
    static const int height = (TILE_HEIGHT - 1) * STRIDE + KERNEL, width = (TILE_WIDTH - 1) * STRIDE + KERNEL;
    static const int pixel_bytes = odd(CHUNKS) * CHUNK_BYTES, steps = steps_of(KERNEL, CHUNKS), row_bytes = odd(2 * steps) * CHUNK_BYTES;
    static const int weight_bytes = OUTPUTS * row_bytes, shared_bytes = weight_bytes + height * width * pixel_bytes;
};

/* in_y, in_x: of the tile's first pixel in the image. pixels: shared address. */
template <typename LAYOUT, int CHUNKS>
static __device__ __forceinline__ void load_pixels(const thin_params &p, const char *in, int image, int in_y, int in_x, uint32_t pixels)
{
    for (int i = threadIdx.x; i < LAYOUT::height * LAYOUT::width * CHUNKS; i += THREADS) {
        int pixel = i / CHUNKS, chunk = i % CHUNKS, y = pixel / LAYOUT::width, x = pixel % LAYOUT::width;
        bool inside = (unsigned)(in_y + y) < (unsigned)p.in_height && (unsigned)(in_x + x) < (unsigned)p.in_width;
        const char *from = in + ((int64_t)(image * p.in_height + in_y + y) * p.in_width + in_x + x) * p.in_stride + chunk * CHUNK_BYTES;
        copy_16(pixels + pixel * LAYOUT::pixel_bytes + chunk * CHUNK_BYTES, inside ? from : in, inside);
    }
}

/* Bytes from a result's first pixel to chunk q of its sum. Beyond the last tap weights are zero: any pixel will do. */
template <typename LAYOUT, int KERNEL, int CHUNKS> static __device__ __forceinline__ int chunk_offset(int q)
{
    int tap = q / CHUNKS < KERNEL * KERNEL ? q / CHUNKS : 0;
    return (tap / KERNEL * LAYOUT::width + tap % KERNEL) * LAYOUT::pixel_bytes + q % CHUNKS * CHUNK_BYTES;
}

/* sums of results first_x + lane / 4 (+ 8) of row y, all outputs. */
template <typename T, int OUTPUTS>
static __device__ __forceinline__ void store_results(const thin_params &p, int image, int y, int first_x,
                                                     const float (&sums)[OUTPUTS / 8][4])
{
    const int channels = OUTPUTS / 4, chunk = channels * sizeof(T) > CHUNK_BYTES ? CHUNK_BYTES / sizeof(T) : channels;
    struct alignas(chunk * sizeof(T)) results {
        T element[chunk];
    };
    const int lane = threadIdx.x % 32, first_channel = blockIdx.y * OUTPUTS + lane % 4 * channels;

#pragma unroll
    for (int half = 0; half < 2; half++) {
        int x = first_x + lane / 4 + 8 * half;
        if (y >= p.out_height || x >= p.out_width)
            continue;
        T *out = (T *)p.out + ((int64_t)(image * p.out_height + y) * p.out_width + x) * p.out_stride + first_channel;
#pragma unroll
        for (int c = 0; c < channels; c += chunk) {
            results part;
#pragma unroll
            for (int k = 0; k < chunk; k++) {
                float value = sums[(c + k) / 2][2 * half + (c + k) % 2] + p.bias[first_channel + c + k];
                element_from_float(p.relu && value < 0.0f ? 0.0f : value, &part.element[k]);
            }
            *(results *)(out + c) = part;
        }
    }
}

/* grid: (blocks that share the tiles, sets). */
template <cuda_arithmetic ARITHMETIC, int KERNEL, int STRIDE, int CHUNKS, int OUTPUTS, int TILE_HEIGHT, int TILE_WIDTH>
__global__ __launch_bounds__(THREADS, blocks_of(ARITHMETIC)) void conv_thin(const __grid_constant__ thin_params p)
{
    typedef thin_layout<KERNEL, STRIDE, CHUNKS, OUTPUTS, TILE_HEIGHT, TILE_WIDTH> layout;
    typedef typename element_of<ARITHMETIC>::type element;
    const int A = TILE_HEIGHT * TILE_WIDTH / 16 / WARPS, B = OUTPUTS / 16, GROUPS_A_ROW = TILE_WIDTH / 16;
    extern __shared__ __align__(1024) char shared[];
    uint32_t weights = shared_address(shared), pixels = weights + layout::weight_bytes;
    const bool exact = ARITHMETIC == CUDA_EXACT;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const char *packed = p.packed + (int64_t)blockIdx.y * layout::weight_bytes;
    uint32_t b_row = weights + (lane % 8 + lane / 16 * 8) * layout::row_bytes + lane / 8 % 2 * CHUNK_BYTES;
    uint32_t a_row[A];

#pragma unroll
    for (int i = 0; i < A; i++) {
        int group = warp * A + i, y = group / GROUPS_A_ROW, x = group % GROUPS_A_ROW * 16 + lane % 16;
        a_row[i] = pixels + (y * STRIDE * layout::width + x * STRIDE) * layout::pixel_bytes;
    }
    for (int i = threadIdx.x; i < layout::weight_bytes / CHUNK_BYTES; i += THREADS)
        copy_16(weights + i * CHUNK_BYTES, packed + i * CHUNK_BYTES, true);
    wait_for_kernel_before();
    let_next_kernel_begin();
    for (int tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        int image = tile / (p.tiles_x * p.tiles_y), place = tile - image * (p.tiles_x * p.tiles_y);
        int out_y = place / p.tiles_x * TILE_HEIGHT, out_x = place % p.tiles_x * TILE_WIDTH;
        float sums[A][OUTPUTS / 8][4] = {}, total[A][OUTPUTS / 8][4] = {}; /* total: gemm_exact.cuh */

        __syncthreads(); /* everybody is done with the tile before */
        load_pixels<layout, CHUNKS>(p, p.in + blockIdx.y * CHUNKS * CHUNK_BYTES, image, out_y * STRIDE - p.padding,
                                    out_x * STRIDE - p.padding, pixels);
        copies_commit();
        copies_wait<0>();
        __syncthreads();
#pragma unroll
        for (int step = 0; step < layout::steps; step++) {
            fragments<ARITHMETIC, A, B> f;
            int low = chunk_offset<layout, KERNEL, CHUNKS>(2 * step), high = chunk_offset<layout, KERNEL, CHUNKS>(2 * step + 1);
#pragma unroll
            for (int i = 0; i < A; i++)
                load_matrices(f.a[i], a_row[i] + (lane / 16 ? high : low));
#pragma unroll
            for (int j = 0; j < B; j++)
                load_matrices(f.b[j], b_row + 16 * j * layout::row_bytes + 2 * step * CHUNK_BYTES);
            multiply<ARITHMETIC, A, B>(f, sums);
            if (exact && (step % DEPTHS_A_SUM == DEPTHS_A_SUM - 1 || step == layout::steps - 1))
                move_sums<A * OUTPUTS / 8 * 4>(&sums[0][0][0], &total[0][0][0]);
        }
#pragma unroll
        for (int i = 0; i < A; i++) {
            int group = warp * A + i;
            store_results<element, OUTPUTS>(p, image, out_y + group / GROUPS_A_ROW, out_x + group % GROUPS_A_ROW * 16,
                                            exact ? total[i] : sums[i]);
        }
    }
}

#define THIN_KERNEL(arithmetic, kernel, stride, chunks, outputs, height, width)                                                            \
    {                                                                                                                                      \
        (const void *)conv_thin<arithmetic, kernel, stride, chunks, outputs, height, width>, kernel, stride, chunks, outputs, height,      \
            width, steps_of(kernel, chunks), thin_layout<kernel, stride, chunks, outputs, height, width>::row_bytes,                       \
            thin_layout<kernel, stride, chunks, outputs, height, width>::shared_bytes, THREADS                                             \
    }
/* The stem, level 0, level 1, groups at both strides; small tiles, too, for maps or batches that would not fill the device with large ones.
 * Of a kind the larger comes first. */
#define THIN_KERNELS(arithmetic, chunks)                                                                                                   \
    THIN_KERNEL(arithmetic, 7, 1, 1, 16, 16, 32), THIN_KERNEL(arithmetic, 7, 1, 1, 16, 8, 16),                                             \
        THIN_KERNEL(arithmetic, 3, 1, chunks, 16, 16, 32), THIN_KERNEL(arithmetic, 3, 1, chunks, 16, 8, 16),                               \
        THIN_KERNEL(arithmetic, 3, 2, chunks, 32, 8, 32), THIN_KERNEL(arithmetic, 3, 2, chunks, 32, 8, 16),                                \
        THIN_KERNEL(arithmetic, 3, 2, chunks, 16, 8, 16)
/* Groups of 32 halves. */
#define THIN_KERNELS_OF_HALVES(arithmetic)                                                                                                 \
    THIN_KERNELS(arithmetic, 2), THIN_KERNEL(arithmetic, 3, 1, 4, 32, 8, 16), THIN_KERNEL(arithmetic, 3, 2, 4, 32, 8, 16)

const struct thin_kernel *thin_kernels(enum cuda_arithmetic arithmetic, int *count)
{
    static const struct thin_kernel exact[] = {THIN_KERNELS(CUDA_EXACT, 4)}, tf32[] = {THIN_KERNELS(CUDA_TF32, 4)},
                                    half[] = {THIN_KERNELS_OF_HALVES(CUDA_HALF)}, brain[] = {THIN_KERNELS_OF_HALVES(CUDA_BRAIN)};

    *count = arithmetic == CUDA_HALF || arithmetic == CUDA_BRAIN ? sizeof half / sizeof half[0] : sizeof exact / sizeof exact[0];
    return arithmetic == CUDA_EXACT ? exact : arithmetic == CUDA_TF32 ? tf32 : arithmetic == CUDA_HALF ? half : brain;
}
