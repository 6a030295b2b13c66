/* The choice of kernels: estimates, corrected by remembered times as far as the options allow; a memory that is damaged, foreign or
 * cannot be written is a line in the log and no failure. */
#include "base/file.h"
#include "plan/tune.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>

#define assert_ok(call)                                                                                                                    \
    do {                                                                                                                                   \
        if ((call) != DLA_OK)                                                                                                              \
            fail_msg("%s: %s", #call, dla_error_message());                                                                                \
    } while (0)

static char home[32];
static char last_message[512];
static int messages;

/* A layer that several kernels of every instruction set can run. */
static const struct conv_shape dense = {
    .batch = 1,
    .in_height = 14,
    .in_width = 14,
    .in_channels = 32,
    .out_height = 14,
    .out_width = 14,
    .out_channels = 32,
    .kernel = 3,
    .stride = 1,
    .padding = 1,
    .dilation = 1,
    .groups = 1,
    .source_count = 1,
    .source_channels = {32},
};

static void listen(void *context, dla_log_level level, const char *message)
{
    (void)context;
    (void)level;
    messages++;
    snprintf(last_message, sizeof last_message, "%s", message);
}

static int make_home(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/dla_tune_XXXXXX");
    if (mkdtemp(home) == NULL)
        return -1;
    setenv("XDG_CACHE_HOME", home, 1);
    messages = 0;
    dla_set_log_callback(listen, NULL);
    return 0;
}

static int remove_home(void **state)
{
    char command[128];
    (void)state;
    dla_set_log_callback(NULL, NULL);
    snprintf(command, sizeof command, "chmod -R u+w %s; rm -rf %s", home, home);
    return system(command);
}

/* The one file that the library keeps below home; "" where there is none. */
static const char *times_path(void)
{
    static char path[600];
    char folder[64];
    snprintf(folder, sizeof folder, "%s/dla", home);
    DIR *stream = opendir(folder);
    path[0] = '\0';
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;)
        if (entry->d_name[0] != '.')
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    if (stream != NULL)
        closedir(stream);
    return path;
}

static struct plan_options options_for(enum isa isa, dla_tune tune)
{
    return (struct plan_options){.batch = 1, .height = 14, .width = 14, .threads = 1, .isa = isa, .tune = tune};
}

static enum isa best_isa(void)
{
    enum isa isa = ISA_GENERIC;
    assert_ok(isa_choose(&isa));
    return isa;
}

/* All kernels that may run `dense`; returns how many. */
static int all_kernels(const struct conv_kernel **found)
{
    int count, all = 0;
    const struct conv_kernel *const *kernels = conv_kernels(best_isa(), &count);
    for (int i = 0; i < count && kernels[i] != &conv_reference; i++)
        if (kernels[i]->supports(&dense) && !kernels[i]->half)
            found[all++] = kernels[i];
    return all;
}

/* Remembers that `fast` takes 10 us and all other kernels 1000. */
static void pretend(struct kernel_times *times, const struct conv_kernel *fast)
{
    const struct conv_kernel *kernels[16];
    int count = all_kernels(kernels);
    *times = (struct kernel_times){0};
    for (int i = 0; i < count; i++)
        assert_ok(kernel_times_set(times, kernels[i]->name, 1, &dense, kernels[i] == fast ? 10.0 : 1000.0));
}

static const struct conv_kernel *choose(struct plan_options options, struct kernel_times *times)
{
    const struct conv_kernel *chosen = NULL;
    struct thread_pool *pool;
    assert_ok(thread_pool_create(options.threads, &pool));
    assert_ok(choose_kernel(&options, pool, &dense, times, &chosen));
    thread_pool_destroy(pool);
    return chosen;
}

static void test_remembered_times_overrule_estimates(void **state)
{
    const struct conv_kernel *kernels[16];
    struct kernel_times times = {0};
    int count = all_kernels(kernels);
    (void)state;
    assert_true(count >= 2);
    const struct conv_kernel *estimated = choose(options_for(best_isa(), DLA_TUNE_NEVER), &times);
    for (int i = 0; i < count; i++) {
        pretend(&times, kernels[i]);
        assert_ptr_equal(choose(options_for(best_isa(), DLA_TUNE_AUTO), &times), kernels[i]);
        assert_ptr_equal(choose(options_for(best_isa(), DLA_TUNE_MISSING), &times), kernels[i]);
        assert_ptr_equal(choose(options_for(best_isa(), DLA_TUNE_NEVER), &times), estimated);
        struct plan_options other = options_for(best_isa(), DLA_TUNE_AUTO);
        other.threads = 2; /* nobody has measured two threads */
        assert_ptr_equal(choose(other, &times),
                         choose((struct plan_options){.threads = 2, .isa = best_isa(), .tune = DLA_TUNE_NEVER}, &times));
        kernel_times_free(&times);
    }
}

