/* weights_file.c - weights files for the curious: what is inside, what it fits, and the same as safetensors. */
#include "base/memory.h"
#include "base/status.h"
#include "net/network.h"
#include "tasks/recognise.h"
#include "weights/bind.h"
#include "weights/safetensors.h"

#include <math.h>
#include <string.h>

struct dla_weights {
    struct tensor_file *file;
};

dla_status dla_weights_open(const char *path, dla_weights **weights)
{
    struct dla_weights *opened = memory_allocate_zeroed(1, sizeof(*opened));
    dla_status status;

    if (opened == NULL)
        return status_out_of_memory(sizeof(*opened), path);
    if ((status = tensor_file_open(path, &opened->file)) != DLA_OK) {
        memory_free(opened);
        return status;
    }
    *weights = opened;
    return DLA_OK;
}

void dla_weights_close(dla_weights *weights)
{
    if (weights == NULL)
        return;
    tensor_file_close(weights->file);
    memory_free(weights);
}

const char *dla_weights_format(const dla_weights *weights)
{
    return weights->file->format;
}

size_t dla_weights_tensor_count(const dla_weights *weights)
{
    return (size_t)weights->file->tensor_count;
}

void dla_weights_tensor(const dla_weights *weights, size_t index, dla_tensor_info *info)
{
    const struct tensor_view *tensor = &weights->file->tensors[index];

    *info = (dla_tensor_info){.name = tensor->name, .dtype = dtype_name(tensor->dtype), .rank = tensor->rank};
    memcpy(info->shape, tensor->shape, (size_t)tensor->rank * sizeof(tensor->shape[0]));
    shape_elements(tensor->shape, tensor->rank, &info->elements);
}

size_t dla_weights_metadata_count(const dla_weights *weights)
{
    return (size_t)weights->file->metadata_count;
}

void dla_weights_metadata(const dla_weights *weights, size_t index, const char **key, const char **text)
{
    *key = weights->file->metadata[index].key;
    *text = weights->file->metadata[index].text;
}

dla_status dla_weights_statistics(const dla_weights *weights, size_t index, dla_tensor_statistics *statistics)
{
    const struct tensor_view *tensor = &weights->file->tensors[index];
    dla_tensor_statistics found = {0};
    double sum = 0, squares = 0;
    int64_t elements, finite = 0;
    float *values;

    if (!shape_elements(tensor->shape, tensor->rank, &elements) || (uint64_t)elements > SIZE_MAX / sizeof(*values) - 1
        || (values = memory_allocate((size_t)elements * sizeof(*values) + 1)) == NULL)
        return status_out_of_memory(0, tensor->name);
    tensor_to_float(tensor, values);
    for (int64_t i = 0; i < elements; i++) {
        double element = (double)values[i];
        if (isnan(element)) {
            found.nan_count++;
        } else if (isinf(element)) {
            found.infinite_count++;
        } else {
            found.minimum = finite == 0 || element < found.minimum ? element : found.minimum;
            found.maximum = finite == 0 || element > found.maximum ? element : found.maximum;
            sum += element;
            finite++;
        }
    }
    if (finite > 0) {
        found.mean = sum / (double)finite;
        for (int64_t i = 0; i < elements; i++)
            if (isfinite(values[i]))
                squares += ((double)values[i] - found.mean) * ((double)values[i] - found.mean);
        found.standard_deviation = sqrt(squares / (double)finite);
    }
    memory_free(values);
    *statistics = found;
    return DLA_OK;
}

dla_status dla_weights_check_fit(const dla_weights *weights, const dla_architecture *architecture, dla_weights_fit *fit)
{
    dla_architecture adapted = *architecture;
    dla_network *network = NULL;
    dla_status status;

    adapted.num_classes = weights_class_count(weights->file);
    adapted.in_channels = weights_input_channels(weights->file);
    if ((status = dla_network_create(&adapted, &network)) != DLA_OK)
        return status;
    status = weights_check_fit(&network->graph, adapted.name, weights->file, fit);
    dla_network_destroy(network);
    return status;
}

