/* tape_inside_cuda.h - the inside of a tape on the GPU: its memory, and where in it things lie. */
#ifndef DLA_TRAIN_TAPE_INSIDE_CUDA_H
#define DLA_TRAIN_TAPE_INSIDE_CUDA_H

#include "cuda/cuda_device.h"
#include "cuda/cuda_training.h"
#include "cuda/cudnn_conv.h"
#include "train/gemm_cuda.h"
#include "train/reducer_cuda.h"
#include "train/tape_cuda.h"
#include "train/tape_steps.h"

enum { SLOTS = 2, CUDA_NORM_ARRAYS = 6, MOST_OWNED = 32 };

/* What a step has on the GPU beside its maps. */
struct cuda_step {
    const struct cudnn_conv *conv;  /* NULL: the definition */
    struct gemm_pass forward, data; /* of a convolution; where used, instead of cuDNN */
    int64_t turned;                 /* convolution: elements from the start of the turned weights; transposed: floats, of `taps` */
    float *norm;                    /* batch norm: (CUDA_NORM_ARRAYS, channels) */
};

/* A batch on its way: pinned memory, device memory, and the two events that keep them from being overwritten. */
struct slot {
    float *host_inputs, *inputs; /* (loaded, height, width, channels) */
    int *host_labels, *labels;   /* (loaded) */
    uint8_t *host_maps, *maps;   /* (batch, out_height, out_width) */
    cudaEvent_t loaded, consumed;
};

struct cuda_tape {
    struct tape *tape; /* steps and places */
    struct cuda_step *steps;
    enum cuda_format format;
    enum cuda_arithmetic arithmetic;
    struct cuda_device device;
    cudaStream_t stream, copies;
    struct cudnn_session *cudnn; /* NULL: convolutions by definition */
    void *owned[MOST_OWNED];     /* device memory */
    int owned_count;
    char *block;                                    /* all buffers, in elements of the format */
    float *values, *gradients, *velocity, *average; /* blocks; average NULL: none */
    float *rate_scale, *decay;                      /* per line of a block */
    bool has_optimiser, has_class_weights;
    char *packed;                      /* weights of gemm_passes */
    float *zeros;                      /* (largest channel count): the bias of a convolution that has none */
    char *turned, *turned_gradients;   /* convolutions' weights (out, kernel, kernel, in / groups) */
    struct cuda_turned_weights *table; /* of them, device */
    int conv_count;
    int64_t largest_weight, turned_elements;
    bool trains_convs;
    float *taps;                  /* transposed convolutions' weights (kernel, kernel, channels) */
    char *staged_in, *staged_out; /* a convolution's maps without gaps */
    float *direct_sums;           /* made when it is needed first */
    int64_t direct_sums_count;
    double *sums;
    double *row_losses;
    int *row_hits;
    float *class_weights;                       /* (channels of the output) */
    float *output;                              /* (batch, out_height, out_width, channels), for tests; made when needed */
    struct cuda_step_state *state, *host_state; /* device, pinned */
    struct slot slots[SLOTS];
    int taken, waiting;                   /* batches */
    int64_t input_elements, label_pixels; /* of a batch */
    int loaded;                           /* images that come with a batch: twice as many with partners */
    struct cuda_norm_ranks norm_ranks;    /* with options.norms */
    dla_status norm_status;               /* of their sums */
    int *statistics;                      /* (statistics_count), device: lines of the blocks that ranks average */
    int statistics_count;
    uint64_t key;
    char text[512];
};

/* tape_make_cuda.c: memory of the device, freed with the tape; *pointer is set to it. And copies in the tape's stream: the host's memory
 * is the caller's again when they return; copy_out waits for all that was begun. */
dla_status cuda_tape_take(struct cuda_tape *g, size_t bytes, const char *purpose, void *pointer);
dla_status cuda_tape_copy_in(struct cuda_tape *g, void *to, const void *from, size_t bytes);
dla_status cuda_tape_copy_out(struct cuda_tape *g, void *to, const void *from, size_t bytes);

/* tape_steps_cuda.c: put a step into the stream. */
void cuda_step_forward(struct cuda_tape *g, int index, bool again);
dla_status cuda_step_backward(struct cuda_tape *g, int index);

/* Bytes of the images and of the labels that come with a batch. */
static inline size_t loaded_input_bytes(const struct cuda_tape *g)
{
    return (size_t)(g->input_elements / g->tape->options.batch * g->loaded) * sizeof(float);
}

static inline size_t loaded_label_bytes(const struct cuda_tape *g)
{
    return (size_t)g->loaded * sizeof(int);
}

static inline struct cuda_view place_view(const struct cuda_tape *g, struct place place)
{
    const struct buffer *b = &g->tape->buffers[place.buffer];
    return (struct cuda_view){g->block + (size_t)(b->offset + place.channel) * cuda_format_bytes(g->format), b->channels};
}

static inline struct cuda_view map_of(const struct cuda_tape *g, value v)
{
    return place_view(g, g->tape->forward[v]);
}

static inline struct cuda_view gradient_of(const struct cuda_tape *g, value v)
{
    return place_view(g, g->tape->backward[v]);
}

static inline int channels_of(const struct cuda_tape *g, value v)
{
    return g->tape->graph->nodes[v].channels;
}

static inline struct cuda_view shifted(const struct cuda_tape *g, struct cuda_view view, int channels)
{
    return (struct cuda_view){(char *)view.data + (size_t)channels * cuda_format_bytes(g->format), view.pixel_stride};
}

/* NULL where there is no such parameter. */
static inline float *parameter_in(const struct cuda_tape *g, float *block, int parameter)
{
    return parameter == NO_PARAMETER ? NULL : block + g->tape->parameters->offsets[parameter];
}

static inline float *trained_gradient(const struct cuda_tape *g, int parameter)
{
    return tape_trains(g->tape, parameter) ? parameter_in(g, g->gradients, parameter) : NULL;
}

static inline void *turned_weights(const struct cuda_tape *g, char *block, int64_t elements)
{
    return block + (size_t)elements * cuda_format_bytes(g->format);
}

#endif
