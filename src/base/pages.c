/* pages.c - anonymous mappings, with the advice to make them of huge pages. */
#include "base/pages.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (bytes + page - 1) / page * page : page;
}

/* Huge pages begin at multiples of their size, so more is mapped than is needed, and what is too much on both sides is given back. */
void *pages_map(size_t bytes)
{
    size_t needed = whole_pages(bytes), slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    char *mapped = MAP_FAILED;

    if (needed >= bytes && needed <= SIZE_MAX - slack)
        mapped = mmap(NULL, needed + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    if (slack > 0) {
        size_t before = (HUGE_PAGE - (uintptr_t)mapped % HUGE_PAGE) % HUGE_PAGE;
        if (before > 0)
            (void)munmap(mapped, before);
        mapped += before;
        if (slack > before)
            (void)munmap(mapped + needed, slack - before);
        (void)madvise(mapped, needed, MADV_HUGEPAGE);
    }
    return mapped;
}

void pages_unmap(void *pages, size_t bytes)
{
    if (pages)
        (void)munmap(pages, whole_pages(bytes));
}
