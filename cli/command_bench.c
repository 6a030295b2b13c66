/* command_bench.c - `dla bench`: how fast networks run on this machine, and what holds their layers up. */
#include "bench_report.h"
#include "command.h"
#include "common_options.h"
#include "json_output.h"
#include "network_choice.h"
#include "number_list.h"
#include "progress.h"
#include "weights_fetch.h"

#include <dla/dla.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LIST = 32, MAX_PRECISIONS = 8, MAX_BATCH = 4096, MAX_THREADS = 1024 };

static const struct option_spec options[] = {
    {"--all", OPTION_FLAG, NULL, "all published networks", 0, 0},
    {"--batch", OPTION_TEXT, "LIST", "images in one pass, such as 1,4,8 (default 1)", 0, 0},
    {"--threads", OPTION_TEXT, "LIST", "threads, such as 1,2 (default: one per core)", 0, 0},
    {"--size", OPTION_SIZE, "N|HxW", "input size (default: the network's, 224)", 32, 65536},
    {"--layers", OPTION_FLAG, NULL, "a table of all steps: kernel, time, bytes, and what bounds it", 0, 0},
    {"--roofline", OPTION_TEXT, "OUT.svg", "draw the steps under the roofs of this machine", 0, 0},
    {"--train", OPTION_FLAG, NULL, "steps of training instead of inference", 0, 0},
    {"--config", OPTION_TEXT, "FILE", "your own network instead of a named one", 0, 0},
    DOWN_RATIO_OPTION,
    {"--weights", OPTION_TEXT, "FILE", "trained weights; without them numbers that cost the same", 0, 0},
    OPTION_ROW_EXACT,
    {"--half-weights", OPTION_FLAG, NULL, "let kernels keep weights as float16 where memory bounds them", 0, 0},
    OPTION_ROW_TUNE,
    OPTION_ROW_DEVICE,
    {"--precision", OPTION_TEXT, "LIST", "on a GPU: of float32, tf32, float16 and bfloat16, such as float32,float16 (default float32)", 0, 0},
    {"--seconds", OPTION_NUMBER, "S", "longest time for one measurement (default 2)", 0.01, 3600},
    OPTION_ROW_JSON,
    {0},
};

static const char *const inference_options[] = {"--layers", "--roofline", "--weights", "--half-weights", "--tune"};

struct numbers {
    int values[MAX_LIST];
    int count;
};

/* What is to be measured, and what has been so far. */
struct bench {
    const struct arguments *arguments;
    struct numbers batches, threads;
    dla_device device;
    dla_precision precisions[MAX_PRECISIONS];
    int precision_count;
    const char **names; /* of networks; (name_count). NULL is the one of --config */
    size_t name_count;
    bool json, layers;
    json_t *results;
    int done, total;
    int noisy;
};

/* Reads "1,4,8"; EXIT_SUCCESS, or the exit status after a line on stderr. */
static int read_numbers(const struct arguments *arguments, const char *option, int fallback, int maximum, struct numbers *numbers)
{
    const char *text = argument_text(arguments, option, NULL);
    double values[MAX_LIST] = {fallback};
    size_t count = 1;
    bool sound = text == NULL || number_list_parse(text, values, MAX_LIST, &count);

    for (size_t i = 0; i < count && sound; i++) {
        sound = text == NULL || (values[i] >= 1 && values[i] <= maximum && values[i] == (int)values[i]);
        numbers->values[i] = sound ? (int)values[i] : 0;
    }
    numbers->count = (int)count;
    if (!sound)
        return fail_with_usage("%s '%s': a list of at most %d numbers from 1 to %d with commas in between is needed", option, text,
                               MAX_LIST, maximum);
    return EXIT_SUCCESS;
}

/* Reads "float32,float16"; the exit status as above. */
static int read_precisions(struct bench *bench)
{
    const char *text = argument_text(bench->arguments, "--precision", "float32");

    for (const char *name = text; name != NULL;) {
        size_t length = strcspn(name, ",");
        if (bench->precision_count == MAX_PRECISIONS || !precision_of_name(name, length, &bench->precisions[bench->precision_count]))
            return fail_with_usage("--precision '%s': a list of float32, tf32, float16, bfloat16 with commas in between is needed", text);
        if (bench->device == DLA_DEVICE_CPU && bench->precisions[bench->precision_count] != DLA_PRECISION_FLOAT32)
            return fail_with_cpu_precision(text);
        bench->precision_count++;
        name = name[length] == ',' ? name + length + 1 : NULL;
    }
    return EXIT_SUCCESS;
}

