/*
 * sedge for firmware in C: a log on NOR flash, and the link that hands its records over to a gateway.
 *
 * Made from the crate sedge-core-c by `cargo xtask header`; do not edit. How to use it: docs/firmware.md, section "From C".
 *
 * What holds for every function
 * - It returns SEDGE_OK (0) or, where it says so, a number above; what went wrong is a negative `sedge_error`.
 * - All memory is the caller's. Nothing is allocated, there are no globals; two logs in one program know nothing of each other.
 * - States (`sedge_log`, `sedge_cursor`, `sedge_link`) and their buffers are used by one thread at a time, and by no interrupt handler beside it. Buffers overlap
 *   with nothing, and live and stay in their place as long as a state uses them. Callbacks do not call functions of the same log.
 * - A pointer is NULL only where it says that it may be, or for an answer that nobody wants; else the function returns SEDGE_ERR_NULL. It points to what its type says, aligned as its type
 *   wants. Where a length stands beside it, so many bytes are there.
 * - A state that was zeroed and not opened, or whose opening failed, is found out: SEDGE_ERR_NOT_OPEN.
 * - Times of day are microseconds since 1970-01-01 UTC, or SEDGE_TIME_UNKNOWN. Uptimes are microseconds since the start and never go back.
 */

#ifndef SEDGE_CORE_H
#define SEDGE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Bytes of `sedge_config.scratch`. */
#define SEDGE_SCRATCH_BYTES(frame_bytes_max) ((frame_bytes_max) + 512)
/** Bytes of `sedge_link_config.body`, at least. */
#define SEDGE_BODY_BYTES(frame_bytes_max) ((frame_bytes_max) + 23)
/** Bytes of the line that `sedge_link_tx` writes to, for a body of `body_len` bytes. */
#define SEDGE_LINE_BYTES(body_len) ((body_len) + 8 + ((body_len) + 5) / 254)

/** Bytes of a `sedge_log`, aligned like a `uint64_t`. */
#define SEDGE_LOG_SIZE (8 * SEDGE_LOG_WORDS)
/** Bytes of a `sedge_cursor`, aligned like a `uint64_t`. */
#define SEDGE_CURSOR_SIZE (8 * SEDGE_CURSOR_WORDS)
/** Bytes of a `sedge_link`, aligned like a `uint64_t`. */
#define SEDGE_LINK_SIZE (8 * SEDGE_LINK_WORDS)


/**
 * Words of a `sedge_log`.
 */
#define SEDGE_LOG_WORDS 64

/**
 * The most headers of a record that is appended.
 */
#define SEDGE_HEADERS_MAX 4

/**
 * The most consumers whose cursors a log keeps.
 */
#define SEDGE_CONSUMERS_MAX 4

/**
 * A point in time that nobody knows.
 */
#define SEDGE_TIME_UNKNOWN INT64_MIN

/**
 * Words of a `sedge_cursor`.
 */
#define SEDGE_CURSOR_WORDS 40

/**
 * Words of a `sedge_link`.
 */
#define SEDGE_LINK_WORDS 128

/**
 * Bytes of the buffer for what is heard: the longest message of a gateway.
 */
#define SEDGE_HEARD_BYTES 384

/**
 * Bytes of the longest identity.
 */
#define SEDGE_IDENTITY_BYTES_MAX 64

/**
 * What functions return: 0, or the negative number of the reason.
 */
