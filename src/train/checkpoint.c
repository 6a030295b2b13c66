/* checkpoint.c - writing, finding and reading checkpoints. */
#include "train/checkpoint.h"

#include "base/folder.h"
#include "base/memory.h"
#include "base/status.h"
#include "tasks/imagenet_labels.h"
#include "tasks/model_card.h"
#include "weights/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { POSITION_ENTRIES = 9, PATH_SIZE = 4096 };

static struct tensor_view block_tensor(const struct parameter *p, const char *name, const float *values)
{
    struct tensor_view t = {.name = name, .dtype = DTYPE_F32, .rank = p->rank, .data = values};
    int64_t stride = 1;
    for (int k = p->rank - 1; k >= 0; k--) {
        t.shape[k] = p->shape[k];
        t.strides[k] = stride;
        stride *= p->shape[k];
    }
    return t;
}

/* One of the three blocks of a state: its prefix in names, its values. */
struct state_part {
    const char *prefix;
    float *values;
};

static int parts_of(const struct run_state *state, struct state_part parts[3])
{
    int count = 0;
    parts[count++] = (struct state_part){"", state->parameters.values};
    parts[count++] = (struct state_part){"momentum.", state->velocity};
    if (state->average)
        parts[count++] = (struct state_part){"ema.", state->average};
    return count;
}

/* Momentum is there for what is trained, the others for everything. */
static bool part_has(const struct state_part *part, const struct parameter *p)
{
    return part->prefix[0] != 'm' || p->trainable;
}

/* The label of a class whose folder is called by its WordNet id, or the name itself. */
static const char *label_of(const char *name)
{
    for (int i = 0; i < IMAGENET_CLASS_COUNT; i++)
        if (strcmp(imagenet_classes[i].wnid, name) == 0)
            return imagenet_classes[i].label;
    return name;
}

static bool has_folders(const struct run_identity *identity)
{
    return identity->architecture->down_ratio == 0;
}

/* Card and class names (folders' as `wnids`, too: what they are called, whatever the labels say); `room` more entries are left free at the end. */
static dla_status card_entries(const struct run_identity *identity, struct arena *arena, int room, struct metadata_entry **entries,
                               int *count)
{
    struct metadata_entry *card;
    int card_count;
    const char **labels = arena_allocate_array(arena, (size_t)identity->class_count, sizeof(*labels));
    if (labels == NULL)
        return status_out_of_memory((size_t)identity->class_count * sizeof(*labels), "a checkpoint");
    for (int c = 0; c < identity->class_count; c++)
        labels[c] = label_of(identity->classes[c]);
    dla_status status = model_card_to_metadata(identity->architecture, identity->preprocessing, labels,
                                               has_folders(identity) ? identity->classes : NULL, arena, &card, &card_count);
    if (status != DLA_OK)
        return status;
    *entries = arena_allocate_array(arena, (size_t)card_count + (size_t)room, sizeof(**entries));
    if (*entries == NULL)
        return status_out_of_memory((size_t)card_count * sizeof(**entries), "a checkpoint");
    memcpy(*entries, card, (size_t)card_count * sizeof(*card));
    *count = card_count;
    return DLA_OK;
}

/* The numbers of a position and of an identity, by key; both directions read this table. */
struct position_entry {
    const char *key;
    char text[64];
};

static void position_entries(const struct run_identity *identity, const struct run_state *state,
                             struct position_entry entries[POSITION_ENTRIES])
{
    const struct {
        const char *key;
        int64_t number;
    } integers[] = {{"training.step", state->step},
                    {"training.steps", identity->steps},
                    {"training.epoch_steps", identity->epoch_steps},
                    {"training.size", identity->size},
                    {"training.batch", identity->batch}};
    int n = 0;
    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++, n++) {
        entries[n].key = integers[i].key;
        snprintf(entries[n].text, sizeof(entries[n].text), "%" PRId64, integers[i].number);
    }
    entries[n].key = "training.seed";
    snprintf(entries[n++].text, sizeof(entries[0].text), "%" PRIu64, identity->seed);
    entries[n].key = "training.best"; /* hexadecimal: comes back equal */
    snprintf(entries[n++].text, sizeof(entries[0].text), "%a", state->best);
    entries[n].key = "training.epoch_loss";
    snprintf(entries[n++].text, sizeof(entries[0].text), "%a", state->epoch_loss);
    entries[n].key = "training.epoch_top1";
    snprintf(entries[n++].text, sizeof(entries[0].text), "%a", state->epoch_top1);
}

