/* memory.c - malloc's family with a replaceable ground.
 *
 * The allocator may be replaced only while nothing of the library's is alive, so that every block goes back where it came
 * from; a counter of live blocks knows. Allocation is rare (sessions run without any), so its cost does not matter.
 */
#include "base/memory.h"

#include "base/status.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void *system_allocate(void *context, size_t alignment, size_t size)
{
    void *memory = NULL;

    (void)context;
    if (alignment <= _Alignof(max_align_t))
        return malloc(size);
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void *system_resize(void *context, void *memory, size_t size)
{
    (void)context;
    return realloc(memory, size);
}

static void system_release(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static const dla_allocator system_allocator = {sizeof(dla_allocator), NULL, system_allocate, system_resize, system_release};
static dla_allocator allocator = {sizeof(dla_allocator), NULL, system_allocate, system_resize, system_release};
static atomic_size_t live_blocks;

static void *count_block(void *memory)
{
    if (memory != NULL)
        atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    return memory;
}

void *memory_allocate(size_t size)
{
    return memory_allocate_aligned(_Alignof(max_align_t), size);
}

void *memory_allocate_zeroed(size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    /* The system knows fresh pages to be zero and does not touch them. */
    if (allocator.allocate == system_allocate)
        return count_block(calloc(count > 0 ? count : 1, size > 0 ? size : 1));
    void *memory = memory_allocate(count * size);
    if (memory != NULL)
        memset(memory, 0, count * size);
    return memory;
}

void *memory_allocate_aligned(size_t alignment, size_t size)
{
    return count_block(allocator.allocate(allocator.context, alignment, size > 0 ? size : 1));
}

void *memory_resize(void *memory, size_t size)
{
    if (memory == NULL)
        return memory_allocate(size);
    return allocator.resize(allocator.context, memory, size > 0 ? size : 1);
}

char *memory_copy_string(const char *text)
{
    return memory_copy_text(text, strlen(text));
}

char *memory_copy_text(const char *text, size_t length)
{
    char *copy = memory_allocate(length + 1);
    if (copy != NULL) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

void memory_free(void *memory)
{
    if (memory == NULL)
        return;
    atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
    allocator.release(allocator.context, memory);
}

void dla_free(void *memory)
{
    memory_free(memory);
}

dla_status dla_set_allocator(const dla_allocator *replacement)
{
    size_t live = atomic_load_explicit(&live_blocks, memory_order_relaxed);

    if (live > 0)
        return status_set(DLA_ERROR_ARGUMENT,
                          "the allocator cannot change now: %zu blocks of the old one are in use; set it first, or free all objects before", live);
    if (replacement == NULL) {
        allocator = system_allocator;
        return DLA_OK;
    }
    if (replacement->struct_size < sizeof(*replacement) || replacement->allocate == NULL || replacement->resize == NULL
        || replacement->release == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "an allocator needs its struct_size and all of allocate, resize and release");
    allocator = *replacement;
    return DLA_OK;
}
