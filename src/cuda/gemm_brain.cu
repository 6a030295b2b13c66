/* gemm_brain.cu - matrix product kernels for bfloat16. */
#define ARITHMETIC CUDA_BRAIN
#include "cuda/gemm_half_tiles.cuh"

const struct gemm_tile *gemm_brain_tiles(int *count)
{
    *count = sizeof tiles / sizeof tiles[0];
    return tiles;
}
