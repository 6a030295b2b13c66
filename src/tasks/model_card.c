/* model_card.c - reads and writes what accompanies weights.
 *
 *     metadata key       config.json                                     content
 *     architecture       architecture                                    name in the zoo
 *     config             config                                          a network of the user's own (docs/config.md)
 *     num_classes        num_classes                                     whole number
 *     labels             label_names, label_descriptions                 names of the classes
 *     wnids              label_names, where they are WordNet ids         WordNet ids of the classes
 *     pretrained_cfg     pretrained_cfg                                  preprocessing, as timm writes it
 *
 * Metadata values are texts, so everything but names is JSON in a string there; config.json holds it directly. Reading
 * metadata therefore starts by making the object that config.json would have held.
 */
#include "tasks/model_card.h"

#include "base/memory.h"
#include "base/status.h"
#include "tasks/imagenet_labels.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 16 << 20 };
enum { MAX_CLASSES = 1000000 };

/* ---- the pieces of a card ---------------------------------------------------------------------------------------------- */

/* The value under a key; null is as good as none. */
static const json_t *look_up(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static dla_status read_whole_number(const json_t *object, const char *key, int minimum, int maximum, int *number)
{
    const json_t *value = look_up(object, key);
    if (value == NULL)
        return DLA_OK;
    if (!json_is_integer(value) || json_integer_value(value) < minimum || json_integer_value(value) > maximum)
        return status_set(DLA_ERROR_FORMAT, "'%s' is not a whole number from %d to %d", key, minimum, maximum);
    *number = (int)json_integer_value(value);
    return DLA_OK;
}

static dla_status read_architecture(const json_t *root, struct model_card *card)
{
    const json_t *config = look_up(root, "config"), *name = look_up(root, "architecture");
    dla_status status;

    if (json_is_object(config)) {
        char *text = json_dumps(config, JSON_COMPACT);
        if (text == NULL)
            return status_out_of_memory(0, "a network's description");
        status = dla_architecture_parse_config(text, strlen(text), "config", &card->architecture);
        free(text);
        if (status != DLA_OK)
            return status;
        card->has_architecture = true;
        card->num_classes = card->architecture.num_classes;
        return DLA_OK;
    }
    if (json_is_string(name)) {
        if ((status = dla_architecture_find(json_string_value(name), &card->architecture)) != DLA_OK)
            return status_prefix(status, "architecture: ");
        card->has_architecture = true;
    }
    if ((status = read_whole_number(root, "num_classes", 0, MAX_CLASSES, &card->num_classes)) != DLA_OK)
        return status;
    if (card->has_architecture)
        card->architecture.num_classes = card->num_classes;
    return DLA_OK;
}

static dla_status read_triple(const json_t *config, const char *key, float triple[3])
{
    const json_t *array = look_up(config, key);
    if (array == NULL)
        return DLA_OK;
    if (json_array_size(array) != 3)
        return status_set(DLA_ERROR_FORMAT, "pretrained_cfg: '%s' does not hold three numbers", key);
    for (size_t i = 0; i < 3; i++) {
        const json_t *number = json_array_get(array, i);
        if (!json_is_number(number))
            return status_set(DLA_ERROR_FORMAT, "pretrained_cfg: '%s' does not hold three numbers", key);
        triple[i] = (float)json_number_value(number);
    }
    return DLA_OK;
}

/* The forms of timm's pretrained_cfg that an evaluation knows: a square centre crop, bilinear or bicubic. */
static dla_status read_preprocessing(const json_t *config, struct model_card *card)
{
    dla_preprocessing p = DLA_PREPROCESSING_IMAGENET;
    const json_t *size = look_up(config, "input_size"), *crop = look_up(config, "crop_pct");
    const json_t *mode = look_up(config, "crop_mode"), *interpolation = look_up(config, "interpolation");
    int channels = 3;
    dla_status status;

    if (size != NULL) {
        const json_t *height = json_array_get(size, 1), *width = json_array_get(size, 2);
        if (json_array_size(size) != 3 || !json_is_integer(json_array_get(size, 0)) || !json_is_integer(height) || !json_is_integer(width))
            return status_set(DLA_ERROR_FORMAT, "pretrained_cfg: 'input_size' is not [channels, height, width]");
        if (json_integer_value(height) != json_integer_value(width) || json_integer_value(height) < 32 || json_integer_value(height) > 8192)
            return status_set(DLA_ERROR_UNSUPPORTED, "pretrained_cfg: 'input_size' is %lld x %lld; squares from 32 to 8192 are supported",
                              (long long)json_integer_value(height), (long long)json_integer_value(width));
        if (json_integer_value(json_array_get(size, 0)) < 1 || json_integer_value(json_array_get(size, 0)) > 4096)
            return status_set(DLA_ERROR_FORMAT, "pretrained_cfg: 'input_size' has no sensible number of channels");
        channels = (int)json_integer_value(json_array_get(size, 0));
        p.size = (int)json_integer_value(height);
        if (card->has_architecture)
            card->architecture.in_channels = channels;
    }
    if (crop != NULL) {
        p.crop_pct = json_number_value(crop);
        if (!json_is_number(crop) || !(p.crop_pct > 0.01 && p.crop_pct <= 1))
            return status_set(DLA_ERROR_FORMAT, "pretrained_cfg: 'crop_pct' is not a number from 0.01 to 1");
    }
    if (json_is_string(mode) && strcmp(json_string_value(mode), "center") != 0)
        return status_set(DLA_ERROR_UNSUPPORTED, "pretrained_cfg: crop_mode '%.40s' is not supported, only 'center'",
                          json_string_value(mode));
    if (json_is_string(interpolation)) {
        const char *name = json_string_value(interpolation);
        if (strcmp(name, "bilinear") != 0 && strcmp(name, "bicubic") != 0)
            return status_set(DLA_ERROR_UNSUPPORTED, "pretrained_cfg: interpolation '%.40s' is not supported, only bilinear and bicubic",
                              name);
        p.interpolation = strcmp(name, "bicubic") == 0 ? DLA_INTERPOLATION_BICUBIC : DLA_INTERPOLATION_BILINEAR;
    }
    if (channels == 3) {
        if ((status = read_triple(config, "mean", p.mean)) != DLA_OK || (status = read_triple(config, "std", p.std)) != DLA_OK)
            return status;
        for (int i = 0; i < 3; i++)
            if (!isfinite(p.mean[i]) || !isfinite(p.std[i]) || !(p.std[i] > 0))
                return status_set(DLA_ERROR_FORMAT, "pretrained_cfg: 'mean' and 'std' must be finite, 'std' above 0");
    }
    card->preprocessing = p;
    card->has_preprocessing = true;
    return DLA_OK;
}

/* An array of strings, copied. */
static dla_status read_names(struct model_card *card, const json_t *array, const char *key, const char ***names, int *count)
{
    if (!json_is_array(array))
        return status_set(DLA_ERROR_FORMAT, "'%s' is not an array of texts", key);
    size_t size = json_array_size(array);
    if (size > MAX_CLASSES)
        return status_set(DLA_ERROR_LIMIT, "'%s' has %zu entries; at most %d are read", key, size, MAX_CLASSES);
    const char **copies = arena_allocate_array(&card->arena, size + 1, sizeof(*copies));
    if (copies == NULL)
        return status_out_of_memory(size * sizeof(*copies), "labels");
    for (size_t i = 0; i < size; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text == NULL)
            return status_set(DLA_ERROR_FORMAT, "'%s': entry %zu is not a text", key, i);
        if ((copies[i] = arena_copy_string(&card->arena, text)) == NULL)
            return status_out_of_memory(strlen(text), "labels");
    }
    *names = copies;
    *count = (int)size;
    return DLA_OK;
}

