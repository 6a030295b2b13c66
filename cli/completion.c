/* completion.c - completion scripts for bash and zsh from the command tables.
 *
 * What may follow comes from the tables' own words: an option with choices offers them, an argument called MODEL the names
 * of the zoo, everything else files.
 */
#include "manual.h"

#include <dla/dla.h>

#include <string.h>

static bool names_model(const char *argument)
{
    return argument != NULL && strstr(argument, "MODEL") != NULL;
}

static void print_model_names(FILE *stream)
{
    for (size_t i = 0; i < dla_architecture_count(); i++)
        fprintf(stream, "%s%s", i > 0 ? " " : "", dla_architecture_at(i)->name);
}

/* "bilinear|bicubic" with blanks between the words. */
static void print_choices(FILE *stream, const char *choices)
{
    for (; *choices != '\0'; choices++)
        fputc(*choices == '|' ? ' ' : *choices, stream);
}

/* ---- bash ---- */

static void print_bash_option_values(FILE *stream, const struct command *command)
{
    fprintf(stream, "    %s)\n        case $previous in\n", command->name);
    for (const struct option_spec *option = command->options; option != NULL && option->name != NULL; option++) {
        if (option->kind == OPTION_FLAG)
            continue;
        fprintf(stream, "        %s) ", option->name);
        if (option->kind == OPTION_CHOICE) {
            fputs("values='", stream);
            print_choices(stream, option->argument);
            fputs("' ;;\n", stream);
        } else if (names_model(option->argument)) {
            fputs("values=$models ;;\n", stream);
        } else if (option->kind == OPTION_TEXT) {
            fputs("values=/ ;;\n", stream);
        } else {
            fputs("return ;;\n", stream);
        }
    }
    fputs("        esac\n        options='", stream);
    for (const struct option_spec *option = command->options; option != NULL && option->name != NULL; option++)
        fprintf(stream, "%s ", option->name);
    fprintf(stream, "--help'\n%s        ;;\n", names_model(command->positional) ? "        positional=$models\n" : "");
}

static void print_bash_completion(FILE *stream, const struct command *const *commands)
{
    fputs("# bash completion for dla\n"
          "_dla()\n"
          "{\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options='' positional='' values='' models='",
          stream);
    print_model_names(stream);
    fputs("'\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -W '",
          stream);
    for (size_t i = 0; commands[i] != NULL; i++)
        fprintf(stream, "%s ", commands[i]->name);
    fputs("help --help --version' -- \"$current\")\n"
          "        return\n"
          "    fi\n"
          "    case ${COMP_WORDS[1]} in\n",
          stream);
    for (size_t i = 0; commands[i] != NULL; i++)
        print_bash_option_values(stream, commands[i]);
    fputs("    esac\n"
          "    if [ \"$values\" = / ]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
          "    elif [ -n \"$values\" ]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"$values\" -- \"$current\")\n"
          "    elif [[ $current == -* ]]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$current\")\n"
          "    else\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"$positional\" -- \"$current\"; compgen -f -- \"$current\")\n"
          "    fi\n"
          "}\n"
          "complete -o filenames -F _dla dla\n",
          stream);
}

/* ---- zsh ---- */

/* Inside single quotes and _arguments' own syntax. */
static void print_zsh_text(FILE *stream, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stream);
        else if (strchr("[]:\\", *text) != NULL)
            fprintf(stream, "\\%c", *text);
        else
            fputc(*text == '\n' ? ' ' : *text, stream);
    }
}

static void print_zsh_option(FILE *stream, const struct option_spec *option)
{
    fprintf(stream, "            '%s%s[", option->kind == OPTION_FLAG ? "" : "*", option->name);
    print_zsh_text(stream, option->help);
    fputc(']', stream);
    if (option->kind != OPTION_FLAG) {
        fputc(':', stream);
        print_zsh_text(stream, option->kind == OPTION_CHOICE ? "one of" : option->argument);
        fputc(':', stream);
        if (option->kind == OPTION_CHOICE) {
            fputc('(', stream);
            print_choices(stream, option->argument);
            fputc(')', stream);
        } else if (names_model(option->argument)) {
            fputc('(', stream);
            print_model_names(stream);
            fputc(')', stream);
        } else {
            fputs(option->kind == OPTION_TEXT ? "_files" : " ", stream);
        }
    }
    fputs("' \\\n", stream);
}

static void print_zsh_completion(FILE *stream, const struct command *const *commands)
{
    fputs("#compdef dla\n"
          "local -a commands\n"
          "commands=(\n",
          stream);
    for (size_t i = 0; commands[i] != NULL; i++) {
        fprintf(stream, "    '%s:", commands[i]->name);
        print_zsh_text(stream, commands[i]->summary);
        fputs("'\n", stream);
    }
    fputs(")\n"
          "if (( CURRENT == 2 )); then\n"
          "    _describe command commands\n"
          "    return\n"
          "fi\n"
          "shift words\n"
          "(( CURRENT-- ))\n"
          "case $words[1] in\n",
          stream);
    for (size_t i = 0; commands[i] != NULL; i++) {
        fprintf(stream, "    %s)\n        _arguments \\\n", commands[i]->name);
        for (const struct option_spec *option = commands[i]->options; option != NULL && option->name != NULL; option++)
            print_zsh_option(stream, option);
        fputs("            '--help[print help]' \\\n            '*:", stream);
        print_zsh_text(stream, commands[i]->positional[0] != '\0' ? commands[i]->positional : "file");
        if (names_model(commands[i]->positional)) {
            fputs(":(", stream);
            print_model_names(stream);
            fputs(")'\n        ;;\n", stream);
        } else {
            fputs(":_files'\n        ;;\n", stream);
        }
    }
    fputs("esac\n", stream);
}

bool print_completion(FILE *stream, const struct command *const *commands, const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        print_bash_completion(stream, commands);
    else if (strcmp(shell, "zsh") == 0)
        print_zsh_completion(stream, commands);
    else
        return false;
    return true;
}
