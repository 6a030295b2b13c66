/* tape_cuda.h - a tape on the GPU: the same steps in the same order, with everything that training changes in its memory.
 *
 * Weights, gradients, momentum and averaged weights live there; the host's blocks are read and written when that is asked for. A step
 * is put into a stream call by call and runs while the host prepares what comes next:
 *
 *     load       a batch on its way through pinned memory, beside the step that runs (two batches at most are there)
 *     forward    of the oldest batch that was loaded
 *     loss       and its gradient, both on the GPU
 *     backward   adds to the gradients
 *     result     waits, and has the loss
 *     reduce     gradients become the sums over all ranks
 *     update     clipping, optimiser, averaged weights
 *
 * Only in builds with DLA_CUDA. Convolutions are cuDNN's; with options.reference they are those of cuda_training.h, without cuDNN.
 */
#ifndef DLA_TRAIN_TAPE_CUDA_H
#define DLA_TRAIN_TAPE_CUDA_H

#include "train/optimiser.h"
#include "train/tape.h"

struct cuda_tape;

/* options.device is DLA_DEVICE_CUDA. `average`: weights are averaged. The weights are what parameters->values has; momentum begins
 * at 0, the average with the weights. parameters must outlive the tape; their values are not touched. */
dla_status cuda_tape_create(const struct graph *graph, struct parameter_block *parameters, const struct tape_options *options, bool average,
                            struct cuda_tape **tape);
void cuda_tape_destroy(struct cuda_tape *tape);
struct tape_memory cuda_tape_memory(const struct cuda_tape *tape);

/* Blocks of the parameters' order between host and GPU; NULL: not that one. `read` waits for all that was begun. */
dla_status cuda_tape_write_state(struct cuda_tape *tape, const float *values, const float *velocity, const float *average);
dla_status cuda_tape_read_state(struct cuda_tape *tape, float *values, float *velocity, float *average);

/* inputs: (batch, height, width, channels); labels: (batch), or maps: (batch, out_height, out_width), the other NULL. With options.partners
 * inputs and labels are twice as many, first the batch's own, then each one's partner. Copied before it returns. At most two batches may
 * wait; a third is loaded after the loss of the first. */
dla_status cuda_tape_load(struct cuda_tape *tape, const float *inputs, const int *labels, const uint8_t *maps);
int cuda_tape_waiting(const struct cuda_tape *tape);

/* `key` chooses the dropout mask. share: of an image in its blend with the one at the mirrored place of the batch, or its partner; 1: no
 * blend. With options.norms forward and backward are collective, and go on behind a failure. */
dla_status cuda_tape_forward(struct cuda_tape *tape, uint64_t key, float share);

/* The loss of loss.h, of the labels that came with the batch. */
struct cuda_tape_loss {
    float share, smoothing; /* share: as in forward */
    float scale;            /* of the gradient */
};
dla_status cuda_tape_class_loss(struct cuda_tape *tape, const struct cuda_tape_loss *loss);
/* The loss of dense_loss.h, of the maps that came with the batch. class_weights: (classes), read once; total: pixel_weight of the
 * maps. */
dla_status cuda_tape_pixel_loss(struct cuda_tape *tape, const float *class_weights, double total, float scale);

dla_status cuda_tape_clear_gradients(struct cuda_tape *tape);
dla_status cuda_tape_backward(struct cuda_tape *tape);

/* Of the last loss. Waits for it, and for the backward pass behind it. */
struct cuda_tape_result {
    double loss;
    int64_t correct; /* images or pixels */
    float loss_scale;
    int skipped; /* steps so far whose float16 gradients overflowed: the weights stayed */
};
dla_status cuda_tape_result(struct cuda_tape *tape, struct cuda_tape_result *result);

/* With options.ranks: the gradients of all ranks are added up, and their running statistics averaged. Collective. Without: nothing. */
dla_status cuda_tape_reduce(struct cuda_tape *tape);

/* options->rate_scale is read once, at the first update. clip 0: none. average_decay: of the averaged weights. */
dla_status cuda_tape_update(struct cuda_tape *tape, const struct optimiser_options *options, float rate, double clip, float average_decay);

/* For tests: the output, (batch, out_height, out_width, channels); a gradient of it that no loss made; the gradients' block without the
 * loss scale; and which convolutions cuDNN took, in words that the tape keeps (NULL behind the last). */
dla_status cuda_tape_read_output(struct cuda_tape *tape, float *output, struct map_size *size);
dla_status cuda_tape_write_output_gradient(struct cuda_tape *tape, const float *gradient);
dla_status cuda_tape_read_gradients(struct cuda_tape *tape, float *gradients);
const char *cuda_tape_describe_conv(struct cuda_tape *tape, int index);

#endif
