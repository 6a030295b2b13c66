/* edge_matching.c - the assignment problem of the boundary benchmark, solved exactly.
 *
 * Rows are the pixels of the map with fewer of them, columns those of the other; a row may take any column within the
 * largest distance, at that distance's cost, or nobody, at the outlier cost. (Every unmatched column costs an outlier as well,
 * but that is a constant less one outlier a pair, so it suffices to charge rows.)
 *
 * Rows are inserted one after the other, each along a shortest augmenting path (Jonker and Volgenant 1987): with column
 * prices v, Dijkstra over the reduced costs c(i, j) - v(j) from the new row ends at a free column, or at some row on the way
 * that becomes an outlier. Everything on the path changes hands, and the prices of the columns passed drop so that reduced
 * costs stay non-negative. After every insertion the assignment is optimal for the rows inserted, so after the last it is
 * the optimum.
 *
 * Most rows find a free column as their cheapest at once. Taking the smaller map as rows keeps the others few: a contest for
 * columns is then local. The benchmark's own solver works on the same costs with a random sample of outlier edges; its optimum
 * is this one.
 */
#include "tasks/edge_matching.h"

#include "base/memory.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNITS_PER_PIXEL = 100, OUTLIER_FACTOR = 100, NOBODY = -1 };
enum { MAX_PIXELS = 1 << 26, MAX_DISTANCE = 200 }; /* sums of costs then stay far below 2^31 */

struct neighbour { int dx, dy, cost; };

struct arc { int column, cost; };

struct row {
    int pixel;                /* position in the map */
    int arcs_end;             /* its arcs end here, and begin where the previous row's end */
    int column, cost;         /* its partner, or NOBODY, and the cost of that pair */
};

struct column {
    int pixel;
    int row;                  /* its partner, or NOBODY */
    int price;                /* v, <= 0 */
    /* of the search whose number is in `seen`: */
    int seen;
    int distance;             /* from the row that is being inserted */
    int came_from;            /* row before it on the shortest path */
    bool final;
};

struct heap_entry { int distance, column; };

struct edge_matcher {
    int height, width;
    int outlier_cost;
    struct neighbour *disc;   /* all offsets within the largest distance, cheapest first */
    int disc_size;
    int *column_at;           /* (height, width): column of a pixel, or NOBODY */
    struct row *rows;         /* as many as a map has pixels */
    struct column *columns;
    int row_count, column_count;
    struct arc *arcs;
    int arc_count, arc_capacity;
    int search;               /* number of the search under way */
    int *final_columns;       /* columns whose distance is final in this search */
    struct heap_entry *heap;
    int heap_size, heap_capacity;
};

static int compare_neighbours(const void *a, const void *b)
{
    const struct neighbour *p = a, *q = b;
    if (p->cost != q->cost)
        return p->cost < q->cost ? -1 : 1;
    if (p->dy != q->dy)
        return p->dy < q->dy ? -1 : 1;
    return (p->dx > q->dx) - (p->dx < q->dx);
}

static void list_disc(struct edge_matcher *matcher, int radius, double max_distance)
{
    for (int dy = -radius; dy <= radius; dy++)
        for (int dx = -radius; dx <= radius; dx++) {
            double squared = (double)(dx * dx + dy * dy);
            if (squared <= max_distance * max_distance)
                matcher->disc[matcher->disc_size++] = (struct neighbour){ dx, dy, (int)rint(sqrt(squared) * UNITS_PER_PIXEL) };
        }
    qsort(matcher->disc, (size_t)matcher->disc_size, sizeof *matcher->disc, compare_neighbours);
}

dla_status edge_matcher_create(int height, int width, double max_distance, struct edge_matcher **result)
{
    size_t pixels, side;
    struct edge_matcher *matcher;

    if (height < 1 || width < 1 || (int64_t)height * width > MAX_PIXELS || !(max_distance >= 0 && max_distance <= MAX_DISTANCE))
        return status_set(DLA_ERROR_ARGUMENT, "boundary maps of %dx%d with pairs up to %g pixels apart cannot be matched (at most %d pixels, %d apart)",
                          height, width, max_distance, MAX_PIXELS, MAX_DISTANCE);
    pixels = (size_t)height * (size_t)width;
    side = 2 * (size_t)ceil(max_distance) + 1;
    matcher = memory_allocate_zeroed(1, sizeof *matcher);
    if (!matcher)
        return status_out_of_memory(sizeof *matcher, "boundary matching");
    matcher->height = height;
    matcher->width = width;
    matcher->outlier_cost = (int)ceil(OUTLIER_FACTOR * max_distance * UNITS_PER_PIXEL);
    matcher->disc = memory_allocate_zeroed(side * side, sizeof *matcher->disc);
    matcher->column_at = memory_allocate_zeroed(pixels, sizeof *matcher->column_at);
    matcher->rows = memory_allocate_zeroed(pixels, sizeof *matcher->rows);
    matcher->columns = memory_allocate_zeroed(pixels, sizeof *matcher->columns);
    matcher->final_columns = memory_allocate_zeroed(pixels, sizeof *matcher->final_columns);
    if (!matcher->disc || !matcher->column_at || !matcher->rows || !matcher->columns || !matcher->final_columns) {
        edge_matcher_destroy(matcher);
        return status_out_of_memory(pixels * sizeof *matcher->columns, "boundary matching");
    }
    list_disc(matcher, (int)ceil(max_distance), max_distance);
    *result = matcher;
    return DLA_OK;
}

