/* features.c - the feature pyramid of a photograph: what a detector or a segmentation head builds upon.
 *
 * A session gives any value of the network by name instead of the classes: "level2" to "level5" are the outputs of the
 * aggregation trees, at 1/4 to 1/32 of the input's size.
 */
#include <dla/dla.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LEVELS = 4 };

static double root_mean_square(const float *map, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += (double)map[i] * (double)map[i];
    return sqrt(sum / (double)count);
}

int main(int argc, char **argv)
{
    static const char *const names[LEVELS] = {"level2", "level3", "level4", "level5"};
    dla_model *model = NULL;
    dla_image *image = NULL;
    dla_session *session = NULL;
    float *input = NULL, *maps[LEVELS] = {NULL};
    size_t counts[LEVELS];
    int status = 1;

    if (argc != 2) {
        fprintf(stderr, "usage: features PHOTO\n");
        return 2;
    }
    dla_session_options options = DLA_SESSION_OPTIONS_INIT;
    options.features = names;
    options.feature_count = LEVELS;
    if (dla_model_open(NULL, &model) != DLA_OK || dla_image_read(argv[1], NULL, &image) != DLA_OK
        || dla_session_create(model, &options, &session) != DLA_OK)
        goto out;

    const dla_preprocessing *preprocessing = dla_model_preprocessing(model);
    input = malloc(sizeof(float) * 3 * (size_t)preprocessing->size * (size_t)preprocessing->size);
    if (input == NULL || dla_image_preprocess(image, preprocessing, DLA_LAYOUT_NCHW, input) != DLA_OK)
        goto out;
    for (size_t i = 0; i < LEVELS; i++) {
        int shape[4];   /* batch, channels, height, width */
        dla_session_output_shape(session, i, shape);
        counts[i] = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
        maps[i] = malloc(sizeof(float) * counts[i]);
        if (maps[i] == NULL)
            goto out;
        printf("%s: %d channels of %d x %d\n", names[i], shape[1], shape[2], shape[3]);
    }
    if (dla_session_run(session, DLA_LAYOUT_NCHW, input, maps) != DLA_OK)
        goto out;
    for (size_t i = 0; i < LEVELS; i++)
        printf("%s: root mean square %.3f\n", names[i], root_mean_square(maps[i], counts[i]));
    status = 0;
out:
    if (status != 0)
        fprintf(stderr, "%s\n", dla_error_message());
    for (size_t i = 0; i < LEVELS; i++)
        free(maps[i]);
    free(input);
    dla_session_destroy(session);
    dla_image_destroy(image);
    dla_model_close(model);
    return status;
}
