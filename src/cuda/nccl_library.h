/* nccl_library.h - NCCL's functions, looked up when several ranks begin to train on GPUs of their own.
 *
 * As with cuDNN (cudnn_library.h) only its header is needed to build, and the library is opened by name at run time.
 */
#ifndef DLA_CUDA_NCCL_LIBRARY_H
#define DLA_CUDA_NCCL_LIBRARY_H

#include <dla/dla.h>

#include <nccl.h>

/* What is called, without the prefix nccl: the structure's fields and the names to look up come from this list. */
#define NCCL_FUNCTIONS(X)                                                                                                               \
    X(GetVersion)                                                                                                                       \
    X(GetErrorString)                                                                                                                   \
    X(GetLastError)                                                                                                                     \
    X(GetUniqueId)                                                                                                                      \
    X(CommInitRank)                                                                                                                     \
    X(CommDestroy)                                                                                                                      \
    X(AllReduce)

#define NCCL_FIELD(name) __typeof__(nccl##name) *name;
struct nccl_library {
    NCCL_FUNCTIONS(NCCL_FIELD)
};
#undef NCCL_FIELD

/* Opens it the first time; it stays open as long as the process lives. DLA_ERROR_UNSUPPORTED where there is no NCCL 2. */
dla_status nccl_library_find(const struct nccl_library **library);

#endif
