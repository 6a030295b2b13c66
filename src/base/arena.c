/* arena.c - blocks from the system, handed out front to back.
 *
 * A request that fits into the newest block is a pointer bump. Otherwise a new block is made, large enough for the request
 * and at least BLOCK_BYTES; what was left of the old one is given up. A request larger than a quarter of a block gets a block of
 * its own behind the newest, so that it does not end the block that small objects share.
 */
#include "base/arena.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024, ALIGNMENT = _Alignof(max_align_t) };

struct arena_block {
    struct arena_block *older;
    size_t used, capacity; /* bytes of data */
    _Alignas(max_align_t) unsigned char data[];
};

static struct arena_block *create_block(size_t capacity)
{
    if (capacity > SIZE_MAX - sizeof(struct arena_block))
        return NULL;
    struct arena_block *block = memory_allocate_zeroed(1, sizeof(*block) + capacity);
    if (block != NULL)
        block->capacity = capacity;
    return block;
}

void *arena_allocate(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX - (ALIGNMENT - 1))
        return NULL;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size == 0)
        size = ALIGNMENT; /* distinct objects have distinct addresses, and NULL means failure only */

    struct arena_block *newest = arena->newest;
    if (newest != NULL && size <= newest->capacity - newest->used) {
        void *memory = newest->data + newest->used;
        newest->used += size;
        return memory;
    }
    struct arena_block *block = create_block(size > BLOCK_BYTES / 4 ? size : (size_t)BLOCK_BYTES);
    if (block == NULL)
        return NULL;
    block->used = size;
    if (newest != NULL && size > BLOCK_BYTES / 4) {
        block->older = newest->older;
        newest->older = block;
    } else {
        block->older = newest;
        arena->newest = block;
    }
    return block->data;
}

void *arena_allocate_array(struct arena *arena, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    return arena_allocate(arena, count * size);
}

char *arena_copy_string(struct arena *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = arena_allocate(arena, size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

char *arena_format(struct arena *arena, const char *format, ...)
{
    va_list arguments;
    char *text = NULL;

    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length >= 0)
        text = arena_allocate(arena, (size_t)length + 1);
    if (text != NULL) {
        va_start(arguments, format);
        vsnprintf(text, (size_t)length + 1, format, arguments);
        va_end(arguments);
    }
    return text;
}

void arena_free(struct arena *arena)
{
    while (arena->newest != NULL) {
        struct arena_block *block = arena->newest;
        arena->newest = block->older;
        memory_free(block);
    }
}
