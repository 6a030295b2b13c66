/* cudnn_conv.c - descriptors, algorithms and workspace of cuDNN's convolutions.
 *
 * Heuristics say which algorithms fit a shape; some of those they name are refused when they run. So a refusal moves on to the next
 * one for good, and behind the last the caller is told. The order is: deterministic before others, within those what the workspace's
 * limit allows before what it does not, within those cuDNN's own.
 */
#include "cuda/cudnn_conv.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>

#if defined __has_include
#if __has_include(<cudnn.h>)
#define HAVE_CUDNN 1
#endif
#endif

#ifdef HAVE_CUDNN
#include "cuda/cudnn_library.h"

#include <string.h>

enum { MOST_ALGORITHMS = 16 };
static const size_t workspace_limit = (size_t)2 << 30;

struct algorithm {
    int number; /* of the direction's enum */
    cudnnMathType_t math;
    size_t workspace;
    int rank; /* 0: best */
};

/* What is left to try, best first. */
struct candidates {
    struct algorithm algorithms[MOST_ALGORITHMS];
    int count, current;
    cudnnStatus_t refusal; /* the last one */
};

struct cudnn_conv {
    struct conv_shape shape;
    cudnnTensorDescriptor_t in, out;
    cudnnFilterDescriptor_t weight;
    cudnnConvolutionDescriptor_t conv;
    struct candidates candidates[CUDNN_DIRECTIONS];
    struct cudnn_session *session;
    struct cudnn_conv *next;
};

struct cudnn_session {
    const struct cudnn_library *library;
    cudnnHandle_t handle;
    enum cuda_arithmetic arithmetic;
    bool exact;
    void *workspace;
    size_t workspace_bytes;
    struct cudnn_conv *convs;
};

static cudnnMathType_t math_of(enum cuda_arithmetic arithmetic)
{
    return arithmetic == CUDA_EXACT ? CUDNN_FMA_MATH : arithmetic == CUDA_TF32 ? CUDNN_DEFAULT_MATH : CUDNN_TENSOR_OP_MATH;
}

