/* dla.h - Deep Layer Aggregation networks: the whole public interface of libdla.
 *
 * Classify a photograph with the built-in network:
 *
 *     #include <dla/dla.h>
 *     #include <stdio.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         dla_model *model = NULL;
 *         dla_classifier *classifier = NULL;
 *         dla_class_score best;
 *
 *         if (argc != 2
 *             || dla_model_open(NULL, &model) != DLA_OK
 *             || dla_classifier_create(model, NULL, &classifier) != DLA_OK
 *             || dla_classifier_classify_file(classifier, argv[1], 1, &best) != DLA_OK) {
 *             fprintf(stderr, "%s\n", dla_error_message());
 *             return 1;
 *         }
 *         printf("%s %.3f\n", best.label, (double)best.probability);
 *         dla_classifier_destroy(classifier);
 *         dla_model_close(model);
 *         return 0;
 *     }
 *
 * The objects, in the order in which they build on each other:
 *
 *     dla_architecture   a row of the zoo, or a user's own: levels, channels, block ...      (plain data)
 *     dla_network        the graph that the row describes, or that a dla_builder makes       (immutable)
 *     dla_model          a network with its weights, labels and preprocessing                (immutable, shared by threads)
 *     dla_session        a model made ready for one input size: plan, packed weights, memory (one thread at a time)
 *     dla_image          decoded 8-bit RGB pixels
 *
 * Conventions. Functions that can fail return a dla_status; on failure dla_error_message() of the calling thread says what,
 * where, why and what to do, in one line, and every output argument is left untouched. What a *_create or *_open function
 * gives is the caller's and goes back through the *_destroy or *_close beside it, which accept NULL. Strings returned as
 * char * are freed with dla_free. The library never prints, never exits and never aborts on a user's mistake.
 * Option structures start with their own size: initialise them with the macro beside them, change what you need.
 */
#ifndef DLA_DLA_H
#define DLA_DLA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define DLA_API __attribute__((visibility("default")))
#else
#define DLA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ----------------------------------------------------------------------------------------------------------- */

typedef enum dla_status {
    DLA_OK = 0,
    DLA_ERROR_ARGUMENT,      /* a value that the caller passed is out of range or makes no sense */
    DLA_ERROR_NOT_FOUND,     /* no such model, file, tensor, label */
    DLA_ERROR_IO,            /* the operating system failed to read or write */
    DLA_ERROR_FORMAT,        /* foreign bytes are damaged or of another format */
    DLA_ERROR_MISMATCH,      /* sound weights or data that do not fit this network */
    DLA_ERROR_LIMIT,         /* sound, but larger than a safety limit */
    DLA_ERROR_UNSUPPORTED,   /* sound, but not handled, or not built in */
    DLA_ERROR_MEMORY,        /* out of memory */
    DLA_ERROR_INTERRUPTED    /* stopped on request */
} dla_status;

/* The last failure of the calling thread, one line without a newline; "" if nothing failed yet. Valid until the next failure. */
DLA_API const char *dla_error_message(void);

/* A short name of a status, such as "format"; never NULL. */
DLA_API const char *dla_status_name(dla_status status);

/* The library's version, such as "0.1.0". */
DLA_API const char *dla_version(void);

/* Which of `names` a misspelt one was probably meant to be; NULL if none is near. For messages that suggest. */
DLA_API const char *dla_nearest_name(const char *misspelt, const char *const *names, size_t count);

/* Frees a string or array that the library returned as the caller's; accepts NULL. */
DLA_API void dla_free(void *memory);

/* Where the library's memory comes from. `alignment` is a power of two, `size` never 0; NULL from allocate and resize means
 * that memory is exhausted. resize gets blocks of malloc's alignment only, and never NULL. All three are called from any thread. */
typedef struct dla_allocator {
    size_t struct_size;
    void *context;                                                       /* passed to each call */
    void *(*allocate)(void *context, size_t alignment, size_t size);
    void *(*resize)(void *context, void *memory, size_t size);           /* keeps the contents, as realloc */
    void (*release)(void *context, void *memory);
} dla_allocator;

/* Replaces malloc for the library's objects (what image decoders use inside a call stays with malloc, and a session's activations
 * and mapped files are pages from the system). To be called before everything else: DLA_ERROR_ARGUMENT while anything is in use. NULL: malloc again. Not thread-safe. */
DLA_API dla_status dla_set_allocator(const dla_allocator *allocator);

typedef enum dla_log_level {
    DLA_LOG_INFO,      /* what was opened, planned, chosen */
    DLA_LOG_WARNING    /* something that the user may want to know, though the call succeeded */
} dla_log_level;

/* `message` is one line without a newline, valid during the call. Called from any thread, one call at a time; the callback must
 * not call the library. */
typedef void dla_log_callback(void *context, dla_log_level level, const char *message);

/* Sets who receives the library's messages; NULL, the default: nobody. May be called at any time. */
DLA_API void dla_set_log_callback(dla_log_callback *callback, void *context);

/* ---- Architectures: the zoo and a user's own -------------------------------------------------------------------------- */

enum { DLA_LEVEL_COUNT = 6 };

typedef enum dla_block {
    DLA_BLOCK_BASIC,        /* two 3x3 convolutions */
    DLA_BLOCK_BOTTLENECK,   /* 1x1, 3x3 (grouped where cardinality > 1), 1x1 */
    DLA_BLOCK_BOTTLE2NECK   /* Res2Net: the 3x3 split into a chain over `scale` slices */
} dla_block;

/* "basic", "bottleneck", "bottle2neck": the block's name in config files; NULL for another number. */
DLA_API const char *dla_block_name(dla_block block);

/* Everything that defines a network's graph (paper section 4 and table 1; the authors' dla.py). Plain data, no ownership. */
typedef struct dla_architecture {
    char name[64];                  /* "dla34"; names a user's own network too */
    int levels[DLA_LEVEL_COUNT];    /* level 0, 1: number of 3x3 convolutions; level 2-5: depth of the tree */
    int channels[DLA_LEVEL_COUNT];  /* output channels of each level */
    dla_block block;
    int cardinality;                /* groups of the 3x3 convolutions; 1 for dense */
    int base_width;                 /* width per group at 64 output channels */
    int scale;                      /* slices of bottle2neck; otherwise ignored */
    bool residual_root;             /* aggregation nodes add their first source */
    int num_classes;                /* 0: no classifier, the output is the pooled embedding */
    int in_channels;                /* 3 for RGB */
    int output_stride;              /* 32, or 16 or 8 by dilation of the last levels */
    int down_ratio;                 /* 0: classifier; 2, 4, 8, 16: dense prediction with DLA-Up at that stride (section 4.2) */
} dla_architecture;

/* Number of published architectures, and one of them; NULL where index is out of range. Static storage. */
DLA_API size_t dla_architecture_count(void);
DLA_API const dla_architecture *dla_architecture_at(size_t index);

