/* command_train.c - `dla train`: from a folder of photographs to a network. */
#include "command.h"
#include "common_options.h"
#include "json_output.h"
#include "progress.h"
#include "train_dense.h"
#include "weights_fetch.h"

#include <dla/dla.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct option_spec options[] = {
    {"--task", OPTION_CHOICE, "classify|segment|edges", "a class for a photograph, for every pixel, or boundaries (default classify)", 0,
     0},
    {"--model", OPTION_TEXT, "NAME", "network to train (default dla34, or dla34up; `dla models` lists all)", 0, 0},
    {"--config", OPTION_TEXT, "FILE", "network from a JSON file instead", 0, 0},
    {"--output", OPTION_TEXT, "RUN", "folder for checkpoints, weights, log and curves (required)", 0, 0},
    {"--resume", OPTION_FLAG, NULL, "go on from RUN's newest checkpoint, from the start if there is none", 0, 0},
    {"--size", OPTION_INTEGER, "N", "side of the training images (default 224)", 32, 4096},
    {"--first-size", OPTION_INTEGER, "N", "another side in the first epochs, a smaller one for speed", 32, 4096},
    {"--first-epochs", OPTION_INTEGER, "N", "how many those are (default 0)", 0, 100000},
    {"--batch", OPTION_INTEGER, "N", "images a pass (default 256; segment, edges: 16)", 2, 65536},
    {"--accumulate", OPTION_INTEGER, "N", "passes whose gradients make one step (default 1)", 1, 65536},
    {"--epochs", OPTION_INTEGER, "N", "passes over all photographs (default 120)", 1, 100000},
    {"--lr", OPTION_NUMBER, "X", "learning rate (default 0.1; segment, edges: 0.01)", 0, 1000},
    {"--schedule", OPTION_CHOICE, "step|poly|cosine", "how the rate falls (default step: tenfold every 30 epochs)", 0, 0},
    {"--step-epochs", OPTION_NUMBER, "N", "epochs between steps of the step schedule (default 30)", 0.001, 1e6},
    {"--warmup", OPTION_NUMBER, "N", "epochs in which the rate grows from 0 (default 0)", 0, 100000},
    {"--momentum", OPTION_NUMBER, "X", "default 0.9", 0, 0.99999},
    {"--nesterov", OPTION_FLAG, NULL, "Nesterov's form of momentum", 0, 0},
    {"--weight-decay", OPTION_NUMBER, "X", "default 1e-4", 0, 1},
    {"--no-norm-decay", OPTION_FLAG, NULL, "weight decay on convolutions alone, not on batch norms and biases", 0, 0},
    {"--label-smoothing", OPTION_NUMBER, "X", "share of a target spread over all classes (default 0)", 0, 0.99},
    {"--mixup", OPTION_NUMBER, "ALPHA", "blend pairs of images (default 0: off)", 0, 100},
    {"--dropout", OPTION_NUMBER, "P", "before the classifier (default 0)", 0, 0.99},
    {"--clip", OPTION_NUMBER, "NORM", "largest norm of a step's gradient (default 0: any)", 0, 1e12},
    {"--ema", OPTION_NUMBER, "DECAY", "average the weights; the average is the result (default 0: off)", 0, 0.9999999},
    {"--init", OPTION_CHOICE, "authors|timm", "how weights begin (default authors)", 0, 0},
    {"--min-area", OPTION_NUMBER, "X", "smallest random crop, as a share of the picture (default 0.08)", 0.0001, 1},
    {"--flip", OPTION_NUMBER, "P", "probability of mirroring (default 0.5)", 0, 1},
    {"--brightness", OPTION_NUMBER, "X", "jitter: factor 1 - X to 1 + X (default 0)", 0, 1},
    {"--contrast", OPTION_NUMBER, "X", "the same (default 0)", 0, 1},
    {"--saturation", OPTION_NUMBER, "X", "the same (default 0)", 0, 1},
    {"--saturation-probability", OPTION_NUMBER, "P", "of changing the saturation at all (default 1)", 0, 1},
    {"--sharpness", OPTION_NUMBER, "X", "the same as brightness (default 0)", 0, 1},
    {"--lighting", OPTION_NUMBER, "X", "deviation of PCA lighting noise (default 0; the authors' 0.1)", 0, 10},
    {"--val-epochs", OPTION_INTEGER, "N", "validate every N epochs, and after the last (default 1)", 1, 100000},
    {"--val-split", OPTION_NUMBER, "F", "share of the photographs to validate on (default 0)", 0, 0.99},
    {"--val-size", OPTION_INTEGER, "N", "side of validation images, also noted in the result (default: that of --size)", 32, 4096},
    {"--crop-pct", OPTION_NUMBER, "X", "share of the resized picture that validation sees (default 0.875)", 0.1, 1},
    {"--cache", OPTION_FLAG, NULL, "keep decoded photographs in memory", 0, 0},
    {"--disk-cache", OPTION_TEXT, "FILE", "keep them in FILE, for this run and the next", 0, 0},
    {"--fast-decode", OPTION_FLAG, NULL, "decode large JPEGs at a fraction of their size where the crop allows it (without a cache)", 0, 0},
    OPTION_ROWS_TRAIN_DENSE,
    {"--weights", OPTION_TEXT, "FILE", "start from these weights", 0, 0},
    {"--reset-head", OPTION_FLAG, NULL, "but with a new classifier", 0, 0},
    {"--freeze", OPTION_TEXT, "LEVEL", "leave the network up to and with that level (level0 to level5) as it is", 0, 0},
    {"--lr-backbone", OPTION_TEXT, "FACTOR", "rate of all but the classifier, such as 0.1x", 0, 0},
    {"--seed", OPTION_INTEGER, "N", "all chance follows from it (default 0)", 0, 9007199254740992.0},
    {"--threads", OPTION_INTEGER, "N", "default: one per core", 1, 1024},
    {"--checkpoint-steps", OPTION_INTEGER, "N", "a checkpoint every N steps too (default 0: every epoch)", 0, 1e9},
    {"--keep", OPTION_INTEGER, "N", "checkpoints to keep (default 3)", 1, 100000},
    {"--sync-bn", OPTION_FLAG, NULL, "under mpirun: batch norms over the images of all ranks", 0, 0},
    {"--checkpoint-activations", OPTION_FLAG, NULL, "less memory, more time: compute maps again for backward", 0, 0},
    {"--exact", OPTION_FLAG, NULL, "only kernels that add as a direct convolution does", 0, 0},
    OPTION_ROWS_DEVICE,
    {"--json", OPTION_FLAG, NULL, "print each epoch as a JSON object", 0, 0},
    {0},
};

