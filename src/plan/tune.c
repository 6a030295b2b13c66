/* tune.c - which kernel runs a convolution.
 *
 * Every kernel estimates its cost, and the cheapest is the choice that needs nothing but arithmetic. Estimates do not know this
 * machine, so kernels whose estimate is within CLOSE of the cheapest are measured where that is asked for, and the times are
 * remembered (kernel_times.h). Remembered times overrule estimates only as far as they are certain: another kernel must have
 * been MARGIN faster than the one that the estimates choose, and both must have been measured.
 *
 * A measurement runs the candidates in turns, so that a disturbance hits all of them, and takes the median of each: what is fastest
 * in the quiet moments of a shared core need not be so in its ordinary ones. Every run reads another copy of the weights, which
 * together exceed the caches of a core, because in a network the weights have not been used since the last pass; the maps are
 * where the step before has just written them.
 */
#include "plan/tune.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"

#include <string.h>

enum {
    MAX_CANDIDATES = 8,
    MIN_ROUNDS = 5,
    MAX_ROUNDS = 200,
    MAX_COPIES = 16,
    COLD_BYTES = 16 << 20, /* of weight copies, a candidate */
    ALIGNMENT = 64
};

static const double close_to_best = 4.0;   /* CLOSE: estimates are seldom off by more */
static const double margin = 0.95;         /* MARGIN: repeated measurements differ by some 3 % */
static const double round_limit_ms = 30.0; /* of all rounds of a shape, but for MIN_ROUNDS */

static bool is_allowed(const struct plan_options *options, const struct conv_kernel *kernel, const struct conv_shape *shape)
{
    return !(kernel->winograd && options->exact) && (!kernel->half || (options->half_weights && !options->exact))
           && kernel->supports(shape);
}

/* The allowed kernels whose estimate is near the cheapest's, which comes first. */
static int list_candidates(const struct plan_options *options, const struct conv_shape *shape, const struct conv_kernel **candidates)
{
    int kernel_count, count = 1;
    const struct conv_kernel *const *kernels = conv_kernels(options->isa, &kernel_count), *best = &conv_reference;

    for (int i = 0; i < kernel_count; i++)
        if (is_allowed(options, kernels[i], shape) && kernels[i]->cost(shape, options->threads) < best->cost(shape, options->threads))
            best = kernels[i];
    candidates[0] = best;
    for (int i = 0; i < kernel_count && count < MAX_CANDIDATES; i++)
        if (kernels[i] != best && kernels[i] != &conv_reference && is_allowed(options, kernels[i], shape)
            && kernels[i]->cost(shape, options->threads) < close_to_best * best->cost(shape, options->threads))
            candidates[count++] = kernels[i];
    return count;
}

/* ---- measuring --------------------------------------------------------------------------------------------------------- */

struct candidate {
    const struct conv_kernel *kernel;
    char *packed; /* (copies, packed_bytes) */
    size_t packed_bytes;
    int copies;
    double times[MAX_ROUNDS]; /* ms, sorted as they come */
};

/* Memory that all candidates of a shape share: maps, bias, scratch. */
struct workbench {
    struct conv_call call;
    float *maps;
    char *scratch;
};