/* Looks an architecture up by name; a name with "up" behind it, such as dla34up, is the same with DLA-Up for dense prediction
 * (down_ratio 2, 19 classes). DLA_ERROR_NOT_FOUND names the nearest. */
DLA_API dla_status dla_architecture_find(const char *name, dla_architecture *architecture);

/* Reads an architecture from JSON (the form that dla_architecture_to_config writes; docs/config.md). `origin` names the text
 * in messages. DLA_ERROR_FORMAT or DLA_ERROR_ARGUMENT name the key that is wrong and its legal range. */
DLA_API dla_status dla_architecture_parse_config(const char *json, size_t length, const char *origin, dla_architecture *architecture);
DLA_API dla_status dla_architecture_read_config(const char *path, dla_architecture *architecture);

/* The same as JSON text, ending in a newline; the caller's, free with dla_free. */
DLA_API dla_status dla_architecture_to_config(const dla_architecture *architecture, char **json);

/* ---- Networks --------------------------------------------------------------------------------------------------------- */

typedef struct dla_network dla_network;

/* Builds the graph. DLA_ERROR_ARGUMENT names the field that is out of range. */
DLA_API dla_status dla_network_create(const dla_architecture *architecture, dla_network **network);
DLA_API void dla_network_destroy(dla_network *network);

/* The architecture it was built from; the network's. Of a dla_builder's network only the name means something. */
DLA_API const dla_architecture *dla_network_architecture(const dla_network *network);

typedef struct dla_level_info {
    char name[16];                       /* "level3" */
    int stride, channels, height, width; /* of its output map */
} dla_level_info;

typedef struct dla_census {
    int64_t params;          /* trainable parameters, as timm counts them */
    int64_t unused_params;   /* projections that the authors' checkpoints carry and no forward pass uses */
    int64_t macs;            /* multiply-adds of convolutions and classifier, one image */
    int64_t flops;           /* the published figure: a multiply-add counts as one, see docs/census.md */
    int64_t activations;     /* output elements of all convolutions and the classifier, one image */
    int64_t batch_norm_outputs;   /* output elements of all batch norms, one image */
    dla_level_info levels[DLA_LEVEL_COUNT];
} dla_census;

/* Counts for an input of height x width (both >= 32). */
DLA_API dla_status dla_network_census(const dla_network *network, int height, int width, dla_census *census);

/* The network's trees drawn in text (UTF-8), ending in a newline; the caller's. */
DLA_API dla_status dla_network_to_text(const dla_network *network, char **text);

/* Writes the network as a picture (SVG): levels, blocks, aggregation nodes, hierarchical and iterative edges. */
DLA_API dla_status dla_network_draw_svg(const dla_network *network, const char *path);

/* ---- Networks of one's own: aggregation over any backbone, or over maps that the caller has --------------------------- */

/* Puts a network together from the paper's parts. Each function appends one and gives its result, a map, for others to take:
 *
 *     dla_builder_create("fusion", &b);
 *     dla_map fine   = dla_builder_input(b, "fine", 32, 4);          32 channels, a pixel of it is 4 x 4 of the session's height, width
 *     dla_map coarse = dla_builder_input(b, "coarse", 96, 16);
 *     dla_map maps[] = {fine, coarse};
 *     dla_map joined = dla_builder_ida(b, maps, 2, 32, "ida");
 *     dla_builder_finish(b, dla_builder_scores(b, joined, 5, "scores"), &network);
 *
 * `name` tells whose the weights are: parameters are called as in PyTorch modules of the authors' form, below that name. After a
 * mistake (a range, a name twice) all later calls do nothing and give DLA_NO_MAP; dla_builder_finish reports the first one.
 * docs/aggregation.md has the parts' equations and parameters. */
typedef struct dla_builder dla_builder;
typedef int dla_map;
enum { DLA_NO_MAP = -1 };

DLA_API dla_status dla_builder_create(const char *name, dla_builder **builder);

/* A map that a session is given: (batch, channels, ceil(height / stride), ceil(width / stride)). */
DLA_API dla_map dla_builder_input(dla_builder *builder, const char *name, int channels, int stride);

/* Convolution, batch norm, relu: for backbones. kernel: odd; padded by half of it. */
DLA_API dla_map dla_builder_conv(dla_builder *builder, dla_map in, int channels, int kernel, int stride, const char *name);

/* Hierarchical deep aggregation (section 3.2): 2^depth blocks whose results meet in aggregation nodes. */
typedef struct dla_tree {
    int depth, channels, stride;           /* stride: 1 or 2 */
    bool joins_input;                      /* its node sees the tree's (reduced) input, too */
    dla_block block;
    int cardinality, base_width, scale;    /* as in dla_architecture */
    bool residual_node;
} dla_tree;
#define DLA_TREE_INIT { 1, 64, 1, false, DLA_BLOCK_BASIC, 1, 64, 4, false }
DLA_API dla_map dla_builder_tree(dla_builder *builder, dla_map in, const dla_tree *tree, const char *name);

/* One aggregation node over maps of one stride: relu(bn(conv1x1(concat(maps))) [+ maps[0] if residual]). */
DLA_API dla_map dla_builder_node(dla_builder *builder, const dla_map *maps, int count, int channels, bool residual, const char *name);

/* Iterative deep aggregation (sections 3.1 and 4.2): maps, finest first, each of the first one's stride times a power of two, are
 * projected to `channels`, enlarged to the first one's size, and merged one after the other by nodes of 3x3 convolutions. */
DLA_API dla_map dla_builder_ida(dla_builder *builder, const dla_map *maps, int count, int channels, const char *name);

/* The paper's DLA-Up: iterative aggregations from the coarsest pair to all maps, finest first, each twice as coarse as the one before. */
DLA_API dla_map dla_builder_dla_up(dla_builder *builder, const dla_map *maps, int count, const char *name);

/* A 1x1 convolution with bias and nothing behind it: scores, or any other linear reading of a map. */
DLA_API dla_map dla_builder_scores(dla_builder *builder, dla_map in, int channels, const char *name);

/* The network with this result; dla_model_options.network takes it. The builder is gone then, whatever the status. */
DLA_API dla_status dla_builder_finish(dla_builder *builder, dla_map output, dla_network **network);
DLA_API void dla_builder_destroy(dla_builder *builder);   /* without a network */

/* ---- Images ----------------------------------------------------------------------------------------------------------- */

typedef struct dla_image dla_image;

typedef struct dla_decode_options {
    size_t struct_size;
    bool ignore_exif;        /* keep the stored orientation instead of the EXIF one */
    int64_t max_pixels;      /* refuse larger pictures before any of their memory is allocated; default 178956970, as Pillow's */
} dla_decode_options;
#define DLA_DECODE_OPTIONS_INIT { sizeof(dla_decode_options), false, 178956970 }

/* Decodes JPEG, PNG or WebP, told by content. `origin` names the bytes in messages. options may be NULL. */
DLA_API dla_status dla_image_decode(const void *bytes, size_t size, const char *origin, const dla_decode_options *options, dla_image **image);
DLA_API dla_status dla_image_read(const char *path, const dla_decode_options *options, dla_image **image);

