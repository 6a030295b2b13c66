/* decode_jpeg.c - JPEG through libjpeg-turbo: baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK.
 *
 * The library's defaults (accurate integer DCT, smooth chroma upsampling) are what Pillow uses, so pixels are equal to Pillow's.
 * Four-colour pictures follow its reading, too: samples are taken as inverted, as Adobe writes them, and turned into RGB by
 * multiplying the inks away.
 *
 * libjpeg's own source manager answers the end of the data with a grey rest of the picture and a warning. Here the end is an
 * error as soon as the decoder wants a byte that is not there.
 */
#include "image/decode.h"

#include "base/memory.h"
#include "base/status.h"
#include "image/exif.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum {
    APP1 = JPEG_APP0 + 1,
    MAX_SCANS = 500, /* sane progressive files have some ten; a small hostile one could ask for millions of full passes */

    /* The smallest code is one bit, and a picture needs at least one block of 8 x 8 samples per bit; subsampling by 4 x 4 makes
     * such a block 32 x 32 pixels. Arithmetic coding knows no smallest code. */
    MOST_PIXELS_PER_BYTE = 32 * 32 * 8
};

struct jpeg_reader {
    struct jpeg_decompress_struct decompress;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf failed; /* where every error of the library ends */
    const struct encoded_image *encoded;
    dla_status status; /* of the failure, its message recorded */
    dla_image *image;  /* as far as it is decoded; freed by jpeg_decode on failure */
    uint8_t *ink_rows; /* one row of CMYK samples, or NULL */
    int orientation;
};

static struct jpeg_reader *reader_of(j_common_ptr library)
{
    return library->client_data;
}

static _Noreturn void fail(struct jpeg_reader *reader, dla_status status)
{
    reader->status = status;
    longjmp(reader->failed, 1);
}

static void on_error(j_common_ptr library)
{
    struct jpeg_reader *reader = reader_of(library);
    char text[JMSG_LENGTH_MAX];

    library->err->format_message(library, text);
    if (library->err->msg_code == JERR_OUT_OF_MEMORY) {
        fail(reader, status_set(DLA_ERROR_MEMORY, "%s: out of memory while decoding JPEG", reader->encoded->origin));
    }
    fail(reader, status_set(DLA_ERROR_FORMAT, "%s: damaged JPEG: %s", reader->encoded->origin, text));
}

static _Noreturn void fail_cut_short(struct jpeg_reader *reader)
{
    const struct jpeg_decompress_struct *decompress = &reader->decompress;
    const struct encoded_image *encoded = reader->encoded;

    if (reader->image == NULL) {
        fail(reader, status_set(DLA_ERROR_FORMAT, "%s: cut short: %zu bytes, no picture in them", encoded->origin, encoded->size));
    }
    if (decompress->progressive_mode || decompress->output_scanline == 0) {
        fail(reader, status_set(DLA_ERROR_FORMAT, "%s: cut short: %zu bytes end within scan %d", encoded->origin, encoded->size,
                                decompress->input_scan_number));
    }
    fail(reader, status_set(DLA_ERROR_FORMAT, "%s: cut short: %zu bytes hold %u of %u rows", encoded->origin, encoded->size,
                            decompress->output_scanline, decompress->output_height));
}

/* Warnings pass, as in Pillow: the picture is damaged somewhere but there. All but one: an end marker in the middle of it. */
static void on_message(j_common_ptr library, int level)
{
    struct jpeg_reader *reader = reader_of(library);
    const struct jpeg_decompress_struct *decompress = &reader->decompress;

    if (level >= 0 || library->err->msg_code != JWRN_HIT_MARKER || decompress->unread_marker != JPEG_EOI) {
        return;
    }
    if (decompress->input_iMCU_row + 1 < decompress->total_iMCU_rows) {
        fail_cut_short(reader);
    }
}

static void on_progress(j_common_ptr library)
{
    struct jpeg_reader *reader = reader_of(library);

    if (reader->decompress.input_scan_number > MAX_SCANS) {
        fail(reader, status_set(DLA_ERROR_LIMIT, "%s: JPEG with more than %d scans", reader->encoded->origin, MAX_SCANS));
    }
}

static void start_source(j_decompress_ptr decompress)
{
    (void)decompress;
}

static boolean fill_source(j_decompress_ptr decompress)
{
    fail_cut_short(reader_of((j_common_ptr)decompress));
}

static void skip_source(j_decompress_ptr decompress, long count)
{
    struct jpeg_source_mgr *source = decompress->src;

    if (count > 0) {
        if ((unsigned long)count > source->bytes_in_buffer) {
            fail_cut_short(reader_of((j_common_ptr)decompress));
        }
        source->next_input_byte += count;
        source->bytes_in_buffer -= (size_t)count;
    }
}

/* a * b / 255, rounded to nearest */
static unsigned multiply_255(unsigned a, unsigned b)
{
    unsigned product = a * b + 128;

    return (product + (product >> 8)) >> 8;
}

