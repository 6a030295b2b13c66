/* dense_task.c - checking a dense recipe, and making of it what the loader and the loss need. */
#include "train/dense_task.h"

#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "train/dense_dataset.h"

static dla_status check(const dla_train_options *o, const dla_dense_recipe *r)
{
    const struct {
        const char *name;
        double number, low, high;
    } ranges[] = {
        {"label to ignore", r->ignore, -1, 255},          {"edge weight", r->edge_weight, 1e-6, 1e6},
        {"number of annotators", r->annotators, 1, 1000}, {"smallest scale", r->min_scale, 0.05, r->max_scale},
        {"largest scale", r->max_scale, 0.05, 20},        {"rotation", r->rotation, 0, 180},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (!(ranges[i].number >= ranges[i].low && ranges[i].number <= ranges[i].high))
            return status_set(DLA_ERROR_ARGUMENT, "%s is %g, legal are %g to %g", ranges[i].name, ranges[i].number, ranges[i].low,
                              ranges[i].high);
    if (o->architecture->down_ratio == 0)
        return status_set(DLA_ERROR_ARGUMENT,
                          "%s classifies whole photographs; a class for every pixel needs a network with DLA-Up, such as %sup",
                          o->architecture->name, o->architecture->name);
    if (o->label_smoothing > 0.0 || o->mixup > 0.0 || o->dropout > 0.0)
        return status_set(DLA_ERROR_ARGUMENT, "label smoothing, mixup and dropout are for classes of whole photographs; leave them at 0");
    if (o->fast_decode)
        return status_set(DLA_ERROR_ARGUMENT, "fast decoding is for classes of whole photographs; labels of pixels need them whole");
    if (r->class_weights && o->task == DLA_TASK_EDGES)
        return status_set(DLA_ERROR_ARGUMENT, "boundaries are weighted by the edge weight, not by class weights");
    return DLA_OK;
}

static dla_status weigh_classes(const dla_dense_recipe *r, dla_task kind, int classes, float **weights)
{
    if (r->class_weights && r->class_weight_count != (size_t)classes)
        return status_set(DLA_ERROR_ARGUMENT, "%zu class weights for %d classes", r->class_weight_count, classes);
    *weights = memory_allocate((size_t)classes * sizeof(**weights));
    if (*weights == NULL)
        return status_out_of_memory((size_t)classes * sizeof(**weights), "class weights");
    for (int c = 0; c < classes; c++) {
        double weight = r->class_weights ? r->class_weights[c] : kind == DLA_TASK_EDGES && c == 1 ? r->edge_weight : 1.0;
        if (!(weight >= 0.0 && weight <= 1e6))
            return status_set(DLA_ERROR_ARGUMENT, "the weight of class %d is %g, legal are 0 to 1000000", c, weight);
        (*weights)[c] = (float)weight;
    }
    return DLA_OK;
}

dla_status dense_task_open(const char *data, const dla_train_options *options, struct dense_task *task, struct dataset *dataset)
{
    task->recipe = (dla_dense_recipe)DLA_DENSE_RECIPE_INIT;
    dla_status status = options_take(&task->recipe, sizeof(task->recipe), options->dense, "DLA_DENSE_RECIPE_INIT");
    if (status == DLA_OK)
        status = check(options, &task->recipe);
    if (status == DLA_OK)
        status = dense_dataset_open(data, options->task, &task->recipe, options->validation, dataset, &task->target);
    if (status != DLA_OK)
        return status;
    task->augmentation = (struct dense_augmentation){
        .colours = &options->augmentation, .min_scale = task->recipe.min_scale, .max_scale = task->recipe.max_scale};
    task->augmentation.rotation = task->recipe.rotation;
    return weigh_classes(&task->recipe, options->task, dataset->class_count, &task->class_weights);
}

void dense_task_close(struct dense_task *task)
{
    memory_free(task->class_weights);
    task->class_weights = NULL;
}
