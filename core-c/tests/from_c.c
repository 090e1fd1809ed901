/*
 * A log in C, on a flash that is an array: keeps three temperatures, loses its power in the middle of a fourth, and shows what is there.
 * It is the example of docs/firmware.md, and a test: each step says what must come out.
 */
#include <stdio.h>
#include <string.h>

#include "sedge_core.h"

enum {
    UNIT = 4,
    SEGMENT = 4096,
    SEGMENTS = 4,
    FRAME = 256
};

/* The flash, and the rules of a real one: a unit is programmed once between two erases. */
struct flash {
    uint8_t bytes[SEGMENTS * SEGMENT];
    uint8_t programmed[SEGMENTS * SEGMENT / UNIT];
    int rules_broken;
};

static int flash_read(void *context, uint32_t address, uint8_t *into, uint32_t len)
{
    struct flash *flash = context;
    memcpy(into, flash->bytes + address, len);
    return 0;
}

static int flash_program(void *context, uint32_t address, const uint8_t *bytes, uint32_t len)
{
    struct flash *flash = context;
    for (uint32_t at = address; at < address + len; at += UNIT)
        flash->rules_broken += at % UNIT != 0 || flash->programmed[at / UNIT]++;
    memcpy(flash->bytes + address, bytes, len);
    return 0;
}

static int flash_erase(void *context, uint32_t address, uint32_t len)
{
    struct flash *flash = context;
    memset(flash->bytes + address, 0xFF, len);
    memset(flash->programmed + address / UNIT, 0, len / UNIT);
    return 0;
}

/* All memory of the log. On a microcontroller these are statics too. */
static struct flash flash;
static sedge_log log_state;
static uint8_t scratch[SEDGE_SCRATCH_BYTES(FRAME)];
static uint8_t batch[FRAME];

static sedge_config config(void)
{
    sedge_config config = {0};
    config.context = &flash;
    config.read = flash_read;
    config.program = flash_program;
    config.erase = flash_erase;
    config.write_unit = UNIT;
    config.segment_bytes = SEGMENT;
    config.segment_count = SEGMENTS;
    config.frame_bytes_max = FRAME;
    config.batch_records_max = 8;
    config.when_full = SEDGE_EVICT_OLDEST;
    config.boot = 1;
    memcpy(config.log_id, "16 random bytes!", 16); /* a product asks its generator */
    config.scratch = scratch;
    config.scratch_len = sizeof scratch;
    config.batch = batch;
    config.batch_len = sizeof batch;
    return config;
}

static sedge_bytes text(const char *text)
{
    sedge_bytes bytes = {(const uint8_t *)text, strlen(text)};
    return bytes;
}

static int append(const char *value, int64_t time_us)
{
    sedge_header unit = {text("unit"), text("celsius")};
    sedge_record record = {0};
    record.time_us = time_us;
    record.key = text("boiler-1");
    record.value = text(value);
    record.headers = &unit;
    record.header_count = 1;
    return sedge_log_append(&log_state, &record, NULL);
}

/* Shows all that is durable; how many records that were. */
static int show(void)
{
    sedge_cursor cursor = {0};
    sedge_item item;
    sedge_header unit;
    int records = 0, more;

    if (sedge_cursor_open(&cursor, &log_state, 0) != SEDGE_OK)
        return -1;
    while ((more = sedge_cursor_next(&cursor, &log_state, &item)) == 1) {
        if (item.kind != SEDGE_ITEM_RECORD) {
            printf("%u to %u: %u lost\n", (unsigned)item.offset, (unsigned)item.next, (unsigned)item.lost);
            continue;
        }
        if (sedge_item_header(&item, 0, &unit) != SEDGE_OK)
            return -1;
        records++;
        printf("%u: %.*s %.*s %.*s at %ld ms\n", (unsigned)item.offset, (int)item.key.len, (const char *)item.key.start,
               (int)item.value.len, (const char *)item.value.start, (int)unit.value.len, (const char *)unit.value.start,
               (long)(item.time_us / 1000));
    }
    return more == 0 ? records : -1;
}

#define EXPECT(what)                                      \
    do {                                                  \
        if (!(what)) {                                    \
            printf("line %d: not so: %s\n", __LINE__, #what); \
            return 1;                                     \
        }                                                 \
    } while (0)

int main(void)
{
    sedge_config dimensions = config();
    sedge_report report;
    sedge_range range;
    uint64_t next = 0;

    memset(flash.bytes, 0xFF, sizeof flash.bytes);
    EXPECT(append("too early", 0) == SEDGE_ERR_NOT_OPEN);
    EXPECT(sedge_log_open(&log_state, &dimensions, 1000000, &report) == SEDGE_OK);
    EXPECT(report.formatted);

    /* Three records, one batch: one program operation, and then they are durable. */
    EXPECT(append("21.5", 1000000) == SEDGE_OK);
    EXPECT(append("21.6", 1020000) == SEDGE_OK);
    EXPECT(append("21.4", 1040000) == SEDGE_OK);
    EXPECT(show() == 0);
    EXPECT(sedge_log_flush(&log_state, 1040000, &next) == SEDGE_OK);
    EXPECT(next == 3);

    /* In idle time: a segment is erased ahead. */
    while (sedge_log_needs_maintain(&log_state) == 1)
        EXPECT(sedge_log_maintain(&log_state, 1040000) == SEDGE_OK);

    /* The power fails: what was appended and not flushed is gone, the rest is there. */
    EXPECT(append("21.7", 1060000) == SEDGE_OK);
    memset(&log_state, 0, sizeof log_state);
    memset(batch, 0, sizeof batch);
    EXPECT(sedge_log_open(&log_state, &dimensions, SEDGE_TIME_UNKNOWN, &report) == SEDGE_OK);
    EXPECT(!report.formatted && report.burned == 0);
    EXPECT(sedge_log_range(&log_state, &range) == SEDGE_OK);
    EXPECT(range.oldest == 0 && range.durable == 3 && range.next == 3 && range.waiting == 0);
    EXPECT(show() == 3);

    EXPECT(flash.rules_broken == 0);
    printf("%s\n", sedge_error_text(SEDGE_OK));
    return 0;
}
