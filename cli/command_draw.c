/* command_draw.c - `dla draw`: a network as a picture. */
#include "command.h"
#include "network_choice.h"

#include <dla/dla.h>

#include <stdlib.h>

static const struct option_spec options[] = {
    {"--config", OPTION_TEXT, "FILE", "read the network from a JSON file instead of naming one", 0, 0},
    {"--classes", OPTION_INTEGER, "N", "number of classes; 0: no classifier, the result is the embedding", 0, 1000000},
    DOWN_RATIO_OPTION,
    {0},
};

static int run(const struct arguments *arguments)
{
    size_t count = argument_count(arguments);
    const char *path = argument_at(arguments, count - 1);
    dla_architecture architecture;
    dla_network *network = NULL;

    int status = choose_network(arguments, count > 1 ? argument_at(arguments, 0) : NULL, &architecture);
    if (status != EXIT_SUCCESS)
        return status;
    architecture.num_classes = (int)argument_integer(arguments, "--classes", architecture.num_classes);
    if (dla_network_create(&architecture, &network) != DLA_OK || dla_network_draw_svg(network, path) != DLA_OK)
        status = fail_with_library_error();
    dla_network_destroy(network);
    return status;
}

const struct command command_draw = {
    .name = "draw",
    .summary = "draw a network as an SVG picture",
    .positional = "[MODEL] OUT.svg",
    .min_positional = 1,
    .max_positional = 2,
    .description = "Draws a network the way the paper does: levels as rows, blocks, aggregation nodes above the trees whose results they are, "
                   "hierarchical and iterative edges, strides and channels. Browsers show names and shapes where the pointer rests.",
    .example = "dla draw dla34 dla34.svg\n"
               "dla draw --config net.json net.svg",
    .options = options,
    .run = run,
};
