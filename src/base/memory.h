/* memory.h - where all memory of the library comes from: malloc, or the allocator that the program set.
 *
 * The functions below stand in for malloc's family everywhere in src/; what comes from one of them goes back through
 * memory_free only. Memory that a third-party library allocates for itself (image decoders, JSON) stays with malloc.
 */
#ifndef DLA_BASE_MEMORY_H
#define DLA_BASE_MEMORY_H

#include <stddef.h>

void *memory_allocate(size_t size);                               /* as malloc: aligned for any type; NULL when exhausted */
void *memory_allocate_zeroed(size_t count, size_t size);          /* as calloc: NULL too where count * size overflows */
void *memory_allocate_aligned(size_t alignment, size_t size);     /* a power of two; any size; not to be resized */
void *memory_resize(void *memory, size_t size);                   /* as realloc */
char *memory_copy_string(const char *text);                       /* as strdup */
char *memory_copy_text(const char *text, size_t length);          /* as strndup of a text at least so long */
void memory_free(void *memory);                                   /* accepts NULL */

#endif
