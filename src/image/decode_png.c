/* decode_png.c - PNG through libpng: every colour type and depth, interlaced, transparency over white.
 *
 * 16-bit samples keep their high byte. Gamma and colour profiles are ignored, as Pillow and the networks' training did.
 * Ancillary chunks other than tRNS are skipped unread, so a compressed text or profile cannot grow in memory; the EXIF chunk
 * is found by an own walk over the chunks.
 */
#include "image/decode.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "image/exif.h"
#include "image/label_map.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIGNATURE = 8,
    CHUNK_FRAME = 12, /* length, type, checksum */

    /* Deflate yields at most 1032 bytes for one (258 for two bits), and a pixel has at least one bit. */
    MOST_PIXELS_PER_BYTE = 1032 * 8
};

struct png_reader {
    png_structp png;
    png_infop info;
    const struct encoded_image *encoded;
    bool as_labels;    /* the stored numbers are wanted, one byte a pixel, not colours */
    size_t offset;     /* of the next byte to read */
    jmp_buf failed;    /* where every error of the library ends */
    dla_status status; /* of the failure, its message recorded */
    dla_image *image;  /* as far as it is decoded; freed by png_decode on failure */
    int rows_read;     /* of the last pass begun */
};

static _Noreturn void fail(struct png_reader *reader, dla_status status)
{
    reader->status = status;
    longjmp(reader->failed, 1);
}

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    struct png_reader *reader = png_get_error_ptr(png);

    fail(reader, status_set(DLA_ERROR_FORMAT, "%s: damaged PNG: %s", reader->encoded->origin, text));
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void read_bytes(png_structp png, png_bytep to, size_t count)
{
    struct png_reader *reader = png_get_io_ptr(png);
    const struct encoded_image *encoded = reader->encoded;

    if (count > encoded->size - reader->offset) {
        if (reader->image == NULL) {
            fail(reader, status_set(DLA_ERROR_FORMAT, "%s: cut short: %zu bytes, no picture in them", encoded->origin, encoded->size));
        }
        fail(reader, status_set(DLA_ERROR_FORMAT, "%s: cut short: %zu bytes hold %d of %d rows%s", encoded->origin, encoded->size,
                                reader->rows_read, reader->image->height,
                                png_get_interlace_type(png, reader->info) == PNG_INTERLACE_NONE ? "" : " of an interlaced picture"));
    }
    memcpy(to, encoded->bytes + reader->offset, count);
    reader->offset += count;
}

/* Asks libpng for the stored numbers, a byte each. */
static void choose_labels(struct png_reader *reader)
{
    int depth = png_get_bit_depth(reader->png, reader->info), type = png_get_color_type(reader->png, reader->info);

    if (depth > 8 || (type != PNG_COLOR_TYPE_GRAY && type != PNG_COLOR_TYPE_PALETTE)) {
        fail(reader, status_set(DLA_ERROR_UNSUPPORTED, "%s: labels must be a PNG in grey of at most 8 bits or with a palette",
                                reader->encoded->origin));
    }
    png_set_packing(reader->png);
}

/* Asks libpng for 8-bit RGB, or RGBA where the picture has transparency. */
static void choose_colours(struct png_reader *reader)
{
    png_set_strip_16(reader->png);
    png_set_expand(reader->png);
    png_set_gray_to_rgb(reader->png);
}