void edge_matcher_destroy(struct edge_matcher *matcher)
{
    if (!matcher)
        return;
    memory_free(matcher->disc);
    memory_free(matcher->column_at);
    memory_free(matcher->rows);
    memory_free(matcher->columns);
    memory_free(matcher->final_columns);
    memory_free(matcher->arcs);
    memory_free(matcher->heap);
    memory_free(matcher);
}

/* Makes room for one more element; the capacity doubles. */
static bool reserve(void **array, int *capacity, int count, size_t element_size)
{
    int larger = *capacity ? 2 * *capacity : 1 << 12;
    void *grown;

    if (count < *capacity)
        return true;
    grown = memory_resize(*array, (size_t)larger * element_size);
    if (!grown)
        return false;
    *array = grown;
    *capacity = larger;
    return true;
}

/* Rows and arcs; a pixel without any column in reach is no row: it is an outlier in every solution. */
static bool build_graph(struct edge_matcher *matcher, const uint8_t *row_map, const uint8_t *column_map)
{
    const int height = matcher->height, width = matcher->width;

    matcher->row_count = matcher->column_count = matcher->arc_count = 0;
    for (int pixel = 0; pixel < height * width; pixel++) {
        matcher->column_at[pixel] = column_map[pixel] ? matcher->column_count : NOBODY;
        if (column_map[pixel])
            matcher->columns[matcher->column_count++] = (struct column){ .pixel = pixel, .row = NOBODY };
    }
    for (int pixel = 0; pixel < height * width; pixel++) {
        int y = pixel / width, x = pixel % width, arcs_begin = matcher->arc_count;
        if (!row_map[pixel])
            continue;
        for (int i = 0; i < matcher->disc_size; i++) {
            const struct neighbour *offset = &matcher->disc[i];
            int ny = y + offset->dy, nx = x + offset->dx, column;
            if (ny < 0 || ny >= height || nx < 0 || nx >= width || (column = matcher->column_at[ny * width + nx]) == NOBODY)
                continue;
            if (!reserve((void **)&matcher->arcs, &matcher->arc_capacity, matcher->arc_count, sizeof *matcher->arcs))
                return false;
            matcher->arcs[matcher->arc_count++] = (struct arc){ column, offset->cost };
        }
        if (matcher->arc_count > arcs_begin)
            matcher->rows[matcher->row_count++] = (struct row){ .pixel = pixel, .arcs_end = matcher->arc_count, .column = NOBODY };
    }
    return true;
}

static int arcs_begin(const struct edge_matcher *matcher, int row)
{
    return row == 0 ? 0 : matcher->rows[row - 1].arcs_end;
}

