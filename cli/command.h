/* command.h - one table per subcommand, from which parsing, --help, man pages and completion all come. */
#ifndef DLA_CLI_COMMAND_H
#define DLA_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_WORK_FAILED = 1, EXIT_WRONG_USAGE = 2 };   /* documented exit statuses, beside EXIT_SUCCESS */

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_INTEGER, OPTION_NUMBER, OPTION_SIZE /* N or HxW */, OPTION_CHOICE };

struct option_spec {
    const char *name;           /* "--topk" */
    enum option_kind kind;
    const char *argument;       /* shown in help: "N"; NULL for flags; for OPTION_CHOICE "bilinear|bicubic" */
    const char *help;           /* one line */
    double minimum, maximum;    /* legal range of OPTION_INTEGER, OPTION_NUMBER and both sides of OPTION_SIZE */
};

struct arguments;

struct command {
    const char *name;           /* "classify" */
    const char *summary;        /* one line for `dla --help` */
    const char *positional;     /* "PHOTO..." or "MODEL"; "" if none */
    int min_positional, max_positional;   /* max -1: any number */
    const char *description;    /* a paragraph for --help and the man page */
    const char *example;        /* one or more lines, each starting with "dla " */
    const struct option_spec *options;    /* ends with name NULL; --help is added to every command */
    int (*run)(const struct arguments *arguments);   /* returns the exit status */
};

/* What the user typed, checked against the table before run is called. */
size_t argument_count(const struct arguments *arguments);
const char *argument_at(const struct arguments *arguments, size_t index);
bool argument_flag(const struct arguments *arguments, const char *option);                                /* given? */
const char *argument_text(const struct arguments *arguments, const char *option, const char *fallback);
int64_t argument_integer(const struct arguments *arguments, const char *option, int64_t fallback);
double argument_number(const struct arguments *arguments, const char *option, double fallback);
bool argument_size(const struct arguments *arguments, const char *option, int *height, int *width);       /* false: not given */

/* "dla: <message>" on stderr. The first returns EXIT_WORK_FAILED for the library's last error, the second EXIT_WRONG_USAGE. */
int fail_with_library_error(void);
__attribute__((format(printf, 1, 2))) int fail_with_usage(const char *format, ...);
__attribute__((format(printf, 1, 2))) void warn(const char *format, ...);

#endif
