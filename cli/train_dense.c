/* train_dense.c - from arguments to a dense recipe. */
#include "train_dense.h"

#include "number_list.h"

#include <stdlib.h>
#include <string.h>

/* The first of these options that is given, or NULL: they make no sense for classes of photographs. */
static const char *given_dense_option(const struct arguments *arguments)
{
    static const struct option_spec rows[] = {OPTION_ROWS_TRAIN_DENSE};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (argument_flag(arguments, rows[i].name))
            return rows[i].name;
    return NULL;
}

int choose_dense(const struct arguments *arguments, dla_train_options *options, dla_architecture *architecture, struct dense_choice *choice)
{
    const char *weights = argument_text(arguments, "--class-weights", NULL);
    bool edges = options->task == DLA_TASK_EDGES;

    if (options->task == DLA_TASK_CLASSIFY) {
        const char *option = given_dense_option(arguments);
        return option == NULL ? EXIT_SUCCESS : fail_with_usage("%s is for --task segment and edges", option);
    }
    choice->recipe = (dla_dense_recipe)DLA_DENSE_RECIPE_INIT;
    dla_dense_recipe *recipe = &choice->recipe;
    if (weights != NULL) {
        if (!number_list_parse(weights, choice->class_weights, MAX_CLASS_WEIGHTS, &recipe->class_weight_count))
            return fail_with_usage("--class-weights is '%s', must be numbers with commas between them, one a class", weights);
        recipe->class_weights = choice->class_weights;
    }
    recipe->class_names = argument_text(arguments, "--class-names", NULL);
    recipe->ignore = (int)argument_integer(arguments, "--ignore", recipe->ignore);
    recipe->edge_weight = argument_number(arguments, "--edge-weight", recipe->edge_weight);
    recipe->annotators = (int)argument_integer(arguments, "--annotators", recipe->annotators);
    recipe->min_scale = argument_number(arguments, "--min-scale", edges ? 1.0 : recipe->min_scale);
    recipe->max_scale = argument_number(arguments, "--max-scale", edges ? 1.0 : recipe->max_scale);
    recipe->rotation = argument_number(arguments, "--rotation", edges ? 180.0 : recipe->rotation);
    options->dense = recipe;
    options->base_weights = argument_text(arguments, "--base-weights", NULL);
    if (argument_flag(arguments, "--down-ratio") && architecture->down_ratio > 0)
        architecture->down_ratio = (int)argument_integer(arguments, "--down-ratio", architecture->down_ratio);
    return EXIT_SUCCESS;
}