/* Samples as stored by Adobe: 255 minus the ink. Light left = (paper - ink) scaled by what black leaves. */
static void inks_to_rgb(const uint8_t *inks, /* (width, 4) */ uint8_t *rgb, /* (width, 3) */ int width)
{
    for (int x = 0; x < width; x++, inks += 4, rgb += 3) {
        unsigned light = inks[3]; /* 255 - black */

        for (int c = 0; c < 3; c++) {
            rgb[c] = (uint8_t)(light - multiply_255(255u - inks[c], light));
        }
    }
}

static void read_orientation(struct jpeg_reader *reader)
{
    for (jpeg_saved_marker_ptr marker = reader->decompress.marker_list; marker != NULL; marker = marker->next) {
        if (marker->marker == APP1 && marker->data_length >= 6 && memcmp(marker->data, "Exif\0", 6) == 0) {
            reader->orientation = exif_orientation(marker->data, marker->data_length);
            return;
        }
    }
}

/* Lets the decoder give a smaller picture where the caller takes one. */
static void reduce(struct jpeg_decompress_struct *decompress, struct image_reduction *reduction, int orientation)
{
    bool turned = orientation >= 5; /* EXIF: 5 to 8 swap the sides */
    int height = (int)decompress->image_height, width = (int)decompress->image_width;

    reduction->full_height = turned ? width : height;
    reduction->full_width = turned ? height : width;
    decompress->scale_num = 1;
    decompress->scale_denom = (unsigned)reduction->choose(reduction->context, reduction->full_height, reduction->full_width);
}

/* Runs under the setjmp of jpeg_decode; returns only on success. */
static void read_picture(struct jpeg_reader *reader)
{
    struct jpeg_decompress_struct *decompress = &reader->decompress;
    const struct encoded_image *encoded = reader->encoded;

    jpeg_create_decompress(decompress);
    decompress->src = &reader->source;
    decompress->progress = &reader->progress;
    jpeg_save_markers(decompress, APP1, 0xffff);
    jpeg_read_header(decompress, TRUE);
    read_orientation(reader);

    int components = decompress->num_components;
    if (components != 1 && components != 3 && components != 4) {
        fail(reader, status_set(DLA_ERROR_UNSUPPORTED, "%s: JPEG with %d components; 1, 3 and 4 are known", encoded->origin, components));
    }
    dla_status status =
        check_claimed_size(encoded, decompress->image_width, decompress->image_height, decompress->arith_code ? 0 : MOST_PIXELS_PER_BYTE);
    if (status != DLA_OK) {
        fail(reader, status);
    }
    if (encoded->reduction != NULL) {
        reduce(decompress, encoded->reduction, reader->orientation);
    }
    jpeg_calc_output_dimensions(decompress);
    int height = (int)decompress->output_height, width = (int)decompress->output_width;
    decompress->out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
    decompress->dct_method = JDCT_ISLOW;
    decompress->do_fancy_upsampling = TRUE;
    status = image_create(height, width, &reader->image);
    if (status != DLA_OK) {
        fail(reader, status);
    }
    if (components == 4) {
        reader->ink_rows = memory_allocate((size_t)width * 4);
        if (reader->ink_rows == NULL) {
            fail(reader, status_out_of_memory((size_t)width * 4, "a row of a CMYK picture"));
        }
    }
    jpeg_start_decompress(decompress);
    while (decompress->output_scanline < decompress->output_height) {
        uint8_t *to = reader->image->pixels + (size_t)decompress->output_scanline * (size_t)width * 3;
        JSAMPROW row = reader->ink_rows != NULL ? reader->ink_rows : to;

        jpeg_read_scanlines(decompress, &row, 1);
        if (reader->ink_rows != NULL) {
            inks_to_rgb(reader->ink_rows, to, width);
        }
    }
}

dla_status jpeg_decode(const struct encoded_image *encoded, dla_image **image, int *orientation)
{
    struct jpeg_reader *reader = memory_allocate_zeroed(1, sizeof *reader); /* on the heap: its state outlives a longjmp */

    if (reader == NULL) {
        return status_out_of_memory(sizeof *reader, "a JPEG decoder");
    }
    reader->encoded = encoded;
    reader->orientation = 1;
    reader->decompress.client_data = reader;
    reader->decompress.err = jpeg_std_error(&reader->errors);
    reader->errors.error_exit = on_error;
    reader->errors.emit_message = on_message;
    reader->progress.progress_monitor = on_progress;
    reader->source = (struct jpeg_source_mgr){.next_input_byte = encoded->bytes,
                                              .bytes_in_buffer = encoded->size,
                                              .init_source = start_source,
                                              .fill_input_buffer = fill_source,
                                              .skip_input_data = skip_source,
                                              .resync_to_restart = jpeg_resync_to_restart,
                                              .term_source = start_source};
    if (setjmp(reader->failed) == 0) {
        read_picture(reader);
        *image = reader->image;
        *orientation = reader->orientation;
        reader->image = NULL;
    }
    dla_status status = reader->status;
    jpeg_destroy_decompress(&reader->decompress);
    dla_image_destroy(reader->image);
    memory_free(reader->ink_rows);
    memory_free(reader);
    return status;
}
