/* tape_conv.c - a convolution's step: packed weights, forward, and the gradients of weights and input. */
#include "base/clock.h"
#include "train/tape_steps.h"

/* Task 2k packs step k's weights, task 2k+1 packs them for the data gradient; the last steps, which have the most weights, come first. */
static void pack_task(void *context, int task, int worker)
{
    struct tape *tape = context;
    const struct step *step = &tape->steps[tape->step_count - 1 - task / 2];
    const struct conv_step *conv = &step->conv;
    if (step->kind != STEP_CONV)
        return;
    const float *weight = tape_parameter(tape, step->node->as.conv.weight);
    if (task % 2 == 0)
        conv->forward->pack(&conv->shape, weight, tape->ones, tape->packed + conv->packed);
    else if (conv->data) {
        float *turned = tape->turned + worker * tape->turned_floats;
        conv_turn_weights(&conv->shape, weight, turned);
        conv->data->pack(&conv->turned, turned, tape->ones, tape->packed + conv->packed_turned);
    } else if (conv->gathers) {
        tape->kernels->conv_data_gradient_pack(&conv->shape, tape->options.exact, weight, tape->packed + conv->packed_turned);
    }
}

void tape_pack_weights(struct tape *tape)
{
    thread_pool_run(tape->pool, pack_task, tape, 2 * tape->step_count);
}

void tape_conv_run(const struct tape *tape, const struct step *step, const struct conv_maps *maps)
{
    const struct conv_params *p = &step->node->as.conv;
    struct conv_call call = {
        .shape = &step->conv.shape, .packed = tape->packed + step->conv.packed, .scratch = maps->scratch, .pool = maps->pool};
    call.sources[0] = maps->in;
    call.bias = p->bias == NO_PARAMETER ? tape->zeros : tape_parameter(tape, p->bias);
    call.out = maps->out;
    step->conv.forward->run(&call);
}

void tape_conv_weight_gradient(const struct tape *tape, const struct step *step, const struct conv_maps *maps, float *weight_gradient)
{
    struct conv_weight_gradient_call call = {.shape = &step->conv.shape,
                                             .in = maps->in,
                                             .out_gradient = maps->out,
                                             .weight_gradient = weight_gradient,
                                             .exact = tape->options.exact,
                                             .scratch = maps->scratch,
                                             .pool = maps->pool};
    if (tape->options.reference)
        conv_weight_gradient_reference(&call);
    else
        tape->kernels->conv_weight_gradient(&call);
}

void tape_conv_data_gradient(const struct tape *tape, const struct step *step, const struct conv_maps *maps)
{
    bool add = step->to_in == CONTRIBUTE_ADD;
    if (step->conv.data) {
        struct conv_call call = {
            .shape = &step->conv.turned, .packed = tape->packed + step->conv.packed_turned, .scratch = maps->scratch, .pool = maps->pool};
        call.sources[0] = maps->out;
        call.bias = tape->zeros;
        call.out = maps->in;
        if (add)
            call.residual = maps->in;
        step->conv.data->run(&call);
        return;
    }
    struct conv_data_gradient_call call = {.shape = &step->conv.shape,
                                           .weight = tape_parameter(tape, step->node->as.conv.weight),
                                           .packed = tape->packed + step->conv.packed_turned,
                                           .exact = tape->options.exact,
                                           .out_gradient = maps->out,
                                           .in_gradient = maps->in,
                                           .accumulate = add,
                                           .scratch = maps->scratch,
                                           .pool = maps->pool};
    if (tape->options.reference)
        conv_data_gradient_reference(&call);
    else
        tape->kernels->conv_data_gradient(&call);
}

void tape_conv_forward(struct tape *tape, const struct step *step)
{
    struct conv_maps maps = {value_map(tape, step->in), value_map(tape, step->out), tape->scratch, tape->pool};
    tape_conv_run(tape, step, &maps);
}

void tape_conv_backward(struct tape *tape, struct step *step, float *gradients)
{
    const struct conv_params *p = &step->node->as.conv;
    struct map_view out_gradient = value_gradient(tape, step->out);
    if (tape_trains(tape, p->weight)) {
        struct conv_maps maps = {value_map(tape, step->in), out_gradient, tape->scratch, tape->pool};
        double start = clock_milliseconds();
        tape_conv_weight_gradient(tape, step, &maps, gradients + tape->parameters->offsets[p->weight]);
        step->weight_gradient_ms = clock_milliseconds() - start;
    }
    if (tape_trains(tape, p->bias)) { /* the classifier's: few pixels */
        float *gradient = gradients + tape->parameters->offsets[p->bias];
        for (int c = 0; c < step->node->channels; c++) {
            double sum = 0.0;
            for (int64_t pixel = 0; pixel < value_pixels(tape, step->out); pixel++)
                sum += (double)out_gradient.data[pixel * out_gradient.pixel_stride + c];
            gradient[c] += (float)sum;
        }
    }
    if (step->to_in != CONTRIBUTE_NOTHING) {
        struct conv_maps maps = {value_gradient(tape, step->in), out_gradient, tape->scratch, tape->pool};
        tape_conv_data_gradient(tape, step, &maps);
    }
}
