/* optional_library.h - libraries that are opened by name when they are needed first, and stay open.
 *
 * Only their headers are needed to build; where the loader does not find one (LD_LIBRARY_PATH), what needs it says so.
 */
#ifndef DLA_CUDA_OPTIONAL_LIBRARY_H
#define DLA_CUDA_OPTIONAL_LIBRARY_H

#include <dla/dla.h>

#include <pthread.h>

struct library_function {
    const char *name;
    size_t field; /* of the library's table, in bytes */
};

struct optional_library {
    const char *file;                         /* "libcudnn.so.9" */
    const char *need;                         /* what a message begins with: "training on the GPU needs cuDNN 9" */
    const char *hint;                         /* what it ends with where the file is missing, or "" */
    const struct library_function *functions; /* (function_count) */
    size_t function_count;
    void *table; /* of function pointers */
    pthread_mutex_t mutex;
    bool is_open;
};

/* Fills the table, the first time. DLA_ERROR_UNSUPPORTED where the file or a function is missing. */
dla_status optional_library_open(struct optional_library *library);

#endif
