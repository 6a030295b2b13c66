/* common_options.h - options that several commands share: their table rows, and what they mean. */
#ifndef DLA_CLI_COMMON_OPTIONS_H
#define DLA_CLI_COMMON_OPTIONS_H

#include "command.h"

#include <dla/dla.h>

/* clang-format off */
#define OPTION_ROW_JSON \
    {"--json", OPTION_FLAG, NULL, "print JSON", 0, 0}
#define OPTION_ROW_THREADS \
    {"--threads", OPTION_INTEGER, "N", "threads (default: one per core)", 1, 1024}
#define OPTION_ROW_BATCH \
    {"--batch", OPTION_INTEGER, "N", "photographs in one pass of the network (default 1)", 1, 1024}
#define OPTION_ROWS_MODEL \
    {"--model", OPTION_TEXT, "NAME", "network that the weights are for (default: what the weights say; `dla models` lists all)", 0, 0}, \
    {"--config", OPTION_TEXT, "FILE", "your own network instead of a named one (see `dla info --print-config`)", 0, 0}, \
    {"--weights", OPTION_TEXT, "FILE", "trained weights: a file, hf-hub:NAME or local-dir:FOLDER (default: the built-in network)", 0, 0}
#define OPTION_ROWS_PREPROCESSING \
    {"--size", OPTION_INTEGER, "N", "side of the network's input in pixels (default: what the weights say)", 32, 4096}, \
    {"--crop-pct", OPTION_NUMBER, "F", "part of the shorter side that the crop keeps (default: what the weights say)", 0.05, 1}, \
    {"--interpolation", OPTION_CHOICE, "bilinear|bicubic", "how photographs are resized (default: what the weights say)", 0, 0}, \
    {"--no-exif", OPTION_FLAG, NULL, "ignore the orientation in EXIF data", 0, 0}
#define OPTION_ROW_EXACT \
    {"--exact", OPTION_FLAG, NULL, "only kernels that add as a direct convolution does (no Winograd)", 0, 0}
#define OPTION_ROW_TUNE \
    {"--tune", OPTION_CHOICE, "auto|always|never", "choose kernels by the times remembered here, by measuring anew, by estimates", 0, 0}
#define OPTION_ROW_DEVICE \
    {"--device", OPTION_CHOICE, "cpu|cuda", "where the network runs: cuda is an NVIDIA GPU (default cpu)", 0, 0}
#define OPTION_ROWS_DEVICE \
    OPTION_ROW_DEVICE, \
    {"--precision", OPTION_CHOICE, "float32|tf32|float16|bfloat16", "of maps, weights and products on a GPU (default float32)", 0, 0}
/* clang-format on */

/* For commands with OPTION_ROW_DEVICE. */
dla_device chosen_device(const struct arguments *arguments);

/* For commands with OPTION_ROWS_DEVICE: both, where they fit together. Returns the exit status, after one line on stderr if it is not
 * EXIT_SUCCESS. */
int choose_device(const struct arguments *arguments, dla_device *device, dla_precision *precision);

int fail_with_cpu_precision(const char *precision);   /* what it says where they do not */

const char *precision_name(dla_precision precision);

/* The precision called by the `length` bytes of `name`; false: there is none. */
bool precision_of_name(const char *name, size_t length, dla_precision *precision);

/* For commands with OPTION_ROW_TUNE: what it says; `fallback` stands for auto. */
dla_tune chosen_tune(const struct arguments *arguments, dla_tune fallback);

/* For commands with OPTION_ROWS_MODEL: opens the model. Returns the exit status, after one line on stderr if it is not EXIT_SUCCESS. */
int open_model(const struct arguments *arguments, dla_model **model);

int open_model_for(const struct arguments *arguments, dla_task task, dla_model **model);   /* `task`: which built-in network */

/* For commands with OPTION_ROWS_PREPROCESSING: the model's preprocessing with what the options change. --no-exif is not in it. */
dla_preprocessing chosen_preprocessing(const struct arguments *arguments, const dla_model *model);

/* For commands that have --threads, --batch, --exact, --device, --precision, too. `preprocessing` must outlive the result. Returns the
 * exit status as above. */
int choose_classifier_options(const struct arguments *arguments, const dla_preprocessing *preprocessing, dla_classifier_options *options);

#endif
