/* options.h - option structures of programs that were built against another version of the header.
 *
 * Every option structure of the public interface opens with `size_t struct_size`, set by its _INIT macro, and new fields go to
 * its end. So the sizes tell which fields the caller knows; docs/abi.md has the promise.
 */
#ifndef DLA_BASE_OPTIONS_H
#define DLA_BASE_OPTIONS_H

#include <dla/dla.h>

/* Copies the fields that the caller's structure has over the defaults in `options` (size bytes). given NULL: all defaults.
 * DLA_ERROR_ARGUMENT where `given` was not initialised with the macro called `initialiser`, or is larger than this library's. */
dla_status options_take(void *options, size_t size, const void *given, const char *initialiser);

#endif
