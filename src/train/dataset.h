/* dataset.h - which photographs there are, of which class, and which of them are kept for validation.
 *
 * Three forms of a data set:
 *     DIR/<class>/photo.jpg              one folder a class (torchvision's ImageFolder); a share is held out for validation
 *     DIR/train/<class>/..., DIR/val/<class>/...    as above, with its own validation set
 *     LIST                               a text file, "path class" a line, paths relative to the file's folder
 * Classes are numbered in the byte order of their names. Which photographs are held out depends on their paths below DIR
 * alone: per class, the share with the smallest hash. So it does not change from run to run, nor when others are added.
 */
#ifndef DLA_TRAIN_DATASET_H
#define DLA_TRAIN_DATASET_H

#include "base/arena.h"

#include <dla/dla.h>

struct sample {
    const char *path;
    int label;
    const char *target; /* dense_dataset.h: the file with its pixels' labels; else NULL */
};

struct sample_list {
    struct sample *samples;
    size_t count;
};

struct dataset {
    struct arena arena;   /* owns everything */
    const char **classes; /* (class_count) names of folders, or in the list */
    int class_count;
    struct sample_list train, val; /* in the order of their paths */
};

/* validation: share of the photographs of each class to hold out, in [0, 1); ignored where the data set has its own. */
dla_status dataset_open(const char *path, double validation, struct dataset *dataset);
void dataset_close(struct dataset *dataset);

/* Moves floor(share * n) of each class's n photographs from train to val; root_length: what of their paths does not count. */
dla_status dataset_hold_out(struct dataset *dataset, double share, size_t root_length);

#endif
