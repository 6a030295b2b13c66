/* segmentation_score.h - from a confusion matrix to the scores that are made of it. */
#ifndef DLA_TASKS_SEGMENTATION_SCORE_H
#define DLA_TASKS_SEGMENTATION_SCORE_H

#include <dla/dla.h>

/* Fills mean_iou, pixel_accuracy and class_accuracy from classes and confusion. */
void segmentation_summarise(dla_segmentation_scores *scores);

#endif