typedef enum dla_pixel_order { DLA_PIXELS_RGB, DLA_PIXELS_BGR, DLA_PIXELS_RGBA, DLA_PIXELS_BGRA, DLA_PIXELS_GREY } dla_pixel_order;

/* Copies 8-bit pixels from memory, such as a camera's: row y starts at pixels + y * row_bytes. */
DLA_API dla_status dla_image_from_pixels(const uint8_t *pixels, int height, int width, size_t row_bytes, dla_pixel_order order, dla_image **image);
DLA_API void dla_image_destroy(dla_image *image);
DLA_API int dla_image_height(const dla_image *image);
DLA_API int dla_image_width(const dla_image *image);
DLA_API const uint8_t *dla_image_pixels(const dla_image *image);   /* (height, width, 3) RGB, the image's */

typedef enum dla_interpolation { DLA_INTERPOLATION_BILINEAR, DLA_INTERPOLATION_BICUBIC } dla_interpolation;

/* Evaluation preprocessing as timm and torchvision do it: the shorter side resized to floor(size / crop_pct), a centre crop
 * of size x size, (pixel / 255 - mean) / std. */
typedef struct dla_preprocessing {
    int size;
    double crop_pct;
    dla_interpolation interpolation;
    float mean[3], std[3];
} dla_preprocessing;
#define DLA_PREPROCESSING_IMAGENET { 224, 0.875, DLA_INTERPOLATION_BILINEAR, { 0.485f, 0.456f, 0.406f }, { 0.229f, 0.224f, 0.225f } }

typedef enum dla_layout { DLA_LAYOUT_NCHW, DLA_LAYOUT_NHWC } dla_layout;

/* Writes one image as float32, (3, size, size) or (size, size, 3). */
DLA_API dla_status dla_image_preprocess(const dla_image *image, const dla_preprocessing *preprocessing, dla_layout layout, float *output);

/* ---- Pictures: what a network found, to look at ------------------------------------------------------------------------ */

/* Files that appear when they are complete, or not at all. The last one stores the labels themselves, as palette indices. */
DLA_API dla_status dla_image_write_png(const dla_image *image, const char *path);
DLA_API dla_status dla_grey_write_png(const uint8_t *grey, int height, int width, const char *path);   /* (height, width) */
DLA_API dla_status dla_labels_write_png(const uint8_t *labels, int height, int width, const uint8_t (*palette)[3], const char *path);

typedef enum dla_colour_map { DLA_COLOUR_MAP_VIRIDIS, DLA_COLOUR_MAP_TURBO } dla_colour_map;
typedef struct dla_rectangle { int top, left, height, width; } dla_rectangle;

/* A picture of numbers: values is (height, width), 0 the map's first colour, 1 its last. */
DLA_API dla_status dla_image_from_map(const float *values, int height, int width, dla_colour_map map, dla_image **image);

/* The photograph under a heat map of values 0 to 1, which is (height, width) and smoothly enlarged to the rectangle `where` of the
 * photograph, which may reach beyond it; NULL: all of it. opacity 0 leaves the photograph, 1 hides it. */
DLA_API dla_status dla_image_overlay_heat(const dla_image *photograph, const float *heat, int height, int width, const dla_rectangle *where,
                                          dla_colour_map map, double opacity, dla_image **picture);

/* The photograph tinted by a class for every pixel: labels is (height, width) of the photograph. */
DLA_API dla_status dla_image_overlay_labels(const dla_image *photograph, const uint8_t *labels, const uint8_t (*palette)[3], double opacity,
                                            dla_image **picture);

/* 255 colours that are easily told apart, and black for 255, the usual label of what does not count. */
DLA_API void dla_class_palette(uint8_t palette[256][3]);

/* ---- Arrays: NumPy's files --------------------------------------------------------------------------------------------- */

enum { DLA_MAX_RANK = 8 };

typedef struct dla_array {
    int rank;                        /* 0: a single number */
    int64_t shape[DLA_MAX_RANK];
    float *values;                   /* row-major */
} dla_array;

/* Reads a .npy file of numbers (float, integer or bool, little-endian, C or Fortran order) as float32.
 * array->values is the caller's: dla_free. */
DLA_API dla_status dla_npy_read(const char *path, dla_array *array);
DLA_API dla_status dla_npy_write(const char *path, const dla_array *array);

/* Writes an uncompressed .npz archive of `count` >= 1 arrays, each under its name. */
DLA_API dla_status dla_npz_write(const char *path, const char *const *names, const dla_array *arrays, size_t count);

/* ---- Models: a network with weights ----------------------------------------------------------------------------------- */

typedef struct dla_model dla_model;

/* What a network is for: what it is trained and scored by, and which one is built in. */
typedef enum dla_task {
    DLA_TASK_CLASSIFY,       /* a class for a photograph */
    DLA_TASK_SEGMENT,        /* a class for every pixel */
    DLA_TASK_EDGES           /* boundary or not, for every pixel */
} dla_task;

/* In a dla_architecture given to dla_model_open: as many classes as the weights have. */
enum { DLA_CLASSES_OF_WEIGHTS = -1 };

typedef struct dla_model_options {
    size_t struct_size;
    const dla_architecture *architecture;  /* NULL: as the weights' metadata says, else as their names and shapes tell */
    const char *weights;                   /* path, hf-hub:owner/name (from the cache, else downloaded) or local-dir:FOLDER;
                                            * NULL: the built-in network */
    bool untrained;                        /* no weights at all but numbers that follow from the parameters' names, as measuring
                                            * speed needs them; architecture says of which network */
    dla_task task;                         /* which built-in network */
    const dla_network *network;            /* instead of an architecture: a network made before, such as dla_builder's, that outlives
                                            * the model; needs weights, or untrained */
} dla_model_options;
#define DLA_MODEL_OPTIONS_INIT { sizeof(dla_model_options), NULL, NULL, false, DLA_TASK_CLASSIFY, NULL }

/* Reads weights and binds them, strictly: a missing, unknown or misshapen tensor is DLA_ERROR_MISMATCH and is named with
 * both shapes. options NULL: the built-in network that classifies. The model keeps the weights file mapped. */
DLA_API dla_status dla_model_open(const dla_model_options *options, dla_model **model);
DLA_API void dla_model_close(dla_model *model);
DLA_API const dla_network *dla_model_network(const dla_model *model);          /* the model's */
DLA_API const dla_preprocessing *dla_model_preprocessing(const dla_model *model);
DLA_API int dla_model_class_count(const dla_model *model);
DLA_API const char *dla_model_label(const dla_model *model, int index);        /* NULL where the weights carry none */
DLA_API const char *dla_model_wnid(const dla_model *model, int index);         /* WordNet id such as "n01440764", or NULL */
DLA_API const char *dla_model_report(const dla_model *model);                  /* what binding used and left, a few lines */

