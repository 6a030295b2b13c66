/* cmocka.h - as much of cmocka as the tests of the kernels use, so that they can be built for a processor without its libraries.
 *
 * The first failure ends the program with a line that names the place: these tests have no state to put right.
 */
#ifndef DLA_TESTS_EMULATED_CMOCKA_H
#define DLA_TESTS_EMULATED_CMOCKA_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(function)                                                                                                         \
    {                                                                                                                                      \
        #function, function                                                                                                                \
    }

#define fail_msg(...)                                                                                                                      \
    do {                                                                                                                                   \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                                    \
        fprintf(stderr, __VA_ARGS__);                                                                                                      \
        fputc('\n', stderr);                                                                                                               \
        exit(1);                                                                                                                           \
    } while (0)

#define assert_true(condition)                                                                                                             \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            fail_msg("%s does not hold", #condition);                                                                                      \
    } while (0)

#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_int_equal(a, b) assert_true((long long)(a) == (long long)(b))
#define assert_float_equal(a, b, epsilon) assert_true(fabsf((a) - (b)) <= (epsilon))
#define assert_memory_equal(a, b, size) assert_true(memcmp((a), (b), (size)) == 0)

static inline int run_tests(const struct CMUnitTest *tests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *state = NULL;
        printf("%s\n", tests[i].name);
        fflush(stdout);
        tests[i].run(&state);
    }
    return 0;
}

#define cmocka_run_group_tests(tests, setup, teardown) run_tests((tests), sizeof(tests) / sizeof((tests)[0]))

#endif
