/* replay.c - runs a fuzzer's function over its seeds without libFuzzer, as an ordinary test under any compiler.
 *
 * Every file named on the command line, or found in a folder named there, is given to LLVMFuzzerTestOneInput whole, cut
 * short at 64 places, and 256 times with a few of its bytes replaced. The damage comes from a fixed generator that starts
 * anew for each file, so a failure repeats; the input that is being tried is always in memory of exactly its size, so that
 * AddressSanitizer sees the first byte read beyond it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CUTS = 64, DAMAGES = 256, DAMAGED_BYTES_MAX = 8 };

static uint64_t random_next(uint64_t *state)   /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Tries a copy of bytes[0 .. size-1] with `damage` bytes replaced. */
static void try_copy(const uint8_t *bytes, size_t size, unsigned damage, uint64_t *state)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    if (size > 0)
        memcpy(copy, bytes, size);
    for (unsigned i = 0; i < damage && size > 0; i++) {
        /* Headers decide most: every second damage falls on the first 256 bytes. */
        size_t reach = i % 2 == 0 && size > 256 ? 256 : size;
        size_t place = (size_t)(random_next(state) % reach);
        static const uint8_t telling[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
        uint64_t choice = random_next(state);
        copy[place] = choice % 2 == 0 ? telling[choice / 2 % sizeof telling] : (uint8_t)(choice >> 8);
    }
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void replay_bytes(const uint8_t *bytes, size_t size)
{
    uint64_t state = size;
    try_copy(bytes, size, 0, &state);
    for (size_t cut = 0; cut < CUTS; cut++)
        try_copy(bytes, size * cut / CUTS, 0, &state);
    for (unsigned i = 0; i < DAMAGES; i++)
        try_copy(bytes, size, 1 + i % DAMAGED_BYTES_MAX, &state);
}

static int replay_file(const char *path)
{
    int result = 1;
    uint8_t *bytes = NULL;
    long size = -1;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0)
        goto out;
    bytes = malloc(size > 0 ? (size_t)size : 1);
    if (bytes == NULL || fread(bytes, 1, (size_t)size, file) != (size_t)size)
        goto out;
    replay_bytes(bytes, (size_t)size);
    result = 0;
out:
    if (result != 0)
        perror(path);
    if (file != NULL)
        fclose(file);
    free(bytes);
    return result;
}

static int replay_folder(const char *path, int *count)
{
    DIR *folder = opendir(path);
    if (folder == NULL) {
        perror(path);
        return 1;
    }
    int failures = 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] == '.')
            continue;
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        failures += replay_file(name);
        (*count)++;
    }
    closedir(folder);
    return failures;
}

int main(int argc, char **argv)
{
    int failures = 0, count = 0;
    replay_bytes((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct stat info;
        if (stat(argv[i], &info) == 0 && S_ISDIR(info.st_mode)) {
            failures += replay_folder(argv[i], &count);
        } else {
            failures += replay_file(argv[i]);
            count++;
        }
    }
    printf("%d seeds, %d tries each\n", count, 1 + CUTS + DAMAGES);
    return failures > 0 ? 1 : 0;
}
