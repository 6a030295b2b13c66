/* Messages, arenas, instruction sets, and guessing misspelt names. */
#include "base/arena.h"
#include "base/cpu_features.h"
#include "base/options.h"
#include "base/status.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void messages_are_one_printable_line(void **state)
{
    (void)state;
    assert_int_equal(status_set(DLA_ERROR_FORMAT, "tensor '%s'", "a\nb\033[2Jc\177"), DLA_ERROR_FORMAT);
    assert_string_equal(dla_error_message(), "tensor 'a?b?[2Jc?'");
    assert_int_equal(status_prefix(DLA_ERROR_FORMAT, "%s: ", "x\ty.jpg"), DLA_ERROR_FORMAT);
    assert_string_equal(dla_error_message(), "x?y.jpg: tensor 'a?b?[2Jc?'");
    status_set(DLA_ERROR_IO, "again: %s", dla_error_message()); /* the old message as an argument of the new one */
    assert_string_equal(dla_error_message(), "again: x?y.jpg: tensor 'a?b?[2Jc?'");
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    char *much = malloc(100001);
    assert_non_null(much);
    memset(much, 'a', 100000);
    much[100000] = '\0';
    status_set(DLA_ERROR_FORMAT, "%s", much);
    size_t length = strlen(dla_error_message());
    assert_in_range(length, 1000, 100000);
    status_prefix(DLA_ERROR_FORMAT, "front: ");
    assert_int_equal(strlen(dla_error_message()), length);
    assert_memory_equal(dla_error_message(), "front: aaa", 10);
    status_prefix(DLA_ERROR_FORMAT, "%s", much);
    assert_int_equal(strlen(dla_error_message()), length);
    free(much);
}

static void *fail_elsewhere(void *unused)
{
    (void)unused;
    assert_string_equal(dla_error_message(), "");
    status_set(DLA_ERROR_IO, "elsewhere");
    return NULL;
}

static void messages_belong_to_their_thread(void **state)
{
    (void)state;
    pthread_t thread;

    status_set(DLA_ERROR_IO, "here");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(dla_error_message(), "here");
}

static void system_errors_name_path_and_action(void **state)
{
    (void)state;
    errno = ENOENT;
    assert_int_equal(status_from_errno("a/b", "open"), DLA_ERROR_NOT_FOUND);
    assert_string_equal(dla_error_message(), "a/b: cannot open: No such file or directory");
    errno = EACCES;
    assert_int_equal(status_from_errno("a/b", "write"), DLA_ERROR_IO);
    assert_int_equal(status_out_of_memory(123, "a plan"), DLA_ERROR_MEMORY);
    assert_string_equal(dla_error_message(), "out of memory: 123 bytes for a plan");
}

static void every_status_has_its_own_name(void **state)
{
    (void)state;
    for (int a = DLA_OK; a <= DLA_ERROR_INTERRUPTED; a++)
        for (int b = DLA_OK; b < a; b++)
            assert_string_not_equal(dla_status_name((dla_status)a), dla_status_name((dla_status)b));
    assert_string_equal(dla_status_name((dla_status)1234), "unknown");
}

