/* weights_fetch.h - downloads with a progress bar, for --weights hf-hub:NAME and for `dla pull`. */
#ifndef DLA_CLI_WEIGHTS_FETCH_H
#define DLA_CLI_WEIGHTS_FETCH_H

#include "command.h"

#include <dla/dla.h>

/* Where `source` starts with hf-hub: and the cache lacks it, downloads it, so that opening it finds it there. Anything else,
 * and NULL, is fine as it is. Returns the exit status, after one line on stderr if it is not EXIT_SUCCESS. */
int fetch_weights(const char *source);

/* dla_hub_pull with a progress bar. revision may be NULL. */
dla_status pull_with_progress(const char *name, const char *revision, bool prefer_cache, dla_pulled *pulled);

#endif
