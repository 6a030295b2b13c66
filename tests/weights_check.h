/* weights_check.h - what the tests of weights and arrays share: messages, temporary files. */
#ifndef DLA_TESTS_WEIGHTS_CHECK_H
#define DLA_TESTS_WEIGHTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dla/dla.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void check_ok(dla_status status, const char *file, int line)
{
    if (status != DLA_OK) {
        print_error("%s\n", dla_error_message());
        _fail(file, line);
    }
}
#define assert_ok(expression) check_ok((expression), __FILE__, __LINE__)

static inline void check_message(const char *part, const char *file, int line)
{
    if (strstr(dla_error_message(), part) == NULL) {
        print_error("\"%s\" does not contain \"%s\"\n", dla_error_message(), part);
        _fail(file, line);
    }
}
#define assert_message_contains(part) check_message((part), __FILE__, __LINE__)

/* A path of this process's own in the folder for temporary files. */
static inline char *temporary_path(char *path, size_t size, const char *name)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/dla-test-%ld-%s", folder != NULL ? folder : "/tmp", (long)getpid(), name);
    return path;
}

#endif
