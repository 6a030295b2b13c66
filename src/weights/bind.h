/* bind.h - the tensors of a file matched with the parameters of a graph, strictly.
 *
 * Every parameter must have its tensor of exactly its shape; every tensor must be a parameter, one of the graph's known
 * unused projections, or a batch norm's num_batches_tracked. Anything else is an error that names the tensor and both shapes.
 * What is bent, and reported:
 *   - prefixes that wrappers put before every name: module. (DataParallel), model., state_dict., _orig_mod. (torch.compile);
 *   - fc.weight stored as a linear layer's (classes, channels) instead of a 1x1 convolution's;
 *   - a stem for RGB under a network of n channels: summed for n = 1, else repeated and scaled by 3/n;
 *   - fc.weight and fc.bias under a network without a classifier: left out.
 */
#ifndef DLA_WEIGHTS_BIND_H
#define DLA_WEIGHTS_BIND_H

#include "net/graph.h"
#include "weights/tensor_file.h"

struct bound_weights {
    const float **values; /* per parameter of the graph, row-major in the parameter's shape. Points into the mapped file
                                 * where that is float32, aligned and contiguous, else into `converted` */
    int parameter_count;
    const struct tensor_file *file; /* must outlive this; NULL for weights made in memory */
    struct arena converted;
    char *report; /* what was used and what was left, a few lines */
};

/* `network` is the graph's name in messages, "dla34". A value that is NaN or infinite is DLA_ERROR_MISMATCH, too. */
dla_status weights_bind(const struct graph *graph, const char *network, const struct tensor_file *file, struct bound_weights *weights);
void bound_weights_free(struct bound_weights *weights);

/* The pages of a parameter that maps the file will not be needed soon: lets the kernel drop them (peak memory). */
void bound_weights_release(const struct bound_weights *weights, const struct graph *graph, int parameter);

/* Names and shapes only: how many tensors stand against binding, and the first of them in words ("" if none). */
dla_status weights_check_fit(const struct graph *graph, const char *network, const struct tensor_file *file, dla_weights_fit *fit);

/* The number of classes that the file's classifier has: 0 where there is none. */
int weights_class_count(const struct tensor_file *file);

/* The stride at which the file's dense network predicts: 0 where it is a classifier. */
int weights_down_ratio(const struct tensor_file *file);

/* The input channels of the file's stem: 3 where it has none that could be told. */
int weights_input_channels(const struct tensor_file *file);

#endif
