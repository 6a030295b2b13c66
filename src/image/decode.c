/* decode.c - from a file's bytes to pixels: tells the format by content, decodes, turns the picture upright. */
#include "image/decode.h"

#include "base/file.h"
#include "base/options.h"
#include "base/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SNIFF = 16 }; /* no signature below looks further */

/* First bytes of formats, '?' standing for any byte. Those without a decoder are here to tell the user what the file is. */
static const struct signature {
    const char *pattern;
    int length;
    const char *format; /* with its article */
    dla_status (*decode)(const struct encoded_image *encoded, dla_image **image, int *orientation);
} signatures[] = {
    {"\xff\xd8\xff", 3, "a JPEG", jpeg_decode},
    {"\x89PNG\r\n\x1a\n", 8, "a PNG", png_decode},
    {"RIFF????WEBP", 12, "a WebP", webp_decode},
    {"GIF8", 4, "a GIF", NULL},
    {"BM????\0\0\0\0", 10, "a BMP", NULL},
    {"II*\0", 4, "a TIFF", NULL},
    {"MM\0*", 4, "a TIFF", NULL},
    {"????ftypavif", 12, "an AVIF", NULL},
    {"????ftypheic", 12, "a HEIC", NULL},
    {"????ftypmif1", 12, "a HEIF", NULL},
    {"\xff\x0a", 2, "a JPEG XL", NULL},
    {"\0\0\0\x0cJXL ", 8, "a JPEG XL", NULL},
    {"\0\0\0\x0cjP  ", 8, "a JPEG 2000", NULL},
    {"%PDF-", 5, "a PDF", NULL},
};

static const struct signature *find_signature(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *signature = &signatures[i];
        bool same = size >= (size_t)signature->length;

        for (int k = 0; same && k < signature->length; k++) {
            same = signature->pattern[k] == '?' || (uint8_t)signature->pattern[k] == bytes[k];
        }
        if (same) {
            return signature;
        }
    }
    return NULL;
}

/* Quotes the first bytes, unprintable ones as \xNN. */
static void quote_start(const uint8_t *bytes, size_t size, char *text, size_t text_size)
{
    enum { SHOWN = 5 };
    size_t used = 0;

    for (size_t i = 0; i < size && i < SHOWN && used + 5 < text_size; i++) {
        bool printable = bytes[i] >= 0x20 && bytes[i] < 0x7f;

        used += (size_t)snprintf(text + used, text_size - used, printable ? "%c" : "\\x%02x", bytes[i]);
    }
}

dla_status check_claimed_size(const struct encoded_image *encoded, uint64_t width, uint64_t height, uint64_t most_pixels_per_byte)
{
    if (width < 1 || height < 1 || width > INT32_MAX || height > INT32_MAX) {
        return status_set(DLA_ERROR_FORMAT, "%s: the header claims %" PRIu64 " x %" PRIu64 " pixels", encoded->origin, width, height);
    }
    if (width > (uint64_t)encoded->max_pixels / height) {
        return status_set(DLA_ERROR_LIMIT, "%s: %" PRIu64 " x %" PRIu64 " pixels are more than the limit of %" PRId64 " in all",
                          encoded->origin, width, height, encoded->max_pixels);
    }
    if (most_pixels_per_byte > 0 && width * height / most_pixels_per_byte > encoded->size) {
        return status_set(DLA_ERROR_FORMAT,
                          "%s: cut short: the header claims %" PRIu64 " x %" PRIu64 " pixels, which %zu bytes cannot hold", encoded->origin,
                          width, height, encoded->size);
    }
    return DLA_OK;
}

static dla_status decode(const void *bytes, size_t size, const char *origin, const dla_decode_options *options,
                         struct image_reduction *reduction, dla_image **image)
{
    dla_decode_options chosen = DLA_DECODE_OPTIONS_INIT;

    if (image == NULL || (bytes == NULL && size > 0)) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_decode: bytes and image must not be NULL");
    }
    dla_status status = options_take(&chosen, sizeof chosen, options, "DLA_DECODE_OPTIONS_INIT");
    if (status != DLA_OK) {
        return status;
    }
    struct encoded_image encoded = {bytes, size, origin != NULL ? origin : "image", chosen.max_pixels, reduction};
    if (encoded.max_pixels < 1) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_decode: max_pixels is %" PRId64 ", must be at least 1", encoded.max_pixels);
    }
    if (encoded.max_pixels > PTRDIFF_MAX / 4) {
        encoded.max_pixels = PTRDIFF_MAX / 4; /* four bytes a pixel never overflow a size */
    }
    if (size == 0) {
        return status_set(DLA_ERROR_FORMAT, "%s: empty file", encoded.origin);
    }
    const struct signature *signature = find_signature(bytes, size);
    if (signature == NULL) {
        char start[5 * SNIFF] = "";

        quote_start(bytes, size, start, sizeof start);
        return status_set(DLA_ERROR_FORMAT, "%s: not a JPEG, PNG or WebP file (starts with \"%s\")", encoded.origin, start);
    }
    if (signature->decode == NULL) {
        return status_set(DLA_ERROR_UNSUPPORTED, "%s: not a JPEG, PNG or WebP file but %s; convert it first", encoded.origin,
                          signature->format);
    }
    dla_image *decoded = NULL;
    int orientation = 1;
    status = signature->decode(&encoded, &decoded, &orientation);
    if (status == DLA_OK && !chosen.ignore_exif) {
        status = image_orient(decoded, orientation);
    }
    if (status != DLA_OK) {
        dla_image_destroy(decoded);
        return status;
    }
    if (reduction != NULL && reduction->full_height == 0) {
        reduction->full_height = decoded->height;
        reduction->full_width = decoded->width;
    }
    *image = decoded;
    return DLA_OK;
}

dla_status dla_image_decode(const void *bytes, size_t size, const char *origin, const dla_decode_options *options, dla_image **image)
{
    return decode(bytes, size, origin, options, NULL, image);
}

dla_status image_read_reduced(const char *path, struct image_reduction *reduction, dla_image **image)
{
    struct mapped_file file;
    dla_status status = file_map(path, &file);

    reduction->full_height = reduction->full_width = 0;
    if (status != DLA_OK) {
        return status;
    }
    status = decode(file.bytes, file.size, path, NULL, reduction, image);
    file_unmap(&file);
    return status;
}

dla_status dla_image_read(const char *path, const dla_decode_options *options, dla_image **image)
{
    struct mapped_file file;

    if (path == NULL) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_read: path must not be NULL");
    }
    dla_status status = file_map(path, &file);
    if (status != DLA_OK) {
        return status;
    }
    status = dla_image_decode(file.bytes, file.size, path, options, image);
    file_unmap(&file);
    return status;
}
