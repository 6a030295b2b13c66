/* arguments.c - parsing against the command's table.
 *
 * `--option VALUE` and `--option=VALUE` are the same; options and positional arguments mix; `--` ends the options; a lone `-` is
 * positional. Given twice, the last counts. Everything that the table can tell is checked here, so that commands see legal values.
 */
#include "arguments.h"

#include <dla/dla.h>

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 128, MAX_CHOICES = 16, CHOICE_TEXT = 256 };

static size_t option_count(const struct command *command)
{
    size_t count = 0;

    while (command->options != NULL && command->options[count].name != NULL)
        count++;
    return count;
}

static int fail_with_unknown_option(const struct command *command, const char *typed, size_t length)
{
    const char *names[MAX_OPTIONS];
    char name[64];
    size_t count = option_count(command);

    assert(count < MAX_OPTIONS);
    for (size_t i = 0; i < count; i++)
        names[i] = command->options[i].name;
    names[count++] = "--help";
    if (length > sizeof(name) - 1)
        length = sizeof(name) - 1;
    memcpy(name, typed, length);
    name[length] = '\0';
    const char *nearest = dla_nearest_name(name, names, count);
    if (nearest != NULL)
        return fail_with_usage("%s has no option %s; did you mean %s?", command->name, name, nearest);
    return fail_with_usage("%s has no option %s; `dla %s --help` lists all", command->name, name, command->name);
}

static int fail_with_range(const struct option_spec *option, const char *text)
{
    return fail_with_usage("%s %s: must be from %.15g to %.15g", option->name, text, option->minimum, option->maximum);
}

static int parse_integer(const struct option_spec *option, const char *text, int64_t *result)
{
    char *end;

    errno = 0;
    long long integer = strtoll(text, &end, 10);
    if (end == text || *end != '\0')
        return fail_with_usage("%s %s: a whole number is needed", option->name, text);
    if (errno == ERANGE || (double)integer < option->minimum || (double)integer > option->maximum)
        return fail_with_range(option, text);
    *result = integer;
    return EXIT_SUCCESS;
}

static int parse_number(const struct option_spec *option, const char *text, double *result)
{
    char *end;
    double number = strtod(text, &end);

    if (end == text || *end != '\0' || isnan(number))
        return fail_with_usage("%s %s: a number is needed", option->name, text);
    if (number < option->minimum || number > option->maximum)
        return fail_with_range(option, text);
    *result = number;
    return EXIT_SUCCESS;
}

/* "224" or "256x320", height first as everywhere. */
static int parse_size(const struct option_spec *option, const char *text, int *height, int *width)
{
    char *end;
    errno = 0;
    long long first = strtoll(text, &end, 10), second = first;
    bool sound = end != text;

    if (sound && (*end == 'x' || *end == 'X')) {
        const char *rest = end + 1;
        second = strtoll(rest, &end, 10);
        sound = end != rest;
    }
    if (!sound || *end != '\0')
        return fail_with_usage("%s %s: N or HEIGHTxWIDTH is needed, such as 224 or 256x320", option->name, text);
    if (errno == ERANGE || (double)first < option->minimum || (double)first > option->maximum || (double)second < option->minimum
        || (double)second > option->maximum)
        return fail_with_range(option, text);
    *height = (int)first;
    *width = (int)second;
    return EXIT_SUCCESS;
}

/* The choices are the option's argument in help, "bilinear|bicubic". */
static int check_choice(const struct option_spec *option, const char *text)
{
    char choices[CHOICE_TEXT];
    const char *names[MAX_CHOICES];
    size_t count = 0;

    assert(strlen(option->argument) < sizeof(choices));
    strcpy(choices, option->argument);
    for (char *rest = choices, *choice; (choice = strsep(&rest, "|")) != NULL;) {
        assert(count < MAX_CHOICES);
        if (strcmp(choice, text) == 0)
            return EXIT_SUCCESS;
        names[count++] = choice;
    }
    const char *nearest = dla_nearest_name(text, names, count);
    if (nearest != NULL)
        return fail_with_usage("%s %s: did you mean %s? Possible are %s", option->name, text, nearest, option->argument);
    return fail_with_usage("%s %s: possible are %s", option->name, text, option->argument);
}

static int parse_value(const struct option_spec *option, const char *text, struct option_value *value)
{
    value->given = true;
    value->text = text;
    switch (option->kind) {
    case OPTION_FLAG:
        return EXIT_SUCCESS;
    case OPTION_TEXT:
        return text[0] != '\0' ? EXIT_SUCCESS : fail_with_usage("%s: its value is empty", option->name);
    case OPTION_INTEGER:
        return parse_integer(option, text, &value->integer);
    case OPTION_NUMBER:
        return parse_number(option, text, &value->number);
    case OPTION_SIZE:
        return parse_size(option, text, &value->height, &value->width);
    case OPTION_CHOICE:
        return check_choice(option, text);
    }
    return EXIT_WRONG_USAGE;
}