typedef enum sedge_error {
  /**
   * It is done.
   */
  SEDGE_OK = 0,
  /**
   * A pointer that must point to something is NULL.
   */
  SEDGE_ERR_NULL = -1,
  /**
   * An argument is not in its range, a name is not UTF-8, or a state is not aligned like a `uint64_t`.
   */
  SEDGE_ERR_ARGUMENT = -2,
  /**
   * This state was never opened, or its opening failed.
   */
  SEDGE_ERR_NOT_OPEN = -3,
  /**
   * The dimensions break a rule that `sedge_config` names.
   */
  SEDGE_ERR_GEOMETRY = -4,
  /**
   * A buffer is smaller than its macro says.
   */
  SEDGE_ERR_BUFFER = -5,
  /**
   * The flash failed, by the word of a callback. Nothing that was durable is lost; call again.
   */
  SEDGE_ERR_MEDIA = -6,
  /**
   * The flash holds a log of a newer version or of other dimensions, which is not touched.
   */
  SEDGE_ERR_FOREIGN = -7,
  /**
   * The record does not fit into the largest frame, not even alone.
   */
  SEDGE_ERR_TOO_LARGE = -8,
  /**
   * The batch has no room for this record: flush, then append it again.
   */
  SEDGE_ERR_BATCH_FULL = -9,
  /**
   * The log is written up to the end of its segment, and no other is ready: call `sedge_log_maintain`, then again.
   */
  SEDGE_ERR_NEEDS_MAINTAIN = -10,
  /**
   * Everything is held back until the consumers have taken over the oldest segment (`SEDGE_REFUSE` only).
   */
  SEDGE_ERR_FULL = -11,
  /**
   * No segment can be made ready: each is of a newer version or cannot be erased.
   */
  SEDGE_ERR_NO_SEGMENT = -12,
  /**
   * The log keeps cursors for at most `SEDGE_CONSUMERS_MAX` consumers.
   */
  SEDGE_ERR_CONSUMERS = -13,
  /**
   * There are no more offsets.
   */
  SEDGE_ERR_EXHAUSTED = -14,
  /**
   * The log has ended for good.
   */
  SEDGE_ERR_ENDED = -15,
  /**
   * Cursor or link belong to another log than the one given.
   */
  SEDGE_ERR_OTHER_LOG = -16,
  /**
   * There is no such thing: no header of this number, no cursor of this consumer.
   */
  SEDGE_ERR_NONE = -17,
  /**
   * A fault of the library.
   */
  SEDGE_ERR_INTERNAL = -18,
} sedge_error;

/**
 * What happens when all segments are full.
 */
typedef enum sedge_when_full {
  /**
   * The oldest records make room for new ones; what was lost is counted, and told to whoever had not got it.
   */
  SEDGE_EVICT_OLDEST = 0,
  /**
   * Nothing is taken until every consumer has released the oldest segment.
   */
  SEDGE_REFUSE = 1,
} sedge_when_full;

/**
 * Where writing goes on after a start.
 */
typedef enum sedge_tail {
  /**
   * Right behind the last valid frame: for flash that reads the same each time, or reports an error (ECC).
   */
  SEDGE_TAIL_BEHIND = 0,
  /**
   * With some room between, for flash on which a program that was cut may read well now and badly later. The first flush of each start then
   * costs up to two times `frame_bytes_max`, and `batch_records_max` offsets.
   */
  SEDGE_TAIL_FRESH = 1,
} sedge_tail;

/**
 * What a `sedge_item` is.
 */
typedef enum sedge_item_kind {
  /**
   * A record.
   */
  SEDGE_ITEM_RECORD = 1,
  /**
   * Offsets that have no records to show: sum `lost`, which is how many records were lost in it.
   */
  SEDGE_ITEM_GAP = 2,
  /**
   * An entry that tells of records lost before they came to this log; takes one offset.
   */
  SEDGE_ITEM_NOTICE = 3,
} sedge_item_kind;

/**
 * Why records were lost.
 */
typedef enum sedge_cause {
  /**
   * Nothing was lost.
   */
  SEDGE_CAUSE_NONE = 0,
  /**
   * They made room for newer ones.
   */
  SEDGE_CAUSE_EVICTED = 1,
  /**
   * They were too old.
   */
  SEDGE_CAUSE_EXPIRED = 2,
  /**
   * Their bytes no longer pass their check.
   */
  SEDGE_CAUSE_CORRUPT = 3,
  /**
   * The offsets were never used, after a write that was interrupted: nothing was lost.
   */
  SEDGE_CAUSE_BURNED = 4,
  /**
   * A seam between two logs.
   */
  SEDGE_CAUSE_NEW_LOG = 5,
  /**
   * They were lost before they came to this log.
   */
  SEDGE_CAUSE_DEVICE = 6,
} sedge_cause;

/**
 * How a link stands.
 */
