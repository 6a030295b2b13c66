/* loader.h - batches of augmented photographs, made ahead by background threads.
 *
 * The list of what to load is laid down batch by batch by the one who trains (loader_request); threads decode and augment
 * sample by sample, and loader_next waits for the oldest batch to be complete. What a sample looks like depends on its key
 * alone. A photograph that cannot be read is reported once and its place is taken by another one, the same every time; a
 * file of labels that does not fit its photograph ends the work.
 */
#ifndef DLA_TRAIN_LOADER_H
#define DLA_TRAIN_LOADER_H

#include "tasks/dense_target.h"
#include "train/augment_dense.h"
#include "train/dataset.h"
#include "train/photo_cache.h"

struct loader_options {
    const struct sample_list *samples;
    const dla_augmentation *augmentation;
    int batch, size; /* size: the largest that is asked for */
    float mean[3], std[3];
    int threads;              /* background threads, at least 1 */
    bool cache;               /* keep decoded photographs in memory */
    struct photo_cache *disk; /* keep them there, too; NULL: nowhere */
    bool reduced; /* decode large JPEGs at a fraction of their size where the crop stays larger than the image; not what is kept */
    const struct dense_augmentation *dense;    /* samples have targets; NULL: they have labels */
    const struct dense_target_options *target; /* with dense: how these are read */
};

struct loaded_batch {
    float *inputs; /* (batch, size, size, 3), of the size asked for */
    int *labels;   /* (batch) */
    uint8_t *maps; /* (batch, size, size): with dense, a class for every pixel, or TARGET_IGNORED */
};

enum { LOADER_DEPTH = 3 }; /* batches in memory: one in use, the others being filled */

struct loader;

dla_status loader_create(const struct loader_options *options, struct loader **loader);
void loader_destroy(struct loader *loader);

/* Asks for one more batch, size x size: sample indices[i] under keys[i]. At most LOADER_DEPTH - 1 batches may be outstanding. */
void loader_request(struct loader *loader, const size_t *indices, const uint64_t *keys, int size);

/* The oldest batch asked for; valid until the next call of loader_next. DLA_ERROR_NOT_FOUND where no photograph can be read. */
dla_status loader_next(struct loader *loader, const struct loaded_batch **batch);

/* A photograph found unreadable since the last call, as a message (path, reason and consequence) to be memory_freed; NULL: none. */
char *loader_take_problem(struct loader *loader);
size_t loader_problem_count(struct loader *loader);

#endif
