/* paddle.c - PaddlePaddle's .pdparams: one pickle of a dict from names to NumPy arrays.
 *
 * An array is written as a call and a state:
 *
 *     numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b"b"), then
 *     __setstate__((1, shape, dtype, is_fortran, bytes))            dtype: numpy.dtype("f4", False, True), then
 *                                                                          __setstate__((3, "<", ...))
 *
 * From protocol 3 on the bytes lie in the pickle and are used in place. Protocol 2 knows no bytes: they are written as a text
 * whose characters 0 to 255 stand for them, in UTF-8, and have to be decoded. There, too, arrays above 1 GiB come in slices,
 * which the entry UnpackBigParamInfor@@ lists.
 *
 * Paddle calls a batch norm's statistics _mean and _variance; they get PyTorch's names. It has no bfloat16 in NumPy and
 * writes uint16.
 */
#include "base/status.h"
#include "weights/pickle.h"
#include "weights/readers.h"

#include <string.h>

enum { ORDERED_DICT, NDARRAY, DTYPE, RECONSTRUCT, ENCODE, EMPTY_BYTES, TUPLE };

static const struct pickle_global globals[] = {
    {"numpy.core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy", "ndarray", NDARRAY},
    {"numpy", "dtype", DTYPE},
    {"_codecs", "encode", ENCODE},
    {"__builtin__", "bytes", EMPTY_BYTES},
    {"collections", "OrderedDict", ORDERED_DICT},
    {"builtins", "tuple", TUPLE},
    {"__builtin__", "tuple", TUPLE},
    {NULL, NULL, 0},
};

static const char slices_key[] = "UnpackBigParamInfor@@";
enum { MOST_SLICED = 16, MOST_SLICES = 64 }; /* arrays in slices, slices of one: each stands for 1 GiB */

bool paddle_is(const uint8_t *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5;
}

/* ---- one array --------------------------------------------------------------------------------------------------------- */

/* Later versions write a tensor as the pair (its name, the array). */
static const struct pickle_value *array_in(const struct pickle_value *value)
{
    if (pickle_is_object(value, TUPLE))
        value = pickle_item(value->arguments, 0);
    if (value != NULL && value->kind == PICKLE_TUPLE && value->item_count == 2)
        value = value->items[1];
    return value != NULL && pickle_is_object(value, RECONSTRUCT) && value->state != NULL && value->state->kind == PICKLE_TUPLE ? value : NULL;
}

static bool is_array(const struct pickle_value *value)
{
    return array_in(value) != NULL;
}

static dla_status read_dtype(const struct pickle_value *object, enum dtype *dtype)
{
    static const struct {
        const char *code;
        enum dtype dtype;
    } codes[] = {
        {"f4", DTYPE_F32}, {"f2", DTYPE_F16}, {"f8", DTYPE_F64}, {"u2", DTYPE_BF16}, {"i8", DTYPE_I64},
        {"i4", DTYPE_I32}, {"i2", DTYPE_I16}, {"i1", DTYPE_I8},  {"u1", DTYPE_U8},   {"b1", DTYPE_BOOL},
    };
    const struct pickle_value *code = pickle_is_object(object, DTYPE) ? pickle_item(object->arguments, 0) : NULL;
    const struct pickle_value *order = code != NULL ? pickle_item(object->state, 1) : NULL;

    if (order == NULL || !(pickle_text_is(order, "<") || pickle_text_is(order, "|") || pickle_text_is(order, "=")))
        return status_set(DLA_ERROR_UNSUPPORTED, "elements that are not little-endian numbers");
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (pickle_text_is(code, codes[i].code)) {
            *dtype = codes[i].dtype;
            return DLA_OK;
        }
    return status_set(DLA_ERROR_UNSUPPORTED, "elements of a type that is not read");
}

/* A text of characters 0 to 255, in UTF-8, back to bytes; false where it is not one. */
static bool decode_latin1(const uint8_t *text, size_t length, uint8_t *bytes, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < 0x80) {
            bytes[(*count)++] = text[i];
        } else if ((text[i] == 0xc2 || text[i] == 0xc3) && i + 1 < length && (text[i + 1] & 0xc0) == 0x80) {
            bytes[(*count)++] = (uint8_t)(text[i] << 6 | (text[i + 1] & 0x3f));
            i++;
        } else {
            return false;
        }
    }
    return true;
}

