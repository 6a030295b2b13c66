/* pickle.c - runs Python's pickles on a stack machine (pickle_machine.h) that builds data and calls nothing.
 *
 * One switch over the opcodes of protocols 0 to 5. Every opcode makes at most one value; values share instead of copying.
 * Nothing here recurses, so deep nesting costs nothing.
 *
 * Left out, and refused: OBJ and INST (calls of classes as Python 1 wrote them), extension codes (numbers that stand for
 * registered functions) and out-of-band buffers.
 */
#include "weights/pickle_machine.h"

#include "base/memory.h"
#include "base/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

/* Little-endian two's complement of any length. */
static dla_status do_long(struct pickle_machine *m, int width)
{
    const uint8_t *bytes;
    size_t length;
    dla_status status = machine_read_counted(m, width, &bytes, &length);

    if (status != DLA_OK)
        return status;
    if (length > 8)
        return machine_push_text(m, PICKLE_BIG_INTEGER, bytes, length);
    uint64_t number = length > 0 && bytes[length - 1] >= 0x80 ? UINT64_MAX : 0;
    for (size_t i = length; i-- > 0;)
        number = number << 8 | bytes[i];
    return machine_push_integer(m, (int64_t)number);
}

/* Protocol 0's numbers in text: "12", "12L", and "00" and "01" for False and True. */
static dla_status do_text_number(struct pickle_machine *m, enum opcode opcode)
{
    const uint8_t *line;
    size_t length;
    char text[64], *end;
    dla_status status = machine_read_line(m, &line, &length);

    if (status != DLA_OK)
        return status;
    if (length == 0 || length >= sizeof(text))
        return machine_malformed(m, "a number of unlikely length");
    memcpy(text, line, length);
    text[length] = '\0';
    if (opcode == OP_INT && length == 2 && text[0] == '0' && (text[1] == '0' || text[1] == '1'))
        return machine_push_bool(m, text[1] == '1');
    if (opcode == OP_FLOAT) {
        double real = strtod(text, &end);
        return *end == '\0' ? machine_push_real(m, real) : machine_malformed(m, "not a number");
    }
    if (opcode == OP_LONG && text[length - 1] == 'L')
        text[length - 1] = '\0';
    errno = 0;
    long long integer = strtoll(text, &end, 10);
    return *end == '\0' && end != text && errno == 0 ? machine_push_integer(m, integer) : machine_malformed(m, "not a whole number");
}

static dla_status do_binfloat(struct pickle_machine *m)
{
    uint64_t little, big;
    double real;
    dla_status status = machine_read_number(m, 8, &little);

    if (status != DLA_OK)
        return status;
    big = __builtin_bswap64(little); /* the one big-endian field of the format */
    memcpy(&real, &big, sizeof(real));
    return machine_push_real(m, real);
}

/* Protocol 0's quoted strings; escapes, which names of tensors never need, are refused. */
static dla_status do_quoted_string(struct pickle_machine *m)
{
    const uint8_t *line;
    size_t length;
    dla_status status = machine_read_line(m, &line, &length);

    if (status != DLA_OK)
        return status;
    if (length < 2 || line[0] != line[length - 1] || (line[0] != '\'' && line[0] != '"') || memchr(line, '\\', length) != NULL)
        return machine_malformed(m, "a string that is not plainly quoted");
    return machine_push_text(m, PICKLE_TEXT, line + 1, length - 2);
}

static dla_status do_line_text(struct pickle_machine *m)
{
    const uint8_t *line;
    size_t length;
    dla_status status = machine_read_line(m, &line, &length);

    if (status != DLA_OK)
        return status;
    if (memchr(line, '\\', length) != NULL)
        return machine_malformed(m, "a text with escapes");
    return machine_push_text(m, PICKLE_TEXT, line, length);
}