/* Parses argv[*index], an option, and moves *index to its last argument. */
static int parse_option(struct arguments *arguments, int argc, char **argv, int *index)
{
    const struct command *command = arguments->command;
    const char *typed = argv[*index];
    const char *equals = strchr(typed, '=');
    size_t length = equals != NULL ? (size_t)(equals - typed) : strlen(typed);
    size_t count = option_count(command);

    for (size_t i = 0; i < count; i++) {
        const struct option_spec *option = &command->options[i];
        if (strlen(option->name) != length || strncmp(option->name, typed, length) != 0)
            continue;
        if (option->kind == OPTION_FLAG) {
            if (equals != NULL)
                return fail_with_usage("%s takes no value", option->name);
            return parse_value(option, typed, &arguments->values[i]);
        }
        if (equals != NULL)
            return parse_value(option, equals + 1, &arguments->values[i]);
        if (*index + 1 >= argc)
            return fail_with_usage("%s needs a value: %s", option->name, option->argument);
        *index += 1;
        return parse_value(option, argv[*index], &arguments->values[i]);
    }
    return fail_with_unknown_option(command, typed, length);
}

static int check_positional_count(const struct arguments *arguments)
{
    const struct command *command = arguments->command;
    int count = (int)arguments->positional_count;

    if (count < command->min_positional)
        return fail_with_usage("%s needs %s; `dla %s --help` shows an example", command->name, command->positional, command->name);
    if (command->max_positional >= 0 && count > command->max_positional)
        return fail_with_usage("%s: '%s' is one argument too many; `dla %s --help` shows an example", command->name,
                               arguments->positional[command->max_positional], command->name);
    return EXIT_SUCCESS;
}

int arguments_parse(const struct command *command, int argc, char **argv, struct arguments *arguments)
{
    bool options_ended = false;
    int status = EXIT_SUCCESS;

    *arguments = (struct arguments){.command = command};
    arguments->positional = calloc((size_t)argc + 1, sizeof(*arguments->positional));
    arguments->values = calloc(option_count(command) + 1, sizeof(*arguments->values));
    if (arguments->positional == NULL || arguments->values == NULL) {
        warn("out of memory");
        status = EXIT_WORK_FAILED;
        goto out;
    }
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            arguments->help = true;
            return EXIT_SUCCESS;
        }
    }
    for (int i = 0; i < argc; i++) {
        if (options_ended || argv[i][0] != '-' || strcmp(argv[i], "-") == 0) {
            arguments->positional[arguments->positional_count++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            options_ended = true;
        } else {
            status = parse_option(arguments, argc, argv, &i);
            if (status != EXIT_SUCCESS)
                goto out;
        }
    }
    status = check_positional_count(arguments);

out:
    if (status != EXIT_SUCCESS)
        arguments_free(arguments);
    return status;
}

void arguments_free(struct arguments *arguments)
{
    free(arguments->positional);
    free(arguments->values);
    *arguments = (struct arguments){0};
}

/* ---- what commands ask ------------------------------------------------------------------------------------------------ */

static const struct option_value *value_of(const struct arguments *arguments, const char *option)
{
    size_t count = option_count(arguments->command);

    for (size_t i = 0; i < count; i++)
        if (strcmp(arguments->command->options[i].name, option) == 0)
            return &arguments->values[i];
    assert(false && "the command's table lists every option that it asks for");
    return NULL;
}

size_t argument_count(const struct arguments *arguments)
{
    return arguments->positional_count;
}

const char *argument_at(const struct arguments *arguments, size_t index)
{
    return index < arguments->positional_count ? arguments->positional[index] : NULL;
}

bool argument_flag(const struct arguments *arguments, const char *option)
{
    return value_of(arguments, option)->given;
}

const char *argument_text(const struct arguments *arguments, const char *option, const char *fallback)
{
    const struct option_value *value = value_of(arguments, option);
    return value->given ? value->text : fallback;
}

int64_t argument_integer(const struct arguments *arguments, const char *option, int64_t fallback)
{
    const struct option_value *value = value_of(arguments, option);
    return value->given ? value->integer : fallback;
}

double argument_number(const struct arguments *arguments, const char *option, double fallback)
{
    const struct option_value *value = value_of(arguments, option);
    return value->given ? value->number : fallback;
}

bool argument_size(const struct arguments *arguments, const char *option, int *height, int *width)
{
    const struct option_value *value = value_of(arguments, option);

    if (!value->given)
        return false;
    *height = value->height;
    *width = value->width;
    return true;
}
