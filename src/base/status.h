/* status.h - how the library says that something failed.
 *
 * A failing function formats one line with status_set and returns the status; callers pass it on unchanged, or put a name in
 * front with status_prefix ("holiday.jpg: ..."). The line lives in thread-local memory, so errors of two sessions never mix.
 */
#ifndef DLA_BASE_STATUS_H
#define DLA_BASE_STATUS_H

#include <dla/dla.h>

#include <errno.h>
#include <string.h>

__attribute__((format(printf, 1, 2))) void status_record(const char *format, ...);
__attribute__((format(printf, 1, 2))) void status_record_prefix(const char *format, ...);

/* A call instead of a bare operand: no compiler warns where a caller drops it. */
static inline dla_status status_same(dla_status status)
{
    return status;
}

/* Records the message and gives `status`, so that callers write  return status_set(DLA_ERROR_FORMAT, "...", ...);
 * A macro, so that the compiler sees that the result is a failure and knows what a failed call leaves unset. */
#define status_set(status, ...) (status_record(__VA_ARGS__), status_same(status))

/* Puts formatted text in front of the recorded message and gives `status`. */
#define status_prefix(status, ...) (status_record_prefix(__VA_ARGS__), status_same(status))

/* DLA_ERROR_MEMORY with the number of bytes and what they were for. */
static inline dla_status status_out_of_memory(size_t bytes, const char *purpose)
{
    return status_set(DLA_ERROR_MEMORY, "out of memory: %zu bytes for %s", bytes, purpose);
}

/* DLA_ERROR_IO (or NOT_FOUND for ENOENT): "<path>: cannot <action>: <strerror>". */
static inline dla_status status_from_errno(const char *path, const char *action)
{
    int error = errno;
    status_record("%s: cannot %s: %s", path, action, strerror(error));
    return error == ENOENT || error == ENOTDIR ? DLA_ERROR_NOT_FOUND : error == ENOMEM ? DLA_ERROR_MEMORY : DLA_ERROR_IO;
}

#endif