static int open_subject(const struct bench *bench, const char *name, dla_model **model)
{
    dla_model_options model_options = DLA_MODEL_OPTIONS_INIT;
    dla_architecture architecture;
    int status = choose_network(bench->arguments, name, &architecture);

    if (status != EXIT_SUCCESS)
        return status;
    model_options.architecture = &architecture;
    model_options.weights = argument_text(bench->arguments, "--weights", NULL);
    model_options.untrained = model_options.weights == NULL;
    if (!model_options.untrained)
        architecture.num_classes = DLA_CLASSES_OF_WEIGHTS;
    if ((status = fetch_weights(model_options.weights)) != EXIT_SUCCESS)
        return status;
    return dla_model_open(&model_options, model) == DLA_OK ? EXIT_SUCCESS : fail_with_library_error();
}

static dla_benchmark_options chosen_options(const struct bench *bench, int batch, int threads, dla_precision precision)
{
    dla_benchmark_options chosen = DLA_BENCHMARK_OPTIONS_INIT;

    chosen.batch = batch;
    chosen.threads = threads;
    chosen.device = bench->device;
    chosen.precision = precision;
    argument_size(bench->arguments, "--size", &chosen.height, &chosen.width);
    chosen.exact = argument_flag(bench->arguments, "--exact");
    chosen.half_weights = argument_flag(bench->arguments, "--half-weights");
    chosen.layers = bench->layers || argument_text(bench->arguments, "--roofline", NULL) != NULL;
    chosen.tune = chosen_tune(bench->arguments, DLA_TUNE_MISSING);
    chosen.seconds = argument_number(bench->arguments, "--seconds", chosen.seconds);
    return chosen;
}

/* Prints a measurement, or keeps it for the array. */
static int report(struct bench *bench, const dla_network *network, const dla_benchmark *benchmark)
{
    const char *roofline = argument_text(bench->arguments, "--roofline", NULL);
    dla_census census;

    if (dla_network_census(network, benchmark->height, benchmark->width, &census) != DLA_OK
        || (roofline != NULL && dla_benchmark_draw_roofline(benchmark, roofline) != DLA_OK))
        return fail_with_library_error();
    bench->noisy += benchmark->noisy;
    if (bench->json) {
        json_add(bench->results, bench_json(benchmark, &census));
        return EXIT_SUCCESS;
    }
    progress_hide();
    if (bench->layers || bench->done == 0)
        print_bench_header(benchmark);
    print_bench_row(benchmark, &census);
    if (bench->layers)
        print_bench_layers(benchmark);
    fflush(stdout);
    return EXIT_SUCCESS;
}

/* model: NULL where training is measured. */
static int measure(struct bench *bench, const dla_network *network, const dla_model *model, int batch, int threads, dla_precision precision)
{
    dla_benchmark_options chosen = chosen_options(bench, batch, threads, precision);
    dla_benchmark *benchmark = NULL;
    dla_status measured = model != NULL ? dla_benchmark_run(model, &chosen, &benchmark)
                                        : dla_benchmark_train(dla_network_architecture(network), &chosen, &benchmark);

    if (measured != DLA_OK)
        return fail_with_library_error();
    int status = report(bench, network, benchmark);
    dla_benchmark_destroy(benchmark);
    progress_update(++bench->done, bench->total);
    return status;
}

static int measure_settings(struct bench *bench, const dla_network *network, const dla_model *model)
{
    int status = EXIT_SUCCESS;

    for (int p = 0; p < bench->precision_count && status == EXIT_SUCCESS; p++)
        for (int b = 0; b < bench->batches.count && status == EXIT_SUCCESS; b++)
            for (int t = 0; t < bench->threads.count && status == EXIT_SUCCESS; t++)
                status = measure(bench, network, model, bench->batches.values[b], bench->threads.values[t], bench->precisions[p]);
    return status;
}

static int measure_inference(struct bench *bench, const char *name)
{
    dla_model *model = NULL;
    int status = open_subject(bench, name, &model);

    if (status == EXIT_SUCCESS)
        status = measure_settings(bench, dla_model_network(model), model);
    dla_model_close(model);
    return status;
}

static int measure_training(struct bench *bench, const char *name)
{
    dla_architecture architecture;
    dla_network *network = NULL;
    int status = choose_network(bench->arguments, name, &architecture);

    if (status != EXIT_SUCCESS)
        return status;
    if (dla_network_create(&architecture, &network) != DLA_OK)
        return fail_with_library_error();
    status = measure_settings(bench, network, NULL);
    dla_network_destroy(network);
    return status;
}