static void test_exact_never_takes_winograd(void **state)
{
    const struct conv_kernel *kernels[16];
    struct kernel_times times = {0};
    int count = all_kernels(kernels), winograd = 0;
    (void)state;
    for (int i = 0; i < count; i++) {
        struct plan_options options = options_for(best_isa(), DLA_TUNE_AUTO);
        options.exact = true;
        if (!kernels[i]->winograd)
            continue;
        winograd++;
        pretend(&times, kernels[i]);
        assert_false(choose(options, &times)->winograd);
        options.tune = DLA_TUNE_ALWAYS;
        assert_false(choose(options, &times)->winograd);
        kernel_times_free(&times);
    }
    assert_true(winograd > 0);
}

/* A difference that may be noise does not change the choice. */
static void test_a_small_gain_does_not_count(void **state)
{
    const struct conv_kernel *kernels[16];
    struct kernel_times times = {0};
    int count = all_kernels(kernels);
    (void)state;
    const struct conv_kernel *estimated = choose(options_for(best_isa(), DLA_TUNE_NEVER), &times);
    for (int i = 0; i < count; i++)
        assert_ok(kernel_times_set(&times, kernels[i]->name, 1, &dense, kernels[i] == estimated ? 100.0 : 97.0));
    assert_ptr_equal(choose(options_for(best_isa(), DLA_TUNE_AUTO), &times), estimated);
    kernel_times_free(&times);
}

static void test_times_come_back(void **state)
{
    struct kernel_times times = {0}, again;
    struct conv_shape other = dense;
    (void)state;
    other.batch = 7;
    other.source_count = 2;
    other.source_channels[0] = other.source_channels[1] = 16;
    assert_ok(kernel_times_set(&times, "direct_generic", 3, &dense, 1234.5));
    assert_ok(kernel_times_set(&times, "direct_generic", 3, &other, 0.25));
    kernel_times_save(&times);
    kernel_times_load(&again);
    assert_int_equal(again.count, 2);
    assert_float_equal((float)kernel_times_find(&again, "direct_generic", 3, &dense), 1234.5f, 1e-3f);
    assert_float_equal((float)kernel_times_find(&again, "direct_generic", 3, &other), 0.25f, 1e-3f);
    assert_true(kernel_times_find(&again, "direct_generic", 2, &dense) == 0.0);
    assert_true(kernel_times_find(&again, "direct_avx2", 3, &dense) == 0.0);
    kernel_times_free(&again);

    /* Another process that knows something else takes nothing away. */
    struct kernel_times third = {0};
    assert_ok(kernel_times_set(&third, "pointwise_generic", 1, &dense, 5.0));
    kernel_times_save(&third);
    kernel_times_load(&again);
    assert_int_equal(again.count, 3);
    assert_int_equal(messages, 0);
    kernel_times_free(&times);
    kernel_times_free(&again);
    kernel_times_free(&third);
}

static void test_measuring_is_remembered(void **state)
{
    struct kernel_times times = {0};
    const struct conv_kernel *kernels[16];
    (void)state;
    choose(options_for(best_isa(), DLA_TUNE_MISSING), &times);
    assert_true(times.count >= 2 && times.changed);
    for (size_t i = 0; i < times.count; i++)
        assert_true(times.entries[i].microseconds > 0.0 && times.entries[i].microseconds < 1e6);
    size_t count = times.count;
    times.changed = false;
    choose(options_for(best_isa(), DLA_TUNE_MISSING), &times);
    assert_false(times.changed);
    choose(options_for(best_isa(), DLA_TUNE_ALWAYS), &times);
    assert_true(times.changed && times.count == count);
    assert_true(all_kernels(kernels) >= (int)count);
    kernel_times_free(&times);
}

/* ---- a memory that cannot be used -------------------------------------------------------------------------------------- */

