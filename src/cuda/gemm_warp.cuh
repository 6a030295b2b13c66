/* gemm_warp.cuh - the matrix product with tensor core products of one warp each (compute capability 8.0 and up).
 *
 * A block computes ROWS x COLUMNS of the result, its warps WARP_ROWS x WARP_COLUMNS each. Steps come into shared memory STAGES - 1
 * ahead of the products. Of a step a warp does four products' depth: 16 halves or 8 floats each.
 *
 * Exact arithmetic is that of gemm_exact.cuh.
 */
#ifndef DLA_CUDA_GEMM_WARP_CUH
#define DLA_CUDA_GEMM_WARP_CUH

#include "cuda/gemm_exact.cuh"
#include "cuda/gemm_store.cuh"

/* The fragments of one depth: a (WARP_ROWS / 16), b (WARP_COLUMNS / 16, for two products each). */
template <cuda_arithmetic ARITHMETIC, int A, int B> struct fragments {
    uint32_t a[A][4], b[B][4];
};

template <int A, int B> static __device__ __forceinline__ void multiply_exactly(fragments<CUDA_EXACT, A, B> &f, float (&sums)[A][2 * B][4])
{
    uint32_t b_low[B][4];

#pragma unroll
    for (int j = 0; j < B; j++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            split_float(f.b[j][k], f.b[j][k], b_low[j][k]);
#pragma unroll
    for (int i = 0; i < A; i++) {
        uint32_t a_low[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            split_float(f.a[i][k], f.a[i][k], a_low[k]);
#pragma unroll
        for (int j = 0; j < 2 * B; j++)
            multiply_tf32(sums[i][j], a_low, f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
#pragma unroll
        for (int j = 0; j < 2 * B; j++)
            multiply_tf32(sums[i][j], f.a[i], b_low[j / 2][j % 2 * 2], b_low[j / 2][j % 2 * 2 + 1]);
#pragma unroll
        for (int j = 0; j < 2 * B; j++)
            multiply_tf32(sums[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
    }
}

template <cuda_arithmetic ARITHMETIC, int A, int B>
static __device__ __forceinline__ void multiply(fragments<ARITHMETIC, A, B> &f, float (&sums)[A][2 * B][4])
{
    if constexpr (ARITHMETIC == CUDA_EXACT) {
        multiply_exactly<A, B>(f, sums);
    } else {
        if constexpr (ARITHMETIC == CUDA_TF32) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
#pragma unroll
                for (int i = 0; i < A; i++)
                    f.a[i][k] = round_tf32(f.a[i][k]);
#pragma unroll
                for (int j = 0; j < B; j++)
                    f.b[j][k] = round_tf32(f.b[j][k]);
            }
        }
#pragma unroll
        for (int i = 0; i < A; i++)
#pragma unroll
            for (int j = 0; j < 2 * B; j++) {
                uint32_t b0 = f.b[j / 2][j % 2 * 2], b1 = f.b[j / 2][j % 2 * 2 + 1];
                if constexpr (ARITHMETIC == CUDA_HALF)
                    multiply_half(sums[i][j], f.a[i], b0, b1);
                else if constexpr (ARITHMETIC == CUDA_BRAIN)
                    multiply_brain(sums[i][j], f.a[i], b0, b1);
                else
                    multiply_tf32(sums[i][j], f.a[i], b0, b1);
            }
    }
}

/* The products of one step. a, b: shared addresses of the stage's A and B. */
template <cuda_arithmetic ARITHMETIC, int A, int B>
static __device__ __forceinline__ void multiply_step(uint32_t a, uint32_t b, int first_row, int first_column, float (&sums)[A][2 * B][4])
{
    const int lane = threadIdx.x % 32;
    const int a_row = first_row + lane % 16, b_row = first_column + lane % 8 + lane / 16 * 8;

#pragma unroll
    for (int depth = 0; depth < 4; depth++) {
        fragments<ARITHMETIC, A, B> f;
        int a_chunk = 2 * depth + lane / 16, b_chunk = 2 * depth + lane / 8 % 2;
#pragma unroll
        for (int i = 0; i < A; i++)
            load_matrices(f.a[i], a + (a_row + 16 * i) * STEP_BYTES + ((a_chunk ^ (a_row % 8)) * CHUNK_BYTES));
#pragma unroll
        for (int j = 0; j < B; j++)
            load_matrices(f.b[j], b + (b_row + 16 * j) * STEP_BYTES + ((b_chunk ^ (b_row % 8)) * CHUNK_BYTES));
        multiply<ARITHMETIC, A, B>(f, sums);
    }
}

/* grid: (tiles of rows, sets * tiles of a set's outputs, split); cluster: (1, 1, split). */
template <cuda_arithmetic ARITHMETIC, int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS, int STAGES, int MIN_BLOCKS, bool PIECES>
__global__ __launch_bounds__(ROWS / WARP_ROWS * (COLUMNS / WARP_COLUMNS) * 32,
                             MIN_BLOCKS) void gemm_warp(const __grid_constant__ gemm_params p)
{
    typedef typename element_of<ARITHMETIC>::type element;
    const int THREADS = ROWS / WARP_ROWS * (COLUMNS / WARP_COLUMNS) * 32, A = WARP_ROWS / 16, B = WARP_COLUMNS / 16;
    typedef step_loader<ROWS, COLUMNS, THREADS, STAGES, STAGES - 1, PIECES> step_loader_type;
    extern __shared__ __align__(1024) char shared[];
    const int warp = threadIdx.x / 32, warp_row = warp % (ROWS / WARP_ROWS) * WARP_ROWS,
              warp_column = warp / (ROWS / WARP_ROWS) * WARP_COLUMNS;
    const tile_part part = find_part<ROWS, COLUMNS>(p);
    float sums[A][2 * B][4] = {}, total[A][2 * B][4] = {};
    step_loader_type loader;

    begin_steps(p, part, shared_address(shared), loader);
    for (int step = part.begin; step < part.end; step++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        copy_ahead(p, part, step, loader);
        uint32_t stage = loader.stages + loader.slot * step_loader_type::stage_bytes;
        multiply_step<ARITHMETIC, A, B>(stage, stage + ROWS * STEP_BYTES, warp_row, warp_column, sums);
        if (ARITHMETIC == CUDA_EXACT)
            move_sums<A * 2 * B * 4>(&sums[0][0][0], &total[0][0][0]);
        turn_stages(loader);
    }
    let_next_kernel_begin();
    copies_wait<0>();
    __syncthreads();
    float *tile = (float *)shared;
#pragma unroll
    for (int i = 0; i < A; i++)
#pragma unroll
        for (int j = 0; j < 2 * B; j++)
            put_fragment(tile, sum_pitch<COLUMNS>::value, warp_row + 16 * i, warp_column + 8 * j,
                         ARITHMETIC == CUDA_EXACT ? total[i][j] : sums[i][j]);
    store_tile<element, ROWS, COLUMNS, THREADS>(p, part, tile);
}

/* Rows of the table of kernels. speed: see gemm_tile. */
#define GEMM_WARP_KERNEL(arithmetic, rows, columns, warp_rows, warp_columns, stages, min_blocks, pieces, name, speed)                      \
    {                                                                                                                                      \
        (const void *)gemm_warp<arithmetic, rows, columns, warp_rows, warp_columns, stages, min_blocks, pieces>, name, rows, columns,      \
            (rows) / (warp_rows) * ((columns) / (warp_columns)) * 32, (stages) * ((rows) + (columns)) * STEP_BYTES, min_blocks, false,     \
            pieces, speed                                                                                                                  \
    }
#define GEMM_WARP_TILE(arithmetic, rows, columns, warp_rows, warp_columns, stages, min_blocks, speed)                                      \
    GEMM_WARP_KERNEL(arithmetic, rows, columns, warp_rows, warp_columns, stages, min_blocks, false, #rows "x" #columns, speed)
#define GEMM_WARP_PIECES(arithmetic, rows, columns, warp_rows, warp_columns, stages, min_blocks, speed)                                    \
    GEMM_WARP_KERNEL(arithmetic, rows, columns, warp_rows, warp_columns, stages, min_blocks, true, "p" #rows "x" #columns, speed)

#endif