static bool is_wnid(const char *text)
{
    return text[0] == 'n' && strlen(text) == 9 && strspn(text + 1, "0123456789") == 8;
}

static bool all_wnids(const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (!is_wnid(names[i]))
            return false;
    return count > 0;
}

static const char *imagenet_label(const char *wnid)
{
    for (int i = 0; i < IMAGENET_CLASS_COUNT; i++)
        if (strcmp(imagenet_classes[i].wnid, wnid) == 0)
            return imagenet_classes[i].label;
    return NULL;
}

/* timm's label_names are WordNet ids for ImageNet networks, and words for others; label_descriptions maps them to words. */
static dla_status read_labels(const json_t *root, const json_t *pretrained, struct model_card *card)
{
    const json_t *labels = look_up(root, "labels"), *wnids = look_up(root, "wnids");
    const json_t *names = look_up(root, "label_names"), *descriptions = look_up(root, "label_descriptions");
    dla_status status;

    if (labels != NULL && (status = read_names(card, labels, "labels", &card->labels, &card->label_count)) != DLA_OK)
        return status;
    if (wnids != NULL && (status = read_names(card, wnids, "wnids", &card->wnids, &card->wnid_count)) != DLA_OK)
        return status;
    if (names == NULL)
        names = look_up(pretrained, "label_names");
    if (descriptions == NULL)
        descriptions = look_up(pretrained, "label_descriptions");
    if (names == NULL || card->labels != NULL)
        return DLA_OK;
    if ((status = read_names(card, names, "label_names", &card->labels, &card->label_count)) != DLA_OK)
        return status;
    if (card->wnids == NULL && all_wnids(card->labels, card->label_count)) {
        card->wnids = card->labels;
        card->wnid_count = card->label_count;
        card->labels = arena_allocate_array(&card->arena, (size_t)card->label_count, sizeof(*card->labels));
        if (card->labels == NULL)
            return status_out_of_memory((size_t)card->label_count * sizeof(*card->labels), "labels");
        for (int i = 0; i < card->label_count; i++) {
            const char *known = imagenet_label(card->wnids[i]);
            card->labels[i] = known != NULL ? known : card->wnids[i];
        }
    }
    for (int i = 0; i < card->label_count && json_is_object(descriptions); i++) {
        const char *key = card->wnids != NULL ? card->wnids[i] : card->labels[i];
        const char *text = json_string_value(look_up(descriptions, key));
        if (text != NULL && (card->labels[i] = arena_copy_string(&card->arena, text)) == NULL)
            return status_out_of_memory(strlen(text), "labels");
    }
    return DLA_OK;
}

