/* test_pickle.c - pickles as data: every opcode that weights use, and what hostile ones try. */
#include "weights/pickle.h"

#include "weights_check.h"

#include "base/file.h"

enum { ORDERED_DICT, BYTEARRAY, SET, FROZENSET, ENCODE };

static const struct pickle_global globals[] = {
    {"collections", "OrderedDict", ORDERED_DICT},
    {"builtins", "bytearray", BYTEARRAY},
    {"__builtin__", "bytearray", BYTEARRAY},
    {"builtins", "set", SET},
    {"__builtin__", "set", SET},
    {"builtins", "frozenset", FROZENSET},
    {"__builtin__", "frozenset", FROZENSET},
    {"_codecs", "encode", ENCODE},
    {NULL, NULL, 0},
};

static struct arena arena;
static struct pickle pickle;

/* Loads from memory of exactly this size. The copy lives as long as the arena, as values point into it. */
static dla_status load(const void *bytes, size_t size)
{
    uint8_t *copy = arena_allocate(&arena, size + 1);
    memcpy(copy, bytes, size);
    return pickle_load(copy, size, globals, &arena, &pickle);
}

#define load_text(text) load(text, sizeof(text) - 1)

#define refuse(text, status, message_part)                                                                                                 \
    do {                                                                                                                                   \
        assert_int_equal(load_text(text), status);                                                                                         \
        assert_message_contains(message_part);                                                                                             \
    } while (0)

static int free_arena(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static void expect_integer(const struct pickle_value *value, int64_t wanted)
{
    assert_non_null(value);
    assert_int_equal(value->kind, PICKLE_INTEGER);
    assert_true(value->as.integer == wanted);
}

static void every_protocol_says_the_same(void **state)
{
    static const int64_t integers[] = {0, 255, 65535, -1, 2147483647, -2147483647 - 1, 1099511627776, -1099511627776};

    (void)state;
    for (int protocol = 1; protocol <= 5; protocol++) {
        struct mapped_file file;
        char path[512];

        snprintf(path, sizeof(path), "%s/fuzz/corpus/pickle/protocol%d.pkl", SOURCE_ROOT, protocol);
        assert_ok(file_map(path, &file));
        assert_ok(load(file.bytes, file.size));
        assert_int_equal(pickle.used, file.size);
        assert_true(pickle_is_dict(pickle.root, ORDERED_DICT));

        const struct pickle_value *list = pickle_find(pickle.root, "integers");
        for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++)
            expect_integer(pickle_item(list, i), integers[i]);
        if (protocol > 1)
            assert_int_equal(pickle_item(list, 8)->kind, PICKLE_BIG_INTEGER);

        const struct pickle_value *sequences = pickle_find(pickle.root, "sequences");
        assert_int_equal(sequences->item_count, 8);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(pickle_item(sequences, i)->kind, PICKLE_TUPLE);
            assert_int_equal(pickle_item(sequences, i)->item_count, i);
            for (size_t k = 0; k < i; k++)
                expect_integer(pickle_item(pickle_item(sequences, i), k), (int64_t)k + 1);
        }
        assert_int_equal(pickle_item(sequences, 5)->kind, PICKLE_LIST);
        assert_int_equal(pickle_item(sequences, 7)->kind, PICKLE_DICT);

        const struct pickle_value *shared = pickle_find(pickle.root, "shared");
        assert_ptr_equal(pickle_item(shared, 0), pickle_item(shared, 1));
        assert_true(pickle_text_is(pickle_item(pickle_item(shared, 0), 0), "text"));
        assert_true(pickle_item(pickle_item(shared, 0), 2)->as.real == 1.5);
        assert_int_equal(pickle_item(pickle_item(shared, 0), 3)->kind, PICKLE_NONE);

        const struct pickle_value *ordered = pickle_find(pickle.root, "ordered");
        assert_true(pickle_is_object(ordered, ORDERED_DICT));
        assert_int_equal(pickle_pair_count(ordered), 2);
        expect_integer(pickle_find(ordered, "b"), 2);

        char *text = pickle_copy_text(pickle_find(pickle.root, "long text"), &arena);
        assert_int_equal(strlen(text), 300);
        assert_int_equal(strspn(text, "x"), 300);
        file_unmap(&file);
    }
}

