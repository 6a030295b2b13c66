/* picture_folder.c - folders and names of pictures. */
#include "picture_folder.h"

#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PATH = 4096 };

static bool make_folder(const char *path, bool *made)
{
    struct stat info;

    *made = mkdir(path, 0777) == 0;
    if (*made || (errno == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode)))
        return true;
    warn("%s: cannot make the folder: %s", path, strerror(errno == EEXIST ? ENOTDIR : errno));
    return false;
}

static bool kind_path(const char *output, const char *kind, char *path /* (MAX_PATH) */)
{
    return (size_t)snprintf(path, MAX_PATH, "%s/%s", output, kind) < MAX_PATH;
}

bool picture_folders_make(struct picture_folders *folders, const char *output, const char *const *kinds)
{
    *folders = (struct picture_folders){.output = output, .kinds = kinds};
    if (!make_folder(output, &folders->made_output))
        return false;
    for (int i = 0; kinds[i] != NULL; i++) {
        char path[MAX_PATH];
        bool made = false;
        if (!kind_path(output, kinds[i], path)) {
            warn("%s: the folder's name is too long", output);
            return false;
        }
        if (!make_folder(path, &made))
            return false;
        folders->made_kinds |= made ? 1U << i : 0U;
    }
    return true;
}

void picture_folders_tidy(const struct picture_folders *folders)
{
    for (int i = 0; folders->kinds[i] != NULL; i++) {
        char path[MAX_PATH];
        if ((folders->made_kinds & 1U << i) != 0 && kind_path(folders->output, folders->kinds[i], path))
            (void)rmdir(path); /* which fails where something is inside, as it should */
    }
    if (folders->made_output)
        (void)rmdir(folders->output);
}

/* The part of a path that names the photograph: behind the last slash, up to the last dot. */
static const char *photograph_name(const char *path, size_t *length)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(name, '.');

    if (strcmp(path, "-") == 0)
        name = "stdin";
    *length = dot != NULL && dot > name ? (size_t)(dot - name) : strlen(name);
    return name;
}

char *picture_path(const char *output, const char *kind, const char *photograph)
{
    size_t length;
    const char *name = photograph_name(photograph, &length);
    size_t size = strlen(output) + strlen(kind) + length + sizeof("//.png");
    char *path = malloc(size);

    if (path != NULL)
        snprintf(path, size, "%s/%s/%.*s.png", output, kind, (int)length, name);
    return path;
}

struct named {
    const char *name;
    size_t length;
    const char *path;
};

static int compare_names(const void *a, const void *b)
{
    const struct named *p = a, *q = b;
    int order = memcmp(p->name, q->name, p->length < q->length ? p->length : q->length);
    return order != 0 ? order : (p->length > q->length) - (p->length < q->length);
}

const char *picture_name_clash(const char *const *photographs, size_t count)
{
    struct named *names = calloc(count > 0 ? count : 1, sizeof(*names));
    const char *clash = NULL;

    for (size_t i = 0; names != NULL && i < count; i++) {
        names[i].name = photograph_name(photographs[i], &names[i].length);
        names[i].path = photographs[i];
    }
    if (names != NULL && count > 1) {
        qsort(names, count, sizeof(*names), compare_names);
        for (size_t i = 1; i < count && clash == NULL; i++)
            if (compare_names(&names[i - 1], &names[i]) == 0)
                clash = names[i - 1].path;
    }
    free(names);
    return clash;
}
