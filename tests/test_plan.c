/* A plan (fused, views instead of copies, memory shared by lifetime, fast kernels) gives what the reference plan gives (one
 * step a node, nothing shared, the obvious loops), for every network of the zoo, every instruction set, and sizes that no
 * stride divides. */
#include "formula_weights.h"
#include "net/network.h"
#include "plan/steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t random_state;

static float pseudo_random(void) /* -1 .. 1 */
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)(random_state >> 8) / (float)(1 << 23) - 1.0f;
}

/* Output `index`, contiguous. */
static float *copy_output(const struct plan *plan, int index, int64_t *count)
{
    value v = plan->outputs[index];
    int channels = 0;
    int64_t stride, pixels = (int64_t)plan->options.batch * plan->sizes[v].height * plan->sizes[v].width;
    const float *data = plan_output(plan, index, &stride);
    channels = plan->output_channels[index];
    float *copy = malloc((size_t)(pixels * channels) * sizeof *copy);
    assert_non_null(copy);
    for (int64_t i = 0; i < pixels; i++)
        memcpy(copy + i * channels, data + i * stride, (size_t)channels * sizeof *copy);
    *count = pixels * channels;
    return copy;
}

static void fill_input(struct plan *plan, const struct graph *graph)
{
    formula_input(plan_input(plan), plan->options.batch, graph->nodes[graph->input].channels, plan->options.height, plan->options.width);
}

static void check_equal(const struct plan *plan, const struct plan *reference, const char *network, const char *isa)
{
    for (int i = 0; i < plan->output_count; i++) {
        int64_t count, expected_count;
        float *got = copy_output(plan, i, &count), *expected = copy_output(reference, i, &expected_count);
        double largest = 0.0, worst = 0.0;
        assert_int_equal(count, expected_count);
        for (int64_t k = 0; k < count; k++)
            largest = fmax(largest, fabs((double)expected[k]));
        for (int64_t k = 0; k < count; k++) {
            double difference = fabs((double)got[k] - (double)expected[k]);
            if (!(difference <= worst))
                worst = difference;
        }
        if (!(worst <= (plan->options.exact ? 2e-5 : 1e-3) * largest) || largest == 0.0)
            fail_msg("%s, %s, %dx%d, batch %d: output %d differs by %g of %g", network, isa, plan->options.height, plan->options.width,
                     plan->options.batch, i, worst, largest);
        free(got);
        free(expected);
    }
}

/* From the instruction set `first` to the last that the processor has. */
static void compare(const struct graph *graph, const struct bound_weights *weights, struct plan_options options, enum isa first,
                    const value *outputs, int output_count, const char *network)
{
    struct plan *reference, *plan;

    options.isa = ISA_GENERIC;
    options.reference = true;
    assert_int_equal(plan_create(graph, weights, &options, outputs, output_count, &reference), DLA_OK);
    fill_input(reference, graph);
    plan_run(reference);
    options.reference = false;
    for (int isa = (int)first; isa < ISA_COUNT; isa++) {
        if (!isa_is_available((enum isa)isa))
            continue;
        options.isa = (enum isa)isa;
        assert_int_equal(plan_create(graph, weights, &options, outputs, output_count, &plan), DLA_OK);
        assert_true(plan->activation_bytes >= plan->activation_bound);
        for (int run = 0; run < 2; run++) { /* twice: nothing may depend on memory being fresh */
            fill_input(plan, graph);
            plan_run(plan);
            check_equal(plan, reference, network, isa_name((enum isa)isa));
        }
        plan_destroy(plan);
    }
    plan_destroy(reference);
}

static enum isa widest_isa(void)
{
    enum isa widest = ISA_GENERIC;

    for (int isa = 0; isa < ISA_COUNT; isa++)
        if (isa_is_available((enum isa)isa))
            widest = (enum isa)isa;
    return widest;
}

static void every_network_agrees_with_its_reference_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < dla_architecture_count(); i++) {
        dla_network *network;
        assert_int_equal(dla_network_create(dla_architecture_at(i), &network), DLA_OK);
        struct bound_weights weights = formula_weights_create(&network->graph);
        /* Packing dominates, so large networks are planned once; the small ones have all their kinds of blocks. */
        const char *name = network->architecture.name;
        value output = network->graph.output;
        struct plan_options options = {.batch = 1, .height = 33, .width = 47, .threads = 2, .exact = i % 2 == 1};
        compare(&network->graph, &weights, options, widest_isa(), &output, 1, name);
        if (strstr(name, "_c") || strstr(name, "dla34") || strstr(name, "res2next")) {
            options = (struct plan_options){.batch = 2, .height = 64, .width = 32, .threads = 1};
            compare(&network->graph, &weights, options, ISA_GENERIC, &output, 1, name);
        }
        formula_weights_free(&weights);
        dla_network_destroy(network);
    }
}

/* Features stop fusion where a value in the middle is wanted, and nothing beyond them is computed. */
static void features_agree_and_bound_the_work(void **state)
{
    (void)state;
    dla_architecture architecture;
    dla_network *network;
    assert_int_equal(dla_architecture_find("dla60_res2net", &architecture), DLA_OK);
    assert_int_equal(dla_network_create(&architecture, &network), DLA_OK);
    const struct graph *graph = &network->graph;
    struct bound_weights weights = formula_weights_create(graph);
    value every_op[OP_COUNT + 2];
    int count = 0;
    for (int op = OP_CONV2D; op < OP_COUNT; op++) /* the second value of each op, so that every kind is an output once */
        for (int v = 0, seen = 0; v < graph->node_count; v++)
            if (graph->nodes[v].op == (enum op)op && seen++ == 1)
                every_op[count++] = v;
    assert_true(count >= 7);
    every_op[count++] = graph->levels[3];
    every_op[count++] = graph->input;
    struct plan_options options = {.batch = 1, .height = 40, .width = 56, .threads = 2};
    compare(graph, &weights, options, ISA_GENERIC, every_op, count, "features");

    struct plan *whole, *part;
    options.isa = ISA_GENERIC;
    assert_int_equal(plan_create(graph, &weights, &options, &graph->output, 1, &whole), DLA_OK);
    assert_int_equal(plan_create(graph, &weights, &options, &graph->levels[2], 1, &part), DLA_OK);
    assert_true(part->step_count < whole->step_count / 2);
    plan_destroy(whole);
    plan_destroy(part);
    formula_weights_free(&weights);
    dla_network_destroy(network);
}