static dla_status read_card(const json_t *root, struct model_card *card)
{
    const json_t *pretrained = look_up(root, "pretrained_cfg");
    dla_status status;

    if ((status = read_architecture(root, card)) != DLA_OK)
        return status;
    if (pretrained == NULL && look_up(root, "input_size") != NULL)
        pretrained = root; /* as timm wrote it before 0.9 */
    if (json_is_object(pretrained) && (status = read_preprocessing(pretrained, card)) != DLA_OK)
        return status;
    if ((status = read_labels(root, pretrained, card)) != DLA_OK)
        return status;
    int classes = card->num_classes;
    if (card->labels != NULL && classes == CLASSES_NOT_SAID)
        classes = card->label_count;
    if (card->labels != NULL && card->label_count != classes)
        return status_set(DLA_ERROR_MISMATCH, "%d labels for %d classes", card->label_count, classes);
    if (card->wnids != NULL && classes != CLASSES_NOT_SAID && card->wnid_count != classes)
        return status_set(DLA_ERROR_MISMATCH, "%d WordNet ids for %d classes", card->wnid_count, classes);
    return DLA_OK;
}

/* ---- where cards are found --------------------------------------------------------------------------------------------- */

dla_status model_card_parse_config(const char *json, size_t length, const char *origin, struct model_card *card)
{
    struct model_card parsed = {.num_classes = CLASSES_NOT_SAID};
    json_error_t error;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &error);
    dla_status status;

    if (root == NULL)
        status = status_set(DLA_ERROR_FORMAT, "%s: line %d: %s", origin, error.line, error.text);
    else if ((status = read_card(root, &parsed)) != DLA_OK)
        status_prefix(status, "%s: ", origin);
    else if ((parsed.source = arena_copy_string(&parsed.arena, origin)) == NULL)
        status = status_out_of_memory(strlen(origin), "a path");
    json_decref(root);
    if (status == DLA_OK)
        *card = parsed;
    else
        model_card_free(&parsed);
    return status;
}

