/* text_stream.c - open_memstream, its result moved to the library's own memory. */
#include "base/text_stream.h"

#include "base/memory.h"

#include <stdlib.h>

void text_stream_open(struct text_stream *stream)
{
    *stream = (struct text_stream){0};
    stream->file = open_memstream(&stream->buffer, &stream->length);
}

char *text_stream_close(struct text_stream *stream)
{
    char *text = NULL;

    if (stream->file != NULL && fclose(stream->file) == 0)
        text = memory_copy_text(stream->buffer, stream->length);
    free(stream->buffer); /* the C library's, so not memory_free */
    return text;
}
