/* clock.c - the system's monotonic clock. */
#include "base/clock.h"

#include <time.h>

int64_t clock_nanoseconds(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

double clock_milliseconds(void)
{
    return (double)clock_nanoseconds() * 1e-6;
}
