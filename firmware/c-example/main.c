/*
 * A sensor node in C on the sedge core: measures, keeps what it measured on flash, makes room in idle time, hands over to a gateway.
 *
 *   measure ─► append, flush ─► log on chip ─► tx ─► UART ═══► a gateway's serial source
 *                                    ▲ release ── rx ◄──────┘
 *
 * One loop, no queue, no heap: the log is the only memory of what is to be sent. The device has no clock; it knows the time of day after the gateway has told
 * it, and until then its records have none.
 */
#include "board.h"
#include "chip.h"
#include "sedge_core.h"

enum {
    SEGMENT_BYTES = 4096,
    LOG_START = 2 * CHIP_BLOCK, /* behind the blocks that count the starts */
    FRAME_BYTES = 256,
    BODY_BYTES = SEDGE_BODY_BYTES(FRAME_BYTES),
    GATEWAY = 1,
    SAMPLE_EVERY_US = 20000,
    REPORT_EVERY_US = 1000000
};

static sedge_log keeper;
static sedge_link uplink;
static uint8_t scratch[SEDGE_SCRATCH_BYTES(FRAME_BYTES)], batch[FRAME_BYTES];
static uint8_t body[BODY_BYTES], heard[SEDGE_HEARD_BYTES], line[SEDGE_LINE_BYTES(BODY_BYTES)];
static uint32_t boot, measured;

static char *number(uint64_t number, char room[21])
{
    char *at = room + 20;
    *at = 0;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return at;
}

#define PRINT(...) board_print((const char *const[]){__VA_ARGS__, NULL})
#define NUMBER(value) number(value, (char[21]){0})

/* The flash is not what the program was built for: nothing can be done about it here. */
static void expect(int outcome, const char *what)
{
    if (outcome >= 0)
        return;
    PRINT("broken: ", what, ": ", sedge_error_text(outcome));
    for (;;)
        board_rest();
}

static int flash_read(void *context, uint32_t address, uint8_t *into, uint32_t len)
{
    (void)context;
    return chip_read(LOG_START + address, into, len);
}

static int flash_program(void *context, uint32_t address, const uint8_t *bytes, uint32_t len)
{
    (void)context;
    return chip_program(LOG_START + address, bytes, len);
}

static int flash_erase(void *context, uint32_t address, uint32_t len)
{
    (void)context;
    return chip_erase(LOG_START + address, len);
}

static sedge_now now(void)
{
    sedge_now now = {board_uptime_us(), SEDGE_TIME_UNKNOWN};
    return now;
}

/* By the gateway's clock, if it has told it. */
static int64_t time_of_day(void)
{
    int64_t unix_us;
    return sedge_link_time(&uplink, board_uptime_us(), &unix_us) == SEDGE_OK ? unix_us : SEDGE_TIME_UNKNOWN;
}

static void open_log(void)
{
    static sedge_config config = {
        .read = flash_read,
        .program = flash_program,
        .erase = flash_erase,
        .write_unit = CHIP_UNIT,
        .segment_bytes = SEGMENT_BYTES,
        .segment_count = (CHIP_BYTES - LOG_START) / SEGMENT_BYTES,
        .frame_bytes_max = FRAME_BYTES,
        .batch_records_max = 1,
        .when_full = SEDGE_EVICT_OLDEST,
        .tail = SEDGE_TAIL_BEHIND,
        .scratch = scratch,
        .scratch_len = sizeof scratch,
        .batch = batch,
        .batch_len = sizeof batch,
    };
    sedge_report report;
    sedge_range range;

    config.boot = boot;
    board_draw(config.log_id);
    expect(sedge_log_open(&keeper, &config, SEDGE_TIME_UNKNOWN, &report), "open");
    expect(sedge_log_range(&keeper, &range), "range");
    PRINT("start ", NUMBER(boot), " of c-example: ", report.formatted ? "a new log" : "the log", " holds ", NUMBER(range.oldest), " to ",
          NUMBER(range.next), ", ", NUMBER(report.burned), " burned");
}

static void open_link(void)
{
    static const char identity[] = "c-example";
    sedge_link_config config = {
        .identity = {(const uint8_t *)identity, sizeof identity - 1},
        .boot = boot,
        .consumer = GATEWAY,
        .body = body,
        .body_len = sizeof body,
        .heard = heard,
        .heard_len = sizeof heard,
    };
    sedge_now started = now();
    expect(sedge_link_open(&uplink, &keeper, &config, &started), "link");
}