/* ---- Export ------------------------------------------------------------------------------------------------------------ */

typedef enum dla_onnx_input {
    DLA_ONNX_INPUT_TENSOR,     /* "input": float32 (batch, channels, height, width), preprocessed */
    DLA_ONNX_INPUT_PIXELS,     /* "image": uint8 RGB (batch, height, width, 3), cut to size; the model normalises */
    DLA_ONNX_INPUT_PHOTOGRAPH  /* "image": uint8 RGB (batch, height, width, 3) of any size; the model resizes, crops, normalises */
} dla_onnx_input;

typedef struct dla_onnx_options {
    size_t struct_size;
    int opset;                 /* 17 to 22; 0: the oldest that will do (17, or 18 where the model resizes) */
    int height, width;         /* of the input; 0: the model's preprocessing size */
    bool dynamic_size;         /* leave height and width free; the batch always is */
    dla_onnx_input input;
} dla_onnx_options;
#define DLA_ONNX_OPTIONS_INIT { sizeof(dla_onnx_options), 0, 0, 0, false, DLA_ONNX_INPUT_TENSOR }

/* Writes the model as ONNX (docs/onnx.md); options may be NULL. DLA_ERROR_UNSUPPORTED in a build without protobuf-c. */
DLA_API dla_status dla_model_export_onnx(const dla_model *model, const dla_onnx_options *options, const char *path);

/* ---- Weights files: looking inside, and converting --------------------------------------------------------------------- */

typedef struct dla_weights dla_weights;

/* Opens a weights file of any format that is read, told by content. */
DLA_API dla_status dla_weights_open(const char *path, dla_weights **weights);
DLA_API void dla_weights_close(dla_weights *weights);
DLA_API const char *dla_weights_format(const dla_weights *weights);              /* "safetensors" */

typedef struct dla_tensor_info {
    const char *name;                /* the weights' */
    const char *dtype;               /* "float32" */
    int rank;
    int64_t shape[DLA_MAX_RANK];
    int64_t elements;
} dla_tensor_info;

typedef struct dla_tensor_statistics {
    double minimum, maximum, mean, standard_deviation;   /* of the finite elements; 0 where there are none */
    int64_t nan_count, infinite_count;
} dla_tensor_statistics;

DLA_API size_t dla_weights_tensor_count(const dla_weights *weights);
DLA_API void dla_weights_tensor(const dla_weights *weights, size_t index, dla_tensor_info *info);
DLA_API dla_status dla_weights_statistics(const dla_weights *weights, size_t index, dla_tensor_statistics *statistics);
DLA_API size_t dla_weights_metadata_count(const dla_weights *weights);
DLA_API void dla_weights_metadata(const dla_weights *weights, size_t index, const char **key, const char **text);

/* How the names and shapes fit a network: number of tensors that stand against it, and the first in words ("" if none). */
typedef struct dla_weights_fit {
    int missing, unknown, misshapen;
    char problem[640];
} dla_weights_fit;

/* architecture: num_classes and in_channels are taken from the file. */
DLA_API dla_status dla_weights_check_fit(const dla_weights *weights, const dla_architecture *architecture, dla_weights_fit *fit);

typedef enum dla_float_format { DLA_FLOAT32, DLA_FLOAT16, DLA_BFLOAT16 } dla_float_format;

/* Writes any readable weights as safetensors. A file that fits a network comes out clean: names without wrappers' prefixes,
 * shapes as the network has them, nothing unused, and architecture, labels and preprocessing in the metadata, from a
 * config.json beside it, too. Other files keep all tensors as they are. *report, if wanted, is the caller's: dla_free. */
DLA_API dla_status dla_weights_convert(const char *input, const char *output, dla_float_format format, char **report);

/* ---- The Hugging Face hub ---------------------------------------------------------------------------------------------- */

typedef struct dla_pull_options {
    size_t struct_size;
    const char *revision;    /* branch, tag or commit; NULL: what follows '@' in the name, else "main" */
    bool prefer_cache;       /* take what the cache has without asking the hub whether there is something newer */
    /* Called a few times a second while a file arrives, total -1 where it is not known; false stops with DLA_ERROR_INTERRUPTED,
     * and the next pull goes on from there. NULL: none. */
    bool (*progress)(void *context, const char *file, int64_t done, int64_t total);
    void *context;
} dla_pull_options;
#define DLA_PULL_OPTIONS_INIT { sizeof(dla_pull_options), NULL, false, NULL, NULL }

typedef struct dla_pulled {
    char *repository;        /* "timm/dla34.in1k" */
    char *commit;
    char *weights, *config;  /* paths in the cache; config NULL where the repository has none */
    int64_t downloaded;      /* bytes that came over the net; 0: all was there */
} dla_pulled;

/* Brings the weights and config.json of a repository ("timm/dla34.in1k", "owner/name@revision"), or timm's for a network of the
 * zoo ("dla34"), into the cache that Hugging Face's tools use, too. Checksums are verified. Honours HF_ENDPOINT, HF_HOME,
 * HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN and the usual proxy variables. options may be NULL. */
DLA_API dla_status dla_hub_pull(const char *name, const dla_pull_options *options, dla_pulled *result);
DLA_API void dla_pulled_clear(dla_pulled *result);   /* frees the texts */

/* ---- Devices ------------------------------------------------------------------------------------------------------------ */

typedef enum dla_device {
    DLA_DEVICE_CPU,
    DLA_DEVICE_CUDA          /* an NVIDIA GPU, the first that CUDA_VISIBLE_DEVICES leaves, in a library built for it (docs/gpu.md) */
} dla_device;

/* In which format maps and weights are kept, and how they are multiplied. Sums are float32 always, and so are inputs and results at
 * the borders. On the CPU there is float32 alone; half_weights below is another matter. */
typedef enum dla_precision {
    DLA_PRECISION_FLOAT32,   /* all of it float32 */
    DLA_PRECISION_TF32,      /* float32 maps; factors are rounded to 11 significant bits before they are multiplied */
    DLA_PRECISION_FLOAT16,   /* 11 significant bits, up to 65504 */
    DLA_PRECISION_BFLOAT16   /* 8 significant bits, float32's range */
} dla_precision;

/* What a device is called: "cpu", "NVIDIA H200". DLA_ERROR_UNSUPPORTED, with the reason, where it cannot be used: the library was built
 * without CUDA, or there is no driver, no GPU, or one that is too old. */
DLA_API dla_status dla_device_name(dla_device device, char name[64]);

/* ---- Sessions: a model ready to run ----------------------------------------------------------------------------------- */

typedef struct dla_session dla_session;

/* Which of several kernels runs a convolution is estimated; what they took on this machine corrects that, where it has been
 * measured. Times are kept for each kind of processor and version in XDG_CACHE_HOME/dla or ~/.cache/dla; a file that cannot be
 * used, or written, is a warning in the log. Two kernels' results differ by rounding. Training does without measurements. */
