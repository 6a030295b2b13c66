/* train_tile.cuh - how training's kernels walk over maps.
 *
 * A thread keeps to V neighbouring channels and goes from pixel to pixel, so what belongs to a channel stays in its registers. A block is
 * x channel groups wide and y pixels high, 256 threads; x is the power of two that covers the channels, 64 at most, so
 * neighbouring threads read neighbouring memory. The grid is cut by the shape alone.
 */
#ifndef DLA_CUDA_TRAIN_TILE_CUH
#define DLA_CUDA_TRAIN_TILE_CUH

#include "cuda/cuda_element.cuh"

#include <stdint.h>

enum { TILE_THREADS = 256, TILE_WIDTH = 64, MOST_VECTOR = 4 };

struct tile {
    dim3 grid, block;
};

/* most_blocks: along the pixels and channels together; per_thread: pixels that a thread should have at least. */
static inline struct tile tile_of(int64_t pixels, int channels, int vector, int most_blocks, int per_thread)
{
    int groups = (channels + vector - 1) / vector, width = 1;
    while (width < groups && width < TILE_WIDTH)
        width *= 2;
    int height = TILE_THREADS / width, columns = (groups + width - 1) / width, most = most_blocks / columns > 0 ? most_blocks / columns : 1;
    int64_t share = (int64_t)height * per_thread, rows = (pixels + share - 1) / share;
    rows = rows < 1 ? 1 : rows > most ? most : rows;
    struct tile tile = {dim3((unsigned)rows, (unsigned)columns), dim3((unsigned)width, (unsigned)height)};
    return tile;
}

/* Whether channels of the view can be taken four at a time. */
static inline bool takes_vectors(enum cuda_format format, int channels, struct cuda_view view)
{
    return view.data == NULL
           || (channels % MOST_VECTOR == 0 && view.pixel_stride % MOST_VECTOR == 0
               && (uintptr_t)view.data % (MOST_VECTOR * cuda_format_bytes(format)) == 0);
}

/* The first channel of this thread, and its first pixel and step. */
static __device__ __forceinline__ int tile_channel(int vector)
{
    return (int)(blockIdx.y * blockDim.x + threadIdx.x) * vector;
}

static __device__ __forceinline__ int64_t tile_pixel(void)
{
    return (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
}

static __device__ __forceinline__ int64_t tile_step(void)
{
    return (int64_t)gridDim.x * blockDim.y;
}

template <int bytes> struct raw_bytes;
template <> struct raw_bytes<2> { typedef uint16_t type; };
template <> struct raw_bytes<4> { typedef uint32_t type; };
template <> struct raw_bytes<8> { typedef uint2 type; };
template <> struct raw_bytes<16> { typedef uint4 type; };

/* V elements as one access; from and to are aligned to all of them. */
template <typename T, int V> static __device__ __forceinline__ void load(const T *from, float (&to)[V])
{
    typedef typename raw_bytes<sizeof(T) * V>::type raw_type;
    union {
        raw_type raw;
        T elements[V];
    } access = {*reinterpret_cast<const raw_type *>(from)};
#pragma unroll
    for (int i = 0; i < V; i++)
        to[i] = element_to_float(access.elements[i]);
}

template <typename T, int V> static __device__ __forceinline__ void store(T *to, const float (&from)[V])
{
    typedef typename raw_bytes<sizeof(T) * V>::type raw_type;
    union {
        raw_type raw;
        T elements[V];
    } access;
#pragma unroll
    for (int i = 0; i < V; i++)
        element_from_float(from[i], &access.elements[i]);
    *reinterpret_cast<raw_type *>(to) = access.raw;
}

/* A view as two arguments of a kernel: its pointer and its stride. */
#define ELEMENTS(T, view) static_cast<T *>((view).data), (view).pixel_stride

/* Expands statement for each format and vector; T and V are what it is compiled for. */
#define FOR_FORMAT(format, vectors, statement) FOR_ELEMENT(format, FOR_VECTOR(vectors, statement))
#define FOR_VECTOR(vectors, statement)                                                                      \
    do {                                                                                                     \
        if (vectors) {                                                                                       \
            constexpr int V = MOST_VECTOR;                                                                   \
            statement;                                                                                       \
        } else {                                                                                             \
            constexpr int V = 1;                                                                             \
            statement;                                                                                       \
        }                                                                                                    \
    } while (0)

#endif
