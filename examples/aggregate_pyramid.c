/* aggregate_pyramid.c - iterative deep aggregation over a pyramid that is not a DLA network's.
 *
 *     aggregate_pyramid PHOTO [WEIGHTS.safetensors [JOINED.npy]]
 *
 * The pyramid here is made by hand: how bright a cell of the photograph is and how strong its gradients are in four directions,
 * for cells of 4, 8 and 16 pixels. Another backbone's maps would do as well: all that counts is how many channels they have and
 * how many pixels of the photograph one of theirs covers. Coarse maps see more, fine ones say where; IDA (sections 3.1 and 4.2 of the
 * paper) enlarges them to the finest one's size and merges them one by one.
 *
 * The weights belong to what the aggregation is trained for: a state dict of the same network in PyTorch, with the names that
 * docs/aggregation.md lists. Without them numbers are used that cost the same and mean nothing.
 */
#include <dla/dla.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LEVELS = 3, CHANNELS = 5, JOINED_CHANNELS = 16 };

static const int cells[LEVELS] = {4, 8, 16};
static const char *const names[LEVELS] = {"cells4", "cells8", "cells16"};

/* The network, in the order of its inputs. NULL after a message. */
static dla_network *build(void)
{
    dla_builder *builder = NULL;
    dla_network *network = NULL;
    dla_map maps[LEVELS];

    if (dla_builder_create("aggregate_pyramid", &builder) != DLA_OK)
        return NULL;
    for (int level = 0; level < LEVELS; level++)
        maps[level] = dla_builder_input(builder, names[level], CHANNELS, cells[level]);
    dla_map joined = dla_builder_ida(builder, maps, LEVELS, JOINED_CHANNELS, "ida");
    return dla_builder_finish(builder, joined, &network) == DLA_OK ? network : NULL;
}

static float brightness(const dla_image *photo, int y, int x)
{
    int height = dla_image_height(photo), width = dla_image_width(photo);
    y = y < height ? y : height - 1;
    x = x < width ? x : width - 1;
    const uint8_t *rgb = dla_image_pixels(photo) + 3 * ((size_t)y * (size_t)width + (size_t)x);
    return (float)(rgb[0] + rgb[1] + rgb[2]) / 765.0f;
}

/* map: (rows, columns, CHANNELS), means over cells of cell x cell pixels. */
static void fill(const dla_image *photo, int cell, int rows, int columns, float *map)
{
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++, map += CHANNELS) {
            float sums[CHANNELS] = {0};
            for (int y = row * cell; y < (row + 1) * cell; y++)
                for (int x = column * cell; x < (column + 1) * cell; x++) {
                    float here = brightness(photo, y, x), down = brightness(photo, y + 1, x) - here, right = brightness(photo, y, x + 1) - here;
                    sums[0] += here;
                    sums[1] += fabsf(right);
                    sums[2] += fabsf(down);
                    sums[3] += fabsf(right + down) * 0.7071f;
                    sums[4] += fabsf(right - down) * 0.7071f;
                }
            for (int c = 0; c < CHANNELS; c++)
                map[c] = sums[c] / (float)(cell * cell);
        }
}

int main(int argc, char **argv)
{
    dla_model_options model_options = DLA_MODEL_OPTIONS_INIT;
    dla_session_options session_options = DLA_SESSION_OPTIONS_INIT;
    dla_image *photo = NULL;
    dla_network *network = NULL;
    dla_model *model = NULL;
    dla_session *session = NULL;
    float *maps[LEVELS] = {NULL}, *joined = NULL;
    int shape[4], status = 1;   /* shape: batch, channels, height, width */

    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: aggregate_pyramid PHOTO [WEIGHTS.safetensors [JOINED.npy]]\n");
        return 2;
    }
    if (dla_image_read(argv[1], NULL, &photo) != DLA_OK || (network = build()) == NULL)
        goto out;
    model_options.network = network;
    model_options.weights = argc > 2 ? argv[2] : NULL;
    model_options.untrained = argc == 2;
    session_options.height = dla_image_height(photo);
    session_options.width = dla_image_width(photo);
    if (dla_model_open(&model_options, &model) != DLA_OK || dla_session_create(model, &session_options, &session) != DLA_OK)
        goto out;

    for (size_t level = 0; level < LEVELS; level++) {
        dla_session_input_shape(session, level, shape);
        printf("%s: %d channels of %d x %d\n", names[level], shape[1], shape[2], shape[3]);
        maps[level] = malloc(sizeof(float) * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3]);
        if (maps[level] == NULL)
            goto out;
        fill(photo, cells[level], shape[2], shape[3], maps[level]);
    }
    dla_session_output_shape(session, 0, shape);
    joined = malloc(sizeof(float) * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3]);
    if (joined == NULL || dla_session_run_maps(session, DLA_LAYOUT_NHWC, (const float *const *)maps, &joined) != DLA_OK)
        goto out;
    printf("joined: %d channels of %d x %d\n", shape[1], shape[2], shape[3]);
    dla_array array = {.rank = 3, .shape = {shape[2], shape[3], shape[1]}, .values = joined};
    if (argc == 4 && dla_npy_write(argv[3], &array) != DLA_OK)
        goto out;
    status = 0;
out:
    if (status != 0)
        fprintf(stderr, "%s\n", dla_error_message());
    free(joined);
    for (int level = 0; level < LEVELS; level++)
        free(maps[level]);
    dla_session_destroy(session);
    dla_model_close(model);
    dla_network_destroy(network);
    dla_image_destroy(photo);
    return status;
}
