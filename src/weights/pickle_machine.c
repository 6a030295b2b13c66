/* pickle_machine.c - see pickle_machine.h. */
#include "weights/pickle_machine.h"

#include "base/memory.h"
#include "base/status.h"

#include <string.h>

enum { MOST_VALUES = 4 << 20 };        /* a checkpoint of dla169 with its optimizer's state needs some 50,000 */
enum { MOST_ITEMS = 4 * MOST_VALUES }; /* in all lists, tuples and dicts together */

enum { POINTER_BYTES = sizeof(void *) };

/* ---- bytes ------------------------------------------------------------------------------------------------------------- */

dla_status machine_truncated(const struct pickle_machine *m)
{
    return status_set(DLA_ERROR_FORMAT, "pickle ends unexpectedly at byte %zu", m->position);
}

dla_status machine_malformed(const struct pickle_machine *m, const char *what)
{
    return status_set(DLA_ERROR_FORMAT, "pickle, before byte %zu: %s", m->position, what);
}

dla_status machine_read_number(struct pickle_machine *m, int width, uint64_t *number)
{
    if (m->size - m->position < (size_t)width)
        return machine_truncated(m);
    *number = 0;
    for (int i = width; i-- > 0;)
        *number = *number << 8 | m->bytes[m->position + (size_t)i];
    m->position += (size_t)width;
    return DLA_OK;
}

dla_status machine_read_counted(struct pickle_machine *m, int width, const uint8_t **bytes, size_t *length)
{
    uint64_t count;
    dla_status status = machine_read_number(m, width, &count);

    if (status != DLA_OK)
        return status;
    if (count > m->size - m->position)
        return machine_truncated(m);
    *bytes = m->bytes + m->position;
    *length = (size_t)count;
    m->position += (size_t)count;
    return DLA_OK;
}

dla_status machine_read_line(struct pickle_machine *m, const uint8_t **bytes, size_t *length)
{
    const uint8_t *start = m->bytes + m->position;
    const uint8_t *end = m->position < m->size ? memchr(start, '\n', m->size - m->position) : NULL;

    if (end == NULL)
        return machine_truncated(m);
    *bytes = start;
    *length = (size_t)(end - start);
    m->position += *length + 1;
    return DLA_OK;
}

/* ---- values, stack, memo ----------------------------------------------------------------------------------------------- */

dla_status machine_new_value(struct pickle_machine *m, enum pickle_kind kind, struct pickle_value **value)
{
    if (++m->value_count > MOST_VALUES)
        return status_set(DLA_ERROR_LIMIT, "pickle of more than %d values", MOST_VALUES);
    *value = arena_allocate(m->arena, sizeof(**value));
    if (*value == NULL)
        return status_out_of_memory(sizeof(**value), "a pickle");
    (*value)->kind = kind;
    return DLA_OK;
}

static dla_status grow(struct pickle_value ***array, size_t *capacity, size_t needed)
{
    size_t wanted = *capacity < 256 ? 256 : *capacity;

    while (wanted < needed)
        wanted *= 2;
    if (wanted == *capacity)
        return DLA_OK;
    struct pickle_value **grown = memory_resize(*array, wanted * POINTER_BYTES);
    if (grown == NULL)
        return status_out_of_memory(wanted * POINTER_BYTES, "a pickle");
    memset(grown + *capacity, 0, (wanted - *capacity) * POINTER_BYTES);
    *array = grown;
    *capacity = wanted;
    return DLA_OK;
}

dla_status machine_push(struct pickle_machine *m, struct pickle_value *value)
{
    if (m->stack_count >= MOST_VALUES)
        return status_set(DLA_ERROR_LIMIT, "pickle with more than %d values on its stack", MOST_VALUES);
    dla_status status = grow(&m->stack, &m->stack_capacity, m->stack_count + 1);
    if (status == DLA_OK)
        m->stack[m->stack_count++] = value;
    return status;
}

struct pickle_value *machine_top(const struct pickle_machine *m)
{
    return m->stack_count > 0 ? m->stack[m->stack_count - 1] : NULL;
}

