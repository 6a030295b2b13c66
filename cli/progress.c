/* progress.c - "  [#########-----------]  912 of 2000 photographs, 14 s left". */
#include "progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_BAR_WIDTH = 40, TEXT_WIDTH = 48 /* counts, unit, time left */ };

static const double first_drawn_after = 1.0; /* seconds; what ends sooner needs no bar */
static const double redrawn_after = 0.1;

static struct {
    bool enabled, visible;
    const char *unit;
    double started, drawn;
} bar;

double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static bool is_capable_terminal(FILE *stream)
{
    const char *terminal = getenv("TERM");
    return isatty(fileno(stream)) && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

bool color_is_wanted(FILE *stream)
{
    const char *no_color = getenv("NO_COLOR");
    return (no_color == NULL || no_color[0] == '\0') && is_capable_terminal(stream);
}

void progress_start(const char *unit)
{
    bar.enabled = is_capable_terminal(stderr);
    bar.visible = false;
    bar.unit = unit;
    bar.started = seconds_now();
    bar.drawn = 0.0;
}

static void draw(int64_t done, int64_t total, double elapsed)
{
    struct winsize window = {0};
    int columns = ioctl(fileno(stderr), TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
    int width = columns - TEXT_WIDTH < MAX_BAR_WIDTH ? columns - TEXT_WIDTH : MAX_BAR_WIDTH;
    int filled = width > 0 ? (int)((double)done / (double)total * width) : 0;
    bool color = color_is_wanted(stderr);
    double left = done > 0 ? elapsed / (double)done * (double)(total - done) : 0.0;

    fputs("\r  ", stderr);
    if (width > 0) {
        fputs(color ? "[\033[32m" : "[", stderr);
        for (int i = 0; i < filled; i++)
            fputc('#', stderr);
        fputs(color ? "\033[0m" : "", stderr);
        for (int i = filled; i < width; i++)
            fputc('-', stderr);
        fputs("] ", stderr);
    }
    fprintf(stderr, " %lld of %lld %s", (long long)done, (long long)total, bar.unit);
    if (done > 0)
        fprintf(stderr, ", %.0f s left", left);
    fputs("\033[K", stderr); /* what a longer text left behind */
    fflush(stderr);
    bar.visible = true;
}

void progress_update(int64_t done, int64_t total)
{
    if (!bar.enabled || total <= 0)
        return;
    double now = seconds_now();
    if (now - bar.started < first_drawn_after || now - bar.drawn < redrawn_after)
        return;
    bar.drawn = now;
    draw(done, total, now - bar.started);
}

void progress_hide(void)
{
    if (!bar.visible)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    bar.visible = false;
}

void progress_finish(void)
{
    progress_hide();
    bar.enabled = false;
}
