/* messages.c - one line on stderr, beginning with "dla: ".
 *
 * File names come from outside, so control characters are shown as '?': no name can break the line or drive the terminal.
 */
#include "command.h"
#include "progress.h"

#include <dla/dla.h>

#include <stdarg.h>
#include <stdio.h>

static void print_message(const char *format, va_list arguments)
{
    char line[4096];

    if (vsnprintf(line, sizeof(line), format, arguments) < 0)
        return;
    for (char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    progress_hide();
    fprintf(stderr, "dla: %s\n", line);
}

int fail_with_library_error(void)
{
    warn("%s", dla_error_message());
    return EXIT_WORK_FAILED;
}

int fail_with_usage(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
    return EXIT_WRONG_USAGE;
}

void warn(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
}
