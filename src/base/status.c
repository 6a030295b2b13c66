/* status.c - the calling thread's last error message, always one printable line.
 *
 * Messages quote names from foreign files (tensor names, paths). A control character in one of them could break the line or
 * drive a terminal, so every one is shown as '?'.
 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_CAPACITY = 2048 }; /* a path (at most 1024 here in practice), a tensor name, two shapes and a hint */

static _Thread_local char last_message[MESSAGE_CAPACITY];

static void make_printable(char *text)
{
    for (char *c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte < 0x20 || byte == 0x7f)
            *c = '?';
    }
}

void status_record(const char *format, ...)
{
    char message[MESSAGE_CAPACITY]; /* the arguments may point into last_message */
    va_list arguments;

    va_start(arguments, format);
    if (vsnprintf(message, sizeof(message), format, arguments) < 0)
        message[0] = '\0';
    va_end(arguments);
    make_printable(message);
    memcpy(last_message, message, sizeof(message));
}

void status_record_prefix(const char *format, ...)
{
    char prefix[MESSAGE_CAPACITY];
    va_list arguments;

    va_start(arguments, format);
    if (vsnprintf(prefix, sizeof(prefix), format, arguments) < 0)
        prefix[0] = '\0';
    va_end(arguments);
    make_printable(prefix);

    size_t prefix_length = strlen(prefix);
    size_t kept = strlen(last_message);
    if (kept > MESSAGE_CAPACITY - 1 - prefix_length)
        kept = MESSAGE_CAPACITY - 1 - prefix_length;
    memmove(last_message + prefix_length, last_message, kept);
    memcpy(last_message, prefix, prefix_length);
    last_message[prefix_length + kept] = '\0';
}

const char *dla_error_message(void)
{
    return last_message;
}

const char *dla_status_name(dla_status status)
{
    switch (status) {
    case DLA_OK:
        return "ok";
    case DLA_ERROR_ARGUMENT:
        return "argument";
    case DLA_ERROR_NOT_FOUND:
        return "not found";
    case DLA_ERROR_IO:
        return "input/output";
    case DLA_ERROR_FORMAT:
        return "format";
    case DLA_ERROR_MISMATCH:
        return "mismatch";
    case DLA_ERROR_LIMIT:
        return "limit";
    case DLA_ERROR_UNSUPPORTED:
        return "unsupported";
    case DLA_ERROR_MEMORY:
        return "memory";
    case DLA_ERROR_INTERRUPTED:
        return "interrupted";
    }
    return "unknown";
}
