/* text_stream.h - a text of any length written with fprintf. */
#ifndef DLA_BASE_TEXT_STREAM_H
#define DLA_BASE_TEXT_STREAM_H

#include <stddef.h>
#include <stdio.h>

struct text_stream {
    FILE *file;          /* write here; NULL after a failed open */
    char *buffer;        /* the C library's */
    size_t length;
};

void text_stream_open(struct text_stream *stream);

/* What was written, memory_free; NULL where memory ran out, at any time since the stream was opened. */
char *text_stream_close(struct text_stream *stream);

#endif