static void protocol_0_is_text(void **state)
{
    struct mapped_file file;

    (void)state;
    assert_ok(file_map(SOURCE_ROOT "/fuzz/corpus/pickle/protocol0.pkl", &file));
    assert_ok(load(file.bytes, file.size));
    const struct pickle_value *list = pickle_find(pickle.root, "a");
    expect_integer(pickle_item(list, 1), -2);
    expect_integer(pickle_item(list, 2), 1099511627776);
    assert_true(pickle_item(list, 3)->as.real == 1.5);
    assert_int_equal(pickle_item(list, 4)->kind, PICKLE_NONE);
    assert_true(pickle_item(list, 5)->kind == PICKLE_BOOL && pickle_item(list, 5)->as.truth);
    assert_true(pickle_item(list, 6)->kind == PICKLE_BOOL && !pickle_item(list, 6)->as.truth);
    assert_true(pickle_text_is(pickle_item(list, 7), "text"));
    assert_int_equal(pickle_find(pickle.root, "t")->kind, PICKLE_TUPLE);
    file_unmap(&file);
}

/* As Python 2 wrote an OrderedDict: the pairs are the call's argument, texts are byte strings. */
static void python_2_is_understood(void **state)
{
    (void)state;
    assert_ok(load_text("\x80\x02"
                        "ccollections\nOrderedDict\n](](U\x01"
                        "aK\x01"
                        "e](U\x01"
                        "bK\x02"
                        "ee\x85R."));
    assert_true(pickle_is_dict(pickle.root, ORDERED_DICT));
    assert_int_equal(pickle_pair_count(pickle.root), 2);
    expect_integer(pickle_find(pickle.root, "a"), 1);
    expect_integer(pickle_find(pickle.root, "b"), 2);
    assert_null(pickle_find(pickle.root, "c"));
}

static void references_are_collected(void **state)
{
    (void)state;
    assert_ok(load_text("\x80\x02](X\x01\0\0\0aQPb\nK\x05Qe."));
    const struct pickle_value *r = pickle.last_reference;
    expect_integer(r->as.reference.identity, 5);
    assert_true(pickle_text_is(r->as.reference.previous->as.reference.identity, "b"));
    assert_true(pickle_text_is(r->as.reference.previous->as.reference.previous->as.reference.identity, "a"));
    assert_null(r->as.reference.previous->as.reference.previous->as.reference.previous);
    assert_int_equal(pickle.root->item_count, 3);
}

static void nothing_is_called(void **state)
{
    (void)state;
    refuse("cposix\nsystem\n(S'touch /tmp/dla-was-here'\ntR.", DLA_ERROR_UNSUPPORTED, "'posix.system'");
    refuse("\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", DLA_ERROR_UNSUPPORTED, "'os.system'");
    refuse("\x80\x02"
           "c__builtin__\neval\n",
           DLA_ERROR_UNSUPPORTED, "'__builtin__.eval'");
    refuse("\x80\x04\x8c\x08"
           "builtins\x8c\x07getattr\x93.",
           DLA_ERROR_UNSUPPORTED, "'builtins.getattr'");
    refuse("ccollections\nOrderedDict.clear\n", DLA_ERROR_UNSUPPORTED, "OrderedDict.clear");
    refuse("(S'id'\niposix\nsystem\n.", DLA_ERROR_UNSUPPORTED, "opcode 0x69");
    refuse("(cposix\nsystem\nS'id'\no.", DLA_ERROR_UNSUPPORTED, "'posix.system'");
    refuse("\x80\x02\x82\x01.", DLA_ERROR_UNSUPPORTED, "opcode 0x82");
    refuse("\x80\x05\x97.", DLA_ERROR_UNSUPPORTED, "opcode 0x97");
    refuse("\x80\x06N.", DLA_ERROR_UNSUPPORTED, "protocol 6");
    refuse("c\x1b[31m\nx\n.", DLA_ERROR_UNSUPPORTED, "'?[31m.x'"); /* drives no terminal either */
}