/* Objects of every size around the block's, none overlapping, all zeroed and aligned, all alive until the end. */
static void arena_objects_are_distinct_zeroed_and_aligned(void **state)
{
    (void)state;
    enum { OBJECTS = 2000 };
    struct arena arena = {0};
    unsigned char *objects[OBJECTS];
    size_t sizes[OBJECTS];

    for (int i = 0; i < OBJECTS; i++) {
        sizes[i] = i % 100 == 99 ? 10000u + (unsigned)i * 50u : (unsigned)(i * 7919 % 300);
        objects[i] = arena_allocate(&arena, sizes[i]);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(objects[i][k], 0);
        memset(objects[i], i % 255 + 1, sizes[i]);
    }
    for (int i = 0; i < OBJECTS; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(objects[i][k], i % 255 + 1);
    assert_ptr_not_equal(arena_allocate(&arena, 0), arena_allocate(&arena, 0));
    arena_free(&arena);
    arena_free(&arena);
}

static void arena_refuses_what_overflows(void **state)
{
    (void)state;
    struct arena arena = {0};

    assert_null(arena_allocate(&arena, SIZE_MAX));
    assert_null(arena_allocate(&arena, SIZE_MAX - 64));
    assert_null(arena_allocate_array(&arena, SIZE_MAX / 4, 8));
    assert_null(arena_allocate_array(&arena, 2, SIZE_MAX / 2 + 1));
    assert_non_null(arena_allocate_array(&arena, 0, 8));
    assert_non_null(arena_allocate_array(&arena, 8, 0));
    arena_free(&arena);
}

static void arena_strings(void **state)
{
    (void)state;
    struct arena arena = {0};

    assert_string_equal(arena_copy_string(&arena, "level3"), "level3");
    assert_string_equal(arena_copy_string(&arena, ""), "");
    assert_string_equal(arena_format(&arena, "%s.tree%d", "level3", 2), "level3.tree2");
    arena_free(&arena);
}

static void instruction_sets_can_be_overridden(void **state)
{
    (void)state;
    enum isa best, isa;
    char *before = getenv("DLA_ISA") != NULL ? strdup(getenv("DLA_ISA")) : NULL;

    unsetenv("DLA_ISA");
    assert_int_equal(isa_choose(&best), DLA_OK);
    assert_true(isa_is_available(best));
    assert_true(isa_is_available(ISA_GENERIC));
    for (int i = 0; i < ISA_COUNT; i++) {
        setenv("DLA_ISA", isa_name((enum isa)i), 1);
        isa = best;
        if (isa_is_available((enum isa)i)) {
            assert_int_equal(isa_choose(&isa), DLA_OK);
            assert_int_equal(isa, i);
        } else {
            assert_int_equal(isa_choose(&isa), DLA_ERROR_ARGUMENT);
            assert_non_null(strstr(dla_error_message(), "generic"));
            assert_int_equal(isa, best);
        }
    }
    setenv("DLA_ISA", "avx3000", 1);
    assert_int_equal(isa_choose(&isa), DLA_ERROR_ARGUMENT);
    assert_non_null(strstr(dla_error_message(), "avx3000"));
    unsetenv("DLA_ISA");
    if (before != NULL)
        setenv("DLA_ISA", before, 1);
    free(before);
    assert_in_range(cpu_core_count(), 1, 4096);
}

/* An options structure of an older header lacks the last fields: they keep their defaults. */
static void smaller_options_take_defaults_for_the_rest(void **state)
{
    dla_session_options settled = DLA_SESSION_OPTIONS_INIT, given = DLA_SESSION_OPTIONS_INIT;

    (void)state;
    settled.threads = 7;
    given.batch = 5;
    given.threads = 9;
    given.struct_size = offsetof(dla_session_options, threads);
    assert_int_equal(options_take(&settled, sizeof settled, &given, "X"), DLA_OK);
    assert_int_equal(settled.batch, 5);
    assert_int_equal(settled.threads, 7);
    assert_int_equal(settled.struct_size, sizeof settled);
    given.struct_size = sizeof settled + 1;
    assert_int_equal(options_take(&settled, sizeof settled, &given, "X"), DLA_ERROR_ARGUMENT);
    given.struct_size = 0;
    assert_int_equal(options_take(&settled, sizeof settled, &given, "X"), DLA_ERROR_ARGUMENT);
    assert_int_equal(options_take(&settled, sizeof settled, NULL, "X"), DLA_OK);
}

static void misspelt_names_are_guessed(void **state)
{
    (void)state;
    static const char *const models[] = {"dla34", "dla46_c", "dla46x_c", "dla60", "dla102", "dla102x", "dla60_res2net", "dla60_res2next"};
    enum { COUNT = sizeof(models) / sizeof(models[0]) };

    assert_string_equal(dla_nearest_name("dla35", models, COUNT), "dla34");
    assert_string_equal(dla_nearest_name("DLA34", models, COUNT), "dla34");
    assert_string_equal(dla_nearest_name("dal34", models, COUNT), "dla34");
    assert_string_equal(dla_nearest_name("dla-46-c", models, COUNT), "dla46_c");
    assert_string_equal(dla_nearest_name("dla102y", models, COUNT), "dla102");
    assert_string_equal(dla_nearest_name("dla60-res2nxt", models, COUNT), "dla60_res2net");
    assert_string_equal(dla_nearest_name("dla60_res2nex", models, COUNT), "dla60_res2net");
    assert_null(dla_nearest_name("resnet50", models, COUNT));
    assert_null(dla_nearest_name("", models, COUNT));
    assert_null(dla_nearest_name("dla34", models, 0));
    char *much = malloc(10001);
    assert_non_null(much);
    memset(much, 'd', 10000);
    much[10000] = '\0';
    assert_null(dla_nearest_name(much, models, COUNT));
    free(much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_one_printable_line),    cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(messages_belong_to_their_thread),    cmocka_unit_test(system_errors_name_path_and_action),
        cmocka_unit_test(every_status_has_its_own_name),      cmocka_unit_test(arena_objects_are_distinct_zeroed_and_aligned),
        cmocka_unit_test(arena_refuses_what_overflows),       cmocka_unit_test(arena_strings),
        cmocka_unit_test(instruction_sets_can_be_overridden), cmocka_unit_test(misspelt_names_are_guessed),
        cmocka_unit_test(smaller_options_take_defaults_for_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
