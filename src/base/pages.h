/* pages.h - large memory straight from the system, in huge pages where it has them: what is read and written in long streams then needs
 * few entries of the processor's tables of addresses. */
#ifndef DLA_BASE_PAGES_H
#define DLA_BASE_PAGES_H

#include <stddef.h>

void *pages_map(size_t bytes);                                      /* zeroed; NULL when exhausted */
void pages_unmap(void *pages, size_t bytes /* as for pages_map */); /* accepts NULL */

#endif
