/* paired_files.h - files of two folders that belong together by name: predictions and their ground truth. */
#ifndef DLA_TASKS_PAIRED_FILES_H
#define DLA_TASKS_PAIRED_FILES_H

#include "base/arena.h"

#include <dla/dla.h>

struct file_pair { const char *prediction, *truth; };   /* paths */

struct file_pairs {
    struct arena arena;
    struct file_pair *pairs;
    size_t count;
};

/* Pairs predictions/NAME<prediction_suffix> with truth/NAME<truth_suffix>, sorted by name. Other files are ignored; a file
 * without its partner is DLA_ERROR_MISMATCH, two empty folders DLA_ERROR_NOT_FOUND. */
dla_status file_pairs_read(const char *predictions, const char *prediction_suffix, const char *truth, const char *truth_suffix,
                           struct file_pairs *pairs);
void file_pairs_free(struct file_pairs *pairs);

/* Scores pair after pair on several threads. `function` is called with the index of a pair and may run on any thread; the
 * first failure, or the progress function's wish, stops the rest. */
typedef dla_status score_pair(void *context, size_t index);
dla_status file_pairs_score(size_t count, score_pair *function, void *context, const dla_score_options *options);

#endif
