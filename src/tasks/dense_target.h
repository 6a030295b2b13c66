/* dense_target.h - what is known of a photograph's pixels, whatever file it comes from: a class, or nothing.
 *
 * Segmentation: a PNG whose numbers are the classes. Boundaries: a MATLAB 5 file of several annotators, of which one map is made:
 * a pixel is a boundary (class 1) where at least `annotators` of them drew one, as in Xie and Tu's HED; where fewer did, it
 * does not count; where nobody did, it is none (class 0).
 */
#ifndef DLA_TASKS_DENSE_TARGET_H
#define DLA_TASKS_DENSE_TARGET_H

#include "image/label_map.h"

enum { TARGET_IGNORED = 255, TARGET_MOST_CLASSES = 255 };

struct dense_target_options {
    dla_task task;
    int classes;    /* 0: any label is taken */
    int ignore;     /* label that does not count, -1: none */
    int annotators; /* boundaries */
};

/* labels: (height, width) of the photograph, each a class or TARGET_IGNORED. A map of another size than the photograph's and a
 * label that is no class are DLA_ERROR_MISMATCH, named with the place. */
dla_status dense_target_read(const struct dense_target_options *options, const char *path, const char *photograph, int height, int width,
                             struct label_map *target);

#endif