typedef enum sedge_link_standing {
  /**
   * It waits for the gateway's answer to its greeting.
   */
  SEDGE_LINK_GREETING = 0,
  /**
   * The gateway takes records.
   */
  SEDGE_LINK_LIVE = 1,
  /**
   * The gateway has another past of this log (an old copy of the flash was put in, or it was moved): nothing more is sent. Erase the log, open a new one and
   * the link with it; what the gateway had not taken is lost with it.
   */
  SEDGE_LINK_DIVERGED = 2,
  /**
   * The gateway does not take this log now, for the reason in `refusal`; the next session asks again.
   */
  SEDGE_LINK_REFUSED = 3,
} sedge_link_standing;

/**
 * A log: memory of the caller, zeroed before its first use and then opened by `sedge_log_open`. One log is used by one thread at a time, and not by an interrupt
 * handler beside it. A copy of it is not a second log.
 */
typedef struct sedge_log {
  /**
   * Not to be looked at.
   */
  uint64_t words[SEDGE_LOG_WORDS];
} sedge_log;

/**
 * Reads `len` bytes from `address` on, counted from the beginning of the log's region, to `into`. Any address and any length. Returns 0, or
 * anything else if they cannot be read: the log takes them as damaged and goes on.
 */
typedef int (*sedge_read)(void *context, uint32_t address, uint8_t *into, uint32_t len);

/**
 * Programs `len` bytes at `address`; both are multiples of the write unit, and each unit is programmed at most once between two erases. Returns 0 when they
 * survive a power cut, or anything else if that is not certain.
 */
typedef int (*sedge_program)(void *context, uint32_t address, const uint8_t *bytes, uint32_t len);

/**
 * Erases the segment of `len` bytes at `address`: all its bytes become 0xFF. Returns 0, or anything else if it is not certain that all were.
 */
typedef int (*sedge_erase)(void *context, uint32_t address, uint32_t len);

/**
 * What makes a log: its flash, its dimensions, its memory. `sedge_log_open` copies it; buffers, `context` and callbacks must live as long as the log is used.
 */
typedef struct sedge_config {
  /**
   * Given to each callback; may be NULL.
   */
  void *context;
  /**
   * Reads the flash.
   */
  sedge_read read;
  /**
   * Programs the flash.
   */
  sedge_program program;
  /**
   * Erases a segment of the flash.
   */
  sedge_erase erase;
  /**
   * Bytes that the flash programs at once: 1, 2, 4, 8, 16 or 32.
   */
  uint32_t write_unit;
  /**
   * Bytes of a segment: whole erase blocks, and at least 4 * (`frame_bytes_max` + 512).
   */
  uint32_t segment_bytes;
  /**
   * Segments of the log, at least 3; all together less than 4 GiB.
   */
  uint32_t segment_count;
  /**
   * Bytes of the largest frame, which is a batch with all that stands around it: 256 to 65,543. A record with key and headers fits if it is about 24 bytes smaller.
   */
  uint32_t frame_bytes_max;
  /**
   * The most records of a batch, 1 to 255. A write that a power cut interrupts leaves so many offsets unused.
   */
  uint32_t batch_records_max;
  /**
   * What happens when all segments are full: a `sedge_when_full`.
   */
  uint32_t when_full;
  /**
   * Where writing goes on after a start: a `sedge_tail`.
   */
  uint32_t tail;
  /**
   * Which start of the device this is, if it counts them; for whoever looks at the flash.
   */
  uint64_t boot;
  /**
   * The name of the log if one must be created: 16 random bytes, drawn anew for each call, that never come twice on any device. Not all 0.
   */
  uint8_t log_id[16];
  /**
   * `SEDGE_SCRATCH_BYTES(frame_bytes_max)` bytes that the log works in.
   */
  uint8_t *scratch;
  /**
   * How many they are.
   */
  size_t scratch_len;
  /**
   * `frame_bytes_max` bytes, in which records wait for the flush.
   */
  uint8_t *batch;
  /**
   * How many they are.
   */
  size_t batch_len;
} sedge_config;

/**
 * What `sedge_log_open` found.
 */
typedef struct sedge_report {
  /**
   * There was no log, and one was created.
   */
  bool formatted;
  /**
   * The life before did not end in the middle of a write.
   */
  bool clean;
  /**
   * The newest segment's beginning was damaged: what it held became a gap.
   */
  bool head_lost;
  /**
   * Segments whose beginning is damaged.
   */
  uint32_t unreadable_segments;
  /**
   * Offsets that stay unused, because a write that was interrupted may have taken them.
   */
  uint64_t burned;
} sedge_report;

