/* zip_directory.h - a zip archive in memory, its stored entries where they lie.
 *
 * PyTorch's checkpoints are zip archives whose entries are stored, not compressed, so that they can be mapped. Using them in
 * place needs the offset of an entry's bytes in the file, which libzip does not tell; hence the directory is read here.
 */
#ifndef DLA_WEIGHTS_ZIP_DIRECTORY_H
#define DLA_WEIGHTS_ZIP_DIRECTORY_H

#include "base/arena.h"

#include <dla/dla.h>

struct zip_entry {
    const char *name;     /* the arena's */
    const uint8_t *bytes; /* as they lie in the archive */
    size_t stored_size;   /* of these bytes */
    size_t size;          /* uncompressed */
    uint32_t crc;
    bool deflated;
    const uint8_t *unpacked; /* NULL: not yet, or never needed */
};

struct zip_directory {
    struct zip_entry *entries; /* sorted by name */
    size_t entry_count;
    size_t inflated; /* bytes unpacked so far, against the limit */
};

/* Reads the central directory (zip64, too) and checks it: every entry inside the archive, none overlapping another, names
 * unique, stored or deflated, not encrypted. */
dla_status zip_directory_read(const uint8_t *bytes, size_t size, struct arena *arena, struct zip_directory *directory);

struct zip_entry *zip_directory_find(const struct zip_directory *directory, const char *name); /* or NULL */

/* The entry's content: in the archive where it is stored, else unpacked into the arena and its checksum verified. */
dla_status zip_entry_content(struct zip_directory *directory, struct zip_entry *entry, struct arena *arena, const uint8_t **content);

#endif
