/* tile_configuration.h - how many tiles of Intel's matrix unit (AMX) a thread uses, and of how many rows; each row has 64 bytes. */
#ifndef DLA_CPU_ISA_TILE_CONFIGURATION_H
#define DLA_CPU_ISA_TILE_CONFIGURATION_H

#include <stdint.h>

#define USES_TILES __attribute__((target("amx-tile,amx-int8")))

enum { MOST_TILES = 8, TILE_ROW_BYTES = 64 };

USES_TILES static inline void configure_tiles(int count, const uint8_t *rows /* (count) */)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration = {.palette = 1};

    for (int tile = 0; tile < count; tile++) {
        configuration.row_bytes[tile] = TILE_ROW_BYTES;
        configuration.rows[tile] = rows[tile];
    }
#if AVX512_IS_EMULATED
    _tile_loadconfig(&configuration);
#else
    __asm__ volatile("ldtilecfg %0" ::"m"(configuration)); /* not every compiler's intrinsic knows that all of it is read */
#endif
}

#endif
