/* eval_dense.h - the tasks of `dla eval` that score pictures of predictions, anybody's. */
#ifndef DLA_CLI_EVAL_DENSE_H
#define DLA_CLI_EVAL_DENSE_H

#include "command.h"

/* clang-format off */
#define OPTION_ROWS_EVAL_DENSE \
    {"--task", OPTION_CHOICE, "classify|segment|edges", "what is scored (default classify)", 0, 0}, \
    {"--predictions", OPTION_TEXT, "DIR", "segment, edges: PNG files of predictions, instead of a network's own", 0, 0}, \
    {"--labels", OPTION_TEXT, "DIR", "segment: PNG files of the same names whose pixels are the true classes", 0, 0}, \
    {"--classes", OPTION_INTEGER, "N", "segment: number of classes", 1, 256}, \
    {"--ignore", OPTION_INTEGER, "N", "segment: label that does not count, -1 for none (default 255)", -1, 255}, \
    {"--ground-truth", OPTION_TEXT, "DIR", "edges: MATLAB files of the same names with the annotators' boundaries", 0, 0}, \
    {"--split", OPTION_TEXT, "NAME", "segment, edges: part of DIR to score (default: test if there is one, else val, else all)", 0, 0}, \
    {"--scales", OPTION_TEXT, "LIST", "segment, edges: sizes to look at each photograph in, such as 0.5,1,1.5 (default 1)", 0, 0}, \
    {"--flip", OPTION_FLAG, NULL, "segment, edges: also look at it mirrored", 0, 0}, \
    {"--tile", OPTION_INTEGER, "N", "segment, edges: side of the squares that larger photographs are worked through in (default 1024)", 320, 16384}, \
    {"--thresholds", OPTION_INTEGER, "N", "edges: number of thresholds (default 99)", 1, 255}
/* clang-format on */

/* Each returns the exit status. */
int eval_segmentation(const struct arguments *arguments);
int eval_edges(const struct arguments *arguments);

#endif
