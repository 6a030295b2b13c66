/* arena.h - memory that is freed all at once.
 *
 * A graph, a plan or a parsed file consists of many small objects of one lifetime. They come from an arena, never go back
 * one by one, and disappear together.
 */
#ifndef DLA_BASE_ARENA_H
#define DLA_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *newest;   /* NULL: nothing allocated yet; a zeroed arena is ready for use */
};

/* `size` zeroed bytes aligned for any type; NULL when memory is exhausted. */
void *arena_allocate(struct arena *arena, size_t size);

/* The same for count elements; NULL too where count * size overflows. */
void *arena_allocate_array(struct arena *arena, size_t count, size_t size);

/* A copy of text, or of printf output. */
char *arena_copy_string(struct arena *arena, const char *text);
__attribute__((format(printf, 2, 3))) char *arena_format(struct arena *arena, const char *format, ...);

void arena_free(struct arena *arena);

#endif