static void remove_old(const char *folder_path, int keep)
{
    struct folder folder = {0};
    if (folder_read(folder_path, &folder) != DLA_OK)
        return;
    for (size_t i = 0; i + (size_t)keep < folder.count; i++)
        if (strncmp(folder.entries[i].name, "step-", 5) == 0)
            unlink(folder.entries[i].path);
    folder_free(&folder);
}

dla_status checkpoint_write(const char *run, const struct run_identity *identity, const struct run_state *state, int keep)
{
    const struct graph *graph = state->parameters.graph;
    struct arena arena = {0};
    struct state_part parts[3];
    int part_count = parts_of(state, parts), count = 0, entry_count = 0;
    struct metadata_entry *entries = NULL;
    struct position_entry position[POSITION_ENTRIES];
    struct tensor_view *tensors = arena_allocate_array(&arena, 3 * (size_t)graph->parameter_count, sizeof(*tensors));
    dla_status status =
        tensors ? card_entries(identity, &arena, POSITION_ENTRIES, &entries, &entry_count) : status_out_of_memory(1, "a checkpoint");
    for (int k = 0; k < part_count && status == DLA_OK; k++)
        for (int i = 0; i < graph->parameter_count && status == DLA_OK; i++) {
            const struct parameter *p = &graph->parameters[i];
            const char *name = part_has(&parts[k], p) ? arena_format(&arena, "%s%s", parts[k].prefix, p->name) : "";
            if (name == NULL)
                status = status_out_of_memory(strlen(p->name), "a checkpoint");
            else if (*name)
                tensors[count++] = block_tensor(p, name, parts[k].values + state->parameters.offsets[i]);
        }
    if (status == DLA_OK) {
        char path[PATH_SIZE];
        position_entries(identity, state, position);
        for (int i = 0; i < POSITION_ENTRIES; i++)
            entries[entry_count++] = (struct metadata_entry){position[i].key, position[i].text};
        snprintf(path, sizeof(path), "%s/checkpoints/step-%08" PRId64 ".safetensors", run, state->step);
        status = safetensors_write(path, tensors, count, entries, entry_count, DTYPE_F32);
        if (status == DLA_OK) {
            snprintf(path, sizeof(path), "%s/checkpoints", run);
            remove_old(path, keep > 0 ? keep : 1);
        }
    }
    arena_free(&arena);
    return status;
}

dla_status checkpoint_write_model(const char *path, const struct run_identity *identity, const struct run_state *state)
{
    const struct graph *graph = state->parameters.graph;
    const float *values = state->average ? state->average : state->parameters.values;
    struct arena arena = {0};
    struct metadata_entry *entries = NULL;
    int entry_count = 0;
    struct tensor_view *tensors = arena_allocate_array(&arena, (size_t)graph->parameter_count, sizeof(*tensors));
    dla_status status = tensors ? card_entries(identity, &arena, 0, &entries, &entry_count) : status_out_of_memory(1, "weights");
    for (int i = 0; i < graph->parameter_count && status == DLA_OK; i++)
        tensors[i] = block_tensor(&graph->parameters[i], graph->parameters[i].name, values + state->parameters.offsets[i]);
    if (status == DLA_OK)
        status = safetensors_write(path, tensors, graph->parameter_count, entries, entry_count, DTYPE_F32);
    arena_free(&arena);
    return status;
}

/* ---- reading ---- */