static volatile sig_atomic_t stop_asked;

static void ask_to_stop(int signal_number)
{
    (void)signal_number;
    stop_asked = 1;
}

struct view {
    bool json, terminal;
    int rank;
    size_t skipped; /* photographs that could not be read */
};

static void print_epoch(const struct view *view, const dla_train_event *e)
{
    if (view->json) {
        json_t *object = json_object();
        json_put(object, "epoch", json_integer(e->epoch));
        json_put(object, "step", json_integer(e->step));
        json_put(object, "loss", json_real(e->loss));
        json_put(object, "top1", json_real(e->top1));
        json_put(object, "val_loss", isfinite(e->val_loss) ? json_real(e->val_loss) : json_null());
        json_put(object, "val_top1", isfinite(e->val_top1) ? json_real(e->val_top1) : json_null());
        json_put(object, "score", json_text(e->score_name));
        json_put(object, "val_score", json_text(e->val_score_name));
        json_put(object, "best", json_boolean(e->best));
        json_put(object, "images_per_second", json_real(e->images_per_second));
        json_put(object, "skipped", json_integer((json_int_t)e->skipped_count));
        json_print(object);
        fflush(stdout);
        return;
    }
    fprintf(stderr, "epoch %d/%d  loss %.4f  %s %.2f %%", e->epoch, e->epochs, e->loss, e->score_name, 100.0 * e->top1);
    if (isfinite(e->val_top1))
        fprintf(stderr, "  validation: loss %.4f  %s %.2f %%%s", e->val_loss, e->val_score_name, 100.0 * e->val_top1,
                e->best ? "  best" : "");
    fprintf(stderr, "  %.1f images/s\n", e->images_per_second);
}

