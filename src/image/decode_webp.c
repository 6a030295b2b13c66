/* decode_webp.c - WebP through libwebp: lossy and lossless, transparency over white, the first frame of an animation.
 *
 * The container is read by an own walk over its chunks (RIFF: a tag, a length, the bytes, padded to even length): it tells a
 * file that is cut short, gives the EXIF block, and finds the first frame. An animation's frame is a picture of its own that
 * lies somewhere on the canvas; what it does not cover is transparent, so white.
 */
#include "image/decode.h"

#include "base/status.h"
#include "image/exif.h"

#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>

enum { CONTAINER_HEADER = 12, CHUNK_HEADER = 8, CANVAS_CHUNK = 10, FRAME_HEADER = 16 };

struct chunk {
    const uint8_t *bytes; /* behind the chunk's header; NULL: no such chunk */
    size_t size;
};

static uint32_t read_little_endian_24(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
}

static uint32_t read_little_endian_32(const uint8_t *bytes)
{
    return read_little_endian_24(bytes) | (uint32_t)bytes[3] << 24;
}

/* The first chunk of that tag. One that claims more bytes than there are is not found. */
static struct chunk find_chunk(const struct encoded_image *encoded, const char *tag)
{
    size_t offset = CONTAINER_HEADER;

    while (offset <= encoded->size && encoded->size - offset >= CHUNK_HEADER) {
        const uint8_t *header = encoded->bytes + offset;
        size_t size = read_little_endian_32(header + 4);

        if (size > encoded->size - offset - CHUNK_HEADER) {
            break;
        }
        if (memcmp(header, tag, 4) == 0) {
            return (struct chunk){header + CHUNK_HEADER, size};
        }
        offset += CHUNK_HEADER + size + (size & 1);
    }
    return (struct chunk){NULL, 0};
}

/* Decodes a bitstream of width x height (a whole file or the inside of a frame) to RGBA rows of `stride` bytes. */
static dla_status decode_pixels(const struct encoded_image *encoded, struct chunk stream, uint8_t *rgba, size_t rgba_bytes, int stride)
{
    WebPDecoderConfig config;

    if (!WebPInitDecoderConfig(&config)) {
        return status_set(DLA_ERROR_UNSUPPORTED, "%s: this libwebp is not the one that the program was built for", encoded->origin);
    }
    config.output.colorspace = MODE_RGBA;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = rgba;
    config.output.u.RGBA.stride = stride;
    config.output.u.RGBA.size = rgba_bytes;

    VP8StatusCode result = WebPDecode(stream.bytes, stream.size, &config);
    WebPFreeDecBuffer(&config.output);
    switch (result) {
    case VP8_STATUS_OK:
        return DLA_OK;
    case VP8_STATUS_OUT_OF_MEMORY:
        return status_set(DLA_ERROR_MEMORY, "%s: out of memory while decoding WebP", encoded->origin);
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return status_set(DLA_ERROR_FORMAT, "%s: cut short: the WebP bitstream ends within the picture (%zu bytes)", encoded->origin,
                          encoded->size);
    default:
        return status_set(DLA_ERROR_FORMAT, "%s: damaged WebP bitstream", encoded->origin);
    }
}

/* What is to be decoded, and where it goes on the canvas. */
struct placement {
    struct chunk stream;
    int canvas_width, canvas_height;
    int left, top;
    int width, height;
};

static dla_status locate_picture(const struct encoded_image *encoded, struct placement *placement)
{
    WebPBitstreamFeatures features;
    struct chunk canvas = find_chunk(encoded, "VP8X"), frame = find_chunk(encoded, "ANMF");

    *placement = (struct placement){.stream = {encoded->bytes, encoded->size}};
    if (canvas.bytes != NULL && canvas.size >= CANVAS_CHUNK && frame.bytes != NULL && frame.size >= FRAME_HEADER) {
        placement->stream = (struct chunk){frame.bytes + FRAME_HEADER, frame.size - FRAME_HEADER};
        placement->left = 2 * (int)read_little_endian_24(frame.bytes);
        placement->top = 2 * (int)read_little_endian_24(frame.bytes + 3);
    }
    VP8StatusCode result = WebPGetFeatures(placement->stream.bytes, placement->stream.size, &features);
    if (result == VP8_STATUS_NOT_ENOUGH_DATA) {
        return status_set(DLA_ERROR_FORMAT, "%s: cut short: %zu bytes, no picture in them", encoded->origin, encoded->size);
    }
    if (result != VP8_STATUS_OK || features.has_animation) {
        return status_set(DLA_ERROR_FORMAT, "%s: damaged WebP: no picture in it", encoded->origin);
    }
    placement->width = features.width;
    placement->height = features.height;
    if (placement->stream.bytes == encoded->bytes) {
        placement->canvas_width = features.width;
        placement->canvas_height = features.height;
        return DLA_OK;
    }
    placement->canvas_width = 1 + (int)read_little_endian_24(canvas.bytes + 4);
    placement->canvas_height = 1 + (int)read_little_endian_24(canvas.bytes + 7);
    if (placement->width > placement->canvas_width - placement->left || placement->height > placement->canvas_height - placement->top) {
        return status_set(DLA_ERROR_FORMAT, "%s: damaged WebP: the first frame (%d x %d at %d, %d) leaves the canvas of %d x %d",
                          encoded->origin, placement->width, placement->height, placement->left, placement->top, placement->canvas_width,
                          placement->canvas_height);
    }
    return DLA_OK;
}

dla_status webp_decode(const struct encoded_image *encoded, dla_image **image, int *orientation)
{
    struct placement placement;
    struct chunk exif = find_chunk(encoded, "EXIF");
    dla_image *decoded = NULL;
    size_t claimed = (size_t)read_little_endian_32(encoded->bytes + 4) + CHUNK_HEADER;

    if (claimed > encoded->size) {
        return status_set(DLA_ERROR_FORMAT, "%s: cut short: %zu bytes of %zu", encoded->origin, encoded->size, claimed);
    }
    dla_status status = locate_picture(encoded, &placement);
    if (status == DLA_OK) {
        status = check_claimed_size(encoded, (uint64_t)placement.canvas_width, (uint64_t)placement.canvas_height, 0);
    }
    if (status == DLA_OK) {
        status = image_create_wide(placement.canvas_height, placement.canvas_width, 4, &decoded);
    }
    if (status != DLA_OK) {
        return status;
    }
    size_t stride = (size_t)placement.canvas_width * 4, canvas_bytes = stride * (size_t)placement.canvas_height;
    size_t start = (size_t)placement.top * stride + (size_t)placement.left * 4;
    if (placement.width < placement.canvas_width || placement.height < placement.canvas_height) {
        memset(decoded->pixels, 0, canvas_bytes);
    }
    status = decode_pixels(encoded, placement.stream, decoded->pixels + start, canvas_bytes - start, (int)stride);
    if (status != DLA_OK) {
        dla_image_destroy(decoded);
        return status;
    }
    image_flatten_alpha(decoded);
    *image = decoded;
    *orientation = exif.bytes != NULL ? exif_orientation(exif.bytes, exif.size) : 1;
    return DLA_OK;
}
