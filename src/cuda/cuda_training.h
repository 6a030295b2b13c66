/* cuda_training.h - what training does on the GPU beside cuDNN's convolutions and cuda_map.h: batch norms that learn, gradients, the loss,
 * the optimiser.
 *
 * The functions mean what their namesakes of cpu/training.h, train/loss.h and train/optimiser.h mean. Maps and their gradients are
 * in the format that is named, everything else is float32, sums over pixels are double. Sums are taken in an order that depends
 * on shapes alone: the same input gives the same bits. Each function puts its work into a stream and returns.
 */
#ifndef DLA_CUDA_CUDA_TRAINING_H
#define DLA_CUDA_CUDA_TRAINING_H

#include "cpu/conv.h"
#include "cuda/cuda_view.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- batch norm (train_norm.cu) ---- */

/* Ranks whose batch norms are taken over the maps of all of them. */
struct cuda_norm_ranks {
    int count;
    /* Adds up over the ranks, in place, in the stream. values: (count), device. All ranks call it for the same norms in the same order. */
    void (*sum)(void *context, double *values, int count, cudaStream_t stream);
    void *context;
};

/* One batch norm with the residual and the relu behind it. All pointers are the device's. */
struct cuda_norm_call {
    enum cuda_format format;
    int64_t pixels; /* of all images together */
    int channels;
    bool relu, fixed;         /* fixed: running statistics are used, and not updated */
    float momentum, epsilon;
    struct cuda_view in, out; /* (pixels, channels) */
    struct cuda_view residual;                  /* (pixels, channels), data NULL: none */
    const float *weight, *bias;                 /* (channels) */
    float *running_mean, *running_var;          /* (channels) */
    float *mean, *deviation_inverse, *scale, *shift, *gradient_of_x, *gradient_constant; /* (channels), kept from forward to backward */
    double *sums;                               /* cuda_norm_sums of pixels and channels */
    const struct cuda_norm_ranks *ranks;        /* each with as many pixels, and the same running mean; NULL: one */
    /* backward alone */
    struct cuda_view out_gradient, in_gradient; /* (pixels, channels); in_gradient may be out_gradient's memory, data NULL: not wanted */
    struct cuda_view residual_gradient;         /* (pixels, channels), data NULL: not wanted */
    bool accumulate_in, accumulate_residual;
    float *weight_gradient, *bias_gradient;     /* (channels), added to, from this rank's pixels; NULL: not trained */
};

int64_t cuda_norm_sums(int64_t pixels, int channels);

/* again: with the scale and shift of the first time, running statistics untouched. */
void cuda_norm_forward(const struct cuda_norm_call *call, bool again, cudaStream_t stream);
void cuda_norm_backward(const struct cuda_norm_call *call, cudaStream_t stream);

/* gradient[c] += the sum over all pixels of out_gradient[.][c]: of a convolution's bias. sums: cuda_norm_sums. */
void cuda_bias_gradient(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out_gradient, double *sums, float *gradient,
                        cudaStream_t stream);

/* ---- gradients of the other maps (train_map.cu) ---- */

/* out = [out +] in, over pixels. */
void cuda_accumulate(enum cuda_format format, int64_t pixels, int channels, struct cuda_view in, struct cuda_view out, bool add,
                     cudaStream_t stream);
void cuda_zero(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out, cudaStream_t stream);
/* out += bias, (channels) */
void cuda_add_bias(enum cuda_format format, int64_t pixels, int channels, const float *bias, struct cuda_view out, cudaStream_t stream);
/* in_gradient = [in_gradient +] out_gradient where out > 0 */
void cuda_relu_backward(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out, struct cuda_view out_gradient,
                        struct cuda_view in_gradient, bool add, cudaStream_t stream);
/* in_gradient = [in_gradient +] out_gradient - exp(out) * sum over channels of out_gradient */
void cuda_log_softmax_backward(enum cuda_format format, int64_t pixels, int channels, struct cuda_view out, struct cuda_view out_gradient,
                               struct cuda_view in_gradient, bool add, cudaStream_t stream);
