/* place.c - offsets for blocks of memory by lifetime.
 *
 * Two blocks may share bytes if no step needs both. Finding the smallest total is hard in general; large blocks first, each at
 * the lowest offset where it fits between its contemporaries, usually meets the bound (the most bytes alive at one step).
 * Where that order wastes something, the order of birth may not, so both are tried.
 */
#include "plan/steps.h"

#include <stdlib.h>

static bool overlap_in_time(const struct block *a, const struct block *b)
{
    return a->first_step <= b->last_step && b->first_step <= a->last_step;
}

/* The lowest offset at which `block` overlaps none of its contemporaries among order[0 .. placed-1]. */
static size_t lowest_offset(const struct block *blocks, const int *order, int placed, const struct block *block)
{
    size_t offset = 0;
    bool moved = true;

    while (moved) {
        moved = false;
        for (int i = 0; i < placed; i++) {
            const struct block *other = &blocks[order[i]];
            if (overlap_in_time(other, block) && other->offset < offset + block->bytes && offset < other->offset + other->bytes) {
                offset = other->offset + other->bytes;
                moved = true;
            }
        }
    }
    return offset;
}

static size_t place_in_order(struct block *blocks, const int *order, int block_count)
{
    size_t total = 0;

    for (int i = 0; i < block_count; i++) {
        struct block *block = &blocks[order[i]];
        block->offset = lowest_offset(blocks, order, i, block);
        if (total < block->offset + block->bytes)
            total = block->offset + block->bytes;
    }
    return total;
}

static void sort(const struct block *blocks, int *order, int block_count, bool by_size)
{
    for (int i = 1; i < block_count; i++)
        for (int k = i; k > 0; k--) {
            const struct block *a = &blocks[order[k - 1]], *b = &blocks[order[k]];
            if (by_size ? a->bytes >= b->bytes : a->first_step <= b->first_step)
                break;
            int swapped = order[k];
            order[k] = order[k - 1];
            order[k - 1] = swapped;
        }
}

static size_t most_alive(const struct block *blocks, int block_count)
{
    size_t most = 0;

    for (int i = 0; i < block_count; i++) { /* the maximum is reached where some block is born */
        size_t alive = 0;
        for (int k = 0; k < block_count; k++)
            if (blocks[k].first_step <= blocks[i].first_step && blocks[i].first_step <= blocks[k].last_step)
                alive += blocks[k].bytes;
        if (most < alive)
            most = alive;
    }
    return most;
}

size_t place_blocks(struct block *blocks, int *order, int block_count, size_t *bound)
{
    for (int i = 0; i < block_count; i++)
        order[i] = i;
    *bound = most_alive(blocks, block_count);
    sort(blocks, order, block_count, false);
    size_t by_birth = place_in_order(blocks, order, block_count);
    sort(blocks, order, block_count, true);
    size_t by_size = place_in_order(blocks, order, block_count);
    if (by_birth < by_size) {
        sort(blocks, order, block_count, false);
        return place_in_order(blocks, order, block_count);
    }
    return by_size;
}