/* module, name -> one of the globals that the reader lists. */
static dla_status do_stack_global(struct pickle_machine *m)
{
    struct pickle_value *module, *name, *value;
    dla_status status;

    if ((status = machine_pop(m, &name)) != DLA_OK || (status = machine_pop(m, &module)) != DLA_OK)
        return status;
    if (module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT)
        return machine_malformed(m, "the name of a class is not a text");
    for (const struct pickle_global *g = m->globals; g->module != NULL; g++)
        if (pickle_text_is(module, g->module) && pickle_text_is(name, g->name)) {
            if ((status = machine_new_value(m, PICKLE_GLOBAL, &value)) != DLA_OK)
                return status;
            value->global = g->id;
            return machine_push(m, value);
        }
    enum { SHOWN = 100 };
    return status_set(
        DLA_ERROR_UNSUPPORTED,
        "the pickle names '%.*s.%.*s', which is not among the few things that plain weights consist of; refused, nothing was run",
        (int)(module->as.text.length < SHOWN ? module->as.text.length : SHOWN), (const char *)module->as.text.bytes,
        (int)(name->as.text.length < SHOWN ? name->as.text.length : SHOWN), (const char *)name->as.text.bytes);
}

static dla_status do_global(struct pickle_machine *m)
{
    const uint8_t *line;
    size_t length;

    for (int i = 0; i < 2; i++) { /* a line for the module, one for the name */
        dla_status status = machine_read_line(m, &line, &length);
        if (status != DLA_OK || (status = machine_push_text(m, PICKLE_TEXT, line, length)) != DLA_OK)
            return status;
    }
    return do_stack_global(m);
}

/* Everything above the mark becomes a list, tuple or dict. */
static dla_status do_collect(struct pickle_machine *m, enum pickle_kind kind)
{
    struct pickle_value *collected;
    size_t first;
    dla_status status;

    if ((status = machine_find_mark(m, &first)) != DLA_OK || (status = machine_new_value(m, kind, &collected)) != DLA_OK)
        return status;
    if (kind == PICKLE_DICT && (m->stack_count - first) % 2 != 0)
        return machine_malformed(m, "a key without a value");
    for (size_t i = first; i < m->stack_count && status == DLA_OK; i++)
        status = machine_append_item(m, collected, m->stack[i]);
    m->stack_count = first - 1;
    return status == DLA_OK ? machine_push(m, collected) : status;
}

static dla_status do_small_tuple(struct pickle_machine *m, size_t count)
{
    struct pickle_value *tuple;
    dla_status status = machine_new_value(m, PICKLE_TUPLE, &tuple);

    for (size_t i = count; i > 0 && status == DLA_OK; i--) {
        if (m->stack_count < i || m->stack[m->stack_count - i] == NULL)
            return machine_malformed(m, "nothing on the stack");
        status = machine_append_item(m, tuple, m->stack[m->stack_count - i]);
    }
    if (status != DLA_OK)
        return status;
    m->stack_count -= count;
    return machine_push(m, tuple);
}

/* Everything from `first` on goes into the container below it (and below the mark, if there is one). */
static dla_status add_to_container(struct pickle_machine *m, size_t first, size_t below, bool pairs)
{
    struct pickle_value *container = below > 0 && m->stack != NULL ? m->stack[below - 1] : NULL;
    dla_status status = DLA_OK;

    if (container == NULL)
        return machine_malformed(m, "nothing to add to");
    bool takes = pairs ? container->kind == PICKLE_DICT || container->kind == PICKLE_OBJECT : container->kind == PICKLE_LIST;
    if (!takes)
        return machine_malformed(m, pairs ? "items set on something that is no dict" : "items appended to something that is no list");
    if (pairs && (m->stack_count - first) % 2 != 0)
        return machine_malformed(m, "a key without a value");
    for (size_t i = first; i < m->stack_count && status == DLA_OK; i++)
        status = m->stack[i] != NULL ? machine_append_item(m, container, m->stack[i]) : machine_malformed(m, "a mark among items");
    m->stack_count = below;
    return status;
}

