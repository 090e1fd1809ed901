/*
 * mark 8 B | programmed: one bit a unit | bytes
 *
 * The first two blocks count the starts: count, ~count, count, ~count, ... blank; the other block is erased when one is full.
 */
#include "chip.h"

#include <stdbool.h>

/* Volatile: what a reset finds must be what was written last, in this order. */
extern volatile struct {
    uint32_t mark[2];
    uint8_t programmed[CHIP_BYTES / CHIP_UNIT / 8];
    uint8_t bytes[CHIP_BYTES];
} chip_memory;

static const uint32_t MARK[2] = {0x63524F4E, 0x01706968};

struct chip_counts chip_counts;

static int refuse(void)
{
    chip_counts.rules_broken++;
    return 1;
}

static bool inside(uint32_t address, uint32_t len, uint32_t unit)
{
    return address % unit == 0 && len % unit == 0 && len <= CHIP_BYTES && address <= CHIP_BYTES - len;
}

void chip_start(void)
{
    if (chip_memory.mark[0] == MARK[0] && chip_memory.mark[1] == MARK[1])
        return;
    for (uint32_t at = 0; at < CHIP_BYTES; at++)
        chip_memory.bytes[at] = 0xFF;
    for (uint32_t at = 0; at < sizeof chip_memory.programmed; at++)
        chip_memory.programmed[at] = 0;
    chip_memory.mark[0] = MARK[0];
    chip_memory.mark[1] = MARK[1];
}

int chip_read(uint32_t address, uint8_t *into, uint32_t len)
{
    if (!inside(address, len, 1))
        return refuse();
    for (uint32_t at = 0; at < len; at++)
        into[at] = chip_memory.bytes[address + at];
    return 0;
}

/* Unit by unit. The mark that one was programmed comes last: a unit that looks untouched may be programmed. */
int chip_program(uint32_t address, const uint8_t *bytes, uint32_t len)
{
    if (!inside(address, len, CHIP_UNIT))
        return refuse();
    for (uint32_t done = 0; done < len; done += CHIP_UNIT) {
        uint32_t unit = (address + done) / CHIP_UNIT;
        uint8_t bit = (uint8_t)(1 << unit % 8);
        if (chip_memory.programmed[unit / 8] & bit)
            return refuse();
        for (uint32_t at = 0; at < CHIP_UNIT; at++)
            chip_memory.bytes[address + done + at] = bytes[done + at];
        chip_memory.programmed[unit / 8] |= bit;
        chip_counts.programmed++;
    }
    return 0;
}

/* Block by block. The marks go last: a block that was not erased to its end is not to be programmed, whatever it reads like. */
int chip_erase(uint32_t address, uint32_t len)
{
    if (!inside(address, len, CHIP_BLOCK))
        return refuse();
    for (uint32_t block = address; block < address + len; block += CHIP_BLOCK) {
        for (uint32_t at = block; at < block + CHIP_BLOCK; at++)
            chip_memory.bytes[at] = 0xFF;
        for (uint32_t at = block / CHIP_UNIT / 8; at < (block + CHIP_BLOCK) / CHIP_UNIT / 8; at++)
            chip_memory.programmed[at] = 0;
        chip_counts.erased++;
    }
    return 0;
}

enum {
    ENTRY = 8,
    ENTRIES = CHIP_BLOCK / ENTRY
};

static void put(uint8_t into[4], uint32_t number)
{
    for (int at = 0; at < 4; at++)
        into[at] = (uint8_t)(number >> 8 * at);
}

static uint32_t take(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* The highest count of a block, and how many entries are used. */
static uint32_t highest(uint32_t block, uint32_t *used)
{
    uint32_t found = 0;
    *used = 0;
    for (uint32_t entry = 0; entry < ENTRIES; entry++) {
        uint8_t bytes[ENTRY];
        if (chip_read(block * CHIP_BLOCK + entry * ENTRY, bytes, ENTRY) != 0)
            continue;
        uint32_t count = take(bytes), check = take(bytes + 4);
        if (count == UINT32_MAX && check == UINT32_MAX)
            continue;
        *used = entry + 1;
        if (check == ~count && count > found)
            found = count;
    }
    return found;
}

uint32_t chip_count_start(void)
{
    uint32_t used[2], counts[2] = {highest(0, &used[0]), highest(1, &used[1])};
    uint32_t block = counts[1] > counts[0];
    uint32_t count = counts[block] + 1, entry = used[block];
    uint8_t bytes[ENTRY];

    if (entry == ENTRIES) {
        block = 1 - block;
        entry = 0;
        if (chip_erase(block * CHIP_BLOCK, CHIP_BLOCK) != 0)
            return 0;
    }
    put(bytes, count);
    put(bytes + 4, ~count);
    return chip_program(block * CHIP_BLOCK + entry * ENTRY, bytes, ENTRY) == 0 ? count : 0;
}