static size_t align_up(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Zeros are as fast as other numbers. */
static void *allocate_zeroed(size_t size)
{
    void *memory = memory_allocate_aligned(ALIGNMENT, align_up(size));
    if (memory != NULL)
        memset(memory, 0, align_up(size));
    return memory;
}

/* Of a map as the planner lays it out, rounded up so that the next one begins on a cache line. */
static size_t map_floats(int rows, int width, int channels)
{
    enum { LINE_FLOATS = ALIGNMENT / sizeof(float) };
    size_t floats = (size_t)rows * (size_t)width * (size_t)map_stride(channels);
    return (floats + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
}

static dla_status prepare_candidate(const struct conv_kernel *kernel, const struct conv_shape *s, struct candidate *candidate)
{
    size_t weights = (size_t)s->out_channels * (size_t)(s->in_channels / s->groups) * (size_t)s->kernel * (size_t)s->kernel;
    size_t packed_bytes = align_up(kernel->packed_bytes(s));
    int copies = (int)(COLD_BYTES / packed_bytes) + 1 < MAX_COPIES ? (int)(COLD_BYTES / packed_bytes) + 1 : MAX_COPIES;
    float *plain = allocate_zeroed((weights + (size_t)s->out_channels) * sizeof(float)); /* and the scales */

    *candidate = (struct candidate){
        .kernel = kernel,
        .packed_bytes = packed_bytes,
        .copies = copies,
        .packed = allocate_zeroed(packed_bytes * (size_t)copies),
    };
    if (plain == NULL || candidate->packed == NULL) {
        memory_free(plain);
        return status_out_of_memory(packed_bytes * (size_t)copies, "measuring a kernel");
    }
    kernel->pack(s, plain, plain + weights, candidate->packed);
    for (int i = 1; i < copies; i++)
        memcpy(candidate->packed + (size_t)i * packed_bytes, candidate->packed, packed_bytes);
    memory_free(plain);
    return DLA_OK;
}

static dla_status prepare_workbench(const struct conv_shape *s, const struct candidate *candidates, int count, struct thread_pool *pool,
                                    struct workbench *workbench)
{
    size_t floats = map_floats(s->batch * s->out_height, s->out_width, s->out_channels) + (size_t)s->out_channels, scratch = 0;

    for (int i = 0; i < count; i++) {
        size_t needed = candidates[i].kernel->scratch_bytes(s, thread_pool_size(pool));
        scratch = scratch < needed ? needed : scratch;
    }
    for (int i = 0; i < s->source_count; i++)
        floats += map_floats(s->batch * s->in_height, s->in_width, s->source_channels[i]);
    workbench->maps = allocate_zeroed(floats * sizeof(float));
    workbench->scratch = allocate_zeroed(scratch + 1);
    if (workbench->maps == NULL || workbench->scratch == NULL)
        return status_out_of_memory(floats * sizeof(float) + scratch, "measuring kernels");
    float *next = workbench->maps;
    workbench->call = (struct conv_call){.shape = s, .relu = true, .scratch = workbench->scratch, .pool = pool};
    for (int i = 0; i < s->source_count; i++) {
        workbench->call.sources[i] = (struct map_view){next, map_stride(s->source_channels[i])};
        next += map_floats(s->batch * s->in_height, s->in_width, s->source_channels[i]);
    }
    workbench->call.out = (struct map_view){next, map_stride(s->out_channels)};
    workbench->call.bias = next + map_floats(s->batch * s->out_height, s->out_width, s->out_channels);
    return DLA_OK;
}

static void insert_sorted(double *sorted, int count, double ms)
{
    for (; count > 0 && sorted[count - 1] > ms; count--)
        sorted[count] = sorted[count - 1];
    sorted[count] = ms;
}

/* How many rounds it were. */
static int run_rounds(struct candidate *candidates, int count, struct workbench *workbench)
{
    double begin = clock_milliseconds();
    int round = 0;

    for (; round < MAX_ROUNDS && (round < MIN_ROUNDS || clock_milliseconds() - begin < round_limit_ms); round++)
        for (int i = 0; i < count; i++) {
            struct candidate *candidate = &candidates[i];
            workbench->call.packed = candidate->packed + (size_t)(round % candidate->copies) * candidate->packed_bytes;
            double start = clock_milliseconds();
            candidate->kernel->run(&workbench->call);
            insert_sorted(candidate->times, round, clock_milliseconds() - start);
        }
    return round;
}

static dla_status measure(const struct conv_kernel *const *kernels, int count, const struct conv_shape *shape, struct thread_pool *pool,
                          struct kernel_times *times)
{
    struct candidate candidates[MAX_CANDIDATES] = {0};
    struct workbench workbench = {.maps = NULL};
    dla_status status = DLA_OK;

    for (int i = 0; i < count && status == DLA_OK; i++)
        status = prepare_candidate(kernels[i], shape, &candidates[i]);
    if (status == DLA_OK && (status = prepare_workbench(shape, candidates, count, pool, &workbench)) == DLA_OK) {
        int rounds = run_rounds(candidates, count, &workbench);
        for (int i = 0; i < count && status == DLA_OK; i++)
            status = kernel_times_set(times, kernels[i]->name, thread_pool_size(pool), shape, 1e3 * candidates[i].times[rounds / 2]);
    }
    for (int i = 0; i < count; i++)
        memory_free(candidates[i].packed);
    memory_free(workbench.maps);
    memory_free(workbench.scratch);
    return status;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------------- */

static bool all_are_measured(const struct conv_kernel *const *kernels, int count, const struct conv_shape *shape, int threads,
                             const struct kernel_times *times)
{
    for (int i = 0; i < count; i++)
        if (kernel_times_find(times, kernels[i]->name, threads, shape) == 0.0)
            return false;
    return true;
}

dla_status choose_kernel(const struct plan_options *options, struct thread_pool *pool, const struct conv_shape *shape,
                         struct kernel_times *times, const struct conv_kernel **chosen)
{
    const struct conv_kernel *candidates[MAX_CANDIDATES];
    int count = list_candidates(options, shape, candidates);
    bool measures = options->tune == DLA_TUNE_ALWAYS
                    || (options->tune == DLA_TUNE_MISSING && !all_are_measured(candidates, count, shape, options->threads, times));

    *chosen = candidates[0];
    if (count == 1 || options->tune == DLA_TUNE_NEVER)
        return DLA_OK;
    dla_status status = measures ? measure(candidates, count, shape, pool, times) : DLA_OK;
    double best = margin * kernel_times_find(times, candidates[0]->name, options->threads, shape);
    for (int i = 1; i < count; i++) {
        double microseconds = kernel_times_find(times, candidates[i]->name, options->threads, shape);
        if (microseconds > 0.0 && microseconds < best) {
            best = microseconds;
            *chosen = candidates[i];
        }
    }
    return status;
}