typedef enum dla_tune {
    DLA_TUNE_AUTO,       /* take the times that there are, measure nothing: creating stays quick */
    DLA_TUNE_MISSING,    /* measure what has no time yet, and keep it: some hundredths of a second a convolution */
    DLA_TUNE_ALWAYS,     /* measure anew */
    DLA_TUNE_NEVER       /* estimates alone */
} dla_tune;

typedef struct dla_session_options {
    size_t struct_size;
    int batch;                      /* images a run, default 1 */
    int height, width;              /* of an input of stride 1; 0: the model's preprocessing size */
    int threads;                    /* 0: one per physical core that this process may use */
    bool exact;                     /* keep to kernels that add the terms of a direct convolution in float32: no
                                     * Winograd, no pairs, no digits on a matrix unit */
    const char *const *features;    /* names of values to give instead of the result, such as "level3"; NULL: the result */
    size_t feature_count;
    bool half_weights;              /* weights may be kept as float16 where their bytes bound the time; logits change by some 2e-4 */
    dla_tune tune;
    dla_device device;              /* where it runs; DLA_ERROR_UNSUPPORTED where that cannot be */
    dla_precision precision;        /* DLA_ERROR_UNSUPPORTED on the CPU, but for float32 */
} dla_session_options;
#define DLA_SESSION_OPTIONS_INIT { sizeof(dla_session_options), 1, 0, 0, 0, false, NULL, 0, false, DLA_TUNE_AUTO, DLA_DEVICE_CPU, \
    DLA_PRECISION_FLOAT32 }

/* Plans, packs the weights and allocates; the model must outlive it. Running allocates nothing. */
DLA_API dla_status dla_session_create(const dla_model *model, const dla_session_options *options, dla_session **session);
DLA_API void dla_session_destroy(dla_session *session);

/* Shape of output `index` as (batch, channels, height, width); logits are (batch, classes, 1, 1). */
DLA_API size_t dla_session_output_count(const dla_session *session);
DLA_API const char *dla_session_output_name(const dla_session *session, size_t index);
DLA_API void dla_session_output_shape(const dla_session *session, size_t index, int shape[4]);

/* One forward pass. `input` is (batch, channels, height, width) or (batch, height, width, channels) as `layout` says;
 * each outputs[i] receives the map in the same layout. */
DLA_API dla_status dla_session_run(dla_session *session, dla_layout layout, const float *input, float *const *outputs);

/* The same for a network of a dla_builder with several inputs, in the order in which they were added: their shapes as above, and
 * inputs[i] in that shape and layout. */
DLA_API size_t dla_session_input_count(const dla_session *session);
DLA_API const char *dla_session_input_name(const dla_session *session, size_t index);
DLA_API void dla_session_input_shape(const dla_session *session, size_t index, int shape[4]);
DLA_API dla_status dla_session_run_maps(dla_session *session, dla_layout layout, const float *const *inputs, float *const *outputs);

/* ---- Classification --------------------------------------------------------------------------------------------------- */

typedef struct dla_classifier dla_classifier;

typedef struct dla_class_score {
    int index;
    float probability;      /* softmax over all classes */
    const char *label;      /* the model's; NULL where the weights carry no labels */
    const char *wnid;       /* the model's, or NULL */
} dla_class_score;

typedef struct dla_classifier_options {
    size_t struct_size;
    const dla_preprocessing *preprocessing;   /* NULL: the model's */
    int batch;                                /* photographs a pass, default 1 */
    int threads;                              /* 0: one per core */
    bool exact;
    bool ignore_exif;
    dla_tune tune;
    dla_device device;                        /* as in dla_session_options */
    dla_precision precision;
} dla_classifier_options;
#define DLA_CLASSIFIER_OPTIONS_INIT { sizeof(dla_classifier_options), NULL, 1, 0, false, false, DLA_TUNE_AUTO, DLA_DEVICE_CPU, \
    DLA_PRECISION_FLOAT32 }

DLA_API dla_status dla_classifier_create(const dla_model *model, const dla_classifier_options *options, dla_classifier **classifier);
DLA_API void dla_classifier_destroy(dla_classifier *classifier);

/* The `count` most probable classes of each image, best first: scores is (image_count, count). */
DLA_API dla_status dla_classifier_classify(dla_classifier *classifier, const dla_image *const *images, size_t image_count, int count, dla_class_score *scores);
DLA_API dla_status dla_classifier_classify_file(dla_classifier *classifier, const char *path, int count, dla_class_score *scores);

/* What became of one photograph of a list. Valid during the callback. */
typedef struct dla_photograph_result {
    size_t index;                   /* in the list */
    const char *path;
    dla_status status;              /* DLA_OK, or why it could not be classified */
    const char *message;            /* the same as a line, path included; "" where status is DLA_OK */
    const dla_class_score *scores;  /* (count), best first; NULL where status is not DLA_OK */
    double milliseconds;            /* reading, decoding and preprocessing it, and its share of the network's pass */
} dla_photograph_result;

/* Called in the order of the list, on the thread that asked; false stops the work. */
typedef bool dla_photograph_callback(void *context, const dla_photograph_result *result);

/* Classifies any number of files, decoding the next ones while the network runs. A file that cannot be read is reported to the
 * callback and is no failure of the whole; DLA_ERROR_INTERRUPTED where the callback stopped it. */
DLA_API dla_status dla_classifier_classify_files(dla_classifier *classifier, const char *const *paths, size_t path_count, int count,
                                                 dla_photograph_callback *callback, void *context);

typedef struct dla_path_list {
    size_t count;
    const char *const *paths;
} dla_path_list;

/* The photographs below a folder: files called .jpg, .jpeg, .png or .webp, also in folders inside it, each folder in the order of its names. Hidden files
 * are left out. An empty list is no failure. Free with dla_path_list_destroy. */
DLA_API dla_status dla_photographs_find(const char *folder, dla_path_list **list);
DLA_API void dla_path_list_destroy(dla_path_list *list);

/* ---- Explanation: what a classification rests on ----------------------------------------------------------------------- */

typedef struct dla_explain_options {
    size_t struct_size;
    const dla_preprocessing *preprocessing;   /* NULL: the model's */
    int class_index;                          /* the class to explain; -1: the most probable one */
    int threads;                              /* 0: one per core */
    bool exact;
    dla_device device;                        /* as in dla_session_options */
    dla_precision precision;
} dla_explain_options;
#define DLA_EXPLAIN_OPTIONS_INIT { sizeof(dla_explain_options), NULL, -1, 0, false, DLA_DEVICE_CPU, DLA_PRECISION_FLOAT32 }

typedef struct dla_level_activity {
    const char *name;                /* "level3" */
    int channels, height, width;     /* of the level's map */
    const float *activity;           /* (height, width): mean of the activations' magnitude over the channels */
} dla_level_activity;

