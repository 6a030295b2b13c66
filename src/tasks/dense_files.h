/* dense_files.h - photographs and what is known of their pixels: which files belong together.
 *
 * Two forms of data, both with the splits that people use (train, val, test):
 *
 *     DIR/train.txt                                    "photo target" a line, paths relative to DIR; also a list on its own
 *     DIR/images[/train]/NAME.jpg, DIR/labels[/train]/NAME.png         segmentation (or DIR/masks, DIR/annotations)
 *     DIR/images[/train]/NAME.jpg, DIR/groundTruth[/train]/NAME.mat    boundaries, as BSDS500 comes
 *
 * In folders every photograph needs its target and the reverse: data that lost half of its pairs are not trained on in silence.
 */
#ifndef DLA_TASKS_DENSE_FILES_H
#define DLA_TASKS_DENSE_FILES_H

#include "base/arena.h"

#include <dla/dla.h>

struct dense_file {
    const char *photograph, *target; /* paths */
};

struct dense_files {
    struct arena arena; /* owns the paths */
    struct dense_file *files;
    size_t count;
};

/* Whether data has a split of that name. */
bool dense_files_have_split(const char *data, dla_task task, const char *split);

/* data: a folder, or a list that ends in .txt. split: NULL for data without splits. At least one pair, else DLA_ERROR_NOT_FOUND;
 * a file without its partner is DLA_ERROR_MISMATCH and named. */
dla_status dense_files_read(const char *data, dla_task task, const char *split, struct dense_files *files);
void dense_files_free(struct dense_files *files);

#endif
