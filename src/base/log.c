/* log.c - one callback for the whole process, replaceable at any time from any thread.
 *
 * Callback and context belong together, so a lock keeps them in pairs; it is held during the call, so that after
 * dla_set_log_callback returns, the old callback is not running any more. Messages are rare: objects made, files opened.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

enum { LINE_CAPACITY = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static dla_log_callback *callback;
static void *callback_context;
static atomic_bool wanted;   /* read without the lock where nobody listens */

void log_message(dla_log_level level, const char *format, ...)
{
    char line[LINE_CAPACITY];
    va_list arguments;

    if (!atomic_load_explicit(&wanted, memory_order_relaxed))
        return;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    pthread_mutex_lock(&lock);
    if (callback != NULL)
        callback(callback_context, level, line);
    pthread_mutex_unlock(&lock);
}

void dla_set_log_callback(dla_log_callback *new_callback, void *context)
{
    pthread_mutex_lock(&lock);
    callback = new_callback;
    callback_context = context;
    atomic_store_explicit(&wanted, new_callback != NULL, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
}
