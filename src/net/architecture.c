/* architecture.c - the ranges of an architecture's fields, and what must hold between them. */
#include "net/architecture.h"

#include "base/status.h"
#include "net/blocks.h"
#include "net/network.h"

#include <stdio.h>
#include <string.h>

static const char *const block_names[BLOCK_COUNT] = {
    [DLA_BLOCK_BASIC] = "basic",
    [DLA_BLOCK_BOTTLENECK] = "bottleneck",
    [DLA_BLOCK_BOTTLE2NECK] = "bottle2neck",
};

const char *dla_block_name(dla_block block)
{
    return (unsigned)block < BLOCK_COUNT ? block_names[block] : NULL;
}

enum { BOTTLENECKS = 1 << DLA_BLOCK_BOTTLENECK | 1 << DLA_BLOCK_BOTTLE2NECK };

static const int output_strides[] = {32, 16, 8, -1};
static const int down_ratios[] = {0, 2, 4, 8, 16, -1};

#define OFFSET(field) offsetof(dla_architecture, field)

/* Depths above 8 would give more than 2^8 blocks a level and aggregation nodes with more sources than kernels take. */
const struct field_range architecture_fields[FIELD_COUNT] = {
    /* key            where                   count            min max      choices         fallback  means something for */
    {"levels",        OFFSET(levels),         DLA_LEVEL_COUNT, 1, 8,        NULL,           REQUIRED, ALL_BLOCKS},
    {"channels",      OFFSET(channels),       DLA_LEVEL_COUNT, 1, 16384,    NULL,           REQUIRED, ALL_BLOCKS},
    {"cardinality",   OFFSET(cardinality),    1,               1, 1024,     NULL,           1,        BOTTLENECKS},
    {"base_width",    OFFSET(base_width),     1,               1, 1024,     NULL,           64,       BOTTLENECKS},
    {"scale",         OFFSET(scale),          1,               2, 16,       NULL,           4,        1 << DLA_BLOCK_BOTTLE2NECK},
    {"num_classes",   OFFSET(num_classes),    1,               0, 1000000,  NULL,           1000,     ALL_BLOCKS},
    {"in_channels",   OFFSET(in_channels),    1,               1, 1024,     NULL,           3,        ALL_BLOCKS},
    {"output_stride", OFFSET(output_stride),  1,               8, 32,       output_strides, 32,       ALL_BLOCKS},
    {"down_ratio",    OFFSET(down_ratio),     1,               0, 16,       down_ratios,    0,        ALL_BLOCKS},
};

_Static_assert((int)BOTTLE2NECK_MAX_SCALE == 16, "the largest scale that a config may ask for is the largest that the block builds");

int *field_values(const struct field_range *field, dla_architecture *architecture)
{
    return (int *)(void *)((char *)architecture + field->offset);
}

bool field_applies(const struct field_range *field, dla_block block)
{
    return (field->blocks >> block & 1u) != 0;
}

/* "1 to 4096", or "32, 16 or 8". */
static void describe_legal(const struct field_range *field, char *text, size_t size)
{
    size_t length = 0;

    if (field->choices == NULL) {
        snprintf(text, size, "%d to %d", field->minimum, field->maximum);
        return;
    }
    for (int i = 0; field->choices[i] >= 0 && length < size; i++) {
        const char *separator = i == 0 ? "" : field->choices[i + 1] < 0 ? " or " : ", ";
        length += (size_t)snprintf(text + length, size - length, "%s%d", separator, field->choices[i]);
    }
}

static bool is_legal(const struct field_range *field, int64_t number)
{
    if (field->choices == NULL)
        return number >= field->minimum && number <= field->maximum;
    for (int i = 0; field->choices[i] >= 0; i++)
        if (field->choices[i] == number)
            return true;
    return false;
}

