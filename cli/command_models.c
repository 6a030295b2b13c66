/* command_models.c - `dla models`: the published networks. */
#include "command.h"
#include "json_output.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>

static const struct option_spec options[] = {
    {"--json", OPTION_FLAG, NULL, "print JSON", 0, 0},
    {0},
};

static json_t *numbers_json(const int *numbers, int count)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++)
        json_add(array, json_integer(numbers[i]));
    return array;
}

static json_t *model_json(const dla_architecture *architecture, const dla_census *census)
{
    json_t *object = json_object();
    json_put(object, "name", json_text(architecture->name));
    json_put(object, "block", json_text(dla_block_name(architecture->block)));
    json_put(object, "levels", numbers_json(architecture->levels, DLA_LEVEL_COUNT));
    json_put(object, "channels", numbers_json(architecture->channels, DLA_LEVEL_COUNT));
    json_put(object, "params", json_integer(census->params));
    json_put(object, "macs", json_integer(census->macs));
    json_put(object, "flops", json_integer(census->flops));
    return object;
}

static void print_row(const dla_architecture *architecture, const dla_census *census)
{
    char depths[32];

    snprintf(depths, sizeof(depths), "%d %d %d %d %d %d", architecture->levels[0], architecture->levels[1], architecture->levels[2],
             architecture->levels[3], architecture->levels[4], architecture->levels[5]);
    printf("%-16s %10.1f %9.2f   %-11s   %-12s %8d\n", architecture->name, (double)census->params / 1e6, (double)census->flops / 1e9,
           dla_block_name(architecture->block), depths, architecture->channels[DLA_LEVEL_COUNT - 1]);
}

static int run(const struct arguments *arguments)
{
    bool json = argument_flag(arguments, "--json");
    json_t *list = json ? json_array() : NULL;

    if (!json)
        printf("%-16s %10s %9s   %-11s   %-12s %8s\n", "model", "params (M)", "GFLOPs", "block", "levels", "channels");
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        const dla_architecture *architecture = dla_architecture_at(i);
        dla_network *network = NULL;
        dla_census census;
        dla_status status = dla_network_create(architecture, &network);

        if (status == DLA_OK)
            status = dla_network_census(network, 224, 224, &census);
        dla_network_destroy(network);
        if (status != DLA_OK) {
            json_decref(list);
            return fail_with_library_error();
        }
        if (json)
            json_add(list, model_json(architecture, &census));
        else
            print_row(architecture, &census);
    }
    return json ? json_print(list) : EXIT_SUCCESS;
}

const struct command command_models = {
    .name = "models",
    .summary = "list the published networks",
    .positional = "",
    .min_positional = 0,
    .max_positional = 0,
    .description = "Lists the published networks with parameters, FLOPs (at 224x224, a multiply-add counts as one), block, depth of "
                   "each level and channels of the last.",
    .example = "dla models\n"
               "dla models --json",
    .options = options,
    .run = run,
};
