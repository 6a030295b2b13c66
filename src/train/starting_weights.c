/* starting_weights.c - binding a file to the network it was made for, and copying what the new one shares. */
#include "train/starting_weights.h"

#include "base/status.h"
#include "net/network.h"
#include "train/recipe.h"
#include "weights/bind.h"

#include <stdio.h>
#include <string.h>

dla_status starting_weights_read(const char *path, const dla_architecture *architecture, bool reset_head,
                                 struct parameter_block *parameters)
{
    struct tensor_file *file = NULL;
    struct bound_weights weights = {0};
    dla_network *network = NULL;
    dla_architecture source = *architecture;
    dla_status status = tensor_file_open(path, &file);
    if (status != DLA_OK)
        return status;
    const struct tensor_view *classifier = tensor_file_find(file, architecture->down_ratio > 0 ? "fc.0.weight" : "fc.weight");
    if (classifier && classifier->rank >= 1 && classifier->shape[0] > 0 && classifier->shape[0] < 1000000)
        source.num_classes = (int)classifier->shape[0];
    if (!reset_head && source.num_classes != architecture->num_classes)
        status = status_set(DLA_ERROR_MISMATCH, "%s: has %d classes, the photographs %d; --reset-head starts with a new classifier", path,
                            source.num_classes, architecture->num_classes);
    if (status == DLA_OK)
        status = dla_network_create(&source, &network);
    if (status == DLA_OK)
        status = weights_bind(&network->graph, source.name, file, &weights);
    if (status == DLA_OK)
        for (int i = 0; i < parameters->graph->parameter_count; i++) {
            const struct parameter *p = &parameters->graph->parameters[i];
            int from = graph_find_parameter(&network->graph, p->name);
            if (from != NO_PARAMETER && !(reset_head && is_classifier_parameter(p)))
                memcpy(parameters->values + parameters->offsets[i], weights.values[from], (size_t)p->elements * sizeof(float));
        }
    bound_weights_free(&weights);
    dla_network_destroy(network);
    tensor_file_close(file);
    return status;
}

dla_status base_weights_read(const char *path, const dla_architecture *architecture, struct parameter_block *parameters)
{
    struct tensor_file *file = NULL;
    struct bound_weights weights = {0};
    dla_network *network = NULL;
    dla_architecture source = *architecture;
    source.down_ratio = 0;
    source.num_classes = 0;
    dla_status status = tensor_file_open(path, &file);
    if (status != DLA_OK)
        return status;
    const struct tensor_view *classifier = tensor_file_find(file, "fc.weight");
    if (classifier && classifier->rank >= 1 && classifier->shape[0] > 0 && classifier->shape[0] < 1000000)
        source.num_classes = (int)classifier->shape[0];
    status = dla_network_create(&source, &network);
    if (status == DLA_OK)
        status = weights_bind(&network->graph, "the base", file, &weights);
    for (int i = 0; i < parameters->graph->parameter_count && status == DLA_OK; i++) {
        const struct parameter *p = &parameters->graph->parameters[i];
        int from = strncmp(p->name, "base.", 5) == 0 ? graph_find_parameter(&network->graph, p->name + 5) : NO_PARAMETER;
        if (from != NO_PARAMETER)
            memcpy(parameters->values + parameters->offsets[i], weights.values[from], (size_t)p->elements * sizeof(float));
    }
    bound_weights_free(&weights);
    dla_network_destroy(network);
    tensor_file_close(file);
    return status;
}

dla_status freeze_parameters(const struct graph *graph, const char *level, bool *frozen)
{
    memset(frozen, 0, (size_t)graph->parameter_count * sizeof(*frozen));
    if (level == NULL)
        return DLA_OK;
    char inside[32]; /* the levels of a dense network are its base's */
    snprintf(inside, sizeof(inside), "base.%s", level);
    value last = strncmp(level, "level", 5) == 0 ? graph_find_value(graph, level) : NO_VALUE;
    if (last == NO_VALUE && strncmp(level, "level", 5) == 0)
        last = graph_find_value(graph, inside);
    if (last == NO_VALUE)
        return status_set(DLA_ERROR_ARGUMENT, "there is no '%s' to freeze: level0 to level5", level);
    for (value v = 0; v <= last; v++) {
        const struct node *node = &graph->nodes[v];
        if (node->op == OP_CONV2D || node->op == OP_TRANSPOSED_CONV2D) {
            frozen[node->as.conv.weight] = true;
            if (node->as.conv.bias != NO_PARAMETER)
                frozen[node->as.conv.bias] = true;
        }
        if (node->op == OP_BATCH_NORM) {
            frozen[node->as.batch_norm.weight] = frozen[node->as.batch_norm.bias] = true;
            frozen[node->as.batch_norm.running_mean] = frozen[node->as.batch_norm.running_var] = true;
        }
    }
    return DLA_OK;
}
