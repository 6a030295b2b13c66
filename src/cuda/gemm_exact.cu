/* gemm_exact.cu - matrix product kernels for float32. */
#include "cuda/gemm_hopper_exact.cuh"
#include "cuda/gemm_warp.cuh"

static const struct gemm_tile tiles[] = {
    GEMM_HOPPER_EXACT_TILE(2, 128, 4, 1, "h128x128", 305.0),
    GEMM_HOPPER_EXACT_TILE(2, 64, 4, 1, "h128x64", 205.0),
    GEMM_HOPPER_EXACT_TILE(1, 64, 4, 2, "h64x64", 200.0),
    GEMM_HOPPER_EXACT_TILE(1, 64, 8, 1, "h64x64deep", 190.0),
    GEMM_WARP_TILE(CUDA_EXACT, 128, 128, 64, 32, 3, 1, 265.0),
    GEMM_WARP_TILE(CUDA_EXACT, 128, 64, 32, 32, 3, 2, 215.0),
    GEMM_WARP_TILE(CUDA_EXACT, 64, 128, 32, 32, 3, 2, 250.0),
    GEMM_WARP_TILE(CUDA_EXACT, 64, 64, 32, 32, 4, 2, 190.0),
    GEMM_WARP_TILE(CUDA_EXACT, 64, 32, 32, 16, 4, 3, 140.0),
    GEMM_WARP_TILE(CUDA_EXACT, 128, 32, 32, 32, 4, 2, 165.0),
    GEMM_WARP_TILE(CUDA_EXACT, 128, 16, 32, 16, 3, 3, 100.0),
    GEMM_WARP_TILE(CUDA_EXACT, 32, 32, 16, 16, 4, 4, 100.0),
    GEMM_WARP_KERNEL(CUDA_EXACT, 32, 32, 16, 16, 8, 3, false, "32x32deep", 95.0),
    GEMM_WARP_PIECES(CUDA_EXACT, 128, 64, 32, 32, 3, 2, 300.0),
    GEMM_WARP_PIECES(CUDA_EXACT, 64, 32, 32, 16, 4, 3, 200.0),
};

const struct gemm_tile *gemm_exact_tiles(int *count)
{
    *count = sizeof tiles / sizeof tiles[0];
    return tiles;
}
