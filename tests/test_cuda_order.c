/* The two streams of a plan on the GPU cannot disturb each other: of two steps that touch the same memory, one of which writes it, the later
 * one runs after the earlier one has ended, in the order of its stream or because somebody on the way waits. Needs no GPU. */
#include "net/network.h"
#include "plan/cuda_steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_STEPS = 400, MOST_ACCESSES = CONV_MAX_SOURCES + 2 };

/* Bytes of the activations that a step reads or writes. */
struct access {
    size_t begin, end;
    bool written;
};

static void add_access(const struct plan *plan, struct place place, bool written, struct access *accesses, int *count)
{
    const struct block *block = &plan->blocks[place.block];
    accesses[(*count)++] = (struct access){block->offset, block->offset + block->bytes, written};
}

static int list_accesses(const struct plan *plan, const struct step *step, struct access accesses[MOST_ACCESSES])
{
    int count = 0;

    add_access(plan, step->out_place, true, accesses, &count);
    for (int i = 0; i < step->input_count; i++)
        add_access(plan, step->inputs[i].place, false, accesses, &count);
    if (step->residual != NO_VALUE)
        add_access(plan, step->residual_place, false, accesses, &count);
    return count;
}

static bool in_each_others_way(const struct plan *plan, const struct step *a, const struct step *b)
{
    struct access x[MOST_ACCESSES], y[MOST_ACCESSES];
    int x_count = list_accesses(plan, a, x), y_count = list_accesses(plan, b, y);

    for (int i = 0; i < x_count; i++)
        for (int k = 0; k < y_count; k++)
            if ((x[i].written || y[k].written) && x[i].begin < y[k].end && y[k].begin < x[i].end)
                return true;
    return false;
}

/* What plan_create does before it needs a device. */
static struct plan *plan_without_device(const struct graph *graph, int height, int width)
{
    struct plan *plan = calloc(1, sizeof *plan);
    size_t nodes = (size_t)graph->node_count;

    assert_non_null(plan);
    plan->graph = graph;
    plan->options = (struct plan_options){.batch = 1, .height = height, .width = width, .threads = 1, .device = DLA_DEVICE_CUDA};
    plan->sizes = arena_allocate_array(&plan->arena, nodes, sizeof *plan->sizes);
    int *order = arena_allocate_array(&plan->arena, nodes, sizeof *order);
    assert_non_null(plan->sizes);
    assert_non_null(order);
    plan->outputs = &graph->output;
    plan->output_count = 1;
    assert_int_equal(graph_infer_sizes(graph, height, width, plan->sizes), DLA_OK);
    assert_int_equal(plan_lower(plan), DLA_OK);
    assert_int_equal(plan_locate(plan), DLA_OK);
    plan->activation_bytes = place_blocks(plan->blocks, order, plan->block_count, &plan->activation_bound);
    return plan;
}

/* before[i][k]: step k has ended when step i begins. Returns how many steps run in the second stream. */
static int find_order(const struct cuda_plan *cuda, bool before[MOST_STEPS][MOST_STEPS])
{
    int last[STREAMS] = {NO_STEP, NO_STEP}, second = 0;

    for (int i = 0; i < cuda->plan->step_count; i++) {
        const struct cuda_step *step = &cuda->steps[i];
        int earlier[2] = {last[step->stream], step->waits_for};
        for (int e = 0; e < 2; e++)
            if (earlier[e] != NO_STEP) {
                assert_in_range(earlier[e], 0, i - 1);
                before[i][earlier[e]] = true;
                for (int k = 0; k < i; k++)
                    before[i][k] = before[i][k] || before[earlier[e]][k];
            }
        last[step->stream] = i;
        second += step->stream;
    }
    return second;
}

static void check_order(const struct graph *graph, int height, int width, bool two, const char *name)
{
    static bool before[MOST_STEPS][MOST_STEPS];
    struct plan *plan = plan_without_device(graph, height, width);
    struct cuda_plan cuda = {.plan = plan};
    bool changed = false;

    assert_true(plan->step_count <= MOST_STEPS);
    cuda.steps = calloc((size_t)plan->step_count, sizeof *cuda.steps);
    assert_non_null(cuda.steps);
    cuda_plan_order(&cuda);
    memset(before, 0, sizeof before);
    int second = find_order(&cuda, before);
    for (int i = 0; i < plan->step_count; i++)
        for (int k = 0; k < i; k++) {
            if (!before[i][k] && in_each_others_way(plan, &plan->steps[i], &plan->steps[k]))
                fail_msg("%s, %dx%d: %s may begin before %s has ended", name, height, width, plan->steps[i].name, plan->steps[k].name);
            changed = changed || !before[i][k];
        }
    if (two != (second > 0) || two != changed) /* a network that has something to do side by side does it */
        fail_msg("%s, %dx%d: %d steps of %d in the second stream", name, height, width, second, plan->step_count);
    free(cuda.steps);
    arena_free(&plan->arena);
    free(plan);
}

static void check_architecture(const dla_architecture *architecture)
{
    dla_network *network;

    assert_int_equal(dla_network_create(architecture, &network), DLA_OK);
    check_order(&network->graph, 224, 224, true, architecture->name);
    check_order(&network->graph, 97, 65, true, architecture->name);
    check_order(&network->graph, 1600, 1600, false, architecture->name);
    dla_network_destroy(network);
}

static void conflicting_steps_of_every_network_are_ordered(void **state)
{
    static const char *const dense[] = {"dla34up", "dla60xup"};

    (void)state;
    for (size_t i = 0; i < dla_architecture_count(); i++)
        check_architecture(dla_architecture_at(i));
    for (size_t i = 0; i < sizeof dense / sizeof dense[0]; i++) {
        dla_architecture architecture;
        assert_int_equal(dla_architecture_find(dense[i], &architecture), DLA_OK);
        check_architecture(&architecture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conflicting_steps_of_every_network_are_ordered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
