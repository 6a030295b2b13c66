/* dense_target.c - reading a label map, and agreeing annotators. */
#include "tasks/dense_target.h"

#include "base/memory.h"
#include "base/status.h"
#include "tasks/matlab_file.h"

static dla_status check_size(const char *path, int target_height, int target_width, const char *photograph, int height, int width)
{
    if (target_height == height && target_width == width)
        return DLA_OK;
    return status_set(DLA_ERROR_MISMATCH, "%s: is %dx%d (height x width), its photograph %s is %dx%d", path, target_height, target_width,
                      photograph, height, width);
}

/* Classes stay, the label to ignore becomes TARGET_IGNORED. */
static dla_status settle_labels(const struct dense_target_options *o, const char *path, struct label_map *target)
{
    for (int y = 0; y < target->height; y++)
        for (int x = 0; x < target->width; x++) {
            uint8_t *label = &target->labels[(size_t)y * (size_t)target->width + (size_t)x];
            if (*label == o->ignore)
                *label = TARGET_IGNORED;
            else if (*label >= (o->classes ? o->classes : TARGET_MOST_CLASSES))
                return status_set(
                    DLA_ERROR_MISMATCH,
                    "%s: has label %d at row %d, column %d, but there are %d classes; --ignore names a label that does not count", path,
                    *label, y, x, o->classes ? o->classes : TARGET_MOST_CLASSES);
        }
    return DLA_OK;
}

static dla_status read_annotations(const struct dense_target_options *o, const char *path, const char *photograph, int height, int width,
                                   struct label_map *target)
{
    struct boundary_annotations annotations;
    dla_status status = boundary_annotations_read(path, &annotations);
    if (status != DLA_OK)
        return status;
    status = check_size(path, annotations.height, annotations.width, photograph, height, width);
    size_t pixels = (size_t)height * (size_t)width;
    if (status == DLA_OK && (target->labels = memory_allocate(pixels)) == NULL)
        status = status_out_of_memory(pixels, "a boundary map");
    int needed = o->annotators < annotations.annotator_count ? o->annotators : annotations.annotator_count;
    for (size_t i = 0; i < pixels && status == DLA_OK; i++) {
        int drawn = 0;
        for (int a = 0; a < annotations.annotator_count; a++)
            drawn += annotations.maps[a][i];
        target->labels[i] = drawn == 0 ? 0 : drawn >= needed ? 1 : TARGET_IGNORED;
    }
    target->height = height;
    target->width = width;
    boundary_annotations_free(&annotations);
    return status;
}

dla_status dense_target_read(const struct dense_target_options *o, const char *path, const char *photograph, int height, int width,
                             struct label_map *target)
{
    struct label_map made = {0};
    dla_status status;
    if (o->task == DLA_TASK_EDGES) {
        status = read_annotations(o, path, photograph, height, width, &made);
    } else {
        status = label_map_read(path, &made);
        if (status == DLA_OK)
            status = check_size(path, made.height, made.width, photograph, height, width);
        if (status == DLA_OK)
            status = settle_labels(o, path, &made);
    }
    if (status != DLA_OK) {
        label_map_free(&made);
        return status;
    }
    *target = made;
    return DLA_OK;
}
