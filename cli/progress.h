/* progress.h - a bar on stderr for work that takes over a second, on a terminal only. */
#ifndef DLA_CLI_PROGRESS_H
#define DLA_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* One bar at a time, from one thread. `unit` is the plural of what is counted: "photographs". */
void progress_start(const char *unit);
void progress_update(int64_t done, int64_t total);
void progress_finish(void); /* removes the bar */

/* Clears the bar's line before something else is printed; the next update draws it again. */
void progress_hide(void);

double seconds_now(void); /* since some moment in the past; for differences */

/* Colour is for terminals, unless NO_COLOR is set or the terminal is dumb. */
bool color_is_wanted(FILE *stream);

#endif
