/* cudnn_library.h - cuDNN's functions, looked up when training on the GPU begins.
 *
 * Only its headers are needed to build; the library itself is opened by name at run time (as the loader finds it: LD_LIBRARY_PATH), so
 * that libdla loads, and runs networks, without it.
 */
#ifndef DLA_CUDA_CUDNN_LIBRARY_H
#define DLA_CUDA_CUDNN_LIBRARY_H

#include <dla/dla.h>

#include <cudnn.h>

/* What is called, without the prefix cudnn: the structure's fields and the names to look up come from this list. */
#define CUDNN_FUNCTIONS(X)                                                                                                              \
    X(GetVersion)                                                                                                                       \
    X(GetErrorString)                                                                                                                   \
    X(GetLastErrorString)                                                                                                               \
    X(Create)                                                                                                                           \
    X(Destroy)                                                                                                                          \
    X(SetStream)                                                                                                                        \
    X(CreateTensorDescriptor)                                                                                                           \
    X(SetTensor4dDescriptor)                                                                                                            \
    X(DestroyTensorDescriptor)                                                                                                          \
    X(CreateFilterDescriptor)                                                                                                           \
    X(SetFilter4dDescriptor)                                                                                                            \
    X(DestroyFilterDescriptor)                                                                                                          \
    X(CreateConvolutionDescriptor)                                                                                                      \
    X(SetConvolution2dDescriptor)                                                                                                       \
    X(SetConvolutionGroupCount)                                                                                                         \
    X(SetConvolutionMathType)                                                                                                           \
    X(DestroyConvolutionDescriptor)                                                                                                     \
    X(GetConvolutionForwardAlgorithm_v7)                                                                                                \
    X(GetConvolutionBackwardDataAlgorithm_v7)                                                                                           \
    X(GetConvolutionBackwardFilterAlgorithm_v7)                                                                                         \
    X(ConvolutionForward)                                                                                                               \
    X(ConvolutionBackwardData)                                                                                                          \
    X(ConvolutionBackwardFilter)

#define CUDNN_FIELD(name) __typeof__(cudnn##name) *name;
struct cudnn_library {
    CUDNN_FUNCTIONS(CUDNN_FIELD)
};
#undef CUDNN_FIELD

/* Opens it the first time; it stays open as long as the process lives, for it keeps things on the GPU. DLA_ERROR_UNSUPPORTED where
 * there is no cuDNN 9. */
dla_status cudnn_library_find(const struct cudnn_library **library);

/* DLA_OK, or the failure as a status: "cuDNN cannot <what>: <its words>". */
dla_status cudnn_library_status(const struct cudnn_library *library, cudnnStatus_t status, const char *what);

#endif