dla_status machine_pop(struct pickle_machine *m, struct pickle_value **value)
{
    if ((*value = machine_top(m)) == NULL)
        return machine_malformed(m, "nothing on the stack");
    m->stack_count--;
    return DLA_OK;
}

dla_status machine_find_mark(const struct pickle_machine *m, size_t *first)
{
    for (size_t i = m->stack_count; i-- > 0;)
        if (m->stack[i] == NULL) {
            *first = i + 1;
            return DLA_OK;
        }
    return machine_malformed(m, "no mark on the stack");
}

dla_status machine_memo_put(struct pickle_machine *m, uint64_t index)
{
    if (machine_top(m) == NULL)
        return machine_malformed(m, "nothing on the stack");
    if (index >= MOST_VALUES) /* numbers are given in turn, so a large one is an attack on memory */
        return machine_malformed(m, "memo number out of range");
    dla_status status = grow(&m->memo, &m->memo_capacity, (size_t)index + 1);
    if (status != DLA_OK)
        return status;
    m->memo[index] = machine_top(m);
    m->memo_count++;
    return DLA_OK;
}

dla_status machine_memo_get(struct pickle_machine *m, uint64_t index)
{
    if (index >= m->memo_capacity || m->memo[index] == NULL)
        return machine_malformed(m, "memo number never put");
    return machine_push(m, m->memo[index]);
}

dla_status machine_append_item(struct pickle_machine *m, struct pickle_value *sequence, struct pickle_value *item)
{
    if (++m->item_count > MOST_ITEMS)
        return status_set(DLA_ERROR_LIMIT, "pickle of more than %d items", MOST_ITEMS);
    if (sequence->item_count == sequence->item_capacity) {
        size_t capacity = sequence->item_capacity < 4 ? 4 : 2 * sequence->item_capacity;
        struct pickle_value **items = arena_allocate_array(m->arena, capacity, POINTER_BYTES);
        if (items == NULL)
            return status_out_of_memory(capacity * POINTER_BYTES, "a pickle");
        if (sequence->item_count > 0)
            memcpy(items, sequence->items, sequence->item_count * POINTER_BYTES);
        sequence->items = items;
        sequence->item_capacity = capacity;
    }
    sequence->items[sequence->item_count++] = item;
    return DLA_OK;
}

dla_status machine_push_integer(struct pickle_machine *m, int64_t integer)
{
    struct pickle_value *value;
    dla_status status = machine_new_value(m, PICKLE_INTEGER, &value);
    if (status != DLA_OK)
        return status;
    value->as.integer = integer;
    return machine_push(m, value);
}

dla_status machine_push_bool(struct pickle_machine *m, bool truth)
{
    struct pickle_value *value;
    dla_status status = machine_new_value(m, PICKLE_BOOL, &value);
    if (status != DLA_OK)
        return status;
    value->as.truth = truth;
    return machine_push(m, value);
}

dla_status machine_push_real(struct pickle_machine *m, double real)
{
    struct pickle_value *value;
    dla_status status = machine_new_value(m, PICKLE_REAL, &value);
    if (status != DLA_OK)
        return status;
    value->as.real = real;
    return machine_push(m, value);
}

dla_status machine_push_empty(struct pickle_machine *m, enum pickle_kind kind)
{
    struct pickle_value *value;
    dla_status status = machine_new_value(m, kind, &value);
    return status == DLA_OK ? machine_push(m, value) : status;
}

dla_status machine_push_text(struct pickle_machine *m, enum pickle_kind kind, const uint8_t *bytes, size_t length)
{
    struct pickle_value *value;
    dla_status status = machine_new_value(m, kind, &value);
    if (status != DLA_OK)
        return status;
    value->as.text.bytes = bytes;
    value->as.text.length = length;
    return machine_push(m, value);
}

dla_status machine_push_counted(struct pickle_machine *m, enum pickle_kind kind, int width)
{
    const uint8_t *bytes;
    size_t length;
    dla_status status = machine_read_counted(m, width, &bytes, &length);
    return status == DLA_OK ? machine_push_text(m, kind, bytes, length) : status;
}
