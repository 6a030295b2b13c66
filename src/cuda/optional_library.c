/* optional_library.c - opening a library by name. */
#include "cuda/optional_library.h"

#include "base/status.h"

#include <dlfcn.h>
#include <string.h>

static dla_status fill_table(const struct optional_library *library)
{
    void *handle = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);

    if (handle == NULL)
        return status_set(DLA_ERROR_UNSUPPORTED, "%s: %s%s", library->need, dlerror(), library->hint);
    for (size_t i = 0; i < library->function_count; i++) {
        void *function = dlsym(handle, library->functions[i].name);
        if (function == NULL) {
            dlclose(handle);
            return status_set(DLA_ERROR_UNSUPPORTED, "%s: the %s that was found has no %s", library->need, library->file,
                              library->functions[i].name);
        }
        memcpy((char *)library->table + library->functions[i].field, &function, sizeof function);
    }
    return DLA_OK;
}

dla_status optional_library_open(struct optional_library *library)
{
    pthread_mutex_lock(&library->mutex);
    dla_status status = library->is_open ? DLA_OK : fill_table(library);
    library->is_open = status == DLA_OK;
    pthread_mutex_unlock(&library->mutex);
    return status;
}