static dla_status do_add(struct pickle_machine *m, size_t count)
{
    if (m->stack_count < count + 1)
        return machine_malformed(m, "nothing on the stack");
    return add_to_container(m, m->stack_count - count, m->stack_count - count, count == 2);
}

static dla_status do_add_many(struct pickle_machine *m, bool pairs)
{
    size_t first;
    dla_status status = machine_find_mark(m, &first);
    return status == DLA_OK ? add_to_container(m, first, first - 1, pairs) : status;
}

/* callable, arguments -> what the call would have given. */
static dla_status do_reduce(struct pickle_machine *m)
{
    struct pickle_value *callable, *arguments, *object;
    dla_status status;

    if ((status = machine_pop(m, &arguments)) != DLA_OK || (status = machine_pop(m, &callable)) != DLA_OK)
        return status;
    if (callable->kind != PICKLE_GLOBAL || arguments->kind != PICKLE_TUPLE)
        return machine_malformed(m, "a call of something that cannot be called");
    if ((status = machine_new_value(m, PICKLE_OBJECT, &object)) != DLA_OK)
        return status;
    object->global = callable->global;
    object->arguments = arguments;
    return machine_push(m, object);
}

static dla_status do_newobj_ex(struct pickle_machine *m)
{
    struct pickle_value *keywords;
    dla_status status = machine_pop(m, &keywords);

    if (status != DLA_OK)
        return status;
    if (keywords->kind != PICKLE_DICT || keywords->item_count > 0)
        return machine_malformed(m, "a call with keyword arguments");
    return do_reduce(m);
}

static dla_status do_build(struct pickle_machine *m)
{
    struct pickle_value *state, *object;
    dla_status status = machine_pop(m, &state);

    if (status != DLA_OK)
        return status;
    if ((object = machine_top(m)) == NULL || object->kind != PICKLE_OBJECT)
        return machine_malformed(m, "a state for something that is no object");
    object->state = state;
    return DLA_OK;
}

static dla_status push_persistent(struct pickle_machine *m, struct pickle_value *identity)
{
    struct pickle_value *value;
    dla_status status = machine_new_value(m, PICKLE_PERSISTENT, &value);
    if (status != DLA_OK)
        return status;
    value->as.reference.identity = identity;
    value->as.reference.previous = m->last_reference;
    m->last_reference = value;
    return machine_push(m, value);
}

static dla_status do_persid(struct pickle_machine *m)
{
    struct pickle_value *identity;
    dla_status status;

    if ((status = do_line_text(m)) != DLA_OK || (status = machine_pop(m, &identity)) != DLA_OK)
        return status;
    return push_persistent(m, identity);
}

static dla_status do_binpersid(struct pickle_machine *m)
{
    struct pickle_value *identity;
    dla_status status = machine_pop(m, &identity);
    return status == DLA_OK ? push_persistent(m, identity) : status;
}

/* The memo's number in text, as protocol 0 writes it. */
static dla_status read_text_index(struct pickle_machine *m, uint64_t *index)
{
    struct pickle_value *number;
    dla_status status;

    if ((status = do_text_number(m, OP_INT)) != DLA_OK || (status = machine_pop(m, &number)) != DLA_OK)
        return status;
    if (number->kind == PICKLE_BOOL) /* "00" or "01": no pickler writes memo numbers so, but they are numbers */
        *index = number->as.truth;
    else if (number->as.integer < 0)
        return machine_malformed(m, "memo number out of range");
    else
        *index = (uint64_t)number->as.integer;
    return DLA_OK;
}

static dla_status do_memo(struct pickle_machine *m, int width, bool put)
{
    uint64_t index = 0;
    dla_status status = width == 0 ? read_text_index(m, &index) : machine_read_number(m, width, &index);

    if (status != DLA_OK)
        return status;
    return put ? machine_memo_put(m, index) : machine_memo_get(m, index);
}

