/* gemm_half_tiles.cuh - the matrix product kernels of both 16-bit formats: to be included by a source that defines ARITHMETIC. */
#include "cuda/gemm_hopper.cuh"
#include "cuda/gemm_warp.cuh"

static const struct gemm_tile tiles[] = {
    GEMM_HOPPER_TILE(ARITHMETIC, 2, 2, 128, 4, 1, "h256x128", 1650.0),
    GEMM_HOPPER_TILE(ARITHMETIC, 2, 2, 64, 3, 1, "h256x64", 850.0),
    GEMM_HOPPER_TILE(ARITHMETIC, 2, 1, 128, 3, 2, "h128x128", 1500.0),
    GEMM_HOPPER_TILE(ARITHMETIC, 2, 1, 64, 4, 2, "h128x64", 900.0),
    GEMM_HOPPER_TILE(ARITHMETIC, 1, 1, 128, 4, 2, "h64x128", 1000.0),
    GEMM_HOPPER_TILE(ARITHMETIC, 1, 1, 64, 4, 3, "h64x64", 700.0),
    GEMM_HOPPER_TILE(ARITHMETIC, 1, 1, 64, 8, 1, "h64x64deep", 690.0),
    GEMM_WARP_TILE(ARITHMETIC, 128, 128, 64, 32, 3, 2, 1000.0),
    GEMM_WARP_TILE(ARITHMETIC, 128, 64, 32, 32, 3, 2, 750.0),
    GEMM_WARP_TILE(ARITHMETIC, 64, 64, 32, 32, 4, 3, 550.0),
    GEMM_WARP_TILE(ARITHMETIC, 64, 32, 32, 16, 4, 4, 350.0),
    GEMM_WARP_TILE(ARITHMETIC, 128, 32, 32, 32, 4, 2, 450.0),
    GEMM_WARP_TILE(ARITHMETIC, 128, 16, 32, 16, 3, 3, 250.0),
    GEMM_WARP_TILE(ARITHMETIC, 32, 32, 16, 16, 4, 4, 250.0),
    GEMM_WARP_KERNEL(ARITHMETIC, 32, 32, 16, 16, 8, 3, false, "32x32deep", 240.0),
    GEMM_WARP_KERNEL(ARITHMETIC, 64, 32, 32, 16, 7, 2, false, "64x32deep", 340.0),
    GEMM_WARP_PIECES(ARITHMETIC, 128, 64, 32, 32, 3, 2, 300.0),
    GEMM_WARP_PIECES(ARITHMETIC, 64, 32, 32, 16, 4, 3, 200.0),
};
