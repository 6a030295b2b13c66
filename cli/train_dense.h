/* train_dense.h - the options of `dla train` that are for a class for every pixel. */
#ifndef DLA_CLI_TRAIN_DENSE_H
#define DLA_CLI_TRAIN_DENSE_H

#include "command.h"

#include <dla/dla.h>

/* clang-format off */
#define OPTION_ROWS_TRAIN_DENSE \
    {"--base-weights", OPTION_TEXT, "FILE", "segment, edges: a classifier's weights that the base starts from", 0, 0}, \
    {"--down-ratio", OPTION_INTEGER, "2|4|8|16", "segment, edges: stride of the finest map that is aggregated (default 2)", 2, 16}, \
    {"--class-names", OPTION_TEXT, "FILE", "segment: text file, a class a line (default: numbers, up to the largest label)", 0, 0}, \
    {"--ignore", OPTION_INTEGER, "N", "segment: label that does not count, -1 for none (default 255)", -1, 255}, \
    {"--class-weights", OPTION_TEXT, "LIST", "segment: factors on the loss of each class, such as 1,1,2.5 (default 1)", 0, 0}, \
    {"--edge-weight", OPTION_NUMBER, "X", "edges: factor on the loss of boundary pixels (default 10)", 0.000001, 1e6}, \
    {"--annotators", OPTION_INTEGER, "N", "edges: so many must have drawn a boundary; what fewer drew does not count (default 3)", 1, 1000}, \
    {"--min-scale", OPTION_NUMBER, "X", "segment, edges: smallest random scale (default 0.5; edges: 1)", 0.05, 20}, \
    {"--max-scale", OPTION_NUMBER, "X", "segment, edges: largest random scale (default 2; edges: 1)", 0.05, 20}, \
    {"--rotation", OPTION_NUMBER, "DEGREES", "segment, edges: largest random angle (default 10; edges: 180)", 0, 180}
/* clang-format on */

enum { MAX_CLASS_WEIGHTS = 255 };

struct dense_choice {
    dla_dense_recipe recipe;
    double class_weights[MAX_CLASS_WEIGHTS];
};

/* Fills in what these options say, for the tasks that have them; options then points into choice. Returns the exit status. */
int choose_dense(const struct arguments *arguments, dla_train_options *options, dla_architecture *architecture, struct dense_choice *choice);

#endif
