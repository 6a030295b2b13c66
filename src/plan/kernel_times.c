/* kernel_times.c - see kernel_times.h. */
#include "plan/kernel_times.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text_stream.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ENTRIES = 8000, MAX_FILE_BYTES = 4 << 20, FIXED_NUMBERS = 13, LINE_NUMBERS = FIXED_NUMBERS + CONV_MAX_SOURCES };

static const char format_name[] = "dla kernel times 1";

/* ---- the file's name and its first line -------------------------------------------------------------------------------- */

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static char *cache_folder(struct arena *arena)
{
    if (environment("XDG_CACHE_HOME") != NULL)
        return arena_format(arena, "%s/dla", environment("XDG_CACHE_HOME"));
    return environment("HOME") != NULL ? arena_format(arena, "%s/.cache/dla", environment("HOME")) : NULL;
}

static char *first_line(struct arena *arena)
{
    char processor[160];

    cpu_describe(processor, sizeof processor);
    return arena_format(arena, "%s; version %s; processor %s", format_name, DLA_VERSION, processor);
}

/* FNV-1a. */
static uint32_t hash(const char *text)
{
    uint32_t sum = 2166136261u;

    for (; *text != '\0'; text++)
        sum = (sum ^ (uint8_t)*text) * 16777619u;
    return sum;
}

/* NULL where the environment names no folder, or memory ran out. */
static char *file_path(struct arena *arena, const char *heading)
{
    const char *folder = cache_folder(arena);
    return folder != NULL && heading != NULL ? arena_format(arena, "%s/kernels-%s-%08x.txt", folder, DLA_VERSION, hash(heading)) : NULL;
}

/* ---- shapes as numbers ------------------------------------------------------------------------------------------------- */

/* The numbers of a shape in the file's order; returns how many. */
static int shape_numbers(const struct conv_shape *s, int *numbers /* (LINE_NUMBERS) */)
{
    const int fixed[FIXED_NUMBERS] = {s->batch,  s->in_height, s->in_width, s->in_channels, s->out_height, s->out_width,   s->out_channels,
                                      s->kernel, s->stride,    s->padding,  s->dilation,    s->groups,     s->source_count};

    memcpy(numbers, fixed, sizeof fixed);
    for (int i = 0; i < s->source_count; i++)
        numbers[FIXED_NUMBERS + i] = s->source_channels[i];
    return FIXED_NUMBERS + s->source_count;
}

