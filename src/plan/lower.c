/* lower.c - from graph nodes to steps.
 *
 * A convolution takes over what follows it as long as nobody else reads the values in between:
 *
 *     conv ─▶ batch norm ─▶ add (its other operand becomes the residual) ─▶ relu        one step
 *     transposed conv ─▶ crop                                                           one step
 *
 * An add has two operands; the later convolution takes it, so that the other operand is complete by then. Concatenations and
 * slices are no steps unless somebody needs them as a map of their own; a convolution reads the parts of a concatenation as
 * its sources. With options.reference nothing is fused and everything is copied: that plan is the definition.
 */
#include "base/status.h"
#include "plan/steps.h"

/* How often each value is read, and by whom if only once. */
struct uses {
    int *count;      /* per value: reading nodes, one more if it is an output of the plan */
    value *consumer; /* per value: the last node that reads it, or NO_VALUE */
    bool *needed;    /* per node: an output depends on it */
    value *tail;     /* per convolution: the last node of its step */
    bool *swallowed; /* per node: part of another node's step */
};

/* Inputs whose elements a node reads; a crop's second input only lends its size. */
static int read_count(const struct node *node)
{
    return node->op == OP_CROP ? 1 : node->input_count;
}

static bool count_uses(struct plan *plan, struct uses *uses)
{
    const struct graph *graph = plan->graph;
    size_t nodes = (size_t)graph->node_count;

    uses->count = arena_allocate_array(&plan->arena, nodes, sizeof *uses->count);
    uses->consumer = arena_allocate_array(&plan->arena, nodes, sizeof *uses->consumer);
    uses->needed = arena_allocate_array(&plan->arena, nodes, sizeof *uses->needed);
    uses->tail = arena_allocate_array(&plan->arena, nodes, sizeof *uses->tail);
    uses->swallowed = arena_allocate_array(&plan->arena, nodes, sizeof *uses->swallowed);
    if (!uses->count || !uses->consumer || !uses->needed || !uses->tail || !uses->swallowed)
        return false;
    for (int v = 0; v < graph->node_count; v++) {
        uses->consumer[v] = NO_VALUE;
        uses->tail[v] = v;
    }
    for (int i = 0; i < plan->output_count; i++) {
        uses->needed[plan->outputs[i]] = true;
        uses->count[plan->outputs[i]]++;
    }
    for (int v = graph->node_count - 1; v >= 0; v--) {
        const struct node *node = &graph->nodes[v];
        if (!uses->needed[v])
            continue;
        for (int i = 0; i < read_count(node); i++) {
            value in = node->inputs[i];
            uses->needed[in] = true;
            uses->count[in]++;
            if (uses->consumer[in] == NO_VALUE)
                uses->consumer[in] = v;
        }
    }
    return true;
}

static bool is_output(const struct plan *plan, value v)
{
    for (int i = 0; i < plan->output_count; i++)
        if (plan->outputs[i] == v)
            return true;
    return false;
}

/* The node that alone reads v, if it has that op; else NO_VALUE. */
static value sole_consumer(const struct plan *plan, const struct uses *uses, value v, enum op op)
{
    if (uses->count[v] != 1 || is_output(plan, v) || uses->consumer[v] == NO_VALUE)
        return NO_VALUE;
    return plan->graph->nodes[uses->consumer[v]].op == op ? uses->consumer[v] : NO_VALUE;
}

/* Fuses what follows the convolution `conv`; the result's add, if any, is marked as swallowed for all other convolutions. */
static void fuse(const struct plan *plan, struct uses *uses, value conv, struct step *step)
{
    const struct graph *graph = plan->graph;
    value v = conv, next;

    if ((next = sole_consumer(plan, uses, v, OP_BATCH_NORM)) != NO_VALUE) {
        step->batch_norm_node = next;
        v = next;
        uses->swallowed[v] = true;
    }
    next = sole_consumer(plan, uses, v, OP_ADD);
    if (next != NO_VALUE && !uses->swallowed[next] && graph->nodes[next].inputs[0] != graph->nodes[next].inputs[1]) {
        const value *operands = graph->nodes[next].inputs;
        step->residual = operands[0] == v ? operands[1] : operands[0];
        v = next;
        uses->swallowed[v] = true;
    }
    if ((next = sole_consumer(plan, uses, v, OP_RELU)) != NO_VALUE) {
        step->relu = true;
        v = next;
        uses->swallowed[v] = true;
    }
    uses->tail[conv] = v;
    step->out = v;
}

/* What an upsampling would write and a crop then drop, it does not compute. */
static void fuse_crop(const struct plan *plan, struct uses *uses, value upsampling, struct step *step)
{
    value crop = sole_consumer(plan, uses, upsampling, OP_CROP);

    if (crop == NO_VALUE)
        return;
    uses->swallowed[crop] = true;
    uses->tail[upsampling] = crop;
    step->out = crop;
}

static bool takes_over(const struct plan *plan, const struct node *node)
{
    return !plan->options.reference && (node->op == OP_CONV2D || node->op == OP_TRANSPOSED_CONV2D);
}

