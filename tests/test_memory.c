/* The program's own allocator gets every block of the library back, and may change only when none is out; log messages. */
#include "base/log.h"
#include "base/memory.h"
#include "base/thread_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct ledger {
    int live, total;
    int left;   /* allocations until memory is "exhausted"; below 0: never */
};

static void *ledger_allocate(void *context, size_t alignment, size_t size)
{
    struct ledger *ledger = context;
    void *memory = NULL;

    if (ledger->left == 0)
        return NULL;
    if (ledger->left > 0)
        ledger->left--;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) != 0)
        return NULL;
    memset(memory, 0xa5, size);   /* zeroed memory must come from the library's own work */
    ledger->live++;
    ledger->total++;
    return memory;
}

static void *ledger_resize(void *context, void *memory, size_t size)
{
    (void)context;
    return realloc(memory, size);
}

static void ledger_release(void *context, void *memory)
{
    struct ledger *ledger = context;
    ledger->live--;
    free(memory);
}

static const dla_allocator ledger_allocator = {sizeof(dla_allocator), NULL, ledger_allocate, ledger_resize, ledger_release};

static void every_block_comes_from_the_allocator_and_returns(void **state)
{
    struct ledger ledger = {.left = -1};
    dla_allocator allocator = ledger_allocator;

    (void)state;
    allocator.context = &ledger;
    assert_int_equal(dla_set_allocator(&allocator), DLA_OK);

    unsigned char *zeroed = memory_allocate_zeroed(10, 100);
    assert_non_null(zeroed);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zeroed[i], 0);
    char *aligned = memory_allocate_aligned(4096, 100);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    char *text = memory_copy_string("aggregation");
    text = memory_resize(text, 100000);
    assert_string_equal(text, "aggregation");
    struct thread_pool *pool = NULL;
    assert_int_equal(thread_pool_create(3, &pool), DLA_OK);
    dla_architecture architecture;
    dla_network *network = NULL;
    assert_int_equal(dla_architecture_find("dla34", &architecture), DLA_OK);
    assert_int_equal(dla_network_create(&architecture, &network), DLA_OK);
    assert_true(ledger.live >= 5);

    assert_int_equal(dla_set_allocator(NULL), DLA_ERROR_ARGUMENT);   /* not now */
    dla_network_destroy(network);
    thread_pool_destroy(pool);
    dla_free(text);
    memory_free(aligned);
    memory_free(zeroed);
    memory_free(NULL);
    assert_int_equal(ledger.live, 0);
    assert_int_equal(dla_set_allocator(NULL), DLA_OK);

    int before = ledger.total;
    memory_free(memory_allocate(1));
    assert_int_equal(ledger.total, before);
}

static void exhausted_memory_is_an_error_wherever_it_strikes(void **state)
{
    dla_architecture architecture;

    (void)state;
    assert_int_equal(dla_architecture_find("dla60x", &architecture), DLA_OK);
    for (int left = 0;; left++) {
        struct ledger ledger = {.left = left};
        dla_allocator allocator = ledger_allocator;
        dla_network *network = NULL;

        allocator.context = &ledger;
        assert_int_equal(dla_set_allocator(&allocator), DLA_OK);
        dla_status status = dla_network_create(&architecture, &network);
        dla_network_destroy(network);
        assert_int_equal(ledger.live, 0);
        assert_int_equal(dla_set_allocator(NULL), DLA_OK);
        if (status == DLA_OK) {
            assert_true(left > 1);
            break;
        }
        assert_int_equal(status, DLA_ERROR_MEMORY);
        assert_null(network);
    }
}

static void half_an_allocator_is_refused(void **state)
{
    dla_allocator allocator = ledger_allocator;

    (void)state;
    allocator.resize = NULL;
    assert_int_equal(dla_set_allocator(&allocator), DLA_ERROR_ARGUMENT);
    allocator = ledger_allocator;
    allocator.struct_size = 8;
    assert_int_equal(dla_set_allocator(&allocator), DLA_ERROR_ARGUMENT);
    assert_null(memory_allocate_zeroed(SIZE_MAX / 2, 3));
}

static void note_message(void *context, dla_log_level level, const char *message)
{
    char *note = context;
    note[0] = level == DLA_LOG_WARNING ? 'w' : 'i';
    strncpy(note + 1, message, 98);
}

static void messages_go_to_the_callback_alone(void **state)
{
    char note[100] = "";

    (void)state;
    log_message(DLA_LOG_INFO, "nobody listens");
    dla_set_log_callback(note_message, note);
    log_message(DLA_LOG_WARNING, "level%d is %s", 3, "wide");
    assert_string_equal(note, "wlevel3 is wide");
    dla_set_log_callback(NULL, NULL);
    log_message(DLA_LOG_INFO, "nobody again");
    assert_string_equal(note, "wlevel3 is wide");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_comes_from_the_allocator_and_returns),
        cmocka_unit_test(exhausted_memory_is_an_error_wherever_it_strikes),
        cmocka_unit_test(half_an_allocator_is_refused),
        cmocka_unit_test(messages_go_to_the_callback_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