/* Multiplies by 0 or by 1 / (1 - probability), as train/tape_run.c does: element i of the map by the i-th number of the key, counted
 * from pixel `first` of the whole step's map, where this rank's begins. */
void cuda_drop(enum cuda_format format, int64_t first, int64_t pixels, int channels, struct cuda_view map, uint64_t key,
               double probability, cudaStream_t stream);

/* A window's way back: the gradient of the large map from that of the small one, or, of a transposed convolution, the reverse. */
struct cuda_window_call {
    enum cuda_format format;
    int batch, channels;
    int in_height, in_width, out_height, out_width;
    int kernel, stride, padding, dilation;
    struct cuda_view in;           /* (batch, in_height, in_width, channels): max pool and transposed convolution */
    struct cuda_view out_gradient; /* (batch, out_height, out_width, channels) */
    struct cuda_view in_gradient;  /* (batch, in_height, in_width, channels): added to; data NULL: not wanted */
    bool add;                      /* global average pool: false overwrites */
    const float *weight;           /* transposed convolution: (kernel, kernel, channels), device */
    float *weight_gradient;        /* transposed convolution: (channels, kernel, kernel), device, added to; NULL: not wanted */
    double *sums;                  /* with weight_gradient: cuda_transposed_sums */
};

void cuda_max_pool_backward(const struct cuda_window_call *call, cudaStream_t stream);
void cuda_average_pool_backward(const struct cuda_window_call *call, cudaStream_t stream);
void cuda_global_average_pool_backward(const struct cuda_window_call *call, cudaStream_t stream);
void cuda_crop_backward(const struct cuda_window_call *call, cudaStream_t stream);
void cuda_transposed_conv_backward(const struct cuda_window_call *call, cudaStream_t stream);
int64_t cuda_transposed_sums(int64_t in_pixels, int channels, int kernel);

/* (channels, taps) to (taps, channels) */
void cuda_taps_first(int channels, int taps, const float *weight, float *turned, cudaStream_t stream);

/* ---- convolutions by their definition (train_conv.cu): the twin of cuDNN's, and what stands in for it ---- */

struct cuda_conv_pass {
    enum cuda_format format;
    const struct conv_shape *shape;        /* source_count is not looked at */
    struct cuda_view in, out;              /* maps forward, gradients backward; the weight gradient reads the map `in` */
    const void *weight;                    /* (out_channels, kernel, kernel, in_channels / groups) in `format` */
    void *weight_gradient;                 /* the same, written */
    float *sums;                           /* with weight_gradient: cuda_conv_direct_sums */
    bool add;                              /* backward to `in`: added to it */
};

void cuda_conv_direct_forward(const struct cuda_conv_pass *pass, cudaStream_t stream);
void cuda_conv_direct_data(const struct cuda_conv_pass *pass, cudaStream_t stream);
void cuda_conv_direct_weight(const struct cuda_conv_pass *pass, cudaStream_t stream);
int64_t cuda_conv_direct_sums(const struct conv_shape *shape);

/* A convolution's weights in both orders: (out, in, taps) in the flat block of parameters and of gradients, (out, taps, in) where
 * kernels read and write them. */
struct cuda_turned_weights {
    int64_t flat, turned; /* elements from the start of the two */
    int out, in, taps;    /* in: channels of a group */
    bool trained;
};

/* All of them at once: table is (count) in device memory, `largest` the most elements of one. turned = flat in `format`; and
 * gradients += turned of those that are trained. */
void cuda_turn_weights(enum cuda_format format, const struct cuda_turned_weights *table, int count, int64_t largest, const float *values,
                       void *turned, cudaStream_t stream);
void cuda_turn_gradients(enum cuda_format format, const struct cuda_turned_weights *table, int count, int64_t largest, const void *turned,
                         float *gradients, cudaStream_t stream);

/* ---- input, loss, optimiser (train_update.cu) ---- */

