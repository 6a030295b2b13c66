/* model_card.h - what accompanies weights: which network they are for, its labels, its preprocessing.
 *
 * It travels in a safetensors file's metadata (docs/weights.md), or in a Hugging Face config.json beside the weights. Both have
 * the same content in slightly different clothes.
 */
#ifndef DLA_TASKS_MODEL_CARD_H
#define DLA_TASKS_MODEL_CARD_H

#include "base/arena.h"
#include "weights/tensor_file.h"

enum { CLASSES_NOT_SAID = -1 };

struct model_card {
    struct arena arena; /* owns the texts */
    const char *source; /* "metadata", or the path of the config.json; NULL: there is no card */
    bool has_architecture;
    dla_architecture architecture; /* num_classes may be CLASSES_NOT_SAID; valid where has_architecture */
    int num_classes;               /* or CLASSES_NOT_SAID */
    bool has_preprocessing;
    dla_preprocessing preprocessing;
    const char **labels, **wnids; /* class_names_count each, in the order of the outputs; each may be NULL */
    int label_count, wnid_count;  /* 0 where NULL */
};

/* From the file's metadata; where that says nothing, from config.json in the folder of file->path, if there is one.
 * A file without either gives an empty card and DLA_OK. */
dla_status model_card_read(const struct tensor_file *file, struct model_card *card);
void model_card_free(struct model_card *card);

/* From the text of a config.json (`origin` names it in messages). */
dla_status model_card_parse_config(const char *json, size_t length, const char *origin, struct model_card *card);

/* The metadata entries that say the same, for a file about to be written; the arena's. `labels` and `wnids` may be NULL,
 * `preprocessing` too. */
dla_status model_card_to_metadata(const dla_architecture *architecture, const dla_preprocessing *preprocessing, const char *const *labels,
                                  const char *const *wnids, struct arena *arena, struct metadata_entry **entries, int *entry_count);

#endif
