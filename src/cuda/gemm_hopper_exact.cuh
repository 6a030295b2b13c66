/* gemm_hopper_exact.cuh - the matrix product for float32 with warpgroup products: gemm_hopper.cuh and gemm_exact.cuh together.
 *
 * A comes from registers, where a thread has split it; B from shared memory. B itself serves as its upper part, because the unit
 * ignores what TF32 has no bits for. Its remainder is a matrix beside it: every thread writes that of the chunks which it has copied
 * itself, so nobody waits for it but at the barrier that there is anyway. Three of these matrices, because one warpgroup may be a
 * step ahead of another that still reads the last but one.
 */
#ifndef DLA_CUDA_GEMM_HOPPER_EXACT_CUH
#define DLA_CUDA_GEMM_HOPPER_EXACT_CUH

#include "cuda/gemm_exact.cuh"
#include "cuda/gemm_hopper.cuh"

enum { REMAINDERS = 3, DEPTHS = DEPTHS_A_SUM };

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define FRAGMENT_NAMES(a, b, c, d) "{" a ", " b ", " c ", " d "}"

/* d (64, COLUMNS) += a (64, 8) * b (COLUMNS, 8). a: a warp's 16 rows, as ldmatrix gives them. */
template <int COLUMNS>
static __device__ __forceinline__ void multiply_registers(float (&d)[COLUMNS / 2], const uint32_t (&a)[4], uint64_t b)
{
    static_assert(COLUMNS == 64 || COLUMNS == 128, "the products that are written out below");
    if constexpr (COLUMNS == 64)
        asm volatile(MULTIPLY("m64n64k8.f32.tf32.tf32", NAMES_32, FRAGMENT_NAMES("%32", "%33", "%34", "%35"), "%36", "1, 1")
                     : SUMS_32(d, 0)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    else
        asm volatile(MULTIPLY("m64n128k8.f32.tf32.tf32", NAMES_64, FRAGMENT_NAMES("%64", "%65", "%66", "%67"), "%68", "1, 1")
                     : SUMS_32(d, 0), SUMS_32(d, 32)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/* Of the chunks that load_b had this thread copy. from, to: shared addresses of B and of its remainder. */
template <int COLUMNS, int THREADS> static __device__ __forceinline__ void write_remainder(uint32_t from, uint32_t to)
{
    const int column = threadIdx.x % STEP_CHUNKS, row = threadIdx.x / STEP_CHUNKS;
    uint32_t place = row * STEP_BYTES + ((column ^ (row % 8)) * CHUNK_BYTES);

#pragma unroll
    for (int i = 0; i < COLUMNS * STEP_CHUNKS / THREADS; i++) {
        uint4 whole = load_shared(from + place), low;
        split_float(whole.x, whole.x, low.x);
        split_float(whole.y, whole.y, low.y);
        split_float(whole.z, whole.z, low.z);
        split_float(whole.w, whole.w, low.w);
        store_shared(to + place, low);
        place += THREADS / STEP_CHUNKS * STEP_BYTES;
    }
}

#endif

/* grid: (tiles of rows, sets * tiles of a set's outputs, split); cluster: (1, 1, split). */
template <int GROUPS, int COLUMNS, int STAGES, int MIN_BLOCKS>
__global__ __launch_bounds__(GROUPS * 128, MIN_BLOCKS) void gemm_hopper_exact(const __grid_constant__ gemm_params p)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    const int THREADS = GROUPS * 128, ROWS = GROUPS * 64, AHEAD = STAGES - 2, REMAINDER_BYTES = COLUMNS * STEP_BYTES;
    typedef step_loader<ROWS, COLUMNS, THREADS, STAGES, AHEAD, false> step_loader_type;
    extern __shared__ __align__(1024) char shared[];
    const uint32_t remainders = shared_address(shared) + STAGES * step_loader_type::stage_bytes;
    const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16, a_row = warp_row + lane % 16;
    const tile_part part = find_part<ROWS, COLUMNS>(p);
    float sums[COLUMNS / 2] = {}, total[COLUMNS / 2] = {};
    int remainder_slot = 0;
    step_loader_type loader;

    begin_steps(p, part, shared_address(shared), loader);
    for (int step = part.begin; step < part.end; step++) {
        uint32_t stage = loader.stages + loader.slot * step_loader_type::stage_bytes, b = stage + ROWS * STEP_BYTES,
                 remainder = remainders + remainder_slot * REMAINDER_BYTES;
        uint32_t high[DEPTHS][4], low[DEPTHS][4];
        copies_wait<AHEAD - 1>();
        write_remainder<COLUMNS, THREADS>(b, remainder);
        publish_copies();
        __syncthreads();
        products_wait<0>(); /* of the step before: only now may its registers change */
        move_sums<COLUMNS / 2>(sums, total);
#pragma unroll
        for (int depth = 0; depth < DEPTHS; depth++) {
            load_matrices(high[depth], stage + a_row * STEP_BYTES + (((2 * depth + lane / 16) ^ (a_row % 8)) * CHUNK_BYTES));
#pragma unroll
            for (int k = 0; k < 4; k++)
                split_float(high[depth][k], high[depth][k], low[depth][k]);
        }
        products_begin();
#pragma unroll
        for (int depth = 0; depth < DEPTHS; depth++) {
            multiply_registers<COLUMNS>(sums, low[depth], describe_matrix(b + depth * 32));
            multiply_registers<COLUMNS>(sums, high[depth], describe_matrix(remainder + depth * 32));
            multiply_registers<COLUMNS>(sums, high[depth], describe_matrix(b + depth * 32));
        }
        products_commit();
        copy_ahead(p, part, step, loader);
        turn_stages(loader);
        remainder_slot = remainder_slot + 1 == REMAINDERS ? 0 : remainder_slot + 1;
    }
    products_wait<0>();
    move_sums<COLUMNS / 2>(sums, total);
    let_next_kernel_begin();
    copies_wait<0>();
    __syncthreads();
    float *tile = (float *)shared;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
        put_fragment(tile, sum_pitch<COLUMNS>::value, warp_row, 8 * j, &total[4 * j]);
    store_tile<float, ROWS, COLUMNS, THREADS>(p, part, tile);
#endif
}

/* A row of the table of kernels. */
#define GEMM_HOPPER_EXACT_TILE(groups, columns, stages, min_blocks, name, speed)                                                           \
    {                                                                                                                                      \
        (const void *)gemm_hopper_exact<groups, columns, stages, min_blocks>, name, (groups)*64, columns, (groups)*128,                    \
            (stages) * ((groups)*64 + (columns)) * STEP_BYTES + REMAINDERS *(columns)*STEP_BYTES, min_blocks, true, false, speed           \
    }

#endif