typedef struct dla_explanation {
    dla_class_score score;           /* of the class that is explained; label and wnid are the model's */
    float logit, bias;
    dla_rectangle seen;              /* what the network saw of the photograph; reaches beyond it where the crop was padded */
    int height, width;
    const float *evidence;           /* (height, width): what each place says for the class; logit = bias + their mean */
    dla_level_activity levels[DLA_LEVEL_COUNT];
} dla_explanation;

/* Class activation mapping: the classifier is a weighted sum of the last map's average over all places, so every place has its
 * own share. For models that classify; others are DLA_ERROR_ARGUMENT. options may be NULL. */
DLA_API dla_status dla_explain(const dla_model *model, const dla_image *photograph, const dla_explain_options *options,
                               dla_explanation **explanation);
DLA_API void dla_explanation_destroy(dla_explanation *explanation);

/* A picture of it: the photograph, the evidence as a heat map over it, and the activity of all levels. */
DLA_API dla_status dla_explanation_draw(const dla_explanation *explanation, const dla_image *photograph, dla_image **picture);

/* ---- Evaluation ------------------------------------------------------------------------------------------------------- */

typedef struct dla_class_result {
    const char *label, *wnid;    /* as dla_model_label and dla_model_wnid; may be NULL */
    int64_t count;               /* photographs of this class */
    int64_t top1, top5;          /* of these, recognised at once; among the five best */
} dla_class_result;

typedef struct dla_skipped_file {
    const char *path;
    const char *reason;          /* a line, path included */
} dla_skipped_file;

typedef struct dla_evaluation {
    int64_t count;               /* photographs classified */
    int64_t top1, top5;          /* of these, recognised at once; among the five best */
    int class_count;
    const dla_class_result *classes;   /* (class_count) */
    const int64_t *confusion;    /* (class_count, class_count): [true class][best guess], photographs */
    size_t skipped_count;
    const dla_skipped_file *skipped;   /* files that could not be read, folders that are no class of the network */
} dla_evaluation;

/* Called now and then during long work, from one thread at a time; return false to stop it (DLA_ERROR_INTERRUPTED). */
typedef bool dla_progress(void *context, size_t done, size_t total);

/* Classifies a tree of photographs in folders, one folder a class (torchvision's ImageFolder), and counts what is right. A folder
 * belongs to the class whose wnid or label it is called by (in a label of several names, any one of them; case, blanks, '_' and '-'
 * do not matter). Where the model has neither, the folders in sorted order are its classes, and their number must agree.
 * DLA_ERROR_MISMATCH if no folder is a class, DLA_ERROR_NOT_FOUND if there is no photograph. progress may be NULL. */
DLA_API dla_status dla_classifier_evaluate(dla_classifier *classifier, const char *folder, dla_progress *progress, void *context,
                                           dla_evaluation **evaluation);
DLA_API void dla_evaluation_destroy(dla_evaluation *evaluation);

/* ---- Dense prediction: a class or a boundary probability for every pixel ----------------------------------------------- */

typedef struct dla_dense dla_dense;

typedef struct dla_dense_options {
    size_t struct_size;
    int threads;                  /* 0: one per core */
    bool exact;
    int tile;                     /* side in pixels of the squares that larger photographs are worked through in, default 1024 */
    int margin;                   /* pixels of a tile whose prediction a neighbour's replaces, default 128 */
    const double *scales;         /* sizes at which the photograph is looked at, whose log-probabilities are summed; NULL: 1 */
    size_t scale_count;
    bool flip;                    /* also look at the mirrored photograph */
    dla_device device;            /* as in dla_session_options */
    dla_precision precision;
} dla_dense_options;
#define DLA_DENSE_OPTIONS_INIT { sizeof(dla_dense_options), 0, false, 1024, 128, NULL, 0, false, DLA_DEVICE_CPU, DLA_PRECISION_FLOAT32 }

/* For models whose architecture has a down_ratio; others are DLA_ERROR_ARGUMENT. The model must outlive it. */
DLA_API dla_status dla_dense_create(const dla_model *model, const dla_dense_options *options, dla_dense **dense);
DLA_API void dla_dense_destroy(dla_dense *dense);
DLA_API int dla_dense_class_count(const dla_dense *dense);

/* The most probable class of every pixel: labels is (height, width) of the image. At most 256 classes. Both sides >= 32. */
DLA_API dla_status dla_dense_classes(dla_dense *dense, const dla_image *image, uint8_t *labels);

/* The probability of one class for every pixel: probability is (height, width). */
DLA_API dla_status dla_dense_probability(dla_dense *dense, const dla_image *image, int index, float *probability);

/* Boundary probabilities thinned to ridges one or two pixels wide (non-maximum suppression). thin, probability: (height, width). */
DLA_API dla_status dla_edges_thin(const float *probability, int height, int width, float *thin);

/* ---- Scores of dense predictions --------------------------------------------------------------------------------------- */

typedef struct dla_score_options {
    size_t struct_size;
    int threads;                  /* 0: one per core */
    dla_progress *progress;       /* NULL: none */
    void *progress_context;
} dla_score_options;
#define DLA_SCORE_OPTIONS_INIT { sizeof(dla_score_options), 0, NULL, NULL }

typedef struct dla_edge_score { double f, precision, recall, threshold; } dla_edge_score;

typedef struct dla_edge_scores {
    size_t images;
    int thresholds;
    dla_edge_score ods;           /* one threshold for the whole set, the best */
    dla_edge_score ois;           /* every photograph at its own best; its threshold is 0 */
    double ap;                    /* area under precision over recall */
} dla_edge_scores;

/* Scores boundary maps as the BSDS benchmark does: predictions holds NAME.png with 0-255 for probability 0-1, ground_truth
 * NAME.mat with the annotators' maps. Every file of one folder needs its partner in the other, of the same size:
 * DLA_ERROR_MISMATCH names the first that has none. thresholds: 1-255, the benchmark uses 99. options may be NULL. */
DLA_API dla_status dla_edges_score(const char *predictions, const char *ground_truth, int thresholds, const dla_score_options *options,
                                   dla_edge_scores *scores);

typedef struct dla_segmentation_scores {
    size_t images;
    int classes;
    int64_t *confusion;           /* (classes, classes): labelled row, predicted column, in pixels; the caller's, dla_free */
    double mean_iou;              /* over the classes that occur in labels or predictions */
    double pixel_accuracy;
    double class_accuracy;        /* mean recall over the classes that occur in the labels */
} dla_segmentation_scores;

/* Scores class maps against labels: PNG files of the same names and sizes in two folders, a pixel's value its class. Labels
 * equal to `ignore` (-1: none) do not count; other labels or predictions >= classes are DLA_ERROR_MISMATCH. */
DLA_API dla_status dla_segmentation_score(const char *predictions, const char *labels, int classes, int ignore,
                                          const dla_score_options *options, dla_segmentation_scores *scores);

/* Intersection over union of one class; NaN where it occurs in neither labels nor predictions. */
DLA_API double dla_segmentation_iou(const dla_segmentation_scores *scores, int index);

