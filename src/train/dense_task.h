/* dense_task.h - what a run that trains a class for every pixel has beside the rest: recipe, targets, augmentation, class weights. */
#ifndef DLA_TRAIN_DENSE_TASK_H
#define DLA_TRAIN_DENSE_TASK_H

#include "tasks/dense_target.h"
#include "train/augment_dense.h"
#include "train/dataset.h"

struct dense_task {
    dla_dense_recipe recipe;
    struct dense_target_options target;
    struct dense_augmentation augmentation;
    float *class_weights; /* (classes) */
};

/* Checks the options of such a run, opens its data. options must outlive the task. */
dla_status dense_task_open(const char *data, const dla_train_options *options, struct dense_task *task, struct dataset *dataset);
void dense_task_close(struct dense_task *task);

#endif
