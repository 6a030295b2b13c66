/* torch_tensors.c - what a PyTorch checkpoint means.
 *
 * A state dict is a dict from names to tensors, and a tensor is written as a call:
 *
 *     _rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, hooks)
 *
 * where storage is a reference to bytes outside of the pickle: ("storage", FloatStorage, "17", "cpu", elements). So tensors may
 * be views: transposed, cut out of a larger one, sharing memory. They stay views here; all that is checked is that the last
 * element of each lies inside its storage.
 */
#include "weights/torch_tensors.h"

#include "base/status.h"

#include <string.h>

/* Meaning of the listed names. The storage classes come first and are numbered by their element type. */
enum {
    STORAGE_FIRST = 0,
    ORDERED_DICT = DTYPE_COUNT,
    REBUILD_TENSOR_V2,
    REBUILD_TENSOR,
    REBUILD_PARAMETER,
    PLAIN_DATA, /* harmless, and of no interest: options, sizes, scores beside the weights */
};

const struct pickle_global torch_globals[] = {
    {"torch", "FloatStorage", STORAGE_FIRST + DTYPE_F32},
    {"torch", "HalfStorage", STORAGE_FIRST + DTYPE_F16},
    {"torch", "BFloat16Storage", STORAGE_FIRST + DTYPE_BF16},
    {"torch", "DoubleStorage", STORAGE_FIRST + DTYPE_F64},
    {"torch", "LongStorage", STORAGE_FIRST + DTYPE_I64},
    {"torch", "IntStorage", STORAGE_FIRST + DTYPE_I32},
    {"torch", "ShortStorage", STORAGE_FIRST + DTYPE_I16},
    {"torch", "CharStorage", STORAGE_FIRST + DTYPE_I8},
    {"torch", "ByteStorage", STORAGE_FIRST + DTYPE_U8},
    {"torch", "BoolStorage", STORAGE_FIRST + DTYPE_BOOL},
    {"collections", "OrderedDict", ORDERED_DICT},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR_V2},
    {"torch._utils", "_rebuild_tensor", REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER},
    {"torch", "Size", PLAIN_DATA},
    {"torch", "device", PLAIN_DATA},
    {"torch", "float32", PLAIN_DATA},
    {"torch", "float16", PLAIN_DATA},
    {"torch", "bfloat16", PLAIN_DATA},
    {"argparse", "Namespace", PLAIN_DATA},
    {"collections", "defaultdict", PLAIN_DATA},
    {"collections", "Counter", PLAIN_DATA},
    {"__builtin__", "set", PLAIN_DATA},
    {"builtins", "set", PLAIN_DATA},
    {"builtins", "dict", PLAIN_DATA},
    {"builtins", "list", PLAIN_DATA},
    {"_codecs", "encode", PLAIN_DATA},
    {"numpy", "dtype", PLAIN_DATA},
    {"numpy.core.multiarray", "scalar", PLAIN_DATA},
    {"numpy._core.multiarray", "scalar", PLAIN_DATA},
    {NULL, NULL, 0},
};

/* A view may have more elements than its storage (strides of 0 repeat them); up to so many. */
enum { MOST_REPEATED_ELEMENTS = 1 << 26 };

dla_status torch_read_reference(const struct pickle_value *identity, struct arena *arena, struct torch_storage *storage,
                                const struct pickle_value **view)
{
    const struct pickle_value *type = pickle_item(identity, 1), *key = pickle_item(identity, 2), *elements = pickle_item(identity, 4);

    if (!pickle_text_is(pickle_item(identity, 0), "storage") || type == NULL || key == NULL || elements == NULL)
        return status_set(DLA_ERROR_FORMAT, "a reference in the pickle is not one to a storage");
    if (type->kind != PICKLE_GLOBAL || type->global < STORAGE_FIRST || type->global >= STORAGE_FIRST + DTYPE_COUNT)
        return status_set(DLA_ERROR_UNSUPPORTED, "a storage is of a type that is not read");
    if (key->kind != PICKLE_TEXT || elements->kind != PICKLE_INTEGER || elements->as.integer < 0)
        return status_set(DLA_ERROR_FORMAT, "a reference to a storage has no sound name or size");
    if ((storage->key = pickle_copy_text(key, arena)) == NULL)
        return status_out_of_memory(key->as.text.length, "a storage's name");
    storage->dtype = (enum dtype)(type->global - STORAGE_FIRST);
    storage->elements = elements->as.integer;
    if (storage->elements > INT64_MAX / (int64_t)dtype_size(storage->dtype))
        return status_set(DLA_ERROR_FORMAT, "storage '%.100s' claims %lld elements", storage->key, (long long)storage->elements);
    *view = pickle_item(identity, 5);
    return DLA_OK;
}

