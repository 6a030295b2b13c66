/* zoo.c - the published networks, a row each (paper table 1; Res2Net variants from the Res2Net paper). */
#include "base/nearest.h"
#include "base/status.h"

#include <string.h>

#define CHANNELS_COMPACT {16, 32, 64, 64, 128, 256}
#define CHANNELS_BASIC   {16, 32, 64, 128, 256, 512}
#define CHANNELS_WIDE    {16, 32, 128, 256, 512, 1024}
#define CLASSIFIER       1000, 3, 32, 0   /* ImageNet-1k classes, RGB, output stride, no dense prediction */

static const dla_architecture zoo[] = {
    /* name             levels              channels          block                 cardinality, width, scale; node residual */
    {"dla34",           {1, 1, 1, 2, 2, 1}, CHANNELS_BASIC,   DLA_BLOCK_BASIC,        1, 64, 4, false, CLASSIFIER},
    {"dla46_c",         {1, 1, 1, 2, 2, 1}, CHANNELS_COMPACT, DLA_BLOCK_BOTTLENECK,   1, 64, 4, false, CLASSIFIER},
    {"dla46x_c",        {1, 1, 1, 2, 2, 1}, CHANNELS_COMPACT, DLA_BLOCK_BOTTLENECK,  32,  4, 4, false, CLASSIFIER},
    {"dla60x_c",        {1, 1, 1, 2, 3, 1}, CHANNELS_COMPACT, DLA_BLOCK_BOTTLENECK,  32,  4, 4, false, CLASSIFIER},
    {"dla60",           {1, 1, 1, 2, 3, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLENECK,   1, 64, 4, false, CLASSIFIER},
    {"dla60x",          {1, 1, 1, 2, 3, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLENECK,  32,  4, 4, false, CLASSIFIER},
    {"dla102",          {1, 1, 1, 3, 4, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLENECK,   1, 64, 4, true,  CLASSIFIER},
    {"dla102x",         {1, 1, 1, 3, 4, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLENECK,  32,  4, 4, true,  CLASSIFIER},
    {"dla102x2",        {1, 1, 1, 3, 4, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLENECK,  64,  4, 4, true,  CLASSIFIER},
    {"dla169",          {1, 1, 2, 3, 5, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLENECK,   1, 64, 4, true,  CLASSIFIER},
    {"dla60_res2net",   {1, 1, 1, 2, 3, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLE2NECK,  1, 28, 4, false, CLASSIFIER},
    {"dla60_res2next",  {1, 1, 1, 2, 3, 1}, CHANNELS_WIDE,    DLA_BLOCK_BOTTLE2NECK,  8,  4, 4, false, CLASSIFIER},
};

/* Every classifier is a base for dense prediction: dla34up is dla34 with DLA-Up. The defaults are the authors'. */
static const char dense_suffix[] = "up";
enum { DENSE_CLASSES = 19 /* Cityscapes */, DENSE_DOWN_RATIO = 2 };

size_t dla_architecture_count(void)
{
    return sizeof(zoo) / sizeof(zoo[0]);
}

const dla_architecture *dla_architecture_at(size_t index)
{
    return index < dla_architecture_count() ? &zoo[index] : NULL;
}

static const char *zoo_name(const void *list, size_t index)
{
    return ((const dla_architecture *)list)[index].name;
}

static const dla_architecture *find_classifier(const char *name, size_t length)
{
    for (size_t i = 0; i < dla_architecture_count(); i++)
        if (strlen(zoo[i].name) == length && memcmp(zoo[i].name, name, length) == 0)
            return &zoo[i];
    return NULL;
}

dla_status dla_architecture_find(const char *name, dla_architecture *architecture)
{
    const size_t length = strlen(name), suffix_length = strlen(dense_suffix);
    const dla_architecture *found = find_classifier(name, length);

    if (found != NULL) {
        *architecture = *found;
        return DLA_OK;
    }
    if (length > suffix_length && strcmp(name + length - suffix_length, dense_suffix) == 0
        && (found = find_classifier(name, length - suffix_length)) != NULL) {
        *architecture = *found;
        memcpy(architecture->name, name, length + 1);
        architecture->num_classes = DENSE_CLASSES;
        architecture->down_ratio = DENSE_DOWN_RATIO;
        return DLA_OK;
    }
    const char *nearest = nearest_name(name, zoo, dla_architecture_count(), zoo_name);
    if (nearest != NULL)
        return status_set(DLA_ERROR_NOT_FOUND, "no model '%s'; did you mean %s? `dla models` lists all", name, nearest);
    return status_set(DLA_ERROR_NOT_FOUND, "no model '%s'; `dla models` lists all", name);
}
