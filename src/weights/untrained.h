/* untrained.h - weights for a network that nobody has trained: what measuring its speed needs.
 *
 * Every value follows from its parameter's name, so that two runs, and two machines, work on the same numbers. Convolutions are
 * uniform with the variance that keeps activations of one magnitude from layer to layer, norms are the identity: no denormal
 * or infinite number, whose speed would be another, appears on the way.
 */
#ifndef DLA_WEIGHTS_UNTRAINED_H
#define DLA_WEIGHTS_UNTRAINED_H

#include "weights/bind.h"

dla_status weights_untrained(const struct graph *graph, struct bound_weights *weights);

#endif