/* ---- Benchmarks: how fast a network runs here, and what holds it up ---------------------------------------------------- */

typedef struct dla_benchmark_options {
    size_t struct_size;
    int batch, height, width, threads;   /* as in dla_session_options */
    bool exact, half_weights;
    bool layers;                         /* also every step of the plan, beside the limits of this machine */
    double seconds;                      /* that the measurement may take; it ends earlier where the figures have settled */
    dla_tune tune;
    dla_device device;                   /* CUDA: a run is a pass on the GPU, inputs and results stay there */
    dla_precision precision;
} dla_benchmark_options;
#define DLA_BENCHMARK_OPTIONS_INIT { sizeof(dla_benchmark_options), 1, 0, 0, 0, false, false, false, 2.0, DLA_TUNE_AUTO, DLA_DEVICE_CPU, \
    DLA_PRECISION_FLOAT32 }

/* What this machine does at most, measured with the threads and the instruction set of the benchmark; of a GPU only the peak, which
 * follows from its units and their clock. */
typedef struct dla_machine_limits {
    double peak_gflops;                      /* fused multiply-adds, counted as two; 0: not known */
    double l2_gbps, l3_gbps, memory_gbps;    /* GB/s read from the cores' second caches, the last one, memory; 0: not measured */
    size_t l2_bytes, l3_bytes;               /* what those hold for all threads together; the last one by measurement */
} dla_machine_limits;

/* A step of the plan: a convolution with all that it took over, or another operation. All of it is the benchmark's. */
typedef struct dla_benchmark_layer {
    const char *name;                    /* of the node that the step started from: "level3.tree1.conv1" */
    const char *operation;               /* "conv2d" */
    const char *kernel;                  /* "winograd4x4_avx512"; the operation where there is no choice */
    int in_height, in_width, in_channels;
    int height, width, channels;         /* of the result */
    int window, stride, groups;          /* of a convolution, otherwise 0 */
    double ms;                           /* median */
    double gflop;                        /* 10^9 FLOPs by definition, whatever the kernel saves */
    double computed_gflop;               /* that the kernel's products take */
    double weight_bytes, map_bytes;      /* moved at least once */
    double roof_ms;                      /* no faster on this machine: the longest of products, weights and maps */
    const char *bound;                   /* which of them: "FMA", "L2", "L3", "memory"; of a GPU "FMA" alone */
} dla_benchmark_layer;

typedef struct dla_benchmark {
    const char *model, *isa;             /* "dla34", "avx512"; "cuda" on a GPU */
    int batch, threads, height, width;
    int runs;                            /* measured */
    double median_ms, min_ms;
    double spread;                       /* of the middle half of the runs, as a share of the median */
    bool noisy;                          /* something disturbed the machine too much for the figures to mean anything */
    double images_per_second, gflops;    /* by the median; FLOPs by definition, a multiply-add as two */
    double percent_of_peak;              /* may exceed 100: Winograd's kernels do with fewer products; 0: the peak is not known */
    dla_machine_limits limits;           /* the caches' and memory's with options.layers */
    size_t activation_bytes;             /* of all maps, placed by lifetime */
    size_t activation_bound;             /* most bytes alive at one step: no placement can be below */
    size_t weight_bytes, scratch_bytes;
    size_t layer_count;
    const dla_benchmark_layer *layers;   /* (layer_count); NULL without options.layers */
    const char *device;                  /* as dla_device_name */
    dla_precision precision;
} dla_benchmark;

/* Measures inference. options may be NULL. */
DLA_API dla_status dla_benchmark_run(const dla_model *model, const dla_benchmark_options *options, dla_benchmark **benchmark);

/* Measures training: a run is a step (forward, loss, backward, optimiser) on a batch, its FLOPs three times those of a pass. Of the
 * options, half_weights and tune have no meaning here, layers is DLA_ERROR_ARGUMENT; of the result, activation_bound is 0. */
DLA_API dla_status dla_benchmark_train(const dla_architecture *architecture, const dla_benchmark_options *options, dla_benchmark **benchmark);
DLA_API void dla_benchmark_destroy(dla_benchmark *benchmark);

/* Its layers as a picture (SVG): GFLOP/s over FLOPs per byte, under the machine's roofs. Needs options.layers. */
DLA_API dla_status dla_benchmark_draw_roofline(const dla_benchmark *benchmark, const char *path);

/* Predict the photographs of a labelled data set, in the forms that dla_train takes for these tasks, and score the predictions as
 * the functions above do. split: a name such as "val"; NULL: test where the data have it, else val, else all of them. */
DLA_API dla_status dla_dense_evaluate_segmentation(dla_dense *dense, const char *data, const char *split, int ignore,
                                                   const dla_score_options *options, dla_segmentation_scores *scores);
DLA_API dla_status dla_dense_evaluate_edges(dla_dense *dense, const char *data, const char *split, int thresholds,
                                            const dla_score_options *options, dla_edge_scores *scores);

/* ---- Training --------------------------------------------------------------------------------------------------------- */

/* Random changes of a training photograph; each range is around 1: factors 1 - x to 1 + x. 0 switches a change off. */
typedef struct dla_augmentation {
    double min_area, max_area;         /* of the random box, as a share of the picture */
    double min_aspect, max_aspect;     /* width / height of the box */
    double flip;                       /* probability of mirroring left and right */
    double brightness, contrast, saturation, sharpness;
    double saturation_probability;     /* of changing the saturation at all */
    double lighting;                   /* deviation of the PCA lighting noise */
    dla_interpolation interpolation;
} dla_augmentation;
#define DLA_AUGMENTATION_INIT { 0.08, 1.0, 3.0 / 4.0, 4.0 / 3.0, 0.5, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, DLA_INTERPOLATION_BILINEAR }

typedef enum dla_schedule {
    DLA_SCHEDULE_STEP,       /* rate * factor ^ floor(epoch / every) */
    DLA_SCHEDULE_POLY,       /* rate * (1 - progress) ^ power */
    DLA_SCHEDULE_COSINE      /* rate * (1 + cos(pi * progress)) / 2 */
} dla_schedule;

typedef enum dla_initialisation {
    DLA_INITIALISATION_AUTHORS,   /* convolutions N(0, sqrt(2 / (kernel^2 * out_channels))), classifier too */
    DLA_INITIALISATION_TIMM       /* the same, the classifier uniform as PyTorch's layers */
} dla_initialisation;

/* What training a network for every pixel needs beside the rest. The defaults are the authors' for segmentation; for boundaries
 * they take scale 1 and any angle (rotation 180). */
typedef struct dla_dense_recipe {
    size_t struct_size;
    const char *class_names;         /* segmentation: text file, a class a line; NULL: as many as the largest label asks for */
    int ignore;                      /* segmentation: label that does not count, -1: none */
    const double *class_weights;     /* segmentation: (class_weight_count) factors on the loss of each class; NULL: 1 */
    size_t class_weight_count;
    double edge_weight;              /* boundaries: factor on the loss of boundary pixels */
    int annotators;                  /* boundaries: so many must have drawn one; where fewer did, a pixel does not count */
    double min_scale, max_scale;     /* of the photograph before a square is cut out of it */
    double rotation;                 /* largest angle, degrees */
} dla_dense_recipe;
#define DLA_DENSE_RECIPE_INIT { sizeof(dla_dense_recipe), NULL, 255, NULL, 0, 10.0, 3, 0.5, 2.0, 10.0 }

