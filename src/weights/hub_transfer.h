/* hub_transfer.h - the two requests that the hub is asked: what is this file now, and give me its bytes from here on. */
#ifndef DLA_WEIGHTS_HUB_TRANSFER_H
#define DLA_WEIGHTS_HUB_TRANSFER_H

#include "weights/hub_cache.h"

struct hub_remote_file {
    char checksum[HUB_MOST_CHECKSUM_BYTES + 1]; /* its etag: SHA-256 in hexadecimal for large files, git's SHA-1 for small ones */
    char commit[HUB_MOST_CHECKSUM_BYTES + 1];
    int64_t size; /* -1: not said */
};

/* Asks for a file's state. DLA_ERROR_NOT_FOUND where the repository has no such file. */
dla_status hub_transfer_head(const struct hub_repository *repository, const char *revision, const char *file,
                             struct hub_remote_file *remote);

/* Appends to the open file what it lacks of the remote one, starting anew where the server cannot go on. Broken transfers are
 * taken up again a few times. */
dla_status hub_transfer_get(const struct hub_repository *repository, const char *revision, const char *file,
                            const struct hub_remote_file *remote, int descriptor, const dla_pull_options *options);

/* Compares a file with the checksum that the hub gave; DLA_ERROR_FORMAT where they differ. */
dla_status hub_verify(const char *path, const char *checksum);

#endif
