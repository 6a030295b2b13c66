/* photo_stream.h - photographs read, decoded and preprocessed ahead of the one who uses them.
 *
 *     decoder threads:  take the next path -> read -> decode -> resize, crop, normalise -> its slot
 *     the consumer:     waits for slot 0, 1, 2 ... in the order of the list
 *
 * Decoders stay at most `slots` photographs ahead of the consumer, so memory is bounded by slots inputs and one decoded picture
 * per decoder, however long the list is.
 */
#ifndef DLA_TASKS_PHOTO_STREAM_H
#define DLA_TASKS_PHOTO_STREAM_H

#include <dla/dla.h>

enum { PHOTO_MESSAGE_SIZE = 1024 };

struct photo {
    size_t index; /* in the list */
    dla_status status;
    char message[PHOTO_MESSAGE_SIZE]; /* "" where status is DLA_OK */
    double milliseconds;              /* reading, decoding, preprocessing */
    float *input;                     /* (size, size, 3), NHWC; undefined where status is not DLA_OK */
};

struct photo_stream_options {
    const char *const *paths;
    size_t path_count;
    const dla_preprocessing *preprocessing;
    const dla_decode_options *decode;
    int decoders; /* threads, at least 1 */
    int slots;    /* photographs that may be ready at a time, at least 1 */
};

struct photo_stream;

/* What options points to must outlive the stream. */
dla_status photo_stream_open(const struct photo_stream_options *options, struct photo_stream **stream);

/* The next photograph of the list, readable or not; NULL after the last. It is valid until the next call. */
const struct photo *photo_stream_next(struct photo_stream *stream);

/* Ends the decoders, also before the end of the list; accepts NULL. */
void photo_stream_close(struct photo_stream *stream);

#endif