/* With an output stride of 16 or 8, every second or fourth pixel of the last levels is the original network's pixel. */
static void lower_output_strides_keep_every_pixel(void **state)
{
    static const char *const names[] = {"dla34", "dla46x_c", "dla60_res2net"};
    enum { HEIGHT = 97, WIDTH = 75, FIRST_LEVEL = 3, LEVELS = DLA_LEVEL_COUNT - FIRST_LEVEL };

    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        dla_architecture architecture;
        dla_network *networks[3];
        struct plan *plans[3];
        struct bound_weights weights;

        assert_int_equal(dla_architecture_find(names[n], &architecture), DLA_OK);
        for (int k = 0; k < 3; k++) {
            architecture.output_stride = 32 >> k;
            assert_int_equal(dla_network_create(&architecture, &networks[k]), DLA_OK);
            if (k == 0)
                weights = formula_weights_create(&networks[0]->graph);
            struct plan_options options = {.batch = 1, .height = HEIGHT, .width = WIDTH, .threads = 2, .exact = true};
            assert_int_equal(isa_choose(&options.isa), DLA_OK);
            assert_int_equal(plan_create(&networks[k]->graph, &weights, &options, &networks[k]->graph.levels[FIRST_LEVEL], LEVELS, &plans[k]), DLA_OK);
            fill_input(plans[k], &networks[k]->graph);
            plan_run(plans[k]);
        }
        for (int k = 1; k < 3; k++) {
            for (int i = 0; i < LEVELS; i++) {
                int stride = 1 << (FIRST_LEVEL + i), output_stride = 32 >> k, step = stride > output_stride ? stride / output_stride : 1;
                int64_t count, finer_count;
                float *nominal = copy_output(plans[0], i, &count), *finer = copy_output(plans[k], i, &finer_count);
                struct map_size size = plans[0]->sizes[plans[0]->outputs[i]], finer_size = plans[k]->sizes[plans[k]->outputs[i]];
                int64_t channels = count / (size.height * size.width);

                assert_int_equal(size.height, (finer_size.height + step - 1) / step);
                assert_int_equal(size.width, (finer_size.width + step - 1) / step);
                double largest = 0.0, worst = 0.0;
                for (int y = 0; y < size.height; y++)
                    for (int x = 0; x < size.width; x++)
                        for (int64_t c = 0; c < channels; c++) {
                            double wanted = (double)nominal[(y * size.width + x) * channels + c];
                            double got = (double)finer[(y * step * finer_size.width + x * step) * channels + c];
                            largest = fmax(largest, fabs(wanted));
                            worst = fabs(got - wanted) <= worst ? worst : fabs(got - wanted);
                        }
                if (!(worst <= 1e-4 * largest) || largest == 0.0)
                    fail_msg("%s, output stride %d, level %d: differs by %g of %g", names[n], output_stride, FIRST_LEVEL + i, worst, largest);
                free(nominal);
                free(finer);
            }
        }
        for (int k = 0; k < 3; k++) {
            plan_destroy(plans[k]);
            dla_network_destroy(networks[k]);
        }
        formula_weights_free(&weights);
    }
}

/* Blocks that live at the same time never share a byte, whatever their lifetimes. */
static void placed_blocks_never_overlap(void **state)
{
    (void)state;
    random_state = 9;
    for (int trial = 0; trial < 200; trial++) {
        struct block blocks[40] = {0};
        int order[40];
        size_t bound, total, alive_most = 0;
        int count = 1 + trial % 40;
        for (int i = 0; i < count; i++) {
            blocks[i].first_step = (int)((pseudo_random() + 1.0f) * 15.0f);
            blocks[i].last_step = blocks[i].first_step + (int)((pseudo_random() + 1.0f) * 5.0f);
            blocks[i].bytes = 64 * (1 + (size_t)((pseudo_random() + 1.0f) * 50.0f));
        }
        total = place_blocks(blocks, order, count, &bound);
        for (int i = 0; i < count; i++) {
            assert_true(blocks[i].offset + blocks[i].bytes <= total);
            for (int k = 0; k < i; k++) {
                bool together = blocks[i].first_step <= blocks[k].last_step && blocks[k].first_step <= blocks[i].last_step;
                bool apart = blocks[i].offset + blocks[i].bytes <= blocks[k].offset || blocks[k].offset + blocks[k].bytes <= blocks[i].offset;
                assert_true(!together || apart);
            }
        }
        for (int step = 0; step < 45; step++) {
            size_t alive = 0;
            for (int i = 0; i < count; i++)
                if (blocks[i].first_step <= step && step <= blocks[i].last_step)
                    alive += blocks[i].bytes;
            alive_most = alive_most < alive ? alive : alive_most;
        }
        assert_int_equal(bound, alive_most);
        assert_true(total >= bound && total <= bound + bound / 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(placed_blocks_never_overlap),
        cmocka_unit_test(every_network_agrees_with_its_reference_plan),
        cmocka_unit_test(features_agree_and_bound_the_work),
        cmocka_unit_test(lower_output_strides_keep_every_pixel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
