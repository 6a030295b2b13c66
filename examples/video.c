/* video.c - a camera's loop: frames of raw BGR pixels in a buffer with padded rows, classified one after the other.
 *
 * The camera is played by a photograph over which a window moves; everything from `frame` on is what a program with a real
 * one does: the model and the classifier are made once, each frame costs one copy of its pixels and one forward pass.
 */
#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAMES = 12, ROW_ALIGNMENT = 64 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* A camera driver's frame: blue, green, red; rows start at multiples of ROW_ALIGNMENT bytes. */
struct frame {
    uint8_t *pixels;
    int height, width;
    size_t row_bytes;
};

/* Window number `index` of FRAMES, moving from the photograph's left to its right. */
static void film(const dla_image *scene, int index, struct frame *frame)
{
    int left = (dla_image_width(scene) - frame->width) * index / (FRAMES - 1);

    for (int y = 0; y < frame->height; y++) {
        const uint8_t *from = dla_image_pixels(scene) + ((size_t)y * (size_t)dla_image_width(scene) + (size_t)left) * 3;
        uint8_t *to = frame->pixels + (size_t)y * frame->row_bytes;
        for (int x = 0; x < frame->width; x++, from += 3, to += 3) {
            to[0] = from[2];
            to[1] = from[1];
            to[2] = from[0];
        }
    }
}

int main(int argc, char **argv)
{
    dla_model *model = NULL;
    dla_classifier *classifier = NULL;
    dla_image *scene = NULL;
    struct frame frame = {0};
    int status = 1;

    if (argc != 2) {
        fprintf(stderr, "usage: video PHOTO\n");
        return 2;
    }
    if (dla_model_open(NULL, &model) != DLA_OK || dla_classifier_create(model, NULL, &classifier) != DLA_OK
        || dla_image_read(argv[1], NULL, &scene) != DLA_OK)
        goto out;
    frame.height = dla_image_height(scene);
    frame.width = (dla_image_width(scene) * 4 + 4) / 5;
    frame.row_bytes = ((size_t)frame.width * 3 + ROW_ALIGNMENT - 1) / ROW_ALIGNMENT * ROW_ALIGNMENT;
    frame.pixels = calloc((size_t)frame.height, frame.row_bytes);
    if (frame.pixels == NULL)
        goto out;

    for (int i = 0; i < FRAMES; i++) {
        dla_image *image = NULL;
        dla_class_score best;

        film(scene, i, &frame);
        double begin = now_ms();
        if (dla_image_from_pixels(frame.pixels, frame.height, frame.width, frame.row_bytes, DLA_PIXELS_BGR, &image) != DLA_OK)
            goto out;
        dla_status result = dla_classifier_classify(classifier, (const dla_image *const *)&image, 1, 1, &best);
        dla_image_destroy(image);
        if (result != DLA_OK)
            goto out;
        printf("frame %2d: %-16s %5.1f %%  %6.2f ms\n", i, best.label, 100.0 * (double)best.probability, now_ms() - begin);
    }
    status = 0;
out:
    if (status != 0)
        fprintf(stderr, "%s\n", dla_error_message());
    free(frame.pixels);
    dla_image_destroy(scene);
    dla_classifier_destroy(classifier);
    dla_model_close(model);
    return status;
}
