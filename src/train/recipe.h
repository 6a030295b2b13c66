/* recipe.h - the parts of a recipe that are formulas: how weights begin, how the rate goes, in which order samples come. */
#ifndef DLA_TRAIN_RECIPE_H
#define DLA_TRAIN_RECIPE_H

#include "train/parameter_block.h"

/* Fills the whole block: every value follows from the seed and the parameter's name. */
void initialise_parameters(struct parameter_block *parameters, dla_initialisation kind, uint64_t seed);

/* Only the classifier's. */
void initialise_classifier(struct parameter_block *parameters, dla_initialisation kind, uint64_t seed);

/* The learning rate of a step, counted from 0, of `steps`, `epoch_steps` of which make an epoch. */
double learning_rate(const dla_train_options *options, int64_t step, int64_t steps, int64_t epoch_steps);

/* A permutation of 0 .. count-1 that depends on the key alone. */
void shuffle(size_t *order, size_t count, uint64_t key);

/* A draw from Beta(alpha, alpha). */
double beta_draw(double alpha, uint64_t key);

bool is_classifier_parameter(const struct parameter *parameter);

#endif