static void print_time(int64_t seconds)
{
    if (seconds >= 3600)
        fprintf(stderr, "%lld h %02lld min left", (long long)(seconds / 3600), (long long)(seconds / 60 % 60));
    else
        fprintf(stderr, "%lld min %02lld s left", (long long)(seconds / 60), (long long)(seconds % 60));
}

static bool show(void *context, const dla_train_event *e)
{
    struct view *view = context;
    view->rank = e->rank;
    view->skipped = e->skipped_count;
    if (e->rank > 0 && e->kind != DLA_TRAIN_SKIPPED) /* rank 0 speaks for all */
        return !stop_asked;
    if (view->terminal)
        fputs("\r\033[K", stderr);
    switch (e->kind) {
    case DLA_TRAIN_STARTED:
        fprintf(stderr, "%zu photographs of %d classes to train on, %zu to validate on, %lld steps\n", e->train_count, e->class_count,
                e->val_count, (long long)e->steps);
        if (e->activation_bytes < e->activation_bytes_kept)
            fprintf(stderr, "activations: %.0f MB instead of %.0f MB\n", (double)e->activation_bytes / 1e6,
                    (double)e->activation_bytes_kept / 1e6);
        else
            fprintf(stderr, "activations: %.0f MB\n", (double)e->activation_bytes / 1e6);
        if (e->ranks > 1)
            fprintf(stderr, "%d ranks, gradients added up by %s\n", e->ranks, e->reduction);
        if (e->resumed_step > 0)
            fprintf(stderr, "resumed after step %lld\n", (long long)e->resumed_step);
        break;
    case DLA_TRAIN_STEP:
        if (view->terminal) {
            fprintf(stderr, "epoch %d/%d  step %lld/%lld  loss %.4f  %s %.1f %%  %.1f images/s  ", e->epoch, e->epochs, (long long)e->step,
                    (long long)e->steps, e->loss, e->score_name, 100.0 * e->top1, e->images_per_second);
            print_time((int64_t)e->seconds_left);
        }
        break;
    case DLA_TRAIN_EPOCH:
        print_epoch(view, e);
        break;
    case DLA_TRAIN_SKIPPED:
        warn("%s", e->message);
        break;
    }
    return !stop_asked;
}

/* "0.1x" or "0.1". */
static bool parse_factor(const char *text, double *factor)
{
    char *end;
    *factor = strtod(text, &end);
    return end != text && (*end == '\0' || strcmp(end, "x") == 0) && *factor >= 0.0 && *factor <= 1000.0;
}

static int index_of(const char *text, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    return 0;
}

