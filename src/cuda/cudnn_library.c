/* cudnn_library.c - opening cuDNN. */
#if defined __has_include
#if __has_include(<cudnn.h>)
#include "cuda/cudnn_library.h"

#include "base/status.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

static const char name_of_library[] = "libcudnn.so.9";

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct cudnn_library opened;
static bool is_open;

static dla_status open_library(struct cudnn_library *library)
{
#define CUDNN_ROW(name) {"cudnn" #name, offsetof(struct cudnn_library, name)},
    static const struct {
        const char *name;
        size_t field;
    } functions[] = {CUDNN_FUNCTIONS(CUDNN_ROW)};
#undef CUDNN_ROW

    void *handle = dlopen(name_of_library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return status_set(DLA_ERROR_UNSUPPORTED, "training on the GPU needs cuDNN 9: %s; set LD_LIBRARY_PATH to the folder that has it",
                          dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *function = dlsym(handle, functions[i].name);
        if (function == NULL) {
            dlclose(handle);
            return status_set(DLA_ERROR_UNSUPPORTED, "training on the GPU needs cuDNN 9: the %s that was found has no %s", name_of_library,
                              functions[i].name);
        }
        memcpy((char *)library + functions[i].field, &function, sizeof function);
    }
    return DLA_OK;
}

dla_status cudnn_library_find(const struct cudnn_library **library)
{
    pthread_mutex_lock(&mutex);
    dla_status status = is_open ? DLA_OK : open_library(&opened);
    is_open = status == DLA_OK;
    pthread_mutex_unlock(&mutex);
    *library = &opened;
    return status;
}

dla_status cudnn_library_status(const struct cudnn_library *library, cudnnStatus_t status, const char *what)
{
    char words[256] = "";

    if (status == CUDNN_STATUS_SUCCESS)
        return DLA_OK;
    library->GetLastErrorString(words, sizeof words);
    words[sizeof words - 1] = '\0';
    words[strcspn(words, "\n")] = '\0';
    return status_set(DLA_ERROR_UNSUPPORTED, "cuDNN %zu cannot %s: %s%s%s", library->GetVersion(), what, library->GetErrorString(status),
                      words[0] ? ", " : "", words);
}
#else
typedef int cudnn_library_is_left_out;
#endif
#endif
