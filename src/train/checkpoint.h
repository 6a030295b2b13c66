/* checkpoint.h - everything a run needs to go on as if it had never stopped, in one safetensors file.
 *
 * Tensors: every parameter by its name, `momentum.NAME` for the trained ones, `ema.NAME` where weights are averaged. Metadata:
 * the network's card, the classes, the position in the run, the best score. Random numbers need no state: they follow from
 * the seed and the position. Files are RUN/checkpoints/step-NNNNNNNN.safetensors, written atomically.
 */
#ifndef DLA_TRAIN_CHECKPOINT_H
#define DLA_TRAIN_CHECKPOINT_H

#include "train/parameter_block.h"

#include <math.h>

#define NO_SCORE (-HUGE_VAL)

struct run_state {
    struct parameter_block parameters;
    float *velocity;               /* block */
    float *average;                /* block, or NULL */
    int64_t step;                  /* steps done */
    double best;                   /* validation score, NO_SCORE: none yet */
    double epoch_loss, epoch_top1; /* sums over the steps done in the current epoch */
};

/* What must be the same for a run to be resumed; part of the checkpoint. */
struct run_identity {
    const dla_architecture *architecture;
    const dla_preprocessing *preprocessing;
    const char *const *classes; /* what the folders are called, or what the pixels' classes are */
    int class_count;
    uint64_t seed;
    int64_t steps, epoch_steps;
    int size, batch;
};

dla_status checkpoint_write(const char *run, const struct run_identity *identity, const struct run_state *state, int keep);

/* The newest checkpoint of the run into `state`; *found false where there is none. DLA_ERROR_MISMATCH names what differs. */
dla_status checkpoint_read_newest(const char *run, const struct run_identity *identity, struct run_state *state, bool *found);

/* The network alone, for dla_model_open: averaged weights where there are some. */
dla_status checkpoint_write_model(const char *path, const struct run_identity *identity, const struct run_state *state);

#endif
