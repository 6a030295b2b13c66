/* clock.h - time that passes, for measurements. */
#ifndef DLA_BASE_CLOCK_H
#define DLA_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_nanoseconds(void); /* since some moment in the past; never goes back */
double clock_milliseconds(void); /* the same */

#endif
