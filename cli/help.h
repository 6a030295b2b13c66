/* help.h - help texts, all from the command tables. */
#ifndef DLA_CLI_HELP_H
#define DLA_CLI_HELP_H

#include "command.h"

#include <stdio.h>

/* What holds for every command, in the help texts and the man pages; they end with name NULL. */
struct help_row {
    const char *name, *help;
};
extern const struct help_row exit_statuses[];
extern const struct help_row environment[];

/* `commands` ends with NULL. */
void print_overview(FILE *stream, const struct command *const *commands);
void print_command_help(FILE *stream, const struct command *command);

#endif
