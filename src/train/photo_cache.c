/* photo_cache.c - the file of decoded photographs: an index in memory, positioned reads, appended writes. */
#include "train/photo_cache.h"

#include "base/counter_random.h"
#include "base/memory.h"
#include "base/status.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char mark[8] = "dlaphot1";

struct record {
    char mark[8];
    uint64_t key; /* of path, size and time of change */
    int32_t height, width;
};

struct photo_cache {
    const struct sample_list *samples;
    int file;
    char *path;
    pthread_mutex_t mutex;
    uint64_t *keys;   /* per sample */
    int64_t *offsets; /* per sample: of its record, -1: not there; under the mutex */
    int64_t end;      /* where the next record goes */
    bool full;        /* a write failed: nothing is added any more */
};

/* 0 where the photograph is not there any more. */
static uint64_t key_of(const char *path)
{
    struct stat information;
    uint64_t key = 0;
    if (stat(path, &information) != 0)
        return 0;
    for (const char *c = path; *c; c++)
        key = counter_key(key, (uint64_t)(unsigned char)*c);
    key = counter_key(key, (uint64_t)information.st_size);
    key = counter_key(key, (uint64_t)information.st_mtim.tv_sec);
    return counter_key(key, (uint64_t)information.st_mtim.tv_nsec) | 1;
}

static int64_t record_bytes(const struct record *record)
{
    return (int64_t)sizeof(*record) + (int64_t)record->height * record->width * 3;
}

struct keyed {
    uint64_t key;
    size_t sample;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}

/* Reads all records' headers. What follows the last whole record is cut off. */
static dla_status read_index(struct photo_cache *cache)
{
    size_t count = cache->samples->count;
    struct stat information;
    struct keyed *sorted = memory_allocate((count + 1) * sizeof(*sorted));
    if (sorted == NULL)
        return status_out_of_memory(count * sizeof(*sorted), "the index of photographs");
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct keyed){cache->keys[i], i};
    qsort(sorted, count, sizeof(*sorted), by_key);
    dla_status status = fstat(cache->file, &information) == 0 ? DLA_OK : status_from_errno(cache->path, "look at");
    while (status == DLA_OK) {
        struct record record;
        if (pread(cache->file, &record, sizeof(record), cache->end) != (ssize_t)sizeof(record))
            break;
        if (memcmp(record.mark, mark, sizeof(mark)) != 0 || record.height < 1 || record.width < 1) {
            status = status_set(DLA_ERROR_FORMAT, "%s: is not a file of decoded photographs; give another name, or remove it", cache->path);
            break;
        }
        if (cache->end + record_bytes(&record) > information.st_size)
            break;
        struct keyed *found = bsearch(&(struct keyed){record.key, 0}, sorted, count, sizeof(*sorted), by_key);
        if (found)
            cache->offsets[found->sample] = cache->end;
        cache->end += record_bytes(&record);
    }
    if (status == DLA_OK && cache->end == 0 && information.st_size >= (off_t)sizeof(mark)) {
        char start[sizeof(mark)];
        if (pread(cache->file, start, sizeof(start), 0) != (ssize_t)sizeof(start) || memcmp(start, mark, sizeof(mark)) != 0)
            status = status_set(DLA_ERROR_FORMAT, "%s: is not a file of decoded photographs; give another name, or remove it", cache->path);
    }
    if (status == DLA_OK && information.st_size > cache->end && ftruncate(cache->file, cache->end) != 0)
        status = status_from_errno(cache->path, "shorten");
    memory_free(sorted);
    return status;
}

dla_status photo_cache_open(const char *path, const struct sample_list *samples, struct photo_cache **cache)
{
    struct photo_cache *made = memory_allocate_zeroed(1, sizeof(*made));
    if (made == NULL)
        return status_out_of_memory(sizeof(*made), "photographs on disk");
    dla_status status = DLA_OK;
    pthread_mutex_init(&made->mutex, NULL);
    made->samples = samples;
    made->path = memory_copy_string(path);
    made->keys = memory_allocate((samples->count + 1) * sizeof(*made->keys));
    made->offsets = memory_allocate((samples->count + 1) * sizeof(*made->offsets));
    made->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (!made->path || !made->keys || !made->offsets)
        status = status_out_of_memory(samples->count * sizeof(*made->keys), "the index of photographs");
    else if (made->file < 0)
        status = status_from_errno(path, "open");
    else if (flock(made->file, LOCK_EX | LOCK_NB) != 0)
        status = errno == EWOULDBLOCK ? status_set(DLA_ERROR_ARGUMENT, "%s: another run has it open; give each its own", path)
                                      : status_from_errno(path, "lock");
    for (size_t i = 0; i < samples->count && status == DLA_OK; i++) {
        made->keys[i] = key_of(samples->samples[i].path);
        made->offsets[i] = -1;
    }
    if (status == DLA_OK)
        status = read_index(made);
    if (status != DLA_OK) {
        photo_cache_close(made);
        return status;
    }
    *cache = made;
    return DLA_OK;
}

void photo_cache_close(struct photo_cache *cache)
{
    if (cache == NULL)
        return;
    if (cache->file >= 0)
        close(cache->file);
    pthread_mutex_destroy(&cache->mutex);
    memory_free(cache->path);
    memory_free(cache->keys);
    memory_free(cache->offsets);
    memory_free(cache);
}

static bool read_whole(int file, void *bytes, size_t size, int64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = pread(file, (char *)bytes + done, size - done, offset + (int64_t)done);
        if (count <= 0)
            return false;
        done += (size_t)count;
    }
    return true;
}

static bool write_whole(int file, const void *bytes, size_t size, int64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = pwrite(file, (const char *)bytes + done, size - done, offset + (int64_t)done);
        if (count <= 0)
            return false;
        done += (size_t)count;
    }
    return true;
}

dla_image *photo_cache_get(struct photo_cache *cache, size_t sample)
{
    struct record record;
    dla_image *image = NULL;
    pthread_mutex_lock(&cache->mutex);
    int64_t offset = cache->offsets[sample];
    pthread_mutex_unlock(&cache->mutex);
    if (offset < 0 || !read_whole(cache->file, &record, sizeof(record), offset)
        || image_create(record.height, record.width, &image) != DLA_OK)
        return NULL;
    if (!read_whole(cache->file, image->pixels, (size_t)(record_bytes(&record) - (int64_t)sizeof(record)),
                    offset + (int64_t)sizeof(record))) {
        dla_image_destroy(image);
        return NULL;
    }
    return image;
}

bool photo_cache_put(struct photo_cache *cache, size_t sample, const dla_image *image)
{
    struct record record = {.key = cache->keys[sample], .height = image->height, .width = image->width};
    bool told = true;
    memcpy(record.mark, mark, sizeof(mark));
    pthread_mutex_lock(&cache->mutex);
    if (!cache->full && cache->offsets[sample] < 0 && record.key != 0) {
        if (write_whole(cache->file, &record, sizeof(record), cache->end)
            && write_whole(cache->file, image->pixels, (size_t)(record_bytes(&record) - (int64_t)sizeof(record)),
                           cache->end + (int64_t)sizeof(record))) {
            cache->offsets[sample] = cache->end;
            cache->end += record_bytes(&record);
        } else {
            cache->full = true;
            told = false;
            status_from_errno(cache->path, "add a photograph to");
            if (ftruncate(cache->file, cache->end) != 0) /* then the next run cuts the torn record off */
                cache->full = true;
        }
    }
    pthread_mutex_unlock(&cache->mutex);
    return told;
}
