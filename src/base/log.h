/* log.h - what the library tells beside its results, to the program that asked for it. */
#ifndef DLA_BASE_LOG_H
#define DLA_BASE_LOG_H

#include <dla/dla.h>

/* One line for the program's callback; nothing happens, not even formatting, where none is set. */
__attribute__((format(printf, 2, 3))) void log_message(dla_log_level level, const char *format, ...);

#endif