static void start(void)
{
    boot = chip_count_start();
    measured = 0;
    open_log();
    open_link();
}

static void maintain(void)
{
    expect(sedge_log_maintain(&keeper, time_of_day()), "maintain");
}

/* A simulated thermometer: hundredths of a degree, wandering slowly. */
static uint32_t thermometer(void)
{
    static uint32_t dice = 1, centi = 2150;
    dice = dice * 1664525 + 1013904223;
    centi += (dice >> 29) - 3;
    if (centi > 10000) /* or below 0 */
        centi = 2150;
    return centi;
}

/* Takes a measurement and keeps it: it is on flash when this returns. */
static void measure(void)
{
    uint32_t centi = thermometer();
    char text[64];
    size_t len = 0;
    const char *pieces[] = {"{\"boot\":", NUMBER(boot), ",\"n\":", NUMBER(++measured), ",\"celsius\":", NUMBER(centi / 100), ".",
                            centi % 100 < 10 ? "0" : "", NUMBER(centi % 100), "}"};
    for (size_t piece = 0; piece < sizeof pieces / sizeof *pieces; piece++)
        for (const char *at = pieces[piece]; *at; at++)
            text[len++] = *at;

    sedge_record record = {.time_us = time_of_day(), .value = {(const uint8_t *)text, len}};
    uint64_t next;
    if (sedge_log_needs_maintain(&keeper) == 1)
        maintain(); /* the idle time was too short for it */
    expect(sedge_log_append(&keeper, &record, NULL), "append");
    expect(sedge_log_flush(&keeper, time_of_day(), &next), "flush");
    PRINT("kept ", NUMBER(boot), " ", NUMBER(measured), " at ", NUMBER(next - 1));
}

/* Whether something came. */
static bool hear(void)
{
    uint8_t bytes[32];
    size_t len = 0;
    while (len < sizeof bytes && board_take(&bytes[len]))
        len++;
    if (len == 0)
        return false;
    sedge_now heard_at = now();
    expect(sedge_link_rx(&uplink, &keeper, &heard_at, bytes, len), "rx");
    return true;
}

/* Sends one message, if there is one to send. */
static bool say(void)
{
    sedge_now said_at = now();
    int len = sedge_link_tx(&uplink, &keeper, &said_at, line, sizeof line);
    expect(len, "tx");
    board_send(line, (size_t)len);
    return len > 0;
}

static void report(void)
{
    sedge_range range;
    sedge_link_report link;
    expect(sedge_log_range(&keeper, &range), "range");
    expect(sedge_link_state(&uplink, &link), "state");
    PRINT("log ", NUMBER(range.oldest), " to ", NUMBER(range.next), ", released below ", NUMBER(link.released), "; ",
          NUMBER(chip_counts.erased), " blocks erased, ", NUMBER(chip_counts.programmed), " units programmed, ",
          NUMBER(chip_counts.rules_broken), " rules broken; ", NUMBER(link.damaged), " messages damaged");
}

/* The chip holds another device's past, or an old copy of this one's: its log is erased, and another begins. */
static void begin_anew_if_diverged(void)
{
    sedge_link_report link;
    expect(sedge_link_state(&uplink, &link), "state");
    if (link.standing != SEDGE_LINK_DIVERGED)
        return;
    PRINT("the gateway knows another past of this log: a new one begins");
    expect(sedge_log_erase(&keeper), "erase");
    start();
}

int main(void)
{
    uint64_t sample_at, report_at, talk_at = 0;

    board_start();
    chip_start();
    start();
    sample_at = report_at = board_uptime_us();
    for (;;) {
        uint64_t uptime = board_uptime_us();
        bool said = false;

        if (hear())
            talk_at = 0;
        if (uptime >= talk_at) {
            /* One message a turn, so that a slow line keeps no measurement waiting. */
            said = say();
            begin_anew_if_diverged();
            if (!said)
                expect(sedge_link_deadline(&uplink, &talk_at), "deadline");
        }
        if (uptime >= sample_at) {
            sample_at += SAMPLE_EVERY_US;
            measure();
            talk_at = 0;
        } else if (sedge_log_needs_maintain(&keeper) == 1) {
            maintain();
        } else if (!said) {
            if (uptime >= report_at) {
                report_at = uptime + REPORT_EVERY_US;
                report();
            }
            board_rest();
        }
    }
}
