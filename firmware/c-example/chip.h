/*
 * A NOR flash chip simulated in memory that keeps its content over a reset, by the rules of a strict part: a unit is programmed once between two erases, an erase
 * is a whole block, and a reset in the middle leaves half of it done. A product has the driver of its flash here.
 */
#ifndef CHIP_H
#define CHIP_H

#include <stdint.h>

enum {
    CHIP_UNIT = 4,
    CHIP_BLOCK = 512,
    CHIP_BYTES = 1024 + 8 * 4096
};

/* What was done since the chip was switched on. */
struct chip_counts {
    uint32_t erased, programmed, rules_broken;
};

extern struct chip_counts chip_counts;

/* Switches the chip on. Memory that was no chip before becomes one that was never used. */
void chip_start(void);

/* Each returns 0, or 1 if that is against the rules. */
int chip_read(uint32_t address, uint8_t *into, uint32_t len);
int chip_program(uint32_t address, const uint8_t *bytes, uint32_t len);
int chip_erase(uint32_t address, uint32_t len);

/* Counts this start in the first two blocks: from 1, and no number twice, wherever the power fails. 0 if the chip fails. */
uint32_t chip_count_start(void);

#endif