/* out[b] = share * in[b] + (1 - share) * in[other]; share 1: a copy. The other image is the mirrored one, batch - 1 - b, or, with
 * partners, batch + b. in: (batch, elements) float32, with partners (2 batch, elements); out: (batch, elements) in `format`. */
void cuda_blend_images(enum cuda_format format, int batch, int64_t elements, const float *in, bool partners, float share, void *out,
                       cudaStream_t stream);

/* What is decided and counted on the device during a step; lies in device memory. */
struct cuda_step_state {
    double loss;      /* of the last cuda_cross_entropy: mean over its rows */
    double norm;      /* of the gradients before clipping; only where it is asked for */
    int64_t correct;  /* rows of the last cuda_cross_entropy */
    float loss_scale; /* the gradients are so many times too large */
    float factor;     /* of the gradients on their way into the weights */
    int take;         /* whether the step is taken */
    int good_steps;   /* since the loss scale changed */
    int skipped;      /* steps that were not taken */
};

struct cuda_loss_call {
    enum cuda_format format;
    int rows, classes;
    struct cuda_view logits, gradient; /* (rows, classes) */
    const int *labels;                 /* (rows), with partners (2 rows), device */
    bool mixed;                        /* row r also has, with 1 - share, the label of row rows - 1 - r, or with partners rows + r */
    bool partners;
    float share, smoothing;
    float scale;                       /* of the gradient, beside the state's loss scale */
    double *row_losses;                /* (rows), device */
    int *row_hits;                     /* (rows), device */
    struct cuda_step_state *state;     /* device */
};
void cuda_cross_entropy(const struct cuda_loss_call *call, cudaStream_t stream);

/* A class for every pixel: logits are logarithms of probabilities, train/dense_loss.h. */
struct cuda_pixel_loss_call {
    enum cuda_format format;
    int64_t pixels;
    int classes;
    struct cuda_view log_probabilities, gradient; /* (pixels, classes) */
    const uint8_t *labels;                        /* (pixels), device; `ignored`: not looked at */
    const float *weights;                         /* (classes), device */
    uint8_t ignored;
    double total;                                 /* of the weights of all labelled pixels */
    float scale;
    double *sums;                                 /* (2 * CUDA_NORM_BLOCKS), device */
    struct cuda_step_state *state;
};
void cuda_pixel_cross_entropy(const struct cuda_pixel_loss_call *call, cudaStream_t stream);

/* Running statistics on their way through the gradients' block, whose slots for them no gradient uses and in which ranks add up: before
 * the sum gradients = values / ranks, and behind it values = gradients, gradients = 0. lines: (count), device, those lines of CUDA_LINE
 * floats of the blocks that hold statistics. */
void cuda_carry_statistics(const int *lines, int count, int ranks, const float *values, float *gradients, cudaStream_t stream);
void cuda_take_statistics(const int *lines, int count, float *gradients, float *values, cudaStream_t stream);

/* Decides whether and how the gradients go into the weights: clipped to `limit` (0: not), divided by the loss scale; where `scaling`, a
 * step whose gradients are not finite is left out and the scale halved, and after CUDA_GOOD_STEPS others it is doubled. */
enum { CUDA_NORM_BLOCKS = 512, CUDA_GOOD_STEPS = 2000 };
void cuda_judge_gradients(const float *gradients, int64_t count, double limit, bool scaling, double *sums /* (CUDA_NORM_BLOCKS) */,
                          struct cuda_step_state *state, cudaStream_t stream);

/* All arrays are blocks of `count` elements, a multiple of CUDA_LINE; rate_scale and decay hold a number per line. */
enum { CUDA_LINE = 16 };
struct cuda_optimiser_call {
    int64_t count;
    float *values, *velocity;
    const float *gradients, *rate_scale, *decay; /* rate_scale 0: not trained */
    float rate, momentum;
    bool nesterov;
    const struct cuda_step_state *state;
};
void cuda_optimiser_step(const struct cuda_optimiser_call *call, cudaStream_t stream);

/* average = decay * average + (1 - decay) * values */
void cuda_average_weights(int64_t count, const float *values, float *average, float decay, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
