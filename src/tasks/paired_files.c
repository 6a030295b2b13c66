/* paired_files.c - pairing two sorted listings, and working through the pairs on several threads.
 *
 * Messages are per thread, so a worker's failure is copied and set again on the caller's thread.
 */
#include "tasks/paired_files.h"

#include "base/cpu_features.h"
#include "base/folder.h"
#include "base/options.h"
#include "base/status.h"
#include "base/thread_pool.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Index of the next entry at or after `index` that is a file with the suffix; count if there is none. */
static size_t next_with_suffix(const struct folder *folder, size_t index, const char *suffix)
{
    while (index < folder->count && (folder->entries[index].is_folder || !name_has_suffix(folder->entries[index].name, suffix)))
        index++;
    return index;
}

static int compare_stems(const char *a, const char *suffix_a, const char *b, const char *suffix_b)
{
    size_t length_a = strlen(a) - strlen(suffix_a), length_b = strlen(b) - strlen(suffix_b);
    int order = memcmp(a, b, length_a < length_b ? length_a : length_b);
    return order ? order : (length_a > length_b) - (length_a < length_b);
}

static dla_status no_partner(const char *path, const char *folder, const char *suffix)
{
    return status_set(DLA_ERROR_MISMATCH, "%s: has no partner of the same name with %s in %s", path, suffix, folder);
}

/* Both listings are sorted, but by whole name; looking a partner up keeps to stems. */
static const struct folder_entry *find_partner(const struct folder *folder, const char *folder_suffix, const char *name, const char *suffix)
{
    for (size_t i = next_with_suffix(folder, 0, folder_suffix); i < folder->count; i = next_with_suffix(folder, i + 1, folder_suffix))
        if (compare_stems(folder->entries[i].name, folder_suffix, name, suffix) == 0)
            return &folder->entries[i];
    return NULL;
}

static dla_status pair_up(const struct folder *predictions, const char *prediction_suffix, const char *prediction_folder,
                          const struct folder *truth, const char *truth_suffix, const char *truth_folder, struct file_pairs *pairs)
{
    pairs->pairs = arena_allocate_array(&pairs->arena, predictions->count ? predictions->count : 1, sizeof *pairs->pairs);
    if (!pairs->pairs)
        return status_out_of_memory(predictions->count * sizeof *pairs->pairs, "a list of files");
    for (size_t i = next_with_suffix(predictions, 0, prediction_suffix); i < predictions->count; i = next_with_suffix(predictions, i + 1, prediction_suffix)) {
        const struct folder_entry *prediction = &predictions->entries[i];
        const struct folder_entry *partner = find_partner(truth, truth_suffix, prediction->name, prediction_suffix);
        struct file_pair *pair = &pairs->pairs[pairs->count++];
        if (!partner)
            return no_partner(prediction->path, truth_folder, truth_suffix);
        pair->prediction = arena_copy_string(&pairs->arena, prediction->path);
        pair->truth = arena_copy_string(&pairs->arena, partner->path);
        if (!pair->prediction || !pair->truth)
            return status_out_of_memory(strlen(prediction->path), "a list of files");
    }
    for (size_t i = next_with_suffix(truth, 0, truth_suffix); i < truth->count; i = next_with_suffix(truth, i + 1, truth_suffix))
        if (!find_partner(predictions, prediction_suffix, truth->entries[i].name, truth_suffix))
            return no_partner(truth->entries[i].path, prediction_folder, prediction_suffix);
    if (pairs->count == 0)
        return status_set(DLA_ERROR_NOT_FOUND, "%s: holds no %s file to score", prediction_folder, prediction_suffix);
    return DLA_OK;
}

dla_status file_pairs_read(const char *predictions, const char *prediction_suffix, const char *truth, const char *truth_suffix,
                           struct file_pairs *pairs)
{
    struct folder prediction_folder = { 0 }, truth_folder = { 0 };
    struct file_pairs found = { 0 };
    dla_status status = folder_read(predictions, &prediction_folder);

    if (status == DLA_OK)
        status = folder_read(truth, &truth_folder);
    if (status == DLA_OK)
        status = pair_up(&prediction_folder, prediction_suffix, predictions, &truth_folder, truth_suffix, truth, &found);
    folder_free(&prediction_folder);
    folder_free(&truth_folder);
    if (status != DLA_OK) {
        file_pairs_free(&found);
        return status;
    }
    *pairs = found;
    return DLA_OK;
}

void file_pairs_free(struct file_pairs *pairs)
{
    arena_free(&pairs->arena);
    memset(pairs, 0, sizeof *pairs);
}

struct scoring {
    score_pair *function;
    void *context;
    const dla_score_options *options;
    size_t count;
    pthread_mutex_t mutex;     /* guards what follows, and the progress function */
    size_t done;
    dla_status status;
    char message[1024];        /* of the first failure */
};

static void score_one(void *context, int task, int worker)
{
    struct scoring *scoring = context;
    dla_status status;
    bool stopped;

    (void)worker;
    pthread_mutex_lock(&scoring->mutex);
    stopped = scoring->status != DLA_OK;
    pthread_mutex_unlock(&scoring->mutex);
    if (stopped)
        return;
    status = scoring->function(scoring->context, (size_t)task);
    pthread_mutex_lock(&scoring->mutex);
    if (status != DLA_OK && scoring->status == DLA_OK) {
        scoring->status = status;
        snprintf(scoring->message, sizeof scoring->message, "%s", dla_error_message());
    }
    scoring->done++;
    if (scoring->status == DLA_OK && scoring->options->progress
        && !scoring->options->progress(scoring->options->progress_context, scoring->done, scoring->count)) {
        scoring->status = DLA_ERROR_INTERRUPTED;
        snprintf(scoring->message, sizeof scoring->message, "scoring was stopped after %zu of %zu files", scoring->done, scoring->count);
    }
    pthread_mutex_unlock(&scoring->mutex);
}

dla_status file_pairs_score(size_t count, score_pair *function, void *context, const dla_score_options *options)
{
    dla_score_options settled = DLA_SCORE_OPTIONS_INIT;
    struct scoring scoring = { .function = function, .context = context, .options = &settled, .count = count };
    struct thread_pool *pool;
    dla_status status = options_take(&settled, sizeof settled, options, "DLA_SCORE_OPTIONS_INIT");

    if (status == DLA_OK)
        status = thread_pool_create(settled.threads > 0 ? settled.threads : cpu_core_count(), &pool);

    if (status != DLA_OK)
        return status;
    pthread_mutex_init(&scoring.mutex, NULL);
    thread_pool_run(pool, score_one, &scoring, (int)count);
    pthread_mutex_destroy(&scoring.mutex);
    thread_pool_destroy(pool);
    return scoring.status == DLA_OK ? DLA_OK : status_set(scoring.status, "%s", scoring.message);
}
