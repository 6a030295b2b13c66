/* training_list.c - the training kernels of one instruction set. AVX-512's come once more with what needs AMX. */
#include "cpu/isa/training_isa.h"

#define VECTOR_KERNELS                                                                                                                     \
    .norm_sums = ISA_NAME(norm_sums), .norm_apply = ISA_NAME(norm_apply), .norm_backward_sums = ISA_NAME(norm_backward_sums),              \
    .norm_backward_apply = ISA_NAME(norm_backward_apply), .map_copy = ISA_NAME(map_copy),                                                  \
    .map_relu_backward = ISA_NAME(map_relu_backward), .max_pool_backward = ISA_NAME(max_pool_backward),                                    \
    .average_pool_backward = ISA_NAME(average_pool_backward), .transposed_conv_backward = ISA_NAME(transposed_conv_backward),              \
    .log_softmax_backward = ISA_NAME(log_softmax_backward), .conv_data_gradient_packed_bytes = ISA_NAME(conv_data_gradient_packed_bytes),  \
    .conv_data_gradient_pack = ISA_NAME(conv_data_gradient_pack),                                                                          \
    .conv_data_gradient_scratch_bytes = ISA_NAME(conv_data_gradient_scratch_bytes), .conv_data_gradient = ISA_NAME(conv_data_gradient)

extern const struct training_kernels ISA_NAME(training_table);

const struct training_kernels ISA_NAME(training_table) = {
    VECTOR_KERNELS,
    .conv_weight_gradient_scratch_bytes = ISA_NAME(conv_weight_gradient_scratch_bytes),
    .conv_weight_gradient = ISA_NAME(conv_weight_gradient),
};

#if KERNEL_ISA_AVX512 && DLA_HAVE_AMX
extern const struct training_kernels training_table_amx;

const struct training_kernels training_table_amx = {
    VECTOR_KERNELS,
    .conv_weight_gradient_scratch_bytes = ISA_NAME(conv_weight_gradient_amx_scratch_bytes),
    .conv_weight_gradient = ISA_NAME(conv_weight_gradient_amx),
};
#endif