/* ---- converting -------------------------------------------------------------------------------------------------------- */

/* The network's parameters under their own names, with a card. */
static dla_status write_network(const struct tensor_file *file, const struct model_card *card, const dla_architecture *architecture,
                                const char *output, enum dtype floats, struct arena *arena, char **report)
{
    struct bound_weights weights = {0};
    struct metadata_entry *metadata;
    dla_network *network = NULL;
    int metadata_count;
    dla_status status;

    if ((status = dla_network_create(architecture, &network)) != DLA_OK) {
        status_prefix(status, "%s: ", file->path);
        goto out;
    }
    const struct graph *graph = &network->graph;
    if ((status = weights_bind(graph, architecture->name, file, &weights)) != DLA_OK)
        goto out;
    struct tensor_view *tensors = arena_allocate_array(arena, (size_t)graph->parameter_count, sizeof(*tensors));
    if (tensors == NULL) {
        status = status_out_of_memory((size_t)graph->parameter_count * sizeof(*tensors), "the list of tensors");
        goto out;
    }
    for (int i = 0; i < graph->parameter_count; i++) {
        const struct parameter *parameter = &graph->parameters[i];
        tensors[i] = (struct tensor_view){.name = parameter->name, .dtype = DTYPE_F32, .rank = parameter->rank, .data = weights.values[i]};
        memcpy(tensors[i].shape, parameter->shape, sizeof(parameter->shape));
        tensor_set_row_major(&tensors[i]);
    }
    if ((status = model_card_to_metadata(architecture, card->has_preprocessing ? &card->preprocessing : NULL, card->labels, card->wnids,
                                         arena, &metadata, &metadata_count))
            != DLA_OK
        || (status = safetensors_write(output, tensors, graph->parameter_count, metadata, metadata_count, floats)) != DLA_OK)
        goto out;
    *report = arena_format(arena, "%s\nwritten as %s", weights.report, architecture->name);
out:
    bound_weights_free(&weights);
    dla_network_destroy(network);
    return status;
}

dla_status dla_weights_convert(const char *input, const char *output, dla_float_format format, char **report)
{
    static const enum dtype dtypes[] = {[DLA_FLOAT32] = DTYPE_F32, [DLA_FLOAT16] = DTYPE_F16, [DLA_BFLOAT16] = DTYPE_BF16};
    struct model_card card = {.num_classes = CLASSES_NOT_SAID};
    struct tensor_file *file = NULL;
    struct arena arena = {0};
    dla_architecture architecture;
    const char *source;
    char *text = NULL;
    dla_status status;

    if (format != DLA_FLOAT32 && format != DLA_FLOAT16 && format != DLA_BFLOAT16)
        return status_set(DLA_ERROR_ARGUMENT, "no such number format: %d", (int)format);
    if ((status = tensor_file_open(input, &file)) != DLA_OK || (status = model_card_read(file, &card)) != DLA_OK)
        goto out;
    status = choose_architecture(NULL, file, &card, &architecture, &source);
    if (status == DLA_OK) {
        status = write_network(file, &card, &architecture, output, dtypes[format], &arena, &text);
    } else if (status == DLA_ERROR_MISMATCH && !card.has_architecture) {
        status = safetensors_write(output, file->tensors, file->tensor_count, file->metadata, file->metadata_count, dtypes[format]);
        text = arena_format(&arena, "%s: %d tensors\nfits no network of the zoo: written as it is", file->format, file->tensor_count);
    }
    if (status == DLA_OK && report != NULL) {
        char *copy = text != NULL ? memory_copy_string(text) : NULL;
        if (copy == NULL)
            status = status_out_of_memory(1024, "a report");
        else
            *report = copy;
    }
out:
    model_card_free(&card);
    tensor_file_close(file);
    arena_free(&arena);
    return status;
}
