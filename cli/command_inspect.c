/* command_inspect.c - `dla inspect`: what is in a weights file, and which network it fits. */
#include "command.h"
#include "json_output.h"
#include "weights_fetch.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec options[] = {
    {"--json", OPTION_FLAG, NULL, "print JSON", 0, 0},
    {0},
};

enum { MOST_CANDIDATES = 64 };

struct candidate {
    dla_architecture architecture;
    dla_weights_fit fit;
};

static bool fits(const struct candidate *candidate)
{
    return candidate->fit.missing + candidate->fit.unknown + candidate->fit.misshapen == 0;
}

/* The network that the file itself describes, where it is not one of the zoo. */
static bool own_architecture(const dla_weights *weights, dla_architecture *architecture)
{
    for (size_t i = 0; i < dla_weights_metadata_count(weights); i++) {
        const char *key, *text;
        dla_weights_metadata(weights, i, &key, &text);
        if (strcmp(key, "config") == 0)
            return dla_architecture_parse_config(text, strlen(text), "config", architecture) == DLA_OK;
    }
    return false;
}

static dla_status compare_with_networks(const dla_weights *weights, struct candidate candidates[MOST_CANDIDATES], size_t *count)
{
    size_t found = 0;

    if (own_architecture(weights, &candidates[found].architecture))
        found++;
    for (size_t i = 0; i < dla_architecture_count() && found < MOST_CANDIDATES; i++)
        candidates[found++].architecture = *dla_architecture_at(i);
    for (size_t i = 0; i < found; i++) {
        dla_status status = dla_weights_check_fit(weights, &candidates[i].architecture, &candidates[i].fit);
        if (status != DLA_OK)
            return status;
    }
    *count = found;
    return DLA_OK;
}

/* ---- for people -------------------------------------------------------------------------------------------------------- */

/* Text from the file in a column of at least `width`; control characters could drive the terminal and become '?'. */
static void print_foreign(const char *text, size_t width, size_t most)
{
    size_t length = 0;

    for (; text[length] != '\0' && length < most; length++)
        putchar((unsigned char)text[length] < 0x20 || text[length] == 0x7f ? '?' : text[length]);
    if (text[length] != '\0')
        fputs("...", stdout);
    for (; length < width; length++)
        putchar(' ');
}

static void print_shape(const dla_tensor_info *info)
{
    char text[128];
    int length = snprintf(text, sizeof(text), "(");

    for (int i = 0; i < info->rank; i++)
        length += snprintf(text + length, sizeof(text) - (size_t)length, "%s%lld", i > 0 ? ", " : "", (long long)info->shape[i]);
    snprintf(text + length, sizeof(text) - (size_t)length, ")");
    printf("  %-20s", text);
}

static dla_status print_tensors(const dla_weights *weights)
{
    size_t longest = 4;

    for (size_t i = 0; i < dla_weights_tensor_count(weights); i++) {
        dla_tensor_info info;
        dla_weights_tensor(weights, i, &info);
        longest = strlen(info.name) > longest ? strlen(info.name) : longest;
    }
    printf("\n%-*s  dtype     shape                    minimum     maximum        mean     std dev\n", (int)longest, "tensor");
    for (size_t i = 0; i < dla_weights_tensor_count(weights); i++) {
        dla_tensor_info info;
        dla_tensor_statistics s;
        dla_weights_tensor(weights, i, &info);
        dla_status status = dla_weights_statistics(weights, i, &s);
        if (status != DLA_OK)
            return status;
        print_foreign(info.name, longest, SIZE_MAX);
        printf("  %-8s", info.dtype);
        print_shape(&info);
        printf("  %10.4g  %10.4g  %10.4g  %10.4g", s.minimum, s.maximum, s.mean, s.standard_deviation);
        if (s.nan_count > 0)
            printf("  %lld NaN", (long long)s.nan_count);
        if (s.infinite_count > 0)
            printf("  %lld infinite", (long long)s.infinite_count);
        putchar('\n');
    }
    return DLA_OK;
}

static void print_metadata(const dla_weights *weights)
{
    enum { MOST_CHARACTERS = 100 };

    for (size_t i = 0; i < dla_weights_metadata_count(weights); i++) {
        const char *key, *text;
        dla_weights_metadata(weights, i, &key, &text);
        fputs("  ", stdout);
        print_foreign(key, 0, SIZE_MAX);
        fputs(": ", stdout);
        print_foreign(text, 0, MOST_CHARACTERS);
        putchar('\n');
    }
}

static void print_fits(const struct candidate *candidates, size_t count)
{
    bool any = false;

    putchar('\n');
    for (size_t i = 0; i < count; i++)
        if (fits(&candidates[i])) {
            printf("fits %s\n", candidates[i].architecture.name);
            any = true;
        }
    if (!any)
        printf("fits no network\n");
    for (size_t i = 0; i < count; i++) {
        const dla_weights_fit *fit = &candidates[i].fit;
        if (!fits(&candidates[i]))
            printf("not %s: %d missing, %d unknown, %d of another shape; %s\n", candidates[i].architecture.name, fit->missing, fit->unknown,
                   fit->misshapen, fit->problem);
    }
}

