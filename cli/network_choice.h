/* network_choice.h - which network, or which model, a command is about: MODEL, --config FILE, or what the weights say. */
#ifndef DLA_CLI_NETWORK_CHOICE_H
#define DLA_CLI_NETWORK_CHOICE_H

#include "command.h"

#include <dla/dla.h>

/* clang-format off */
#define DOWN_RATIO_OPTION \
    {"--down-ratio", OPTION_INTEGER, "N", "dense networks: stride of the finest aggregated map, 2, 4, 8 or 16", 2, 16}
/* clang-format on */

/* For commands that take MODEL (NULL: not given) and have the options --config and --down-ratio: exactly one of the first two must be
 * given. Returns the exit status, after one line on stderr if it is not EXIT_SUCCESS. */
int choose_network(const struct arguments *arguments, const char *model, dla_architecture *architecture);

/* The options of a command that opens a model: rows of its table. */
#define MODEL_OPTIONS                                                                                                                      \
    {"--weights", OPTION_TEXT, "FILE", "weights of the network; without MODEL they must say which it is", 0, 0},                           \
    {"--config", OPTION_TEXT, "FILE", "read the network from a JSON file instead of naming one", 0, 0},                                    \
    {"--classes", OPTION_INTEGER, "N", "number of classes; 0: no classifier, the result is the embedding", 0, 1000000},                    \
    DOWN_RATIO_OPTION

/* Opens the model that MODEL (NULL: not given) and these options describe; without any of them the built-in one. Returns the
 * exit status as above. */
int open_chosen_model(const struct arguments *arguments, const char *name, dla_model **model);

#endif