/* The text of a sound file with two lines. */
static char *sound_text(void)
{
    struct kernel_times times = {0};
    char *text;
    size_t length;
    assert_ok(kernel_times_set(&times, "direct_generic", 1, &dense, 100.0));
    assert_ok(kernel_times_set(&times, "direct_generic", 2, &dense, 60.0));
    kernel_times_save(&times);
    kernel_times_free(&times);
    assert_ok(file_read_text(times_path(), 1 << 20, &text, &length));
    return text;
}

/* Loads a file of these bytes, which must be refused with one line that has `word` in it. */
static void expect_refusal(const void *bytes, size_t size, const char *word)
{
    struct kernel_times times;
    messages = 0;
    assert_ok(file_write(times_path(), bytes, size));
    kernel_times_load(&times);
    assert_int_equal(times.count, 0);
    if (messages != 1 || strstr(last_message, word) == NULL || strstr(last_message, home) == NULL)
        fail_msg("%d messages, the last one '%s' without '%s'", messages, last_message, word);
    kernel_times_free(&times);
}

static void test_damaged_files_are_not_used(void **state)
{
    static const char *const replacements[][2] = {
        {"direct_generic 1 ", "direct_generic -1 "},
        {"100000 1", "nan 1"},
        {"100000 1", "0 1"},
        {" 14 14 32", " 14 14 14 14 32"},
        {" 32\ndirect", " 31\ndirect"},
        {"direct_generic 1", "a_name_that_is_longer_than_any_kernel_has_ever_had_so_far 1"},
        {"end 2", "end 3"},
        {"end 2\n", "end 2\nmore\n"},
        {"100000 1", "100000 99999999999999999999"},
    };
    char *text = sound_text(), changed[4096];
    (void)state;
    for (size_t i = 0; i < sizeof replacements / sizeof replacements[0]; i++) {
        const char *at = strstr(text, replacements[i][0]);
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, replacements[i][1], at + strlen(replacements[i][0]));
        expect_refusal(changed, strlen(changed), "damaged");
    }
    const char *second_line = strchr(text, '\n') + 1, *last_line = strstr(text, "end ");
    for (size_t length = 1; length < strlen(text); length++) { /* cut anywhere */
        const char *word = text + length < second_line ? "no file of kernel times" : text + length <= last_line ? "cut off" : "cut off";
        expect_refusal(text, length, word);
    }
    expect_refusal("", 0, "no file of kernel times");
    memcpy(changed, text, strlen(text) + 1);
    changed[strlen(text) / 2] = '\0';
    expect_refusal(changed, strlen(text), "damaged");
    free(text);
}

static void test_foreign_files_are_not_used(void **state)
{
    char *text = sound_text(), changed[4096];
    const char *line = strchr(text, '\n');
    (void)state;
    snprintf(changed, sizeof changed, "%.*s of another maker%s", (int)(line - text), text, line);
    expect_refusal(changed, strlen(changed), "another processor or version");
    expect_refusal("{\"json\": true}\n", 15, "no file of kernel times");

    /* The next measurement replaces it. */
    struct kernel_times times = {0}, again;
    assert_ok(kernel_times_set(&times, "direct_generic", 1, &dense, 100.0));
    kernel_times_save(&times);
    messages = 0;
    kernel_times_load(&again);
    assert_int_equal(again.count, 1);
    assert_int_equal(messages, 0);
    kernel_times_free(&times);
    kernel_times_free(&again);
    free(text);
}

static void test_a_home_that_cannot_be_written_is_no_failure(void **state)
{
    struct kernel_times times = {0};
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/file", home);
    assert_ok(file_write(path, "x", 1));
    setenv("XDG_CACHE_HOME", path, 1); /* a file where the folder should be: not even root can write there */
    assert_ok(kernel_times_set(&times, "direct_generic", 1, &dense, 100.0));
    kernel_times_save(&times);
    assert_int_equal(messages, 1);
    assert_non_null(strstr(last_message, path));
    kernel_times_free(&times);
    kernel_times_load(&times);
    assert_int_equal(times.count, 0);

    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    messages = 0;
    assert_ok(kernel_times_set(&times, "direct_generic", 1, &dense, 100.0));
    kernel_times_save(&times);
    assert_int_equal(messages, 0);
    kernel_times_free(&times);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_remembered_times_overrule_estimates, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_exact_never_takes_winograd, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_a_small_gain_does_not_count, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_times_come_back, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_measuring_is_remembered, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_damaged_files_are_not_used, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_foreign_files_are_not_used, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_a_home_that_cannot_be_written_is_no_failure, make_home, remove_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
