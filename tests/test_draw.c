/* test_draw.c - drawings: well-formed XML, every block and aggregation node there once, and nothing on top of anything else. */
#include "base/file.h"
#include "export/draw_layout.h"

#include "weights_check.h"

#include <math.h>

static char path[600];

static char *draw(const dla_architecture *architecture, dla_network **network)
{
    char *text = NULL;
    size_t length;

    assert_ok(dla_network_create(architecture, network));
    assert_ok(dla_network_draw_svg(*network, path));
    assert_ok(file_read_text(path, 16 * 1024 * 1024, &text, &length));
    assert_int_equal(strlen(text), length);
    return text;
}

/* ---- well-formed XML, as far as the drawings use it: a declaration, elements, attributes in double quotes, text ---- */

static const char *skip_attributes(const char *at)
{
    for (;;) {
        at += strspn(at, " \n");
        if (*at == '>' || *at == '/')
            return at;
        size_t name = strcspn(at, "= \n\"<>");
        assert_true(name > 0 && at[name] == '=' && at[name + 1] == '"');
        at += name + 2;
        size_t content = strcspn(at, "\"<&");
        assert_int_equal(at[content], '"');
        at += content + 1;
    }
}

static void check_xml(const char *text)
{
    enum { MAX_DEPTH = 16 };
    static const char declaration[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    const char *open[MAX_DEPTH] = {NULL}, *at = text + strlen(declaration);
    int depth = 0, roots = 0;

    assert_int_equal(strncmp(text, declaration, strlen(declaration)), 0);
    while (*at != '\0') {
        if (*at != '<') {
            assert_true(*at != '&' && *at != '>');
            assert_true(depth > 0 || *at == '\n');
            at++;
            continue;
        }
        bool closing = at[1] == '/';
        const char *name = at + 1 + closing;
        size_t length = strcspn(name, " \n/>");
        assert_true(length > 0);
        if (closing) {
            assert_true(depth > 0);
            depth--;
            assert_int_equal(strncmp(open[depth], name, length), 0);
            at = name + length;
            assert_int_equal(*at++, '>');
            continue;
        }
        roots += depth == 0;
        at = skip_attributes(name + length);
        if (*at == '/') {
            at++;
        } else {
            assert_true(depth < MAX_DEPTH);
            open[depth++] = name;
        }
        assert_int_equal(*at++, '>');
    }
    assert_int_equal(depth, 0);
    assert_int_equal(roots, 1);
}

/* ---- what must stand in it ---- */

static int count(const char *text, const char *part)
{
    int found = 0;
    while ((text = strstr(text, part)) != NULL) {
        found++;
        text++;
    }
    return found;
}

/* Every box once under its id, aggregation nodes with the number of maps that they join, an edge per map. */
static void check_boxes(const char *text, const struct graph *graph)
{
    int hierarchical_and_iterative = 0;

    for (int i = 0; i < graph->part_count; i++) {
        const struct part *part = &graph->parts[i];
        char expected[160];

        if (part->kind == PART_UPSAMPLING)
            continue;
        snprintf(expected, sizeof(expected), "<g id=\"%s\">", part->name);
        assert_int_equal(count(text, expected), 1);
        if (part->kind == PART_AGGREGATION) {
            int maps = graph->nodes[part->first].input_count;
            snprintf(expected, sizeof(expected), "<title>%s: joins %d maps", part->name, maps);
            assert_int_equal(count(text, expected), 1);
            hierarchical_and_iterative += maps;
        }
    }
    /* the legend has one of each; a map that waits for the columns of iterative nodes has a second piece of line */
    int edges = count(text, "<path class=\"hda\"") + count(text, "<path class=\"ida\"") - 2;
    assert_in_range(edges, hierarchical_and_iterative, hierarchical_and_iterative + DLA_LEVEL_COUNT);
    assert_int_equal(count(text, ">level "), DLA_LEVEL_COUNT);
    assert_int_equal(count(text, "nan"), 0);
    assert_int_equal(count(text, "inf"), 0);
}

/* No two boxes touch, and all stand within the rows. */
static void check_layout(const dla_network *network)
{
    struct layout layout;

    assert_ok(layout_create(network, &layout));
    for (int i = 0; i < network->graph.part_count; i++) {
        const struct drawn_part *a = &layout.parts[i];
        if (a->kind == DRAWN_NOT)
            continue;
        assert_true(a->x > LABEL_WIDTH && a->x < layout.width);
        assert_true(a->y > layout.rows[a->row].top && a->y < layout.rows[a->row].bottom);
        for (int k = 0; k < i; k++) {
            const struct drawn_part *b = &layout.parts[k];
            if (b->kind != DRAWN_NOT && fabs(a->x - b->x) < BLOCK_SIZE && fabs(a->y - b->y) < BLOCK_SIZE)
                fail_msg("%s and %s overlap", network->graph.parts[i].name, network->graph.parts[k].name);
        }
    }
    layout_free(&layout);
}

static void check_drawing(const dla_architecture *architecture)
{
    dla_network *network = NULL;
    char *text = draw(architecture, &network);

    check_xml(text);
    check_boxes(text, &network->graph);
    check_layout(network);
    dla_free(text);
    dla_network_destroy(network);
}

static void every_network_is_drawn(void **state)
{
    (void)state;
    for (size_t i = 0; i < dla_architecture_count(); i++)
        check_drawing(dla_architecture_at(i));
}

static void dense_and_other_networks_are_drawn(void **state)
{
    static const int down_ratios[] = {2, 4, 8, 16}, output_strides[] = {16, 8};
    dla_architecture architecture;

    (void)state;
    assert_ok(dla_architecture_find("dla34", &architecture));
    architecture.num_classes = 0;
    check_drawing(&architecture);
    for (size_t i = 0; i < sizeof(output_strides) / sizeof(output_strides[0]); i++) {
        architecture.output_stride = output_strides[i];
        check_drawing(&architecture);
    }
    architecture.num_classes = 19;
    architecture.output_stride = 32;
    for (size_t i = 0; i < sizeof(down_ratios) / sizeof(down_ratios[0]); i++) {
        architecture.down_ratio = down_ratios[i];
        check_drawing(&architecture);
    }
    dla_architecture deepest = {
        .name = "deepest", .levels = {8, 8, 1, 8, 4, 2}, .channels = {4, 4, 4, 4, 4, 4}, .block = DLA_BLOCK_BASIC, .in_channels = 1, .output_stride = 32};
    check_drawing(&deepest);
}

/* dla34, edge by edge: what stands where and comes from where. */
static void trees_stand_as_high_as_they_are_deep(void **state)
{
    static const struct { const char *name; int row, height; } expected[] = {
        {"level2.root", 2, 1}, {"level3.tree1.root", 3, 1}, {"level3.tree2.root", 3, 2}, {"level4.tree2.root", 4, 2}, {"level5.root", 5, 1}};
    dla_architecture architecture;
    dla_network *network = NULL;
    struct layout layout;
    int found = 0;

    (void)state;
    assert_ok(dla_architecture_find("dla34", &architecture));
    assert_ok(dla_network_create(&architecture, &network));
    assert_ok(layout_create(network, &layout));
    for (int i = 0; i < network->graph.part_count; i++)
        for (size_t e = 0; e < sizeof(expected) / sizeof(expected[0]); e++)
            if (strcmp(network->graph.parts[i].name, expected[e].name) == 0) {
                assert_int_equal(layout.parts[i].row, expected[e].row);
                assert_int_equal(layout.parts[i].height, expected[e].height);
                found++;
            }
    assert_int_equal(found, 5);
    layout_free(&layout);
    dla_network_destroy(network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network_is_drawn),
        cmocka_unit_test(dense_and_other_networks_are_drawn),
        cmocka_unit_test(trees_stand_as_high_as_they_are_deep),
    };
    temporary_path(path, sizeof(path), "drawing.svg");
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failures;
}
