/* main.c - the dla command: finds the subcommand in the table below, parses its arguments, runs it.
 *
 * A command is one file, command_<name>.c, with one constant struct command. To add one: an extern and a row.
 */
#include "arguments.h"
#include "help.h"
#include "manual.h"

#include <dla/dla.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct command command_bench;
extern const struct command command_classify;
extern const struct command command_convert;
extern const struct command command_draw;
extern const struct command command_edges;
extern const struct command command_eval;
extern const struct command command_export;
extern const struct command command_info;
extern const struct command command_inspect;
extern const struct command command_models;
extern const struct command command_plot;
extern const struct command command_explain, command_preprocess;
extern const struct command command_pull;
extern const struct command command_run;
extern const struct command command_segment;
extern const struct command command_train;

static const struct command *const commands[] = {
    &command_bench,
    &command_classify,
    &command_convert,
    &command_draw,
    &command_edges,
    &command_eval,
    &command_export,
    &command_info,
    &command_inspect,
    &command_models,
    &command_plot,
    &command_explain,
    &command_preprocess,
    &command_pull,
    &command_run,
    &command_segment,
    &command_train,
    NULL, /* the end */
};

enum { MAX_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; commands[i] != NULL; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int fail_with_unknown_command(const char *name)
{
    const char *names[MAX_COMMANDS];
    size_t count = 0;

    for (; commands[count] != NULL; count++)
        names[count] = commands[count]->name;
    const char *nearest = dla_nearest_name(name, names, count);
    if (nearest != NULL)
        return fail_with_usage("no command '%s'; did you mean %s? `dla --help` lists all", name, nearest);
    return fail_with_usage("no command '%s'; `dla --help` lists all", name);
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct arguments arguments;
    int status = arguments_parse(command, argc, argv, &arguments);

    if (status != EXIT_SUCCESS)
        return status;
    if (arguments.help)
        print_command_help(stdout, command);
    else
        status = command->run(&arguments);
    arguments_free(&arguments);
    return status;
}

/* `dla help [COMMAND]`; and, for the build and packagers, `dla help --commands`, `--man [COMMAND]` and `--completion SHELL`. */
static int help(int argc, char **argv)
{
    bool man = argc > 0 && strcmp(argv[0], "--man") == 0;
    const char *name = argc > man ? argv[man] : NULL;

    if (name != NULL && strcmp(name, "--commands") == 0) {
        for (size_t i = 0; commands[i] != NULL; i++)
            puts(commands[i]->name);
        return EXIT_SUCCESS;
    }
    if (name != NULL && strcmp(name, "--completion") == 0) {
        if (argc < 2 || !print_completion(stdout, commands, argv[1]))
            return fail_with_usage("--completion is for bash or zsh");
        return EXIT_SUCCESS;
    }
    if (name == NULL) {
        (man ? print_man_overview : print_overview)(stdout, commands);
        return EXIT_SUCCESS;
    }
    const struct command *command = find_command(name);
    if (command == NULL)
        return fail_with_unknown_command(name);
    (man ? print_man_page : print_command_help)(stdout, command);
    return EXIT_SUCCESS;
}

static int dispatch(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";

    if (strcmp(name, "--version") == 0) {
        printf("dla %s\n", dla_version());
        return EXIT_SUCCESS;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return argc > 2 ? help(argc - 2, argv + 2) : help(0, NULL);
    if (name[0] == '-')
        return fail_with_usage("no option %s before the command; `dla --help` shows the usage", name);
    const struct command *command = find_command(name);
    if (command == NULL)
        return fail_with_unknown_command(name);
    return run_command(command, argc - 2, argv + 2);
}

int main(int argc, char **argv)
{
    int status = dispatch(argc, argv);

    /* A full disk shows itself when the buffer is written, at the latest here. */
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        warn("cannot write to standard output%s%s", errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
        if (status == EXIT_SUCCESS)
            status = EXIT_WORK_FAILED;
    }
    return status;
}
