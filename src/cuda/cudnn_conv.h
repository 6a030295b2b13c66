/* cudnn_conv.h - convolutions and their gradients by cuDNN, for training.
 *
 * A session holds the library, a workspace that grows to what is needed, and what cuDNN said of every shape it was asked for: its
 * algorithms, in the order of its heuristics, those first that give the same bits every time. A shape that none of them takes is
 * the caller's to compute.
 */
#ifndef DLA_CUDA_CUDNN_CONV_H
#define DLA_CUDA_CUDNN_CONV_H

#include "cuda/cuda_conv.h"

enum cudnn_direction { CUDNN_OUT, CUDNN_IN_GRADIENT, CUDNN_WEIGHT_GRADIENT, CUDNN_DIRECTIONS };

struct cudnn_session;
struct cudnn_conv;

/* exact: neither Winograd nor Fourier transforms. DLA_ERROR_UNSUPPORTED where cuDNN is not to be had. */
dla_status cudnn_session_open(enum cuda_arithmetic arithmetic, bool exact, cudaStream_t stream, struct cudnn_session **session);
void cudnn_session_close(struct cudnn_session *session);

/* What belongs to a shape; the session keeps it. source_count is not looked at. */
dla_status cudnn_session_conv(struct cudnn_session *session, const struct conv_shape *shape, const struct cudnn_conv **conv);

/* Dense maps in the arithmetic's format, weights (out_channels, kernel, kernel, in_channels / groups). Of in, weight and out the one
 * that `direction` names is written; add: added to. *done false: cuDNN cannot, or could not, and the caller has to. */
struct cudnn_conv_call {
    const struct cudnn_conv *conv;
    enum cudnn_direction direction;
    void *in, *weight, *out; /* maps, or backward their gradients */
    bool add;
};
void cudnn_session_run(struct cudnn_session *session, const struct cudnn_conv_call *call, bool *done);

/* In words: "algorithm 1, 12 MB", or why there is none. */
void cudnn_conv_describe(const struct cudnn_conv *conv, enum cudnn_direction direction, char *text, size_t size);

#endif