static dla_status do_pop(struct pickle_machine *m)
{
    if (m->stack_count == 0)
        return machine_malformed(m, "nothing on the stack");
    m->stack_count--; /* a mark, too */
    return DLA_OK;
}

static dla_status do_pop_mark(struct pickle_machine *m)
{
    size_t first;
    dla_status status = machine_find_mark(m, &first);
    if (status == DLA_OK)
        m->stack_count = first - 1;
    return status;
}

static dla_status do_proto(struct pickle_machine *m)
{
    uint64_t protocol;
    dla_status status = machine_read_number(m, 1, &protocol);
    if (status == DLA_OK && protocol > 5)
        status = status_set(DLA_ERROR_UNSUPPORTED, "pickle protocol %" PRIu64 "; 0 to 5 are read", protocol);
    return status;
}

/* A frame is a hint for readers of streams; only its length is checked. */
static dla_status do_frame(struct pickle_machine *m)
{
    uint64_t length;
    dla_status status = machine_read_number(m, 8, &length);
    return status == DLA_OK && length > m->size - m->position ? machine_truncated(m) : status;
}

static dla_status do_number(struct pickle_machine *m, int width)
{
    uint64_t number;
    dla_status status = machine_read_number(m, width, &number);

    if (status != DLA_OK)
        return status;
    return machine_push_integer(m, width == 4 ? (int32_t)(uint32_t)number : (int64_t)number);
}

static dla_status step(struct pickle_machine *m, uint8_t opcode)
{
    switch (opcode) {
    case OP_PROTO:
        return do_proto(m);
    case OP_FRAME:
        return do_frame(m);
    case OP_MARK:
        return machine_push(m, NULL);
    case OP_POP:
        return do_pop(m);
    case OP_POP_MARK:
        return do_pop_mark(m);
    case OP_DUP:
        return machine_top(m) != NULL ? machine_push(m, machine_top(m)) : machine_malformed(m, "nothing on the stack");
    case OP_NONE:
        return machine_push_empty(m, PICKLE_NONE);
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return machine_push_bool(m, opcode == OP_NEWTRUE);
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
        return machine_push_counted(m, PICKLE_TEXT, 4);
    case OP_SHORT_BINSTRING:
    case OP_SHORT_BINUNICODE:
        return machine_push_counted(m, PICKLE_TEXT, 1);
    case OP_BINUNICODE8:
        return machine_push_counted(m, PICKLE_TEXT, 8);
    case OP_SHORT_BINBYTES:
        return machine_push_counted(m, PICKLE_BYTES, 1);
    case OP_BINBYTES:
        return machine_push_counted(m, PICKLE_BYTES, 4);
    case OP_BINBYTES8:
    case OP_BYTEARRAY8:
        return machine_push_counted(m, PICKLE_BYTES, 8);
    case OP_EMPTY_LIST:
    case OP_EMPTY_SET:
        return machine_push_empty(m, PICKLE_LIST);
    case OP_EMPTY_TUPLE:
        return machine_push_empty(m, PICKLE_TUPLE);
    case OP_EMPTY_DICT:
        return machine_push_empty(m, PICKLE_DICT);
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
        return machine_memo_put(m, m->memo_count);
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
    struct pickle_machine m = {.bytes = bytes, .size = size, .globals = globals, .arena = arena};
    dla_status status = DLA_OK;
    bool stopped = false;

    while (status == DLA_OK && !stopped)
        if (m.position == m.size)
            status = machine_truncated(&m);
        else if (m.bytes[m.position++] == OP_STOP)
            stopped = true;
        else
            status = step(&m, m.bytes[m.position - 1]);
    if (status == DLA_OK && machine_top(&m) == NULL)
        status = machine_malformed(&m, "nothing on the stack");
    if (status == DLA_OK)
        *pickle = (struct pickle){.root = machine_top(&m), .last_reference = m.last_reference, .used = m.position};
    memory_free(m.stack);
    memory_free(m.memo);
    return status;
}
