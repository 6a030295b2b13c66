/* explain.c - what a classification rests on.
 *
 * The networks end in a global average pool and a linear classifier, so that with the last map f (height, width, channels)
 *
 *     logit = bias + Σ_c weight[c] * mean over places of f[place][c]  =  bias + mean over places of ( Σ_c weight[c] * f[place][c] )
 *
 * The sum in brackets is the place's share of the logit: its evidence (class activation mapping, Zhou et al., CVPR 2016). That
 * is an identity, not an estimate. Beside it, the mean magnitude of every level's map shows what each level answers to.
 */
#include "base/memory.h"
#include "base/options.h"
#include "base/status.h"
#include "image/image.h"
#include "image/preprocess.h"
#include "tasks/model.h"
#include "tasks/scores.h"

#include <math.h>

enum { LAST_LEVEL = DLA_LEVEL_COUNT - 1, OUTPUT_COUNT = DLA_LEVEL_COUNT + 1 }; /* level0 ... level5, then the logits */

static const char *const output_names[OUTPUT_COUNT] = {"level0", "level1", "level2", "level3", "level4", "level5", "output"};

/* The explanation and what it owns. */
struct explanation {
    dla_explanation public; /* first: the caller's pointer is ours */
    struct arena arena;     /* owns maps and names */
};

static float *allocate_map(struct arena *arena, int height, int width)
{
    return arena_allocate_array(arena, (size_t)height * (size_t)width, sizeof(float));
}

/* Mean over channels of |map|. */
static void measure_activity(const float *map /* (places, channels) */, int64_t places, int channels, float *activity /* (places) */)
{
    for (int64_t place = 0; place < places; place++, map += channels) {
        double sum = 0.0;

        for (int c = 0; c < channels; c++)
            sum += fabs((double)map[c]);
        activity[place] = (float)(sum / channels);
    }
}

static void measure_evidence(const float *map /* (places, channels) */, int64_t places, const float *weight /* (channels) */, int channels,
                             float *evidence /* (places) */)
{
    for (int64_t place = 0; place < places; place++, map += channels) {
        double sum = 0.0;

        for (int c = 0; c < channels; c++)
            sum += (double)weight[c] * (double)map[c];
        evidence[place] = (float)sum;
    }
}

/* The crop in the photograph's own pixels, to the nearest. */
static dla_rectangle find_crop(const dla_preprocessing *preprocessing, const dla_image *photograph)
{
    struct crop_geometry crop = crop_geometry(preprocessing, photograph->height, photograph->width);
    double down = (double)photograph->height / (double)crop.height, across = (double)photograph->width / (double)crop.width;
    dla_rectangle seen = {.top = (int)lround((double)crop.top * down), .left = (int)lround((double)crop.left * across)};

    seen.height = (int)lround((double)(crop.top + preprocessing->size) * down) - seen.top;
    seen.width = (int)lround((double)(crop.left + preprocessing->size) * across) - seen.left;
    seen.height = seen.height > 0 ? seen.height : 1;
    seen.width = seen.width > 0 ? seen.width : 1;
    return seen;
}

static dla_status check(const dla_model *model, const dla_explain_options *given, dla_explain_options *options)
{
    *options = (dla_explain_options)DLA_EXPLAIN_OPTIONS_INIT;
    dla_status status = options_take(options, sizeof *options, given, "DLA_EXPLAIN_OPTIONS_INIT");
    if (status != DLA_OK)
        return status;
    const dla_architecture *architecture = dla_network_architecture(model->network);
    if (architecture->down_ratio != 0 || model->class_count == 0)
        return status_set(DLA_ERROR_ARGUMENT, "%s does not classify photographs: there is no class to explain", architecture->name);
    if (architecture->in_channels != 3)
        return status_set(DLA_ERROR_ARGUMENT, "%s takes %d channels, photographs have 3", architecture->name, architecture->in_channels);
    if (options->class_index < -1 || options->class_index >= model->class_count)
        return status_set(DLA_ERROR_ARGUMENT, "class %d; %s has classes 0 to %d", options->class_index, architecture->name,
                          model->class_count - 1);
    if (options->preprocessing == NULL)
        options->preprocessing = &model->preprocessing;
    return preprocessing_check(options->preprocessing);
}

/* Fills in the chosen class: its score, logit and bias. */
static dla_status take_class(struct explanation *explanation, const dla_model *model, int index, const float *logits)
{
    int count = model->class_count;
    dla_class_score *scores = arena_allocate_array(&explanation->arena, (size_t)count, sizeof *scores);

    if (scores == NULL)
        return status_out_of_memory((size_t)count * sizeof *scores, "the scores of an explanation");
    dla_status status = softmax_top(logits, count, count, scores);
    if (status != DLA_OK)
        return status;
    explanation->public.score = scores[0];
    for (int i = 0; i < count && index >= 0; i++)
        if (scores[i].index == index)
            explanation->public.score = scores[i];
    index = explanation->public.score.index;
    explanation->public.score.label = dla_model_label(model, index);
    explanation->public.score.wnid = dla_model_wnid(model, index);
    explanation->public.logit = logits[index];
    return DLA_OK;
}

