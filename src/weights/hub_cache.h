/* hub_cache.h - the folder in which Hugging Face's tools keep what they downloaded; ours and theirs share it.
 *
 *     CACHE/models--timm--dla34.in1k/refs/main                            the commit that `main` was, as text
 *                                    snapshots/COMMIT/model.safetensors   a link to ../../blobs/CHECKSUM
 *                                    blobs/CHECKSUM                       the file
 *                                    blobs/CHECKSUM.incomplete            the file as far as it was downloaded
 *     CACHE/.locks/models--timm--dla34.in1k/CHECKSUM.lock                 held while a blob is written
 *
 * CACHE is $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
 */
#ifndef DLA_WEIGHTS_HUB_CACHE_H
#define DLA_WEIGHTS_HUB_CACHE_H

#include "base/arena.h"

#include <dla/dla.h>

enum { HUB_MOST_NAME_BYTES = 96, HUB_MOST_CHECKSUM_BYTES = 128 };

struct hub_repository {
    char name[HUB_MOST_NAME_BYTES + 1];     /* "timm/dla34.in1k" */
    char revision[HUB_MOST_NAME_BYTES + 1]; /* "main" */
    const char *folder;                     /* CACHE/models--timm--dla34.in1k; the arena's */
    const char *locks;                      /* CACHE/.locks/models--timm--dla34.in1k; the arena's */
};

/* From "timm/dla34.in1k", "timm/dla34.in1k@revision" or a name of the zoo, which means timm's weights for it. revision wins
 * over what the name says; NULL: "main". Nothing touches the disk. */
dla_status hub_repository_parse(const char *name, const char *revision, struct arena *arena, struct hub_repository *repository);

/* The files of the revision that the cache holds. DLA_ERROR_NOT_FOUND without weights. Texts are the arena's. */
struct hub_snapshot {
    const char *commit;
    const char *weights, *config; /* paths; config NULL where the repository has none */
};
dla_status hub_cache_find(const struct hub_repository *repository, struct arena *arena, struct hub_snapshot *snapshot);

/* Names under which weights are looked for, best first; ends with NULL. */
extern const char *const hub_weights_names[];
extern const char hub_config_name[];

/* Whether a text may become the name of a file: letters, digits, '.', '_', '-', and no leading dot. */
bool hub_name_is_safe(const char *name);

/* blobs/CHECKSUM of the repository, and the link to it under snapshots/COMMIT/FILE, replaced if there is one. */
char *hub_blob_path(const struct hub_repository *repository, const char *checksum, struct arena *arena);
dla_status hub_cache_link(const struct hub_repository *repository, const char *commit, const char *file, const char *checksum,
                          struct arena *arena, const char **path);

/* Notes that the revision is this commit, unless it is one itself. */
dla_status hub_cache_set_reference(const struct hub_repository *repository, const char *commit, struct arena *arena);

/* HF_HUB_OFFLINE is set to something that means yes. */
bool hub_is_offline(void);

/* The folder that HF_HOME means. NULL where there is not even a home. */
char *hub_home(struct arena *arena);

#endif
