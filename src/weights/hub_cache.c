/* hub_cache.c - names of repositories, and the folders in which their files are kept. */
#include "weights/hub_cache.h"

#include "base/file.h"
#include "base/folder.h"
#include "base/memory.h"
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const hub_weights_names[] = {"model.safetensors", "pytorch_model.bin", NULL};
const char hub_config_name[] = "config.json";

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

bool hub_name_is_safe(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && name[strspn(name, letters)] == '\0';
}

/* ---- environment ------------------------------------------------------------------------------------------------------- */

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool hub_is_offline(void)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *value = environment("HF_HUB_OFFLINE");

    for (size_t i = 0; value != NULL && i < sizeof(yes) / sizeof(yes[0]); i++)
        if (strcasecmp(value, yes[i]) == 0)
            return true;
    return false;
}

char *hub_home(struct arena *arena)
{
    if (environment("HF_HOME") != NULL)
        return arena_copy_string(arena, environment("HF_HOME"));
    if (environment("XDG_CACHE_HOME") != NULL)
        return arena_format(arena, "%s/huggingface", environment("XDG_CACHE_HOME"));
    return environment("HOME") != NULL ? arena_format(arena, "%s/.cache/huggingface", environment("HOME")) : NULL;
}

static char *cache_folder(struct arena *arena)
{
    if (environment("HF_HUB_CACHE") != NULL)
        return arena_copy_string(arena, environment("HF_HUB_CACHE"));
    const char *home = hub_home(arena);
    return home != NULL ? arena_format(arena, "%s/hub", home) : NULL;
}

/* ---- repositories ------------------------------------------------------------------------------------------------------ */

/* A revision may have slashes (refs/pr/1), each part a safe name. */
static bool revision_is_safe(const char *revision)
{
    char part[HUB_MOST_NAME_BYTES + 1];

    for (;;) {
        size_t length = strcspn(revision, "/");
        if (length >= sizeof(part))
            return false;
        memcpy(part, revision, length);
        part[length] = '\0';
        if (!hub_name_is_safe(part))
            return false;
        if (revision[length] == '\0')
            return true;
        revision += length + 1;
    }
}

/* "owner/name", both safe: nothing that could leave the cache's folder or the hub's path. */
static bool split_name(const char *name, char owner[HUB_MOST_NAME_BYTES + 1], char repository[HUB_MOST_NAME_BYTES + 1])
{
    size_t length = strcspn(name, "/");

    if (name[length] != '/' || strlen(name) > HUB_MOST_NAME_BYTES)
        return false;
    memcpy(owner, name, length);
    owner[length] = '\0';
    strcpy(repository, name + length + 1);
    return hub_name_is_safe(owner) && hub_name_is_safe(repository);
}

dla_status hub_repository_parse(const char *name, const char *revision, struct arena *arena, struct hub_repository *repository)
{
    char owner[HUB_MOST_NAME_BYTES + 1], own_name[HUB_MOST_NAME_BYTES + 1];
    struct hub_repository parsed = {0};
    const char *at = strchr(name, '@');
    size_t length = at != NULL ? (size_t)(at - name) : strlen(name);
    dla_architecture architecture;

    if (revision == NULL)
        revision = at != NULL ? at + 1 : "main";
    if (length > HUB_MOST_NAME_BYTES || strlen(revision) > HUB_MOST_NAME_BYTES || !revision_is_safe(revision))
        return status_set(DLA_ERROR_ARGUMENT, "'%.200s' names no repository of the hub; give owner/name or owner/name@revision", name);
    memcpy(parsed.name, name, length);
    strcpy(parsed.revision, revision);
    if (strchr(parsed.name, '/') == NULL) {
        dla_status status = dla_architecture_find(parsed.name, &architecture);
        if (status != DLA_OK)
            return status_prefix(status, "not owner/name, and not a network's name: ");
        snprintf(parsed.name, sizeof(parsed.name), "timm/%s.in1k", architecture.name);
    }
    if (!split_name(parsed.name, owner, own_name))
        return status_set(DLA_ERROR_ARGUMENT, "'%.200s' names no repository of the hub; give owner/name or owner/name@revision", name);

    const char *cache = cache_folder(arena);
    if (cache == NULL)
        return status_set(DLA_ERROR_NOT_FOUND, "no folder for downloads: none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set");
    parsed.folder = arena_format(arena, "%s/models--%s--%s", cache, owner, own_name);
    parsed.locks = arena_format(arena, "%s/.locks/models--%s--%s", cache, owner, own_name);
    if (parsed.folder == NULL || parsed.locks == NULL)
        return status_out_of_memory(strlen(cache), "a path");
    *repository = parsed;
    return DLA_OK;
}

