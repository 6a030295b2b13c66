/* data_gradient_isa.h - how conv_data_gradient.c reaches the other way to a convolution's data gradient. */
#ifndef DLA_CPU_ISA_DATA_GRADIENT_ISA_H
#define DLA_CPU_ISA_DATA_GRADIENT_ISA_H

#include "cpu/isa/training_isa.h"

/* data_gradient_stride2.c: dense 3x3 of stride 2. */
bool ISA_NAME(stride2_data_supports)(const struct conv_shape *shape);
size_t ISA_NAME(stride2_data_packed_bytes)(const struct conv_shape *shape);
void ISA_NAME(stride2_data_pack)(const struct conv_shape *shape, const float *weight, void *packed);
size_t ISA_NAME(stride2_data_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(stride2_data)(const struct conv_data_gradient_call *call);

#endif
