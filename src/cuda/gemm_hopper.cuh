/* gemm_hopper.cuh - the matrix product with the warpgroup products of compute capability 9.0, which read A and B from shared memory.
 *
 * A warpgroup of four warps computes 64 * HEIGHT rows and all COLUMNS of the tile. Products run while the threads already copy later
 * steps, so steps come STAGES - 2 ahead: the place that is filled was read by products before the last.
 *
 * A descriptor tells where a matrix lies: its address, 1024 bytes from one group of eight rows to the next, 128-byte swizzle. Within a row
 * of 128 bytes the next depth of a product is 32 bytes on.
 */
#ifndef DLA_CUDA_GEMM_HOPPER_CUH
#define DLA_CUDA_GEMM_HOPPER_CUH

#include "cuda/gemm_store.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

static __device__ __forceinline__ uint64_t describe_matrix(uint32_t address)
{
    const uint64_t group_bytes = 8 * STEP_BYTES, swizzle_128 = 1;

    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (group_bytes >> 4) << 32 | swizzle_128 << 62;
}

/* Shared memory that copies have written becomes visible to the unit that reads matrices. */
static __device__ __forceinline__ void publish_copies()
{
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

static __device__ __forceinline__ void products_begin()
{
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}

static __device__ __forceinline__ void products_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

template <int PENDING> static __device__ __forceinline__ void products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(PENDING) : "memory");
}

#define SUMS_8(d, i)                                                                                                                       \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_32(d, i) SUMS_8(d, i), SUMS_8(d, i + 8), SUMS_8(d, i + 16), SUMS_8(d, i + 24)
#define NAMES_32                                                                                                                           \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                                               \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                                                           \
    NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                          \
             "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

/* shape: "m64n64k16.f32.f16.f16"; a, b: names of the operands behind the sums; sign: factors of the operands, and for halves their order. */
#define MULTIPLY(shape, sums, a, b, sign)                                                                                                  \
    "{\n.reg .pred add;\nsetp.eq.u32 add, 1, 1;\nwgmma.mma_async.sync.aligned." shape " {" sums "}, " a ", " b ", add, " sign ";\n}\n"

/* d (64, COLUMNS) += a (64, depth) * b (COLUMNS, depth): depth 16 halves or 8 floats. */
template <cuda_arithmetic ARITHMETIC, int COLUMNS>
static __device__ __forceinline__ void multiply_group(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b)
{
    static_assert(COLUMNS == 64 || COLUMNS == 128, "the products that are written out below");
    if constexpr (COLUMNS == 64) {
        if constexpr (ARITHMETIC == CUDA_HALF)
            asm volatile(MULTIPLY("m64n64k16.f32.f16.f16", NAMES_32, "%32", "%33", "1, 1, 0, 0") : SUMS_32(d, 0) : "l"(a), "l"(b));
        else if constexpr (ARITHMETIC == CUDA_BRAIN)
            asm volatile(MULTIPLY("m64n64k16.f32.bf16.bf16", NAMES_32, "%32", "%33", "1, 1, 0, 0") : SUMS_32(d, 0) : "l"(a), "l"(b));
        else
            asm volatile(MULTIPLY("m64n64k8.f32.tf32.tf32", NAMES_32, "%32", "%33", "1, 1") : SUMS_32(d, 0) : "l"(a), "l"(b));
    } else {
        if constexpr (ARITHMETIC == CUDA_HALF)
            asm volatile(MULTIPLY("m64n128k16.f32.f16.f16", NAMES_64, "%64", "%65", "1, 1, 0, 0")
                         : SUMS_32(d, 0), SUMS_32(d, 32)
                         : "l"(a), "l"(b));
        else if constexpr (ARITHMETIC == CUDA_BRAIN)
            asm volatile(MULTIPLY("m64n128k16.f32.bf16.bf16", NAMES_64, "%64", "%65", "1, 1, 0, 0")
                         : SUMS_32(d, 0), SUMS_32(d, 32)
                         : "l"(a), "l"(b));
        else
            asm volatile(MULTIPLY("m64n128k8.f32.tf32.tf32", NAMES_64, "%64", "%65", "1, 1")
                         : SUMS_32(d, 0), SUMS_32(d, 32)
                         : "l"(a), "l"(b));
    }
}

#endif

/* grid: (tiles of rows, sets * tiles of a set's outputs, split); cluster: (1, 1, split). */
template <cuda_arithmetic ARITHMETIC, int GROUPS, int HEIGHT, int COLUMNS, int STAGES, int MIN_BLOCKS>
__global__ __launch_bounds__(GROUPS * 128, MIN_BLOCKS) void gemm_hopper(const __grid_constant__ gemm_params p)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    typedef typename element_of<ARITHMETIC>::type element;
    const int THREADS = GROUPS * 128, ROWS = GROUPS * HEIGHT * 64, AHEAD = STAGES - 2;
    typedef step_loader<ROWS, COLUMNS, THREADS, STAGES, AHEAD, false> step_loader_type;
    extern __shared__ __align__(1024) char shared[];
    const int group = threadIdx.x / 128;
    const tile_part part = find_part<ROWS, COLUMNS>(p);
    float sums[HEIGHT][COLUMNS / 2] = {};
    step_loader_type loader;

    begin_steps(p, part, shared_address(shared), loader);
    for (int step = part.begin; step < part.end; step++) {
        copies_wait<AHEAD - 1>();
        publish_copies();
        __syncthreads();
        uint32_t stage = loader.stages + loader.slot * step_loader_type::stage_bytes;
        products_begin();
#pragma unroll
        for (int depth = 0; depth < 4; depth++)
#pragma unroll
            for (int h = 0; h < HEIGHT; h++)
                multiply_group<ARITHMETIC, COLUMNS>(sums[h], describe_matrix(stage + (group * HEIGHT + h) * 64 * STEP_BYTES + depth * 32),
                                                    describe_matrix(stage + ROWS * STEP_BYTES + depth * 32));
        products_commit();
        copy_ahead(p, part, step, loader);
        products_wait<1>();
        turn_stages(loader);
    }
    products_wait<0>();
    let_next_kernel_begin();
    copies_wait<0>();
    __syncthreads();
    float *tile = (float *)shared;
    int warp_row = threadIdx.x % 128 / 32 * 16;
#pragma unroll
    for (int h = 0; h < HEIGHT; h++)
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++)
            put_fragment(tile, sum_pitch<COLUMNS>::value, (group * HEIGHT + h) * 64 + warp_row, 8 * j, &sums[h][4 * j]);
    store_tile<element, ROWS, COLUMNS, THREADS>(p, part, tile);
#endif
}

/* A row of the table of kernels. */
#define GEMM_HOPPER_TILE(arithmetic, groups, height, columns, stages, min_blocks, name, speed)                                             \
    {                                                                                                                                      \
        (const void *)gemm_hopper<arithmetic, groups, height, columns, stages, min_blocks>, name, (groups) * (height)*64, columns,         \
            (groups)*128, (stages) * ((groups) * (height)*64 + (columns)) * STEP_BYTES, min_blocks, true, false, speed                     \
    }

#endif
