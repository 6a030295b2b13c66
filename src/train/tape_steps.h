/* tape_steps.h - the inside of a tape: steps, places, buffers. */
#ifndef DLA_TRAIN_TAPE_STEPS_H
#define DLA_TRAIN_TAPE_STEPS_H

#include "cpu/map.h"
#include "cpu/training.h"
#include "train/tape.h"

enum { NO_BUFFER = -1 };

/* From the first use to the last; last < first: none. */
struct lifetime {
    int first, last;
};

/* A map in memory. It lives once, from its first use to its last, or, where it is computed again, once in forward and once in
 * backward, at the same place. tape_segments.c has the times. */
struct buffer {
    int channels, pixel_stride;
    int64_t pixels; /* of the whole batch */
    struct lifetime lives[2];
    int64_t offset; /* floats from the block's start */
    int segment;    /* it is computed again for this segment's backward; KEPT: it stays */
};

enum { KEPT = -1 };

/* Steps first .. end-1, whose maps are computed again together before their backward. */
struct segment {
    int first, end;
    bool again;
    int again_time, backward_time; /* of the first step to run again, and of step end-1's backward */
};

struct place {
    int buffer;  /* or NO_BUFFER */
    int channel; /* first channel inside the buffer */
};

/* How a step's contribution meets the gradient of one of its inputs. */
enum contribution { CONTRIBUTE_NOTHING, CONTRIBUTE_WRITE, CONTRIBUTE_ADD };

enum step_kind {
    STEP_CONV,
    STEP_NORM, /* [relu](batch norm [+ residual]) */
    STEP_RELU,
    STEP_ADD,
    STEP_CONCAT, /* copies of those inputs that could not be written in place */
    STEP_MAX_POOL,
    STEP_AVERAGE_POOL,
    STEP_GLOBAL_AVERAGE_POOL,
    STEP_TRANSPOSED_CONV,
    STEP_CROP,
    STEP_LOG_SOFTMAX
};

/* A convolution's kernels and packed weights. */
struct conv_step {
    struct conv_shape shape, turned; /* of the batch, or of one image */
    const struct conv_kernel *forward;
    const struct conv_kernel *data;      /* with turned weights; NULL: the one of training.h, or no gradient wanted */
    bool gathers;                        /* the one of training.h */
    int64_t packed, packed_turned;       /* floats from the start of the packed weights */
    struct step *norm_behind;            /* image by image: the step behind, whose sums and backward run with it; else NULL */
    struct step *norm_before;            /* a deferred one, whose result is the input; or NULL */
    int64_t kernel_floats, image_floats; /* then: of a worker's scratch, for its kernels and in all */
};

/* What a batch norm keeps from forward to backward; all (channels). */
struct norm_step {
    const struct batch_norm_params *params;
    bool fixed; /* running statistics are used, and not updated */
    bool relu;
    bool summed;   /* the convolution before, run image by image, takes forward's sums */
    bool applied;  /* and, backward, the last pass */
    bool deferred; /* the result has no map: it is made, image by image, by the convolution that reads it, which takes backward's sums */
    double *sums;  /* (2, channels), the last pass's over the whole batch */
    float *mean, *deviation_inverse, *scale, *shift, *gradient_of_x, *gradient_constant;
};

struct step {
    enum step_kind kind;
    const struct node *node; /* the convolution, batch norm, pool ... */
    value in, other, out;    /* other: residual, second operand, or NO_VALUE */
    bool has_backward;       /* a gradient flows through, or parameters are trained */
    bool again;              /* run again before its segment's backward */
    int64_t earlier_end;     /* where in the gradients' block the parameters of the steps before this one end */
    int segment;
    enum contribution to_in, to_other;
    enum contribution *to_parts; /* STEP_CONCAT: per input of the node */
    bool *copied_parts;          /* STEP_CONCAT: per input, not written in place */
    bool drop;                   /* dropout on the way out */
    struct conv_step conv;
    struct norm_step norm;
    double forward_ms, backward_ms, weight_gradient_ms; /* of the last pass */
};

/* Channels of a gradient that nobody has written when somebody adds to them or reads them: zeroed before that step's backward. */
struct zeroing {
    int step, buffer, channel, channels;
};

struct tape {
    struct arena arena;
    const struct graph *graph;
    struct parameter_block *parameters;
    struct thread_pool *pool, *alone; /* `alone` is the calling thread, for kernels within a task */
    struct tape_options options;
    const struct training_kernels *kernels;
    const struct map_functions *maps;
    struct map_size *sizes;           /* per value */
    struct place *forward, *backward; /* per value: the map and its gradient */
    struct buffer *buffers;
    int buffer_count;
    struct step *steps;
    int step_count;
    struct segment *segments;
    int segment_count;
    struct zeroing *zeroings; /* in the order of backward */
    int zeroing_count, zeroing_capacity;
    int64_t block_floats /* elements, where maps are not float */, kept_floats /* without recomputing */, packed_floats, scratch_bytes;
    float *block;  /* all buffers */
    float *packed; /* all packed weights */
    float *turned; /* per worker: the weights of one convolution, turned */
    int64_t turned_floats;
    void *scratch;
    double *sums; /* partial sums of batch norms and biases */
    int64_t sums_count;
    float *ones, *zeros; /* (largest channel count): scale and bias of a convolution that has none */
    uint64_t key;        /* of the dropout mask */
    gradients_ready *ready;
    void *ready_context;
    double pack_ms; /* of the last forward pass */
};

