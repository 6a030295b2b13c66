/* builtin_model.c - the bytes of models/dla46_c_imagenette.safetensors, put into the library by the assembler.
 *
 * .incbin copies the file into read-only data as it is: nothing to generate, nothing to unpack, and pages that nobody reads
 * are never loaded. Aligned to 64 bytes, so that the tensors inside are aligned as they are in a mapped file.
 */
#include "tasks/builtin_model.h"

__asm__(".section .rodata\n"
        ".balign 64\n"
        ".globl dla_builtin_model\n"
        ".hidden dla_builtin_model\n"
        ".type dla_builtin_model, %object\n"
        "dla_builtin_model:\n"
        ".incbin \"" BUILTIN_MODEL_PATH "\"\n"
        "builtin_model_end:\n"
        ".size dla_builtin_model, builtin_model_end - dla_builtin_model\n"
        ".balign 8\n"
        ".globl dla_builtin_model_size\n"
        ".hidden dla_builtin_model_size\n"
        ".type dla_builtin_model_size, %object\n"
        "dla_builtin_model_size:\n"
        ".quad builtin_model_end - dla_builtin_model\n"
        ".size dla_builtin_model_size, 8\n"
        ".previous\n");
