/* zip_making.h - zip archives with every lie that a test wants to tell. */
#ifndef DLA_TESTS_ZIP_MAKING_H
#define DLA_TESTS_ZIP_MAKING_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct zip_part {
    const char *name;
    const void *bytes;
    size_t size; /* of bytes as they are stored */
    /* What the directory claims, where it is not the truth: */
    int method; /* 8: deflated */
    int flags;
    uint32_t full_size; /* 0: size */
    uint32_t crc;
    int64_t header_shift;  /* added to the offset of the local header */
    uint32_t stored_shift; /* added to the stored size */
    uint8_t extra[32];     /* of the directory's record */
    size_t extra_bytes;
};

struct zip_bytes {
    uint8_t bytes[16384];
    size_t size;
    size_t directory; /* offset */
};

static inline void zip_put(struct zip_bytes *zip, uint64_t number, int width)
{
    for (int i = 0; i < width; i++)
        zip->bytes[zip->size++] = (uint8_t)(number >> (8 * i));
}

static inline void zip_put_bytes(struct zip_bytes *zip, const void *bytes, size_t size)
{
    if (size > 0)
        memcpy(zip->bytes + zip->size, bytes, size);
    zip->size += size;
}

static inline void zip_put_end(struct zip_bytes *zip, size_t count, size_t directory_bytes)
{
    zip_put(zip, 0x06054b50, 4);
    zip_put(zip, 0, 4);
    zip_put(zip, count, 2);
    zip_put(zip, count, 2);
    zip_put(zip, directory_bytes, 4);
    zip_put(zip, zip->directory, 4);
    zip_put(zip, 0, 2);
}

static inline void make_zip(const struct zip_part *parts, size_t count, struct zip_bytes *zip)
{
    size_t headers[16];

    zip->size = 0;
    for (size_t i = 0; i < count; i++) {
        headers[i] = zip->size;
        zip_put(zip, 0x04034b50, 4);
        zip_put(zip, 20, 2);
        zip_put(zip, (uint64_t)parts[i].flags, 2);
        zip_put(zip, (uint64_t)parts[i].method, 2);
        zip_put(zip, 0, 4);
        zip_put(zip, parts[i].crc, 4);
        zip_put(zip, parts[i].size, 4);
        zip_put(zip, parts[i].full_size > 0 ? parts[i].full_size : parts[i].size, 4);
        zip_put(zip, strlen(parts[i].name), 2);
        zip_put(zip, 0, 2);
        zip_put_bytes(zip, parts[i].name, strlen(parts[i].name));
        zip_put_bytes(zip, parts[i].bytes, parts[i].size);
    }
    zip->directory = zip->size;
    for (size_t i = 0; i < count; i++) {
        zip_put(zip, 0x02014b50, 4);
        zip_put(zip, 20, 2);
        zip_put(zip, 20, 2);
        zip_put(zip, (uint64_t)parts[i].flags, 2);
        zip_put(zip, (uint64_t)parts[i].method, 2);
        zip_put(zip, 0, 4);
        zip_put(zip, parts[i].crc, 4);
        zip_put(zip, parts[i].size + parts[i].stored_shift, 4);
        zip_put(zip, (parts[i].full_size > 0 ? parts[i].full_size : parts[i].size) + parts[i].stored_shift, 4);
        zip_put(zip, strlen(parts[i].name), 2);
        zip_put(zip, parts[i].extra_bytes, 2);
        zip_put(zip, 0, 2);
        zip_put(zip, 0, 2);
        zip_put(zip, 0, 2);
        zip_put(zip, 0, 4);
        zip_put(zip, headers[i] + (uint64_t)parts[i].header_shift, 4);
        zip_put_bytes(zip, parts[i].name, strlen(parts[i].name));
        zip_put_bytes(zip, parts[i].extra, parts[i].extra_bytes);
    }
    zip_put_end(zip, count, zip->size - zip->directory);
}

#endif
