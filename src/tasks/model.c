/* model.c - opens a model: weights file, the network that they are for, binding, labels, preprocessing. */
#include "tasks/model.h"

#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "tasks/builtin_model.h"
#include "tasks/imagenet_labels.h"
#include "tasks/recognise.h"
#include "weights/untrained.h"

#include <string.h>

static dla_status open_weights(const dla_model_options *options, struct tensor_file **file)
{
    if (options->weights != NULL)
        return tensor_file_open(options->weights, file);
    if (options->task < DLA_TASK_CLASSIFY || options->task > DLA_TASK_EDGES)
        return status_set(DLA_ERROR_ARGUMENT, "task %d has no built-in network: 0 classify, 1 segment, 2 edges", (int)options->task);
    struct builtin_model builtin = builtin_model(options->task);
    return tensor_file_open_memory(builtin.bytes, builtin.size, builtin.origin, file);
}

/* ---- labels ------------------------------------------------------------------------------------------------------------ */

static dla_status copy_names(struct dla_model *model, const char *const *names, const char ***copies)
{
    const char **copied = arena_allocate_array(&model->arena, (size_t)model->class_count, sizeof(*copied));
    if (copied == NULL)
        return status_out_of_memory((size_t)model->class_count * sizeof(*copied), "labels");
    for (int i = 0; i < model->class_count; i++)
        if ((copied[i] = arena_copy_string(&model->arena, names[i])) == NULL)
            return status_out_of_memory(strlen(names[i]), "labels");
    *copies = copied;
    return DLA_OK;
}

static dla_status take_imagenet_labels(struct dla_model *model)
{
    model->labels = arena_allocate_array(&model->arena, IMAGENET_CLASS_COUNT, sizeof(*model->labels));
    model->wnids = arena_allocate_array(&model->arena, IMAGENET_CLASS_COUNT, sizeof(*model->wnids));
    if (model->labels == NULL || model->wnids == NULL)
        return status_out_of_memory(IMAGENET_CLASS_COUNT * sizeof(*model->labels), "labels");
    for (int i = 0; i < IMAGENET_CLASS_COUNT; i++) {
        model->labels[i] = imagenet_classes[i].label;
        model->wnids[i] = imagenet_classes[i].wnid;
    }
    return DLA_OK;
}

/* Sets *source to how the report calls them. */
static dla_status take_labels(struct dla_model *model, const struct model_card *card, const char **source)
{
    dla_status status;

    *source = "no labels";
    if (model->class_count == 0)
        return DLA_OK;
    if (card->label_count > 0 && card->label_count != model->class_count)
        return status_set(DLA_ERROR_MISMATCH, "%s: %d labels for %d classes", model->file->path, card->label_count, model->class_count);
    if (card->wnid_count > 0 && card->wnid_count != model->class_count)
        return status_set(DLA_ERROR_MISMATCH, "%s: %d WordNet ids for %d classes", model->file->path, card->wnid_count, model->class_count);
    if (card->labels == NULL && card->wnids == NULL) {
        if (model->class_count != IMAGENET_CLASS_COUNT)
            return DLA_OK;
        *source = "labels of ImageNet-1k";
        return take_imagenet_labels(model);
    }
    *source = "labels of its own";
    if (card->labels != NULL && (status = copy_names(model, card->labels, &model->labels)) != DLA_OK)
        return status;
    return card->wnids != NULL ? copy_names(model, card->wnids, &model->wnids) : DLA_OK;
}

/* ---- the door ---------------------------------------------------------------------------------------------------------- */

static dla_status open_model(const dla_model_options *options, struct dla_model *model, struct model_card *card)
{
    dla_architecture architecture;
    const char *architecture_source, *label_source;
    dla_status status;

    if ((status = open_weights(options, &model->file)) != DLA_OK || (status = model_card_read(model->file, card)) != DLA_OK
        || (status = choose_architecture(options->architecture, model->file, card, &architecture, &architecture_source)) != DLA_OK)
        return status;
    if (options->weights == NULL && strcmp(architecture.name, card->architecture.name) != 0)
        return status_set(DLA_ERROR_NOT_FOUND, "only %s is built in; %s needs a weights file", card->architecture.name, architecture.name);
    if ((status = dla_network_create(&architecture, &model->own_network)) != DLA_OK)
        return status_prefix(status, "%s: ", model->file->path);
    model->network = model->own_network;
    if ((status = weights_bind(&model->network->graph, architecture.name, model->file, &model->weights)) != DLA_OK)
        return status;
    model->class_count = architecture.num_classes;
    model->preprocessing = card->preprocessing;
    if (!card->has_preprocessing)
        model->preprocessing = (dla_preprocessing)DLA_PREPROCESSING_IMAGENET;
    if ((status = take_labels(model, card, &label_source)) != DLA_OK)
        return status;
    model->report = arena_format(&model->arena, "%s: %s (%s), %d classes, %s\n%s", model->file->path, architecture.name,
                                 architecture_source, model->class_count, label_source, model->weights.report);
    return model->report != NULL ? DLA_OK : status_out_of_memory(1024, "a report");
}

