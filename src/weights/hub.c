/* hub.c - weights from the Hugging Face hub, into the cache that its own tools use.
 *
 * A pull asks for the revision's commit and for each file's checksum; a file that the cache has under that checksum is not
 * downloaded again. A download grows as blobs/CHECKSUM.incomplete, so that a broken one goes on where it stopped, is compared
 * with its checksum, and only then gets its name. One process at a time works on a blob.
 */
#include "base/folder.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "weights/hub_transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct pull {
    struct arena arena;
    struct hub_repository repository;
    const dla_pull_options *options;
    char commit[HUB_MOST_CHECKSUM_BYTES + 1]; /* "" until the first answer says it */
    int64_t downloaded;                       /* bytes */
};

static dla_status lock_blob(struct pull *pull, const char *checksum, int *lock)
{
    const char *path = arena_format(&pull->arena, "%s/%s.lock", pull->repository.locks, checksum);
    dla_status status;

    if (path == NULL)
        return status_out_of_memory(strlen(pull->repository.locks), "a path");
    if ((status = folder_make(pull->repository.locks)) != DLA_OK)
        return status;
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    while (*lock >= 0 && flock(*lock, LOCK_EX) != 0)
        if (errno != EINTR) {
            close(*lock);
            *lock = -1;
        }
    return *lock >= 0 ? DLA_OK : status_from_errno(path, "lock");
}

/* Completes blobs/CHECKSUM.incomplete, checks it and gives it its name. */
static dla_status download_blob(struct pull *pull, const char *file, const struct hub_remote_file *remote, const char *blob)
{
    const char *incomplete = arena_format(&pull->arena, "%s.incomplete", blob);
    struct stat before, after;
    int descriptor;
    dla_status status;

    if (incomplete == NULL)
        return status_out_of_memory(strlen(blob), "a path");
    if ((descriptor = open(incomplete, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0)
        return status_from_errno(incomplete, "write");
    if (fstat(descriptor, &before) != 0)
        status = status_from_errno(incomplete, "examine");
    else
        status = hub_transfer_get(&pull->repository, pull->commit, file, remote, descriptor, pull->options);
    if (status == DLA_OK && (fsync(descriptor) != 0 || fstat(descriptor, &after) != 0))
        status = status_from_errno(incomplete, "write");
    close(descriptor);
    if (status != DLA_OK)
        return status;
    pull->downloaded += after.st_size > before.st_size ? after.st_size - before.st_size : after.st_size;
    if ((status = hub_verify(incomplete, remote->checksum)) != DLA_OK) {
        unlink(incomplete); /* going on from damaged bytes would never end */
        return status;
    }
    return rename(incomplete, blob) == 0 ? DLA_OK : status_from_errno(blob, "name the download");
}

/* One file of the repository into the cache; *path is the link to it. */
static dla_status pull_file(struct pull *pull, const char *file, const char **path)
{
    struct hub_remote_file remote;
    struct stat info;
    int lock = -1;
    dla_status status;

    status = hub_transfer_head(&pull->repository, pull->commit[0] != '\0' ? pull->commit : pull->repository.revision, file, &remote);
    if (status != DLA_OK)
        return status;
    if (pull->commit[0] == '\0')
        strcpy(pull->commit, remote.commit);
    const char *blob = hub_blob_path(&pull->repository, remote.checksum, &pull->arena);
    const char *blobs = arena_format(&pull->arena, "%s/blobs", pull->repository.folder);
    if (blob == NULL || blobs == NULL)
        return status_out_of_memory(strlen(pull->repository.folder), "a path");
    if ((status = folder_make(blobs)) != DLA_OK || (status = lock_blob(pull, remote.checksum, &lock)) != DLA_OK)
        return status;
    if (stat(blob, &info) != 0 || (remote.size >= 0 && info.st_size != remote.size))
        status = download_blob(pull, file, &remote, blob);
    close(lock);
    if (status != DLA_OK)
        return status;
    return hub_cache_link(&pull->repository, pull->commit, file, remote.checksum, &pull->arena, path);
}

static dla_status pull_snapshot(struct pull *pull, struct hub_snapshot *snapshot)
{
    dla_status status = pull_file(pull, hub_config_name, &snapshot->config);

    if (status != DLA_OK && status != DLA_ERROR_NOT_FOUND)
        return status;
    for (size_t i = 0; hub_weights_names[i] != NULL; i++) {
        status = pull_file(pull, hub_weights_names[i], &snapshot->weights);
        if (status != DLA_ERROR_NOT_FOUND)
            break;
    }
    if (status == DLA_ERROR_NOT_FOUND)
        return status_set(DLA_ERROR_NOT_FOUND, "%s has neither %s nor %s on the hub", pull->repository.name, hub_weights_names[0],
                          hub_weights_names[1]);
    if (status != DLA_OK)
        return status;
    snapshot->commit = pull->commit;
    return hub_cache_set_reference(&pull->repository, pull->commit, &pull->arena);
}

static dla_status give_result(const struct pull *pull, const struct hub_snapshot *snapshot, dla_pulled *result)
{
    dla_pulled given = {
        .repository = memory_copy_string(pull->repository.name),
        .commit = memory_copy_string(snapshot->commit),
        .weights = memory_copy_string(snapshot->weights),
        .config = snapshot->config != NULL ? memory_copy_string(snapshot->config) : NULL,
        .downloaded = pull->downloaded,
    };
    if (given.repository == NULL || given.commit == NULL || given.weights == NULL || (given.config == NULL && snapshot->config != NULL)) {
        dla_pulled_clear(&given);
        return status_out_of_memory(1024, "the result of a pull");
    }
    *result = given;
    return DLA_OK;
}

dla_status dla_hub_pull(const char *name, const dla_pull_options *options, dla_pulled *result)
{
    dla_pull_options known = DLA_PULL_OPTIONS_INIT;
    struct pull pull = {.options = &known};
    struct hub_snapshot snapshot = {0};
    dla_status status;

    if ((status = options_take(&known, sizeof(known), options, "DLA_PULL_OPTIONS_INIT")) != DLA_OK)
        return status;
    if ((status = hub_repository_parse(name, known.revision, &pull.arena, &pull.repository)) != DLA_OK)
        goto out;
    if (hub_is_offline()) {
        if ((status = hub_cache_find(&pull.repository, &pull.arena, &snapshot)) != DLA_OK)
            status_prefix(status, "HF_HUB_OFFLINE is set: ");
    } else if (!known.prefer_cache || hub_cache_find(&pull.repository, &pull.arena, &snapshot) != DLA_OK) {
        status = pull_snapshot(&pull, &snapshot);
    }
    if (status == DLA_OK)
        status = give_result(&pull, &snapshot, result);
out:
    arena_free(&pull.arena);
    return status;
}

void dla_pulled_clear(dla_pulled *result)
{
    memory_free(result->repository);
    memory_free(result->commit);
    memory_free(result->weights);
    memory_free(result->config);
    *result = (dla_pulled){0};
}
