/* bind.c - the tensors of a file matched with the parameters of a graph.
 *
 * Two steps. Matching looks at names and shapes only and counts everything that does not fit; so the message can tell one
 * wrong tensor from a wrong network, and `dla inspect` can ask about every network without touching a weight. Taking then
 * points at the mapped values, or converts them, and refuses values that are not finite.
 */
#include "weights/bind.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NO_TENSOR = -1 };

/* What a tensor of the file is to the network. */
enum role { ROLE_UNKNOWN, ROLE_PARAMETER, ROLE_UNUSED, ROLE_COUNTER, ROLE_CLASSIFIER, ROLE_COUNT };

struct match {
    int *tensor_of;       /* per parameter: index of its tensor, or NO_TENSOR */
    enum role *role_of;   /* per tensor */
    size_t prefix_length; /* stripped from every name */
    dla_weights_fit fit;
};

static const char *const wrapper_prefixes[] = {"module.", "model.", "state_dict.", "_orig_mod."};
enum { WRAPPER_PREFIX_COUNT = sizeof(wrapper_prefixes) / sizeof(wrapper_prefixes[0]) };

static bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), suffix_length = strlen(suffix);
    return length >= suffix_length && strcmp(text + length - suffix_length, suffix) == 0;
}

static bool all_names_continue(const struct tensor_file *file, size_t at, const char *prefix)
{
    for (int i = 0; i < file->tensor_count; i++)
        if (strncmp(file->tensors[i].name + at, prefix, strlen(prefix)) != 0)
            return false;
    return file->tensor_count > 0;
}

/* Length of the wrapper prefixes that all names share; `length` only grows over prefixes found, so indexing stays inside. */
static size_t wrapper_prefix_length(const struct tensor_file *file)
{
    size_t length = 0;
    for (int i = 0; i < WRAPPER_PREFIX_COUNT; i++) {
        if (all_names_continue(file, length, wrapper_prefixes[i])) {
            length += strlen(wrapper_prefixes[i]);
            i = -1; /* wrappers nest in any order */
        }
    }
    return length;
}

static bool same_shape(const struct tensor_view *tensor, const struct parameter *parameter)
{
    if (tensor->rank != parameter->rank)
        return false;
    for (int i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] != parameter->shape[i])
            return false;
    return true;
}

/* A linear layer's weight where the network has the same as a 1x1 convolution. */
static bool is_linear_classifier(const struct tensor_view *tensor, const struct parameter *parameter)
{
    return strcmp(parameter->name, "fc.weight") == 0 && tensor->rank == 2 && parameter->rank == 4 && parameter->shape[2] == 1
           && parameter->shape[3] == 1 && tensor->shape[0] == parameter->shape[0] && tensor->shape[1] == parameter->shape[1];
}

/* A stem made for RGB where the network's input has another number of channels. */
static bool is_rgb_stem(const struct tensor_view *tensor, const struct parameter *parameter)
{
    return has_suffix(parameter->name, "base_layer.0.weight") && tensor->rank == 4 && parameter->rank == 4 && tensor->shape[1] == 3
           && parameter->shape[1] != 3 && tensor->shape[0] == parameter->shape[0] && tensor->shape[2] == parameter->shape[2]
           && tensor->shape[3] == parameter->shape[3];
}

static bool fits(const struct tensor_view *tensor, const struct parameter *parameter)
{
    return same_shape(tensor, parameter) || is_linear_classifier(tensor, parameter) || is_rgb_stem(tensor, parameter);
}

__attribute__((format(printf, 3, 4))) static void note_problem(dla_weights_fit *fit, int *counter, const char *format, ...)
{
    ++*counter;
    if (fit->problem[0] == '\0') {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(fit->problem, sizeof(fit->problem), format, arguments);
        va_end(arguments);
    }
}

static const struct parameter *find_unused(const struct graph *graph, const char *name)
{
    for (int i = 0; i < graph->unused_count; i++)
        if (strcmp(graph->unused[i].name, name) == 0)
            return &graph->unused[i];
    return NULL;
}

/* "bn1.num_batches_tracked" beside a batch norm of the network, used or unused. */
static bool is_batch_counter(const struct graph *graph, const char *name)
{
    char mean[256];
    if (!has_suffix(name, ".num_batches_tracked"))
        return false;
    int stem = (int)(strlen(name) - strlen("num_batches_tracked"));
    int length = snprintf(mean, sizeof(mean), "%.*srunning_mean", stem, name);
    return length > 0 && (size_t)length < sizeof(mean)
           && (graph_find_parameter(graph, mean) != NO_PARAMETER || find_unused(graph, mean) != NULL);
}

