/* arguments.h - from argv to values checked against a command's table. */
#ifndef DLA_CLI_ARGUMENTS_H
#define DLA_CLI_ARGUMENTS_H

#include "command.h"

struct option_value {
    bool given;
    const char *text;      /* as typed; points into argv. OPTION_CHOICE: one of the choices */
    int64_t integer;       /* OPTION_INTEGER */
    double number;         /* OPTION_NUMBER */
    int height, width;     /* OPTION_SIZE */
};

struct arguments {
    const struct command *command;
    const char **positional;         /* points into argv */
    size_t positional_count;
    struct option_value *values;     /* one per row of command->options */
    bool help;                       /* -h or --help stands among them: nothing else was checked */
};

/* Parses what follows the command's name. EXIT_SUCCESS, or another exit status after one line on stderr. */
int arguments_parse(const struct command *command, int argc, char **argv, struct arguments *arguments);
void arguments_free(struct arguments *arguments);

#endif