static struct step new_step(const struct plan *plan, value v)
{
    const struct node *node = &plan->graph->nodes[v];
    return (struct step){
        .op = node->op,
        .name = node->name,
        .out = v,
        .out_place = {-1, 0},
        .channels = node->channels,
        .residual = NO_VALUE,
        .conv_node = node->op == OP_CONV2D || node->op == OP_TRANSPOSED_CONV2D ? v : NO_VALUE,
        .batch_norm_node = node->op == OP_BATCH_NORM ? v : NO_VALUE,
    };
}

/* The parts of a concatenation, nested ones included; false if there are more than a convolution can read. */
static bool flatten(const struct graph *graph, value v, struct step *step)
{
    const struct node *node = &graph->nodes[v];

    if (node->op == OP_CONCAT) {
        for (int i = 0; i < node->input_count; i++)
            if (!flatten(graph, node->inputs[i], step))
                return false;
        return true;
    }
    if (step->input_count == CONV_MAX_SOURCES)
        return false;
    step->inputs[step->input_count++] = (struct operand){.value = v, .channels = node->channels};
    return true;
}

/* A concatenation needs memory if it is an output, or if anything but a convolution with few enough sources reads it. */
static bool concat_needs_memory(const struct plan *plan, const struct uses *uses, value concat)
{
    const struct graph *graph = plan->graph;

    if (plan->options.reference || is_output(plan, concat))
        return true;
    for (int v = concat + 1; v < graph->node_count; v++) {
        const struct node *node = &graph->nodes[v];
        for (int i = 0; uses->needed[v] && i < read_count(node); i++) {
            struct step sources = {.input_count = 0};
            if (node->inputs[i] == concat && (node->op != OP_CONV2D || !flatten(graph, concat, &sources)))
                return true;
        }
    }
    return false;
}

/* One step per part of the concatenation; locate.c drops those whose part can be written in place. */
static void lower_concat(struct plan *plan, value concat)
{
    const struct node *node = &plan->graph->nodes[concat];

    for (int i = 0; i < node->input_count; i++) {
        struct step *step = &plan->steps[plan->step_count++];
        *step = new_step(plan, concat);
        step->channels = plan->graph->nodes[node->inputs[i]].channels;
        step->inputs[step->input_count++] = (struct operand){.value = node->inputs[i], .channels = step->channels};
    }
}

static void lower_node(struct plan *plan, const struct uses *uses, const struct step *fused, value v)
{
    const struct graph *graph = plan->graph;
    const struct node *node = &graph->nodes[v];
    bool reference = plan->options.reference;

    if (node->op == OP_INPUT || (node->op == OP_SLICE && !reference))
        return;
    if (node->op == OP_CONCAT) {
        if (concat_needs_memory(plan, uses, v))
            lower_concat(plan, v);
        return;
    }
    struct step *step = &plan->steps[plan->step_count++];
    *step = takes_over(plan, node) ? *fused : new_step(plan, v);
    for (int i = 0; i < read_count(node); i++) {
        value in = node->inputs[i];
        bool parts = node->op == OP_CONV2D && graph->nodes[in].op == OP_CONCAT && !concat_needs_memory(plan, uses, in);
        if (parts)
            flatten(graph, in, step);
        else
            step->inputs[step->input_count++] = (struct operand){.value = in, .channels = graph->nodes[in].channels};
    }
}

dla_status plan_lower(struct plan *plan)
{
    const struct graph *graph = plan->graph;
    struct uses uses = {0};
    size_t capacity = 0;

    for (int v = 0; v < graph->node_count; v++)
        capacity += graph->nodes[v].op == OP_CONCAT ? (size_t)graph->nodes[v].input_count : 1;
    struct step *fused = arena_allocate_array(&plan->arena, (size_t)graph->node_count, sizeof *fused); /* per convolution */
    value *starts_at = arena_allocate_array(&plan->arena, (size_t)graph->node_count, sizeof *starts_at);
    plan->steps = arena_allocate_array(&plan->arena, capacity, sizeof *plan->steps);
    if (!fused || !starts_at || !plan->steps || !count_uses(plan, &uses))
        return status_out_of_memory(capacity * sizeof *plan->steps, "the steps of a plan");

    /* Later convolutions choose first: see the head. A step runs where its last node stands, when its residual is complete. */
    for (int v = 0; v < graph->node_count; v++)
        starts_at[v] = v;
    for (int v = graph->node_count - 1; v >= 0; v--)
        if (takes_over(plan, &graph->nodes[v]) && uses.needed[v]) {
            fused[v] = new_step(plan, v);
            (graph->nodes[v].op == OP_CONV2D ? fuse : fuse_crop)(plan, &uses, v, &fused[v]);
            starts_at[uses.tail[v]] = v;
            uses.swallowed[v] = uses.tail[v] != v;
        }
    for (int v = 0; v < graph->node_count; v++)
        if (uses.needed[v] && (!uses.swallowed[v] || starts_at[v] != v))
            lower_node(plan, &uses, &fused[starts_at[v]], starts_at[v]);
    return DLA_OK;
}
