/* pickle_machine.h - the machine that a pickle is a program for: its bytes, a stack, a memo, and the values made so far.
 *
 * Values live in the arena and texts stay where they are in the pickle. The numbers of values and items are bounded, so memory is,
 * whatever the pickle says. All functions that return a status fail with a message that names the byte.
 */
#ifndef DLA_WEIGHTS_PICKLE_MACHINE_H
#define DLA_WEIGHTS_PICKLE_MACHINE_H

#include "weights/pickle.h"

struct pickle_machine {
    const uint8_t *bytes;
    size_t size, position;
    const struct pickle_global *globals;
    struct arena *arena;
    struct pickle_value **stack; /* NULL stands for a mark */
    size_t stack_count, stack_capacity;
    struct pickle_value **memo; /* NULL: never put */
    size_t memo_count, memo_capacity;
    struct pickle_value *last_reference;
    size_t value_count, item_count;
};

/* Errors: the pickle ends too early; what is wrong before the present byte. */
dla_status machine_truncated(const struct pickle_machine *m);
dla_status machine_malformed(const struct pickle_machine *m, const char *what);

/* ---- reading the program's operands: an unsigned number of `width` bytes, little-endian; `width` bytes of length and so many
   bytes; a line without its end ---- */
dla_status machine_read_number(struct pickle_machine *m, int width, uint64_t *number);
dla_status machine_read_counted(struct pickle_machine *m, int width, const uint8_t **bytes, size_t *length);
dla_status machine_read_line(struct pickle_machine *m, const uint8_t **bytes, size_t *length);

/* ---- the stack; a NULL pushed is a mark ---- */
dla_status machine_push(struct pickle_machine *m, struct pickle_value *value);
dla_status machine_pop(struct pickle_machine *m, struct pickle_value **value);
struct pickle_value *machine_top(const struct pickle_machine *m);            /* stays; NULL where there is none or a mark */
dla_status machine_find_mark(const struct pickle_machine *m, size_t *first); /* index of the first value above the topmost mark */

/* ---- the memo: the top of the stack under a number, and back ---- */
dla_status machine_memo_put(struct pickle_machine *m, uint64_t index);
dla_status machine_memo_get(struct pickle_machine *m, uint64_t index);

/* ---- new values; push_counted reads its length and bytes ---- */
dla_status machine_new_value(struct pickle_machine *m, enum pickle_kind kind, struct pickle_value **value);
dla_status machine_append_item(struct pickle_machine *m, struct pickle_value *sequence, struct pickle_value *item);
dla_status machine_push_integer(struct pickle_machine *m, int64_t integer);
dla_status machine_push_bool(struct pickle_machine *m, bool truth);
dla_status machine_push_real(struct pickle_machine *m, double real);
dla_status machine_push_empty(struct pickle_machine *m, enum pickle_kind kind);
dla_status machine_push_text(struct pickle_machine *m, enum pickle_kind kind, const uint8_t *bytes, size_t length);
dla_status machine_push_counted(struct pickle_machine *m, enum pickle_kind kind, int width);

#endif
