/* library.c - what concerns the library as a whole. */
#include <dla/dla.h>

const char *dla_version(void)
{
    return DLA_VERSION;
}
