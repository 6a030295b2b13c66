/* gemm_load.cuh - bringing one step of a tile into shared memory.
 *
 * Shared memory of a stage: A (tile rows, 128 bytes), then B (tile columns, 128 bytes). Chunk c of row r lies at place c ^ (r % 8)
 * of the row, so that the eight rows of a fragment's column fall on different banks; it is also the layout that warpgroup
 * products call 128-byte swizzle.
 *
 * A thread always copies the same chunk column (thread % 8) of rows thread / 8, thread / 8 + THREADS / 8 and so on.
 */
#ifndef DLA_CUDA_GEMM_LOAD_CUH
#define DLA_CUDA_GEMM_LOAD_CUH

#include "cuda/gemm_params.h"
#include "cuda/ptx.cuh"

/* What a block computes: a tile's sums over the steps from begin to end. */
struct tile_part {
    int first_row, set, first_output;
    int rank; /* of the block in its cluster */
    int begin, end;
};

/* grid: (tiles of rows, sets * tiles of a set's outputs, split). */
template <int ROWS, int COLUMNS> static __device__ __forceinline__ tile_part find_part(const gemm_params &p)
{
    int set = blockIdx.y / p.tiles_a_set, rank = blockIdx.z;

    return {(int)blockIdx.x * ROWS,        set, ((int)blockIdx.y - set * p.tiles_a_set) * COLUMNS, rank, p.steps * rank / p.split,
            p.steps * (rank + 1) / p.split};
}

/* Where in the sum the next step is. */
struct step_position {
    int source, block, tap;
};

static __device__ __forceinline__ step_position find_step(const gemm_params &p, int step)
{
    step_position at = {0, step / p.steps_a_block, 0};
    at.tap = (step - at.block * p.steps_a_block) * p.taps_a_step;
    while (at.block * STEP_CHUNKS >= p.sources[at.source].chunks) {
        at.block -= (p.sources[at.source].chunks + STEP_CHUNKS - 1) / STEP_CHUNKS;
        at.source++;
    }
    return at;
}

static __device__ __forceinline__ void next_step(const gemm_params &p, step_position &at)
{
    at.tap += p.taps_a_step;
    if (at.tap < p.taps)
        return;
    at.tap = 0;
    at.block++;
    if (at.block * STEP_CHUNKS >= p.sources[at.source].chunks) {
        at.block = 0;
        at.source++;
    }
}

/* The rows of A that a thread copies: windows of pixels. Products with few instructions wait for none but these, so what is found here
 * once is kept in a form that costs a step least: a copy is an address, a test of two bits, and itself. */
template <int ROWS> struct window_rows {
    int pixel[ROWS];       /* index of the window's top left among the pixels of all images, were it inside */
    uint32_t inside[ROWS]; /* bit ky: window row ky lies in the map; bit 16 + kx: window column kx does */
};

enum { COLUMN_BIT = 16, NEVER_INSIDE = 1 << 15 };

/* Bits k for which 0 <= first + k * dilation < size. */
static __device__ __forceinline__ uint32_t taps_inside(int first, int kernel, int dilation, int size)
{
    uint32_t bits = 0;

    for (int k = 0; k < kernel; k++)
        if ((unsigned)(first + k * dilation) < (unsigned)size)
            bits |= 1u << k;
    return bits;
}

template <int ROWS, int THREADS>
static __device__ __forceinline__ void find_windows(const gemm_params &p, int first_row, window_rows<ROWS> &windows)
{
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        int row = first_row + (int)threadIdx.x / STEP_CHUNKS + i * (THREADS / STEP_CHUNKS);
        int image = row / p.image_rows, pixel = row - image * p.image_rows;
        int out_y = pixel / p.out_width, out_x = pixel - out_y * p.out_width;
        int y = out_y * p.stride - p.padding, x = out_x * p.stride - p.padding;
        windows.pixel[i] = (image * p.in_height + y) * p.in_width + x;
        windows.inside[i] =
            taps_inside(y, p.kernel, p.dilation, p.in_height) | taps_inside(x, p.kernel, p.dilation, p.in_width) << COLUMN_BIT;
        if (row >= p.rows)
            windows.inside[i] = 0;
    }
}

/* PIECES: sources lie at multiples of 8 bytes, not all of 16. */
template <int ROWS, int THREADS, bool PIECES>
static __device__ __forceinline__ void load_a(const gemm_params &p, const step_position &at, const window_rows<ROWS> &windows, int set,
                                              uint32_t stage)
{
    const int column = threadIdx.x % STEP_CHUNKS, row = threadIdx.x / STEP_CHUNKS;
    const gemm_source &source = p.sources[at.source];
    int tap = at.tap + (column >> p.chunk_shift), chunk = at.block * STEP_CHUNKS + (column & ((1 << p.chunk_shift) - 1));
    int ky = tap * p.inverse >> 16, kx = tap - ky * p.kernel;
    uint32_t wanted = 1u << ky | 1u << (COLUMN_BIT + kx);
    const char *data = source.data + (int64_t)(ky * p.in_width + kx) * p.dilation * source.stride + set * p.set_bytes + chunk * CHUNK_BYTES;
    uint32_t to = stage + row * STEP_BYTES + ((column ^ (row % 8)) * CHUNK_BYTES);

    if (chunk >= source.chunks || tap >= p.taps)
        wanted = NEVER_INSIDE;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        bool there = (windows.inside[i] & wanted) == wanted;
        const char *from = data + (int64_t)windows.pixel[i] * source.stride;
        uint32_t place = to + i * (THREADS / STEP_CHUNKS) * STEP_BYTES;
        if constexpr (PIECES) {
            copy_8_keep(place, from, there);
            copy_8_keep(place + PIECE_BYTES, from + PIECE_BYTES, there && 2 * chunk + 1 < source.pieces);
        } else {
            copy_16_keep(place, from, there);
        }
    }
}

