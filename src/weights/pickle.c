/* pickle.c - a stack machine for Python's pickles that builds data and calls nothing.
 *
 * One switch over the opcodes of protocols 0 to 5. Every opcode makes at most one value; values share instead of copying, and
 * texts and bytes stay where they are in the pickle, so MOST_VALUES and MOST_ITEMS bound the memory whatever the pickle says.
 * Nothing here recurses, so deep nesting costs nothing.
 *
 * Left out, and refused: OBJ and INST (calls of classes as Python 1 wrote them), extension codes (numbers that stand for
 * registered functions) and out-of-band buffers.
 */
#include "weights/pickle.h"

#include "base/memory.h"
#include "base/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 4 << 20 };        /* a checkpoint of dla169 with its optimizer's state needs some 50,000 */
enum { MOST_ITEMS = 4 * MOST_VALUES }; /* in all lists, tuples and dicts together */

enum { POINTER_BYTES = sizeof(void *) };

enum opcode {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_POP = '0',
    OP_POP_MARK = '1',
    OP_DUP = '2',
    OP_FLOAT = 'F',
    OP_INT = 'I',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_LONG = 'L',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_PERSID = 'P',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_STRING = 'S',
    OP_BINSTRING = 'T',
    OP_SHORT_BINSTRING = 'U',
    OP_UNICODE = 'V',
    OP_BINUNICODE = 'X',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_DICT = 'd',
    OP_EMPTY_DICT = '}',
    OP_APPENDS = 'e',
    OP_GET = 'g',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_LIST = 'l',
    OP_EMPTY_LIST = ']',
    OP_PUT = 'p',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_EMPTY_TUPLE = ')',
    OP_SETITEMS = 'u',
    OP_BINFLOAT = 'G',
    OP_BINBYTES = 'B',
    OP_SHORT_BINBYTES = 'C',
    OP_PROTO = 0x80,
    OP_NEWOBJ = 0x81,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
    OP_LONG4 = 0x8b,
    OP_SHORT_BINUNICODE = 0x8c,
    OP_BINUNICODE8 = 0x8d,
    OP_BINBYTES8 = 0x8e,
    OP_EMPTY_SET = 0x8f,
    OP_ADDITEMS = 0x90,
    OP_FROZENSET = 0x91,
    OP_NEWOBJ_EX = 0x92,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95,
    OP_BYTEARRAY8 = 0x96,
};

