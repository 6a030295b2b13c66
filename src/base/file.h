/* file.h - reading files by mapping them, writing them so that nothing is ever half-written. */
#ifndef DLA_BASE_FILE_H
#define DLA_BASE_FILE_H

#include <dla/dla.h>

struct mapped_file {
    const uint8_t *bytes;     /* NULL for an empty file */
    size_t size;
};

/* Maps a regular file read-only; folders, devices and missing files are errors that name the path. */
dla_status file_map(const char *path, struct mapped_file *file);
void file_unmap(struct mapped_file *file);

/* Reads a whole small text file, at most max_bytes; *text ends in a NUL that *length does not count; memory_free(). */
dla_status file_read_text(const char *path, size_t max_bytes, char **text, size_t *length);

/* A file that appears under its name only when complete: written to a temporary beside it, fsynced, renamed. */
struct atomic_file;
dla_status atomic_file_open(const char *path, struct atomic_file **file);
dla_status atomic_file_write(struct atomic_file *file, const void *bytes, size_t size);
dla_status atomic_file_commit(struct atomic_file *file);    /* frees the file in any case */
void atomic_file_discard(struct atomic_file *file);         /* removes the temporary; accepts NULL */

dla_status file_write(const char *path, const void *bytes, size_t size);   /* all of it, atomically */

#endif
