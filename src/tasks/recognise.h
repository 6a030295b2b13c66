/* recognise.h - which network weights are for.
 *
 * What the caller says; else what accompanies the weights (model_card.h); else the one network of the zoo whose names and
 * shapes the tensors have.
 */
#ifndef DLA_TASKS_RECOGNISE_H
#define DLA_TASKS_RECOGNISE_H

#include "tasks/model_card.h"

/* wanted: the caller's, or NULL. Where the number of classes is left open, the card or the weights say it.
 * *source tells a report how the network was found. */
dla_status choose_architecture(const dla_architecture *wanted, const struct tensor_file *file, const struct model_card *card,
                               dla_architecture *architecture, const char **source);

/* The network of the zoo that has exactly these tensors; DLA_ERROR_MISMATCH where there is none. */
dla_status recognise_architecture(const struct tensor_file *file, dla_architecture *architecture);

#endif
