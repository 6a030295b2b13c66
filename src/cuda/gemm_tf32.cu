/* gemm_tf32.cu - matrix product kernels for float32 whose products are TF32. Warpgroup products cut their operands off where the
 * others round them, so here the weights are rounded when they are packed, and maps are cut off. */
#include "cuda/gemm_hopper.cuh"
#include "cuda/gemm_warp.cuh"

static const struct gemm_tile tiles[] = {
    GEMM_HOPPER_TILE(CUDA_TF32, 2, 2, 128, 4, 1, "h256x128", 825.0), GEMM_HOPPER_TILE(CUDA_TF32, 2, 1, 128, 3, 2, "h128x128", 750.0),
    GEMM_HOPPER_TILE(CUDA_TF32, 2, 1, 64, 4, 2, "h128x64", 450.0),    GEMM_HOPPER_TILE(CUDA_TF32, 1, 1, 64, 4, 3, "h64x64", 350.0),
    GEMM_WARP_TILE(CUDA_TF32, 128, 128, 64, 32, 3, 2, 500.0),         GEMM_WARP_TILE(CUDA_TF32, 128, 64, 32, 32, 3, 2, 375.0),
    GEMM_WARP_TILE(CUDA_TF32, 64, 64, 32, 32, 4, 3, 275.0),           GEMM_WARP_TILE(CUDA_TF32, 64, 32, 32, 16, 4, 4, 175.0),
    GEMM_WARP_TILE(CUDA_TF32, 128, 32, 32, 32, 4, 2, 225.0),          GEMM_WARP_TILE(CUDA_TF32, 128, 16, 32, 16, 3, 3, 125.0),
    GEMM_WARP_PIECES(CUDA_TF32, 128, 64, 32, 32, 3, 2, 300.0),        GEMM_WARP_PIECES(CUDA_TF32, 64, 32, 32, 16, 4, 3, 200.0),
};

const struct gemm_tile *gemm_tf32_tiles(int *count)
{
    *count = sizeof tiles / sizeof tiles[0];
    return tiles;
}
