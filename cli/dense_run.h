/* dense_run.h - what `dla segment` and `dla edges` share: options, the model, the loop over photographs. */
#ifndef DLA_CLI_DENSE_RUN_H
#define DLA_CLI_DENSE_RUN_H

#include "command.h"
#include "common_options.h"

#include <dla/dla.h>
#include <jansson.h>

/* clang-format off */
#define OPTION_ROWS_DENSE \
    {"--output", OPTION_TEXT, "DIR", "folder for the pictures, made if it is not there (default: the current one)", 0, 0}, \
    {"--scales", OPTION_TEXT, "LIST", "sizes to look at each photograph in, such as 0.5,1,1.5 (default 1)", 0, 0}, \
    {"--flip", OPTION_FLAG, NULL, "also look at it mirrored", 0, 0}, \
    {"--tile", OPTION_INTEGER, "N", "side of the squares that larger photographs are worked through in (default 1024)", 320, 16384}, \
    {"--no-exif", OPTION_FLAG, NULL, "ignore the orientation in EXIF data", 0, 0}
/* clang-format on */

/* For commands with OPTION_ROWS_MODEL, OPTION_ROWS_DEVICE, --scales, --flip, --tile, --threads and --exact: the model, without --weights
 * the task's built-in one, and what predicts with it. Returns the exit status, after one line on stderr if it is not EXIT_SUCCESS. */
struct chosen_dense {
    dla_model *model;
    dla_dense *dense;
};
int open_dense(const struct arguments *arguments, dla_task task, struct chosen_dense *chosen);
void close_dense(struct chosen_dense *chosen);

/* What is done with one photograph; `description` is the JSON object to add to, NULL unless --json is given. False after a line
 * on stderr. */
typedef bool dense_job(dla_dense *dense, const dla_model *model, const dla_image *image, const char *path, const char *output,
                       json_t *description);

/* The whole command; `kinds` are the folders below --output, ending with NULL. Returns the exit status. */
int dense_run(const struct arguments *arguments, dla_task task, const char *const *kinds, dense_job *job);

#endif