dla_status field_check(const struct field_range *field, int index, int64_t number)
{
    char legal[64];

    if (is_legal(field, number))
        return DLA_OK;
    describe_legal(field, legal, sizeof(legal));
    if (field->count > 1)
        return status_set(DLA_ERROR_ARGUMENT, "%s[%d] is %lld, legal is %s", field->key, index, (long long)number, legal);
    return status_set(DLA_ERROR_ARGUMENT, "%s is %lld, legal is %s", field->key, (long long)number, legal);
}

static dla_status check_ranges(const dla_architecture *architecture)
{
    dla_architecture copy = *architecture;   /* field_values is for reading and writing alike */

    for (int f = 0; f < FIELD_COUNT; f++) {
        const struct field_range *field = &architecture_fields[f];
        const int *values = field_values(field, &copy);

        if (!field_applies(field, architecture->block))
            continue;
        for (int i = 0; i < field->count; i++) {
            dla_status status = field_check(field, i, values[i]);
            if (status != DLA_OK)
                return status;
        }
    }
    return DLA_OK;
}

dla_status architecture_check_name(const char *name, size_t length)
{
    const size_t longest = sizeof((dla_architecture){0}.name) - 1;
    bool legal = length >= 1 && length <= longest;

    for (size_t i = 0; i < length && legal; i++)
        legal = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9')
                || strchr("_-.", name[i]) != NULL;
    if (legal)
        return DLA_OK;
    return status_set(DLA_ERROR_ARGUMENT, "name is '%.*s', legal are 1 to %zu letters, digits, '_', '-' and '.'", (int)(length < 80 ? length : 80),
                      name, longest);
}

/* A bottleneck's inner width must exist, stay within reason, and divide into its groups. */
static dla_status check_middle_channels(const dla_architecture *architecture)
{
    const struct block_options options = {.cardinality = architecture->cardinality, .base_width = architecture->base_width};

    if (architecture->block == DLA_BLOCK_BASIC)
        return DLA_OK;
    for (int level = 2; level < DLA_LEVEL_COUNT; level++) {
        int64_t middle = block_middle_channels(&options, architecture->channels[level]);
        int64_t width = middle * (architecture->block == DLA_BLOCK_BOTTLE2NECK ? architecture->scale : 1);
        int64_t limit = 65536;

        if (middle < 1 || middle % architecture->cardinality != 0 || width > limit)
            return status_set(DLA_ERROR_ARGUMENT,
                              "channels[%d] = %d with base_width %d and cardinality %d gives 3x3 convolutions of %lld channels, "
                              "which must be a positive multiple of the cardinality (and at most %lld in a block); "
                              "change channels, base_width or cardinality",
                              level, architecture->channels[level], architecture->base_width, architecture->cardinality, (long long)middle,
                              (long long)limit);
    }
    return DLA_OK;
}

dla_status architecture_check(const dla_architecture *architecture)
{
    dla_status status = architecture_check_name(architecture->name, strnlen(architecture->name, sizeof(architecture->name)));
    if (status != DLA_OK)
        return status;
    if ((int)architecture->block < 0 || (int)architecture->block >= BLOCK_COUNT)
        return status_set(DLA_ERROR_ARGUMENT, "block is %d, legal is 0 to %d (dla_block)", (int)architecture->block, BLOCK_COUNT - 1);
    status = check_ranges(architecture);
    if (status == DLA_OK)
        status = check_middle_channels(architecture);
    if (status == DLA_OK && architecture->down_ratio > 0 && architecture->num_classes == 0)
        status = status_set(DLA_ERROR_ARGUMENT, "num_classes is 0, but dense prediction (down_ratio %d) needs at least 1", architecture->down_ratio);
    if (status == DLA_OK && architecture->down_ratio > 0 && architecture->output_stride != 32)
        status = status_set(DLA_ERROR_ARGUMENT, "output_stride is %d, but dense prediction (down_ratio %d) aggregates levels whose strides double up to 32",
                            architecture->output_stride, architecture->down_ratio);
    return status;
}
