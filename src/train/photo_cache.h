/* photo_cache.h - decoded photographs in one file on disk, for sets that are read many times and do not fit into memory.
 *
 * The file is a row of records, each a header (which photograph, by its path, size and time of change; height and width) and
 * the pixels, 8-bit RGB. Records are only ever added; a record that a kill cut short ends the file for the next run, which goes
 * on from there. A photograph that changed since is not found, and comes in again.
 */
#ifndef DLA_TRAIN_PHOTO_CACHE_H
#define DLA_TRAIN_PHOTO_CACHE_H

#include "train/dataset.h"

struct photo_cache;

/* Opens or makes the file. DLA_ERROR_FORMAT where it is something else, DLA_ERROR_ARGUMENT where another run has it open.
 * `samples` must outlive the cache. */
dla_status photo_cache_open(const char *path, const struct sample_list *samples, struct photo_cache **cache);
void photo_cache_close(struct photo_cache *cache);

/* The photograph of a sample, the caller's; NULL where it is not there. Any thread. */
dla_image *photo_cache_get(struct photo_cache *cache, size_t sample);

/* Adds it. A full disk ends the adding, and nothing else: false the one time that happens, with a message set. Any thread. */
bool photo_cache_put(struct photo_cache *cache, size_t sample, const dla_image *image);

#endif
