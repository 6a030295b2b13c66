/* nccl_library.c - opening NCCL. */
#if defined __has_include
#if __has_include(<nccl.h>)
#include "cuda/nccl_library.h"

#include "cuda/optional_library.h"

#include <stddef.h>

#define NCCL_ROW(name) {"nccl" #name, offsetof(struct nccl_library, name)},
static const struct library_function functions[] = {NCCL_FUNCTIONS(NCCL_ROW)};
#undef NCCL_ROW

static struct nccl_library opened;

static struct optional_library nccl = {
    .file = "libnccl.so.2",
    .need = "no NCCL 2.13 or later",
    .hint = "",
    .functions = functions,
    .function_count = sizeof functions / sizeof functions[0],
    .table = &opened,
    .mutex = PTHREAD_MUTEX_INITIALIZER,
};

dla_status nccl_library_find(const struct nccl_library **library)
{
    *library = &opened;
    return optional_library_open(&nccl);
}
#else
typedef int nccl_library_is_left_out;
#endif
#endif