/* What a training run is made of. The defaults are the authors' ImageNet recipe (docs/training.md). */
typedef struct dla_train_options {
    size_t struct_size;
    const dla_architecture *architecture;   /* required; its num_classes is replaced by the data's */
    const char *output;                     /* folder of the run: created; required */
    bool resume;                            /* go on from its newest checkpoint, from the start if it has none */
    int size, batch, epochs, threads;       /* threads 0: one per core */
    int accumulate;                         /* batches whose gradients are added up for one step */
    double rate, momentum, weight_decay;
    bool nesterov, decay_norm_and_bias;
    dla_schedule schedule;
    double step_epochs, step_factor, poly_power, warmup_epochs;
    double label_smoothing, mixup, dropout, clip;   /* mixup: alpha of its beta distribution; clip: largest gradient norm; 0: off */
    double ema;                             /* weights averaged with decay min(ema, step / (step + 50)); the average is the result. 0: off */
    dla_initialisation initialisation;
    dla_augmentation augmentation;
    double crop_pct;                        /* of the validation and the result's preprocessing */
    uint64_t seed;
    double validation;                      /* share of the photographs to hold out, unless the data set has a folder val */
    bool cache;                             /* keep decoded photographs in memory */
    bool exact;                             /* as in dla_session_options */
    const char *weights;                    /* start from these; NULL: from chance */
    bool reset_head;                        /* but not their classifier */
    const char *freeze;                     /* "level3": the network up to and with that level stays as it is; NULL: nothing */
    double backbone_rate;                   /* factor on the rate of everything but the classifier */
    int checkpoint_steps;                   /* a checkpoint every so many steps, beside one an epoch; 0: none */
    int keep;                               /* checkpoints that stay, the newest */
    int first_size, first_epochs;           /* the first epochs at another size, a smaller one for speed; 0: none */
    int validation_size;                    /* of the validation and the result's preprocessing; 0: size */
    const char *cache_file;                 /* keep decoded photographs in this file, for this run and the next; NULL: do not */
    bool fast_decode;                       /* large JPEGs are decoded at 1/2, 1/4 or 1/8 where the random crop still is larger than the
                                             * training image: a little less sharp, much faster; not with a cache, which keeps them whole */
    bool checkpoint_activations;            /* keep some maps for backward and compute the others again: less memory, same gradients */
    dla_task task;                          /* what is trained: a class for a photograph, or for every pixel */
    const dla_dense_recipe *dense;          /* of a class for every pixel; NULL: the defaults */
    const char *base_weights;               /* of a class for every pixel: the base starts as this classifier; NULL: from chance */
    int validation_epochs;                  /* validate every so many epochs, and after the last */
    bool sync_norms;                        /* several ranks: batch norms over all ranks' images, as one process would */
    dla_device device;                      /* what trains, and validates; CUDA: with cuDNN 9 (docs/training.md) */
    dla_precision precision;                /* on a GPU: of maps, gradients and products; weights and statistics are float32 always */
} dla_train_options;
#define DLA_TRAIN_OPTIONS_INIT { sizeof(dla_train_options), NULL, NULL, false, 224, 256, 120, 0, 1, 0.1, 0.9, 1e-4, false, true, \
    DLA_SCHEDULE_STEP, 30.0, 0.1, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, DLA_INITIALISATION_AUTHORS, DLA_AUGMENTATION_INIT, 0.875, 0, \
    0.0, false, false, NULL, false, NULL, 1.0, 0, 3, 0, 0, 0, NULL, false, false, DLA_TASK_CLASSIFY, NULL, NULL, 1, false, DLA_DEVICE_CPU, \
    DLA_PRECISION_FLOAT32 }

typedef enum dla_train_event_kind {
    DLA_TRAIN_STARTED,   /* what was found; steps and epochs are known */
    DLA_TRAIN_STEP,
    DLA_TRAIN_EPOCH,     /* validated, if there is something to validate on, and saved */
    DLA_TRAIN_SKIPPED    /* a photograph that cannot be read: message */
} dla_train_event_kind;

typedef struct dla_train_event {
    dla_train_event_kind kind;
    int epoch, epochs;                  /* from 1 */
    int64_t step, steps;                /* done so far, of the whole run */
    int64_t resumed_step;               /* STARTED: 0, or the step of the checkpoint */
    double loss, top1;                  /* of the step; of the epoch's training: means */
    double rate;                        /* learning rate */
    double images_per_second, seconds_left;
    double val_loss, val_top1;          /* EPOCH: NaN where nothing was validated */
    bool best;                          /* EPOCH: the best so far */
    size_t train_count, val_count, skipped_count;
    int class_count;
    const char *message;                /* SKIPPED: path, reason and consequence */
    int64_t activation_bytes;           /* STARTED: maps and their gradients in memory */
    int64_t activation_bytes_kept;      /* STARTED: the same without checkpoint_activations */
    /* What top1 and val_top1 are, "top-1" and "top-1"; for every pixel top1 is the share of pixels that are right, "pixels right",
     * and val_top1 the "mean IoU", or of boundaries the largest "pixel F", which knows no tolerance. */
    const char *score_name, *val_score_name;
    int rank, ranks;                    /* which of how many processes tells it; files are written by rank 0 alone */
    const char *reduction;              /* STARTED: what adds the gradients of several ranks up, "MPI", or on GPUs "NCCL 2.27.3"
                                         * or "MPI through the host's memory (why)"; else NULL */
} dla_train_event;

/* Called on the thread that trains. Return false to stop: the step's result is saved, the run can be resumed. */
typedef bool dla_train_callback(void *context, const dla_train_event *event);

/* Trains on `data`: a folder with a folder of photographs per class, or with train/ and val/ of that kind, or a text file of
 * "path class" lines. The run's folder gets last.safetensors and best.safetensors (ready for dla_model_open), checkpoints/,
 * log.jsonl, curves.svg and a TensorBoard event file. The same options give the same weights, bit for bit, for any number of
 * threads and interruptions. DLA_ERROR_INTERRUPTED where the callback stopped it; callback may be NULL.
 * Under mpirun, in a library built with MPI, the processes train together, each on a GPU of its own where they train on GPUs: `batch`
 * is that of all (docs/distributed.md). */
DLA_API dla_status dla_train(const char *data, const dla_train_options *options, dla_train_callback *callback, void *context);

/* Draws a run's loss and accuracy from its log.jsonl into its curves.svg. */
DLA_API dla_status dla_train_plot(const char *run);

#ifdef __cplusplus
}
#endif
#endif