static cudnnDataType_t type_of(enum cuda_arithmetic arithmetic)
{
    enum cuda_format format = cuda_arithmetic_format(arithmetic);
    return format == CUDA_FLOAT16 ? CUDNN_DATA_HALF : format == CUDA_BFLOAT16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

dla_status cudnn_session_open(enum cuda_arithmetic arithmetic, bool exact, cudaStream_t stream, struct cudnn_session **session)
{
    struct cudnn_session *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return status_out_of_memory(sizeof *made, "cuDNN");
    made->arithmetic = arithmetic;
    made->exact = exact;
    dla_status status = cudnn_library_find(&made->library);
    if (status == DLA_OK)
        status = cudnn_library_status(made->library, made->library->Create(&made->handle), "begin");
    if (status == DLA_OK)
        status = cudnn_library_status(made->library, made->library->SetStream(made->handle, stream), "use a stream");
    if (status != DLA_OK) {
        cudnn_session_close(made);
        return status;
    }
    *session = made;
    return DLA_OK;
}

static void free_conv(struct cudnn_conv *conv)
{
    const struct cudnn_library *library = conv->session->library;
    if (conv->in)
        library->DestroyTensorDescriptor(conv->in);
    if (conv->out)
        library->DestroyTensorDescriptor(conv->out);
    if (conv->weight)
        library->DestroyFilterDescriptor(conv->weight);
    if (conv->conv)
        library->DestroyConvolutionDescriptor(conv->conv);
    memory_free(conv);
}

void cudnn_session_close(struct cudnn_session *session)
{
    if (session == NULL)
        return;
    while (session->convs) {
        struct cudnn_conv *conv = session->convs;
        session->convs = conv->next;
        free_conv(conv);
    }
    cuda_free(session->workspace);
    if (session->handle)
        session->library->Destroy(session->handle);
    memory_free(session);
}

static dla_status describe_shape(struct cudnn_conv *conv)
{
    const struct conv_shape *s = &conv->shape;
    const struct cudnn_library *l = conv->session->library;
    cudnnDataType_t type = type_of(conv->session->arithmetic);
    cudnnStatus_t status = l->CreateTensorDescriptor(&conv->in);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->CreateTensorDescriptor(&conv->out);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->CreateFilterDescriptor(&conv->weight);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->CreateConvolutionDescriptor(&conv->conv);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->SetTensor4dDescriptor(conv->in, CUDNN_TENSOR_NHWC, type, s->batch, s->in_channels, s->in_height, s->in_width);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->SetTensor4dDescriptor(conv->out, CUDNN_TENSOR_NHWC, type, s->batch, s->out_channels, s->out_height, s->out_width);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->SetFilter4dDescriptor(conv->weight, type, CUDNN_TENSOR_NHWC, s->out_channels, s->in_channels / s->groups, s->kernel,
                                          s->kernel);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->SetConvolution2dDescriptor(conv->conv, s->padding, s->padding, s->stride, s->stride, s->dilation, s->dilation,
                                               CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->SetConvolutionGroupCount(conv->conv, s->groups);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->SetConvolutionMathType(conv->conv, math_of(conv->session->arithmetic));
    return cudnn_library_status(l, status, "describe a convolution");
}

/* Winograd's and Fourier's sums are not those of a direct convolution. */
static bool transforms(enum cudnn_direction direction, int number)
{
    switch (direction) {
    case CUDNN_OUT:
        return number == CUDNN_CONVOLUTION_FWD_ALGO_FFT || number == CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING
               || number == CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD || number == CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED;
    case CUDNN_IN_GRADIENT:
        return number == CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT || number == CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING
               || number == CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD || number == CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED;
    default:
        return number == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT || number == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING
               || number == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD || number == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED;
    }
}

/* One answer of the heuristics, put where it belongs among those before it. */
static void add_candidate(const struct cudnn_session *session, enum cudnn_direction direction, struct candidates *c, int number,
                          cudnnStatus_t status, size_t workspace, cudnnDeterminism_t determinism, cudnnMathType_t math)
{
    if (status != CUDNN_STATUS_SUCCESS || c->count == MOST_ALGORITHMS || (session->exact && transforms(direction, number)))
        return;
    /* float32 that was asked for must not become TF32. */
    if (session->arithmetic == CUDA_EXACT)
        math = CUDNN_FMA_MATH;
    int rank = (determinism != CUDNN_DETERMINISTIC) * 2 + (workspace > workspace_limit), at = c->count++;
    for (; at > 0 && c->algorithms[at - 1].rank > rank; at--)
        c->algorithms[at] = c->algorithms[at - 1];
    c->algorithms[at] = (struct algorithm){.number = number, .math = math, .workspace = workspace, .rank = rank};
}

/* The three directions' answers differ in type alone. */
#define ASK_HEURISTICS(direction, performance, function, ...)                                                                              \
    do {                                                                                                                                   \
        performance answers[MOST_ALGORITHMS];                                                                                              \
        int found = 0;                                                                                                                     \
        struct candidates *c = &conv->candidates[direction];                                                                               \
        c->refusal = l->function(session->handle, __VA_ARGS__, MOST_ALGORITHMS, &found, answers);                                          \
        for (int i = 0; i < found && c->refusal == CUDNN_STATUS_SUCCESS; i++)                                                              \
            add_candidate(session, direction, c, (int)answers[i].algo, answers[i].status, answers[i].memory, answers[i].determinism,       \
                          answers[i].mathType);                                                                                            \
    } while (0)

/* A shape that cuDNN refuses is no failure; a library that does not work is. */
static bool is_refusal(cudnnStatus_t status)
{
    return status / 1000 == CUDNN_STATUS_BAD_PARAM / 1000 || status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000;
}

static dla_status ask_heuristics(const struct cudnn_session *session, struct cudnn_conv *conv)
{
    const struct cudnn_library *l = session->library;
    dla_status status = DLA_OK;
    ASK_HEURISTICS(CUDNN_OUT, cudnnConvolutionFwdAlgoPerf_t, GetConvolutionForwardAlgorithm_v7, conv->in, conv->weight, conv->conv,
                   conv->out);
    ASK_HEURISTICS(CUDNN_IN_GRADIENT, cudnnConvolutionBwdDataAlgoPerf_t, GetConvolutionBackwardDataAlgorithm_v7, conv->weight, conv->out,
                   conv->conv, conv->in);
    ASK_HEURISTICS(CUDNN_WEIGHT_GRADIENT, cudnnConvolutionBwdFilterAlgoPerf_t, GetConvolutionBackwardFilterAlgorithm_v7, conv->in,
                   conv->out, conv->conv, conv->weight);
    for (int k = 0; k < CUDNN_DIRECTIONS && status == DLA_OK; k++)
        if (!is_refusal(conv->candidates[k].refusal))
            status = cudnn_library_status(l, conv->candidates[k].refusal, "choose an algorithm for a convolution");
    return status;
}

static bool same_shape(const struct conv_shape *a, const struct conv_shape *b)
{
    return a->batch == b->batch && a->in_height == b->in_height && a->in_width == b->in_width && a->in_channels == b->in_channels
           && a->out_height == b->out_height && a->out_width == b->out_width && a->out_channels == b->out_channels && a->kernel == b->kernel
           && a->stride == b->stride && a->padding == b->padding && a->dilation == b->dilation && a->groups == b->groups;
}

dla_status cudnn_session_conv(struct cudnn_session *session, const struct conv_shape *shape, const struct cudnn_conv **conv)
{
    for (struct cudnn_conv *known = session->convs; known; known = known->next)
        if (same_shape(&known->shape, shape)) {
            *conv = known;
            return DLA_OK;
        }
    struct cudnn_conv *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return status_out_of_memory(sizeof *made, "a convolution");
    made->shape = *shape;
    made->session = session;
    dla_status status = describe_shape(made);
    if (status == DLA_OK)
        status = ask_heuristics(session, made);
    if (status != DLA_OK) {
        free_conv(made);
        return status;
    }
    made->next = session->convs;
    session->convs = made;
    *conv = made;
    return DLA_OK;
}

/* Whether the workspace has, or could be given, so many bytes. */
static bool provide_workspace(struct cudnn_session *session, size_t bytes)
{
    if (bytes <= session->workspace_bytes)
        return true;
    cuda_free(session->workspace); /* waits for what uses it */
    session->workspace = NULL;
    session->workspace_bytes = 0;
    if (cuda_allocate(bytes, "cuDNN's workspace", &session->workspace) != DLA_OK)
        return false;
    session->workspace_bytes = bytes;
    return true;
}

static cudnnStatus_t run_algorithm(struct cudnn_session *session, const struct cudnn_conv_call *call, const struct algorithm *algorithm)
{
    static const float one = 1.0f, zero = 0.0f;
    const struct cudnn_library *l = session->library;
    const struct cudnn_conv *conv = call->conv;
    const float *before = call->add ? &one : &zero;
    cudnnStatus_t status = l->SetConvolutionMathType(conv->conv, algorithm->math);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    switch (call->direction) {
    case CUDNN_OUT:
        return l->ConvolutionForward(session->handle, &one, conv->in, call->in, conv->weight, call->weight, conv->conv,
                                     (cudnnConvolutionFwdAlgo_t)algorithm->number, session->workspace, session->workspace_bytes, before,
                                     conv->out, call->out);
    case CUDNN_IN_GRADIENT:
        return l->ConvolutionBackwardData(session->handle, &one, conv->weight, call->weight, conv->out, call->out, conv->conv,
                                          (cudnnConvolutionBwdDataAlgo_t)algorithm->number, session->workspace, session->workspace_bytes,
                                          before, conv->in, call->in);
    default:
        return l->ConvolutionBackwardFilter(session->handle, &one, conv->in, call->in, conv->out, call->out, conv->conv,
                                            (cudnnConvolutionBwdFilterAlgo_t)algorithm->number, session->workspace,
                                            session->workspace_bytes, before, conv->weight, call->weight);
    }
}

void cudnn_session_run(struct cudnn_session *session, const struct cudnn_conv_call *call, bool *done)
{
    struct cudnn_conv *conv = session->convs; /* ours to change: the caller's pointer is constant */
    while (conv != call->conv)
        conv = conv->next;
    struct candidates *c = &conv->candidates[call->direction];
    *done = false;
    for (; c->current < c->count && !*done; c->current += !*done) {
        const struct algorithm *algorithm = &c->algorithms[c->current];
        if (!provide_workspace(session, algorithm->workspace)) {
            c->refusal = CUDNN_STATUS_ALLOC_FAILED;
            continue;
        }
        c->refusal = run_algorithm(session, call, algorithm);
        *done = c->refusal == CUDNN_STATUS_SUCCESS;
        if (!*done)
            cudaGetLastError(); /* a launch that was refused must not be found by who asks next; a broken GPU says so again */
    }
}

void cudnn_conv_describe(const struct cudnn_conv *conv, enum cudnn_direction direction, char *text, size_t size)
{
    const struct candidates *c = &conv->candidates[direction];
    if (c->current < c->count) {
        const struct algorithm *a = &c->algorithms[c->current];
        snprintf(text, size, "algorithm %d, math %d, %.1f MB%s%s", a->number, (int)a->math, (double)a->workspace / 1e6,
                 a->rank >= 2 ? ", not deterministic" : "", c->current > 0 ? ", others refused" : "");
    } else {
        snprintf(text, size, "none of %d algorithms: %s", c->count, conv->session->library->GetErrorString(c->refusal));
    }
}

#else

dla_status cudnn_session_open(enum cuda_arithmetic arithmetic, bool exact, cudaStream_t stream, struct cudnn_session **session)
{
    (void)arithmetic;
    (void)exact;
    (void)stream;
    (void)session;
    return status_set(DLA_ERROR_UNSUPPORTED, "training on the GPU needs cuDNN 9, whose headers were not there when this library was built");
}

void cudnn_session_close(struct cudnn_session *session)
{
    (void)session;
}

dla_status cudnn_session_conv(struct cudnn_session *session, const struct conv_shape *shape, const struct cudnn_conv **conv)
{
    (void)session;
    (void)shape;
    (void)conv;
    return status_set(DLA_ERROR_UNSUPPORTED, "built without cuDNN");
}

void cudnn_session_run(struct cudnn_session *session, const struct cudnn_conv_call *call, bool *done)
{
    (void)session;
    (void)call;
    *done = false;
}

void cudnn_conv_describe(const struct cudnn_conv *conv, enum cudnn_direction direction, char *text, size_t size)
{
    (void)conv;
    (void)direction;
    snprintf(text, size, "built without cuDNN");
}

#endif
