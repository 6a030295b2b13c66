/* command_pull.c - `dla pull`: trained weights from the Hugging Face hub. */
#include "command.h"
#include "json_output.h"
#include "weights_fetch.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>

static const struct option_spec options[] = {
    {"--revision", OPTION_TEXT, "NAME", "branch, tag or commit (default: main)", 0, 0},
    {"--json", OPTION_FLAG, NULL, "print JSON, one object a model", 0, 0},
    {0},
};

static int print_json(const dla_pulled *pulled)
{
    json_t *object = json_object();

    json_put(object, "repository", json_text(pulled->repository));
    json_put(object, "commit", json_text(pulled->commit));
    json_put(object, "weights", json_text(pulled->weights));
    json_put(object, "config", json_text(pulled->config));
    json_put(object, "downloaded", json_integer(pulled->downloaded));
    return json_print(object);
}

static int pull(const struct arguments *arguments, const char *name)
{
    dla_pulled pulled = {0};
    int exit_status = EXIT_SUCCESS;

    if (pull_with_progress(name, argument_text(arguments, "--revision", NULL), false, &pulled) != DLA_OK)
        return fail_with_library_error();
    if (argument_flag(arguments, "--json")) {
        exit_status = print_json(&pulled);
    } else {
        if (pulled.downloaded > 0)
            fprintf(stderr, "%s at %.12s: %.1f MB downloaded\n", pulled.repository, pulled.commit, (double)pulled.downloaded / 1e6);
        else
            fprintf(stderr, "%s at %.12s: already there\n", pulled.repository, pulled.commit);
        puts(pulled.weights);
    }
    dla_pulled_clear(&pulled);
    return exit_status;
}

static int run(const struct arguments *arguments)
{
    int exit_status = EXIT_SUCCESS;

    for (size_t i = 0; i < argument_count(arguments); i++) {
        int status = pull(arguments, argument_at(arguments, i));
        exit_status = status != EXIT_SUCCESS ? status : exit_status;
    }
    return exit_status;
}

const struct command command_pull = {
    .name = "pull",
    .summary = "download trained weights from the Hugging Face hub",
    .positional = "MODEL...",
    .min_positional = 1,
    .max_positional = -1,
    .description =
        "Downloads weights and config.json of a repository (owner/name), or timm's ImageNet weights for a model of `dla models`, "
        "into the cache that Hugging Face's own tools use, and prints the path of the weights. An interrupted download goes on "
        "where it stopped; checksums are verified. HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN and the usual "
        "proxy variables are honoured. --weights hf-hub:MODEL does the same wherever weights are expected.",
    .example = "dla pull dla34\n"
               "dla classify photo.jpg --weights hf-hub:timm/dla34.in1k",
    .options = options,
    .run = run,
};
