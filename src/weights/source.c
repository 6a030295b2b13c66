/* source.c - hf-hub:, local-dir: and plain paths, the same prefixes as timm's. */
#include "weights/source.h"

#include "base/folder.h"
#include "base/memory.h"
#include "base/status.h"

#include <string.h>
#include <unistd.h>

static dla_status pull_weights(const char *name, char **path)
{
    dla_pull_options options = DLA_PULL_OPTIONS_INIT;
    dla_pulled pulled = {0};
    dla_status status;

    options.prefer_cache = true;
    if ((status = dla_hub_pull(name, &options, &pulled)) != DLA_OK)
        return status;
    *path = pulled.weights;
    pulled.weights = NULL;
    dla_pulled_clear(&pulled);
    return DLA_OK;
}

/* The usual names first, then the one file that looks like weights. */
static dla_status find_in_folder(const char *path, char **weights)
{
    static const char *const names[] = {"model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth", "model.pdparams"};
    static const char *const suffixes[] = {".safetensors", ".pth", ".bin", ".pt", ".pdparams"};
    struct folder folder = {0};
    const char *found = NULL;
    dla_status status = folder_read(path, &folder);

    if (status != DLA_OK)
        return status;
    for (size_t k = 0; k < sizeof(names) / sizeof(names[0]) && found == NULL; k++)
        for (size_t i = 0; i < folder.count && found == NULL; i++)
            if (!folder.entries[i].is_folder && strcmp(folder.entries[i].name, names[k]) == 0)
                found = folder.entries[i].path;
    for (size_t k = 0; k < sizeof(suffixes) / sizeof(suffixes[0]) && found == NULL; k++)
        for (size_t i = 0; i < folder.count && status == DLA_OK; i++) {
            const struct folder_entry *entry = &folder.entries[i];
            if (entry->is_folder || !name_has_suffix(entry->name, suffixes[k]))
                continue;
            if (found != NULL)
                status =
                    status_set(DLA_ERROR_ARGUMENT, "%s: several files could be the weights (%s); name one of them instead of the folder",
                               path, entry->name);
            found = entry->path;
        }
    if (status == DLA_OK && found == NULL)
        status = status_set(DLA_ERROR_NOT_FOUND, "%s: the folder has no weights (%s or another)", path, names[0]);
    if (status == DLA_OK && (*weights = memory_copy_string(found)) == NULL)
        status = status_out_of_memory(strlen(found), "a path");
    folder_free(&folder);
    return status;
}

dla_status weights_source_resolve(const char *source, char **path)
{
    static const char local[] = "local-dir:";
    static const char *const hub[] = {"hf-hub:", "hf_hub:"};

    if (strncmp(source, local, strlen(local)) == 0)
        return find_in_folder(source + strlen(local), path);
    for (size_t i = 0; i < sizeof(hub) / sizeof(hub[0]); i++)
        if (strncmp(source, hub[i], strlen(hub[i])) == 0)
            return pull_weights(source + strlen(hub[i]), path);
    *path = memory_copy_string(source);
    return *path != NULL ? DLA_OK : status_out_of_memory(strlen(source), "a path");
}
