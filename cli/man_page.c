/* man_page.c - the command tables as man pages (roff with the man macros).
 *
 * `dla help --man` prints dla(1), `dla help --man NAME` prints dla-NAME(1); the build writes both to its man/ folder.
 */
#include "help.h"
#include "manual.h"

#include <dla/dla.h>

#include <ctype.h>

/* Text as roff reads it literally: hyphens stay hyphens, a line never starts with a control character. */
static void print_roff(FILE *stream, const char *text)
{
    bool line_begins = true;

    for (; *text != '\0'; text++) {
        if (line_begins && (*text == '.' || *text == '\''))
            fputs("\\&", stream);
        line_begins = *text == '\n';
        if (*text == '\\')
            fputs("\\e", stream);
        else if (*text == '-')
            fputs("\\-", stream);
        else
            fputc(*text, stream);
    }
}

static void print_title(FILE *stream, const char *name, const char *summary)
{
    fputs(".TH DLA", stream);
    for (const char *c = name; c != NULL && *c != '\0'; c++) {
        if (c == name)
            fputc('-', stream);
        fputc(toupper((unsigned char)*c), stream);
    }
    fprintf(stream, " 1 \"\" \"dla %s\" \"dla manual\"\n.SH NAME\ndla%s%s \\- ", dla_version(), name != NULL ? "\\-" : "", name != NULL ? name : "");
    print_roff(stream, summary);
    fputc('\n', stream);
}

static void print_row(FILE *stream, const char *name, const char *argument, const char *help)
{
    fputs(".TP\n.B ", stream);
    print_roff(stream, name);
    if (argument != NULL) {
        fputs(" \\fI", stream);
        print_roff(stream, argument);
        fputs("\\fR", stream);
    }
    fputc('\n', stream);
    print_roff(stream, help);
    fputc('\n', stream);
}

static void print_rows(FILE *stream, const char *title, const struct help_row *rows)
{
    fprintf(stream, ".SH %s\n", title);
    for (; rows->name != NULL; rows++)
        print_row(stream, rows->name, NULL, rows->help);
}

void print_man_overview(FILE *stream, const struct command *const *commands)
{
    print_title(stream, NULL, "Deep Layer Aggregation networks");
    fputs(".SH SYNOPSIS\n.B dla\n.I COMMAND\n[\\fIARGUMENTS\\fR] [\\fIOPTIONS\\fR]\n.SH COMMANDS\n", stream);
    for (; *commands != NULL; commands++)
        print_row(stream, (*commands)->name, NULL, (*commands)->summary);
    fputs(".PP\nEach has a page of its own, such as\n.BR dla\\-classify (1),\nand answers\n.BR \\-\\-help .\n", stream);
    print_rows(stream, "EXIT STATUS", exit_statuses);
    print_rows(stream, "ENVIRONMENT", environment);
}

void print_man_page(FILE *stream, const struct command *command)
{
    print_title(stream, command->name, command->summary);
    fprintf(stream, ".SH SYNOPSIS\n.B dla %s\n", command->name);
    if (command->positional[0] != '\0') {
        fputs(".I ", stream);
        print_roff(stream, command->positional);
        fputc('\n', stream);
    }
    fputs("[\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n", stream);
    print_roff(stream, command->description);
    fputs("\n.SH OPTIONS\n", stream);
    for (const struct option_spec *option = command->options; option != NULL && option->name != NULL; option++)
        print_row(stream, option->name, option->argument, option->help);
    print_row(stream, "-h, --help", NULL, "print a summary of this page");
    print_rows(stream, "EXIT STATUS", exit_statuses);
    print_rows(stream, "ENVIRONMENT", environment);
    fputs(".SH EXAMPLE\n.nf\n", stream);
    print_roff(stream, command->example);
    fputs("\n.fi\n.SH SEE ALSO\n.BR dla (1)\n", stream);
}
