/* bench_tiles.c - what a product of tiles takes on Intel's matrix unit (AMX), by how many of its eight tiles a thread uses.
 *
 *     bench_tiles [ROUNDS]
 *
 * Every round runs each pattern for some milliseconds; the shortest round and the quartiles of all are printed, in nanoseconds a product.
 * Where the core's other hardware thread is busy for part of the time, the shortest tells of a core alone and the upper quartile
 * of a shared one: loads and products then get in each other's way, the more so the more tiles are in use
 * (src/cpu/isa/amx_digits.h).
 */
#include "base/clock.h"
#include "base/cpu_features.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#if DLA_HAVE_AMX

#include "cpu/isa/tile_configuration.h"

#include <immintrin.h>

enum {
    PRODUCTS = 12 /* of a pass */,
    PASSES = 100,
    MAX_ROUNDS = 1000,
    ROW_BYTES = TILE_ROW_BYTES,
    TILE_ROWS = 16,
    TILE_BYTES = TILE_ROWS * ROW_BYTES
};

static const double round_ms = 3.0;

static _Alignas(64) char operands[32 * TILE_BYTES];

/* A product that adds to tile `sums`, of tiles 6 and 7; before it, tile 6 or 7 is loaded. */
#define MULTIPLY(sums) _tile_dpbssd(sums, 6, 7);
#define LOAD_LEFT(index) _tile_loadd(6, operands + (index)*TILE_BYTES, ROW_BYTES);
#define LOAD_RIGHT(index) _tile_loadd(7, operands + (index)*TILE_BYTES, ROW_BYTES);
#define BOTH(index, sums) LOAD_LEFT(index) MULTIPLY(sums)
#define RIGHT_AND(index, sums) LOAD_RIGHT(index) MULTIPLY(sums)
#define SIX(one, a, b, c, d, e, f) one(a) one(b) one(c) one(d) one(e) one(f)
#define SIX_LOADED(a, b, c, d, e, f) BOTH(0, a) BOTH(1, b) BOTH(2, c) BOTH(3, d) BOTH(4, e) BOTH(5, f)

/* One pass of each pattern. */
#define PATTERN(name, pass)                                                                                                                \
    USES_TILES static void name(void)                                                                                                      \
    {                                                                                                                                      \
        for (int i = 0; i < PASSES; i++) {                                                                                                 \
            pass                                                                                                                           \
        }                                                                                                                                  \
    }
PATTERN(alone, SIX(MULTIPLY, 0, 1, 2, 3, 4, 5) SIX(MULTIPLY, 0, 1, 2, 3, 4, 5))
PATTERN(three, SIX_LOADED(0, 0, 0, 0, 0, 0) SIX_LOADED(0, 0, 0, 0, 0, 0))
PATTERN(four, SIX_LOADED(0, 1, 0, 1, 0, 1) SIX_LOADED(0, 1, 0, 1, 0, 1))
PATTERN(five, SIX_LOADED(0, 1, 2, 0, 1, 2) SIX_LOADED(0, 1, 2, 0, 1, 2))
PATTERN(six, SIX_LOADED(0, 1, 2, 3, 0, 1) SIX_LOADED(2, 3, 0, 1, 2, 3))
PATTERN(eight, SIX_LOADED(0, 1, 2, 3, 4, 5) SIX_LOADED(0, 1, 2, 3, 4, 5))
/* Digits: 16 x 32 results, sums in six tiles; and two blocks of 16 x 16, sums in three, the first digits on the left in tile 5. */
PATTERN(digits_16x32, LOAD_LEFT(1) RIGHT_AND(5, 4) RIGHT_AND(6, 5) RIGHT_AND(3, 2) RIGHT_AND(4, 3) LOAD_LEFT(2) MULTIPLY(5) RIGHT_AND(3, 4)
                          LOAD_LEFT(0) RIGHT_AND(5, 2) RIGHT_AND(6, 3) RIGHT_AND(7, 4) RIGHT_AND(8, 5) RIGHT_AND(3, 0) RIGHT_AND(4, 1))
#define DIGITS_16X16(at)                                                                                                                   \
    LOAD_RIGHT(at)                                                                                                                         \
    BOTH((at) + 3, 2)                                                                                                                      \
    BOTH((at) + 4, 1)                                                                                                                      \
    _tile_loadd(5, operands + ((at) + 5) * TILE_BYTES, ROW_BYTES);                                                                         \
    _tile_dpbssd(0, 5, 7);                                                                                                                 \
    RIGHT_AND((at) + 1, 2)                                                                                                                 \
    _tile_dpbssd(1, 5, 7);                                                                                                                 \
    LOAD_RIGHT((at) + 2)                                                                                                                   \
    _tile_dpbssd(2, 5, 7);
PATTERN(digits_16x16, DIGITS_16X16(0) DIGITS_16X16(6))

static const struct {
    const char *name;
    void (*run)(void);
} patterns[] = {
    {"products alone, eight tiles", alone},
    {"a load with each, three tiles", three},
    {"a load with each, four", four},
    {"a load with each, five", five},
    {"a load with each, six", six},
    {"a load with each, eight", eight},
    {"digits, 16 x 32, eight tiles", digits_16x32},
    {"digits, 16 x 16, six tiles", digits_16x16},
};

enum { PATTERNS = sizeof patterns / sizeof patterns[0] };

/* A pattern starts with tiles that nobody has used. */
USES_TILES static double nanoseconds(void (*run)(void))
{
    static const uint8_t rows[MOST_TILES] = {TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS};
    double begin, ms;
    int64_t products = 0;

    configure_tiles(MOST_TILES, rows);
    begin = clock_milliseconds();
    do {
        run();
        products += PASSES * PRODUCTS;
        ms = clock_milliseconds() - begin;
    } while (ms < round_ms);
    _tile_release();
    return ms * 1e6 / (double)products;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(int rounds)
{
    static double times[PATTERNS][MAX_ROUNDS];

    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < PATTERNS; i++)
            times[i][round] = nanoseconds(patterns[i].run);
    printf("%-32s %8s %8s %8s %8s  ns a product\n", "", "shortest", "quarter", "median", "3/4");
    for (int i = 0; i < PATTERNS; i++) {
        qsort(times[i], (size_t)rounds, sizeof(double), by_value);
        printf("%-32s %8.1f %8.1f %8.1f %8.1f\n", patterns[i].name, times[i][0], times[i][rounds / 4], times[i][rounds / 2],
               times[i][rounds * 3 / 4]);
    }
}

int main(int argc, char **argv)
{
    char *end = "";
    long rounds = argc > 1 ? strtol(argv[1], &end, 10) : 200;

    if (*end != '\0' || rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "bench_tiles: '%s' is no number of rounds from 1 to %d\n", argv[1], MAX_ROUNDS);
        return 2;
    }
    if (!isa_is_available(ISA_AMX)) {
        fprintf(stderr, "bench_tiles: this processor has no AMX\n");
        return 1;
    }
    measure((int)rounds);
    return 0;
}

#else

int main(void)
{
    fprintf(stderr, "bench_tiles: built for a processor without AMX\n");
    return 1;
}

#endif
