/* gemm_pack.h - what packing on the device is told. Shared by host and device; see gemm_pack.cu. */
#ifndef DLA_CUDA_GEMM_PACK_H
#define DLA_CUDA_GEMM_PACK_H

#include "cuda/gemm_params.h"

/* Of the convolution that will run: for a data gradient, inputs are what the network calls outputs. */
struct gemm_pack_params {
    const void *weight;        /* as in the network: (outputs, taps, inputs / groups); turned: (inputs, taps, outputs / groups) */
    void *packed;              /* as gemm_params.h has it */
    int taps, taps_a_step, steps_a_block, steps, chunk_shift;
    int set_inputs, set_outputs, group_inputs, group_outputs;
    bool turned;
    bool round;                /* to TF32 */
};

#ifdef __cplusplus
extern "C" {
#endif

void gemm_pack_start(const struct gemm_pack_params *params, int sets, int element_bytes, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