/* Pixels of a value's map, all images together, and views of it. */
int64_t value_pixels(const struct tape *tape, value v);
struct map_view value_map(const struct tape *tape, value v);
struct map_view value_gradient(const struct tape *tape, value v);

/* The numbers of a step that is done to maps, for whoever has its memory. */
struct map_call tape_map_call(const struct tape *tape, const struct step *step);

/* Whether a parameter, or NO_PARAMETER, has a gradient. */
bool tape_trains(const struct tape *tape, int parameter);

/* When a step's backward runs. */
static inline int backward_time(const struct tape *tape, int step)
{
    const struct segment *segment = &tape->segments[tape->steps[step].segment];
    return segment->backward_time + segment->end - 1 - step;
}

/* tape_lower.c: steps, places of maps, fusion. tape_segments.c: what is computed again. tape_schedule.c: contributions,
 * lifetimes, offsets. */
dla_status tape_lower(struct tape *tape);
/* Cuts the steps where `floats` floats of maps have come together; 0: one segment, nothing is computed again. */
dla_status tape_cut(struct tape *tape, int64_t floats);
dla_status tape_schedule(struct tape *tape);

/* Chunks that a map's pixels are summed in: by their number alone, not by threads. */
enum { MOST_SUM_CHUNKS = 64 };

static inline int tape_chunk_count(int64_t pixels)
{
    enum { PIXELS_PER_CHUNK = 512 };
    int64_t chunks = (pixels + PIXELS_PER_CHUNK - 1) / PIXELS_PER_CHUNK;
    return chunks > MOST_SUM_CHUNKS ? MOST_SUM_CHUNKS : (int)chunks;
}

/* The first of `count` things that chunk `chunk` of `chunks` takes. */
static inline int64_t chunk_start(int64_t count, int chunk, int chunks)
{
    return count * chunk / chunks;
}

/* The same for images, which are then whole. */
static inline int tape_image_chunk_count(int batch)
{
    return batch > MOST_SUM_CHUNKS ? MOST_SUM_CHUNKS : batch;
}

/* Floats, rounded up to whole cache lines. */
static inline int64_t whole_lines(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

static inline const float *tape_parameter(const struct tape *tape, int index)
{
    return tape->parameters->values + tape->parameters->offsets[index];
}

static inline struct const_view constant_view(struct map_view map)
{
    return (struct const_view){map.data, map.pixel_stride};
}

/* tape_conv.c: all convolutions' weights, packed; a convolution's step. */
void tape_pack_weights(struct tape *tape);
void tape_conv_forward(struct tape *tape, const struct step *step);
void tape_conv_backward(struct tape *tape, struct step *step, float *gradients);

/* And its parts, for whoever runs them: the maps on both sides or their gradients, of as many images as the step's shape has. */
struct conv_maps {
    struct map_view in, out;
    void *scratch;
    struct thread_pool *pool;
};
void tape_conv_run(const struct tape *tape, const struct step *step, const struct conv_maps *maps);
void tape_conv_weight_gradient(const struct tape *tape, const struct step *step, const struct conv_maps *maps, float *weight_gradient);
void tape_conv_data_gradient(const struct tape *tape, const struct step *step, const struct conv_maps *maps);

/* tape_norm.c: a batch norm's step. `again`: with the scale and shift of the first time, running statistics untouched. `gradients` as
 * for tape_backward. */
void tape_norm_forward(struct tape *tape, const struct step *step, bool again);
void tape_norm_backward(struct tape *tape, const struct step *step, float *gradients);
/* Its run over pixels first .. end-1, with the maps of forward, and of backward. */
struct norm_run tape_norm_run(const struct tape *tape, const struct step *step, int64_t first, int64_t end);
struct norm_run tape_norm_backward_run(const struct tape *tape, const struct step *step, int64_t first, int64_t end);
/* Sums of chunks of images, (2, channels) each from the start of tape->sums on, to the step's. */
void tape_norm_add_image_sums(const struct tape *tape, const struct step *step);

/* tape_images.c: a convolution with a norm_behind. Forward leaves the norm's sums in tape->sums, (2, channels) for each chunk of images, of x
 * minus its value at the chunk's first pixel; but `again` takes none. Backward adds to the gradients of the weights, and leaves the
 * backward sums of norm_before in that step. */
size_t tape_images_scratch_bytes(const struct tape *tape, struct step *step, size_t kernel_bytes);
void tape_images_forward(struct tape *tape, const struct step *step, bool again);
void tape_images_backward(struct tape *tape, const struct step *step, float *gradients);

#endif
