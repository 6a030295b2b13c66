/* dense_dataset.c - splits, and the names of classes. */
#include "train/dense_dataset.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "tasks/dense_files.h"

#include <string.h>

enum { MAX_NAMES_BYTES = 1 << 20 };

static const char *const boundary_classes[] = {"no boundary", "boundary"};

/* ---- samples ---- */

static dla_status read_split(struct dataset *dataset, const char *path, dla_task task, const char *split, struct sample_list *list)
{
    struct dense_files files;
    dla_status status = dense_files_read(path, task, split, &files);
    if (status != DLA_OK)
        return status;
    list->samples = arena_allocate_array(&dataset->arena, files.count, sizeof(*list->samples));
    for (size_t i = 0; i < files.count && status == DLA_OK; i++) {
        struct sample sample = {0};
        if (list->samples) {
            sample.path = arena_copy_string(&dataset->arena, files.files[i].photograph);
            sample.target = arena_copy_string(&dataset->arena, files.files[i].target);
        }
        if (!sample.path || !sample.target)
            status = status_out_of_memory(files.count * sizeof(sample), "a list of photographs");
        else
            list->samples[list->count++] = sample;
    }
    dense_files_free(&files);
    return status;
}

static dla_status read_samples(const char *path, dla_task task, double validation, struct dataset *dataset)
{
    if (!dense_files_have_split(path, task, "train")) {
        dla_status status = read_split(dataset, path, task, NULL, &dataset->train);
        dataset->class_count = 1; /* every sample has label 0 */
        return status == DLA_OK ? dataset_hold_out(dataset, validation, strlen(path)) : status;
    }
    dla_status status = read_split(dataset, path, task, "train", &dataset->train);
    if (status == DLA_OK && dense_files_have_split(path, task, "val"))
        status = read_split(dataset, path, task, "val", &dataset->val);
    return status;
}

/* ---- classes ---- */

static dla_status read_names(const char *path, struct dataset *dataset)
{
    char *text;
    size_t length, lines = 1;
    dla_status status = file_read_text(path, MAX_NAMES_BYTES, &text, &length);
    if (status != DLA_OK)
        return status;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    dataset->class_count = 0;
    dataset->classes = arena_allocate_array(&dataset->arena, lines, sizeof(*dataset->classes));
    if (dataset->classes == NULL)
        status = status_out_of_memory(lines * sizeof(*dataset->classes), "class names");
    for (char *line = text, *next; line && status == DLA_OK; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (*line && (dataset->classes[dataset->class_count++] = arena_copy_string(&dataset->arena, line)) == NULL)
            status = status_out_of_memory(strlen(line), "class names");
    }
    memory_free(text);
    if (status == DLA_OK && (dataset->class_count < 2 || dataset->class_count > TARGET_MOST_CLASSES))
        status = status_set(DLA_ERROR_ARGUMENT, "%s: names %d classes, one a line; 2 to %d can be trained", path, dataset->class_count,
                            TARGET_MOST_CLASSES);
    return status;
}

static dla_status largest_label(const struct sample_list *list, int ignore, int *largest)
{
    dla_status status = DLA_OK;
    for (size_t i = 0; i < list->count && status == DLA_OK; i++) {
        struct label_map map;
        status = label_map_read(list->samples[i].target, &map);
        if (status != DLA_OK)
            return status;
        for (size_t p = 0; p < (size_t)map.height * (size_t)map.width; p++)
            if (map.labels[p] != ignore && map.labels[p] > *largest)
                *largest = map.labels[p];
        label_map_free(&map);
    }
    return status;
}

static dla_status count_classes(const char *path, int ignore, struct dataset *dataset)
{
    int largest = -1;
    dla_status status = largest_label(&dataset->train, ignore, &largest);
    if (status == DLA_OK)
        status = largest_label(&dataset->val, ignore, &largest);
    if (status != DLA_OK)
        return status;
    if (largest < 1 || largest >= TARGET_MOST_CLASSES)
        return status_set(DLA_ERROR_ARGUMENT, "%s: the largest label is %d; labels 0 to at least 1 and at most %d are classes", path,
                          largest, TARGET_MOST_CLASSES - 1);
    dataset->class_count = largest + 1;
    dataset->classes = arena_allocate_array(&dataset->arena, (size_t)dataset->class_count, sizeof(*dataset->classes));
    for (int c = 0; c < dataset->class_count; c++)
        if (dataset->classes == NULL || (dataset->classes[c] = arena_format(&dataset->arena, "class %d", c)) == NULL)
            return status_out_of_memory((size_t)dataset->class_count * sizeof(char *), "class names");
    return DLA_OK;
}

static dla_status settle_classes(const char *path, dla_task task, const dla_dense_recipe *recipe, struct dataset *dataset)
{
    if (task == DLA_TASK_SEGMENT)
        return recipe->class_names ? read_names(recipe->class_names, dataset) : count_classes(path, recipe->ignore, dataset);
    dataset->class_count = 2;
    dataset->classes = arena_allocate_array(&dataset->arena, 2, sizeof(*dataset->classes));
    if (dataset->classes == NULL)
        return status_out_of_memory(2 * sizeof(*dataset->classes), "class names");
    memcpy(dataset->classes, boundary_classes, sizeof(boundary_classes));
    return DLA_OK;
}

dla_status dense_dataset_open(const char *path, dla_task task, const dla_dense_recipe *recipe, double validation, struct dataset *dataset,
                              struct dense_target_options *target)
{
    struct dataset made = {0};
    if (validation < 0.0 || !(validation < 1.0))
        return status_set(DLA_ERROR_ARGUMENT, "a validation share of %g is out of range: 0 to less than 1", validation);
    dla_status status = read_samples(path, task, validation, &made);
    if (status == DLA_OK)
        status = settle_classes(path, task, recipe, &made);
    if (status != DLA_OK) {
        dataset_close(&made);
        return status;
    }
    *target = (struct dense_target_options){.task = task, .ignore = recipe->ignore, .annotators = recipe->annotators};
    target->classes = made.class_count;
    *dataset = made;
    return DLA_OK;
}