/**
 * Bytes that stand somewhere else.
 */
typedef struct sedge_bytes {
  /**
   * The first; may be NULL if there are none.
   */
  const uint8_t *start;
  /**
   * How many.
   */
  size_t len;
} sedge_bytes;

/**
 * A name with a value, beside the value of a record.
 */
typedef struct sedge_header {
  /**
   * The name, in UTF-8.
   */
  struct sedge_bytes name;
  /**
   * The value, any bytes.
   */
  struct sedge_bytes value;
} sedge_header;

/**
 * A record to be appended. Its bytes are copied.
 */
typedef struct sedge_record {
  /**
   * When it happened, in microseconds since 1970 UTC, kept to the millisecond; or `SEDGE_TIME_UNKNOWN`. A log that began without a clock takes no times
   * before its next segment.
   */
  int64_t time_us;
  /**
   * What it is about, any bytes; with a `start` of NULL there is no key.
   */
  struct sedge_bytes key;
  /**
   * The measurement itself, any bytes.
   */
  struct sedge_bytes value;
  /**
   * Names and values beside it; NULL if there are none.
   */
  const struct sedge_header *headers;
  /**
   * How many headers, at most `SEDGE_HEADERS_MAX`.
   */
  size_t header_count;
} sedge_record;

/**
 * How far a log goes.
 */
typedef struct sedge_range {
  /**
   * The first offset that is held.
   */
  uint64_t oldest;
  /**
   * One past the last offset that is on flash: what readers and the link see.
   */
  uint64_t durable;
  /**
   * The offset of the next record that is appended, if the flush goes well.
   */
  uint64_t next;
  /**
   * Records that wait for the flush.
   */
  uint32_t waiting;
} sedge_range;

/**
 * Where the offsets have gone that a log no longer holds, over its whole life.
 */
typedef struct sedge_ledger {
  /**
   * Records that every consumer had released.
   */
  uint64_t handed_over;
  /**
   * Records that made room for newer ones and that somebody had not got.
   */
  uint64_t evicted;
  /**
   * Offsets whose bytes no longer pass their check.
   */
  uint64_t corrupt;
  /**
   * Offsets that never were records.
   */
  uint64_t skipped;
  /**
   * Records that were not taken; `sedge_log_refused` counts them.
   */
  uint64_t refused;
} sedge_ledger;

/**
 * A place in a log: memory of the caller, zeroed before its first use and then opened by `sedge_cursor_open`.
 */
typedef struct sedge_cursor {
  /**
   * Not to be looked at.
   */
  uint64_t words[SEDGE_CURSOR_WORDS];
} sedge_cursor;

/**
 * What stands in a log at a place. All that it points to is the log's memory, and is good until the log is used again.
 */
typedef struct sedge_item {
  /**
   * A `sedge_item_kind`.
   */
  uint32_t kind;
  /**
   * A `sedge_cause`.
   */
  uint32_t cause;
  /**
   * Its offset; of a gap, the first.
   */
  uint64_t offset;
  /**
   * The offset behind it.
   */
  uint64_t next;
  /**
   * Gaps and notices: how many records were lost, at most.
   */
  uint64_t lost;
  /**
   * When it happened, in microseconds since 1970 UTC, or `SEDGE_TIME_UNKNOWN`.
   */
  int64_t time_us;
  /**
   * Its key; `start` is NULL if there is none.
   */
  struct sedge_bytes key;
  /**
   * Records: the value.
   */
  struct sedge_bytes value;
  /**
   * Records: how many headers `sedge_item_header` can tell.
   */
  size_t header_count;
  /**
   * The bytes of the whole entry, as they stand in the log.
   */
  struct sedge_bytes entry;
} sedge_item;

/**
 * A link: memory of the caller, zeroed before its first use and then opened by `sedge_link_open`. Belongs to one log.
 */
typedef struct sedge_link {
  /**
   * Not to be looked at.
   */
  uint64_t words[SEDGE_LINK_WORDS];
} sedge_link;

/**
 * What makes a link. `sedge_link_open` copies it, and the identity too; the buffers must live as long as the link is used.
 */