static bool heap_push(struct edge_matcher *matcher, struct heap_entry entry)
{
    int hole = matcher->heap_size;

    if (!reserve((void **)&matcher->heap, &matcher->heap_capacity, matcher->heap_size, sizeof *matcher->heap))
        return false;
    matcher->heap_size++;
    while (hole > 0 && matcher->heap[(hole - 1) / 2].distance > entry.distance) {
        matcher->heap[hole] = matcher->heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    matcher->heap[hole] = entry;
    return true;
}

static struct heap_entry heap_pop(struct edge_matcher *matcher)
{
    struct heap_entry least = matcher->heap[0], last = matcher->heap[--matcher->heap_size];
    int hole = 0, size = matcher->heap_size;

    for (int child; (child = 2 * hole + 1) < size; hole = child) {
        if (child + 1 < size && matcher->heap[child + 1].distance < matcher->heap[child].distance)
            child++;
        if (matcher->heap[child].distance >= last.distance)
            break;
        matcher->heap[hole] = matcher->heap[child];
    }
    matcher->heap[hole] = last;
    return least;
}

/* Relaxes all arcs of a row that the search reaches at `distance` (reduced by the row's own price). */
static bool relax(struct edge_matcher *matcher, int row, int distance, int bound)
{
    for (int a = arcs_begin(matcher, row); a < matcher->rows[row].arcs_end; a++) {
        struct column *column = &matcher->columns[matcher->arcs[a].column];
        int through = distance + matcher->arcs[a].cost - column->price;
        if (through >= bound || (column->seen == matcher->search && (column->final || through >= column->distance)))
            continue;
        column->seen = matcher->search;
        column->final = false;
        column->distance = through;
        column->came_from = row;
        if (!heap_push(matcher, (struct heap_entry){ through, matcher->arcs[a].column }))
            return false;
    }
    return true;
}

static int arc_cost(const struct edge_matcher *matcher, int row, int column)
{
    int a = arcs_begin(matcher, row);
    while (matcher->arcs[a].column != column)
        a++;
    return matcher->arcs[a].cost;
}

/* Gives `column` to the row that reached it, that row's old column to the row before, and so on to the inserted row. */
static void augment(struct edge_matcher *matcher, int inserted, int column)
{
    int row;
    do {
        row = matcher->columns[column].came_from;
        int freed = matcher->rows[row].column;
        matcher->columns[column].row = row;
        matcher->rows[row].column = column;
        matcher->rows[row].cost = arc_cost(matcher, row, column);
        column = freed;
    } while (row != inserted);
}

/* One insertion. The path ends where the distance is least: at a free column, or at a row that becomes an outlier. */
static bool insert_row(struct edge_matcher *matcher, int inserted)
{
    int least = matcher->outlier_cost, outlier = inserted, free_column = NOBODY, final_count = 0;

    matcher->search++;
    matcher->heap_size = 0;
    if (!relax(matcher, inserted, 0, least))
        return false;
    while (matcher->heap_size > 0) {
        struct heap_entry entry = heap_pop(matcher);
        struct column *column = &matcher->columns[entry.column];
        int distance;

        if (entry.distance >= least)
            break;
        if (column->final || entry.distance > column->distance)
            continue; /* reached more cheaply since it was pushed */
        if (column->row == NOBODY) {
            least = entry.distance;
            free_column = entry.column;
            break;
        }
        column->final = true;
        matcher->final_columns[final_count++] = entry.column;
        /* Its row moves on: what the row pays now is returned. */
        distance = entry.distance - (matcher->rows[column->row].cost - column->price);
        if (distance + matcher->outlier_cost < least) {
            least = distance + matcher->outlier_cost;
            outlier = column->row;
        }
        if (!relax(matcher, column->row, distance, least))
            return false;
    }
    for (int i = 0; i < final_count; i++) {
        struct column *column = &matcher->columns[matcher->final_columns[i]];
        if (column->distance < least)
            column->price -= least - column->distance;
    }
    if (free_column != NOBODY) {
        augment(matcher, inserted, free_column);
    } else if (outlier != inserted) {
        int column = matcher->rows[outlier].column;
        matcher->rows[outlier].column = NOBODY;
        augment(matcher, inserted, column);
    }
    return true;
}

static int count_set(const uint8_t *map, int pixels)
{
    int count = 0;
    for (int i = 0; i < pixels; i++)
        count += map[i] != 0;
    return count;
}

dla_status edge_maps_match(struct edge_matcher *matcher, const uint8_t *first, const uint8_t *second, uint8_t *matched_first,
                           uint8_t *matched_second, struct edge_matching *matching)
{
    const int pixels = matcher->height * matcher->width;
    const bool swap = count_set(first, pixels) > count_set(second, pixels);
    uint8_t *matched_rows = swap ? matched_second : matched_first, *matched_columns = swap ? matched_first : matched_second;

    if (!build_graph(matcher, swap ? second : first, swap ? first : second))
        return status_out_of_memory((size_t)matcher->arc_capacity * 2 * sizeof *matcher->arcs, "boundary matching");
    for (int row = 0; row < matcher->row_count; row++)
        if (!insert_row(matcher, row))
            return status_out_of_memory((size_t)matcher->heap_capacity * 2 * sizeof *matcher->heap, "boundary matching");
    if (matched_rows)
        memset(matched_rows, 0, (size_t)pixels);
    if (matched_columns)
        memset(matched_columns, 0, (size_t)pixels);
    if (matching)
        *matching = (struct edge_matching){ 0, 0 };
    for (int row = 0; row < matcher->row_count; row++) {
        if (matcher->rows[row].column == NOBODY)
            continue;
        if (matching) {
            matching->pairs++;
            matching->distance += matcher->rows[row].cost;
        }
        if (matched_rows)
            matched_rows[matcher->rows[row].pixel] = 1;
        if (matched_columns)
            matched_columns[matcher->columns[matcher->rows[row].column].pixel] = 1;
    }
    return DLA_OK;
}
