/* dense_run.c - a model with DLA-Up over a list of photographs. */
#include "dense_run.h"

#include "json_output.h"
#include "number_list.h"
#include "photo_list.h"
#include "picture_folder.h"
#include "progress.h"
#include "standard_input.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SCALES = 16 };

static dla_status read_photograph(const char *path, bool ignore_exif, dla_image **image)
{
    dla_decode_options decode = DLA_DECODE_OPTIONS_INIT;

    decode.ignore_exif = ignore_exif;
    return dla_image_read(path, &decode, image);
}

static bool work_through(const struct arguments *arguments, dla_dense *dense, const dla_model *model, const struct photo_list *list,
                         dense_job *job, json_t *results)
{
    const char *output = argument_text(arguments, "--output", ".");
    bool all_done = true;

    progress_start("photographs");
    for (size_t i = 0; i < list->count; i++) {
        json_t *description = results != NULL ? json_object() : NULL;
        dla_image *image = NULL;

        progress_update((int64_t)i, (int64_t)list->count);
        if (read_photograph(list->paths[i], argument_flag(arguments, "--no-exif"), &image) != DLA_OK) {
            warn("%s", dla_error_message());
            all_done = false;
        } else {
            json_put(description, "file", json_text(list->paths[i]));
            json_put(description, "height", json_integer(dla_image_height(image)));
            json_put(description, "width", json_integer(dla_image_width(image)));
            progress_hide();
            if (job(dense, model, image, list->paths[i], output, description))
                json_add(results, json_incref(description));
            else
                all_done = false;
        }
        json_decref(description);
        dla_image_destroy(image);
    }
    progress_finish();
    return all_done;
}

int open_dense(const struct arguments *arguments, dla_task task, struct chosen_dense *chosen)
{
    const char *scale_text = argument_text(arguments, "--scales", NULL);
    dla_dense_options options = DLA_DENSE_OPTIONS_INIT;
    double scales[MAX_SCALES];

    *chosen = (struct chosen_dense){0};
    if (scale_text != NULL) {
        if (!number_list_parse(scale_text, scales, MAX_SCALES, &options.scale_count))
            return fail_with_usage("--scales is '%s', must be up to %d numbers with commas between them, such as 0.5,1,1.5", scale_text,
                                   MAX_SCALES);
        options.scales = scales;
    }
    options.threads = (int)argument_integer(arguments, "--threads", 0);
    options.exact = argument_flag(arguments, "--exact");
    options.tile = (int)argument_integer(arguments, "--tile", options.tile);
    options.flip = argument_flag(arguments, "--flip");
    int exit_status = choose_device(arguments, &options.device, &options.precision);
    if (exit_status == EXIT_SUCCESS)
        exit_status = open_model_for(arguments, task, &chosen->model);
    if (exit_status == EXIT_SUCCESS && dla_dense_create(chosen->model, &options, &chosen->dense) != DLA_OK) {
        exit_status = fail_with_library_error();
        close_dense(chosen);
    }
    return exit_status;
}

void close_dense(struct chosen_dense *chosen)
{
    dla_dense_destroy(chosen->dense);
    dla_model_close(chosen->model);
    *chosen = (struct chosen_dense){0};
}

static int run_list(const struct arguments *arguments, dla_task task, const char *const *kinds, const struct photo_list *list,
                    dense_job *job)
{
    const char *clash = picture_name_clash(list->paths, list->count);
    struct picture_folders folders;
    struct chosen_dense chosen;

    if (clash != NULL)
        return fail_with_usage("%s: another photograph of this name is in the list, and pictures are named after photographs; "
                               "give them one --output each",
                               clash);
    int exit_status = open_dense(arguments, task, &chosen);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    if (!picture_folders_make(&folders, argument_text(arguments, "--output", "."), kinds)) {
        exit_status = EXIT_WORK_FAILED;
    } else {
        json_t *results = argument_flag(arguments, "--json") ? json_array() : NULL;
        bool all_done = work_through(arguments, chosen.dense, chosen.model, list, job, results) && list->complete;
        exit_status = results != NULL ? json_print(results) : EXIT_SUCCESS;
        if (!all_done)
            exit_status = EXIT_WORK_FAILED;
    }
    picture_folders_tidy(&folders);
    close_dense(&chosen);
    return exit_status;
}

int dense_run(const struct arguments *arguments, dla_task task, const char *const *kinds, dense_job *job)
{
    struct photo_list list;
    int exit_status = photo_list_read(arguments, &list);

    if (exit_status == EXIT_SUCCESS) {
        exit_status = run_list(arguments, task, kinds, &list, job);
        photo_list_free(&list);
    }
    return exit_status;
}