static dla_status read_bytes(const struct pickle_value *data, struct arena *arena, const uint8_t **bytes, size_t *size)
{
    if (data->kind == PICKLE_BYTES) {
        *bytes = data->as.text.bytes;
        *size = data->as.text.length;
        return DLA_OK;
    }
    if (pickle_is_object(data, EMPTY_BYTES) && data->arguments->item_count == 0) { /* protocol 2's b"" */
        static const uint8_t nothing;
        *bytes = &nothing;
        *size = 0;
        return DLA_OK;
    }
    const struct pickle_value *text = pickle_is_object(data, ENCODE) ? pickle_item(data->arguments, 0) : NULL;
    if (text == NULL || text->kind != PICKLE_TEXT || !pickle_text_is(pickle_item(data->arguments, 1), "latin1"))
        return status_set(DLA_ERROR_FORMAT, "the array has no bytes");
    uint8_t *decoded = arena_allocate(arena, text->as.text.length + 1);
    if (decoded == NULL)
        return status_out_of_memory(text->as.text.length, "an array");
    if (!decode_latin1(text->as.text.bytes, text->as.text.length, decoded, size))
        return status_set(DLA_ERROR_FORMAT, "the array's bytes are not written as characters 0 to 255");
    *bytes = decoded;
    return DLA_OK;
}

static dla_status read_array(const struct pickle_value *array, struct arena *arena, struct tensor_view *tensor)
{
    const struct pickle_value *shape = pickle_item(array->state, 1), *fortran = pickle_item(array->state, 3),
                              *data = pickle_item(array->state, 4);
    const uint8_t *bytes;
    size_t size;
    int64_t elements;
    dla_status status;

    if (!pickle_whole_numbers(shape, tensor->shape, TENSOR_MAX_RANK, &tensor->rank))
        return status_set(DLA_ERROR_FORMAT, "the array has no sound shape of at most %d dimensions", TENSOR_MAX_RANK);
    if (fortran == NULL || data == NULL || fortran->kind != PICKLE_BOOL)
        return status_set(DLA_ERROR_FORMAT, "the array is incomplete");
    if ((status = read_dtype(pickle_item(array->state, 2), &tensor->dtype)) != DLA_OK
        || (status = read_bytes(data, arena, &bytes, &size)) != DLA_OK)
        return status;
    if (!shape_elements(tensor->shape, tensor->rank, &elements) || (uint64_t)elements != size / dtype_size(tensor->dtype)
        || size % dtype_size(tensor->dtype) != 0)
        return status_set(DLA_ERROR_FORMAT, "the array's %zu bytes do not fit its shape", size);
    tensor->data = bytes;
    if (fortran->as.truth)
        tensor_set_column_major(tensor);
    else
        tensor_set_row_major(tensor);
    return DLA_OK;
}

/* ---- names ------------------------------------------------------------------------------------------------------------- */

static char *plain_name(const struct pickle_value *key, struct arena *arena)
{
    static const struct {
        const char *paddle, *torch;
    } endings[] = {{"._mean", ".running_mean"}, {"._variance", ".running_var"}};
    char *name = pickle_copy_text(key, arena);

    for (size_t i = 0; name != NULL && i < sizeof(endings) / sizeof(endings[0]); i++) {
        size_t length = strlen(name), ending = strlen(endings[i].paddle);
        if (length >= ending && strcmp(name + length - ending, endings[i].paddle) == 0)
            return arena_format(arena, "%.*s%s", (int)(length - ending), name, endings[i].torch);
    }
    return name;
}

/* ---- arrays in slices -------------------------------------------------------------------------------------------------- */

/* Joins the flat slices that `info` lists: {"OriginShape": shape, "slices": [names]}. */
static dla_status join_slices(const struct pickle_value *dict, const struct pickle_value *info, struct arena *arena,
                              struct tensor_view *tensor)
{
    const struct pickle_value *shape = info->kind == PICKLE_DICT ? pickle_find(info, "OriginShape") : NULL;
    const struct pickle_value *names = shape != NULL ? pickle_find(info, "slices") : NULL;
    int64_t elements, joined = 0;
    uint8_t *data = NULL;
    dla_status status;

    if (!pickle_whole_numbers(shape, tensor->shape, TENSOR_MAX_RANK, &tensor->rank) || names == NULL || names->kind != PICKLE_LIST
        || names->item_count == 0 || names->item_count > MOST_SLICES || !shape_elements(tensor->shape, tensor->rank, &elements))
        return status_set(DLA_ERROR_FORMAT, "%s does not say how an array is put together", slices_key);
    for (int pass = 0; pass < 2; pass++) { /* first the sizes, so that no memory is spent on a lie */
        joined = 0;
        for (size_t i = 0; i < names->item_count; i++) {
            struct tensor_view slice = {0};
            char *name = pickle_copy_text(names->items[i], arena);
            const struct pickle_value *array = name != NULL ? array_in(pickle_find(dict, name)) : NULL;
            if (array == NULL)
                return status_set(DLA_ERROR_FORMAT, "a slice of the array is missing");
            if ((status = read_array(array, arena, &slice)) != DLA_OK)
                return status;
            if (slice.rank != 1 || (i > 0 && slice.dtype != tensor->dtype) || slice.shape[0] > elements - joined)
                return status_set(DLA_ERROR_FORMAT, "the slices of the array do not fit together");
            tensor->dtype = slice.dtype;
            if (pass == 1)
                memcpy(data + (size_t)joined * dtype_size(slice.dtype), slice.data, (size_t)slice.shape[0] * dtype_size(slice.dtype));
            joined += slice.shape[0];
        }
        if (joined != elements)
            return status_set(DLA_ERROR_FORMAT, "the slices of the array have %lld of its %lld elements", (long long)joined,
                              (long long)elements);
        if (pass == 0 && (data = arena_allocate_array(arena, (size_t)elements + 1, dtype_size(tensor->dtype))) == NULL)
            return status_out_of_memory((size_t)elements * dtype_size(tensor->dtype), "an array");
    }
    tensor->data = data;
    tensor_set_row_major(tensor);
    return DLA_OK;
}