struct machine {
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

/* ---- bytes ------------------------------------------------------------------------------------------------------------- */

static dla_status truncated(const struct machine *m)
{
    return status_set(DLA_ERROR_FORMAT, "pickle ends unexpectedly at byte %zu", m->position);
}

static dla_status malformed(const struct machine *m, const char *what)
{
    return status_set(DLA_ERROR_FORMAT, "pickle, before byte %zu: %s", m->position, what);
}

/* An unsigned number of `width` bytes, little-endian. */
static dla_status read_number(struct machine *m, int width, uint64_t *number)
{
    if (m->size - m->position < (size_t)width)
        return truncated(m);
    *number = 0;
    for (int i = width; i-- > 0;)
        *number = *number << 8 | m->bytes[m->position + (size_t)i];
    m->position += (size_t)width;
    return DLA_OK;
}

/* `width` bytes of length, then so many bytes. */
static dla_status read_counted(struct machine *m, int width, const uint8_t **bytes, size_t *length)
{
    uint64_t count;
    dla_status status = read_number(m, width, &count);

    if (status != DLA_OK)
        return status;
    if (count > m->size - m->position)
        return truncated(m);
    *bytes = m->bytes + m->position;
    *length = (size_t)count;
    m->position += (size_t)count;
    return DLA_OK;
}

static dla_status read_line(struct machine *m, const uint8_t **bytes, size_t *length)
{
    const uint8_t *start = m->bytes + m->position;
    const uint8_t *end = m->position < m->size ? memchr(start, '\n', m->size - m->position) : NULL;

    if (end == NULL)
        return truncated(m);
    *bytes = start;
    *length = (size_t)(end - start);
    m->position += *length + 1;
    return DLA_OK;
}

/* ---- values, stack, memo ----------------------------------------------------------------------------------------------- */

static dla_status new_value(struct machine *m, enum pickle_kind kind, struct pickle_value **value)
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

static dla_status push(struct machine *m, struct pickle_value *value)
{
    if (m->stack_count >= MOST_VALUES)
        return status_set(DLA_ERROR_LIMIT, "pickle with more than %d values on its stack", MOST_VALUES);
    dla_status status = grow(&m->stack, &m->stack_capacity, m->stack_count + 1);
    if (status == DLA_OK)
        m->stack[m->stack_count++] = value;
    return status;
}

/* The top of the stack stays; NULL where there is none or a mark. */
static struct pickle_value *top(const struct machine *m)
{
    return m->stack_count > 0 ? m->stack[m->stack_count - 1] : NULL;
}

static dla_status pop(struct machine *m, struct pickle_value **value)
{
    if ((*value = top(m)) == NULL)
        return malformed(m, "nothing on the stack");
    m->stack_count--;
    return DLA_OK;
}

/* Index of the first value above the topmost mark. */
static dla_status find_mark(const struct machine *m, size_t *first)
{
    for (size_t i = m->stack_count; i-- > 0;)
        if (m->stack[i] == NULL) {
            *first = i + 1;
            return DLA_OK;
        }
    return malformed(m, "no mark on the stack");
}

static dla_status memo_put(struct machine *m, uint64_t index)
{
    if (top(m) == NULL)
        return malformed(m, "nothing on the stack");
    if (index >= MOST_VALUES) /* numbers are given in turn, so a large one is an attack on memory */
        return malformed(m, "memo number out of range");
    dla_status status = grow(&m->memo, &m->memo_capacity, (size_t)index + 1);
    if (status != DLA_OK)
        return status;
    m->memo[index] = top(m);
    m->memo_count++;
    return DLA_OK;
}

static dla_status memo_get(struct machine *m, uint64_t index)
{
    if (index >= m->memo_capacity || m->memo[index] == NULL)
        return malformed(m, "memo number never put");
    return push(m, m->memo[index]);
}

static dla_status append_item(struct machine *m, struct pickle_value *sequence, struct pickle_value *item)
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

static dla_status push_integer(struct machine *m, int64_t integer)
{
    struct pickle_value *value;
    dla_status status = new_value(m, PICKLE_INTEGER, &value);
    if (status != DLA_OK)
        return status;
    value->as.integer = integer;
    return push(m, value);
}

static dla_status push_bool(struct machine *m, bool truth)
{
    struct pickle_value *value;
    dla_status status = new_value(m, PICKLE_BOOL, &value);
    if (status != DLA_OK)
        return status;
    value->as.truth = truth;
    return push(m, value);
}

static dla_status push_real(struct machine *m, double real)
{
    struct pickle_value *value;
    dla_status status = new_value(m, PICKLE_REAL, &value);
    if (status != DLA_OK)
        return status;
    value->as.real = real;
    return push(m, value);
}

static dla_status push_empty(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value *value;
    dla_status status = new_value(m, kind, &value);
    return status == DLA_OK ? push(m, value) : status;
}

static dla_status push_text(struct machine *m, enum pickle_kind kind, const uint8_t *bytes, size_t length)
{
    struct pickle_value *value;
    dla_status status = new_value(m, kind, &value);
    if (status != DLA_OK)
        return status;
    value->as.text.bytes = bytes;
    value->as.text.length = length;
    return push(m, value);
}

static dla_status push_counted(struct machine *m, enum pickle_kind kind, int width)
{
    const uint8_t *bytes;
    size_t length;
    dla_status status = read_counted(m, width, &bytes, &length);
    return status == DLA_OK ? push_text(m, kind, bytes, length) : status;
}

/* ---- opcodes ----------------------------------------------------------------------------------------------------------- */

/* Little-endian two's complement of any length. */
static dla_status do_long(struct machine *m, int width)
{
    const uint8_t *bytes;
    size_t length;
    dla_status status = read_counted(m, width, &bytes, &length);

    if (status != DLA_OK)
        return status;
    if (length > 8)
        return push_text(m, PICKLE_BIG_INTEGER, bytes, length);
    uint64_t number = length > 0 && bytes[length - 1] >= 0x80 ? UINT64_MAX : 0;
    for (size_t i = length; i-- > 0;)
        number = number << 8 | bytes[i];
    return push_integer(m, (int64_t)number);
}

/* Protocol 0's numbers in text: "12", "12L", and "00" and "01" for False and True. */
static dla_status do_text_number(struct machine *m, enum opcode opcode)
{
    const uint8_t *line;
    size_t length;
    char text[64], *end;
    dla_status status = read_line(m, &line, &length);

    if (status != DLA_OK)
        return status;
    if (length == 0 || length >= sizeof(text))
        return malformed(m, "a number of unlikely length");
    memcpy(text, line, length);
    text[length] = '\0';
    if (opcode == OP_INT && length == 2 && text[0] == '0' && (text[1] == '0' || text[1] == '1'))
        return push_bool(m, text[1] == '1');
    if (opcode == OP_FLOAT) {
        double real = strtod(text, &end);
        return *end == '\0' ? push_real(m, real) : malformed(m, "not a number");
    }
    if (opcode == OP_LONG && text[length - 1] == 'L')
        text[length - 1] = '\0';
    errno = 0;
    long long integer = strtoll(text, &end, 10);
    return *end == '\0' && end != text && errno == 0 ? push_integer(m, integer) : malformed(m, "not a whole number");
}

static dla_status do_binfloat(struct machine *m)
{
    uint64_t little, big;
    double real;
    dla_status status = read_number(m, 8, &little);

    if (status != DLA_OK)
        return status;
    big = __builtin_bswap64(little); /* the one big-endian field of the format */
    memcpy(&real, &big, sizeof(real));
    return push_real(m, real);
}

/* Protocol 0's quoted strings; escapes, which names of tensors never need, are refused. */
static dla_status do_quoted_string(struct machine *m)
{
    const uint8_t *line;
    size_t length;
    dla_status status = read_line(m, &line, &length);

    if (status != DLA_OK)
        return status;
    if (length < 2 || line[0] != line[length - 1] || (line[0] != '\'' && line[0] != '"') || memchr(line, '\\', length) != NULL)
        return malformed(m, "a string that is not plainly quoted");
    return push_text(m, PICKLE_TEXT, line + 1, length - 2);
}

static dla_status do_line_text(struct machine *m)
{
    const uint8_t *line;
    size_t length;
    dla_status status = read_line(m, &line, &length);

    if (status != DLA_OK)
        return status;
    if (memchr(line, '\\', length) != NULL)
        return malformed(m, "a text with escapes");
    return push_text(m, PICKLE_TEXT, line, length);
}

/* module, name -> one of the globals that the reader lists. */
static dla_status do_stack_global(struct machine *m)
{
    struct pickle_value *module, *name, *value;
    dla_status status;

    if ((status = pop(m, &name)) != DLA_OK || (status = pop(m, &module)) != DLA_OK)
        return status;
    if (module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT)
        return malformed(m, "the name of a class is not a text");
    for (const struct pickle_global *g = m->globals; g->module != NULL; g++)
        if (pickle_text_is(module, g->module) && pickle_text_is(name, g->name)) {
            if ((status = new_value(m, PICKLE_GLOBAL, &value)) != DLA_OK)
                return status;
            value->global = g->id;
            return push(m, value);
        }
    enum { SHOWN = 100 };
    return status_set(
        DLA_ERROR_UNSUPPORTED,
        "the pickle names '%.*s.%.*s', which is not among the few things that plain weights consist of; refused, nothing was run",
        (int)(module->as.text.length < SHOWN ? module->as.text.length : SHOWN), (const char *)module->as.text.bytes,
        (int)(name->as.text.length < SHOWN ? name->as.text.length : SHOWN), (const char *)name->as.text.bytes);
}

static dla_status do_global(struct machine *m)
{
    const uint8_t *line;
    size_t length;

    for (int i = 0; i < 2; i++) { /* a line for the module, one for the name */
        dla_status status = read_line(m, &line, &length);
        if (status != DLA_OK || (status = push_text(m, PICKLE_TEXT, line, length)) != DLA_OK)
            return status;
    }
    return do_stack_global(m);
}

/* Everything above the mark becomes a list, tuple or dict. */
static dla_status do_collect(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value *collected;
    size_t first;
    dla_status status;

    if ((status = find_mark(m, &first)) != DLA_OK || (status = new_value(m, kind, &collected)) != DLA_OK)
        return status;
    if (kind == PICKLE_DICT && (m->stack_count - first) % 2 != 0)
        return malformed(m, "a key without a value");
    for (size_t i = first; i < m->stack_count && status == DLA_OK; i++)
        status = append_item(m, collected, m->stack[i]);
    m->stack_count = first - 1;
    return status == DLA_OK ? push(m, collected) : status;
}

static dla_status do_small_tuple(struct machine *m, size_t count)
{
    struct pickle_value *tuple;
    dla_status status = new_value(m, PICKLE_TUPLE, &tuple);

    for (size_t i = count; i > 0 && status == DLA_OK; i--) {
        if (m->stack_count < i || m->stack[m->stack_count - i] == NULL)
            return malformed(m, "nothing on the stack");
        status = append_item(m, tuple, m->stack[m->stack_count - i]);
    }
    if (status != DLA_OK)
        return status;
    m->stack_count -= count;
    return push(m, tuple);
}

/* Everything from `first` on goes into the container below it (and below the mark, if there is one). */
static dla_status add_to_container(struct machine *m, size_t first, size_t below, bool pairs)
{
    struct pickle_value *container = below > 0 ? m->stack[below - 1] : NULL;
    dla_status status = DLA_OK;

    if (container == NULL)
        return malformed(m, "nothing to add to");
    bool takes = pairs ? container->kind == PICKLE_DICT || container->kind == PICKLE_OBJECT : container->kind == PICKLE_LIST;
    if (!takes)
        return malformed(m, pairs ? "items set on something that is no dict" : "items appended to something that is no list");
    if (pairs && (m->stack_count - first) % 2 != 0)
        return malformed(m, "a key without a value");
    for (size_t i = first; i < m->stack_count && status == DLA_OK; i++)
        status = m->stack[i] != NULL ? append_item(m, container, m->stack[i]) : malformed(m, "a mark among items");
    m->stack_count = below;
    return status;
}

static dla_status do_add(struct machine *m, size_t count)
{
    if (m->stack_count < count + 1)
        return malformed(m, "nothing on the stack");
    return add_to_container(m, m->stack_count - count, m->stack_count - count, count == 2);
}

static dla_status do_add_many(struct machine *m, bool pairs)
{
    size_t first;
    dla_status status = find_mark(m, &first);
    return status == DLA_OK ? add_to_container(m, first, first - 1, pairs) : status;
}

/* callable, arguments -> what the call would have given. */
static dla_status do_reduce(struct machine *m)
{
    struct pickle_value *callable, *arguments, *object;
    dla_status status;

    if ((status = pop(m, &arguments)) != DLA_OK || (status = pop(m, &callable)) != DLA_OK)
        return status;
    if (callable->kind != PICKLE_GLOBAL || arguments->kind != PICKLE_TUPLE)
        return malformed(m, "a call of something that cannot be called");
    if ((status = new_value(m, PICKLE_OBJECT, &object)) != DLA_OK)
        return status;
    object->global = callable->global;
    object->arguments = arguments;
    return push(m, object);
}

static dla_status do_newobj_ex(struct machine *m)
{
    struct pickle_value *keywords;
    dla_status status = pop(m, &keywords);

    if (status != DLA_OK)
        return status;
    if (keywords->kind != PICKLE_DICT || keywords->item_count > 0)
        return malformed(m, "a call with keyword arguments");
    return do_reduce(m);
}

static dla_status do_build(struct machine *m)
{
    struct pickle_value *state, *object;
    dla_status status = pop(m, &state);

    if (status != DLA_OK)
        return status;
    if ((object = top(m)) == NULL || object->kind != PICKLE_OBJECT)
        return malformed(m, "a state for something that is no object");
    object->state = state;
    return DLA_OK;
}

static dla_status push_persistent(struct machine *m, struct pickle_value *identity)
{
    struct pickle_value *value;
    dla_status status = new_value(m, PICKLE_PERSISTENT, &value);
    if (status != DLA_OK)
        return status;
    value->as.reference.identity = identity;
    value->as.reference.previous = m->last_reference;
    m->last_reference = value;
    return push(m, value);
}

static dla_status do_persid(struct machine *m)
{
    struct pickle_value *identity;
    dla_status status;

    if ((status = do_line_text(m)) != DLA_OK || (status = pop(m, &identity)) != DLA_OK)
        return status;
    return push_persistent(m, identity);
}

static dla_status do_binpersid(struct machine *m)
{
    struct pickle_value *identity;
    dla_status status = pop(m, &identity);
    return status == DLA_OK ? push_persistent(m, identity) : status;
}

/* The memo's number in text, as protocol 0 writes it. */
static dla_status read_text_index(struct machine *m, uint64_t *index)
{
    struct pickle_value *number;
    dla_status status;

    if ((status = do_text_number(m, OP_INT)) != DLA_OK || (status = pop(m, &number)) != DLA_OK)
        return status;
    if (number->kind == PICKLE_BOOL) /* "00" or "01": no pickler writes memo numbers so, but they are numbers */
        *index = number->as.truth;
    else if (number->as.integer < 0)
        return malformed(m, "memo number out of range");
    else
        *index = (uint64_t)number->as.integer;
    return DLA_OK;
}

static dla_status do_memo(struct machine *m, int width, bool put)
{
    uint64_t index;
    dla_status status = width == 0 ? read_text_index(m, &index) : read_number(m, width, &index);

    if (status != DLA_OK)
        return status;
    return put ? memo_put(m, index) : memo_get(m, index);
}

static dla_status do_pop(struct machine *m)
{
    if (m->stack_count == 0)
        return malformed(m, "nothing on the stack");
    m->stack_count--; /* a mark, too */
    return DLA_OK;
}

static dla_status do_pop_mark(struct machine *m)
{
    size_t first;
    dla_status status = find_mark(m, &first);
    if (status == DLA_OK)
        m->stack_count = first - 1;
    return status;
}

static dla_status do_proto(struct machine *m)
{
    uint64_t protocol;
    dla_status status = read_number(m, 1, &protocol);
    if (status == DLA_OK && protocol > 5)
        status = status_set(DLA_ERROR_UNSUPPORTED, "pickle protocol %" PRIu64 "; 0 to 5 are read", protocol);
    return status;
}

/* A frame is a hint for readers of streams; only its length is checked. */
static dla_status do_frame(struct machine *m)
{
    uint64_t length;
    dla_status status = read_number(m, 8, &length);
    return status == DLA_OK && length > m->size - m->position ? truncated(m) : status;
}

static dla_status do_number(struct machine *m, int width)
{
    uint64_t number;
    dla_status status = read_number(m, width, &number);

    if (status != DLA_OK)
        return status;
    return push_integer(m, width == 4 ? (int32_t)(uint32_t)number : (int64_t)number);
}

static dla_status step(struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case OP_PROTO:
        return do_proto(m);
    case OP_FRAME:
        return do_frame(m);
    case OP_MARK:
        return push(m, NULL);
    case OP_POP:
        return do_pop(m);
    case OP_POP_MARK:
        return do_pop_mark(m);
    case OP_DUP:
        return top(m) != NULL ? push(m, top(m)) : malformed(m, "nothing on the stack");
    case OP_NONE:
        return push_empty(m, PICKLE_NONE);
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return push_bool(m, opcode == OP_NEWTRUE);
    case OP_INT:
    case OP_LONG:
    case OP_FLOAT:
        return do_text_number(m, (enum opcode)opcode);
    case OP_BININT:
        return do_number(m, 4);
    case OP_BININT1:
        return do_number(m, 1);
    case OP_BININT2:
        return do_number(m, 2);
    case OP_LONG1:
        return do_long(m, 1);
    case OP_LONG4:
        return do_long(m, 4);
    case OP_BINFLOAT:
        return do_binfloat(m);
    case OP_STRING:
        return do_quoted_string(m);
    case OP_UNICODE:
        return do_line_text(m);
    case OP_BINSTRING: /* Python 2's str: text to all who read weights */
    case OP_BINUNICODE:
        return push_counted(m, PICKLE_TEXT, 4);
    case OP_SHORT_BINSTRING:
    case OP_SHORT_BINUNICODE:
        return push_counted(m, PICKLE_TEXT, 1);
    case OP_BINUNICODE8:
        return push_counted(m, PICKLE_TEXT, 8);
    case OP_SHORT_BINBYTES:
        return push_counted(m, PICKLE_BYTES, 1);
    case OP_BINBYTES:
        return push_counted(m, PICKLE_BYTES, 4);
    case OP_BINBYTES8:
    case OP_BYTEARRAY8:
        return push_counted(m, PICKLE_BYTES, 8);
    case OP_EMPTY_LIST:
    case OP_EMPTY_SET:
        return push_empty(m, PICKLE_LIST);
    case OP_EMPTY_TUPLE:
        return push_empty(m, PICKLE_TUPLE);
    case OP_EMPTY_DICT:
        return push_empty(m, PICKLE_DICT);
    case OP_LIST:
    case OP_FROZENSET:
        return do_collect(m, PICKLE_LIST);
    case OP_TUPLE:
        return do_collect(m, PICKLE_TUPLE);
    case OP_DICT:
        return do_collect(m, PICKLE_DICT);
    case OP_TUPLE1:
        return do_small_tuple(m, 1);
    case OP_TUPLE2:
        return do_small_tuple(m, 2);
    case OP_TUPLE3:
        return do_small_tuple(m, 3);
    case OP_APPEND:
        return do_add(m, 1);
    case OP_SETITEM:
        return do_add(m, 2);
    case OP_APPENDS:
    case OP_ADDITEMS:
        return do_add_many(m, false);
    case OP_SETITEMS:
        return do_add_many(m, true);
    case OP_GLOBAL:
        return do_global(m);
    case OP_STACK_GLOBAL:
        return do_stack_global(m);
    case OP_REDUCE:
    case OP_NEWOBJ:
        return do_reduce(m);
    case OP_NEWOBJ_EX:
        return do_newobj_ex(m);
    case OP_BUILD:
        return do_build(m);
    case OP_PERSID:
        return do_persid(m);
    case OP_BINPERSID:
        return do_binpersid(m);
    case OP_PUT:
        return do_memo(m, 0, true);
    case OP_BINPUT:
        return do_memo(m, 1, true);
    case OP_LONG_BINPUT:
        return do_memo(m, 4, true);
    case OP_MEMOIZE:
        return memo_put(m, m->memo_count);
    case OP_GET:
        return do_memo(m, 0, false);
    case OP_BINGET:
        return do_memo(m, 1, false);
    case OP_LONG_BINGET:
        return do_memo(m, 4, false);
    default:
        return status_set(DLA_ERROR_UNSUPPORTED, "pickle opcode 0x%02x at byte %zu is not one that weights need", opcode, m->position - 1);
    }
}

dla_status pickle_load(const uint8_t *bytes, size_t size, const struct pickle_global *globals, struct arena *arena, struct pickle *pickle)
{
    struct machine m = {.bytes = bytes, .size = size, .globals = globals, .arena = arena};
    dla_status status = DLA_OK;
    bool stopped = false;

    while (status == DLA_OK && !stopped)
        if (m.position == m.size)
            status = truncated(&m);
        else if (m.bytes[m.position++] == OP_STOP)
            stopped = true;
        else
            status = step(&m, m.bytes[m.position - 1]);
    if (status == DLA_OK && top(&m) == NULL)
        status = malformed(&m, "nothing on the stack");
    if (status == DLA_OK)
        *pickle = (struct pickle){.root = top(&m), .last_reference = m.last_reference, .used = m.position};
    memory_free(m.stack);
    memory_free(m.memo);
    return status;
}
