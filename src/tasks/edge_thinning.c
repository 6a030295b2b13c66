/* edge_thinning.c - parallel thinning in two alternating passes.
 *
 * Lam, Lee and Suen, "Thinning methodologies - a comprehensive survey" (PAMI 1992), page 879, the variant of Guo and Hall.
 * With neighbours x1..x8 counted from the east against the clock (x9 = x1), a pixel goes when
 *
 *     G1: b1 + b2 + b3 + b4 = 1,  b_i = not x_2i-1 and (x_2i or x_2i+1)              one connected arc of neighbours
 *     G2: 2 <= min(n1, n2) <= 3,  n1 = sum (x_2k-1 or x_2k),  n2 = sum (x_2k or x_2k+1)   neither an end nor inside
 *     G3: first pass:  (x2 or x3 or not x8) and x1  is false                          south-eastern side
 *         second pass: (x6 or x7 or not x4) and x5  is false                          north-western side
 *
 * All pixels of a pass are judged on the map as it was before that pass. The eight neighbours index a table of 256 answers
 * for each pass; only pixels that are set are visited, in a list that shrinks.
 */
#include "tasks/edge_thinning.h"

#include "base/memory.h"
#include "base/status.h"

#include <string.h>

enum { NEIGHBOURHOODS = 256 };

static bool is_removable(unsigned neighbours, bool second_pass)
{
    bool x[10];
    int arcs = 0, n1 = 0, n2 = 0, smaller;

    for (int i = 1; i <= 8; i++)
        x[i] = neighbours >> (i - 1) & 1;
    x[9] = x[1];
    for (int i = 1; i <= 4; i++) {
        arcs += !x[2 * i - 1] && (x[2 * i] || x[2 * i + 1]);
        n1 += x[2 * i - 1] || x[2 * i];
        n2 += x[2 * i] || x[2 * i + 1];
    }
    smaller = n1 < n2 ? n1 : n2;
    if (arcs != 1 || smaller < 2 || smaller > 3)
        return false;
    return second_pass ? !((x[6] || x[7] || !x[4]) && x[5]) : !((x[2] || x[3] || !x[8]) && x[1]);
}

/* framed: the map with a frame of zeros; offsets of x1..x8 from a pixel in it. */
static unsigned neighbours_of(const uint8_t *pixel, const ptrdiff_t offsets[8])
{
    unsigned code = 0;
    for (int i = 0; i < 8; i++)
        code |= (unsigned)pixel[offsets[i]] << i;
    return code;
}

dla_status edge_map_thin(uint8_t *map, int height, int width)
{
    const size_t stride = (size_t)width + 2, framed_size = stride * ((size_t)height + 2);
    const ptrdiff_t row = (ptrdiff_t)stride;
    const ptrdiff_t offsets[8] = { 1, 1 - row, -row, -1 - row, -1, row - 1, row, row + 1 };
    bool removable[2][NEIGHBOURHOODS];
    uint8_t *framed = memory_allocate_zeroed(framed_size, 1);
    uint32_t *set = memory_allocate(sizeof *set * (size_t)height * (size_t)width);     /* positions in framed that are still 1 */
    uint32_t *removed = memory_allocate(sizeof *removed * (size_t)height * (size_t)width);
    size_t set_count = 0, removed_count;
    dla_status status = DLA_OK;

    if (!framed || !set || !removed) {
        status = status_out_of_memory(framed_size, "thinning a map");
        goto out;
    }
    for (unsigned code = 0; code < NEIGHBOURHOODS; code++)
        for (int pass = 0; pass < 2; pass++)
            removable[pass][code] = is_removable(code, pass == 1);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            if (map[(size_t)y * (size_t)width + (size_t)x]) {
                size_t position = ((size_t)y + 1) * stride + (size_t)x + 1;
                framed[position] = 1;
                set[set_count++] = (uint32_t)position;
            }
    do {
        removed_count = 0;
        for (int pass = 0; pass < 2; pass++) {
            size_t kept = 0, first_of_pass = removed_count;
            for (size_t i = 0; i < set_count; i++)
                if (removable[pass][neighbours_of(framed + set[i], offsets)])
                    removed[removed_count++] = set[i];
                else
                    set[kept++] = set[i];
            set_count = kept;
            for (size_t i = first_of_pass; i < removed_count; i++)
                framed[removed[i]] = 0;
        }
    } while (removed_count > 0);
    for (int y = 0; y < height; y++)
        memcpy(map + (size_t)y * (size_t)width, framed + ((size_t)y + 1) * stride + 1, (size_t)width);
out:
    memory_free(framed);
    memory_free(set);
    memory_free(removed);
    return status;
}
