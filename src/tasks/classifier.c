/* classifier.c - photographs in, most probable classes out.
 *
 *     image --preprocess--> inputs --session--> logits --softmax--> scores
 *
 * A classifier owns a session for one batch size. Images are preprocessed in parallel, on the session's own threads: a second
 * pool's workers, spinning for their next job, would take the cores from the first one's.
 */
#include "tasks/classifier.h"

#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "image/preprocess.h"
#include "tasks/scores.h"
#include "tasks/session.h"

#include <stdatomic.h>

size_t classifier_input_floats(const dla_classifier *classifier)
{
    size_t side = (size_t)classifier->preprocessing.size;
    return 3 * side * side;
}

/* A network that turns photographs into classes, or a reason why this one does not. */
static dla_status check_model(const dla_model *model)
{
    const dla_architecture *architecture = dla_network_architecture(dla_model_network(model));

    if (architecture->down_ratio != 0)
        return status_set(DLA_ERROR_UNSUPPORTED, "%s gives a class per pixel, not per photograph; it cannot classify", architecture->name);
    if (architecture->num_classes == 0)
        return status_set(DLA_ERROR_UNSUPPORTED, "%s has no classes: it gives embeddings, `dla run` writes them", architecture->name);
    if (architecture->in_channels != 3)
        return status_set(DLA_ERROR_UNSUPPORTED, "%s takes %d channels, photographs have 3; `dla run` takes any", architecture->name,
                          architecture->in_channels);
    return DLA_OK;
}

static dla_status create_session(dla_classifier *classifier, const dla_classifier_options *options)
{
    dla_session_options session_options = DLA_SESSION_OPTIONS_INIT;

    session_options.batch = options->batch;
    session_options.height = classifier->preprocessing.size;
    session_options.width = classifier->preprocessing.size;
    session_options.threads = options->threads;
    session_options.exact = options->exact;
    session_options.tune = options->tune;
    session_options.device = options->device;
    session_options.precision = options->precision;
    return dla_session_create(classifier->model, &session_options, &classifier->session);
}