static void read_options(const struct arguments *a, dla_train_options *o)
{
    static const char *const schedules[] = {"step", "poly", "cosine"}, *const initialisations[] = {"authors", "timm"};
    static const char *const tasks[] = {"classify", "segment", "edges"};
    o->task = (dla_task)index_of(argument_text(a, "--task", "classify"), tasks, 3);
    if (o->task != DLA_TASK_CLASSIFY) {
        o->batch = 16;
        o->rate = 0.01;
    }
    o->output = argument_text(a, "--output", NULL);
    o->resume = argument_flag(a, "--resume");
    o->size = (int)argument_integer(a, "--size", o->size);
    o->first_size = (int)argument_integer(a, "--first-size", o->size);
    o->first_epochs = (int)argument_integer(a, "--first-epochs", 0);
    o->validation_size = (int)argument_integer(a, "--val-size", 0);
    o->batch = (int)argument_integer(a, "--batch", o->batch);
    o->accumulate = (int)argument_integer(a, "--accumulate", o->accumulate);
    o->epochs = (int)argument_integer(a, "--epochs", o->epochs);
    o->threads = (int)argument_integer(a, "--threads", o->threads);
    o->rate = argument_number(a, "--lr", o->rate);
    o->schedule = (dla_schedule)index_of(argument_text(a, "--schedule", "step"), schedules, 3);
    o->step_epochs = argument_number(a, "--step-epochs", o->step_epochs);
    o->warmup_epochs = argument_number(a, "--warmup", o->warmup_epochs);
    o->momentum = argument_number(a, "--momentum", o->momentum);
    o->nesterov = argument_flag(a, "--nesterov");
    o->weight_decay = argument_number(a, "--weight-decay", o->weight_decay);
    o->decay_norm_and_bias = !argument_flag(a, "--no-norm-decay");
    o->label_smoothing = argument_number(a, "--label-smoothing", o->label_smoothing);
    o->mixup = argument_number(a, "--mixup", o->mixup);
    o->dropout = argument_number(a, "--dropout", o->dropout);
    o->clip = argument_number(a, "--clip", o->clip);
    o->ema = argument_number(a, "--ema", o->ema);
    o->initialisation = (dla_initialisation)index_of(argument_text(a, "--init", "authors"), initialisations, 2);
    o->augmentation.min_area = argument_number(a, "--min-area", o->augmentation.min_area);
    o->augmentation.flip = argument_number(a, "--flip", o->augmentation.flip);
    o->augmentation.brightness = argument_number(a, "--brightness", 0.0);
    o->augmentation.contrast = argument_number(a, "--contrast", 0.0);
    o->augmentation.saturation = argument_number(a, "--saturation", 0.0);
    o->augmentation.saturation_probability = argument_number(a, "--saturation-probability", 1.0);
    o->augmentation.sharpness = argument_number(a, "--sharpness", 0.0);
    o->augmentation.lighting = argument_number(a, "--lighting", 0.0);
    o->validation = argument_number(a, "--val-split", 0.0);
    o->validation_epochs = (int)argument_integer(a, "--val-epochs", o->validation_epochs);
    o->crop_pct = argument_number(a, "--crop-pct", o->crop_pct);
    o->cache = argument_flag(a, "--cache");
    o->cache_file = argument_text(a, "--disk-cache", NULL);
    o->fast_decode = argument_flag(a, "--fast-decode");
    o->weights = argument_text(a, "--weights", NULL);
    o->reset_head = argument_flag(a, "--reset-head");
    o->freeze = argument_text(a, "--freeze", NULL);
    o->seed = (uint64_t)argument_integer(a, "--seed", 0);
    o->checkpoint_steps = (int)argument_integer(a, "--checkpoint-steps", 0);
    o->keep = (int)argument_integer(a, "--keep", o->keep);
    o->exact = argument_flag(a, "--exact");
    o->sync_norms = argument_flag(a, "--sync-bn");
    o->checkpoint_activations = argument_flag(a, "--checkpoint-activations");
}

/* The rank that mpirun, or Slurm, gave this process; 0 without them. */
static int started_as_rank(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    rank = rank != NULL ? rank : getenv("PMI_RANK");
    return rank != NULL ? atoi(rank) : 0;
}

