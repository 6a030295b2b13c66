/* Photographs are found in folders, and come out of the stream in order, whatever the number of decoders. */
#include "tasks/photo_stream.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PHOTOS SOURCE_ROOT "/examples/photos/"

static const dla_preprocessing small_input = {32, 0.875, DLA_INTERPOLATION_BILINEAR, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}};
enum { INPUT_FLOATS = 3 * 32 * 32 };

/* ---- folders ---------------------------------------------------------------------------------------------------------- */

static char root[] = "/tmp/dla_test_photos_XXXXXX";

static void path_below(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", root, name);
}

static void make_folder(const char *name)
{
    char path[256];
    path_below(path, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void make_file(const char *name)
{
    char path[256];
    path_below(path, name);
    assert_int_equal(file_write(path, "x", 1), DLA_OK);
}

static void remove_all(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r '%s'", root);
    assert_int_equal(system(command), 0);
}

static void folders_are_searched_in_order(void **state)
{
    (void)state;
    static const char *const expected[] = {"a.JPG", "b/1.jpeg", "b/deep/er/x.png", "b/z.webp", "c.Png"};
    char path[256], link[256];
    dla_path_list *list = NULL;

    assert_non_null(mkdtemp(root));
    make_folder("b");
    make_folder("b/deep");
    make_folder("b/deep/er");
    make_folder("empty.jpg"); /* a folder, whatever it is called */
    make_file("c.Png");
    make_file("a.JPG");
    make_file("b/z.webp");
    make_file("b/1.jpeg");
    make_file("b/deep/er/x.png");
    make_file("readme.txt");
    make_file("jpg");
    make_file(".hidden.jpg");
    path_below(path, "");
    path_below(link, "b/round");
    assert_int_equal(symlink(path, link), 0); /* back to the top: must end, and give nothing twice */
    path_below(link, "gone.jpg");
    assert_int_equal(symlink("/no/such/file", link), 0);

    assert_int_equal(dla_photographs_find(root, &list), DLA_OK);
    assert_int_equal(list->count, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < list->count; i++) {
        path_below(path, expected[i]);
        assert_string_equal(list->paths[i], path);
    }
    dla_path_list_destroy(list);

    path_below(path, "empty.jpg");
    assert_int_equal(dla_photographs_find(path, &list), DLA_OK);
    assert_int_equal(list->count, 0);
    dla_path_list_destroy(list);
    dla_path_list_destroy(NULL);

    path_below(path, "no_such_folder");
    list = NULL;
    assert_int_equal(dla_photographs_find(path, &list), DLA_ERROR_NOT_FOUND);
    assert_non_null(strstr(dla_error_message(), "no_such_folder"));
    assert_null(list);
    remove_all();
}

/* ---- the stream ------------------------------------------------------------------------------------------------------- */

static const char *const photographs[] = {PHOTOS "cat.jpg", PHOTOS "no_such_photo.jpg", PHOTOS "garbage_truck.jpg", PHOTOS "README.md"};
enum { KINDS = sizeof(photographs) / sizeof(photographs[0]) };

static void stream_gives_what_one_by_one_gives(void **state)
{
    (void)state;
    enum { COUNT = 41 };
    static float expected[KINDS][INPUT_FLOATS];
    dla_status statuses[KINDS];
    const char *paths[COUNT];
    dla_decode_options decode = DLA_DECODE_OPTIONS_INIT;

    for (int k = 0; k < KINDS; k++) {
        dla_image *image = NULL;
        statuses[k] = dla_image_read(photographs[k], NULL, &image);
        if (statuses[k] == DLA_OK)
            assert_int_equal(dla_image_preprocess(image, &small_input, DLA_LAYOUT_NHWC, expected[k]), DLA_OK);
        dla_image_destroy(image);
    }
    assert_int_equal(statuses[0], DLA_OK);
    assert_int_equal(statuses[1], DLA_ERROR_NOT_FOUND);
    assert_int_equal(statuses[3], DLA_ERROR_FORMAT);
    for (int i = 0; i < COUNT; i++)
        paths[i] = photographs[i * 3 % KINDS];

    static const int shapes[][2] = {{1, 1}, {1, 3}, {2, 1}, {3, 2}, {4, 8}, {100, 100}}; /* decoders, slots */
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        struct photo_stream_options options = {paths, COUNT, &small_input, &decode, shapes[s][0], shapes[s][1]};
        struct photo_stream *stream = NULL;
        assert_int_equal(photo_stream_open(&options, &stream), DLA_OK);
        for (int i = 0; i < COUNT; i++) {
            int kind = i * 3 % KINDS;
            const struct photo *photo = photo_stream_next(stream);
            assert_non_null(photo);
            assert_int_equal(photo->index, i);
            assert_int_equal(photo->status, statuses[kind]);
            if (statuses[kind] == DLA_OK) {
                assert_string_equal(photo->message, "");
                assert_memory_equal(photo->input, expected[kind], sizeof(expected[kind]));
            } else {
                assert_non_null(strstr(photo->message, photographs[kind]));
            }
        }
        assert_null(photo_stream_next(stream));
        assert_null(photo_stream_next(stream));
        photo_stream_close(stream);
    }
}

static void stream_can_be_left_early(void **state)
{
    (void)state;
    enum { COUNT = 30 };
    const char *paths[COUNT];
    dla_decode_options decode = DLA_DECODE_OPTIONS_INIT;

    for (int i = 0; i < COUNT; i++)
        paths[i] = photographs[0];
    for (int taken = 0; taken < 5; taken++) {
        struct photo_stream_options options = {paths, COUNT, &small_input, &decode, 3, 4};
        struct photo_stream *stream = NULL;
        assert_int_equal(photo_stream_open(&options, &stream), DLA_OK);
        for (int i = 0; i < taken; i++)
            assert_int_equal(photo_stream_next(stream)->index, i);
        photo_stream_close(stream);
    }
    photo_stream_close(NULL);
}

static void an_empty_list_ends_at_once(void **state)
{
    (void)state;
    dla_decode_options decode = DLA_DECODE_OPTIONS_INIT;
    struct photo_stream_options options = {NULL, 0, &small_input, &decode, 2, 2};
    struct photo_stream *stream = NULL;

    assert_int_equal(photo_stream_open(&options, &stream), DLA_OK);
    assert_null(photo_stream_next(stream));
    photo_stream_close(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_searched_in_order),
        cmocka_unit_test(stream_gives_what_one_by_one_gives),
        cmocka_unit_test(stream_can_be_left_early),
        cmocka_unit_test(an_empty_list_ends_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
