/* Files are read whole or refused with a reason, and written whole or not at all. */
#include "base/file.h"
#include "base/list_line.h"
#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/dla_test_file_XXXXXX";
static char path[64], link_path[64], other_path[64];

static int create_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/file", folder);
    snprintf(link_path, sizeof(link_path), "%s/link", folder);
    snprintf(other_path, sizeof(other_path), "%s/other", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    unlink(link_path);
    unlink(other_path);
    return rmdir(folder); /* fails where a temporary was left */
}

static int entries_in_folder(void)
{
    DIR *directory = opendir(folder);
    int count = -2; /* . and .. */

    assert_non_null(directory);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void assert_content(const char *name, const char *expected)
{
    char *text = NULL;
    size_t length = 0;

    assert_int_equal(file_read_text(name, 1 << 20, &text, &length), DLA_OK);
    assert_int_equal(length, strlen(expected));
    assert_string_equal(text, expected);
    memory_free(text);
}

static void written_files_read_back(void **state)
{
    (void)state;
    struct mapped_file file = {0};

    assert_int_equal(file_write(path, "hello", 5), DLA_OK);
    assert_content(path, "hello");
    assert_int_equal(file_map(path, &file), DLA_OK);
    assert_int_equal(file.size, 5);
    assert_memory_equal(file.bytes, "hello", 5);
    file_unmap(&file);
    assert_null(file.bytes);

    assert_int_equal(file_write(path, "", 0), DLA_OK);
    assert_content(path, "");
    assert_int_equal(file_map(path, &file), DLA_OK);
    assert_null(file.bytes);
    assert_int_equal(file.size, 0);
    file_unmap(&file);
    assert_int_equal(entries_in_folder(), 1);
}

static void nothing_appears_before_the_commit(void **state)
{
    (void)state;
    struct atomic_file *file = NULL;

    unlink(path);
    assert_int_equal(atomic_file_open(path, &file), DLA_OK);
    assert_int_equal(atomic_file_write(file, "ab", 2), DLA_OK);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(atomic_file_write(file, "cd", 2), DLA_OK);
    assert_int_equal(atomic_file_commit(file), DLA_OK);
    assert_content(path, "abcd");
    assert_int_equal(entries_in_folder(), 1);
}

static void a_discarded_write_leaves_the_old_file(void **state)
{
    (void)state;
    struct atomic_file *file = NULL;

    assert_int_equal(file_write(path, "old", 3), DLA_OK);
    assert_int_equal(atomic_file_open(path, &file), DLA_OK);
    assert_int_equal(atomic_file_write(file, "new", 3), DLA_OK);
    atomic_file_discard(file);
    atomic_file_discard(NULL);
    assert_content(path, "old");
    assert_int_equal(entries_in_folder(), 1);
}

/* A limit on the size of files stands for a full disk. */
static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    static char many[100000];
    struct rlimit before, small;

    assert_int_equal(file_write(path, "old", 3), DLA_OK);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    dla_status status = file_write(path, many, sizeof(many));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, DLA_ERROR_IO);
    assert_non_null(strstr(dla_error_message(), path));
    assert_content(path, "old");
    assert_int_equal(entries_in_folder(), 1);
}

static void permissions_and_links_are_kept(void **state)
{
    (void)state;
    struct stat information;

    assert_int_equal(file_write(path, "old", 3), DLA_OK);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink(path, link_path), 0);
    assert_int_equal(file_write(link_path, "new", 3), DLA_OK);
    assert_content(path, "new");
    assert_int_equal(lstat(link_path, &information), 0);
    assert_true(S_ISLNK(information.st_mode));
    assert_int_equal(stat(path, &information), 0);
    assert_int_equal(information.st_mode & 07777, 0640);
    unlink(link_path);
}

static void new_files_obey_the_umask(void **state)
{
    (void)state;
    struct stat information;

    unlink(other_path);
    mode_t before = umask(027);
    assert_int_equal(file_write(other_path, "x", 1), DLA_OK);
    umask(before);
    assert_int_equal(stat(other_path, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0640);
    unlink(other_path);
}

static void devices_are_written_to_and_never_replaced(void **state)
{
    (void)state;
    struct stat information;

    assert_int_equal(file_write("/dev/null", "x", 1), DLA_OK);
    assert_int_equal(stat("/dev/null", &information), 0);
    assert_true(S_ISCHR(information.st_mode));
    assert_int_equal(file_write("/dev/full", "x", 1), DLA_ERROR_IO);
    assert_non_null(strstr(dla_error_message(), "/dev/full"));
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct mapped_file file = {.bytes = (const uint8_t *)"untouched", .size = 9};
    char missing[96], *text = NULL;
    size_t length = 0;

    snprintf(missing, sizeof(missing), "%s/no/such", folder);
    assert_int_equal(file_map(missing, &file), DLA_ERROR_NOT_FOUND);
    assert_non_null(strstr(dla_error_message(), missing));
    assert_int_equal(file_map(folder, &file), DLA_ERROR_IO);
    assert_non_null(strstr(dla_error_message(), "folder"));
    assert_int_equal(file_map("/dev/null", &file), DLA_ERROR_IO);
    unlink(other_path);
    assert_int_equal(mkfifo(other_path, 0600), 0);
    assert_int_equal(file_map(other_path, &file), DLA_ERROR_IO); /* returns at all: a pipe without a writer would block */
    unlink(other_path);
    assert_int_equal(file.size, 9);

    assert_int_equal(file_write(missing, "x", 1), DLA_ERROR_NOT_FOUND);
    assert_int_equal(file_write(folder, "x", 1), DLA_ERROR_IO);
    assert_int_equal(file_read_text(missing, 10, &text, &length), DLA_ERROR_NOT_FOUND);
    assert_int_equal(file_write(path, "0123456789A", 11), DLA_OK);
    assert_int_equal(file_read_text(path, 10, &text, &length), DLA_ERROR_LIMIT);
    assert_null(text);
}

static void lines_of_lists_are_cut_at_their_last_blank(void **state)
{
    (void)state;
    static const struct {
        const char *line, *first, *last;
        bool filled;
    } cases[] = {
        {"photo.jpg 3", "photo.jpg", "3", true},
        {"two words.jpg \t church \r", "two words.jpg", "church", true},
        {"alone.jpg", "alone.jpg", "", true},
        {" 7", "", "7", true},
        {" \t\r", "", "", false},
        {"", "", "", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[64], *last;
        snprintf(line, sizeof(line), "%s", cases[i].line);
        assert_int_equal(list_line_cut(line, &last), cases[i].filled);
        assert_string_equal(line, cases[i].first);
        assert_string_equal(last, cases[i].last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_files_read_back),
        cmocka_unit_test(nothing_appears_before_the_commit),
        cmocka_unit_test(a_discarded_write_leaves_the_old_file),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(permissions_and_links_are_kept),
        cmocka_unit_test(new_files_obey_the_umask),
        cmocka_unit_test(devices_are_written_to_and_never_replaced),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(lines_of_lists_are_cut_at_their_last_blank),
    };
    return cmocka_run_group_tests(tests, create_folder, remove_folder);
}