/* ---- finding ----------------------------------------------------------------------------------------------------------- */

static bool is_commit(const char *revision)
{
    return strlen(revision) == 40 && strspn(revision, "0123456789abcdef") == 40;
}

/* The commit that a revision was when it was last downloaded. */
static dla_status read_reference(const struct hub_repository *repository, struct arena *arena, const char **commit)
{
    enum { MOST_BYTES = 256 };
    char *text;
    size_t length;

    if (is_commit(repository->revision)) {
        *commit = repository->revision;
        return DLA_OK;
    }
    const char *path = arena_format(arena, "%s/refs/%s", repository->folder, repository->revision);
    if (path == NULL)
        return status_out_of_memory(strlen(repository->folder), "a path");
    dla_status status = file_read_text(path, MOST_BYTES, &text, &length);
    if (status != DLA_OK)
        return status;
    text[strcspn(text, "\r\n")] = '\0';
    *commit = hub_name_is_safe(text) ? arena_copy_string(arena, text) : NULL;
    memory_free(text);
    return *commit != NULL ? DLA_OK : status_set(DLA_ERROR_FORMAT, "%s: does not hold a commit", path);
}

/* The file of the snapshot, or NULL. */
static const char *file_in_snapshot(const struct hub_repository *repository, const char *commit, const char *name, struct arena *arena)
{
    const char *path = arena_format(arena, "%s/snapshots/%s/%s", repository->folder, commit, name);
    return path != NULL && access(path, R_OK) == 0 ? path : NULL;
}

dla_status hub_cache_find(const struct hub_repository *repository, struct arena *arena, struct hub_snapshot *snapshot)
{
    struct hub_snapshot found = {0};

    if (read_reference(repository, arena, &found.commit) == DLA_OK) {
        for (size_t i = 0; hub_weights_names[i] != NULL && found.weights == NULL; i++)
            found.weights = file_in_snapshot(repository, found.commit, hub_weights_names[i], arena);
        found.config = file_in_snapshot(repository, found.commit, hub_config_name, arena);
    }
    if (found.weights == NULL)
        return status_set(DLA_ERROR_NOT_FOUND, "%s: no weights of %s in the cache; `dla pull %s` downloads them", repository->folder,
                          repository->revision, repository->name);
    *snapshot = found;
    return DLA_OK;
}

/* ---- storing ----------------------------------------------------------------------------------------------------------- */

/* Makes the folders above a file. */
static dla_status make_folders_above(const char *path, struct arena *arena)
{
    const char *slash = strrchr(path, '/');
    const char *folder = slash != NULL ? arena_format(arena, "%.*s", (int)(slash - path), path) : NULL;
    return folder != NULL ? folder_make(folder) : DLA_OK;
}

char *hub_blob_path(const struct hub_repository *repository, const char *checksum, struct arena *arena)
{
    return arena_format(arena, "%s/blobs/%s", repository->folder, checksum);
}

dla_status hub_cache_link(const struct hub_repository *repository, const char *commit, const char *file, const char *checksum,
                          struct arena *arena, const char **path)
{
    const char *link = arena_format(arena, "%s/snapshots/%s/%s", repository->folder, commit, file);
    const char *temporary = arena_format(arena, "%s/snapshots/%s/.%s.%ld", repository->folder, commit, file, (long)getpid());
    const char *target = arena_format(arena, "../../blobs/%s", checksum);
    dla_status status;

    if (link == NULL || temporary == NULL || target == NULL)
        return status_out_of_memory(strlen(repository->folder), "a path");
    if ((status = make_folders_above(link, arena)) != DLA_OK)
        return status;
    unlink(temporary);
    if (symlink(target, temporary) != 0)
        return status_from_errno(link, "link to the download");
    if (rename(temporary, link) != 0) {
        status = status_from_errno(link, "link to the download");
        unlink(temporary);
        return status;
    }
    *path = link;
    return DLA_OK;
}

dla_status hub_cache_set_reference(const struct hub_repository *repository, const char *commit, struct arena *arena)
{
    const char *path = arena_format(arena, "%s/refs/%s", repository->folder, repository->revision);
    dla_status status;

    if (is_commit(repository->revision))
        return DLA_OK;
    if (path == NULL)
        return status_out_of_memory(strlen(repository->folder), "a path");
    if ((status = make_folders_above(path, arena)) != DLA_OK)
        return status;
    return file_write(path, commit, strlen(commit));
}
