/* image_check.h - what the tests of pictures share: fixture files, hashes, lists of expectations. */
#ifndef DLA_TESTS_IMAGE_CHECK_H
#define DLA_TESTS_IMAGE_CHECK_H

#include "base/file.h"
#include "weights_check.h"

#include <inttypes.h>

#define IMAGES TEST_DATA "/images/"

/* FNV-1a, as tools/make_image_fixtures.py computes it. */
static inline uint64_t hash_bytes(const uint8_t *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

/* A copy in memory of exactly its size, so that AddressSanitizer sees a read behind it. */
static inline uint8_t *read_fixture(const char *name, size_t *size)
{
    char path[512];
    struct mapped_file file;

    snprintf(path, sizeof path, IMAGES "%s", name);
    assert_ok(file_map(path, &file));
    uint8_t *bytes = malloc(file.size);
    memcpy(bytes, file.bytes, file.size);
    *size = file.size;
    file_unmap(&file);
    return bytes;
}

static inline FILE *open_list(const char *name)
{
    char path[512];

    snprintf(path, sizeof path, IMAGES "%s", name);
    FILE *list = fopen(path, "r");
    assert_non_null(list);
    return list;
}

#endif
