/* starting_weights.h - fine-tuning: weights to start from, and what of the network stays as it is. */
#ifndef DLA_TRAIN_STARTING_WEIGHTS_H
#define DLA_TRAIN_STARTING_WEIGHTS_H

#include "train/parameter_block.h"

/* Copies the file's weights into the block. Where reset_head is set the classifier keeps its values, and the file's may be of
 * any number of classes; else the number must be the same. */
dla_status starting_weights_read(const char *path, const dla_architecture *architecture, bool reset_head,
                                 struct parameter_block *parameters);

/* Copies a classifier's weights into the base of a network for dense prediction; the file's number of classes does not matter. */
dla_status base_weights_read(const char *path, const dla_architecture *architecture, struct parameter_block *parameters);

/* frozen[i]: parameter i belongs to the network up to and with `level` ("level3"; NULL: none). DLA_ERROR_ARGUMENT: no such level. */
dla_status freeze_parameters(const struct graph *graph, const char *level, bool *frozen);

#endif
