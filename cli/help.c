/* help.c - the overview and the help of one command.
 *
 * Everything comes from the command's table: what can be typed, what it means, its legal range, an example.
 */
#include "help.h"

#include <dla/dla.h>

#include <string.h>

enum { LINE_WIDTH = 80, OPTION_COLUMN = 30 };

/* Prints text broken at blanks so that no line passes LINE_WIDTH; the first line starts at `column`, others at `indent`.
 * A newline in the text starts a new line. */
static void print_wrapped(FILE *stream, const char *text, int indent, int column)
{
    bool line_is_empty = true;

    while (*text != '\0') {
        if (*text == '\n') {
            fprintf(stream, "\n%*s", indent, "");
            column = indent;
            line_is_empty = true;
            text++;
            continue;
        }
        int length = (int)strcspn(text, " \n");
        if (!line_is_empty && column + 1 + length > LINE_WIDTH) {
            fprintf(stream, "\n%*s", indent, "");
            column = indent;
            line_is_empty = true;
        }
        fprintf(stream, "%s%.*s", line_is_empty ? "" : " ", length, text);
        column += length + (line_is_empty ? 0 : 1);
        line_is_empty = false;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', stream);
}

static void print_option(FILE *stream, const char *name, const char *argument, const char *help)
{
    int used = fprintf(stream, "  %s%s%s", name, argument != NULL ? " " : "", argument != NULL ? argument : "");

    if (used + 1 >= OPTION_COLUMN)
        fprintf(stream, "\n%*s", OPTION_COLUMN, "");
    else
        fprintf(stream, "%*s", OPTION_COLUMN - used, "");
    print_wrapped(stream, help, OPTION_COLUMN, OPTION_COLUMN);
}

/* Every line of `text`, indented. */
static void print_indented_lines(FILE *stream, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        fprintf(stream, "  %.*s\n", (int)length, text);
        text += length;
        if (*text == '\n')
            text++;
    }
}

const struct help_row exit_statuses[] = {
    {"0", "success"},
    {"1", "the work failed, or part of it; a line on stderr says what and why"},
    {"2", "wrong usage; nothing was done"},
    {NULL, NULL},
};

const struct help_row environment[] = {
    {"DLA_ISA=NAME", "use this instruction set: amx, avx512, avx2, neon or generic"},
    {"NO_COLOR=1", "no colours on the terminal"},
    {NULL, NULL},
};

static void print_rows(FILE *stream, const char *title, const struct help_row *rows)
{
    size_t longest = 0;

    fprintf(stream, "%s:\n", title);
    for (const struct help_row *row = rows; row->name != NULL; row++)
        if (strlen(row->name) > longest)
            longest = strlen(row->name);
    for (const struct help_row *row = rows; row->name != NULL; row++)
        fprintf(stream, "  %-*s  %s\n", (int)longest, row->name, row->help);
}

void print_overview(FILE *stream, const struct command *const *commands)
{
    size_t longest = 0;

    fprintf(stream,
            "dla %s - Deep Layer Aggregation networks for photographs\n"
            "\n"
            "Usage: dla COMMAND [ARGUMENTS] [OPTIONS]\n"
            "\n"
            "Commands:\n",
            dla_version());
    for (size_t i = 0; commands[i] != NULL; i++)
        if (strlen(commands[i]->name) > longest)
            longest = strlen(commands[i]->name);
    for (size_t i = 0; commands[i] != NULL; i++)
        fprintf(stream, "  %-*s  %s\n", (int)longest, commands[i]->name, commands[i]->summary);
    fputs("\n"
          "`dla COMMAND --help` explains one; `dla --version` prints the version.\n"
          "\n"
          "Example, with the built-in network:\n"
          "  dla classify photo.jpg\n"
          "\n",
          stream);
    print_rows(stream, "Exit status", exit_statuses);
    fputc('\n', stream);
    print_rows(stream, "Environment", environment);
}

void print_command_help(FILE *stream, const struct command *command)
{
    fprintf(stream, "Usage: dla %s%s%s [OPTIONS]\n\n", command->name, command->positional[0] != '\0' ? " " : "", command->positional);
    print_wrapped(stream, command->description, 0, 0);
    fputs("\nOptions:\n", stream);
    for (const struct option_spec *option = command->options; option != NULL && option->name != NULL; option++)
        print_option(stream, option->name, option->argument, option->help);
    print_option(stream, "-h, --help", NULL, "this text");
    fputs("\nExample:\n", stream);
    print_indented_lines(stream, command->example);
    fputc('\n', stream);
    print_rows(stream, "Exit status", exit_statuses);
}
