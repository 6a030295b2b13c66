/* loader.c - a ring of batches between the threads that decode and the one that trains. */
#include "train/loader.h"

#include "base/memory.h"
#include "base/status.h"
#include "image/decode.h"
#include "train/augment.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { REPLACEMENTS = 64 }; /* neighbours tried before a data set counts as unreadable */

struct slot {
    struct loaded_batch batch;
    size_t *indices;
    uint64_t *keys;
    int size;
    int started, finished; /* samples; under the mutex */
};

struct problem {
    char *message;
    struct problem *next;
};

struct loader {
    struct loader_options options;
    struct slot slots[LOADER_DEPTH];
    int64_t requested, taken; /* batches; slot of batch n is n % LOADER_DEPTH */
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    pthread_t *threads;
    int thread_count;
    bool stop;
    dla_status failure;
    char failure_message[1024];
    _Atomic(dla_image *) *cache; /* per sample, or NULL */
    _Atomic(uint8_t *) *targets; /* the same of labels of pixels, of the photograph's size */
    atomic_bool *unreadable;     /* per sample: reported */
    struct problem *problems, **last_problem;
    size_t problem_count;
};

/* Queues the error message of this thread; `unreadable`: for a photograph that counts as skipped. */
static void queue_problem(struct loader *loader, bool unreadable)
{
    char text[1024];
    struct problem *problem = memory_allocate_zeroed(1, sizeof(*problem));
    pthread_mutex_lock(&loader->mutex);
    loader->problem_count += unreadable;
    snprintf(text, sizeof(text), "%s; %s", dla_error_message(), unreadable ? "skipped" : "no more photographs are kept there");
    if (problem && (problem->message = memory_copy_string(text)) != NULL) {
        *loader->last_problem = problem;
        loader->last_problem = &problem->next;
        problem = NULL;
    }
    pthread_mutex_unlock(&loader->mutex);
    memory_free(problem);
}

static void report_problem(struct loader *loader, size_t index)
{
    if (!atomic_exchange(&loader->unreadable[index], true))
        queue_problem(loader, true);
}

/* What the choice of a reduction needs to know. */
struct crop_request {
    const dla_augmentation *augmentation;
    uint64_t key;
    int size;
};

/* The largest divisor that leaves the random box at least as large as what it becomes. */
static int choose_reduction(void *context, int height, int width)
{
    const struct crop_request *crop = context;
    struct resize_box box = augment_box(height, width, crop->augmentation, crop->key);
    float side = box.right - box.left < box.bottom - box.top ? box.right - box.left : box.bottom - box.top;
    int divisor = 8;
    while (divisor > 1 && side < (float)(divisor * crop->size))
        divisor /= 2;
    return divisor;
}

/* A decoded photograph. */
struct photograph {
    dla_image *image;
    bool owned;                  /* to be destroyed by who uses it */
    int full_height, full_width; /* before any reduction */
};

static dla_status read_whole(struct loader *loader, size_t index, dla_image **image)
{
    if (loader->options.disk && (*image = photo_cache_get(loader->options.disk, index)) != NULL)
        return DLA_OK;
    dla_status status = dla_image_read(loader->options.samples->samples[index].path, NULL, image);
    if (status == DLA_OK && loader->options.disk && !photo_cache_put(loader->options.disk, index, *image))
        queue_problem(loader, false);
    return status;
}

static dla_status decoded(struct loader *loader, size_t index, const struct crop_request *crop, struct photograph *photograph)
{
    dla_image **image = &photograph->image;
    dla_status status;
    photograph->owned = true;
    if (loader->options.reduced && !loader->options.cache && !loader->options.disk) {
        struct image_reduction reduction = {.choose = choose_reduction, .context = (void *)crop};
        status = image_read_reduced(loader->options.samples->samples[index].path, &reduction, image);
        photograph->full_height = reduction.full_height;
        photograph->full_width = reduction.full_width;
        return status;
    }
    if (loader->cache) {
        *image = atomic_load(&loader->cache[index]);
        photograph->owned = false;
    }
    status = loader->cache && *image ? DLA_OK : read_whole(loader, index, image);
    if (status == DLA_OK && loader->cache && *image != atomic_load(&loader->cache[index])) {
        dla_image *expected = NULL;
        if (!atomic_compare_exchange_strong(&loader->cache[index], &expected, *image)) {
            dla_image_destroy(*image);
            *image = expected;
        }
    }
    if (status == DLA_OK) {
        photograph->full_height = (*image)->height;
        photograph->full_width = (*image)->width;
    }
    return status;
}

