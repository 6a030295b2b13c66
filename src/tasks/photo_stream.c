/* photo_stream.c - a ring of slots between decoder threads and one consumer.
 *
 * Photograph i lives in slot i % slot_count. Decoders may claim i while i < released + slot_count, where `released` counts the
 * photographs that the consumer is done with; so a slot is never claimed while its last photograph is in use. One mutex guards
 * the counters: a photograph takes a millisecond at least, so nobody waits for it.
 */
#include "tasks/photo_stream.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct slot {
    struct photo photo;
    bool ready;
};

struct photo_stream {
    struct photo_stream_options options;
    pthread_t *decoders;
    int decoder_count; /* started */
    struct slot *slots;
    float *inputs; /* (slots, size, size, 3) */

    pthread_mutex_t mutex; /* guards what follows, and `ready` of every slot */
    pthread_cond_t slot_free, photo_ready;
    size_t claimed;        /* photographs 0 .. claimed-1 were taken by decoders */
    size_t released;       /* photographs 0 .. released-1 are done with */
    bool consumer_has_one; /* photograph `released` is with the consumer */
    bool stop;
};

static struct slot *slot_of(struct photo_stream *stream, size_t index)
{
    return &stream->slots[index % (size_t)stream->options.slots];
}

static void prepare(const struct photo_stream *stream, size_t index, struct photo *photo)
{
    const struct photo_stream_options *options = &stream->options;
    double start = clock_milliseconds();
    dla_image *image = NULL;

    photo->index = index;
    photo->message[0] = '\0';
    photo->status = dla_image_read(options->paths[index], options->decode, &image);
    if (photo->status == DLA_OK)
        photo->status = dla_image_preprocess(image, options->preprocessing, DLA_LAYOUT_NHWC, photo->input);
    dla_image_destroy(image);
    if (photo->status != DLA_OK)
        snprintf(photo->message, sizeof(photo->message), "%s", dla_error_message()); /* it belongs to this thread */
    photo->milliseconds = clock_milliseconds() - start;
}

static void *decoder_main(void *argument)
{
    struct photo_stream *stream = argument;

    pthread_mutex_lock(&stream->mutex);
    while (true) {
        while (!stream->stop && stream->claimed < stream->options.path_count
               && stream->claimed >= stream->released + (size_t)stream->options.slots)
            pthread_cond_wait(&stream->slot_free, &stream->mutex);
        if (stream->stop || stream->claimed == stream->options.path_count)
            break;
        size_t index = stream->claimed++;
        struct slot *slot = slot_of(stream, index);
        pthread_mutex_unlock(&stream->mutex);
        prepare(stream, index, &slot->photo);
        pthread_mutex_lock(&stream->mutex);
        slot->ready = true;
        pthread_cond_signal(&stream->photo_ready);
    }
    pthread_mutex_unlock(&stream->mutex);
    return NULL;
}

const struct photo *photo_stream_next(struct photo_stream *stream)
{
    const struct photo *photo = NULL;

    pthread_mutex_lock(&stream->mutex);
    if (stream->consumer_has_one) {
        slot_of(stream, stream->released)->ready = false;
        stream->released++;
        stream->consumer_has_one = false;
        pthread_cond_signal(&stream->slot_free);
    }
    if (stream->released < stream->options.path_count) {
        struct slot *slot = slot_of(stream, stream->released);
        while (!slot->ready)
            pthread_cond_wait(&stream->photo_ready, &stream->mutex);
        stream->consumer_has_one = true;
        photo = &slot->photo;
    }
    pthread_mutex_unlock(&stream->mutex);
    return photo;
}

static dla_status start_decoders(struct photo_stream *stream)
{
    sigset_t all_signals, caller_signals;
    int error = 0;

    sigfillset(&all_signals); /* signals belong to the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all_signals, &caller_signals);
    while (error == 0 && stream->decoder_count < stream->options.decoders) {
        error = pthread_create(&stream->decoders[stream->decoder_count], NULL, decoder_main, stream);
        stream->decoder_count += error == 0;
    }
    pthread_sigmask(SIG_SETMASK, &caller_signals, NULL);
    if (stream->decoder_count == 0)
        return status_set(DLA_ERROR_LIMIT, "cannot start a thread that decodes photographs: %s", strerror(error));
    return DLA_OK; /* fewer than asked for do the same work */
}

dla_status photo_stream_open(const struct photo_stream_options *options, struct photo_stream **result)
{
    size_t side = (size_t)options->preprocessing->size;
    size_t input_floats = 3 * side * side;
    dla_status status = DLA_OK;
    struct photo_stream *stream = memory_allocate_zeroed(1, sizeof(*stream));

    if (stream == NULL)
        return status_out_of_memory(sizeof(*stream), "reading photographs");
    stream->options = *options;
    if ((size_t)stream->options.decoders > options->path_count)
        stream->options.decoders = options->path_count > 0 ? (int)options->path_count : 1;
    if ((size_t)stream->options.slots > options->path_count)
        stream->options.slots = options->path_count > 0 ? (int)options->path_count : 1;
    size_t slots = (size_t)stream->options.slots;
    pthread_mutex_init(&stream->mutex, NULL);
    pthread_cond_init(&stream->slot_free, NULL);
    pthread_cond_init(&stream->photo_ready, NULL);
    stream->slots = memory_allocate_zeroed(slots, sizeof(*stream->slots));
    stream->decoders = memory_allocate_zeroed((size_t)stream->options.decoders, sizeof(*stream->decoders));
    stream->inputs = memory_allocate_zeroed(slots, input_floats * sizeof(float));
    if (stream->slots == NULL || stream->decoders == NULL || stream->inputs == NULL)
        status = status_out_of_memory(slots * input_floats * sizeof(float), "photographs that wait for the network");
    for (size_t i = 0; status == DLA_OK && i < slots; i++)
        stream->slots[i].photo.input = stream->inputs + i * input_floats;
    if (status == DLA_OK)
        status = start_decoders(stream);
    if (status != DLA_OK) {
        photo_stream_close(stream);
        return status;
    }
    *result = stream;
    return DLA_OK;
}

void photo_stream_close(struct photo_stream *stream)
{
    if (stream == NULL)
        return;
    pthread_mutex_lock(&stream->mutex);
    stream->stop = true;
    pthread_cond_broadcast(&stream->slot_free);
    pthread_mutex_unlock(&stream->mutex);
    for (int i = 0; i < stream->decoder_count; i++)
        pthread_join(stream->decoders[i], NULL);
    pthread_cond_destroy(&stream->photo_ready);
    pthread_cond_destroy(&stream->slot_free);
    pthread_mutex_destroy(&stream->mutex);
    memory_free(stream->inputs);
    memory_free(stream->decoders);
    memory_free(stream->slots);
    memory_free(stream);
}