typedef struct sedge_link_config {
  /**
   * The device's name at the gateway, in UTF-8: 1 to `SEDGE_IDENTITY_BYTES_MAX` bytes.
   */
  struct sedge_bytes identity;
  /**
   * A number that grows with each `sedge_link_open` of this device, over all its starts, and never comes twice: a counter on flash. Not 0.
   */
  uint32_t boot;
  /**
   * The gateway's number as a consumer of the log.
   */
  uint32_t consumer;
  /**
   * Silence, in microseconds, that makes the link greet again; 0 is 30 seconds.
   */
  uint64_t idle_timeout_us;
  /**
   * `SEDGE_BODY_BYTES(frame_bytes_max)` bytes or more, for a message on its way out. More than that lets several frames go in one message.
   */
  uint8_t *body;
  /**
   * How many they are.
   */
  size_t body_len;
  /**
   * `SEDGE_HEARD_BYTES` bytes or more, for a message on its way in.
   */
  uint8_t *heard;
  /**
   * How many they are.
   */
  size_t heard_len;
} sedge_link_config;

/**
 * What time it is.
 */
typedef struct sedge_now {
  /**
   * Microseconds since the device started; never goes back. The link's timers run on it.
   */
  uint64_t uptime_us;
  /**
   * Microseconds since 1970 UTC, told to the gateway and used for nothing else; or `SEDGE_TIME_UNKNOWN`.
   */
  int64_t unix_us;
} sedge_now;

/**
 * How a link stands, with numbers.
 */
typedef struct sedge_link_report {
  /**
   * A `sedge_link_standing`.
   */
  uint32_t standing;
  /**
   * The gateway's reason for `SEDGE_LINK_REFUSED` (docs/spec/custody.md), else 0.
   */
  uint32_t refusal;
  /**
   * Everything below this offset is in the gateway's custody.
   */
  uint64_t released;
  /**
   * Messages of the line that were damaged.
   */
  uint64_t damaged;
} sedge_link_report;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * A sentence about a number that a function returned, in English, without a full stop. Never NULL.
 */
const char *sedge_error_text(int error);

/**
 * Opens the log that stands on the flash of `config`, or creates one where there is none. `unix_us` is the time of day in microseconds since 1970 UTC, or
 * `SEDGE_TIME_UNKNOWN`. `report` may be NULL. Takes as long as reading one segment.
 *
 * After a failure `log` is not open. An open log may be opened again; what was not flushed is gone.
 */
int sedge_log_open(struct sedge_log *log,
                   const struct sedge_config *config,
                   int64_t unix_us,
                   struct sedge_report *report);

/**
 * Puts a record into the batch in memory. It is NOT durable before `sedge_log_flush` has returned 0: a reset in between loses it.
 *
 * `offset`, which may be NULL, is told the offset that it will have if the next flush goes well. `SEDGE_ERR_BATCH_FULL`: flush, then append it again.
 */
int sedge_log_append(struct sedge_log *log,
                     const struct sedge_record *record,
                     uint64_t *offset);

/**
 * Writes the batch to the flash, as one frame by one program operation. When this returns 0, all of its records survive a power cut; with an empty batch
 * there is nothing to do. `unix_us` is the time of day, or `SEDGE_TIME_UNKNOWN`.
 *
 * `next`, which may be NULL, is told one past the last durable offset: a batch of `n` records has the `n` offsets below it.
 *
 * `SEDGE_ERR_NEEDS_MAINTAIN` and `SEDGE_ERR_MEDIA` leave the batch as it was: flush again. After `SEDGE_ERR_MEDIA` its records may get higher offsets.
 */
int sedge_log_flush(struct sedge_log *log,
                    int64_t unix_us,
                    uint64_t *next);

/**
 * Empties the batch without writing it.
 */
int sedge_log_discard(struct sedge_log *log);

/**
 * 1 if `sedge_log_maintain` has something to do, 0 if not.
 */
int sedge_log_needs_maintain(struct sedge_log *log);

/**
 * Makes the segment ready that is written when the present one is full: reads the oldest, erases it. Nothing else erases, so call this in idle time whenever
 * `sedge_log_needs_maintain` says so; it takes as long as your flash needs for a segment. `SEDGE_ERR_FULL`: the consumers must release first.
 */
int sedge_log_maintain(struct sedge_log *log,
                       int64_t unix_us);

/**
 * Tells how far the log goes.
 */
int sedge_log_range(struct sedge_log *log, struct sedge_range *range);