static int run(const struct arguments *arguments)
{
    dla_train_options o = DLA_TRAIN_OPTIONS_INIT;
    struct dense_choice dense;
    dla_architecture architecture;
    const char *config = argument_text(arguments, "--config", NULL);
    struct view view = {.json = argument_flag(arguments, "--json"), .terminal = isatty(STDERR_FILENO)};
    struct sigaction action = {.sa_handler = ask_to_stop};

    read_options(arguments, &o);
    if (o.output == NULL)
        return fail_with_usage("--output RUN says where the run's checkpoints and weights go");
    if (!parse_factor(argument_text(arguments, "--lr-backbone", "1x"), &o.backbone_rate))
        return fail_with_usage("--lr-backbone is '%s', a factor such as 0.1x is needed", argument_text(arguments, "--lr-backbone", ""));
    if (o.reset_head && o.weights == NULL)
        return fail_with_usage("--reset-head needs --weights, whose classifier is to be replaced");
    if (config != NULL && argument_text(arguments, "--model", NULL) != NULL)
        return fail_with_usage("--model and --config both name the network; give one");
    const char *usual = o.task == DLA_TASK_CLASSIFY ? "dla34" : "dla34up";
    dla_status status = config != NULL ? dla_architecture_read_config(config, &architecture)
                                       : dla_architecture_find(argument_text(arguments, "--model", usual), &architecture);
    if (status != DLA_OK)
        return fail_with_library_error();
    o.architecture = &architecture;
    int exit_status = choose_dense(arguments, &o, &architecture, &dense);
    if (exit_status == EXIT_SUCCESS)
        exit_status = choose_device(arguments, &o.device, &o.precision);
    if (exit_status == EXIT_SUCCESS)
        exit_status = fetch_weights(o.weights);
    if (exit_status == EXIT_SUCCESS)
        exit_status = fetch_weights(o.base_weights);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    status = dla_train(argument_at(arguments, 0), &o, show, &view);
    if (view.terminal)
        fputs("\r\033[K", stderr);
    if (status == DLA_ERROR_INTERRUPTED && started_as_rank() > 0) /* rank 0 says it */
        return EXIT_FAILURE;
    if (status != DLA_OK)
        return fail_with_library_error();
    if (view.skipped > 0)
        fprintf(stderr, "%zu photograph%s could not be read and %s skipped\n", view.skipped, view.skipped == 1 ? "" : "s",
                view.skipped == 1 ? "was" : "were");
    if (view.rank == 0)
        fprintf(stderr, "%s/best.safetensors and last.safetensors are ready for `dla %s --weights`\n", o.output,
                argument_text(arguments, "--task", "classify"));
    return EXIT_SUCCESS;
}

const struct command command_train = {
    .name = "train",
    .summary = "train or fine-tune a network on photographs: classes, classes of pixels, boundaries",
    .positional = "DIR",
    .min_positional = 1,
    .max_positional = 1,
    .description =
        "Trains on DIR, which has one folder of photographs per class, or train/ and val/ of that kind; a file called "
        "*.txt is read as a list of \"path class\" lines. RUN gets last.safetensors and best.safetensors, which hold the "
        "network with its classes and preprocessing, checkpoints/, log.jsonl, curves.svg and a TensorBoard event file. "
        "The defaults are the authors' ImageNet recipe. "
        "--task segment and edges train networks with DLA-Up on DIR/train.txt, lines of \"photograph labels\", or on the "
        "photographs of DIR/images (or DIR/images/train and val) and files of the same names in DIR/labels (PNG, a pixel's "
        "number is its class) or DIR/groundTruth (BSDS's MATLAB files). The same options give the same weights, bit for bit, on any "
        "number of threads and after any interruption: Ctrl-C saves, --resume goes on.",
    .example = "dla train photos --model dla46_c --size 128 --batch 64 --epochs 60 --val-split 0.1 --output run\n"
               "dla train photos --output run --model dla46_c --size 128 --batch 64 --epochs 60 --val-split 0.1 --resume\n"
               "dla train photos --weights dla34.safetensors --reset-head --lr 0.01 --lr-backbone 0.1x --epochs 20 --output run\n"
               "dla train camvid --task segment --model dla34up --base-weights dla34.safetensors --ignore 11 --output run\n"
               "dla train bsds500 --task edges --model dla34up --base-weights dla34.safetensors --size 416 --output run",
    .options = options,
    .run = run,
};