/* The object that config.json would have held, from metadata. */
static dla_status metadata_to_object(const struct tensor_file *file, json_t **object)
{
    static const char *const json_keys[] = {"config", "num_classes", "labels", "wnids", "pretrained_cfg"};
    const char *architecture = tensor_file_metadata(file, "architecture");
    json_t *root = json_object();
    json_error_t error;

    if (architecture != NULL)
        json_object_set_new(root, "architecture", json_string(architecture));
    for (size_t i = 0; i < sizeof(json_keys) / sizeof(json_keys[0]); i++) {
        const char *text = tensor_file_metadata(file, json_keys[i]);
        if (text == NULL)
            continue;
        json_t *value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
        if (value == NULL || json_object_set_new(root, json_keys[i], value) != 0) {
            json_decref(root);
            return status_set(DLA_ERROR_FORMAT, "metadata '%s' is not JSON: %s", json_keys[i], error.text);
        }
    }
    *object = root;
    return DLA_OK;
}

static dla_status read_metadata(const struct tensor_file *file, struct model_card *card)
{
    json_t *root = NULL;
    dla_status status = metadata_to_object(file, &root);

    if (status == DLA_OK)
        status = read_card(root, card);
    json_decref(root);
    if (status != DLA_OK)
        return status_prefix(status, "%s: ", file->path);
    card->source = "metadata";
    return DLA_OK;
}

/* config.json in the weights' folder. One that says nothing about a DLA network belongs to something else and is left alone. */
static dla_status read_config_beside(const char *path, struct model_card *card)
{
    const char *slash = strrchr(path, '/');
    char *config_path = arena_format(&card->arena, "%.*sconfig.json", slash != NULL ? (int)(slash - path + 1) : 0, path);
    char *text = NULL;
    size_t length;

    if (config_path == NULL)
        return status_out_of_memory(strlen(path), "a path");
    dla_status status = file_read_text(config_path, MAX_CONFIG_BYTES, &text, &length);
    if (status == DLA_ERROR_NOT_FOUND)
        return DLA_OK;
    if (status != DLA_OK)
        return status;
    struct model_card parsed;
    status = model_card_parse_config(text, length, config_path, &parsed);
    memory_free(text);
    if (status != DLA_OK)
        return status;
    model_card_free(card);
    *card = parsed;
    return DLA_OK;
}

dla_status model_card_read(const struct tensor_file *file, struct model_card *card)
{
    struct model_card read = {.num_classes = CLASSES_NOT_SAID};
    dla_status status;

    if (tensor_file_metadata(file, "architecture") != NULL || tensor_file_metadata(file, "config") != NULL)
        status = read_metadata(file, &read);
    else
        status = file->owns_mapping ? read_config_beside(file->path, &read) : DLA_OK;
    if (status != DLA_OK) {
        model_card_free(&read);
        return status;
    }
    *card = read;
    return DLA_OK;
}

void model_card_free(struct model_card *card)
{
    arena_free(&card->arena);
    *card = (struct model_card){.num_classes = CLASSES_NOT_SAID};
}

/* ---- writing ----------------------------------------------------------------------------------------------------------- */

struct entry_list {
    struct arena *arena;
    struct metadata_entry *entries;
    int count;
    bool failed;
};

static void add_entry(struct entry_list *list, const char *key, const char *text)
{
    const char *copy = text != NULL ? arena_copy_string(list->arena, text) : NULL;

    if (copy == NULL)
        list->failed = true;
    else
        list->entries[list->count++] = (struct metadata_entry){key, copy};
}

