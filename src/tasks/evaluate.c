/* evaluate.c - a tree of photographs in one folder a class, and how many the network recognises.
 *
 *     folders --class_by_name--> classes;  photographs in them --classify_files--> best guesses --> counts and confusion
 */
#include "base/folder.h"
#include "base/memory.h"
#include "base/status.h"
#include "tasks/class_names.h"
#include "tasks/classifier.h"

#include <string.h>

enum { TOP = 5 };

struct evaluation {
    dla_evaluation result; /* what the caller sees; its first member, so that the two addresses are one */
    struct arena arena;    /* owns everything */
    dla_class_result *classes;
    int64_t *confusion;
    dla_skipped_file *skipped;
    size_t skipped_capacity;
};

/* The photographs to classify, and the class that each belongs to. */
struct photographs {
    struct arena arena;
    const char **paths;
    int *classes;
    size_t count, capacity;
};

static dla_status add_skipped(struct evaluation *evaluation, const char *path, const char *reason)
{
    dla_evaluation *result = &evaluation->result;

    if (result->skipped_count == evaluation->skipped_capacity) {
        size_t capacity = evaluation->skipped_capacity == 0 ? 16 : 2 * evaluation->skipped_capacity;
        dla_skipped_file *larger = arena_allocate_array(&evaluation->arena, capacity, sizeof(*larger));
        if (larger == NULL)
            return status_out_of_memory(capacity * sizeof(*larger), "the list of skipped files");
        if (result->skipped_count > 0)
            memcpy(larger, evaluation->skipped, result->skipped_count * sizeof(*larger));
        evaluation->skipped = larger;
        evaluation->skipped_capacity = capacity;
        result->skipped = larger;
    }
    dla_skipped_file skipped = {arena_copy_string(&evaluation->arena, path), arena_copy_string(&evaluation->arena, reason)};
    if (skipped.path == NULL || skipped.reason == NULL)
        return status_out_of_memory(strlen(path) + strlen(reason), "the list of skipped files");
    evaluation->skipped[result->skipped_count++] = skipped;
    return DLA_OK;
}

/* Reason in printf's form, put together in the arena. */
#define SKIP(evaluation, path, ...) skip_with_reason(evaluation, path, arena_format(&(evaluation)->arena, __VA_ARGS__))

static dla_status skip_with_reason(struct evaluation *evaluation, const char *path, const char *reason)
{
    if (reason == NULL)
        return status_out_of_memory(strlen(path), "the list of skipped files");
    return add_skipped(evaluation, path, reason);
}

/* ---- which photographs, of which classes ------------------------------------------------------------------------------ */

static dla_status add_photograph(struct photographs *photographs, const char *path, int class_index)
{
    if (photographs->count == photographs->capacity) {
        size_t capacity = photographs->capacity == 0 ? 1024 : 2 * photographs->capacity;
        const char **paths = memory_resize(photographs->paths, capacity * sizeof(*paths));
        if (paths != NULL)
            photographs->paths = paths;
        int *classes = memory_resize(photographs->classes, capacity * sizeof(*classes));
        if (classes != NULL)
            photographs->classes = classes;
        if (paths == NULL || classes == NULL)
            return status_out_of_memory(capacity * sizeof(*paths), "a list of photographs");
        photographs->capacity = capacity;
    }
    photographs->paths[photographs->count] = arena_copy_string(&photographs->arena, path);
    if (photographs->paths[photographs->count] == NULL)
        return status_out_of_memory(strlen(path) + 1, "a list of photographs");
    photographs->classes[photographs->count++] = class_index;
    return DLA_OK;
}

static dla_status add_class_folder(struct photographs *photographs, const char *path, int class_index)
{
    dla_path_list *list = NULL;
    dla_status status = dla_photographs_find(path, &list);

    for (size_t i = 0; status == DLA_OK && i < list->count; i++)
        status = add_photograph(photographs, list->paths[i], class_index);
    dla_path_list_destroy(list);
    return status;
}

