/* gemm_store.cuh - from sums in registers to the map: sums of all blocks of a cluster (a power of two of them, 16 at most), bias, residual, relu.
 *
 * The sums go through shared memory, (tile rows, PITCH floats), because a thread holds pairs of them far apart while memory wants
 * 16 bytes and more at a time. There, too, the blocks of a cluster meet that each summed a part of the steps: block r finishes
 * the r-th part of the rows and reads the sums of all blocks, in an order that depends on r alone: the result is the same every time.
 */
#ifndef DLA_CUDA_GEMM_STORE_CUH
#define DLA_CUDA_GEMM_STORE_CUH

#include "cuda/cuda_element.cuh"
#include "cuda/gemm_load.cuh"
#include "cuda/ptx.cuh"

/* Eight floats more than a row has columns: the pairs of half a warp's fragments fall on all banks. */
template <int COLUMNS> struct sum_pitch {
    static const int value = COLUMNS + 8;
};

/* The map's elements of each arithmetic. */
template <cuda_arithmetic ARITHMETIC> struct element_of {
    typedef float type;
};
template <> struct element_of<CUDA_HALF> {
    typedef __half type;
};
template <> struct element_of<CUDA_BRAIN> {
    typedef __nv_bfloat16 type;
};

/* Elements that are moved together. */
template <typename T, int COUNT> struct alignas(COUNT * sizeof(T)) element_vector {
    T element[COUNT];
};

/* One fragment of 16 x 8 sums, as products leave it: lane 4g + t has (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). */
static __device__ __forceinline__ void put_fragment(float *sums, int pitch, int row, int column, const float *fragment)
{
    int lane = threadIdx.x % 32;
    float *at = sums + (row + lane / 4) * pitch + column + lane % 4 * 2;

    *(float2 *)at = make_float2(fragment[0], fragment[1]);
    *(float2 *)(at + 8 * pitch) = make_float2(fragment[2], fragment[3]);
}

/* The sum of four floats at one address in the shared memory of all `count` blocks of the cluster. All are under way before the first is
 * needed, and every block begins with another one, so that they do not queue for the same. The order of a sum depends on the place
 * of its result alone. */
static __device__ __forceinline__ float4 sum_of_blocks(uint32_t address, int count, int rank)
{
    const int most = 16;
    float4 parts[most];

#pragma unroll
    for (int i = 0; i < most; i++)
        if (i < count)
            parts[i] = load_from_block(address, (rank + i) & (count - 1));
    float4 sum = parts[0];
#pragma unroll
    for (int i = 1; i < most; i++)
        if (i < count)
            sum = make_float4(sum.x + parts[i].x, sum.y + parts[i].y, sum.z + parts[i].z, sum.w + parts[i].w);
    return sum;
}

/* COUNT neighbouring results of one pixel. add: of the residual, or NULL. */
template <typename T, int COUNT>
static __device__ __forceinline__ void finish(const gemm_params &p, const float *sums, const float *bias, const T *add, T *to)
{
    element_vector<T, COUNT> result, added;

    if (add)
        added = *(const element_vector<T, COUNT> *)add;
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        float x = sums[k] + bias[k];
        if (add)
            x += element_to_float(added.element[k]);
        element_from_float(p.relu && x < 0.0f ? 0.0f : x, &result.element[k]);
    }
    *(element_vector<T, COUNT> *)to = result;
}

/* sums: (ROWS, pitch), complete. rank: of this block in its cluster of p.split. */
template <typename T, int ROWS, int COLUMNS, int THREADS>
static __device__ __forceinline__ void store_rows(const gemm_params &p, const float *sums, int rank, int first_row, int set,
                                                  int first_output)
{
    const int chunk = CHUNK_BYTES / sizeof(T), piece = PIECE_BYTES / sizeof(T), chunks_a_row = COLUMNS / chunk,
              pitch = sum_pitch<COLUMNS>::value;
    const int rows = ROWS / p.split, begin = rank * rows;
    static_assert(THREADS % chunks_a_row == 0, "a thread keeps to its columns");
    const int column = threadIdx.x % chunks_a_row * chunk, output = first_output + column, left = p.set_outputs - output;
    const int channel = set * p.set_outputs + output;
    T *out = (T *)p.out + channel;
    const T *residual = p.residual ? (const T *)p.residual + channel : NULL;
    float bias[chunk];

    if (left <= 0)
        return;
#pragma unroll
    for (int k = 0; k < chunk; k++)
        bias[k] = k < left ? p.bias[channel + k] : 0.0f;
    for (int row = begin + threadIdx.x / chunks_a_row; row < begin + rows; row += THREADS / chunks_a_row) {
        int64_t pixel = first_row + row;
        if (pixel >= p.rows)
            break;
        float value[chunk];
#pragma unroll
        for (int k = 0; k < chunk; k += 4) {
            const float *at = sums + row * pitch + column + k;
            float4 sum = p.split > 1 ? sum_of_blocks(shared_address(at), p.split, rank) : *(const float4 *)at;
            value[k] = sum.x;
            value[k + 1] = sum.y;
            value[k + 2] = sum.z;
            value[k + 3] = sum.w;
        }
        T *to = out + pixel * p.out_stride;
        const T *add = residual ? residual + pixel * p.residual_stride : NULL;
        if (p.access == CHUNK_BYTES && left >= chunk) {
            finish<T, chunk>(p, value, bias, add, to);
        } else if (p.access == PIECE_BYTES) {
            finish<T, piece>(p, value, bias, add, to);
            if (left > piece)
                finish<T, piece>(p, value + piece, bias + piece, add ? add + piece : NULL, to + piece);
        } else {
#pragma unroll
            for (int k = 0; k < chunk; k++)
                if (k < left)
                    finish<T, 1>(p, value + k, bias + k, add ? add + k : NULL, to + k);
        }
    }
}

/* sums: (ROWS, pitch), those of this block. Joins them with the cluster's and writes the results. */
template <typename T, int ROWS, int COLUMNS, int THREADS>
static __device__ __forceinline__ void store_tile(const gemm_params &p, const tile_part &part, const float *sums)
{
    if (p.split > 1)
        cluster_barrier();
    else
        __syncthreads();
    store_rows<T, ROWS, COLUMNS, THREADS>(p, sums, part.rank, part.first_row, part.set, part.first_output);
    if (p.split > 1) /* nobody leaves while others read its sums */
        cluster_barrier();
}

#endif
