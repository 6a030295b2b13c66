/* recognise.c - which network weights are for. */
#include "tasks/recognise.h"

#include "base/status.h"
#include "net/network.h"
#include "weights/bind.h"

#include <stdio.h>

/* The classifier of this name, or the dense network on it, with what only the file can say. */
static dla_status candidate_architecture(const char *name, const struct tensor_file *file, dla_architecture *candidate)
{
    char full_name[sizeof candidate->name + sizeof "up"];
    int down_ratio = weights_down_ratio(file);

    snprintf(full_name, sizeof full_name, "%s%s", name, down_ratio > 0 ? "up" : "");
    dla_status status = dla_architecture_find(full_name, candidate);
    if (status == DLA_OK) {
        candidate->num_classes = weights_class_count(file);
        candidate->in_channels = weights_input_channels(file);
        candidate->down_ratio = down_ratio;
    }
    return status;
}

dla_status recognise_architecture(const struct tensor_file *file, dla_architecture *architecture)
{
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        dla_architecture candidate;
        dla_network *network = NULL;
        dla_weights_fit fit;

        dla_status status = candidate_architecture(dla_architecture_at(i)->name, file, &candidate);
        if (status == DLA_OK)
            status = dla_network_create(&candidate, &network);
        if (status != DLA_OK)
            return status_prefix(status, "%s: ", file->path);
        status = weights_check_fit(&network->graph, candidate.name, file, &fit);
        dla_network_destroy(network);
        if (status != DLA_OK)
            return status;
        if (fit.missing + fit.unknown + fit.misshapen == 0) {
            *architecture = candidate;
            return DLA_OK;
        }
    }
    return status_set(DLA_ERROR_MISMATCH,
                      "%s: the file does not say which network it is for, and its tensors fit none; `dla inspect %s` shows why", file->path,
                      file->path);
}

dla_status choose_architecture(const dla_architecture *wanted, const struct tensor_file *file, const struct model_card *card,
                               dla_architecture *architecture, const char **source)
{
    if (wanted != NULL) {
        *architecture = *wanted;
        *source = "as asked for";
    } else if (card->has_architecture) {
        *architecture = card->architecture;
        *source = card->source;
    } else {
        *source = "recognised by its tensors";
        return recognise_architecture(file, architecture);
    }
    if (architecture->num_classes == DLA_CLASSES_OF_WEIGHTS)
        architecture->num_classes = card->num_classes != CLASSES_NOT_SAID ? card->num_classes : weights_class_count(file);
    return DLA_OK;
}

_Static_assert((int)CLASSES_NOT_SAID == (int)DLA_CLASSES_OF_WEIGHTS, "a card that does not say leaves it to the weights");
