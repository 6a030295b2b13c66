/* training_isa.h - the functions of the training table as one instruction set's files define them (training.h says what they do). */
#ifndef DLA_CPU_ISA_TRAINING_ISA_H
#define DLA_CPU_ISA_TRAINING_ISA_H

#include "cpu/isa/vector.h"
#include "cpu/map.h"
#include "cpu/training.h"

void ISA_NAME(norm_sums)(const struct norm_run *run, const float *shift, double *sums);
void ISA_NAME(norm_apply)(const struct norm_run *run);
void ISA_NAME(norm_backward_sums)(const struct norm_run *run, double *sums);
void ISA_NAME(norm_backward_apply)(const struct norm_run *run);
void ISA_NAME(map_copy)(int64_t pixels, int channels, struct const_view in, struct map_view out, bool accumulate);
void ISA_NAME(map_relu_backward)(int64_t pixels, int channels, struct const_view out, struct const_view out_gradient,
                                 struct map_view in_gradient, bool accumulate);
void ISA_NAME(max_pool_backward)(const struct window_shape *s, struct const_view in, struct const_view out_gradient,
                                 struct map_view in_gradient);
void ISA_NAME(average_pool_backward)(const struct window_shape *s, struct const_view out_gradient, struct map_view in_gradient);
void ISA_NAME(transposed_conv_backward)(const struct window_shape *s, const float *weight, struct const_view in,
                                        struct const_view out_gradient, struct map_view in_gradient, float *weight_gradient);
void ISA_NAME(log_softmax_backward)(int64_t pixels, int channels, struct const_view out, struct const_view gradient, struct map_view to,
                                    bool accumulate);
size_t ISA_NAME(conv_data_gradient_packed_bytes)(const struct conv_shape *shape, bool exact);
void ISA_NAME(conv_data_gradient_pack)(const struct conv_shape *shape, bool exact, const float *weight, void *packed);
size_t ISA_NAME(conv_data_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(conv_data_gradient)(const struct conv_data_gradient_call *call);
size_t ISA_NAME(conv_weight_gradient_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(conv_weight_gradient)(const struct conv_weight_gradient_call *call);

/* weight_gradient_amx.c: the same on the matrix unit where that is faster. */
size_t ISA_NAME(conv_weight_gradient_amx_scratch_bytes)(const struct conv_shape *shape, int threads);
void ISA_NAME(conv_weight_gradient_amx)(const struct conv_weight_gradient_call *call);

/* For map_fast.c: the forward sides. out may be in. */
void ISA_NAME(log_softmax_run)(int64_t pixels, int channels, struct const_view in, struct map_view out);

/* Row y of a depthwise transposed convolution with a kernel of twice its stride. */
void ISA_NAME(upsample_row)(const struct map_call *c, int image, int y);

/* Lanes of b where a > 0, else 0. */
ALWAYS_INLINE vec vec_where_positive(vec a, vec b)
{
#if KERNEL_ISA_AVX512
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ), b);
#elif KERNEL_ISA_AVX2
    return _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ), b);
#elif KERNEL_ISA_NEON
    return vreinterpretq_f32_u32(vandq_u32(vcgtq_f32(a, vdupq_n_f32(0.0f)), vreinterpretq_u32_f32(b)));
#else
    for (int lane = 0; lane < VEC_WIDTH; lane++)
        b[lane] = a[lane] > 0.0f ? b[lane] : 0.0f;
    return b;
#endif
}

#endif