dla_status dla_classifier_create(const dla_model *model, const dla_classifier_options *given, dla_classifier **result)
{
    dla_classifier_options options = DLA_CLASSIFIER_OPTIONS_INIT;
    dla_status status = DLA_OK;

    if (model == NULL || result == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_classifier_create: model and classifier must not be NULL");
    if ((status = options_take(&options, sizeof(options), given, "DLA_CLASSIFIER_OPTIONS_INIT")) != DLA_OK)
        return status;
    const dla_preprocessing *preprocessing = options.preprocessing != NULL ? options.preprocessing : dla_model_preprocessing(model);
    if (options.batch < 1)
        return status_set(DLA_ERROR_ARGUMENT, "a batch of %d photographs; at least 1 is needed", options.batch);
    status = preprocessing_check(preprocessing);
    if (status == DLA_OK)
        status = check_model(model);
    if (status != DLA_OK)
        return status;
    dla_classifier *classifier = memory_allocate_zeroed(1, sizeof(*classifier));
    if (classifier == NULL)
        return status_out_of_memory(sizeof(*classifier), "a classifier");
    classifier->model = model;
    classifier->preprocessing = *preprocessing;
    classifier->decode = (dla_decode_options)DLA_DECODE_OPTIONS_INIT;
    classifier->decode.ignore_exif = options.ignore_exif;
    classifier->batch = options.batch;
    classifier->class_count = dla_model_class_count(model);
    status = create_session(classifier, &options);
    if (status != DLA_OK)
        goto out;
    classifier->threads = thread_pool_size(session_thread_pool(classifier->session));
    size_t input_bytes = (size_t)classifier->batch * classifier_input_floats(classifier) * sizeof(float);
    classifier->inputs = memory_allocate_zeroed(1, input_bytes);
    classifier->logits = memory_allocate_zeroed((size_t)classifier->batch * (size_t)classifier->class_count, sizeof(float));
    if (classifier->inputs == NULL || classifier->logits == NULL)
        status = status_out_of_memory(input_bytes, "preprocessed photographs");

out:
    if (status != DLA_OK) {
        dla_classifier_destroy(classifier);
        return status;
    }
    *result = classifier;
    return DLA_OK;
}

void dla_classifier_destroy(dla_classifier *classifier)
{
    if (classifier == NULL)
        return;
    dla_session_destroy(classifier->session);
    memory_free(classifier->inputs);
    memory_free(classifier->logits);
    memory_free(classifier);
}

dla_status classifier_run(dla_classifier *classifier, int filled, int count, dla_class_score *scores)
{
    size_t class_count = (size_t)classifier->class_count;
    float *const outputs[] = {classifier->logits};
    dla_status status = dla_session_run(classifier->session, DLA_LAYOUT_NHWC, classifier->inputs, outputs);

    for (int i = 0; status == DLA_OK && i < filled; i++) {
        dla_class_score *best = scores + (size_t)i * (size_t)count;
        status = softmax_top(classifier->logits + (size_t)i * class_count, classifier->class_count, count, best);
        for (int k = 0; status == DLA_OK && k < count; k++) {
            best[k].label = dla_model_label(classifier->model, best[k].index);
            best[k].wnid = dla_model_wnid(classifier->model, best[k].index);
        }
    }
    return status;
}

/* ---- decoded images --------------------------------------------------------------------------------------------------- */

struct preprocess_job {
    const dla_classifier *classifier;
    const dla_image *const *images;
    size_t input_floats;
    atomic_int failed; /* 1 + the index of an image that could not be preprocessed */
};

static void preprocess_task(void *context, int task, int worker)
{
    struct preprocess_job *job = context;
    float *input = job->classifier->inputs + (size_t)task * job->input_floats;

    (void)worker;
    if (dla_image_preprocess(job->images[task], &job->classifier->preprocessing, DLA_LAYOUT_NHWC, input) != DLA_OK)
        atomic_store(&job->failed, task + 1);
}

static dla_status preprocess_images(dla_classifier *classifier, const dla_image *const *images, int count)
{
    struct preprocess_job job = {.classifier = classifier, .images = images, .input_floats = classifier_input_floats(classifier)};

    thread_pool_run(session_thread_pool(classifier->session), preprocess_task, &job, count);
    int failed = atomic_load(&job.failed);
    if (failed == 0)
        return DLA_OK;
    /* The message stayed with the worker; once more, for it to be this thread's. */
    return dla_image_preprocess(images[failed - 1], &classifier->preprocessing, DLA_LAYOUT_NHWC, classifier->inputs);
}

static dla_status check_count(const dla_classifier *classifier, int count)
{
    if (count < 1 || count > classifier->class_count)
        return status_set(DLA_ERROR_ARGUMENT, "the best %d classes of a network that has %d", count, classifier->class_count);
    return DLA_OK;
}

dla_status dla_classifier_classify(dla_classifier *classifier, const dla_image *const *images, size_t image_count, int count,
                                   dla_class_score *scores)
{
    if (classifier == NULL || (image_count > 0 && (images == NULL || scores == NULL)))
        return status_set(DLA_ERROR_ARGUMENT, "dla_classifier_classify: classifier, images and scores must not be NULL");
    dla_status status = check_count(classifier, count);
    for (size_t first = 0; status == DLA_OK && first < image_count; first += (size_t)classifier->batch) {
        size_t left = image_count - first;
        int filled = left < (size_t)classifier->batch ? (int)left : classifier->batch;
        status = preprocess_images(classifier, images + first, filled);
        if (status == DLA_OK)
            status = classifier_run(classifier, filled, count, scores + first * (size_t)count);
    }
    return status;
}

dla_status dla_classifier_classify_file(dla_classifier *classifier, const char *path, int count, dla_class_score *scores)
{
    dla_image *image = NULL;

    if (classifier == NULL || path == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_classifier_classify_file: classifier and path must not be NULL");
    dla_status status = dla_image_read(path, &classifier->decode, &image);
    if (status == DLA_OK)
        status = dla_classifier_classify(classifier, &(const dla_image *){image}, 1, count, scores);
    dla_image_destroy(image);
    return status;
}
