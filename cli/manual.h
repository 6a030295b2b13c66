/* manual.h - man pages and shell completion, generated from the command tables when the program is built. */
#ifndef DLA_CLI_MANUAL_H
#define DLA_CLI_MANUAL_H

#include "command.h"

#include <stdio.h>

/* dla(1), and dla-NAME(1) for one command. `commands` ends with NULL. */
void print_man_overview(FILE *stream, const struct command *const *commands);
void print_man_page(FILE *stream, const struct command *command);

/* A completion script for "bash" or "zsh"; false for any other shell. */
bool print_completion(FILE *stream, const struct command *const *commands, const char *shell);

#endif
