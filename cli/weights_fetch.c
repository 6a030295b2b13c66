/* weights_fetch.c - downloads with a progress bar. */
#include "weights_fetch.h"

#include "progress.h"

#include <stdlib.h>
#include <string.h>

static bool show_progress(void *context, const char *file, int64_t done, int64_t total)
{
    enum { MEGABYTE = 1000000 };

    (void)context;
    (void)file;
    if (total >= MEGABYTE)
        progress_update(done / MEGABYTE, total / MEGABYTE);
    return true;
}

dla_status pull_with_progress(const char *name, const char *revision, bool prefer_cache, dla_pulled *pulled)
{
    dla_pull_options options = DLA_PULL_OPTIONS_INIT;

    options.revision = revision;
    options.prefer_cache = prefer_cache;
    options.progress = show_progress;
    progress_start("MB");
    dla_status status = dla_hub_pull(name, &options, pulled);
    progress_finish();
    return status;
}

int fetch_weights(const char *source)
{
    static const char *const prefixes[] = {"hf-hub:", "hf_hub:"};
    dla_pulled pulled = {0};

    for (size_t i = 0; source != NULL && i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (strncmp(source, prefixes[i], strlen(prefixes[i])) != 0)
            continue;
        if (pull_with_progress(source + strlen(prefixes[i]), NULL, true, &pulled) != DLA_OK)
            return fail_with_library_error();
        dla_pulled_clear(&pulled);
    }
    return EXIT_SUCCESS;
}