static int print_for_people(const char *path, const dla_weights *weights, const struct candidate *candidates, size_t count)
{
    int64_t elements = 0;

    for (size_t i = 0; i < dla_weights_tensor_count(weights); i++) {
        dla_tensor_info info;
        dla_weights_tensor(weights, i, &info);
        elements += info.elements;
    }
    printf("%s: %s, %zu tensors, %lld values\n", path, dla_weights_format(weights), dla_weights_tensor_count(weights), (long long)elements);
    print_metadata(weights);
    if (print_tensors(weights) != DLA_OK)
        return fail_with_library_error();
    print_fits(candidates, count);
    return EXIT_SUCCESS;
}

/* ---- for programs ------------------------------------------------------------------------------------------------------ */

static json_t *tensor_to_json(const dla_tensor_info *info, const dla_tensor_statistics *statistics)
{
    json_t *tensor = json_object(), *shape = json_array();

    json_put(tensor, "name", json_text(info->name));
    json_put(tensor, "dtype", json_text(info->dtype));
    for (int i = 0; i < info->rank; i++)
        json_add(shape, json_integer(info->shape[i]));
    json_put(tensor, "shape", shape);
    json_put(tensor, "elements", json_integer(info->elements));
    json_put(tensor, "min", json_real(statistics->minimum));
    json_put(tensor, "max", json_real(statistics->maximum));
    json_put(tensor, "mean", json_real(statistics->mean));
    json_put(tensor, "std", json_real(statistics->standard_deviation));
    json_put(tensor, "nan", json_integer(statistics->nan_count));
    json_put(tensor, "infinite", json_integer(statistics->infinite_count));
    return tensor;
}

static int print_json(const char *path, const dla_weights *weights, const struct candidate *candidates, size_t count)
{
    json_t *object = json_object(), *metadata = json_object(), *tensors = json_array(), *fitting = json_array(), *networks = json_array();
    dla_status status = DLA_OK;

    json_put(object, "file", json_text(path));
    json_put(object, "format", json_text(dla_weights_format(weights)));
    for (size_t i = 0; i < dla_weights_metadata_count(weights); i++) {
        const char *key, *text;
        dla_weights_metadata(weights, i, &key, &text);
        json_put(metadata, key, json_text(text));
    }
    json_put(object, "metadata", metadata);
    for (size_t i = 0; i < dla_weights_tensor_count(weights) && status == DLA_OK; i++) {
        dla_tensor_info info;
        dla_tensor_statistics statistics;
        dla_weights_tensor(weights, i, &info);
        if ((status = dla_weights_statistics(weights, i, &statistics)) == DLA_OK)
            json_add(tensors, tensor_to_json(&info, &statistics));
    }
    json_put(object, "tensors", tensors);
    for (size_t i = 0; i < count; i++) {
        const dla_weights_fit *fit = &candidates[i].fit;
        json_t *network = json_object();
        json_put(network, "name", json_text(candidates[i].architecture.name));
        json_put(network, "fits", json_boolean(fits(&candidates[i])));
        json_put(network, "missing", json_integer(fit->missing));
        json_put(network, "unknown", json_integer(fit->unknown));
        json_put(network, "misshapen", json_integer(fit->misshapen));
        json_put(network, "problem", fits(&candidates[i]) ? json_null() : json_text(fit->problem));
        json_add(networks, network);
        if (fits(&candidates[i]))
            json_add(fitting, json_text(candidates[i].architecture.name));
    }
    json_put(object, "fits", fitting);
    json_put(object, "networks", networks);
    if (status != DLA_OK) {
        json_decref(object);
        return fail_with_library_error();
    }
    return json_print(object);
}

static int run(const struct arguments *arguments)
{
    static struct candidate candidates[MOST_CANDIDATES];
    const char *path = argument_at(arguments, 0);
    dla_weights *weights = NULL;
    size_t count = 0;
    int exit_status = fetch_weights(path);

    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    if (dla_weights_open(path, &weights) != DLA_OK || compare_with_networks(weights, candidates, &count) != DLA_OK)
        exit_status = fail_with_library_error();
    else if (argument_flag(arguments, "--json"))
        exit_status = print_json(path, weights, candidates, count);
    else
        exit_status = print_for_people(path, weights, candidates, count);
    dla_weights_close(weights);
    return exit_status;
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "show what is in a weights file and which network it fits",
    .positional = "FILE",
    .min_positional = 1,
    .max_positional = 1,
    .description = "Lists the tensors of a weights file with their shapes, element types and statistics, its metadata, and for every "
                   "network whether the file fits, or why it does not.",
    .example = "dla inspect mine.pth\n"
               "dla inspect mine.safetensors --json | jq .fits",
    .options = options,
    .run = run,
};
