/* cpu_features.c - instruction sets and cores, as the processor and the system give them to this process. */
#include "base/cpu_features.h"

#include "base/status.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const isa_names[ISA_COUNT] = {
    [ISA_GENERIC] = "generic", [ISA_AVX2] = "avx2", [ISA_AVX512] = "avx512", [ISA_AMX] = "amx", [ISA_NEON] = "neon",
};

const char *isa_name(enum isa isa)
{
    return isa_names[isa];
}

#if defined(__x86_64__)
/* FMA and F16C come with AVX2 on every processor so far, but emulators and hypervisors take single features away. The
 * builtin also asks xgetbv whether the system saves the wide registers; f16c, which not every compiler's builtin knows, needs
 * nothing beyond what avx2 needs. */
static bool has_avx2(void)
{
    unsigned eax, ebx, ecx, edx;

    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0
           && (ecx & bit_F16C) != 0;
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")
           && __builtin_cpu_supports("avx512dq");
}

/* Linux saves 8 KB of tiles only for processes that asked for it, once for all of their threads. */
static bool may_use_tiles(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

static bool has_amx(void)
{
    const unsigned tiles_and_bytes = 1u << 24 | 1u << 25; /* of leaf 7 */
    unsigned eax, ebx, ecx, edx;

    return DLA_HAVE_AMX && has_avx512() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0
           && (edx & tiles_and_bytes) == tiles_and_bytes && may_use_tiles();
}
#endif

bool isa_is_available(enum isa isa)
{
    switch (isa) {
    case ISA_GENERIC:
        return true;
#if defined(__x86_64__)
    case ISA_AVX2:
        return has_avx2();
    case ISA_AVX512:
        return has_avx512();
    case ISA_AMX:
        return has_amx();
#elif defined(__aarch64__)
    case ISA_NEON:
        return true; /* part of the base architecture */
#endif
    default:
        return false;
    }
}

dla_status isa_choose(enum isa *result)
{
    static const enum isa best_first[] = {ISA_AMX, ISA_AVX512, ISA_AVX2, ISA_NEON, ISA_GENERIC};
    const char *wanted = getenv("DLA_ISA");
    char available[64] = "";

    for (size_t i = 0; i < sizeof(best_first) / sizeof(best_first[0]); i++) {
        enum isa isa = best_first[i];
        if (!isa_is_available(isa))
            continue;
        if (wanted == NULL || wanted[0] == '\0' || strcmp(wanted, isa_names[isa]) == 0) {
            *result = isa;
            return DLA_OK;
        }
        size_t used = strlen(available);
        snprintf(available + used, sizeof(available) - used, "%s%s", used == 0 ? "" : ", ", isa_names[isa]);
    }
    for (int isa = 0; isa < ISA_COUNT; isa++)
        if (strcmp(wanted, isa_names[isa]) == 0)
            return status_set(DLA_ERROR_ARGUMENT, "DLA_ISA=%s: this machine does not have it; available: %s", wanted, available);
    return status_set(DLA_ERROR_ARGUMENT, "DLA_ISA=%s: no such instruction set; available: %s", wanted, available);
}

/* ---- the processor's name ---------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
void cpu_describe(char *text, size_t size)
{
    unsigned signature = 0, words[12] = {0}, ebx, ecx, edx, highest = (unsigned)__get_cpuid_max(0x80000000, NULL);
    char brand[sizeof(words) + 1] = "";

    (void)__get_cpuid(1, &signature, &ebx, &ecx, &edx);
    for (unsigned i = 0; i < 3 && highest >= 0x80000004; i++)
        (void)__get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
    memcpy(brand, words, sizeof(words));
    for (char *c = brand; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    const char *begin = brand + strspn(brand, " ");
    for (char *end = brand + strlen(brand); end > begin && end[-1] == ' '; end--)
        end[-1] = '\0';
    snprintf(text, size, "%s, signature %08x", begin, signature);
}

static bool is_family_25(void)
{
    unsigned signature, ebx, ecx, edx;

    if (!__builtin_cpu_is("amd") || __get_cpuid(1, &signature, &ebx, &ecx, &edx) == 0)
        return false;
    return (signature >> 8 & 0xf) + (signature >> 20 & 0xff) == 0x19;
}

bool cpu_adds_beside_products(void)
{
    enum { UNKNOWN, NO, YES };
    static atomic_int known = UNKNOWN; /* the question interrupts a virtual machine */

    if (atomic_load_explicit(&known, memory_order_relaxed) == UNKNOWN)
        atomic_store_explicit(&known, is_family_25() ? YES : NO, memory_order_relaxed);
    return atomic_load_explicit(&known, memory_order_relaxed) == YES;
}
#else
void cpu_describe(char *text, size_t size)
{
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "re");
    unsigned long long identification = 0;

    if (file != NULL) {
        if (fscanf(file, "%llx", &identification) != 1)
            identification = 0;
        fclose(file);
    }
    snprintf(text, size, "identification %llx", identification);
}

bool cpu_adds_beside_products(void)
{
    return false;
}
#endif

/* ---- cores ------------------------------------------------------------------------------------------------------------ */

/* Reads the integers of a small system file, in the order in which they stand; returns how many it found. */
static int read_system_numbers(const char *path, long long *numbers, int count)
{
    FILE *file = fopen(path, "re");
    int found = 0;

    if (file == NULL)
        return 0;
    while (found < count && fscanf(file, "%lld", &numbers[found]) == 1)
        found++;
    fclose(file);
    return found;
}

/* Whether `cpu` is the first among those hardware threads of its core that the process may use. */
static bool is_first_of_its_core(unsigned cpu, const cpu_set_t *allowed)
{
    char path[96];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    unsigned first = cpu;
    unsigned begin, end;

    if (file == NULL)
        return true;
    while (fscanf(file, "%u", &begin) == 1) { /* "0,64" or "0-1" */
        end = begin;
        int separator = fgetc(file);
        if (separator == '-') {
            if (fscanf(file, "%u", &end) != 1)
                break;
            separator = fgetc(file);
        }
        for (unsigned sibling = begin; sibling <= end && sibling < CPU_SETSIZE; sibling++)
            if (CPU_ISSET(sibling, allowed) && sibling < first)
                first = sibling;
        if (separator != ',')
            break;
    }
    fclose(file);
    return first == cpu;
}

/* A container's share of processor time, in whole processors, rounded up; 0 where there is no limit. */
static int cpu_quota(void)
{
    long long v2[2], quota, period;

    if (read_system_numbers("/sys/fs/cgroup/cpu.max", v2, 2) == 2) { /* "max 100000" gives none */
        quota = v2[0];
        period = v2[1];
    } else if (read_system_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota, 1) != 1
               || read_system_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period, 1) != 1) {
        return 0;
    }
    if (quota <= 0 || period <= 0 || quota / period > 1 << 16)
        return 0;
    return (int)((quota + period - 1) / period);
}

int cpu_core_count(void)
{
    cpu_set_t allowed;
    int cores = 0;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return 1; /* more than CPU_SETSIZE processors: a machine whose user sets the thread count */
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && is_first_of_its_core(cpu, &allowed))
            cores++;
    int quota = cpu_quota();
    if (quota > 0 && quota < cores)
        cores = quota;
    return cores > 0 ? cores : 1;
}
