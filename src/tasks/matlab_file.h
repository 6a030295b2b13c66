/* matlab_file.h - boundary annotations out of MATLAB 5 files, as BSDS500 ships them.
 *
 * Such a file holds one variable `groundTruth`, a cell array with one struct an annotator, whose field `Boundaries` is a
 * matrix that is non-zero on the boundaries the annotator drew.
 */
#ifndef DLA_TASKS_MATLAB_FILE_H
#define DLA_TASKS_MATLAB_FILE_H

#include "base/arena.h"

#include <dla/dla.h>

struct boundary_annotations {
    struct arena arena;              /* owns the maps */
    int height, width;
    int annotator_count;
    uint8_t **maps;                  /* annotator_count x (height, width), 1 on a boundary, else 0 */
};

/* Reads all annotators' maps. DLA_ERROR_FORMAT names what is wrong and at which byte. */
dla_status boundary_annotations_read(const char *path, struct boundary_annotations *annotations);

/* The same from memory; `origin` names the bytes in messages. */
dla_status boundary_annotations_parse(const uint8_t *bytes, size_t size, const char *origin, struct boundary_annotations *annotations);

void boundary_annotations_free(struct boundary_annotations *annotations);

#endif