/* The labels of a photograph's pixels; *owned where the caller frees them. */
static dla_status read_target(struct loader *loader, size_t index, const dla_image *image, struct label_map *target, bool *owned)
{
    const struct sample *sample = &loader->options.samples->samples[index];
    *owned = loader->targets == NULL;
    *target = (struct label_map){.height = dla_image_height(image), .width = dla_image_width(image)};
    if (loader->targets && (target->labels = atomic_load(&loader->targets[index])) != NULL)
        return DLA_OK;
    dla_status status = dense_target_read(loader->options.target, sample->target, sample->path, target->height, target->width, target);
    if (status == DLA_OK && loader->targets) {
        uint8_t *expected = NULL;
        if (!atomic_compare_exchange_strong(&loader->targets[index], &expected, target->labels)) {
            label_map_free(target);
            target->labels = expected;
        }
    }
    return status;
}

/* Photograph and labels of its pixels, (size, size, 3) and (size, size). */
static dla_status augment_with_target(struct loader *loader, struct slot *slot, int place, size_t index, const dla_image *image,
                                      float *colours, float *input)
{
    const struct loader_options *o = &loader->options;
    struct label_map target;
    bool owned;
    dla_status status = read_target(loader, index, image, &target, &owned);
    if (status != DLA_OK)
        return status;
    status = augment_dense(image, &target, o->dense, slot->size, o->mean, o->std, slot->keys[place], colours, input,
                           slot->batch.maps + (size_t)place * (size_t)slot->size * (size_t)slot->size);
    if (owned)
        label_map_free(&target);
    return status;
}

/* One sample, or the next readable one behind it in the list. */
static dla_status load_sample(struct loader *loader, struct slot *slot, int place, uint8_t *pixels, float *colours)
{
    const struct loader_options *o = &loader->options;
    size_t floats = (size_t)slot->size * (size_t)slot->size * 3;
    for (size_t attempt = 0; attempt < REPLACEMENTS && attempt < o->samples->count; attempt++) {
        size_t index = (slot->indices[place] + attempt) % o->samples->count;
        struct crop_request crop = {o->augmentation, slot->keys[place], slot->size};
        struct photograph photograph;
        if (atomic_load(&loader->unreadable[index]))
            continue;
        if (decoded(loader, index, &crop, &photograph) != DLA_OK) {
            report_problem(loader, index);
            continue;
        }
        float *input = slot->batch.inputs + (size_t)place * floats;
        dla_status status = o->dense ? augment_with_target(loader, slot, place, index, photograph.image, colours, input)
                                     : augment(photograph.image, photograph.full_height, photograph.full_width, o->augmentation, slot->size,
                                               o->mean, o->std, slot->keys[place], pixels, colours, input);
        slot->batch.labels[place] = o->samples->samples[index].label;
        if (photograph.owned)
            dla_image_destroy(photograph.image);
        return status;
    }
    return status_set(DLA_ERROR_NOT_FOUND, "%s: neither this photograph nor the next %d can be read",
                      o->samples->samples[slot->indices[place]].path, REPLACEMENTS - 1);
}

static void *work(void *context)
{
    struct loader *loader = context;
    size_t values = (size_t)loader->options.size * (size_t)loader->options.size * 3;
    uint8_t *pixels = memory_allocate(values);
    float *colours = memory_allocate(values * sizeof(*colours));
    pthread_mutex_lock(&loader->mutex);
    for (;;) {
        struct slot *slot = NULL;
        for (int64_t n = loader->taken; n < loader->requested && slot == NULL; n++)
            if (loader->slots[n % LOADER_DEPTH].started < loader->options.batch)
                slot = &loader->slots[n % LOADER_DEPTH];
        if (loader->stop)
            break;
        if (slot == NULL) {
            pthread_cond_wait(&loader->work, &loader->mutex);
            continue;
        }
        int place = slot->started++;
        pthread_mutex_unlock(&loader->mutex);
        dla_status status =
            pixels && colours ? load_sample(loader, slot, place, pixels, colours) : status_out_of_memory(values, "a photograph");
        pthread_mutex_lock(&loader->mutex);
        if (status != DLA_OK && loader->failure == DLA_OK) {
            loader->failure = status;
            strncpy(loader->failure_message, dla_error_message(), sizeof(loader->failure_message) - 1);
        }
        if (++slot->finished == loader->options.batch)
            pthread_cond_broadcast(&loader->done);
    }
    pthread_mutex_unlock(&loader->mutex);
    memory_free(pixels);
    memory_free(colours);
    return NULL;
}