static dla_status open_untrained(const dla_model_options *options, struct dla_model *model)
{
    dla_status status;

    if (options->weights != NULL)
        return status_set(DLA_ERROR_ARGUMENT, "%s: weights for a model that is to be untrained; choose one of them", options->weights);
    if (options->architecture == NULL && options->network == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "an untrained model needs an architecture, or a network");
    model->network = options->network;
    if (options->network == NULL) {
        if ((status = dla_network_create(options->architecture, &model->own_network)) != DLA_OK)
            return status;
        model->network = model->own_network;
    }
    if ((status = weights_untrained(&model->network->graph, &model->weights)) != DLA_OK)
        return status;
    model->class_count = model->network->architecture.num_classes;
    model->preprocessing = (dla_preprocessing)DLA_PREPROCESSING_IMAGENET;
    model->report = arena_format(&model->arena, "%s, %s", model->network->architecture.name, model->weights.report);
    return model->report != NULL ? DLA_OK : status_out_of_memory(1024, "a report");
}

/* Weights for a network that the caller made. Its maps are the caller's, so there is nothing to preprocess. */
static dla_status open_for_network(const dla_model_options *options, struct dla_model *model)
{
    const char *name = options->network->architecture.name;
    dla_status status;

    if (options->weights == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "%s needs a weights file, or untrained", name);
    model->network = options->network;
    if ((status = tensor_file_open(options->weights, &model->file)) != DLA_OK
        || (status = weights_bind(&model->network->graph, name, model->file, &model->weights)) != DLA_OK)
        return status;
    model->class_count = model->network->architecture.num_classes;
    model->preprocessing = (dla_preprocessing)DLA_PREPROCESSING_IMAGENET;
    model->report = arena_format(&model->arena, "%s: %s\n%s", model->file->path, name, model->weights.report);
    return model->report != NULL ? DLA_OK : status_out_of_memory(1024, "a report");
}

static dla_status open_any(const dla_model_options *options, struct dla_model *model, struct model_card *card)
{
    if (options->network != NULL && options->architecture != NULL)
        return status_set(DLA_ERROR_ARGUMENT, "both a network and an architecture are given; one of them says what the weights are for");
    if (options->untrained)
        return open_untrained(options, model);
    return options->network != NULL ? open_for_network(options, model) : open_model(options, model, card);
}

dla_status dla_model_open(const dla_model_options *options, dla_model **model)
{
    dla_model_options known = DLA_MODEL_OPTIONS_INIT;
    struct model_card card = {.num_classes = CLASSES_NOT_SAID};
    struct dla_model *opened;
    dla_status status;

    if ((status = options_take(&known, sizeof(known), options, "DLA_MODEL_OPTIONS_INIT")) != DLA_OK)
        return status;
    if ((opened = memory_allocate_zeroed(1, sizeof(*opened))) == NULL)
        return status_out_of_memory(sizeof(*opened), "a model");
    status = open_any(&known, opened, &card);
    model_card_free(&card);
    if (status != DLA_OK) {
        dla_model_close(opened);
        return status;
    }
    *model = opened;
    return DLA_OK;
}

void dla_model_close(dla_model *model)
{
    if (model == NULL)
        return;
    bound_weights_free(&model->weights);
    dla_network_destroy(model->own_network);
    tensor_file_close(model->file);
    arena_free(&model->arena);
    memory_free(model);
}

const dla_network *dla_model_network(const dla_model *model)
{
    return model->network;
}

const dla_preprocessing *dla_model_preprocessing(const dla_model *model)
{
    return &model->preprocessing;
}

int dla_model_class_count(const dla_model *model)
{
    return model->class_count;
}

static const char *name_at(const struct dla_model *model, const char *const *names, int index)
{
    return names != NULL && index >= 0 && index < model->class_count ? names[index] : NULL;
}

const char *dla_model_label(const dla_model *model, int index)
{
    return name_at(model, model->labels, index);
}

const char *dla_model_wnid(const dla_model *model, int index)
{
    return name_at(model, model->wnids, index);
}

const char *dla_model_report(const dla_model *model)
{
    return model->report;
}