/* Shapes hold integers alone, and zeros where there is no source. */
static bool same_shape(const struct conv_shape *a, const struct conv_shape *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static struct kernel_time *find(const struct kernel_times *times, const char *kernel, int threads, const struct conv_shape *shape)
{
    for (size_t i = 0; i < times->count; i++) {
        struct kernel_time *entry = &times->entries[i];
        if (entry->threads == threads && same_shape(&entry->shape, shape) && strcmp(entry->kernel, kernel) == 0)
            return entry;
    }
    return NULL;
}

double kernel_times_find(const struct kernel_times *times, const char *kernel, int threads, const struct conv_shape *shape)
{
    const struct kernel_time *entry = find(times, kernel, threads, shape);
    return entry != NULL ? entry->microseconds : 0.0;
}

static dla_status append(struct kernel_times *times, const char *kernel, int threads, const struct conv_shape *shape, double microseconds)
{
    if (times->count == MAX_ENTRIES)
        times->count = 0; /* many sizes and batches: begin anew */
    if (times->count == times->capacity) {
        size_t capacity = times->capacity > 0 ? 2 * times->capacity : 128;
        struct kernel_time *larger = memory_resize(times->entries, capacity * sizeof *larger);
        if (larger == NULL)
            return status_out_of_memory(capacity * sizeof *larger, "the times of kernels");
        times->entries = larger;
        times->capacity = capacity;
    }
    struct kernel_time *entry = &times->entries[times->count++];
    *entry = (struct kernel_time){.threads = threads, .shape = *shape, .microseconds = microseconds};
    strncpy(entry->kernel, kernel, KERNEL_NAME_SIZE - 1);
    return DLA_OK;
}

dla_status kernel_times_set(struct kernel_times *times, const char *kernel, int threads, const struct conv_shape *shape,
                            double microseconds)
{
    struct kernel_time *entry = find(times, kernel, threads, shape);

    times->changed = true;
    if (entry == NULL)
        return append(times, kernel, threads, shape, microseconds);
    entry->microseconds = microseconds;
    return DLA_OK;
}

void kernel_times_free(struct kernel_times *times)
{
    memory_free(times->entries);
    *times = (struct kernel_times){0};
}

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

/* The next integer of a line, from 0 to `maximum`; false where there is none. */
static bool read_integer(const char **at, long long maximum, long long *number)
{
    char *end;

    errno = 0;
    *number = strtoll(*at, &end, 10);
    if (end == *at || errno != 0 || *number < 0 || *number > maximum || (*end != ' ' && *end != '\0'))
        return false;
    *at = end;
    return true;
}

/* Whether the numbers of a line are a shape that could have been measured. */
static bool take_shape(const int *numbers, int count, struct conv_shape *shape)
{
    int sources = count > FIXED_NUMBERS ? numbers[FIXED_NUMBERS - 1] : 0, channels = 0;

    if (sources < 1 || sources > CONV_MAX_SOURCES || count != FIXED_NUMBERS + sources)
        return false;
    *shape = (struct conv_shape){
        .batch = numbers[0],
        .in_height = numbers[1],
        .in_width = numbers[2],
        .in_channels = numbers[3],
        .out_height = numbers[4],
        .out_width = numbers[5],
        .out_channels = numbers[6],
        .kernel = numbers[7],
        .stride = numbers[8],
        .padding = numbers[9],
        .dilation = numbers[10],
        .groups = numbers[11],
        .source_count = sources,
    };
    for (int i = 0; i < sources; i++) {
        shape->source_channels[i] = numbers[FIXED_NUMBERS + i];
        channels += numbers[FIXED_NUMBERS + i];
    }
    return channels == shape->in_channels;
}

static bool read_line(char *line, struct kernel_times *times)
{
    int numbers[LINE_NUMBERS], count = 0;
    long long threads, nanoseconds, number;
    struct conv_shape shape;
    char *blank = strchr(line, ' ');

    if (blank == NULL || blank == line || blank - line >= KERNEL_NAME_SIZE)
        return false;
    *blank = '\0';
    const char *at = blank + 1;
    if (!read_integer(&at, 1024, &threads) || threads < 1 || !read_integer(&at, 1000000000000, &nanoseconds) || nanoseconds < 1)
        return false;
    while (*at != '\0' && count < LINE_NUMBERS && read_integer(&at, 1000000, &number))
        numbers[count++] = (int)number;
    return *at == '\0' && take_shape(numbers, count, &shape)
           && append(times, line, (int)threads, &shape, 1e-3 * (double)nanoseconds) == DLA_OK;
}

/* Cuts the text, which ends in a NUL, into lines. NULL, or what is wrong with it. */
static const char *read_text(char *text, const char *heading, struct kernel_times *times)
{
    char *line = text, *end = strchr(text, '\n');
    unsigned long promised;

    if (end == NULL || strncmp(text, format_name, strlen(format_name)) != 0)
        return "is no file of kernel times";
    *end = '\0';
    if (strcmp(line, heading) != 0)
        return "is of another processor or version";
    for (line = end + 1; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (strncmp(line, "end ", 4) == 0) {
            promised = strtoul(line + 4, NULL, 10);
            return promised == times->count && end[1] == '\0' ? NULL : "is damaged";
        }
        if (!read_line(line, times))
            return "is damaged";
    }
    return "is cut off";
}

static void load(const char *path, const char *heading, struct kernel_times *times)
{
    char *text;
    size_t length;
    dla_status status = file_read_text(path, MAX_FILE_BYTES, &text, &length);

    if (status == DLA_ERROR_NOT_FOUND)
        return;
    const char *problem = status != DLA_OK ? "cannot be read" : strlen(text) != length ? "is damaged" : read_text(text, heading, times);
    if (status == DLA_OK)
        memory_free(text);
    if (problem != NULL) {
        log_message(DLA_LOG_WARNING, "%s: %s; kernels are chosen without it", path, problem);
        kernel_times_free(times);
    }
    times->changed = false;
}

void kernel_times_load(struct kernel_times *times)
{
    struct arena arena = {0};
    const char *heading = first_line(&arena), *path = file_path(&arena, heading);

    *times = (struct kernel_times){0};
    if (path != NULL)
        load(path, heading, times);
    arena_free(&arena);
}

/* ---- writing ----------------------------------------------------------------------------------------------------------- */

/* Takes over what the file has and `times` has not: another process may have measured, too. */
static void merge(const char *path, const char *heading, struct kernel_times *times)
{
    struct kernel_times others = {0};

    load(path, heading, &others);
    for (size_t i = 0; i < others.count && times->count < MAX_ENTRIES; i++) {
        const struct kernel_time *entry = &others.entries[i];
        if (find(times, entry->kernel, entry->threads, &entry->shape) == NULL
            && kernel_times_set(times, entry->kernel, entry->threads, &entry->shape, entry->microseconds) != DLA_OK)
            break;
    }
    kernel_times_free(&others);
}

static void write_text(FILE *out, const char *heading, const struct kernel_times *times)
{
    fprintf(out, "%s\n", heading);
    for (size_t i = 0; i < times->count; i++) {
        const struct kernel_time *entry = &times->entries[i];
        int numbers[LINE_NUMBERS], count = shape_numbers(&entry->shape, numbers);
        fprintf(out, "%s %d %.0f", entry->kernel, entry->threads, fmax(1.0, 1e3 * entry->microseconds));
        for (int k = 0; k < count; k++)
            fprintf(out, " %d", numbers[k]);
        fputc('\n', out);
    }
    fprintf(out, "end %zu\n", times->count);
}

static dla_status save(const char *path, const char *heading, const struct kernel_times *times, struct arena *arena)
{
    struct text_stream stream;
    const char *folder = cache_folder(arena);
    dla_status status;

    if (folder == NULL)
        return status_out_of_memory(strlen(path), "a path");
    if ((status = folder_make(folder)) != DLA_OK)
        return status;
    text_stream_open(&stream);
    if (stream.file != NULL)
        write_text(stream.file, heading, times);
    char *text = text_stream_close(&stream);
    status = text != NULL ? file_write(path, text, strlen(text)) : status_out_of_memory(64 * times->count, "the times of kernels");
    memory_free(text);
    return status;
}

void kernel_times_save(struct kernel_times *times)
{
    struct arena arena = {0};
    const char *heading = first_line(&arena), *path = file_path(&arena, heading);

    if (times->changed && path != NULL) {
        merge(path, heading, times);
        if (save(path, heading, times, &arena) != DLA_OK)
            log_message(DLA_LOG_WARNING, "%s; the times of kernels are not remembered", dla_error_message());
        else
            times->changed = false;
    }
    arena_free(&arena);
}