/**
 * Tells the 16 bytes that name the log.
 */
int sedge_log_id(struct sedge_log *log, uint8_t *id);

/**
 * Tells where the offsets have gone that the log no longer holds.
 */
int sedge_log_ledger(struct sedge_log *log, struct sedge_ledger *ledger);

/**
 * `consumer`, a number of your choice, has all records below `next`: their space may be used again first. Lower than before is allowed. Durable with the next
 * `sedge_log_maintain` or `sedge_log_save`, or with a segment that a flush begins; losing it costs no more than reading again. The link does this by itself.
 */
int sedge_log_release(struct sedge_log *log,
                      uint32_t consumer,
                      uint64_t next);

/**
 * Tells up to where `consumer` has released; `SEDGE_ERR_NONE` if it never has.
 */
int sedge_log_released(struct sedge_log *log, uint32_t consumer, uint64_t *next);

/**
 * `consumer` is no more: nothing is held back for it.
 */
int sedge_log_drop_consumer(struct sedge_log *log, uint32_t consumer);

/**
 * Counts `records` that the program did not append because the log was full.
 */
int sedge_log_refused(struct sedge_log *log, uint64_t records);

/**
 * Makes durable what the consumers have released and what was counted, before power is switched off; the batch is not written.
 */
int sedge_log_save(struct sedge_log *log,
                   int64_t unix_us);

/**
 * Erases every segment: the log is gone, and `log` is not open. For a gateway that knows another past of it (`SEDGE_LINK_DIVERGED`); open it again with a
 * new `log_id`.
 */
int sedge_log_erase(struct sedge_log *log);

/**
 * Opens a cursor that begins at the offset `from` of `log`. The log holds nothing back for it.
 */
int sedge_cursor_open(struct sedge_cursor *cursor, struct sedge_log *log, uint64_t from);

/**
 * Tells the next item and goes behind it. Returns 1 if there was one, and 0 if the cursor has come to the end of what is durable; more may follow later.
 */
int sedge_cursor_next(struct sedge_cursor *cursor,
                      struct sedge_log *log,
                      struct sedge_item *item);

/**
 * Tells the header with the number `index`, from 0, of a record that `sedge_cursor_next` has told; while its bytes are good.
 */
int sedge_item_header(const struct sedge_item *item,
                      size_t index,
                      struct sedge_header *header);

/**
 * Opens the link of `log` to a gateway. Its first message is a greeting, which `sedge_link_tx` has at once. An open link may be opened again.
 */
int sedge_link_open(struct sedge_link *link,
                    struct sedge_log *log,
                    const struct sedge_link_config *config,
                    const struct sedge_now *now);

/**
 * Takes `len` bytes that came over the line, in pieces of any length. Then ask `sedge_link_tx`.
 */
int sedge_link_rx(struct sedge_link *link,
                  struct sedge_log *log,
                  const struct sedge_now *now,
                  const uint8_t *received,
                  size_t len);

/**
 * Writes the next message for the line to `line`, and returns how many bytes it has; 0 if there is nothing to say now. The bytes must go out whole and in order. Call
 * it again until it returns 0: after `sedge_link_rx`, after `sedge_log_flush`, and when `sedge_link_deadline` has come.
 *
 * `SEDGE_LINE_BYTES(body_len)` bytes are room enough for every message; less is `SEDGE_ERR_BUFFER`.
 */
int sedge_link_tx(struct sedge_link *link,
                  struct sedge_log *log,
                  const struct sedge_now *now,
                  uint8_t *line,
                  size_t capacity);

/**
 * Tells when `sedge_link_tx` will have something to do though nothing happens before: an uptime in microseconds. Ask when it has returned 0.
 */
int sedge_link_deadline(struct sedge_link *link,
                        uint64_t *uptime_us);

/**
 * Tells how the link stands.
 */
int sedge_link_state(struct sedge_link *link, struct sedge_link_report *report);

/**
 * Tells the time of day at `uptime_us` by the gateway's clock, in microseconds since 1970 UTC; `SEDGE_ERR_NONE` if it has not told it yet, or does not trust it itself.
 */
int sedge_link_time(struct sedge_link *link,
                    uint64_t uptime_us,
                    int64_t *unix_us);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SEDGE_CORE_H */
