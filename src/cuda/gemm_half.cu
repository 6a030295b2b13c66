/* gemm_half.cu - matrix product kernels for float16. */
#define ARITHMETIC CUDA_HALF
#include "cuda/gemm_half_tiles.cuh"

const struct gemm_tile *gemm_half_tiles(int *count)
{
    *count = sizeof tiles / sizeof tiles[0];
    return tiles;
}