static bool is_spare_classifier(const struct graph *graph, const char *name)
{
    return (strcmp(name, "fc.weight") == 0 || strcmp(name, "fc.bias") == 0) && graph_find_parameter(graph, "fc.weight") == NO_PARAMETER
           && graph_find_parameter(graph, "fc.0.weight") == NO_PARAMETER;
}

static enum role role_of_spare_tensor(const struct graph *graph, const struct tensor_view *tensor, const char *name)
{
    const struct parameter *unused = find_unused(graph, name);
    if (unused != NULL)
        return same_shape(tensor, unused) ? ROLE_UNUSED : ROLE_UNKNOWN;
    if (is_batch_counter(graph, name))
        return ROLE_COUNTER;
    return is_spare_classifier(graph, name) ? ROLE_CLASSIFIER : ROLE_UNKNOWN;
}

static void match_free(struct match *match)
{
    memory_free(match->tensor_of);
    memory_free(match->role_of);
}

static dla_status match_tensors(const struct graph *graph, const char *network, const struct tensor_file *file, struct match *match)
{
    dla_weights_fit *fit = &match->fit;
    char shape[128], wanted[128];

    match->tensor_of = memory_allocate_zeroed((size_t)graph->parameter_count + 1, sizeof(*match->tensor_of));
    match->role_of = memory_allocate_zeroed((size_t)file->tensor_count + 1, sizeof(*match->role_of));
    if (match->tensor_of == NULL || match->role_of == NULL)
        return status_out_of_memory((size_t)file->tensor_count * sizeof(*match->role_of), "matching weights");
    match->prefix_length = wrapper_prefix_length(file);

    for (int p = 0; p < graph->parameter_count; p++)
        match->tensor_of[p] = NO_TENSOR;
    for (int t = 0; t < file->tensor_count; t++) {
        int p = graph_find_parameter(graph, file->tensors[t].name + match->prefix_length);
        if (p != NO_PARAMETER) {
            match->role_of[t] = ROLE_PARAMETER;
            match->tensor_of[p] = t;
        }
    }
    /* Shapes first, in the network's order: the first wrong shape says most about what is wrong. */
    for (int p = 0; p < graph->parameter_count; p++) {
        const struct parameter *parameter = &graph->parameters[p];
        if (match->tensor_of[p] == NO_TENSOR)
            continue;
        const struct tensor_view *tensor = &file->tensors[match->tensor_of[p]];
        if (!fits(tensor, parameter))
            note_problem(fit, &fit->misshapen, "tensor '%.200s' is %s, %s needs %s", tensor->name,
                         shape_to_text(tensor->shape, tensor->rank, shape, sizeof(shape)), network,
                         shape_to_text(parameter->shape, parameter->rank, wanted, sizeof(wanted)));
    }
    for (int p = 0; p < graph->parameter_count; p++) {
        const struct parameter *parameter = &graph->parameters[p];
        if (match->tensor_of[p] == NO_TENSOR) {
            note_problem(fit, &fit->missing, "tensor '%s' %s is missing, %s needs it", parameter->name,
                         shape_to_text(parameter->shape, parameter->rank, wanted, sizeof(wanted)), network);
        }
    }
    for (int t = 0; t < file->tensor_count; t++) {
        const struct tensor_view *tensor = &file->tensors[t];
        if (match->role_of[t] != ROLE_PARAMETER)
            match->role_of[t] = role_of_spare_tensor(graph, tensor, tensor->name + match->prefix_length);
        if (match->role_of[t] == ROLE_UNKNOWN) {
            note_problem(fit, &fit->unknown, "tensor '%.200s' %s is not one of %s's", tensor->name,
                         shape_to_text(tensor->shape, tensor->rank, shape, sizeof(shape)), network);
        }
    }
    return DLA_OK;
}

dla_status weights_check_fit(const struct graph *graph, const char *network, const struct tensor_file *file, dla_weights_fit *fit)
{
    struct match match = {0};
    dla_status status = match_tensors(graph, network, file, &match);
    if (status == DLA_OK)
        *fit = match.fit;
    match_free(&match);
    return status;
}

