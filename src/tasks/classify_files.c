/* classify_files.c - a list of photographs through the network, a batch at a time.
 *
 *     photo stream (decoders) --copy--> batch of inputs --network--> scores --in the list's order--> callback
 *
 * An unreadable photograph takes no place in a batch. It is remembered, and reported where the list has it.
 */
#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "tasks/classifier.h"
#include "tasks/photo_stream.h"

#include <string.h>

enum { MAX_PENDING_FAILURES = 64 }; /* more unreadable files in a row end a batch early */

/* A photograph between the stream and the callback. */
struct pending {
    size_t index;
    dla_status status;
    char *message; /* of a failure */
    double milliseconds;
};

struct pass {
    dla_classifier *classifier;
    const char *const *paths;
    int count; /* scores per photograph */
    dla_photograph_callback *callback;
    void *context;
    struct pending *pending; /* (batch + MAX_PENDING_FAILURES) */
    int pending_count;
    int filled;              /* of them readable, in the first places of the classifier's inputs, in order */
    dla_class_score *scores; /* (batch, count) */
};

static void forget_pending(struct pass *pass)
{
    for (int i = 0; i < pass->pending_count; i++)
        memory_free(pass->pending[i].message);
    pass->pending_count = 0;
    pass->filled = 0;
}

static bool is_full(const struct pass *pass)
{
    return pass->filled == pass->classifier->batch || pass->pending_count - pass->filled == MAX_PENDING_FAILURES;
}

static dla_status add_photo(struct pass *pass, const struct photo *photo)
{
    struct pending *pending = &pass->pending[pass->pending_count];

    *pending = (struct pending){.index = photo->index, .status = photo->status, .milliseconds = photo->milliseconds};
    if (photo->status == DLA_OK) {
        size_t floats = classifier_input_floats(pass->classifier);
        memcpy(pass->classifier->inputs + (size_t)pass->filled * floats, photo->input, floats * sizeof(float));
        pass->filled++;
    } else {
        pending->message = memory_copy_string(photo->message);
        if (pending->message == NULL)
            return status_out_of_memory(strlen(photo->message) + 1, "a message");
    }
    pass->pending_count++;
    return DLA_OK;
}

/* Classifies what is pending and reports all of it. */
static dla_status flush(struct pass *pass)
{
    double start = clock_milliseconds();
    dla_status status = DLA_OK;
    const dla_class_score *scores = pass->scores;

    if (pass->filled > 0)
        status = classifier_run(pass->classifier, pass->filled, pass->count, pass->scores);
    if (status != DLA_OK) {
        size_t first = 0;
        while (pass->pending[first].status != DLA_OK)
            first++;
        return status_prefix(status, "%s: ", pass->paths[pass->pending[first].index]);
    }
    double share = pass->filled > 0 ? (clock_milliseconds() - start) / pass->filled : 0.0;
    for (int i = 0; status == DLA_OK && i < pass->pending_count; i++) {
        const struct pending *pending = &pass->pending[i];
        bool readable = pending->status == DLA_OK;
        dla_photograph_result result = {.index = pending->index,
                                        .path = pass->paths[pending->index],
                                        .status = pending->status,
                                        .message = readable ? "" : pending->message,
                                        .scores = readable ? scores : NULL,
                                        .milliseconds = pending->milliseconds + (readable ? share : 0.0)};
        if (readable)
            scores += pass->count;
        if (!pass->callback(pass->context, &result))
            status = status_set(DLA_ERROR_INTERRUPTED, "stopped after %zu photographs", pending->index + 1);
    }
    forget_pending(pass);
    return status;
}

dla_status dla_classifier_classify_files(dla_classifier *classifier, const char *const *paths, size_t path_count, int count,
                                         dla_photograph_callback *callback, void *context)
{
    struct photo_stream *stream = NULL;
    const struct photo *photo;

    if (classifier == NULL || callback == NULL || (path_count > 0 && paths == NULL))
        return status_set(DLA_ERROR_ARGUMENT, "dla_classifier_classify_files: classifier, paths and callback must not be NULL");
    if (count < 1 || count > classifier->class_count)
        return status_set(DLA_ERROR_ARGUMENT, "the best %d classes of a network that has %d", count, classifier->class_count);

    struct photo_stream_options options = {.paths = paths,
                                           .path_count = path_count,
                                           .preprocessing = &classifier->preprocessing,
                                           .decode = &classifier->decode,
                                           .decoders = classifier->threads,
                                           .slots = classifier->threads + classifier->batch};
    struct pass pass = {.classifier = classifier, .paths = paths, .count = count, .callback = callback, .context = context};
    size_t pending_capacity = (size_t)classifier->batch + MAX_PENDING_FAILURES;
    pass.pending = memory_allocate_zeroed(pending_capacity, sizeof(*pass.pending));
    pass.scores = memory_allocate_zeroed((size_t)classifier->batch * (size_t)count, sizeof(*pass.scores));
    dla_status status = DLA_OK;
    if (pass.pending == NULL || pass.scores == NULL)
        status = status_out_of_memory(pending_capacity * sizeof(*pass.pending), "a batch of photographs");
    if (status == DLA_OK)
        status = photo_stream_open(&options, &stream);
    while (status == DLA_OK && (photo = photo_stream_next(stream)) != NULL) {
        status = add_photo(&pass, photo);
        if (status == DLA_OK && is_full(&pass))
            status = flush(&pass);
    }
    if (status == DLA_OK && pass.pending_count > 0)
        status = flush(&pass);
    photo_stream_close(stream);
    forget_pending(&pass);
    memory_free(pass.scores);
    memory_free(pass.pending);
    return status;
}