dla_status loader_create(const struct loader_options *options, struct loader **loader)
{
    size_t count = options->samples->count, batch = (size_t)options->batch;
    size_t floats = batch * (size_t)options->size * (size_t)options->size * 3;
    struct loader *made = memory_allocate_zeroed(1, sizeof(*made));
    if (made == NULL)
        return status_out_of_memory(sizeof(*made), "loading photographs");
    made->options = *options;
    made->last_problem = &made->problems;
    made->unreadable = memory_allocate_zeroed(count + 1, sizeof(*made->unreadable));
    made->threads = memory_allocate_zeroed((size_t)options->threads, sizeof(*made->threads));
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->work, NULL);
    pthread_cond_init(&made->done, NULL);
    bool enough = made->unreadable && made->threads;
    if (options->cache)
        enough = (made->cache = memory_allocate_zeroed(count + 1, sizeof(*made->cache))) != NULL && enough;
    if (options->cache && options->dense)
        enough = (made->targets = memory_allocate_zeroed(count + 1, sizeof(*made->targets))) != NULL && enough;
    for (int i = 0; i < LOADER_DEPTH; i++) {
        struct slot *slot = &made->slots[i];
        slot->batch.inputs = memory_allocate_aligned(64, floats * sizeof(float));
        slot->batch.labels = memory_allocate_zeroed(batch, sizeof(*slot->batch.labels));
        if (options->dense)
            enough = (slot->batch.maps = memory_allocate(floats / 3)) != NULL && enough;
        slot->indices = memory_allocate_zeroed(batch, sizeof(*slot->indices));
        slot->keys = memory_allocate_zeroed(batch, sizeof(*slot->keys));
        enough = enough && slot->batch.inputs && slot->batch.labels && slot->indices && slot->keys;
    }
    dla_status status = enough ? DLA_OK : status_out_of_memory(LOADER_DEPTH * floats * sizeof(float), "batches of photographs");
    for (int i = 0; i < options->threads && status == DLA_OK; i++) {
        if (pthread_create(&made->threads[i], NULL, work, made) == 0)
            made->thread_count++;
        else if (i == 0)
            status = status_set(DLA_ERROR_MEMORY, "cannot start a thread that loads photographs");
    }
    if (status != DLA_OK) {
        loader_destroy(made);
        return status;
    }
    *loader = made;
    return DLA_OK;
}

void loader_destroy(struct loader *loader)
{
    if (loader == NULL)
        return;
    pthread_mutex_lock(&loader->mutex);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
    for (int i = 0; i < loader->thread_count; i++)
        pthread_join(loader->threads[i], NULL);
    for (char *message; (message = loader_take_problem(loader)) != NULL;)
        memory_free(message);
    for (int i = 0; i < LOADER_DEPTH; i++) {
        memory_free(loader->slots[i].batch.inputs);
        memory_free(loader->slots[i].batch.labels);
        memory_free(loader->slots[i].batch.maps);
        memory_free(loader->slots[i].indices);
        memory_free(loader->slots[i].keys);
    }
    for (size_t i = 0; loader->cache && i < loader->options.samples->count; i++)
        dla_image_destroy(atomic_load(&loader->cache[i]));
    for (size_t i = 0; loader->targets && i < loader->options.samples->count; i++)
        memory_free(atomic_load(&loader->targets[i]));
    memory_free((void *)loader->cache);
    memory_free((void *)loader->targets);
    memory_free(loader->unreadable);
    memory_free(loader->threads);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->done);
    pthread_mutex_destroy(&loader->mutex);
    memory_free(loader);
}

void loader_request(struct loader *loader, const size_t *indices, const uint64_t *keys, int size)
{
    pthread_mutex_lock(&loader->mutex);
    struct slot *slot = &loader->slots[loader->requested % LOADER_DEPTH];
    memcpy(slot->indices, indices, (size_t)loader->options.batch * sizeof(*indices));
    memcpy(slot->keys, keys, (size_t)loader->options.batch * sizeof(*keys));
    slot->size = size;
    slot->started = slot->finished = 0;
    loader->requested++;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
}

dla_status loader_next(struct loader *loader, const struct loaded_batch **batch)
{
    dla_status status;
    pthread_mutex_lock(&loader->mutex);
    struct slot *slot = &loader->slots[loader->taken % LOADER_DEPTH];
    while (slot->finished < loader->options.batch)
        pthread_cond_wait(&loader->done, &loader->mutex);
    loader->taken++;
    status = loader->failure;
    pthread_mutex_unlock(&loader->mutex);
    if (status != DLA_OK)
        return status_set(status, "%s", loader->failure_message);
    *batch = &slot->batch;
    return DLA_OK;
}

char *loader_take_problem(struct loader *loader)
{
    char *message = NULL;
    pthread_mutex_lock(&loader->mutex);
    struct problem *problem = loader->problems;
    if (problem) {
        loader->problems = problem->next;
        if (loader->problems == NULL)
            loader->last_problem = &loader->problems;
        message = problem->message;
    }
    pthread_mutex_unlock(&loader->mutex);
    memory_free(problem);
    return message;
}

size_t loader_problem_count(struct loader *loader)
{
    pthread_mutex_lock(&loader->mutex);
    size_t count = loader->problem_count;
    pthread_mutex_unlock(&loader->mutex);
    return count;
}