/* Side `axis` of the first tensor whose name ends so, as far as it could be a number of channels; `fallback` without one. */
static int side_of_tensor(const struct tensor_file *file, const char *suffix, int axis, int fallback)
{
    for (int i = 0; i < file->tensor_count; i++) {
        const struct tensor_view *tensor = &file->tensors[i];
        if (has_suffix(tensor->name, suffix) && tensor->rank > axis && tensor->shape[axis] > 0 && tensor->shape[axis] <= INT32_MAX)
            return (int)tensor->shape[axis];
    }
    return fallback;
}

int weights_class_count(const struct tensor_file *file)
{
    /* A dense network may carry the classifier that its base was trained with, "base.fc.weight", beside its own. */
    int classes = side_of_tensor(file, "fc.0.weight", 0, 0);
    return classes > 0 ? classes : side_of_tensor(file, "fc.weight", 0, 0);
}

int weights_down_ratio(const struct tensor_file *file)
{
    return side_of_tensor(file, "up.weight", 2, 0) / 2; /* its last enlargement has twice the ratio as kernel */
}

int weights_input_channels(const struct tensor_file *file)
{
    return side_of_tensor(file, "base_layer.0.weight", 1, 3);
}

/* ---- taking the values ---- */

/* Not vectorised by hand: the loop has no branch, and the compiler does it well. */
static bool all_finite(const float *values, int64_t count)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

static dla_status check_values(const struct tensor_view *tensor, const struct parameter *parameter, const float *values, int64_t count)
{
    if (!all_finite(values, count)) {
        for (int64_t i = 0; i < count; i++) {
            if (values[i] - values[i] != 0) {
                return status_set(DLA_ERROR_MISMATCH, "tensor '%.200s' holds %f at element %lld; such weights cannot be used", tensor->name,
                                  (double)values[i], (long long)i);
            }
        }
    }
    for (int64_t i = 0; parameter->kind == PARAMETER_RUNNING_VAR && i < count; i++) {
        if (values[i] < 0) {
            return status_set(DLA_ERROR_MISMATCH, "tensor '%.200s' holds a negative variance (%g at element %lld)", tensor->name,
                              (double)values[i], (long long)i);
        }
    }
    return DLA_OK;
}

/* rgb (out, 3, kernel, kernel) to stem (out, channels, kernel, kernel): one grey channel stands for r = g = b, so its weights
 * are summed; n channels repeat the three, scaled so that equal inputs give an equal sum. */
static void adapt_stem(const float *rgb, const int64_t stem_shape[4], float *stem)
{
    int64_t out_channels = stem_shape[0], channels = stem_shape[1], area = stem_shape[2] * stem_shape[3];

    for (int64_t o = 0; o < out_channels; o++) {
        for (int64_t c = 0; c < channels; c++) {
            const float *source = rgb + o * 3 * area;
            float *target = stem + (o * channels + c) * area;
            for (int64_t i = 0; i < area; i++) {
                target[i] = channels == 1 ? source[i] + source[area + i] + source[2 * area + i]
                                          : source[c % 3 * area + i] * (3.0f / (float)channels);
            }
        }
    }
}

static dla_status take_values(const struct parameter *parameter, const struct tensor_view *tensor, struct arena *arena,
                              const float **values)
{
    bool adapt = !same_shape(tensor, parameter) && is_rgb_stem(tensor, parameter);
    int64_t elements = adapt ? parameter->elements / parameter->shape[1] * 3 : parameter->elements;
    const float *taken;
    dla_status status;

    if (tensor->dtype == DTYPE_F32 && tensor_is_contiguous(tensor) && (uintptr_t)tensor->data % sizeof(float) == 0) {
        taken = tensor->data;
    } else {
        float *converted = arena_allocate_array(arena, (size_t)elements, sizeof(*converted));
        if (converted == NULL)
            return status_out_of_memory((size_t)elements * sizeof(*converted), parameter->name);
        tensor_to_float(tensor, converted);
        taken = converted;
    }
    if ((status = check_values(tensor, parameter, taken, elements)) != DLA_OK)
        return status;
    if (adapt) {
        float *stem = arena_allocate_array(arena, (size_t)parameter->elements, sizeof(*stem));
        if (stem == NULL)
            return status_out_of_memory((size_t)parameter->elements * sizeof(*stem), parameter->name);
        adapt_stem(taken, parameter->shape, stem);
        taken = stem;
    }
    *values = taken;
    return DLA_OK;
}