static void malformed_programs_are_refused(void **state)
{
    (void)state;
    refuse("", DLA_ERROR_FORMAT, "ends unexpectedly at byte 0");
    refuse("N", DLA_ERROR_FORMAT, "ends unexpectedly at byte 1");
    refuse(".", DLA_ERROR_FORMAT, "nothing on the stack");
    refuse("(.", DLA_ERROR_FORMAT, "nothing on the stack");
    refuse("0", DLA_ERROR_FORMAT, "nothing on the stack");
    refuse("1", DLA_ERROR_FORMAT, "no mark");
    refuse("NNt.", DLA_ERROR_FORMAT, "no mark");
    refuse("\x85.", DLA_ERROR_FORMAT, "nothing on the stack");
    refuse("(N\x86.", DLA_ERROR_FORMAT, "nothing on the stack");
    refuse("(Nd.", DLA_ERROR_FORMAT, "key without a value");
    refuse("}(Nu.", DLA_ERROR_FORMAT, "key without a value");
    refuse("NNNs.", DLA_ERROR_FORMAT, "no dict");
    refuse("NNa.", DLA_ERROR_FORMAT, "no list");
    refuse("a.", DLA_ERROR_FORMAT, "nothing on the stack");
    refuse("(NNs.", DLA_ERROR_FORMAT, "nothing to add to");
    refuse("](((NNu.", DLA_ERROR_FORMAT, "nothing to add to");
    refuse("NNR.", DLA_ERROR_FORMAT, "cannot be called");
    refuse("ccollections\nOrderedDict\nNR.", DLA_ERROR_FORMAT, "cannot be called");
    refuse("NNb.", DLA_ERROR_FORMAT, "no object");
    refuse("NN\x93.", DLA_ERROR_FORMAT, "not a text");
    refuse("h\x05.", DLA_ERROR_FORMAT, "never put");
    refuse("g5\n.", DLA_ERROR_FORMAT, "never put");
    refuse("g-5\n.", DLA_ERROR_FORMAT, "out of range");
    refuse("q\x05.", DLA_ERROR_FORMAT, "nothing on the stack");
    refuse("I1x\n.", DLA_ERROR_FORMAT, "not a whole number");
    refuse("I\n.", DLA_ERROR_FORMAT, "unlikely length");
    refuse("I99999999999999999999\n.", DLA_ERROR_FORMAT, "not a whole number");
    refuse("F1.5x\n.", DLA_ERROR_FORMAT, "not a number");
    refuse("S'a\n.", DLA_ERROR_FORMAT, "not plainly quoted");
    refuse("S'\\x41'\n.", DLA_ERROR_FORMAT, "not plainly quoted");
    refuse("X\xff\xff\xff\xff"
           "abc.",
           DLA_ERROR_FORMAT, "ends unexpectedly");
    refuse("\x8e\xff\xff\xff\xff\xff\xff\xff\xff"
           "abc.",
           DLA_ERROR_FORMAT, "ends unexpectedly");
    refuse("\x8b\xff\xff\xff\x7f"
           "abc.",
           DLA_ERROR_FORMAT, "ends unexpectedly");
    refuse("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", DLA_ERROR_FORMAT, "ends unexpectedly");
}

static void bombs_stay_small(void **state)
{
    char *bytes = malloc(8 << 20);
    size_t size = 0;

    (void)state;
    refuse("Nr\xff\xff\xff\xff.", DLA_ERROR_FORMAT, "out of range"); /* a memo of 32 GB */

    /* a list of two lists of two lists ... : 2^60 leaves for who walks it, 60 small values here */
    memcpy(bytes, "]q\0", 3);
    size = 3;
    for (int i = 0; i < 60; i++) {
        memcpy(bytes + size, "]h\0ah\0aq\0", 9); /* a list of memo 0 twice becomes memo 0 */
        size += 9;
    }
    bytes[size++] = '.';
    assert_ok(load(bytes, size));
    assert_ptr_equal(pickle_item(pickle.root, 0), pickle_item(pickle.root, 1));

    /* a million lists in each other cost no stack */
    memset(bytes, ']', 1 << 20);
    memset(bytes + (1 << 20), 'a', (1 << 20) - 1);
    bytes[2 * (1 << 20) - 1] = '.';
    assert_ok(load(bytes, 2 * (1 << 20)));

    memset(bytes, '(', 8 << 20);
    assert_int_equal(load(bytes, 8 << 20), DLA_ERROR_LIMIT);
    assert_message_contains("on its stack");
    for (size_t i = 0; i < 8 << 20; i += 2)
        memcpy(bytes + i, "N0", 2);
    assert_int_equal(load(bytes, 8 << 20), DLA_ERROR_FORMAT); /* exactly the limit, then the end */
    memset(bytes, 'N', 8 << 20);
    assert_int_equal(load(bytes, 8 << 20), DLA_ERROR_LIMIT);
    free(bytes);
}

static void a_list_may_contain_itself(void **state)
{
    (void)state;
    assert_ok(load_text("]q\x01h\x01"
                        "a."));
    assert_ptr_equal(pickle_item(pickle.root, 0), pickle.root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_protocol_says_the_same, free_arena),
        cmocka_unit_test_teardown(protocol_0_is_text, free_arena),
        cmocka_unit_test_teardown(python_2_is_understood, free_arena),
        cmocka_unit_test_teardown(references_are_collected, free_arena),
        cmocka_unit_test_teardown(nothing_is_called, free_arena),
        cmocka_unit_test_teardown(malformed_programs_are_refused, free_arena),
        cmocka_unit_test_teardown(bombs_stay_small, free_arena),
        cmocka_unit_test_teardown(a_list_may_contain_itself, free_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
