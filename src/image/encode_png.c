/* encode_png.c - PNG through libpng, written to memory first: a picture that cannot be encoded leaves no file behind. */
#include "image/encode_png.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "image/image.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

struct png_writer {
    png_structp png;
    png_infop info;
    const struct png_picture *picture;
    jmp_buf failed;    /* where every error of the library ends */
    dla_status status; /* of the failure, its message recorded */
    uint8_t *bytes;    /* what is encoded so far */
    size_t size, capacity;
};

static _Noreturn void fail(struct png_writer *writer, dla_status status)
{
    writer->status = status;
    longjmp(writer->failed, 1);
}

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    fail(png_get_error_ptr(png), status_set(DLA_ERROR_ARGUMENT, "cannot encode a PNG: %s", text));
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void append_bytes(png_structp png, png_bytep from, size_t count)
{
    struct png_writer *writer = png_get_io_ptr(png);

    if (count > writer->capacity - writer->size) {
        size_t capacity = 2 * writer->capacity + count + 4096;
        uint8_t *bytes = memory_resize(writer->bytes, capacity);

        if (bytes == NULL) {
            fail(writer, status_out_of_memory(capacity, "an encoded picture"));
        }
        writer->bytes = bytes;
        writer->capacity = capacity;
    }
    memcpy(writer->bytes + writer->size, from, count);
    writer->size += count;
}

static void flush_nothing(png_structp png)
{
    (void)png;
}

static dla_status check_picture(const struct png_picture *picture)
{
    if (picture->height < 1 || picture->width < 1) {
        return status_set(DLA_ERROR_ARGUMENT, "cannot encode a PNG of %d x %d pixels", picture->width, picture->height);
    }
    if (picture->kind != PNG_KIND_PALETTE) {
        return DLA_OK;
    }
    for (size_t i = 0; i < (size_t)picture->height * (size_t)picture->width; i++) {
        if (picture->pixels[i] >= picture->colours) {
            return status_set(DLA_ERROR_ARGUMENT, "cannot encode a PNG: the palette has %d colours, a pixel asks for number %d",
                              picture->colours, picture->pixels[i]);
        }
    }
    return DLA_OK;
}

/* Runs under the setjmp of png_encode; returns only on success. */
static void write_picture(struct png_writer *writer)
{
    static const int colour_types[] = {
        [PNG_KIND_RGB] = PNG_COLOR_TYPE_RGB, [PNG_KIND_GREY] = PNG_COLOR_TYPE_GRAY, [PNG_KIND_PALETTE] = PNG_COLOR_TYPE_PALETTE};
    const struct png_picture *picture = writer->picture;
    size_t row_bytes = (size_t)picture->width * (picture->kind == PNG_KIND_RGB ? 3 : 1);
    png_color palette[256];

    png_set_write_fn(writer->png, writer, append_bytes, flush_nothing);
    png_set_user_limits(writer->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_IHDR(writer->png, writer->info, (png_uint_32)picture->width, (png_uint_32)picture->height, 8, colour_types[picture->kind],
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (picture->kind == PNG_KIND_PALETTE) {
        for (int i = 0; i < picture->colours; i++) {
            palette[i] = (png_color){picture->palette[i][0], picture->palette[i][1], picture->palette[i][2]};
        }
        png_set_PLTE(writer->png, writer->info, palette, picture->colours);
    }
    png_write_info(writer->png, writer->info);
    for (int y = 0; y < picture->height; y++) {
        png_write_row(writer->png, picture->pixels + (size_t)y * row_bytes);
    }
    png_write_end(writer->png, writer->info);
}

dla_status png_encode(const struct png_picture *picture, uint8_t **bytes, size_t *size)
{
    dla_status status = check_picture(picture);

    if (status != DLA_OK) {
        return status;
    }
    struct png_writer *writer = memory_allocate_zeroed(1, sizeof *writer); /* on the heap: its state outlives a longjmp */
    if (writer == NULL) {
        return status_out_of_memory(sizeof *writer, "a PNG encoder");
    }
    writer->picture = picture;
    if (setjmp(writer->failed) == 0) {
        writer->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, writer, on_error, on_warning);
        writer->info = writer->png != NULL ? png_create_info_struct(writer->png) : NULL;
        if (writer->info == NULL) {
            fail(writer, status_out_of_memory(0, "a PNG encoder"));
        }
        write_picture(writer);
        *bytes = writer->bytes;
        *size = writer->size;
        writer->bytes = NULL;
    }
    status = writer->status;
    png_destroy_write_struct(&writer->png, &writer->info);
    memory_free(writer->bytes);
    memory_free(writer);
    return status;
}

dla_status png_write(const char *path, const struct png_picture *picture)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    dla_status status = png_encode(picture, &bytes, &size);

    if (status != DLA_OK) {
        return status_prefix(status, "%s: ", path);
    }
    status = file_write(path, bytes, size);
    memory_free(bytes);
    return status;
}

dla_status dla_image_write_png(const dla_image *image, const char *path)
{
    if (image == NULL || path == NULL) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_image_write_png: image and path must not be NULL");
    }
    return png_write(path, &(struct png_picture){.height = image->height, .width = image->width, .pixels = image->pixels});
}

dla_status dla_grey_write_png(const uint8_t *grey, int height, int width, const char *path)
{
    if (grey == NULL || path == NULL) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_grey_write_png: grey and path must not be NULL");
    }
    return png_write(path, &(struct png_picture){.height = height, .width = width, .kind = PNG_KIND_GREY, .pixels = grey});
}

dla_status dla_labels_write_png(const uint8_t *labels, int height, int width, const uint8_t (*palette)[3], const char *path)
{
    if (labels == NULL || palette == NULL || path == NULL) {
        return status_set(DLA_ERROR_ARGUMENT, "dla_labels_write_png: labels, palette and path must not be NULL");
    }
    return png_write(path, &(struct png_picture){height, width, PNG_KIND_PALETTE, labels, palette, 256});
}