static char *make_report(const struct graph *graph, const struct tensor_file *file, const struct match *match, struct arena *arena)
{
    int counts[ROLE_COUNT] = {0}, dtypes[DTYPE_COUNT] = {0};
    char *text;

    for (int t = 0; t < file->tensor_count; t++) {
        counts[match->role_of[t]]++;
        dtypes[file->tensors[t].dtype] += match->role_of[t] == ROLE_PARAMETER;
    }
    text = arena_format(arena, "%s: %d tensors used", file->format, counts[ROLE_PARAMETER]);
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (text != NULL && dtypes[d] > 0)
            text = arena_format(arena, "%s, %d of %s", text, dtypes[d], dtype_name((enum dtype)d));
    if (text != NULL && match->prefix_length > 0)
        text = arena_format(arena, "%s\nprefix '%.*s' removed from every name", text, (int)match->prefix_length, file->tensors[0].name);
    if (text != NULL && counts[ROLE_UNUSED] > 0)
        text = arena_format(arena, "%s\n%d tensors of projections that no forward pass uses left out", text, counts[ROLE_UNUSED]);
    if (text != NULL && counts[ROLE_COUNTER] > 0)
        text = arena_format(arena, "%s\n%d num_batches_tracked left out", text, counts[ROLE_COUNTER]);
    if (text != NULL && counts[ROLE_CLASSIFIER] > 0)
        text = arena_format(arena, "%s\nfc left out: the network has no classifier", text);
    for (int p = 0; p < graph->parameter_count && text != NULL; p++) {
        const struct parameter *parameter = &graph->parameters[p];
        const struct tensor_view *tensor = &file->tensors[match->tensor_of[p]];
        if (!same_shape(tensor, parameter)) {
            char from[128], to[128];
            text = arena_format(arena, "%s\n%s %s taken as %s", text, parameter->name,
                                shape_to_text(tensor->shape, tensor->rank, from, sizeof(from)),
                                shape_to_text(parameter->shape, parameter->rank, to, sizeof(to)));
        }
    }
    return text;
}

dla_status weights_bind(const struct graph *graph, const char *network, const struct tensor_file *file, struct bound_weights *weights)
{
    struct bound_weights bound = {.parameter_count = graph->parameter_count, .file = file};
    struct match match = {0};
    dla_status status;

    if ((status = match_tensors(graph, network, file, &match)) != DLA_OK)
        goto out;
    int problems = match.fit.missing + match.fit.unknown + match.fit.misshapen;
    if (problems > 0) {
        char others[64] = "";
        if (problems > 1)
            snprintf(others, sizeof(others), " (and %d other tensor%s)", problems - 1, problems > 2 ? "s" : "");
        status = status_set(DLA_ERROR_MISMATCH, "%s: %s%s; `dla inspect %s` shows which network it fits", file->path, match.fit.problem,
                            others, file->path);
        goto out;
    }
    bound.values = memory_allocate_zeroed((size_t)graph->parameter_count + 1, sizeof(*bound.values));
    if (bound.values == NULL) {
        status = status_out_of_memory((size_t)graph->parameter_count * sizeof(*bound.values), "weights");
        goto out;
    }
    for (int p = 0; p < graph->parameter_count; p++) {
        const struct tensor_view *tensor = &file->tensors[match.tensor_of[p]];
        if ((status = take_values(&graph->parameters[p], tensor, &bound.converted, &bound.values[p])) != DLA_OK) {
            status_prefix(status, "%s: ", file->path);
            goto out;
        }
        bound_weights_release(&bound, graph, p); /* they were looked at; whoever uses them finds them in the file cache */
    }
    if ((bound.report = make_report(graph, file, &match, &bound.converted)) == NULL) {
        status = status_out_of_memory(1024, "the report on weights");
        goto out;
    }
    *weights = bound;
    bound = (struct bound_weights){0};
out:
    match_free(&match);
    bound_weights_free(&bound);
    return status;
}

void bound_weights_free(struct bound_weights *weights)
{
    memory_free(weights->values);
    arena_free(&weights->converted);
    *weights = (struct bound_weights){0};
}

void bound_weights_release(const struct bound_weights *weights, const struct graph *graph, int parameter)
{
    const struct tensor_file *file = weights->file;
    if (file == NULL || !file->owns_mapping)
        return; /* dropping pages that are not a file's would lose them */
    uintptr_t first = (uintptr_t)weights->values[parameter],
              last = first + (uintptr_t)graph->parameters[parameter].elements * sizeof(float);
    uintptr_t mapping = (uintptr_t)file->mapping.bytes, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (first < mapping || last > mapping + file->mapping.size)
        return;
    first = (first + page - 1) / page * page;
    last = last / page * page;
    if (first < last)
        madvise((void *)first, last - first, MADV_DONTNEED);
}
