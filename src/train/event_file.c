/* event_file.c - scalars for TensorBoard.
 *
 * The file is a sequence of TFRecords: uint64 length, masked CRC-32C of the length, the bytes, masked CRC-32C of the bytes,
 * all little-endian. Each record is a protocol buffer of the message Event:
 *
 *     Event   { 1: double wall_time, 2: int64 step, 3: string file_version | 5: Summary }
 *     Summary { 1: repeated Value },  Value { 1: string tag, 2: float simple_value }
 *
 * Five fields do not ask for generated code; they are written here by hand.
 */
#include "train/run_log.h"

#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PATH_SIZE = 4096, MESSAGE_SIZE = 256 };

struct event_file {
    FILE *file;
    char path[PATH_SIZE];
};

static uint32_t crc32c(const uint8_t *bytes, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

static uint32_t masked_crc(const uint8_t *bytes, size_t size)
{
    uint32_t crc = crc32c(bytes, size);
    return ((crc >> 15) | (crc << 17)) + UINT32_C(0xa282ead8);
}

static size_t put_little_endian(uint8_t *to, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)(number >> (8 * i));
    return size;
}

static size_t put_varint(uint8_t *to, uint64_t number)
{
    size_t size = 0;
    for (; number >= 0x80; number >>= 7)
        to[size++] = (uint8_t)(number | 0x80);
    to[size++] = (uint8_t)number;
    return size;
}

enum wire { WIRE_VARINT = 0, WIRE_DOUBLE = 1, WIRE_BYTES = 2, WIRE_FLOAT = 5 };

static size_t put_key(uint8_t *to, int field, enum wire wire)
{
    return put_varint(to, (uint64_t)field << 3 | (uint64_t)wire);
}

static size_t put_bytes(uint8_t *to, int field, const void *bytes, size_t size)
{
    size_t at = put_key(to, field, WIRE_BYTES);
    at += put_varint(to + at, size);
    memcpy(to + at, bytes, size);
    return at + size;
}

static dla_status write_record(struct event_file *file, const uint8_t *message, size_t size)
{
    uint8_t head[12], tail[4];
    put_little_endian(head, size, 8);
    put_little_endian(head + 8, masked_crc(head, 8), 4);
    put_little_endian(tail, masked_crc(message, size), 4);
    if (fwrite(head, sizeof(head), 1, file->file) != 1 || fwrite(message, size, 1, file->file) != 1
        || fwrite(tail, sizeof(tail), 1, file->file) != 1)
        return status_from_errno(file->path, "write");
    return DLA_OK;
}

static size_t put_time(uint8_t *to)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    uint64_t bits;
    memcpy(&bits, &seconds, sizeof(bits));
    size_t at = put_key(to, 1, WIRE_DOUBLE);
    return at + put_little_endian(to + at, bits, 8);
}

dla_status event_file_create(const char *run, struct event_file **file)
{
    struct event_file *made = memory_allocate_zeroed(1, sizeof(*made));
    static const char version[] = "brain.Event:2";
    uint8_t message[MESSAGE_SIZE];
    struct timespec now;
    if (made == NULL)
        return status_out_of_memory(sizeof(*made), "an event file");
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(made->path, sizeof(made->path), "%s/events.out.tfevents.%lld.%09ld.dla", run, (long long)now.tv_sec, now.tv_nsec);
    made->file = fopen(made->path, "wb");
    if (made->file == NULL) {
        dla_status status = status_from_errno(made->path, "create");
        memory_free(made);
        return status;
    }
    size_t size = put_time(message);
    size += put_bytes(message + size, 3, version, sizeof(version) - 1);
    dla_status status = write_record(made, message, size);
    if (status != DLA_OK) {
        event_file_close(made);
        return status;
    }
    *file = made;
    return DLA_OK;
}

dla_status event_file_scalar(struct event_file *file, int64_t step, const char *tag, double number)
{
    uint8_t entry[MESSAGE_SIZE], summary[MESSAGE_SIZE], message[MESSAGE_SIZE];
    float narrow = (float)number;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof(bits));
    size_t entry_size = put_bytes(entry, 1, tag, strlen(tag) < 64 ? strlen(tag) : 64);
    entry_size += put_key(entry + entry_size, 2, WIRE_FLOAT);
    entry_size += put_little_endian(entry + entry_size, bits, 4);
    size_t summary_size = put_bytes(summary, 1, entry, entry_size);
    size_t size = put_time(message);
    size += put_key(message + size, 2, WIRE_VARINT);
    size += put_varint(message + size, (uint64_t)step);
    size += put_bytes(message + size, 5, summary, summary_size);
    return write_record(file, message, size);
}

dla_status event_file_flush(struct event_file *file)
{
    return fflush(file->file) == 0 ? DLA_OK : status_from_errno(file->path, "write");
}

void event_file_close(struct event_file *file)
{
    if (file == NULL)
        return;
    fclose(file->file);
    memory_free(file);
}
