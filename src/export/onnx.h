/* onnx.h - a network with its weights as an ONNX model. */
#ifndef DLA_EXPORT_ONNX_H
#define DLA_EXPORT_ONNX_H

#include "export/onnx_build.h"
#include "net/graph.h"

/* Appends the nodes of a graph and its parameters as constants, which point into `values` (one per parameter).
 * `input` names the value that is the graph's input, `output` the one that becomes its output. */
dla_status onnx_lower_graph(struct onnx_builder *builder, const struct graph *graph, const float *const *values, const char *input,
                            const char *output);

/* Appends nodes that turn 8-bit RGB pixels (batch, height, width, 3), the value `image`, into the network's input, the value
 * `output`. with_resize: photographs of any size, otherwise they must have been cut to the network's input already. */
void onnx_lower_preprocessing(struct onnx_builder *builder, const dla_preprocessing *preprocessing, bool with_resize, const char *image,
                              const char *output);

#endif
