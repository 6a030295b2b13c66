/* cudnn_library.c - opening cuDNN. */
#if defined __has_include
#if __has_include(<cudnn.h>)
#include "cuda/cudnn_library.h"

#include "base/status.h"
#include "cuda/optional_library.h"

#include <stddef.h>
#include <string.h>

#define CUDNN_ROW(name) {"cudnn" #name, offsetof(struct cudnn_library, name)},
static const struct library_function functions[] = {CUDNN_FUNCTIONS(CUDNN_ROW)};
#undef CUDNN_ROW

static struct cudnn_library opened;

static struct optional_library cudnn = {
    .file = "libcudnn.so.9",
    .need = "training on the GPU needs cuDNN 9",
    .hint = "; set LD_LIBRARY_PATH to the folder that has it",
    .functions = functions,
    .function_count = sizeof functions / sizeof functions[0],
    .table = &opened,
    .mutex = PTHREAD_MUTEX_INITIALIZER,
};

dla_status cudnn_library_find(const struct cudnn_library **library)
{
    *library = &opened;
    return optional_library_open(&cudnn);
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
