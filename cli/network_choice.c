/* network_choice.c - MODEL, --config FILE, or what the weights say. */
#include "network_choice.h"

#include "weights_fetch.h"

#include <stdlib.h>

int choose_network(const struct arguments *arguments, const char *model, dla_architecture *architecture)
{
    const char *config = argument_text(arguments, "--config", NULL);

    if (config != NULL && model != NULL)
        return fail_with_usage("both a model (%s) and --config %s are given; one of them names the network", model, config);
    if (config == NULL && model == NULL)
        return fail_with_usage("no network given: name a model (`dla models` lists them) or use --config FILE");
    dla_status status = config != NULL ? dla_architecture_read_config(config, architecture) : dla_architecture_find(model, architecture);
    if (status != DLA_OK)
        return fail_with_library_error();
    int ratio = (int)argument_integer(arguments, "--down-ratio", 0);
    if (ratio > 0 && architecture->down_ratio == 0)
        return fail_with_usage("--down-ratio is for dense networks, such as %sup; %s classifies", architecture->name, architecture->name);
    if (ratio > 0)
        architecture->down_ratio = ratio;
    return EXIT_SUCCESS;
}

int open_chosen_model(const struct arguments *arguments, const char *name, dla_model **model)
{
    dla_model_options model_options = DLA_MODEL_OPTIONS_INIT;
    dla_architecture architecture = {0};

    model_options.weights = argument_text(arguments, "--weights", NULL);
    if (name != NULL || argument_text(arguments, "--config", NULL) != NULL) {
        int status = choose_network(arguments, name, &architecture);
        if (status != EXIT_SUCCESS)
            return status;
        architecture.num_classes = (int)argument_integer(arguments, "--classes", DLA_CLASSES_OF_WEIGHTS);
        model_options.architecture = &architecture;
    } else if (argument_integer(arguments, "--classes", -1) >= 0) {
        return fail_with_usage("--classes needs MODEL or --config; weights alone say how many classes they have");
    }
    int status = fetch_weights(model_options.weights);
    if (status != EXIT_SUCCESS)
        return status;
    return dla_model_open(&model_options, model) == DLA_OK ? EXIT_SUCCESS : fail_with_library_error();
}
