/* Small networks of every kind of block give timm's logits (tests/data/timm_logits.json, made by tools/make_timm_fixture.py), on
 * every instruction set that this processor has, with and without Winograd, and on the reference plan. */
#include "formula_weights.h"
#include "net/network.h"
#include "plan/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static int member(const json_t *object, const char *key)
{
    return (int)json_integer_value(json_object_get(object, key));
}

static void check_plan(const struct graph *graph, const struct bound_weights *weights, const struct plan_options *options, const json_t *logits,
                       const char *name)
{
    struct plan *plan;
    int64_t stride;
    int classes = graph->nodes[graph->output].channels;
    double largest = 0.0, worst = 0.0;

    assert_int_equal(plan_create(graph, weights, options, &graph->output, 1, &plan), DLA_OK);
    formula_input(plan_input(plan), options->batch, 3, options->height, options->width);
    plan_run(plan);
    const float *got = plan_output(plan, 0, &stride);
    assert_int_equal(json_array_size(logits), options->batch * classes);
    for (int i = 0; i < options->batch * classes; i++) {
        double expected = json_real_value(json_array_get(logits, (size_t)i));
        largest = fmax(largest, fabs(expected));
        double difference = fabs((double)got[i / classes * stride + i % classes] - expected);
        if (!(difference <= worst))
            worst = difference;
    }
    if (!(worst <= 1e-5 * largest) || largest < 0.1)
        fail_msg("%s at %d x %dx%d on %s%s%s: off by %g of %g", name, options->batch, options->height, options->width, isa_name(options->isa),
                 options->exact ? ", exact" : "", options->reference ? ", reference" : "", worst, largest);
    plan_destroy(plan);
}

static void small_networks_give_timm_logits(void **state)
{
    json_error_t error;
    json_t *cases = json_load_file(TEST_DATA "/timm_logits.json", 0, &error);
    size_t index;
    json_t *item;

    (void)state;
    assert_non_null(cases);
    assert_int_equal(json_array_size(cases), 15);
    json_array_foreach(cases, index, item) {
        char *config = json_dumps(json_object_get(item, "config"), 0);
        dla_architecture architecture;
        dla_network *network = NULL;
        assert_non_null(config);
        if (dla_architecture_parse_config(config, strlen(config), "fixture", &architecture) != DLA_OK
            || dla_network_create(&architecture, &network) != DLA_OK)
            fail_msg("%s", dla_error_message());
        free(config);
        struct bound_weights weights = formula_weights_create(&network->graph);
        struct plan_options options = {
            .batch = member(item, "batch"), .height = member(item, "height"), .width = member(item, "width"), .threads = 2};
        const json_t *logits = json_object_get(item, "logits");
        for (int isa = 0; isa < ISA_COUNT; isa++)
            for (int exact = 0; exact < 2 && isa_is_available((enum isa)isa); exact++) {
                options.isa = (enum isa)isa;
                options.exact = exact;
                check_plan(&network->graph, &weights, &options, logits, architecture.name);
            }
        options.isa = ISA_GENERIC;
        options.reference = true;
        check_plan(&network->graph, &weights, &options, logits, architecture.name);
        formula_weights_free(&weights);
        dla_network_destroy(network);
    }
    json_decref(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(small_networks_give_timm_logits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
