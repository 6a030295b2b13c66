/* builtin_model.c - the bytes of files in models/, put into the library by the assembler.
 *
 * .incbin copies a file into read-only data as it is: nothing to generate, nothing to unpack, and pages that nobody reads
 * are never loaded. Aligned to 64 bytes, so that the tensors inside are aligned as they are in a mapped file.
 */
#include "tasks/builtin_model.h"

/* clang-format off */
#define EMBED(name, path) \
    extern const uint8_t name[]; \
    extern const size_t name##_size; \
    __asm__(".section .rodata\n" \
            ".balign 64\n" \
            ".globl " #name "\n" \
            ".hidden " #name "\n" \
            ".type " #name ", %object\n" \
            #name ":\n" \
            ".incbin \"" path "\"\n" \
            #name "_end:\n" \
            ".size " #name ", " #name "_end - " #name "\n" \
            ".balign 8\n" \
            ".globl " #name "_size\n" \
            ".hidden " #name "_size\n" \
            ".type " #name "_size, %object\n" \
            #name "_size:\n" \
            ".quad " #name "_end - " #name "\n" \
            ".size " #name "_size, 8\n" \
            ".previous\n")
/* clang-format on */

EMBED(dla_builtin_classify, BUILTIN_CLASSIFY);
EMBED(dla_builtin_segment, BUILTIN_SEGMENT);
EMBED(dla_builtin_edges, BUILTIN_EDGES);

struct builtin_model builtin_model(dla_task task)
{
    if (task == DLA_TASK_SEGMENT)
        return (struct builtin_model){dla_builtin_segment, dla_builtin_segment_size, "built-in network for segmentation"};
    if (task == DLA_TASK_EDGES)
        return (struct builtin_model){dla_builtin_edges, dla_builtin_edges_size, "built-in network for edges"};
    return (struct builtin_model){dla_builtin_classify, dla_builtin_classify_size, "built-in network"};
}