static void photographs_free(struct photographs *photographs)
{
    memory_free(photographs->paths);
    memory_free(photographs->classes);
    arena_free(&photographs->arena);
}

static bool model_has_names(const dla_model *model)
{
    for (int c = 0; c < dla_model_class_count(model); c++)
        if (dla_model_wnid(model, c) != NULL || dla_model_label(model, c) != NULL)
            return true;
    return false;
}

/* The class of every entry of the folder that is a folder itself; NO_CLASS for the others. Fails where none is a class. */
static dla_status match_folders(struct evaluation *evaluation, const dla_model *model, const char *path, const struct folder *folder,
                                int *classes)
{
    bool by_name = model_has_names(model);
    int folder_count = 0, matched = 0;
    const char *first_unknown = NULL;
    dla_status status = DLA_OK;

    for (size_t i = 0; status == DLA_OK && i < folder->count; i++) {
        const struct folder_entry *entry = &folder->entries[i];
        classes[i] = NO_CLASS;
        if (!entry->is_folder)
            continue;
        classes[i] = by_name ? class_by_name(model, entry->name) : folder_count;
        folder_count++;
        matched += classes[i] >= 0;
        if (classes[i] == AMBIGUOUS_CLASS)
            status = SKIP(evaluation, entry->path, "%s: several classes of the network are called so; use the wnid", entry->path);
        else if (classes[i] == NO_CLASS)
            status = SKIP(evaluation, entry->path, "%s: no class of the network is called so, neither by wnid nor by label", entry->path);
        if (classes[i] < 0 && first_unknown == NULL)
            first_unknown = entry->name;
    }
    if (status != DLA_OK)
        return status;
    if (folder_count == 0)
        return status_set(DLA_ERROR_NOT_FOUND, "%s: no folders in it; a folder for each class is needed, with its photographs inside",
                          path);
    if (!by_name && folder_count != dla_model_class_count(model))
        return status_set(DLA_ERROR_MISMATCH, "%s: %d folders, the network has %d classes and no labels to tell which is which", path,
                          folder_count, dla_model_class_count(model));
    if (matched == 0)
        return status_set(
            DLA_ERROR_MISMATCH, "%s: none of its %d folders ('%s' ...) is called like a class of the network, by wnid or by label (%s ...)",
            path, folder_count, first_unknown, dla_model_label(model, 0) != NULL ? dla_model_label(model, 0) : dla_model_wnid(model, 0));
    return DLA_OK;
}

static dla_status collect_photographs(struct evaluation *evaluation, const dla_model *model, const char *path,
                                      struct photographs *photographs)
{
    struct folder folder = {0};
    int *classes = NULL;
    dla_status status = folder_read(path, &folder);

    if (status != DLA_OK)
        return status;
    classes = memory_allocate_zeroed(folder.count + 1, sizeof(*classes));
    if (classes == NULL) {
        status = status_out_of_memory(folder.count * sizeof(*classes), "a list of folders");
        goto out;
    }
    status = match_folders(evaluation, model, path, &folder, classes);
    for (size_t i = 0; status == DLA_OK && i < folder.count; i++)
        if (classes[i] >= 0)
            status = add_class_folder(photographs, folder.entries[i].path, classes[i]);
    if (status == DLA_OK && photographs->count == 0)
        status = status_set(DLA_ERROR_NOT_FOUND, "%s: no photographs (.jpg, .jpeg, .png, .webp) in the folders of its classes", path);

out:
    memory_free(classes);
    folder_free(&folder);
    return status;
}

/* ---- counting --------------------------------------------------------------------------------------------------------- */

struct count_job {
    struct evaluation *evaluation;
    const struct photographs *photographs;
    int top; /* scores per photograph */
    dla_progress *progress;
    void *progress_context;
    dla_status status; /* a failure in the callback itself */
};

