/* file.c - files read by mapping, written by rename.
 *
 * A file is written as "<path>.<process>.<number>.tmp" in the same folder, so that the final rename stays within one file
 * system and is atomic. Whatever fails, the temporary is removed and a file that stood under the name before is untouched.
 * A name that stands for a device or a pipe (/dev/stdout, say) cannot be replaced and is written to directly.
 */
#include "base/file.h"
#include "base/memory.h"

#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

/* Opens a regular file and tells its size. Without O_NONBLOCK a named pipe would wait for its writer before we could refuse it. */
static dla_status open_regular_file(const char *path, int *result, size_t *size)
{
    struct stat information;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (descriptor < 0)
        return status_from_errno(path, "open");
    dla_status status = DLA_OK;
    if (fstat(descriptor, &information) != 0)
        status = status_from_errno(path, "examine");
    else if (S_ISDIR(information.st_mode))
        status = status_set(DLA_ERROR_IO, "%s: is a folder, a file is needed", path);
    else if (!S_ISREG(information.st_mode))
        status = status_set(DLA_ERROR_IO, "%s: is not a regular file", path);
    else if ((uintmax_t)information.st_size > SIZE_MAX)
        status = status_set(DLA_ERROR_LIMIT, "%s: %lld bytes do not fit into the address space", path, (long long)information.st_size);
    if (status != DLA_OK) {
        close(descriptor);
        return status;
    }
    *result = descriptor;
    *size = (size_t)information.st_size;
    return DLA_OK;
}

dla_status file_map(const char *path, struct mapped_file *file)
{
    int descriptor = -1;
    size_t size = 0;
    dla_status status = open_regular_file(path, &descriptor, &size);

    if (status != DLA_OK)
        return status;
    void *bytes = NULL;
    if (size > 0) {
        bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (bytes == MAP_FAILED)
            status = status_from_errno(path, "map");
    }
    close(descriptor);
    if (status == DLA_OK)
        *file = (struct mapped_file){.bytes = bytes, .size = size};
    return status;
}

void file_unmap(struct mapped_file *file)
{
    if (file->bytes != NULL)
        munmap((void *)(uintptr_t)file->bytes, file->size);
    *file = (struct mapped_file){0};
}

dla_status file_read_text(const char *path, size_t max_bytes, char **text, size_t *length)
{
    int descriptor = -1;
    size_t size = 0;
    dla_status status = open_regular_file(path, &descriptor, &size);
    char *buffer = NULL;

    if (status != DLA_OK)
        return status;
    if (size > max_bytes) {
        status = status_set(DLA_ERROR_LIMIT, "%s: %zu bytes; at most %zu are read", path, size, max_bytes);
        goto out;
    }
    buffer = memory_allocate(size + 1);
    if (buffer == NULL) {
        status = status_out_of_memory(size + 1, path);
        goto out;
    }
    size_t used = 0;
    while (used < size) {
        ssize_t count = read(descriptor, buffer + used, size - used);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            status = status_from_errno(path, "read");
            goto out;
        }
        if (count == 0)
            break; /* became shorter meanwhile */
        used += (size_t)count;
    }
    buffer[used] = '\0';
    *text = buffer;
    *length = used;
    buffer = NULL;

out:
    memory_free(buffer);
    close(descriptor);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------------------------------------- */

struct atomic_file {
    char *path;      /* the final one, links followed */
    char *temporary; /* NULL where path is a device or pipe and is written to directly */
    int descriptor;
};

static void release(struct atomic_file *file)
{
    if (file->descriptor >= 0)
        close(file->descriptor);
    memory_free(file->temporary);
    memory_free(file->path);
    memory_free(file);
}