/* The same with a text that jansson made. */
static void add_json_entry(struct entry_list *list, const char *key, char *text)
{
    add_entry(list, key, text);
    free(text);
}

static char *names_to_json(const char *const *names, int count)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(array, json_string(names[i]));
    char *text = json_array_size(array) == (size_t)count ? json_dumps(array, 0) : NULL;
    json_decref(array);
    return text;
}

/* The shortest decimal that reads back as this float32: 0.485 and not 0.485000014. */
static double shortest_decimal(float number)
{
    char text[32];
    for (int digits = 6; digits < 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)number);
        if (strtof(text, NULL) == number)
            return strtod(text, NULL);
    }
    return (double)number;
}

static char *preprocessing_to_json(const dla_preprocessing *p, int in_channels)
{
    const float *m = p->mean, *d = p->std;
    json_t *config =
        json_pack("{s:[i,i,i], s:f, s:s, s:s, s:[f,f,f], s:[f,f,f]}", "input_size", in_channels, p->size, p->size, "crop_pct", p->crop_pct,
                  "crop_mode", "center", "interpolation", p->interpolation == DLA_INTERPOLATION_BICUBIC ? "bicubic" : "bilinear", "mean",
                  shortest_decimal(m[0]), shortest_decimal(m[1]), shortest_decimal(m[2]), "std", shortest_decimal(d[0]),
                  shortest_decimal(d[1]), shortest_decimal(d[2]));
    char *text = json_dumps(config, JSON_REAL_PRECISION(9)); /* what a float32 needs to come back equal */
    json_decref(config);
    return text;
}

/* Whether the network is the zoo's, apart from the number of classes and input channels. */
static bool is_zoo_network(const dla_architecture *architecture)
{
    dla_architecture listed;
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        listed = *dla_architecture_at(i);
        if (strcmp(listed.name, architecture->name) == 0)
            return memcmp(listed.levels, architecture->levels, sizeof(listed.levels)) == 0
                   && memcmp(listed.channels, architecture->channels, sizeof(listed.channels)) == 0 && listed.block == architecture->block
                   && listed.cardinality == architecture->cardinality && listed.base_width == architecture->base_width
                   && listed.scale == architecture->scale && listed.residual_root == architecture->residual_root
                   && listed.output_stride == architecture->output_stride && listed.down_ratio == architecture->down_ratio
                   && listed.in_channels == architecture->in_channels;
    }
    return false;
}

dla_status model_card_to_metadata(const dla_architecture *architecture, const dla_preprocessing *preprocessing, const char *const *labels,
                                  const char *const *wnids, struct arena *arena, struct metadata_entry **entries, int *entry_count)
{
    enum { MOST_ENTRIES = 5 };
    struct entry_list list = {.arena = arena, .entries = arena_allocate_array(arena, MOST_ENTRIES, sizeof(*list.entries))};
    char classes[16];

    if (list.entries == NULL)
        return status_out_of_memory(MOST_ENTRIES * sizeof(*list.entries), "metadata");
    if (is_zoo_network(architecture)) {
        add_entry(&list, "architecture", architecture->name);
    } else {
        char *config = NULL;
        dla_status status = dla_architecture_to_config(architecture, &config);
        if (status != DLA_OK)
            return status;
        add_entry(&list, "config", config);
        dla_free(config);
    }
    snprintf(classes, sizeof(classes), "%d", architecture->num_classes);
    add_entry(&list, "num_classes", classes);
    if (labels != NULL)
        add_json_entry(&list, "labels", names_to_json(labels, architecture->num_classes));
    if (wnids != NULL)
        add_json_entry(&list, "wnids", names_to_json(wnids, architecture->num_classes));
    if (preprocessing != NULL)
        add_json_entry(&list, "pretrained_cfg", preprocessing_to_json(preprocessing, architecture->in_channels));
    if (list.failed)
        return status_out_of_memory(4096, "metadata");
    *entries = list.entries;
    *entry_count = list.count;
    return DLA_OK;
}