/* The last element that the strides reach must be inside. */
static dla_status check_reach(const struct tensor_view *tensor, int64_t offset, int64_t storage_elements)
{
    int64_t last = offset, elements, reach;

    if (!shape_elements(tensor->shape, tensor->rank, &elements))
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' has an impossible shape", tensor->name);
    if (elements == 0)
        return offset <= storage_elements ? DLA_OK
                                          : status_set(DLA_ERROR_FORMAT, "tensor '%.200s' starts outside of its storage", tensor->name);
    for (int i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(tensor->shape[i] - 1, tensor->strides[i], &reach) || __builtin_add_overflow(last, reach, &last))
            return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' has impossible strides", tensor->name);
    if (last >= storage_elements)
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' reaches element %lld of a storage that has %lld", tensor->name,
                          (long long)last, (long long)storage_elements);
    if (elements > storage_elements && elements > MOST_REPEATED_ELEMENTS)
        return status_set(DLA_ERROR_LIMIT, "tensor '%.200s' repeats a storage of %lld elements %lld times", tensor->name,
                          (long long)storage_elements, (long long)(elements / storage_elements));
    return DLA_OK;
}

/* PyTorch before 0.4 could name a part of a storage: (key, offset, elements). Other versions say None, or nothing. */
static bool narrow_to_view(const struct pickle_value *view, struct torch_storage *storage)
{
    const struct pickle_value *offset = pickle_item(view, 1), *elements = pickle_item(view, 2);

    if (view == NULL || view->kind == PICKLE_NONE)
        return true;
    if (offset == NULL || elements == NULL || offset->kind != PICKLE_INTEGER || elements->kind != PICKLE_INTEGER || offset->as.integer < 0
        || elements->as.integer < 0 || offset->as.integer > storage->elements
        || elements->as.integer > storage->elements - offset->as.integer)
        return false;
    storage->bytes += (size_t)offset->as.integer * dtype_size(storage->dtype);
    storage->elements = elements->as.integer;
    return true;
}

/* The call behind a tensor; a parameter is one wrapped in another call. NULL for anything else. */
static const struct pickle_value *tensor_call(const struct pickle_value *value)
{
    if (pickle_is_object(value, REBUILD_PARAMETER))
        value = pickle_item(value->arguments, 0);
    return pickle_is_object(value, REBUILD_TENSOR_V2) || pickle_is_object(value, REBUILD_TENSOR) ? value : NULL;
}

static dla_status read_tensor(const struct pickle_value *name, const struct pickle_value *call, const struct torch_storage_source *source,
                              struct arena *arena, struct tensor_view *tensor)
{
    const struct pickle_value *reference = pickle_item(call->arguments, 0), *offset = pickle_item(call->arguments, 1), *view;
    struct torch_storage storage;
    int stride_count;
    dla_status status;

    if ((tensor->name = pickle_copy_text(name, arena)) == NULL)
        return status_out_of_memory(name->as.text.length, "a tensor's name");
    if (reference == NULL || reference->kind != PICKLE_PERSISTENT || offset == NULL || offset->kind != PICKLE_INTEGER
        || offset->as.integer < 0)
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' has no sound storage and offset", tensor->name);
    if (!pickle_whole_numbers(pickle_item(call->arguments, 2), tensor->shape, TENSOR_MAX_RANK, &tensor->rank)
        || !pickle_whole_numbers(pickle_item(call->arguments, 3), tensor->strides, TENSOR_MAX_RANK, &stride_count)
        || stride_count != tensor->rank)
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s' has no sound shape and strides of at most %d dimensions", tensor->name,
                          TENSOR_MAX_RANK);
    if ((status = torch_read_reference(reference->as.reference.identity, arena, &storage, &view)) != DLA_OK
        || (status = source->find_bytes(source->context, &storage)) != DLA_OK)
        return status_prefix(status, "tensor '%.200s': ", tensor->name);
    tensor->dtype = storage.dtype;
    if (!narrow_to_view(view, &storage))
        return status_set(DLA_ERROR_FORMAT, "tensor '%.200s': the view of its storage lies outside of it", tensor->name);
    if ((status = check_reach(tensor, offset->as.integer, storage.elements)) != DLA_OK)
        return status;
    tensor->data = storage.bytes + (size_t)offset->as.integer * dtype_size(storage.dtype);
    return DLA_OK;
}

static bool is_tensor(const struct pickle_value *value)
{
    return tensor_call(value) != NULL;
}

dla_status torch_read_state_dict(const struct pickle_value *root, const struct torch_storage_source *source, struct tensor_file *file)
{
    size_t count = 0;
    const struct pickle_value *dict = pickle_find_state_dict(root, ORDERED_DICT, is_tensor, &count), *key, *value;
    dla_status status;

    if (dict == NULL)
        return status_set(DLA_ERROR_FORMAT,
                          "the checkpoint holds no state dict (a dict from names to tensors, or one under state_dict, model "
                          "or model_state); save model.state_dict()");
    file->tensors = arena_allocate_array(&file->arena, count, sizeof(*file->tensors));
    if (file->tensors == NULL)
        return status_out_of_memory(count * sizeof(*file->tensors), "the list of tensors");
    for (size_t i = 0; i < pickle_pair_count(dict); i++) {
        if (!pickle_pair(dict, i, &key, &value) || key->kind != PICKLE_TEXT || !is_tensor(value))
            continue;
        status = read_tensor(key, tensor_call(value), source, &file->arena, &file->tensors[file->tensor_count]);
        if (status != DLA_OK)
            return status;
        file->tensor_count++;
    }
    return DLA_OK;
}