static bool is_slice(const struct pickle_value *slices, const struct pickle_value *key)
{
    const struct pickle_value *whole, *info;

    for (size_t i = 0; slices != NULL && i < pickle_pair_count(slices); i++) {
        if (!pickle_pair(slices, i, &whole, &info) || info->kind != PICKLE_DICT)
            continue;
        const struct pickle_value *names = pickle_find(info, "slices");
        for (size_t k = 0; k < MOST_SLICES && pickle_item(names, k) != NULL; k++) {
            const struct pickle_value *name = pickle_item(names, k);
            if (name->kind == PICKLE_TEXT && name->as.text.length == key->as.text.length
                && memcmp(name->as.text.bytes, key->as.text.bytes, key->as.text.length) == 0)
                return true;
        }
    }
    return false;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */

/* Appends the tensor of an entry of the dict or, if `sliced`, of its list of slices. */
static dla_status add_tensor(struct tensor_file *file, const struct pickle_value *dict, const struct pickle_value *key,
                             const struct pickle_value *value, bool sliced)
{
    struct tensor_view *tensor = &file->tensors[file->tensor_count];
    const struct pickle_value *array = array_in(value);
    dla_status status;

    if ((tensor->name = plain_name(key, &file->arena)) == NULL)
        return status_out_of_memory(key->as.text.length, "a tensor's name");
    if (sliced)
        status = join_slices(dict, value, &file->arena, tensor);
    else if (array != NULL)
        status = read_array(array, &file->arena, tensor);
    else
        status = status_set(DLA_ERROR_FORMAT, "not an array");
    if (status != DLA_OK)
        return status_prefix(status, "tensor '%.200s': ", tensor->name);
    file->tensor_count++;
    return DLA_OK;
}

dla_status paddle_read(struct tensor_file *file)
{
    struct pickle pickle;
    const struct pickle_value *key, *value;
    size_t count = 0;
    dla_status status;

    file->format = "PaddlePaddle";
    if ((status = pickle_load(file->mapping.bytes, file->mapping.size, globals, &file->arena, &pickle)) != DLA_OK)
        return status;
    if (pickle.used != file->mapping.size)
        return status_set(DLA_ERROR_FORMAT, "%zu bytes after the pickle", file->mapping.size - pickle.used);
    const struct pickle_value *dict = pickle_find_state_dict(pickle.root, ORDERED_DICT, is_array, &count);
    if (dict == NULL)
        return status_set(DLA_ERROR_FORMAT, "a Python pickle, but no state dict of PaddlePaddle (a dict from names to arrays)");
    const struct pickle_value *slices = pickle_find(dict, slices_key);
    size_t sliced = 0;
    if (slices != NULL) {
        sliced = slices->kind == PICKLE_DICT ? pickle_pair_count(slices) : 0;
        if (sliced == 0 || sliced > MOST_SLICED)
            return status_set(DLA_ERROR_FORMAT, "%s lists %zu arrays", slices_key, sliced);
    }
    file->tensors = arena_allocate_array(&file->arena, count + sliced, sizeof(*file->tensors));
    if (file->tensors == NULL)
        return status_out_of_memory(count * sizeof(*file->tensors), "the list of tensors");
    for (size_t i = 0; i < pickle_pair_count(dict); i++) {
        if (!pickle_pair(dict, i, &key, &value) || key->kind != PICKLE_TEXT || !is_array(value) || is_slice(slices, key))
            continue;
        if ((status = add_tensor(file, dict, key, value, false)) != DLA_OK)
            return status;
    }
    for (size_t i = 0; i < sliced; i++) {
        if (!pickle_pair(slices, i, &key, &value) || key->kind != PICKLE_TEXT)
            return status_set(DLA_ERROR_FORMAT, "%s is damaged", slices_key);
        if ((status = add_tensor(file, dict, key, value, true)) != DLA_OK)
            return status;
    }
    return DLA_OK;
}