static void count_guesses(const struct count_job *job, int true_class, const dla_class_score *scores)
{
    struct evaluation *evaluation = job->evaluation;
    dla_class_result *class_result = &evaluation->classes[true_class];
    bool among_best = false;

    for (int k = 0; k < job->top; k++)
        among_best = among_best || scores[k].index == true_class;
    class_result->count++;
    class_result->top1 += scores[0].index == true_class;
    class_result->top5 += among_best;
    evaluation->confusion[(size_t)true_class * (size_t)evaluation->result.class_count + (size_t)scores[0].index]++;
}

static bool count_photograph(void *context, const dla_photograph_result *result)
{
    struct count_job *job = context;

    if (result->status == DLA_OK)
        count_guesses(job, job->photographs->classes[result->index], result->scores);
    else
        job->status = add_skipped(job->evaluation, result->path, result->message);
    if (job->status != DLA_OK)
        return false;
    return job->progress == NULL || job->progress(job->progress_context, result->index + 1, job->photographs->count);
}

static dla_status prepare_counts(struct evaluation *evaluation, const dla_model *model)
{
    size_t class_count = (size_t)dla_model_class_count(model);

    evaluation->classes = arena_allocate_array(&evaluation->arena, class_count, sizeof(*evaluation->classes));
    evaluation->confusion = arena_allocate_array(&evaluation->arena, class_count, class_count * sizeof(*evaluation->confusion));
    if (evaluation->classes == NULL || evaluation->confusion == NULL)
        return status_out_of_memory(class_count * class_count * sizeof(*evaluation->confusion), "a confusion matrix");
    for (size_t c = 0; c < class_count; c++)
        evaluation->classes[c] = (dla_class_result){.label = dla_model_label(model, (int)c), .wnid = dla_model_wnid(model, (int)c)};
    evaluation->result.class_count = (int)class_count;
    evaluation->result.classes = evaluation->classes;
    evaluation->result.confusion = evaluation->confusion;
    return DLA_OK;
}

dla_status dla_classifier_evaluate(dla_classifier *classifier, const char *folder, dla_progress *progress, void *context,
                                   dla_evaluation **result)
{
    struct photographs photographs = {0};

    if (classifier == NULL || folder == NULL || result == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_classifier_evaluate: classifier, folder and evaluation must not be NULL");
    struct evaluation *evaluation = memory_allocate_zeroed(1, sizeof(*evaluation));
    if (evaluation == NULL)
        return status_out_of_memory(sizeof(*evaluation), "an evaluation");
    struct count_job job = {.evaluation = evaluation,
                            .photographs = &photographs,
                            .top = classifier->class_count < TOP ? classifier->class_count : TOP,
                            .progress = progress,
                            .progress_context = context};
    dla_status status = prepare_counts(evaluation, classifier->model);
    if (status == DLA_OK)
        status = collect_photographs(evaluation, classifier->model, folder, &photographs);
    if (status == DLA_OK) {
        status = dla_classifier_classify_files(classifier, photographs.paths, photographs.count, job.top, count_photograph, &job);
        if (job.status != DLA_OK) /* what stopped it was not the caller */
            status = status_set(job.status, "%s: out of memory while counting", folder);
    }
    for (int c = 0; status == DLA_OK && c < evaluation->result.class_count; c++) {
        evaluation->result.count += evaluation->classes[c].count;
        evaluation->result.top1 += evaluation->classes[c].top1;
        evaluation->result.top5 += evaluation->classes[c].top5;
    }
    photographs_free(&photographs);
    if (status != DLA_OK) {
        dla_evaluation_destroy(&evaluation->result);
        return status;
    }
    *result = &evaluation->result;
    return DLA_OK;
}

void dla_evaluation_destroy(dla_evaluation *public_evaluation)
{
    struct evaluation *evaluation = (struct evaluation *)public_evaluation;

    if (evaluation == NULL)
        return;
    arena_free(&evaluation->arena);
    memory_free(evaluation);
}