/* The networks that the command line names; names has room for all. */
static int choose_names(const struct arguments *arguments, struct bench *bench)
{
    bool all = argument_flag(arguments, "--all"), config = argument_text(arguments, "--config", NULL) != NULL;
    size_t named = argument_count(arguments);

    if ((all && named > 0) || (all && config) || (config && named > 0))
        return fail_with_usage("networks are named either by MODEL, by --all or by --config; one of them is enough");
    if (!all && !config && named == 0)
        return fail_with_usage("no network given: name some (`dla models` lists them), or use --all or --config FILE");
    if (argument_text(arguments, "--weights", NULL) != NULL && (all || named > 1))
        return fail_with_usage("--weights is for one network");
    for (size_t i = 0; all && i < dla_architecture_count(); i++)
        bench->names[bench->name_count++] = dla_architecture_at(i)->name;
    for (size_t i = 0; i < named; i++)
        bench->names[bench->name_count++] = argument_at(arguments, i);
    if (config)
        bench->names[bench->name_count++] = NULL;
    return EXIT_SUCCESS;
}

static int settle(const struct arguments *arguments, struct bench *bench)
{
    int status = choose_names(arguments, bench);

    if (status != EXIT_SUCCESS || (status = read_numbers(arguments, "--batch", 1, MAX_BATCH, &bench->batches)) != EXIT_SUCCESS
        || (status = read_numbers(arguments, "--threads", 0, MAX_THREADS, &bench->threads)) != EXIT_SUCCESS
        || (status = read_precisions(bench)) != EXIT_SUCCESS)
        return status;
    if (argument_flag(arguments, "--train"))
        for (size_t i = 0; i < sizeof(inference_options) / sizeof(inference_options[0]); i++)
            if (argument_flag(arguments, inference_options[i]))
                return fail_with_usage("%s is for inference; it cannot be given with --train", inference_options[i]);
    if (bench->device != DLA_DEVICE_CPU && bench->threads.count > 1)
        return fail_with_usage("--threads %s: a GPU's speed does not depend on them; give one number at most",
                               argument_text(arguments, "--threads", NULL));
    bench->total = (int)bench->name_count * bench->batches.count * bench->threads.count * bench->precision_count;
    if (argument_text(arguments, "--roofline", NULL) != NULL && bench->total > 1)
        return fail_with_usage("--roofline draws one measurement, not %d; give one network, one batch, one number of threads, one precision",
                               bench->total);
    return EXIT_SUCCESS;
}

static int run(const struct arguments *arguments)
{
    struct bench bench = {
        .arguments = arguments,
        .device = chosen_device(arguments),
        .json = argument_flag(arguments, "--json"),
        .layers = argument_flag(arguments, "--layers"),
    };

    bench.names = calloc(argument_count(arguments) + dla_architecture_count() + 1, sizeof(*bench.names));
    if (bench.names == NULL) {
        warn("out of memory");
        return EXIT_WORK_FAILED;
    }
    int status = settle(arguments, &bench);
    if (status == EXIT_SUCCESS) {
        bench.results = bench.json ? json_array() : NULL;
        progress_start("measurements");
        for (size_t i = 0; i < bench.name_count && status == EXIT_SUCCESS; i++)
            status = (argument_flag(arguments, "--train") ? measure_training : measure_inference)(&bench, bench.names[i]);
        progress_finish();
        if (bench.json && status == EXIT_SUCCESS)
            status = json_print(bench.results);
        else
            json_decref(bench.results);
        if (bench.noisy > 0)
            warn("the machine was too busy to tell: %d of %d measurements are marked noisy", bench.noisy, bench.done);
    }
    free(bench.names);
    return status;
}

const struct command command_bench = {
    .name = "bench",
    .summary = "measure how fast networks run on this machine",
    .positional = "[MODEL...]",
    .min_positional = 0,
    .max_positional = -1,
    .description =
        "Runs networks until their times have settled, seconds at most, and prints the median and the shortest time of a pass, the spread "
        "of "
        "the middle half of the runs, and the speed against the multiply-adds that this machine was measured to do. Winograd's kernels "
        "do with fewer products than a convolution has, so 100 % is no limit. --layers shows every step of the plan: its kernel, the "
        "bytes it moves at least, whether the multiply-add units (FMA), a cache or memory bound it, and how near it is to that "
        "roof; and what memory the plan needs. --train measures training steps: forward, loss, backward, optimiser. No weights are needed. "
        "Kernels that nobody has timed on this machine are timed first, "
        "and all other commands choose by those times, too, unless --tune says otherwise. Measurements that something disturbed are "
        "marked. With --device cuda a pass is the GPU's work alone, on inputs that are in its memory already, and a step's roof is that of "
        "its multiply-adds.",
    .example = "dla bench dla34 --threads 1,2 --batch 1,8\n"
               "dla bench dla34 --layers\n"
               "dla bench dla60x --roofline dla60x.svg\n"
               "dla bench dla46_c --train --batch 64 --size 128\n"
               "dla bench dla34 --device cuda --precision float32,float16 --batch 1,256\n"
               "dla bench --all --json",
    .options = options,
    .run = run,
};
