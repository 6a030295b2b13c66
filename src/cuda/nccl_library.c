/* nccl_library.c - opening NCCL. */
#if defined __has_include
#if __has_include(<nccl.h>)
#include "cuda/nccl_library.h"

#include "base/status.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

static const char name_of_library[] = "libnccl.so.2";

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct nccl_library opened;
static bool is_open;

static dla_status open_library(struct nccl_library *library)
{
#define NCCL_ROW(name) {"nccl" #name, offsetof(struct nccl_library, name)},
    static const struct {
        const char *name;
        size_t field;
    } functions[] = {NCCL_FUNCTIONS(NCCL_ROW)};
#undef NCCL_ROW

    void *handle = dlopen(name_of_library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return status_set(DLA_ERROR_UNSUPPORTED, "no NCCL 2: %s", dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *function = dlsym(handle, functions[i].name);
        if (function == NULL) {
            dlclose(handle);
            return status_set(DLA_ERROR_UNSUPPORTED, "no NCCL 2.13 or later: the %s that was found has no %s", name_of_library,
                              functions[i].name);
        }
        memcpy((char *)library + functions[i].field, &function, sizeof function);
    }
    return DLA_OK;
}

dla_status nccl_library_find(const struct nccl_library **library)
{
    pthread_mutex_lock(&mutex);
    dla_status status = is_open ? DLA_OK : open_library(&opened);
    is_open = status == DLA_OK;
    pthread_mutex_unlock(&mutex);
    *library = &opened;
    return status;
}
#else
typedef int nccl_library_is_left_out;
#endif
#endif
