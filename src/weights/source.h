/* source.h - what may be written where a weights file is expected. */
#ifndef DLA_WEIGHTS_SOURCE_H
#define DLA_WEIGHTS_SOURCE_H

#include <dla/dla.h>

/* The path behind  hf-hub:owner/name[@revision]  (from the cache, else downloaded),  local-dir:FOLDER  (the weights in it),
 * or any other text, which is a path itself. *path: memory_free. */
dla_status weights_source_resolve(const char *source, char **path);

#endif