/* Creates the temporary beside file->path; it gets the permissions that the file had before, or those of any new file. */
static dla_status create_temporary(struct atomic_file *file, const struct stat *before)
{
    static atomic_uint counter;
    size_t size = strlen(file->path) + 48;

    file->temporary = memory_allocate(size);
    if (file->temporary == NULL)
        return status_out_of_memory(size, file->path);
    do {
        snprintf(file->temporary, size, "%s.%ld.%u.tmp", file->path, (long)getpid(), atomic_fetch_add(&counter, 1));
        file->descriptor = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (file->descriptor < 0 && errno == EEXIST); /* left by a killed process with our number */
    if (file->descriptor < 0) {
        dla_status status = status_from_errno(file->path, "write");
        memory_free(file->temporary);
        file->temporary = NULL;
        return status;
    }
    if (before != NULL && fchmod(file->descriptor, before->st_mode & 07777) != 0) {
        /* On file systems without permissions there is nothing to keep. */
    }
    return DLA_OK;
}

dla_status atomic_file_open(const char *path, struct atomic_file **result)
{
    struct stat before;
    bool exists = stat(path, &before) == 0;
    dla_status status = DLA_OK;

    if (exists && S_ISDIR(before.st_mode))
        return status_set(DLA_ERROR_IO, "%s: is a folder, cannot be written as a file", path);
    struct atomic_file *file = memory_allocate_zeroed(1, sizeof(*file));
    if (file == NULL)
        return status_out_of_memory(sizeof(*file), path);
    file->descriptor = -1;
    file->path = exists ? realpath(path, NULL) : memory_copy_string(path);
    if (file->path == NULL && exists)
        file->path = memory_copy_string(path); /* /dev/stdout on a pipe has no path */
    if (file->path == NULL) {
        status = status_out_of_memory(strlen(path) + 1, path);
    } else if (exists && !S_ISREG(before.st_mode)) {
        file->descriptor = open(path, O_WRONLY | O_CLOEXEC);
        if (file->descriptor < 0)
            status = status_from_errno(path, "write");
    } else if (exists && access(path, W_OK) != 0) {
        status = status_from_errno(path, "write"); /* a rename would not ask whether the file itself may be changed */
    } else {
        status = create_temporary(file, exists ? &before : NULL);
    }
    if (status != DLA_OK) {
        release(file);
        return status;
    }
    *result = file;
    return DLA_OK;
}

dla_status atomic_file_write(struct atomic_file *file, const void *bytes, size_t size)
{
    const unsigned char *rest = bytes;

    while (size > 0) {
        ssize_t count = write(file->descriptor, rest, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return status_from_errno(file->path, "write");
        rest += count;
        size -= (size_t)count;
    }
    return DLA_OK;
}

/* Makes the rename itself survive a power failure. A folder that cannot be opened or synced is no reason to fail: the file is whole. */
static void sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? memory_copy_string(".") : slash == path ? memory_copy_string("/") : memory_copy_text(path, (size_t)(slash - path));

    if (folder == NULL)
        return;
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        fsync(descriptor);
        close(descriptor);
    }
    memory_free(folder);
}

dla_status atomic_file_commit(struct atomic_file *file)
{
    dla_status status = DLA_OK;

    if (file->temporary == NULL) {
        release(file);
        return DLA_OK;
    }
    if (fsync(file->descriptor) != 0)
        status = status_from_errno(file->path, "write");
    int closed = close(file->descriptor);
    file->descriptor = -1;
    if (status == DLA_OK && closed != 0)
        status = status_from_errno(file->path, "write");
    if (status == DLA_OK && rename(file->temporary, file->path) != 0)
        status = status_from_errno(file->path, "replace");
    if (status != DLA_OK) {
        atomic_file_discard(file);
        return status;
    }
    sync_folder_of(file->path);
    release(file);
    return DLA_OK;
}

void atomic_file_discard(struct atomic_file *file)
{
    if (file == NULL)
        return;
    if (file->temporary != NULL)
        unlink(file->temporary);
    release(file);
}

dla_status file_write(const char *path, const void *bytes, size_t size)
{
    struct atomic_file *file = NULL;
    dla_status status = atomic_file_open(path, &file);

    if (status != DLA_OK)
        return status;
    status = atomic_file_write(file, bytes, size);
    if (status != DLA_OK) {
        atomic_file_discard(file);
        return status;
    }
    return atomic_file_commit(file);
}
