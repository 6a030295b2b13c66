/* dense_dataset.h - the data set of photographs whose pixels are labelled. */
#ifndef DLA_TRAIN_DENSE_DATASET_H
#define DLA_TRAIN_DENSE_DATASET_H

#include "tasks/dense_target.h"
#include "train/dataset.h"

/* Data in the forms of tasks/dense_files.h: its splits train and val where it has them, else a share is held out. Every sample has
 * label 0. Classes come from recipe->class_names; without, there are as many as the largest label asks for, and they are
 * called "class 0", ... *target becomes what reads the samples' targets. */
dla_status dense_dataset_open(const char *path, dla_task task, const dla_dense_recipe *recipe, double validation, struct dataset *dataset,
                              struct dense_target_options *target);

#endif
