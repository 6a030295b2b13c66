/* run_log.c - one line per step and epoch, and the same for TensorBoard. */
#include "train/run_log.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_SIZE = 4096, MAX_LOG_BYTES = 1 << 30 };

struct run_log {
    FILE *file;
    char path[PATH_SIZE];
    struct event_file *events;
};

/* Keeps the lines up to `step`; a line that a kill cut short goes, too. */
static dla_status drop_later_lines(const char *path, int64_t step)
{
    char *text;
    size_t length, kept = 0;
    struct stat information;
    if (stat(path, &information) != 0 && errno == ENOENT)
        return DLA_OK;
    dla_status status = file_read_text(path, MAX_LOG_BYTES, &text, &length);
    if (status != DLA_OK)
        return status;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n'), *key = strstr(line, "\"step\": ");
        if (end == NULL)
            break;
        size_t size = (size_t)(end + 1 - line);
        if (key && key < end && strtoll(key + 8, NULL, 10) <= step) {
            memmove(text + kept, line, size);
            kept += size;
        }
        line = end + 1;
    }
    status = file_write(path, text, kept);
    memory_free(text);
    return status;
}

dla_status run_log_open(const char *run, int64_t step, struct run_log **log)
{
    struct run_log *made = memory_allocate_zeroed(1, sizeof(*made));
    if (made == NULL)
        return status_out_of_memory(sizeof(*made), "a run's log");
    snprintf(made->path, sizeof(made->path), "%s/log.jsonl", run);
    dla_status status = drop_later_lines(made->path, step);
    if (status == DLA_OK && (made->file = fopen(made->path, "ab")) == NULL)
        status = status_from_errno(made->path, "open");
    if (status == DLA_OK)
        setvbuf(made->file, NULL, _IOLBF, 0); /* a step is there to be read, and plotted, as soon as it is done */
    if (status == DLA_OK)
        status = event_file_create(run, &made->events);
    if (status != DLA_OK) {
        run_log_close(made);
        return status;
    }
    *log = made;
    return DLA_OK;
}

/* JSON has no NaN. */
static const char *number(char text[32], double x)
{
    if (isfinite(x))
        snprintf(text, 32, "%.9g", x);
    else
        strcpy(text, "null");
    return text;
}

dla_status run_log_event(struct run_log *log, const dla_train_event *e)
{
    char a[32], b[32], c[32], d[32], r[32], s[32];
    bool epoch = e->kind == DLA_TRAIN_EPOCH;
    if (!epoch && e->kind != DLA_TRAIN_STEP)
        return DLA_OK;
    int written = fprintf(log->file,
                          "{\"kind\": \"%s\", \"epoch\": %d, \"step\": %" PRId64
                          ", \"loss\": %s, \"top1\": %s, \"rate\": %s, \"images_per_second\": %s",
                          epoch ? "epoch" : "step", e->epoch, e->step, number(a, e->loss), number(b, e->top1), number(r, e->rate),
                          number(s, e->images_per_second));
    if (written >= 0 && epoch)
        written = fprintf(log->file, ", \"val_loss\": %s, \"val_top1\": %s, \"best\": %s, \"score\": \"%s\", \"val_score\": \"%s\"",
                          number(c, e->val_loss), number(d, e->val_top1), e->best ? "true" : "false", e->score_name, e->val_score_name);
    if (written < 0 || fputs("}\n", log->file) == EOF)
        return status_from_errno(log->path, "write");
    dla_status status = event_file_scalar(log->events, e->step, epoch ? "epoch/loss" : "train/loss", e->loss);
    if (status == DLA_OK)
        status = event_file_scalar(log->events, e->step, epoch ? "epoch/top1" : "train/top1", e->top1);
    if (status == DLA_OK && !epoch)
        status = event_file_scalar(log->events, e->step, "train/rate", e->rate);
    if (status == DLA_OK && epoch && isfinite(e->val_top1)) {
        status = event_file_scalar(log->events, e->step, "val/loss", e->val_loss);
        if (status == DLA_OK)
            status = event_file_scalar(log->events, e->step, "val/top1", e->val_top1);
    }
    return status;
}

dla_status run_log_flush(struct run_log *log)
{
    if (fflush(log->file) != 0)
        return status_from_errno(log->path, "write");
    return event_file_flush(log->events);
}

void run_log_close(struct run_log *log)
{
    if (log == NULL)
        return;
    if (log->file)
        fclose(log->file);
    event_file_close(log->events);
    memory_free(log);
}
