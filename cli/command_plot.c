/* command_plot.c - `dla plot`: a training run's curves. */
#include "command.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>

static const struct option_spec options[] = {{0}};

static int run(const struct arguments *arguments)
{
    const char *path = argument_at(arguments, 0);

    if (dla_train_plot(path) != DLA_OK)
        return fail_with_library_error();
    printf("%s/curves.svg\n", path);
    return EXIT_SUCCESS;
}

const struct command command_plot = {
    .name = "plot",
    .summary = "draw the curves of a training run",
    .positional = "RUN",
    .min_positional = 1,
    .max_positional = 1,
    .description = "Draws loss and accuracy of a run, finished or still going on, from its log.jsonl into its curves.svg.",
    .example = "dla plot run",
    .options = options,
    .run = run,
};
