/* gemm_pack.cu - weights that change every step, packed where they are: the device's twin of pack in cuda_conv_gemm.c.
 *
 * Weights lie as (outputs, taps, inputs / groups). For a data gradient, which is a convolution too, they are read turned: inputs and
 * outputs exchanged, taps in reverse,
 *
 *     turned[i][t][o] = weight[o][taps - 1 - t][i]        within a group
 */
#include "cuda/gemm_pack.h"
#include "cuda/ptx.cuh"

enum { THREADS = 256 };

/* T: uint16_t for both 16-bit formats, whose bits are copied, or uint32_t. A thread writes one chunk. */
template <typename T> static __global__ __launch_bounds__(THREADS) void pack_kernel(gemm_pack_params p, int64_t chunks)
{
    const int elements = CHUNK_BYTES / sizeof(T);
    int64_t index = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    struct alignas(CHUNK_BYTES) {
        T element[elements];
    } packed;

    if (index >= chunks)
        return;
    int column = (int)(index % STEP_CHUNKS), output = (int)(index / STEP_CHUNKS % p.set_outputs);
    int64_t row = index / STEP_CHUNKS / p.set_outputs;
    int step = (int)(row % p.steps), set = (int)(row / p.steps), block = step / p.steps_a_block;
    int tap = (step - block * p.steps_a_block) * p.taps_a_step + (column >> p.chunk_shift);
    int chunk = block * STEP_CHUNKS + (column & ((1 << p.chunk_shift) - 1));
#pragma unroll
    for (int e = 0; e < elements; e++) {
        int input = chunk * elements + e; /* of the set */
        T value = 0;
        if (tap < p.taps && input < p.set_inputs && input / p.group_inputs == output / p.group_outputs) {
            int64_t first = set * p.set_outputs + output; /* of all outputs */
            int second = input % p.group_inputs;
            int64_t at = (first * p.taps + tap) * p.group_inputs + second;
            if (p.turned) {
                int64_t group = first / p.group_outputs;
                at = ((group * p.group_inputs + second) * p.taps + p.taps - 1 - tap) * p.group_outputs + first % p.group_outputs;
            }
            value = ((const T *)p.weight)[at];
        }
        if constexpr (sizeof(T) == sizeof(uint32_t))
            if (p.round)
                value = round_tf32(value);
        packed.element[e] = value;
    }
    *(decltype(packed) *)((char *)p.packed + index * CHUNK_BYTES) = packed;
}

void gemm_pack_start(const struct gemm_pack_params *params, int sets, int element_bytes, cudaStream_t stream)
{
    int64_t chunks = (int64_t)sets * params->steps * params->set_outputs * STEP_CHUNKS;
    unsigned blocks = (unsigned)((chunks + THREADS - 1) / THREADS);

    if (element_bytes == (int)sizeof(uint16_t))
        pack_kernel<uint16_t><<<blocks, THREADS, 0, stream>>>(*params, chunks);
    else
        pack_kernel<uint32_t><<<blocks, THREADS, 0, stream>>>(*params, chunks);
}