/* Runs under the setjmp of png_read; returns only on success. */
static void read_picture(struct png_reader *reader)
{
    png_structp png = reader->png;
    png_infop info = reader->info;

    png_set_read_fn(png, reader, read_bytes);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* the limit on pixels is ours */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(png, info);

    dla_status status =
        check_claimed_size(reader->encoded, png_get_image_width(png, info), png_get_image_height(png, info), MOST_PIXELS_PER_BYTE);
    if (status != DLA_OK) {
        fail(reader, status);
    }
    if (reader->as_labels) {
        choose_labels(reader);
    } else {
        choose_colours(reader);
    }
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);

    int height = (int)png_get_image_height(png, info), width = (int)png_get_image_width(png, info), channels = png_get_channels(png, info);
    size_t row_bytes = (size_t)width * (size_t)channels;
    if (png_get_rowbytes(png, info) != row_bytes) {
        fail(reader, status_set(DLA_ERROR_UNSUPPORTED, "%s: PNG of a kind that libpng does not bring to 8 bits", reader->encoded->origin));
    }
    status = image_create_wide(height, width, channels, &reader->image);
    if (status != DLA_OK) {
        fail(reader, status);
    }
    for (int pass = 0; pass < passes; pass++) {
        for (reader->rows_read = 0; reader->rows_read < height; reader->rows_read++) {
            png_read_row(png, reader->image->pixels + (size_t)reader->rows_read * row_bytes, NULL);
        }
    }
    if (channels == 4) {
        image_flatten_alpha(reader->image);
    }
}

/* The picture, or (height, width, 1) labels in the same object. */
static dla_status png_read(const struct encoded_image *encoded, bool as_labels, dla_image **image)
{
    struct png_reader *reader = memory_allocate_zeroed(1, sizeof *reader); /* on the heap: its state outlives a longjmp */

    if (reader == NULL) {
        return status_out_of_memory(sizeof *reader, "a PNG decoder");
    }
    reader->encoded = encoded;
    reader->as_labels = as_labels;
    if (setjmp(reader->failed) == 0) {
        reader->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, reader, on_error, on_warning);
        reader->info = reader->png != NULL ? png_create_info_struct(reader->png) : NULL;
        if (reader->info == NULL) {
            fail(reader, status_out_of_memory(0, "a PNG decoder"));
        }
        read_picture(reader);
        *image = reader->image;
        reader->image = NULL;
    }
    dla_status status = reader->status;
    png_destroy_read_struct(&reader->png, &reader->info, NULL);
    dla_image_destroy(reader->image);
    memory_free(reader);
    return status;
}

static uint32_t read_big_endian_32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static int find_orientation(const struct encoded_image *encoded)
{
    size_t offset = SIGNATURE;

    while (offset <= encoded->size && encoded->size - offset >= CHUNK_FRAME) {
        const uint8_t *chunk = encoded->bytes + offset;
        size_t length = read_big_endian_32(chunk);

        if (length > encoded->size - offset - CHUNK_FRAME) {
            break;
        }
        if (memcmp(chunk + 4, "eXIf", 4) == 0) {
            return exif_orientation(chunk + 8, length);
        }
        offset += CHUNK_FRAME + length;
    }
    return 1;
}

dla_status png_decode(const struct encoded_image *encoded, dla_image **image, int *orientation)
{
    *orientation = find_orientation(encoded);
    return png_read(encoded, false, image);
}

dla_status label_map_decode(const void *bytes, size_t size, const char *origin, struct label_map *labels)
{
    dla_decode_options defaults = DLA_DECODE_OPTIONS_INIT;
    struct encoded_image encoded = {bytes, size, origin, defaults.max_pixels, NULL};
    dla_image *image = NULL;

    if (size < SIGNATURE || png_sig_cmp(encoded.bytes, 0, SIGNATURE) != 0) {
        return status_set(DLA_ERROR_FORMAT, "%s: not a PNG file; labels are stored in grey or palette PNG", origin);
    }
    dla_status status = png_read(&encoded, true, &image);
    if (status == DLA_OK) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): success made the image */
        *labels = (struct label_map){image->height, image->width, image->pixels};
        memory_free(image);
    }
    return status;
}

dla_status label_map_read(const char *path, struct label_map *labels)
{
    struct mapped_file file;
    dla_status status = file_map(path, &file);

    if (status == DLA_OK) {
        status = label_map_decode(file.bytes, file.size, path, labels);
        file_unmap(&file);
    }
    return status;
}

void label_map_free(struct label_map *labels)
{
    memory_free(labels->labels);
    labels->labels = NULL;
}