/* What a thread copies of B: rows of the step's matrix, from here on. */
struct weight_rows {
    const char *from;
    int left; /* rows from the thread's first to the set's last */
};

static __device__ __forceinline__ weight_rows find_weights(const gemm_params &p, int step, int set, int first_output)
{
    const int column = threadIdx.x % STEP_CHUNKS, row = threadIdx.x / STEP_CHUNKS;

    return {p.packed + ((int64_t)(set * p.steps + step) * p.set_outputs + first_output + row) * STEP_BYTES + column * CHUNK_BYTES,
            p.set_outputs - first_output - row};
}

/* Copies, and goes on to the next step. */
template <int COLUMNS, int THREADS>
static __device__ __forceinline__ void load_b(const gemm_params &p, weight_rows &weights, uint32_t stage)
{
    const int column = threadIdx.x % STEP_CHUNKS, row = threadIdx.x / STEP_CHUNKS, rows_a_pass = THREADS / STEP_CHUNKS;
    uint32_t to = stage + row * STEP_BYTES + ((column ^ (row % 8)) * CHUNK_BYTES);

#pragma unroll
    for (int i = 0; i < (COLUMNS + rows_a_pass - 1) / rows_a_pass; i++)
        if (COLUMNS % rows_a_pass == 0 || row + i * rows_a_pass < COLUMNS)
            copy_16(to + i * rows_a_pass * STEP_BYTES, weights.from + i * rows_a_pass * STEP_BYTES, i * rows_a_pass < weights.left);
    weights.from += (int64_t)p.set_outputs * STEP_BYTES;
}

/* A block's way through its steps: what it copies next, and where. Copies are AHEAD of the computation by so many steps. */
template <int ROWS, int COLUMNS, int THREADS, int STAGES, int AHEAD, bool PIECES> struct step_loader {
    static const int rows = ROWS, columns = COLUMNS, threads = THREADS, stage_count = STAGES, ahead = AHEAD;
    static const int a_rows = ROWS * STEP_CHUNKS / THREADS, stage_bytes = (ROWS + COLUMNS) * STEP_BYTES;
    static const bool pieces = PIECES;
    uint32_t stages; /* shared address */
    window_rows<a_rows> windows;
    step_position at;
    weight_rows weights;
    int slot, next_slot; /* stages of the step that is computed and of the one that is copied */
};

/* Copies the first steps: weights at once, maps when the kernel before has ended. Each step is a group of copies. */
template <typename LOADER>
static __device__ __forceinline__ void begin_steps(const gemm_params &p, const tile_part &part, uint32_t stages, LOADER &loader)
{
    loader.stages = stages;
    find_windows<LOADER::a_rows, LOADER::threads>(p, part.first_row, loader.windows);
    loader.at = find_step(p, part.begin);
    loader.weights = find_weights(p, part.begin, part.set, part.first_output);
#pragma unroll
    for (int s = 0; s < LOADER::ahead; s++)
        if (part.begin + s < part.end)
            load_b<LOADER::columns, LOADER::threads>(p, loader.weights, stages + s * LOADER::stage_bytes + LOADER::rows * STEP_BYTES);
    wait_for_kernel_before();
#pragma unroll
    for (int s = 0; s < LOADER::ahead; s++) {
        if (part.begin + s < part.end) {
            load_a<LOADER::a_rows, LOADER::threads, LOADER::pieces>(p, loader.at, loader.windows, part.set,
                                                                    stages + s * LOADER::stage_bytes);
            next_step(p, loader.at);
        }
        copies_commit();
    }
    loader.slot = 0;
    loader.next_slot = LOADER::ahead;
}

/* Copies the step that is so much ahead of `step`, if there is one. */
template <typename LOADER>
static __device__ __forceinline__ void copy_ahead(const gemm_params &p, const tile_part &part, int step, LOADER &loader)
{
    if (step + LOADER::ahead < part.end) {
        uint32_t stage = loader.stages + loader.next_slot * LOADER::stage_bytes;
        load_a<LOADER::a_rows, LOADER::threads, LOADER::pieces>(p, loader.at, loader.windows, part.set, stage);
        load_b<LOADER::columns, LOADER::threads>(p, loader.weights, stage + LOADER::rows * STEP_BYTES);
        next_step(p, loader.at);
    }
    copies_commit();
}

template <typename LOADER> static __device__ __forceinline__ void turn_stages(LOADER &loader)
{
    loader.slot = loader.slot + 1 == LOADER::stage_count ? 0 : loader.slot + 1;
    loader.next_slot = loader.next_slot + 1 == LOADER::stage_count ? 0 : loader.next_slot + 1;
}

#endif
