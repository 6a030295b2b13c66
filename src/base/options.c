/* options.c - see options.h. */
#include "base/options.h"
#include "base/status.h"

dla_status options_take(void *options, size_t size, const void *given, const char *initialiser)
{
    size_t given_size;

    if (given == NULL)
        return DLA_OK;
    memcpy(&given_size, given, sizeof given_size);
    if (given_size <= sizeof given_size)
        return status_set(DLA_ERROR_ARGUMENT, "options without a struct_size; start them with %s", initialiser);
    if (given_size > size)
        return status_set(DLA_ERROR_ARGUMENT,
                          "options of %zu bytes, this library (%s) knows %zu: the program was built against a newer one, "
                          "or did not start them with %s",
                          given_size, DLA_VERSION, size, initialiser);
    memcpy(options, given, given_size);
    memcpy(options, &size, sizeof size);
    return DLA_OK;
}