static dla_status check_identity(const struct tensor_file *file, const struct run_identity *identity, const struct run_state *state)
{
    struct position_entry expected[POSITION_ENTRIES];
    struct model_card card;
    dla_status status = model_card_read(file, &card);
    if (status != DLA_OK)
        return status;
    const char *const *names = has_folders(identity) ? card.wnids : card.labels;
    int name_count = has_folders(identity) ? card.wnid_count : card.label_count;
    if (!card.has_architecture || strcmp(card.architecture.name, identity->architecture->name) != 0)
        status = status_set(DLA_ERROR_MISMATCH, "%s: is a checkpoint of %s, not of %s; choose another --output, or the same --model",
                            file->path, card.has_architecture ? card.architecture.name : "another network", identity->architecture->name);
    else if (name_count != identity->class_count)
        status = status_set(DLA_ERROR_MISMATCH, "%s: was trained on %d classes, the photographs have %d", file->path, name_count,
                            identity->class_count);
    for (int c = 0; c < identity->class_count && status == DLA_OK; c++)
        if (strcmp(names[c], identity->classes[c]) != 0)
            status = status_set(DLA_ERROR_MISMATCH, "%s: class %d was called '%s' and is now '%s'; give it its old name back", file->path,
                                c, names[c], identity->classes[c]);
    model_card_free(&card);
    position_entries(identity, state, expected);
    for (int i = 0; i < POSITION_ENTRIES && status == DLA_OK; i++) {
        bool position = strcmp(expected[i].key, "training.step") == 0 || strcmp(expected[i].key, "training.best") == 0
                        || strncmp(expected[i].key, "training.epoch_", 15) == 0;
        const char *text = tensor_file_metadata(file, expected[i].key);
        if (text == NULL)
            status = status_set(DLA_ERROR_FORMAT, "%s: is no checkpoint: it has no '%s'", file->path, expected[i].key);
        else if ((!position || strcmp(expected[i].key, "training.epoch_steps") == 0) && strcmp(text, expected[i].text) != 0)
            status =
                status_set(DLA_ERROR_MISMATCH, "%s: has %s = %s, this run %s; resume with the options and photographs it was started with",
                           file->path, expected[i].key, text, expected[i].text);
    }
    return status;
}

static dla_status read_part(const struct tensor_file *file, const struct state_part *part, const struct parameter_block *block)
{
    for (int i = 0; i < block->graph->parameter_count; i++) {
        const struct parameter *p = &block->graph->parameters[i];
        char name[512], found[128], expected[128];
        if (!part_has(part, p))
            continue;
        snprintf(name, sizeof(name), "%s%s", part->prefix, p->name);
        const struct tensor_view *t = tensor_file_find(file, name);
        if (t == NULL)
            return status_set(DLA_ERROR_MISMATCH, "%s: has no tensor '%s'; resume with the options the run was started with", file->path,
                              name);
        bool same = t->rank == p->rank && t->dtype == DTYPE_F32;
        for (int k = 0; same && k < p->rank; k++)
            same = t->shape[k] == p->shape[k];
        if (!same)
            return status_set(DLA_ERROR_MISMATCH, "%s: tensor '%s' is %s %s, the network needs float32 %s", file->path, name,
                              dtype_name(t->dtype), shape_to_text(t->shape, t->rank, found, sizeof(found)),
                              shape_to_text(p->shape, p->rank, expected, sizeof(expected)));
        tensor_to_float(t, part->values + block->offsets[i]);
    }
    return DLA_OK;
}

dla_status checkpoint_read_newest(const char *run, const struct run_identity *identity, struct run_state *state, bool *found)
{
    char path[PATH_SIZE];
    struct folder folder = {0};
    struct stat information;
    const char *newest = NULL;
    struct tensor_file *file = NULL;
    *found = false;
    snprintf(path, sizeof(path), "%s/checkpoints", run);
    if (stat(path, &information) != 0)
        return DLA_OK;
    dla_status status = folder_read(path, &folder);
    for (size_t i = 0; i < folder.count && status == DLA_OK; i++) /* sorted: the last name is the newest */
        if (strncmp(folder.entries[i].name, "step-", 5) == 0 && name_has_suffix(folder.entries[i].name, ".safetensors"))
            newest = folder.entries[i].path;
    if (status == DLA_OK && newest) {
        status = tensor_file_open(newest, &file);
        if (status == DLA_ERROR_FORMAT)
            status = status_set(status, "%s; remove it to go on from the checkpoint before", dla_error_message());
        if (status == DLA_OK)
            status = check_identity(file, identity, state);
        struct state_part parts[3];
        int count = parts_of(state, parts);
        for (int k = 0; k < count && status == DLA_OK; k++)
            status = read_part(file, &parts[k], &state->parameters);
        if (status == DLA_OK) {
            state->step = strtoll(tensor_file_metadata(file, "training.step"), NULL, 10);
            state->best = strtod(tensor_file_metadata(file, "training.best"), NULL);
            state->epoch_loss = strtod(tensor_file_metadata(file, "training.epoch_loss"), NULL);
            state->epoch_top1 = strtod(tensor_file_metadata(file, "training.epoch_top1"), NULL);
            if (state->step < 0 || state->step > identity->steps)
                status = status_set(DLA_ERROR_FORMAT, "%s: step %" PRId64 " is outside of the run's %" PRId64, newest, state->step,
                                    identity->steps);
            *found = status == DLA_OK;
        }
        tensor_file_close(file);
    }
    folder_free(&folder);
    return status;
}