/* From the session's outputs (NHWC) to the explanation. */
static dla_status measure(struct explanation *explanation, const dla_model *model, int class_index, const dla_session *session,
                          float *const *outputs)
{
    const struct graph *graph = &model->network->graph;
    int weight = graph_find_parameter(graph, "fc.weight"), bias = graph_find_parameter(graph, "fc.bias"), shape[4];
    dla_status status = take_class(explanation, model, class_index, outputs[LAST_LEVEL + 1]);

    if (status != DLA_OK)
        return status;
    if (weight == NO_PARAMETER)
        return status_set(DLA_ERROR_UNSUPPORTED, "this network does not end in a linear classifier called fc");
    for (int i = 0; i < DLA_LEVEL_COUNT; i++) {
        dla_session_output_shape(session, (size_t)i, shape);
        float *activity = allocate_map(&explanation->arena, shape[2], shape[3]);
        if (activity == NULL)
            return status_out_of_memory((size_t)shape[2] * (size_t)shape[3] * sizeof *activity, "a level's activity");
        measure_activity(outputs[i], (int64_t)shape[2] * shape[3], shape[1], activity);
        explanation->public.levels[i] = (dla_level_activity){output_names[i], shape[1], shape[2], shape[3], activity};
    }
    float *evidence = allocate_map(&explanation->arena, shape[2], shape[3]); /* the last level's shape */
    if (evidence == NULL)
        return status_out_of_memory((size_t)shape[2] * (size_t)shape[3] * sizeof *evidence, "a class's evidence");
    size_t row = (size_t)explanation->public.score.index;
    measure_evidence(outputs[LAST_LEVEL], (int64_t)shape[2] * shape[3], model->weights.values[weight] + row * (size_t)shape[1], shape[1],
                     evidence);
    explanation->public.height = shape[2];
    explanation->public.width = shape[3];
    explanation->public.evidence = evidence;
    explanation->public.bias = bias != NO_PARAMETER ? model->weights.values[bias][row] : 0.0f;
    return DLA_OK;
}

/* Preprocesses and runs; what goes in and comes out is in `arena`. */
static dla_status run_network(dla_session *session, const dla_image *photograph, const dla_preprocessing *preprocessing,
                              struct arena *arena, float **outputs)
{
    size_t size = (size_t)preprocessing->size;
    float *input = arena_allocate_array(arena, size * size * 3, sizeof *input);

    if (input == NULL)
        return status_out_of_memory(size * size * 3 * sizeof *input, "a network's input");
    for (size_t i = 0; i < OUTPUT_COUNT; i++) {
        int shape[4];

        dla_session_output_shape(session, i, shape);
        size_t elements = (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
        outputs[i] = arena_allocate_array(arena, elements, sizeof **outputs);
        if (outputs[i] == NULL)
            return status_out_of_memory(elements * sizeof **outputs, "a network's maps");
    }
    dla_status status = dla_image_preprocess(photograph, preprocessing, DLA_LAYOUT_NHWC, input);
    return status == DLA_OK ? dla_session_run(session, DLA_LAYOUT_NHWC, input, outputs) : status;
}

dla_status dla_explain(const dla_model *model, const dla_image *photograph, const dla_explain_options *options,
                       dla_explanation **explanation)
{
    dla_explain_options chosen;
    dla_session_options session_options = DLA_SESSION_OPTIONS_INIT;
    dla_session *session = NULL;
    struct explanation *made = NULL;
    struct arena scratch = {0};
    float *outputs[OUTPUT_COUNT];

    if (model == NULL || photograph == NULL || explanation == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "dla_explain: model, photograph and explanation must not be NULL");
    dla_status status = check(model, options, &chosen);
    if (status != DLA_OK)
        return status;
    session_options.height = session_options.width = chosen.preprocessing->size;
    session_options.threads = chosen.threads;
    session_options.exact = chosen.exact;
    session_options.device = chosen.device;
    session_options.precision = chosen.precision;
    session_options.features = output_names;
    session_options.feature_count = OUTPUT_COUNT;
    status = dla_session_create(model, &session_options, &session);
    if (status != DLA_OK)
        return status;
    made = memory_allocate_zeroed(1, sizeof *made);
    status = made != NULL ? run_network(session, photograph, chosen.preprocessing, &scratch, outputs)
                          : status_out_of_memory(sizeof *made, "an explanation");
    if (status == DLA_OK)
        status = measure(made, model, chosen.class_index, session, outputs);
    dla_session_destroy(session);
    arena_free(&scratch);
    if (status != DLA_OK) {
        dla_explanation_destroy((dla_explanation *)made);
        return status;
    }
    made->public.seen = find_crop(chosen.preprocessing, photograph);
    *explanation = &made->public;
    return DLA_OK;
}

void dla_explanation_destroy(dla_explanation *explanation)
{
    struct explanation *made = (struct explanation *)explanation;

    if (made != NULL) {
        arena_free(&made->arena);
        memory_free(made);
    }
}
