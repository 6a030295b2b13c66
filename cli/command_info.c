/* command_info.c - `dla info`: what a network has and does, as a table with its trees, or as JSON. */
#include "command.h"
#include "json_output.h"
#include "network_choice.h"

#include <dla/dla.h>

#include <stdio.h>
#include <string.h>

static const struct option_spec options[] = {
    {"--config", OPTION_TEXT, "FILE", "read the network from a JSON file instead of naming one", 0, 0},
    {"--size", OPTION_SIZE, "N|HxW", "count for this input size (default 224)", 32, 65536},
    {"--classes", OPTION_INTEGER, "N", "number of classes; 0: no classifier, the result is the embedding", 0, 1000000},
    DOWN_RATIO_OPTION,
    {"--print-config", OPTION_FLAG, NULL, "print the network as a config file for --config", 0, 0},
    {"--json", OPTION_FLAG, NULL, "print JSON", 0, 0},
    {0},
};

static int print_config(const dla_architecture *architecture)
{
    char *text = NULL;

    if (dla_architecture_to_config(architecture, &text) != DLA_OK)
        return fail_with_library_error();
    fputs(text, stdout);
    dla_free(text);
    return EXIT_SUCCESS;
}

static int print_json(const dla_architecture *architecture, const dla_census *census)
{
    json_t *object = json_object(), *levels = json_array();

    json_put(object, "name", json_text(architecture->name));
    json_put(object, "params", json_integer(census->params));
    json_put(object, "unused_params", json_integer(census->unused_params));
    json_put(object, "macs", json_integer(census->macs));
    json_put(object, "flops", json_integer(census->flops));
    json_put(object, "activations", json_integer(census->activations));
    json_put(object, "batch_norm_outputs", json_integer(census->batch_norm_outputs));
    for (int i = 0; i < DLA_LEVEL_COUNT; i++) {
        const dla_level_info *info = &census->levels[i];
        json_t *level = json_object();
        json_put(level, "name", json_text(info->name));
        json_put(level, "stride", json_integer(info->stride));
        json_put(level, "channels", json_integer(info->channels));
        json_put(level, "height", json_integer(info->height));
        json_put(level, "width", json_integer(info->width));
        json_add(levels, level);
    }
    json_put(object, "levels", levels);
    return json_print(object);
}

/* 15742104 with its size at a glance: "15742104  (15.7 M)". */
static void print_count(const char *name, int64_t count)
{
    static const struct { int64_t unit; const char *letter; } units[] = {{1000000000, "G"}, {1000000, "M"}, {1000, "k"}};

    printf("%-20s %15lld", name, (long long)count);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (count >= units[i].unit) {
            printf("  (%.1f %s)", (double)count / (double)units[i].unit, units[i].letter);
            break;
        }
    }
    putchar('\n');
}

static int print_table(const dla_network *network, const dla_census *census, int height, int width)
{
    const dla_architecture *architecture = dla_network_architecture(network);
    char *tree = NULL;

    if (dla_network_to_text(network, &tree) != DLA_OK)
        return fail_with_library_error();
    printf("%s at %dx%d", architecture->name, height, width);
    if (architecture->num_classes > 0)
        printf(", %d class%s", architecture->num_classes, architecture->num_classes == 1 ? "" : "es");
    printf("\n\n");
    print_count("parameters", census->params);
    print_count("unused projections", census->unused_params);
    print_count("multiply-adds", census->macs);
    print_count("FLOPs as published", census->flops);
    print_count("activations", census->activations);
    print_count("batch norm outputs", census->batch_norm_outputs);
    printf("\nlevel     stride  channels  height   width\n");
    for (int i = 0; i < DLA_LEVEL_COUNT; i++) {
        const dla_level_info *info = &census->levels[i];
        printf("%-8s  %6d  %8d  %6d  %6d\n", info->name, info->stride, info->channels, info->height, info->width);
    }
    printf("\n%s", tree);
    dla_free(tree);
    return EXIT_SUCCESS;
}

static int run(const struct arguments *arguments)
{
    dla_architecture architecture;
    dla_network *network = NULL;
    dla_census census;
    int height = 224, width = 224;

    int exit_status = choose_network(arguments, argument_count(arguments) > 0 ? argument_at(arguments, 0) : NULL, &architecture);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    architecture.num_classes = (int)argument_integer(arguments, "--classes", architecture.num_classes);
    if (argument_flag(arguments, "--print-config"))
        return print_config(&architecture);

    argument_size(arguments, "--size", &height, &width);
    if (dla_network_create(&architecture, &network) != DLA_OK || dla_network_census(network, height, width, &census) != DLA_OK)
        exit_status = fail_with_library_error();
    else if (argument_flag(arguments, "--json"))
        exit_status = print_json(&architecture, &census);
    else
        exit_status = print_table(network, &census, height, width);
    dla_network_destroy(network);
    return exit_status;
}

const struct command command_info = {
    .name = "info",
    .summary = "show a network: parameters, FLOPs, levels, trees",
    .positional = "[MODEL]",
    .min_positional = 0,
    .max_positional = 1,
    .description = "Counts what a network has and does for one image, and draws its trees. The network is a published one "
                   "(`dla models` lists them) or your own, from a config file; --print-config prints one to start from.",
    .example = "dla info dla34\n"
               "dla info dla60x --size 480x640 --json\n"
               "dla info dla46_c --print-config > net.json\n"
               "dla info --config net.json",
    .options = options,
    .run = run,
};
